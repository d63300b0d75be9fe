// Paths that `traverse` has found: drawn over the plot, and their volumes as a film.

import { classColour } from './colours.js';
import { at, make, on } from './dom.js';
import { MOST_VOLUMES } from './volumes.js';

export class Paths {
  constructor(app) {
    this.app = app;
    this.found = [];
    this.shown = new Set();
  }

  /** Lists paths; those that were drawn still are. */
  take(found) {
    this.found = found;
    const boxes = found.map((path, number) => {
      const { name } = path;
      const box = make('input', { type: 'checkbox', checked: this.shown.has(name) });
      on(box, 'change', () => {
        if (box.checked) this.shown.add(name);
        else this.shown.delete(name);
        this.draw();
      });
      const dot = make('span', { className: 'dot' });
      dot.style.background = classColour(number);
      const line = make('div', { className: 'row' }, make('label', {}, box, ' ', dot, ` ${name}`));
      if (this.app.facts.has_volumes) {
        const play = make('button', { type: 'button', title: 'Its volumes as a film' }, 'Film');
        on(play, 'click', () => this.play(path));
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

  /**
   * Shows volumes along a path, at even steps, as a film: of its particles, where it goes from one
   * to another that are all drawn, else of its points.
   */
  async play({ name, rows, columns }) {
    const total = Object.values(columns)[0].length;
    const count = Math.min(MOST_VOLUMES, total);
    const steps = Array.from({ length: count }, (_, n) =>
      Math.round((n * (total - 1)) / Math.max(1, count - 1)),
    );
    const points = rows && this.app.pointsOf(steps.map((step) => rows[step]));
    at('volume-view').value = 'film';
    this.app.showTab('volumes');
    if (points?.every((point) => point >= 0)) {
      await this.app.volumes.choose([...new Set(points)], true);
    } else await this.app.volumes.choosePath(name, steps, columns);
    if (this.app.volumes.film === null) this.app.volumes.play();
  }
}
