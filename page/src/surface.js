// Surfaces of volumes in three dimensions; loaded when the first volume is shown.

import '@kitware/vtk.js/Rendering/OpenGL/Profiles/Geometry.js';
import vtkCellArray from '@kitware/vtk.js/Common/Core/CellArray.js';
import vtkDataArray from '@kitware/vtk.js/Common/Core/DataArray.js';
import vtkPoints from '@kitware/vtk.js/Common/Core/Points.js';
import vtkPolyData from '@kitware/vtk.js/Common/DataModel/PolyData.js';
import vtkInteractorStyle from '@kitware/vtk.js/Interaction/Style/InteractorStyleTrackballCamera.js';
import vtkActor from '@kitware/vtk.js/Rendering/Core/Actor.js';
import vtkMapper from '@kitware/vtk.js/Rendering/Core/Mapper.js';
import vtkRenderer from '@kitware/vtk.js/Rendering/Core/Renderer.js';
import vtkRenderWindow from '@kitware/vtk.js/Rendering/Core/RenderWindow.js';
import vtkInteractor from '@kitware/vtk.js/Rendering/Core/RenderWindowInteractor.js';
import vtkOpenGLRenderWindow from '@kitware/vtk.js/Rendering/OpenGL/RenderWindow.js';
import { background, channels } from './colours.js';

const VIEW_ANGLE = 30;

/** Degrees about the vertical and the horizontal axis, by keys. */
const TURNS = { ArrowLeft: [10, 0], ArrowRight: [-10, 0], ArrowUp: [0, -10], ArrowDown: [0, 10] };

/** Surfaces in an element: in one view together, or side by side with one camera. */
export class SurfaceView {
  constructor(container) {
    this.container = container;
    this.window = vtkRenderWindow.newInstance();
    this.canvas = vtkOpenGLRenderWindow.newInstance();
    this.canvas.setContainer(container);
    this.window.addView(this.canvas);
    this.interactor = vtkInteractor.newInstance();
    this.interactor.setView(this.canvas);
    this.interactor.initialize();
    container.addEventListener('keypress', (event) => event.stopImmediatePropagation()); // vtk's
    container.addEventListener('keydown', (event) => this.press(event));
    this.interactor.bindEvents(container);
    this.interactor.setInteractorStyle(vtkInteractorStyle.newInstance());
    this.renderers = [];
    this.camera = null;
    this.pending = new Map();
    this.next = 0;
    this.begin();
    new ResizeObserver(() => this.resize()).observe(container);
  }

  /** Starts the worker that makes surfaces; after a failure the next surface has a new one. */
  begin() {
    this.worker = new Worker('/assets/cubes.js', { type: 'module' });
    this.worker.onmessage = ({ data }) => {
      this.pending.get(data.id)?.resolve(data);
      this.pending.delete(data.id);
    };
    this.worker.onerror = ({ message }) => {
      const error = new Error(`Surfaces could not be made${message ? `: ${message}` : ''}.`);
      for (const { reject } of this.pending.values()) reject(error);
      this.pending.clear();
      this.worker.terminate();
      this.worker = null;
    };
  }

  /** Shows the surfaces of volumes at a level; returns the number of triangles of each. */
  async show(volumes, level, isSideBySide) {
    const surfaces = await Promise.all(volumes.map((volume) => this.surface(volume, level)));
    this.place(volumes, surfaces, isSideBySide);
    return surfaces.map((surface) => surface.polys.length / 4);
  }

  /** The surface of a volume, which keeps that of the last level for the next frame of a film. */
  async surface(volume, level) {
    if (volume.surface?.level === level) return volume.surface;
    const id = this.next++;
    if (this.worker === null) this.begin();
    const found = await new Promise((resolve, reject) => {
      this.pending.set(id, { resolve, reject });
      this.worker.postMessage({ id, values: volume.values, box: volume.box, level });
    });
    volume.surface = { ...found, level };
    return volume.surface;
  }

  place(volumes, surfaces, isSideBySide) {
    for (const renderer of this.renderers) this.window.removeRenderer(renderer);
    const parts = isSideBySide ? tiles(volumes.length) : [[0, 0, 1, 1]];
    this.renderers = parts.map((part) => {
      const renderer = vtkRenderer.newInstance();
      renderer.setViewport(...part);
      renderer.setBackground(...unit(background()));
      if (this.camera !== null) renderer.setActiveCamera(this.camera);
      this.window.addRenderer(renderer);
      return renderer;
    });
    surfaces.forEach((surface, number) => {
      const renderer = this.renderers[isSideBySide ? number : 0];
      renderer.addActor(actorOf(surface, volumes[number]));
    });
    if (this.camera === null) {
      this.camera = this.renderers[0].getActiveCamera();
      for (const renderer of this.renderers) renderer.setActiveCamera(this.camera);
    }
    this.bounds = boundsOf(surfaces, volumes);
    const layout = parts.length;
    if (layout !== this.layout) this.fit();
    this.layout = layout;
    for (const renderer of this.renderers) renderer.resetCameraClippingRange();
    this.resize();
  }

  resize() {
    const { width, height } = this.container.getBoundingClientRect();
    if (width === 0 || height === 0) return;
    const ratio = window.devicePixelRatio || 1;
    this.canvas.setSize(Math.round(width * ratio), Math.round(height * ratio));
    this.window.render();
  }

  /** Moves the camera, in its direction, to where it sees all of every surface. */
  fit() {
    const { width, height } = this.container.getBoundingClientRect();
    const [left, bottom, right, top] = this.renderers[0].getViewport();
    const aspect = (width * (right - left)) / (height * (top - bottom) || 1);
    this.camera.setViewAngle(VIEW_ANGLE);
    this.renderers[0].resetCamera(this.bounds);
    this.camera.zoom(1.25 * Math.min(1, aspect));
  }

  resetCamera() {
    if (this.camera === null) return;
    this.camera.setViewUp(0, 1, 0);
    this.camera.setFocalPoint(0, 0, 0);
    this.camera.setPosition(0, 0, 1);
    this.fit();
    this.window.render();
  }

  /** Turns and zooms by keyboard. */
  press(event) {
    const [turn, zoom] = [TURNS[event.key], { '+': 1.2, '=': 1.2, '-': 1 / 1.2 }[event.key]];
    if (this.camera === null || event.ctrlKey || event.metaKey || event.altKey || !(turn ?? zoom)) return;
    event.preventDefault();
    if (turn) {
      this.camera.azimuth(turn[0]);
      this.camera.elevation(turn[1]);
      this.camera.orthogonalizeViewUp();
    } else this.camera.dolly(zoom);
    for (const renderer of this.renderers) renderer.resetCameraClippingRange();
    this.window.render();
  }

  /** The picture as a data URL of a PNG. */
  async picture() {
    const [captured] = this.window.captureImages('image/png');
    return captured;
  }
}

/** The smallest box that holds all surfaces; that of the volumes if there are none. */
function boundsOf(surfaces, volumes) {
  const found = [Infinity, -Infinity, Infinity, -Infinity, Infinity, -Infinity];
  surfaces.forEach(({ points }, number) => {
    points.forEach((value, place) => {
      const axis = 2 * (place % 3);
      const scaled = value / volumes[number].box;
      if (scaled < found[axis]) found[axis] = scaled;
      if (scaled > found[axis + 1]) found[axis + 1] = scaled;
    });
  });
  return Number.isFinite(found[0]) ? found : [-0.5, 0.5, -0.5, 0.5, -0.5, 0.5];
}

function actorOf({ points, normals, polys }, { box, colour }) {
  const data = vtkPolyData.newInstance();
  const scaled = points.map((value) => value / box); // a preview is as large as the full volume
  data.setPoints(vtkPoints.newInstance({ values: scaled, numberOfComponents: 3 }));
  data.setPolys(vtkCellArray.newInstance({ values: polys }));
  if (normals.length) {
    const array = { name: 'Normals', values: normals, numberOfComponents: 3 };
    data.getPointData().setNormals(vtkDataArray.newInstance(array));
  }
  const mapper = vtkMapper.newInstance({ scalarVisibility: false });
  mapper.setInputData(data);
  const actor = vtkActor.newInstance();
  actor.setMapper(mapper);
  actor.getProperty().setColor(...unit(colour));
  actor.getProperty().setSpecular(0.25);
  actor.getProperty().setSpecularPower(20);
  actor.getProperty().setAmbient(0.15);
  return actor;
}

const unit = (colour) => channels(colour).map((value) => value / 255);

function tiles(count) {
  const columns = Math.ceil(Math.sqrt(count));
  const rows = Math.ceil(count / columns);
  return Array.from({ length: count }, (_, number) => {
    const column = number % columns;
    const row = rows - 1 - Math.floor(number / columns);
    return [column / columns, row / rows, (column + 1) / columns, (row + 1) / rows];
  });
}
