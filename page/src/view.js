// What is looked at, as the end of the page's address has it: round, axes and colour, and the epoch
// if a person has chosen one. Without it a reload shows the newest.

import { getJson } from './api.js';
import { at, fill } from './dom.js';
import { firstPlane } from './plot.js';

const CHOICES = { x: 'axis-x', y: 'axis-y', colour: 'colour-by' };

export class View {
  constructor() {
    this.wanted = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
  }

  /** The round of a project that is wanted; the one that the server begins with if it is gone. */
  round(project, first) {
    const { round } = this.wanted;
    if (project?.rounds.includes(round)) return round;
    if (round !== undefined || project) this.takeEpoch(null); // it is one of another round
    return first;
  }

  /** The facts of the epoch that is wanted; of the one that the server begins with if it is gone. */
  async facts() {
    const { epoch = null } = this.wanted;
    try {
      return await getJson('/api/facts', { epoch });
    } catch (error) {
      if (epoch === null || error.status === 0) throw error;
      this.takeEpoch(null);
      return getJson('/api/facts');
    }
  }

  /** Fills the lists of axes and colours; those that were chosen stay so where they are known. */
  fill({ columns, words }) {
    const { x, y, colour } = this.wanted;
    const planes = columns.filter((name) => !name.startsWith('kmeans'));
    const isKnown = planes.includes(x) && planes.includes(y);
    const [across, up] = isKnown ? [x, y] : firstPlane(columns);
    fill(at('axis-x'), planes, across, words);
    fill(at('axis-y'), planes, up, words);
    const classes = columns.find((name) => name.startsWith('kmeans'));
    fill(at('colour-by'), columns, columns.includes(colour) ? colour : (classes ?? 'z_norm'), words);
  }

  /** Takes what a person has chosen. */
  take() {
    for (const [name, id] of Object.entries(CHOICES)) this.wanted[name] = at(id).value;
  }

  /** Takes the epoch that a person has chosen; null for none. */
  takeEpoch(epoch) {
    this.wanted.epoch = epoch;
  }

  /** Chooses axes anew: better ones have come. */
  forgetAxes() {
    delete this.wanted.x;
    delete this.wanted.y;
  }

  /** Writes into the address what is shown. */
  keep(round) {
    const shown = Object.entries(CHOICES).map(([name, id]) => [name, at(id).value]);
    const { epoch } = this.wanted;
    const all = Object.entries({ round, epoch, ...Object.fromEntries(shown) });
    const text = new URLSearchParams(all.filter(([, value]) => value || value === 0));
    history.replaceState(null, '', `#${text}`);
  }
}
