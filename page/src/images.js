// Images of particles, a page at a time, with their mean.

import { postArrays } from './api.js';
import { at, make, on } from './dom.js';

const PER_PAGE = 20;

export class Images {
  /** `onFind` is called with a point that is to be shown in the plot. */
  constructor(app, onFind) {
    this.app = app;
    this.onFind = onFind;
    this.start = 0;
    this.number = 0;
    on(at('images-of'), 'change', () => this.show(0));
    on(at('images-kind'), 'change', () => this.show(this.start));
    on(at('images-back'), 'click', () => this.show(this.start - PER_PAGE));
    on(at('images-on'), 'click', () => this.show(this.start + PER_PAGE));
  }

  /** Shows the page of images that begins with one of the points. */
  async show(start = 0) {
    const number = ++this.number;
    const points = this.points();
    this.start = Math.max(0, Math.min(start, points.length - 1));
    const page = points.slice(this.start, this.start + PER_PAGE);
    at('images-back').disabled = this.start === 0;
    at('images-on').disabled = this.start + PER_PAGE >= points.length;
    if (!page.length) {
      at('images-count').textContent = '';
      const text = 'Click points in the plot, or select particles: their images appear here.';
      at('images').replaceChildren(make('p', { className: 'hint' }, text));
      return;
    }
    const last = this.start + page.length;
    const [first, end, all] = [this.start + 1, last, points.length].map((n) => n.toLocaleString('en'));
    at('images-count').textContent = `${first}–${end} of ${all}`;
    const rows = page.map((point) => this.app.rows[point]);
    const kind = at('images-kind').value;
    const found = await postArrays('/api/images', { epoch: this.app.epoch, rows, kind });
    if (number !== this.number) return;
    const [, box] = found.images.shape;
    const tiles = page.map((point, n) => {
      const picture = draw(found.images.subarray(n * box * box, (n + 1) * box * box), box);
      const title = `Particle ${found.numbers[n]}: find it in the plot`;
      const button = make('button', { type: 'button', className: 'tile', title }, picture);
      button.append(make('span', {}, String(found.numbers[n])));
      on(button, 'click', () => this.onFind(point));
      return button;
    });
    const mean = make('figure', { className: 'tile' }, draw(found.mean, box));
    mean.append(make('figcaption', {}, `mean of ${page.length}`));
    at('images').replaceChildren(mean, ...tiles);
  }

  points() {
    return at('images-of').value === 'chosen'
      ? this.app.volumes.chosen
      : this.app.selection.points();
  }
}

function draw(values, box) {
  const canvas = make('canvas', { width: box, height: box });
  const image = new ImageData(box, box);
  values.forEach((grey, place) => image.data.set([grey, grey, grey, 255], 4 * place));
  canvas.getContext('2d').putImageData(image, 0, 0);
  return canvas;
}
