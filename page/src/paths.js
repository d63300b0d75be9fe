// Paths that `traverse` has found: drawn over the plot, and their volumes as a film.

import { classColour } from './colours.js';
import { at, make, on } from './dom.js';

const MOST_VOLUMES = 16;

export class Paths {
  constructor(app) {
    this.app = app;
    this.found = [];
    this.shown = new Set();
  }

  /** Lists paths; those that were drawn still are. */
  take(found) {
    this.found = found;
    const boxes = found.map(({ name, rows }, number) => {
      const box = make('input', { type: 'checkbox', checked: this.shown.has(name) });
      on(box, 'change', () => {
        if (box.checked) this.shown.add(name);
        else this.shown.delete(name);
        this.draw();
      });
      const dot = make('span', { className: 'dot' });
      dot.style.background = classColour(number);
      const line = make('div', { className: 'row' }, make('label', {}, box, ' ', dot, ` ${name}`));
      if (rows !== null && this.app.facts.has_volumes) {
        const play = make('button', { type: 'button', title: 'Its volumes as a film' }, 'Film');
        on(play, 'click', () => this.play(rows));
        line.append(play);
      }
      return line;
    });
    at('paths').replaceChildren(...boxes);
    at('paths-part').hidden = !found.length;
    this.draw();
  }

  /** Draws the paths that are ticked, where the plane shows where their points lie. */
  draw() {
    const [x, y] = [at('axis-x').value, at('axis-y').value];
    this.app.overlay.paths = this.found
      .map((path, number) => ({ ...path, colour: classColour(number) }))
      .filter(({ name, columns }) => this.shown.has(name) && columns[x] && columns[y])
      .map(({ columns, colour }) => ({
        colour,
        places: () => columns[x].map((value, n) => [value, columns[y][n]]),
      }));
    this.app.overlay.draw();
  }

  /** Shows volumes of particles of a path, at even steps, as a film. */
  async play(rows) {
    const count = Math.min(MOST_VOLUMES, rows.length);
    const steps = Array.from({ length: count }, (_, n) =>
      rows[Math.round((n * (rows.length - 1)) / Math.max(1, count - 1))],
    );
    const points = [...new Set(this.app.pointsOf(steps))].filter((point) => point >= 0);
    if (points.length < 2) throw new Error('Fewer than two particles of this path are drawn.');
    at('volume-view').value = 'film';
    this.app.showTab('volumes');
    await this.app.volumes.choose(points, true);
    if (this.app.volumes.film === null) this.app.volumes.play();
  }
}
