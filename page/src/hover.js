// The values of the particle under the pointer, beside the plot.

import { at, short } from './dom.js';

export class Hover {
  constructor(app) {
    this.app = app;
    this.point = -1;
  }

  /** Shows what is known of a point; −1 shows nothing. */
  async show(point) {
    this.point = point;
    if (point < 0) {
      at('hover').textContent = 'Point at a particle to see its values; click to see its volume.';
      return;
    }
    const isCurrent = this.app.watch('axis-x', 'axis-y', 'colour-by');
    const names = [at('axis-x').value, at('axis-y').value, at('colour-by').value];
    const parts = await Promise.all(
      [...new Set(names)].map(async (name) => {
        const column = await this.app.column(name);
        const value = column.values[point];
        const text = column.category ? (column.names[column.codes.indexOf(value)] ?? 'not listed') : short(value);
        return `${column.words} = ${text}`;
      }),
    );
    if (point !== this.point || !isCurrent()) return;
    at('hover').textContent = `particle ${this.app.numbers[point]}: ${parts.join(', ')}`;
  }
}
