// Reports of the run, what has been saved, and the loss while it trains.

import { fileOf, getJson } from './api.js';
import { isDark } from './colours.js';
import { at, make, on, prepared, short } from './dom.js';

const linkTo = (href, text) => make('a', { href, target: '_blank', rel: 'noopener' }, text);

const link = (path, text) => linkTo(fileOf(path), text);

const report = (href, { name, when }) =>
  make('li', {}, linkTo(href, name), make('span', { className: 'count' }, ` ${when}`));

const nameOf = (path) => path.split('/').at(-1);

/** Epochs of which each has a dot in the chart of the loss. */
const MOST_DOTS = 60;

export class Results {
  /**
   * `onLoad` is called with the conditions of a saved selection, `onTrain` with the settings of a
   * training on it, and `onClass` with a condition that selects a class.
   */
  constructor({ onLoad, onTrain, onClass }) {
    this.onLoad = onLoad;
    this.onTrain = onTrain;
    this.onClass = onClass;
    this.canTrain = false;
    this.losses = [];
    this.number = 0;
    this.lossesNumber = 0;
    new ResizeObserver(() => this.drawLosses()).observe(at('losses'));
  }

  async refresh() {
    const number = ++this.number;
    const found = await getJson('/api/results');
    if (number !== this.number) return;
    at('saved-selections').replaceChildren(...found.selections.map((entry) => this.saved(entry)));
    at('saved-volumes').replaceChildren(
      ...found.volumes.map(({ name, files }) =>
        make('li', {}, make('b', {}, name), ' ', ...spaced(files.map((f) => link(f, nameOf(f))))),
      ),
    );
    at('reports').replaceChildren(...found.reports.map((entry) => report(fileOf(entry.path), entry)));
    at('of-project').hidden = !found.project_reports.length;
    at('project-reports').replaceChildren(
      ...found.project_reports.map((entry) => report(`/files/${entry.path}`, entry)),
    );
    for (const id of ['saved-selections', 'saved-volumes', 'reports']) {
      const list = at(id);
      if (!list.children.length) list.append(make('li', { className: 'hint' }, 'none yet'));
    }
    await this.refreshLosses();
  }

  saved(entry) {
    const load = make('button', { type: 'button' }, 'Show');
    on(load, 'click', () => this.onLoad(entry.conditions));
    const files = spaced(entry.files.map((file) => link(file, nameOf(file))));
    const commands = [entry.filter, entry.train].filter(Boolean).map(command);
    const head = make('div', {}, make('b', {}, entry.name), ` ${entry.count} `, load);
    if (this.canTrain && entry.train) {
      const train = make('button', { type: 'button' }, 'Train on it…');
      on(train, 'click', () => this.onTrain(entry.train_settings));
      head.append(' ', train);
    }
    const words = make('div', { className: 'hint' }, entry.words);
    return make('li', {}, head, words, make('div', {}, ...files), ...commands);
  }

  /** Shows the mean occupancy of subunits in classes; a click on a class selects its particles. */
  showOccupancy(found) {
    at('occupancy').hidden = !found;
    if (!found) return;
    const { column, subunits, classes } = found;
    const head = make('tr', {}, make('td'), ...subunits.map((name) => make('th', {}, make('span', {}, name))));
    const rows = classes.map(({ name, particles, means }) => {
      const button = make('button', { type: 'button' }, `${name}: ${particles.toLocaleString('en')}`);
      button.title = `Select the particles of ${name}`;
      on(button, 'click', () => this.onClass({ among: { column, values: [name] } }));
      const cells = means.map((value, n) => {
        const cell = make('td', { title: `${name}, ${subunits[n]}: ${value.toFixed(2)}` });
        cell.setAttribute('aria-label', value.toFixed(2));
        cell.style.background = occupancyColour(value);
        return cell;
      });
      return make('tr', {}, make('th', {}, button), ...cells);
    });
    at('occupancy-map').replaceChildren(head, ...rows);
    const [bar] = at('occupancy-scale').children;
    bar.style.background = `linear-gradient(to right, ${occupancyColour(0)}, ${occupancyColour(1)})`;
  }

  async refreshLosses() {
    const number = ++this.lossesNumber;
    const losses = await getJson('/api/losses');
    if (number !== this.lossesNumber) return;
    this.losses = losses;
    this.drawLosses();
  }

  /** Draws means over whole epochs as dots, and means over the parts of epochs as a thin line. */
  drawLosses() {
    const rows = this.losses.filter(({ total }) => Number.isFinite(total));
    const isWhole = ({ done }) => done !== 0;
    const whole = rows.filter(isWhole);
    at('losses').hidden = rows.length < 2;
    at('losses-text').textContent = describeLosses(rows, whole);
    if (rows.length < 2) return;
    const { context, width, height } = prepared(at('losses'));
    const [left, right, top, bottom] = [56, 8, 8, 20];
    const totals = rows.map(({ total }) => total);
    const [low, high] = [Math.min(...totals), Math.max(...totals)];
    const x = (n) => left + (n / (rows.length - 1)) * (width - left - right);
    const y = (v) => top + ((high - v) / (high - low || 1)) * (height - top - bottom);
    const places = rows.map((row, n) => ({ row, left: x(n), top: y(row.total) }));
    const parts = places.filter(({ row }) => !isWhole(row));
    const wholes = places.filter(({ row }) => isWhole(row));
    polyline(context, parts, isDark() ? '#4d5a66' : '#b9c6d2', 1);
    polyline(context, wholes, isDark() ? '#56b4e9' : '#0072b2', 2);
    if (wholes.length <= MOST_DOTS) dots(context, wholes);
    context.fillStyle = isDark() ? '#c8ccd2' : '#444a52';
    context.font = '11px system-ui, sans-serif';
    context.textAlign = 'right';
    context.fillText(short(high), left - 6, top + 8);
    context.fillText(short(low), left - 6, height - bottom);
    context.textAlign = 'left';
    context.fillText(`epoch ${rows[0].epoch}`, left, height - 5);
    context.textAlign = 'right';
    context.fillText(`epoch ${rows.at(-1).epoch}`, width - right, height - 5);
  }
}

function describeLosses(rows, whole) {
  if (!rows.length) return 'not known';
  if (!whole.length) return `total ${short(rows.at(-1).total)} so far in epoch ${rows.at(-1).epoch}`;
  const thin = whole.length < rows.length ? '; thin line: parts of epochs' : '';
  return `mean total ${short(whole.at(-1).total)} of epoch ${whole.at(-1).epoch}${thin}`;
}

function polyline(context, places, colour, width) {
  context.strokeStyle = colour;
  context.fillStyle = colour; // of dots on it
  context.lineWidth = width;
  context.beginPath();
  for (const { left, top } of places) context.lineTo(left, top);
  context.stroke();
}

function dots(context, places) {
  for (const { left, top } of places) {
    context.beginPath();
    context.arc(left, top, 3, 0, 2 * Math.PI);
    context.fill();
  }
}

/** White at 0 to blue at 1, as in the report of `occupancy classes`. */
function occupancyColour(value) {
  const share = Math.min(1, Math.max(0, value));
  const mixed = [[255, 8], [255, 48], [255, 107]].map(([from, to]) => from + share * (to - from));
  return `rgb(${mixed.map(Math.round).join(' ')})`;
}

const spaced = (items) => items.flatMap((item) => [item, ' ']);

function command(text) {
  const code = make('code', { title: text }, text);
  if (!navigator.clipboard) return make('div', { className: 'command' }, code); // over HTTP
  const copy = make('button', { type: 'button', title: 'Copy the command' }, 'Copy');
  on(copy, 'click', async () => {
    await navigator.clipboard.writeText(text);
    copy.textContent = 'Copied';
  });
  return make('div', { className: 'command' }, code, copy);
}
