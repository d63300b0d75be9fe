// Points of particles in a plane of two columns: their colours, and which are selected.

import { scaleLinear } from 'd3-scale';
import createScatterplot from 'regl-scatterplot';
import { background, classColours, noColour, scaleColours } from './colours.js';

const MANY_POINTS = 200_000;

/** How much more than the particles a plane shows: points at its ends are whole, with labels. */
const MARGIN = 1.08;

export class Plot {
  /** `canvas` lies in the element whose size it has. */
  constructor(canvas, count) {
    this.canvas = canvas;
    this.setCount(count);
    this.xScale = scaleLinear().domain([-1, 1]);
    this.yScale = scaleLinear().domain([-1, 1]);
    this.listeners = { view: [], hover: [], click: [] };
    const many = count > MANY_POINTS;
    this.scatterplot = createScatterplot({
      canvas,
      width: 'auto',
      height: 'auto',
      xScale: this.xScale,
      yScale: this.yScale,
      backgroundColor: background(),
      pointSize: this.size,
      opacityBy: 'valueB',
      lassoOnLongPress: false,
      lassoInitiator: false,
      deselectOnDblClick: false,
      renderPointsAsSquares: many, // blended, unlike in performanceMode, which has no faint points
      spatialIndexUseWorker: count > MANY_POINTS,
      pointOutlineWidth: 0,
    });
    this.drawing = null;
    this.isWhole = true; // as long as nobody has moved it, all points stay in view
    for (const event of ['wheel', 'pointerdown']) {
      canvas.addEventListener(event, () => (this.isWhole = false), { passive: true });
    }
    const tell = (name) => (value) => this.listeners[name].forEach((listen) => listen(value));
    this.scatterplot.subscribe('view', tell('view'));
    this.scatterplot.subscribe('pointOver', tell('hover'));
    this.scatterplot.subscribe('pointOut', () => tell('hover')(-1));
    this.scatterplot.subscribe('select', ({ points }) => {
      this.scatterplot.deselect({ preventEvent: true });
      if (points.length) tell('click')(points[0]);
    });
  }

  /** Sets how many points there are. */
  setCount(count) {
    this.count = count;
    this.size = count < 5_000 ? 5 : count < 50_000 ? 3 : 2;
    this.selected = null;
  }

  listen(name, action) {
    this.listeners[name].push(action);
  }

  /** Places points by two columns; equal units keep the shape of embeddings. */
  setPlane(x, y, areEqual) {
    this.x = x;
    this.y = y;
    const middle = (column) => (column.low + column.high) / 2;
    const half = (column) => Math.max((MARGIN * (column.high - column.low)) / 2, 1e-12);
    const widest = Math.max(half(x), half(y));
    this.centre = [middle(x), middle(y)];
    this.half = areEqual ? [widest, widest] : [half(x), half(y)];
    this.px = x.values.map((value) => (value - this.centre[0]) / this.half[0]);
    this.py = y.values.map((value) => (value - this.centre[1]) / this.half[1]);
    this.index = undefined;
  }

  /** Colours points by a column. */
  setColour(column) {
    this.colour = column;
    if (column.category) {
      const order = new Map(column.codes.map((code, position) => [code, position]));
      order.delete(column.no_value);
      const none = classColours().length - 1;
      this.shade = column.values.map((code) => (order.has(code) ? order.get(code) % none : none));
    } else {
      const span = Math.max(column.to - column.from, 1e-30);
      const none = scaleColours().length;
      this.shade = column.values.map((value) => {
        const share = (value - column.from) / span;
        return Number.isFinite(share) ? Math.round(Math.min(1, Math.max(0, share)) * (none - 1)) : none;
      });
    }
  }

  /** Marks the points of a selection; null selects nothing in particular. */
  setSelected(isSelected) {
    this.selected = isSelected;
  }

  /** Draws what is set; while it draws, further calls are one more drawing at its end. */
  async draw() {
    this.isStale = true;
    this.drawing ??= this.drawUntilCurrent().finally(() => (this.drawing = null));
    await this.drawing;
  }

  async drawUntilCurrent() {
    while (this.isStale) {
      this.isStale = false;
      await this.drawOnce();
    }
  }

  async drawOnce() {
    const bright = Math.min(0.9, Math.max(0.12, 60 / Math.sqrt(this.count)));
    const colours = this.colour.category ? classColours() : [...scaleColours(), noColour()];
    this.scatterplot.set({
      backgroundColor: background(),
      colorBy: 'valueA',
      pointColor: colours,
      opacity: [bright * 0.08, bright],
      pointSize: this.size,
    });
    const shown = this.selected ?? new Float32Array(this.count).fill(1);
    const places = this.px;
    await this.scatterplot.draw(
      { x: places, y: this.py, valueA: this.shade, valueB: shown },
      {
        zDataType: 'categorical', // numbers too: that of a colour, with one more for no value
        wDataType: 'categorical',
        spatialIndex: this.index,
      },
    );
    if (places === this.px) this.index = this.scatterplot.get('spatialIndex');
  }

  /** From values of the two columns to CSS pixels of the canvas. */
  toScreen(x, y) {
    return [
      this.xScale((x - this.centre[0]) / this.half[0]),
      this.yScale((y - this.centre[1]) / this.half[1]),
    ];
  }

  toValues(left, top) {
    return [
      this.xScale.invert(left) * this.half[0] + this.centre[0],
      this.yScale.invert(top) * this.half[1] + this.centre[1],
    ];
  }

  screenOf(point) {
    return [this.xScale(this.px[point]), this.yScale(this.py[point])];
  }

  /** The point nearest to a place on the screen. */
  nearest(left, top) {
    const [x, y] = [this.xScale.invert(left), this.yScale.invert(top)];
    let best = -1;
    let least = Infinity;
    for (let point = 0; point < this.count; point++) {
      const distance = (this.px[point] - x) ** 2 + (this.py[point] - y) ** 2;
      if (distance < least) [best, least] = [point, distance];
    }
    return best;
  }

  async showAll() {
    this.isWhole = true;
    await this.scatterplot.reset();
    const { clientWidth, clientHeight } = this.canvas;
    if (clientWidth >= clientHeight) return; // else only the height is all in view
    await this.scatterplot.zoomToArea({ x: -1, y: -1, width: 2, height: 2 }, { transition: false });
  }

  async zoomBy(factor) {
    this.isWhole = false;
    const [width, height] = [this.canvas.clientWidth, this.canvas.clientHeight];
    const x = this.xScale.invert(width / 2);
    const y = this.yScale.invert(height / 2);
    const dx = Math.abs(this.xScale.invert(width) - this.xScale.invert(0)) * factor;
    const dy = Math.abs(this.yScale.invert(height) - this.yScale.invert(0)) * factor;
    const area = { x: x - dx / 2, y: y - dy / 2, width: dx, height: dy };
    await this.scatterplot.zoomToArea(area, { transition: false });
  }

  /** Moves what is shown by CSS pixels. */
  async panBy(right, down) {
    this.isWhole = false;
    const [left, x] = [this.xScale.invert(right), this.xScale.invert(this.canvas.clientWidth + right)];
    const [top, y] = [this.yScale.invert(down), this.yScale.invert(this.canvas.clientHeight + down)];
    const area = { x: left, y: Math.min(top, y), width: x - left, height: Math.abs(y - top) };
    await this.scatterplot.zoomToArea(area, { transition: false });
  }

  async resize() {
    const { width, height } = this.canvas.parentElement.getBoundingClientRect();
    await this.scatterplot.set({ width, height });
    await this.scatterplot.set({ width, height }); // scales follow the new shape only now
    if (this.isWhole && this.px) await this.showAll();
  }
}

const PLANES = [['umap1', 'umap2'], ['z0', 'jitter'], ['pc1', 'pc2']];

/** The columns of the plane that is shown first; latents of one dimension have a jitter. */
export const firstPlane = (columns) =>
  PLANES.find((pair) => pair.every((name) => columns.includes(name))) ?? columns;

/** A column with the ends of its values. */
export function withLimits(column) {
  if (!column.category) return column;
  const codes = column.codes;
  return { ...column, low: Math.min(...codes), high: Math.max(...codes) };
}
