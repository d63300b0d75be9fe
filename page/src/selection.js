// Selections: conditions that are joined, sent to the server, undone, saved and taken back.

import { postArrays, postJson } from './api.js';
import { noColour } from './colours.js';
import { at, make, on, showError } from './dom.js';

export class Selection {
  /** `onSelected` is called with a 1 or 0 for each point, or null, and the outline of a polygon. */
  constructor(app, onSelected) {
    this.app = app;
    this.onSelected = onSelected;
    this.conditions = [];
    this.wanted = []; // what was asked for last, which the server may not have answered yet
    this.history = [];
    this.number = 0;
    this.isSelected = null;
    on(at('selection-undo'), 'click', () => this.undo());
    on(at('selection-clear'), 'click', () => this.change([]));
    on(at('selection-save'), 'submit', (event) => this.save(event));
    this.list();
  }

  /** Adds a condition, joined to the others as the page says. */
  async add(condition) {
    const join = at('selection-join').value;
    const isNew = join === 'new';
    const conditions = [
      ...(isNew ? [] : this.wanted),
      { join: isNew ? 'and' : join, ...condition },
    ];
    await this.change(conditions, isNew ? 'and' : null);
  }

  async change(conditions, nextJoin = null) {
    const { conditions: before, history } = this; // which `forget` replaces
    if (!(await this.apply(conditions, nextJoin))) return;
    history.push(before);
    this.list();
  }

  /** Takes saved or proposed conditions; what is drawn next narrows them. */
  async load(conditions) {
    await this.change(conditions, 'and');
  }

  async undo() {
    const { history } = this;
    const before = history.pop();
    if (before === undefined) return;
    try {
      await this.apply(before);
    } catch (error) {
      history.push(before);
      this.list();
      throw error;
    }
  }

  /** Forgets what could be undone. */
  forget() {
    this.history = [];
    this.list();
  }

  /**
   * Has the server apply conditions to all particles. The next one is joined by `nextJoin`, unless
   * that was chosen otherwise in the meantime. Returns false where a later call took its place.
   */
  async apply(conditions, nextJoin = null) {
    const number = ++this.number;
    this.wanted = conditions;
    const joinBefore = at('selection-join').value;
    let found = null;
    if (conditions.length) {
      at('selection-words').textContent = 'Selecting…';
      at('selection-save-button').disabled = true; // it would save the conditions before
      try {
        found = await postArrays('/api/select', { epoch: this.app.epoch, conditions });
      } catch (error) {
        if (number === this.number) this.wanted = this.conditions;
        this.list();
        throw error;
      }
      if (number !== this.number) return false;
    }
    this.conditions = conditions;
    this.found = found;
    this.isSelected = found && bitsOf(found.bits, this.app.facts.shown);
    if (!conditions.length) at('selection-join').value = 'new';
    else if (nextJoin && at('selection-join').value === joinBefore) {
      at('selection-join').value = nextJoin;
    }
    this.list();
    await this.onSelected(this.isSelected, conditions.findLast(({ inside }) => inside)?.inside);
    return true;
  }

  list() {
    const has = this.found != null;
    const total = this.app.facts.particles;
    const count = has ? this.found.count : 0;
    at('selection-count').textContent = has
      ? `${count.toLocaleString('en')} of ${total.toLocaleString('en')} particles ` +
        `(${((100 * count) / total).toFixed(1)} %)`
      : 'Nothing is selected';
    at('selection-words').textContent = has
      ? this.found.words
      : 'Draw with Lasso or Rectangle, tick classes, or give a range.';
    at('selection-command').textContent = has ? this.found.command : '';
    for (const id of ['selection-words', 'selection-command']) at(id).title = at(id).textContent;
    at('selection-undo').disabled = !this.history.length;
    at('selection-clear').disabled = !this.conditions.length;
    at('selection-save-button').disabled = !has || count === 0 || count === total;
  }

  async save(event) {
    event.preventDefault();
    const name = at('selection-name').value;
    at('selection-save-button').disabled = true;
    try {
      const request = { epoch: this.app.epoch, conditions: this.conditions, name };
      const saved = await postJson('/api/save-selection', request);
      saved.notes.forEach((note) => showError(note, note));
      at('selection-name').value = '';
      await this.app.results.refresh();
      this.app.showTab('results');
    } finally {
      this.list();
    }
  }

  /** The points that are selected. */
  points() {
    const found = [];
    this.isSelected?.forEach((is, point) => is && found.push(point));
    return found;
  }
}

function bitsOf(bytes, count) {
  const found = new Float32Array(count);
  for (let point = 0; point < count; point++) found[point] = (bytes[point >> 3] >> (point & 7)) & 1;
  return found;
}

/** The list of classes of a column, to tick and select; `colour` gives that of a class. */
export function classList(column, colour, onSelect) {
  const boxes = column.codes.map((code, number) => {
    const box = make('input', { type: 'checkbox', value: number });
    const particles = column.counts[number].toLocaleString('en');
    box.setAttribute('aria-label', `${column.names[number]}: ${particles} particles`);
    const dot = make('span', { className: 'dot' });
    const hasValue = column.codes[number] !== column.no_value;
    dot.style.background = hasValue ? colour(number) : noColour();
    const words = hasValue ? String(column.names[number]) : 'no value';
    const name = make('span', { className: 'class-name' }, words);
    const count = make('span', { className: 'count' }, particles);
    name.title = String(column.names[number]);
    return make('label', {}, box, dot, name, count);
  });
  const button = make('button', { type: 'button' }, 'Select ticked');
  const list = make('div', { className: 'classes' }, ...boxes);
  on(button, 'click', () => {
    const ticked = [...list.querySelectorAll('input:checked')];
    if (!ticked.length) throw new Error('Tick one class or more first.');
    const values = ticked.map((box) => column.names[Number(box.value)]);
    ticked.forEach((box) => (box.checked = false));
    return onSelect({ among: { column: column.name, values } });
  });
  if (!column.unlisted) return [list, button];
  const left = `${column.unlisted.toLocaleString('en')} more, of fewer particles, are not listed.`;
  return [list, make('p', { className: 'hint' }, left), button];
}

/** Inputs for a range of a column. */
export function rangeInputs(column, onSelect) {
  const input = (text, placeholder) =>
    make('input', { type: 'number', step: 'any', placeholder, 'aria-label': text });
  const low = input(`${column.words} from`, String(Number(column.low.toPrecision(4))));
  const high = input(`${column.words} to`, String(Number(column.high.toPrecision(4))));
  const button = make('button', { type: 'button' }, 'Select range');
  on(button, 'click', () => {
    const ends = [low, high].map(({ value }) => (value === '' ? null : Number(value)));
    if (ends[0] === null && ends[1] === null) throw new Error('Give one end of the range or both.');
    return onSelect({ range: { column: column.name, low: ends[0], high: ends[1] } });
  });
  return [make('div', { className: 'range' }, low, '–', high), button];
}
