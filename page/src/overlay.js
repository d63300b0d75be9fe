// What is drawn above the points: the lasso, rectangle or path under the pointer, marks, density.
// The points themselves are not drawn again while it moves.

import { channels, gradient, isDark, scaleColours } from './colours.js';
import { at, make, prepared } from './dom.js';

const NEAREST_PIXELS = 3;
const MOST_CORNERS = 2000;

/** How far from the centre of a cluster its number is: a cluster may be smaller than the number. */
const LABEL_PIXELS = 14;

/** Of the mark of the volume that a film shows. */
const FILM_COLOUR = '#ff2d95';

export class Overlay {
  constructor(canvas, densityCanvas, plot) {
    this.canvas = canvas;
    this.densityCanvas = densityCanvas;
    this.plot = plot;
    this.mode = 'move';
    this.marks = [];
    this.centres = [];
    this.path = [];
    this.paths = [];
    this.outline = null;
    this.trail = null;
    this.film = () => null; // where the film of volumes is, in CSS pixels
    this.cursor = null; // that of the keyboard
    this.isByKey = false;
    this.onDrawn = () => {};
    canvas.addEventListener('pointerdown', (event) => this.begin(event));
    canvas.addEventListener('pointermove', (event) => this.extend(event));
    canvas.addEventListener('pointerup', () => this.end());
    canvas.addEventListener('pointercancel', () => this.cancel());
    plot.listen('view', () => this.draw());
  }

  /** 'move' leaves the pointer to the plot; 'lasso', 'rectangle' and 'path' draw. */
  setMode(mode) {
    this.mode = mode;
    this.canvas.style.pointerEvents = mode === 'move' ? 'none' : 'auto';
    this.cancel();
  }

  begin(event) {
    this.canvas.setPointerCapture(event.pointerId);
    this.isByKey = false;
    this.trail = [[event.offsetX, event.offsetY]];
  }

  extend(event) {
    if (this.trail === null || this.isByKey) return;
    const [left, top] = this.trail.at(-1);
    const moved = Math.hypot(event.offsetX - left, event.offsetY - top);
    if (this.mode === 'rectangle') this.trail[1] = [event.offsetX, event.offsetY];
    else if (moved >= NEAREST_PIXELS && this.trail.length < MOST_CORNERS) {
      this.trail.push([event.offsetX, event.offsetY]);
    }
    this.draw();
  }

  /** Shows the cursor of the keyboard at a place; null shows none. */
  setCursor(place) {
    this.cursor = place;
    this.draw();
  }

  /** Sets a corner by keyboard; the same one once more, or the second of a rectangle, is the end. */
  setCorner(place) {
    this.isByKey = true;
    this.cursor = place;
    const last = this.trail?.at(-1);
    const isSame = last !== undefined && last[0] === place[0] && last[1] === place[1];
    if (isSame && this.trail.length < 2) return;
    if (!isSame) this.trail = [...(this.trail ?? []), place];
    if (isSame || (this.mode === 'rectangle' && this.trail.length === 2)) this.end();
    else this.draw();
  }

  end() {
    const trail = this.trail;
    this.trail = null;
    const corners = trail === null ? [] : this.mode === 'rectangle' ? rectangle(trail) : trail;
    if (corners.length >= (this.mode === 'path' ? 2 : 3)) this.onDrawn(this.mode, corners);
    this.draw();
  }

  cancel() {
    this.trail = null;
    this.draw();
  }

  draw() {
    const { context } = prepared(this.canvas);
    this.drawDensity();
    const ink = isDark() ? '#ffffff' : '#000000';
    if (this.outline !== null) {
      const corners = this.outline.map(([x, y]) => this.plot.toScreen(x, y));
      line(context, corners, { colour: ink, dashes: [5, 4], isClosed: true });
    }
    for (const { point, text } of this.centres) {
      const [left, top] = this.plot.screenOf(point);
      const isBelow = top < 2 * LABEL_PIXELS; // above it would be cut off
      label(context, [left, top + (isBelow ? LABEL_PIXELS : -LABEL_PIXELS)], text, ink);
    }
    for (const { places, colour } of this.paths) {
      const corners = places().map(([x, y]) => this.plot.toScreen(x, y));
      line(context, corners, { colour: ink, width: 4 });
      line(context, corners, { colour, width: 2 });
      for (const corner of corners) dot(context, corner, 3, colour, ink, 1);
    }
    if (this.path.length > 1) {
      line(context, this.path.map((point) => this.plot.screenOf(point)), { colour: ink });
    }
    for (const { point, colour } of this.marks) {
      dot(context, this.plot.screenOf(point), 7, colour, ink, 2);
    }
    const film = this.film();
    if (film !== null) {
      ring(context, film, isDark() ? '#15181c' : '#ffffff', 6);
      ring(context, film, FILM_COLOUR, 3);
    }
    if (this.trail !== null) {
      const isPath = this.mode === 'path';
      const trail = this.isByKey && this.cursor ? [...this.trail, this.cursor] : this.trail;
      const corners = this.mode === 'rectangle' ? rectangle(trail) : trail;
      line(context, corners, { colour: ink, isClosed: !isPath, isFilled: !isPath });
    }
    if (this.cursor !== null) cross(context, this.cursor, ink);
  }

  /** Shows how many particles lie where; null shows nothing. */
  setDensity(density) {
    this.density = density && { ...density, image: densityImage(density.counts) };
    at('density-scale').hidden = !density;
    if (density) {
      const [bar, ends] = at('density-scale').children;
      bar.style.background = gradient();
      const most = largest(density.counts).toLocaleString('en');
      ends.replaceChildren(make('span', {}, '1'), make('span', {}, `${most} particles (log)`));
    }
    this.draw();
  }

  drawDensity() {
    const { context } = prepared(this.densityCanvas);
    if (!this.density) return;
    const [left, bottom] = this.plot.toScreen(this.density.x[0], this.density.y[0]);
    const [right, top] = this.plot.toScreen(this.density.x[1], this.density.y[1]);
    context.imageSmoothingEnabled = false;
    context.drawImage(this.density.image, left, top, right - left, bottom - top);
  }
}

function rectangle(trail) {
  if (trail.length < 2) return [];
  const [[left, top], [right, bottom]] = trail;
  return [[left, top], [right, top], [right, bottom], [left, bottom]];
}

function dot(context, [left, top], radius, colour, ink, width) {
  context.beginPath();
  context.arc(left, top, radius, 0, 2 * Math.PI);
  context.fillStyle = colour;
  context.strokeStyle = ink;
  context.lineWidth = width;
  context.fill();
  context.stroke();
}

function ring(context, [left, top], colour, width) {
  context.beginPath();
  context.arc(left, top, 11, 0, 2 * Math.PI);
  context.strokeStyle = colour;
  context.lineWidth = width;
  context.stroke();
}

function cross(context, [left, top], ink) {
  for (const [colour, width] of [[isDark() ? '#15181c' : '#ffffff', 4], [ink, 1.5]]) {
    line(context, [[left - 12, top], [left + 12, top]], { colour, width });
    line(context, [[left, top - 12], [left, top + 12]], { colour, width });
  }
}

function line(context, corners, options) {
  const { colour, dashes = [], isClosed = false, isFilled = false, width = 1.5 } = options;
  if (corners.length < 2) return;
  context.beginPath();
  corners.forEach(([left, top], number) =>
    number ? context.lineTo(left, top) : context.moveTo(left, top),
  );
  if (isClosed) context.closePath();
  context.setLineDash(dashes);
  context.strokeStyle = colour;
  context.lineWidth = width;
  if (isFilled) {
    context.fillStyle = `${colour}22`;
    context.fill();
  }
  context.stroke();
  context.setLineDash([]);
}

function label(context, [left, top], text, ink) {
  context.font = '700 14px system-ui, sans-serif';
  context.textAlign = 'center';
  context.textBaseline = 'middle';
  context.lineWidth = 4;
  context.lineJoin = 'round';
  context.strokeStyle = isDark() ? '#15181c' : '#ffffff';
  context.strokeText(text, left, top);
  context.fillStyle = ink;
  context.fillText(text, left, top);
}

const largest = (counts) => counts.reduce((a, b) => Math.max(a, b), 1);

function densityImage(counts) {
  const [height, width] = counts.shape;
  const image = new ImageData(width, height);
  const colours = scaleColours().map(channels);
  const most = Math.log(Math.max(2, largest(counts)));
  for (let row = 0; row < height; row++) {
    for (let column = 0; column < width; column++) {
      const count = counts[row * width + column];
      if (count === 0) continue;
      const share = Math.log(count) / most;
      const place = 4 * ((height - 1 - row) * width + column);
      image.data.set([...colours[Math.round(share * (colours.length - 1))], 255], place);
    }
  }
  const canvas = document.createElement('canvas');
  [canvas.width, canvas.height] = [width, height];
  canvas.getContext('2d').putImageData(image, 0, 0);
  return canvas;
}

/** Places at equal distances along a line of corners on the screen. */
export function along(corners, count) {
  const lengths = [0];
  for (let n = 1; n < corners.length; n++) {
    const [[x0, y0], [x1, y1]] = [corners[n - 1], corners[n]];
    lengths.push(lengths[n - 1] + Math.hypot(x1 - x0, y1 - y0));
  }
  return Array.from({ length: count }, (_, step) => {
    const wanted = (step / Math.max(1, count - 1)) * lengths.at(-1);
    const n = Math.max(1, lengths.findIndex((length) => length >= wanted));
    const share = (wanted - lengths[n - 1]) / (lengths[n] - lengths[n - 1] || 1);
    return [0, 1].map((axis) => corners[n - 1][axis] + share * (corners[n][axis] - corners[n - 1][axis]));
  });
}
