// The page: reads what the run has, and wires plot, selection, volumes, images and results.

import { chooseRound, getArrays, getJson } from './api.js';
import { classColour, colourBar } from './colours.js';
import { at, fill, hideError, inTurn, showError } from './dom.js';
import { Hover } from './hover.js';
import { Images } from './images.js';
import { Jobs } from './jobs.js';
import { Overlay, along } from './overlay.js';
import { Paths } from './paths.js';
import { Plot, withLimits } from './plot.js';
import { Project } from './project.js';
import { Results } from './results.js';
import { Selection, classList, rangeInputs } from './selection.js';
import { View } from './view.js';
import { MOST_VOLUMES, Volumes } from './volumes.js';
import { wire } from './wiring.js';

const STATUS_MS = 3000;

class App {
  constructor() {
    this.epoch = null;
    this.view = new View();
    this.columns = new Map();
    this.wasTraining = false;
    this.canStart = false;
    this.opening = 0; // rounds that are being opened
  }

  async start() {
    const { project, round, can_start: canStart } = await getJson('/api/status');
    this.canStart = canStart;
    this.round = this.view.round(project, round);
    if (project) chooseRound(this.round);
    this.facts = await this.view.facts();
    this.epoch = this.facts.epoch;
    const points = await getArrays('/api/points', { epoch: this.epoch });
    this.rows = points.rows;
    this.numbers = points.numbers;
    this.plot = new Plot(at('points'), this.facts.shown);
    this.overlay = new Overlay(at('overlay'), at('density'), this.plot);
    this.volumes = new Volumes(this, (marks, isPath) => {
      this.overlay.marks = marks;
      this.overlay.path = isPath ? marks.map(({ point }) => point) : [];
      this.overlay.draw();
      return this.showImagesOf('chosen');
    });
    this.overlay.film = () => this.volumes.filmPlace();
    this.selection = new Selection(this, async (isSelected, polygon) => {
      this.plot.setSelected(isSelected);
      this.polygon = polygon ?? null;
      this.outline();
      await this.plot.draw();
      await this.showImagesOf('selected');
    });
    this.hover = new Hover(this);
    this.images = new Images(this, (point) => this.find(point));
    this.paths = new Paths(this);
    this.jobs = new Jobs(this);
    this.project = new Project(this);
    this.results = new Results({
      onLoad: (conditions) => this.selection.load(conditions),
      onTrain: (settings) => this.jobs.open('train', settings),
      onClass: (condition) => this.selection.add(condition),
    });
    this.results.canTrain = this.canStart;
    wire(this);
    this.describe();
    this.showMany();
    await this.showPlane();
    await this.hover.show(-1);
    document.body.dataset.ready = 'yes';
    this.poll(); // whatever of the results cannot be read
    this.results.refresh().catch((error) => showError(error));
    this.showDrawn().catch((error) => showError(error));
  }

  /** Shows the images of the particles that are chosen or selected, where these are looked at. */
  async showImagesOf(which) {
    if (!at('tab-images').hidden && at('images-of').value === which) await this.images.show(0);
  }

  describe() {
    const { title, root, particles, shown, zdim, missing } = this.facts;
    document.title = `${title} – raydrgn`;
    at('title').textContent = title;
    at('title').title = root;
    const [all, some] = [particles, shown].map((count) => count.toLocaleString('en'));
    at('facts').textContent = `${all} particles${shown < particles ? `, ${some} drawn` : ''}, zdim ${zdim}`;
    this.view.fill(this.facts);
    at('missing').hidden = !missing;
    at('missing-text').textContent = missing;
  }

  /** Shows the density too, where not all particles are drawn. */
  showMany() {
    if (this.facts.shown < this.facts.particles) at('density-view').value = 'both';
  }

  async column(name) {
    const { columns, epoch } = this; // an answer that comes late is of the epoch that was asked
    if (!columns.has(name)) columns.set(name, await getArrays('/api/column', { epoch, name }));
    return columns.get(name);
  }

  /** Returns a function that tells whether the epoch and some choices are what they are now. */
  watch(...ids) {
    const chosen = () => ids.map((id) => at(id).value).join('\n');
    const [columns, before] = [this.columns, chosen()];
    return () => columns === this.columns && before === chosen();
  }

  async showPlane() {
    const [x, y] = [at('axis-x').value, at('axis-y').value];
    this.view.keep(this.round);
    const isCurrent = this.watch('axis-x', 'axis-y');
    const pair = x.replace(/\d+$/, '');
    const areEqual = pair === y.replace(/\d+$/, '') && ['umap', 'pc', 'z'].includes(pair);
    const [columnX, columnY] = [await this.column(x), await this.column(y)];
    if (!isCurrent()) return;
    this.plot.setPlane(withLimits(columnX), withLimits(columnY), areEqual);
    at('label-x').textContent = columnX.words;
    at('label-y').textContent = columnY.words;
    await this.showColour(false);
    await this.plot.draw();
    await this.plot.showAll();
    this.outline();
    this.paths.draw();
    await this.showDensity();
  }

  async showColour(draws = true) {
    this.view.keep(this.round);
    const isCurrent = this.watch('colour-by');
    const column = await this.column(at('colour-by').value);
    if (!isCurrent()) return;
    this.plot.setColour(column);
    this.showLegend(column);
    const centres = this.centres(column);
    this.overlay.centres = at('show-centres').checked ? centres : [];
    if (!draws) return;
    await this.plot.draw();
    this.overlay.draw();
  }

  /** What was ticked or typed stays while the column does. */
  showLegend(column) {
    if (this.legendOf === column) return;
    this.legendOf = column;
    const select = (condition) => this.selection.add(condition);
    const parts = column.category
      ? classList(column, classColour, select)
      : [colourBar(column), ...rangeInputs(column, select)];
    at('legend').replaceChildren(...parts);
  }

  centres(column) {
    const rows = this.facts.centres[column.name] ?? [];
    at('show-centres').disabled = !rows.length;
    return this.pointsOf(rows).flatMap((point, n) => (point < 0 ? [] : [{ point, text: String(n) }]));
  }

  /** The points that rows are drawn as; −1 for those that are not drawn. */
  pointsOf(rows) {
    if (this.facts.shown === this.facts.particles) return rows;
    const points = new Map(rows.map((row) => [row, -1]));
    this.rows.forEach((row, point) => points.has(row) && points.set(row, point));
    return rows.map((row) => points.get(row));
  }

  outline() {
    const inside = this.polygon;
    const isHere = inside && inside.x === at('axis-x').value && inside.y === at('axis-y').value;
    this.overlay.outline = isHere ? inside.corners : null;
    this.overlay.draw();
  }

  async showDensity() {
    const isCurrent = this.watch('axis-x', 'axis-y', 'density-view');
    const view = at('density-view').value;
    at('points').style.opacity = view === 'density' ? '0' : '1';
    at('density').style.opacity = view === 'both' ? '0.55' : '1';
    const query = { epoch: this.epoch, x: at('axis-x').value, y: at('axis-y').value };
    const found = view === 'points' ? null : await getArrays('/api/density', query);
    if (isCurrent()) this.overlay.setDensity(found);
  }

  async drawn(mode, corners) {
    if (mode === 'path') {
      const asked = Math.round(Number(at('path-points').value));
      const count = Math.max(2, Math.min(MOST_VOLUMES, asked || 2));
      at('path-points').value = count;
      const points = along(corners, count).map(([x, y]) => this.plot.nearest(x, y));
      this.showTab('volumes');
      await this.volumes.choose([...new Set(points)], true);
      return;
    }
    const inside = { x: this.plot.x.name, y: this.plot.y.name }; // those drawn: others may load
    inside.corners = corners.map(([left, top]) => this.plot.toValues(left, top));
    await this.selection.add({ inside });
  }

  async find(point) {
    this.overlay.marks = [...this.volumes.marks(), { point, colour: '#ff2d95' }];
    this.overlay.draw();
    await this.hover.show(point);
  }

  async goTo() {
    const number = Number(at('go-number').value);
    const point = this.numbers.indexOf(number);
    if (at('go-number').value === '' || point < 0) {
      throw new Error(`There is no particle ${at('go-number').value} among those drawn.`);
    }
    this.showTab('volumes');
    await this.volumes.add(point);
    await this.hover.show(point);
  }

  async openEpoch(epoch) {
    const before = this.epoch;
    const isCurrent = () => at('epochs').value === String(epoch) && !this.opening;
    let facts;
    try {
      facts = await getJson('/api/facts', { epoch });
    } catch (error) {
      if (isCurrent()) at('epochs').value = String(this.epoch); // which is still shown
      throw error;
    }
    if (!isCurrent()) return;
    [this.facts, this.epoch, this.columns] = [facts, facts.epoch, new Map()];
    this.view.takeEpoch(epoch);
    this.paths.take([]);
    this.results.showOccupancy(null);
    await this.selection.apply([]); // before it can be saved as one of this epoch
    this.selection.forget(); // clusters and planes of the epoch before were others
    this.describe();
    await inTurn(
      () => this.showPlane(),
      () => this.hover.show(-1),
      () => this.jobs.changeEpoch(before),
      () => this.showDrawn(),
      () => this.volumes.changeEpoch(), // the last, since decoding takes long
    );
  }

  /** Opens the round of a project that was chosen: other particles, in other numbers. */
  async openRound() {
    this.opening += 1;
    at('epochs').disabled = true; // an epoch chosen now would be of the round before
    try {
      await this.takeRound(at('rounds').value);
    } finally {
      this.opening -= 1;
      at('epochs').disabled = this.opening > 0;
    }
  }

  async takeRound(name) {
    const round = name || null;
    let facts;
    let points;
    try {
      facts = await getJson('/api/facts', { round });
      points = await getArrays('/api/points', { epoch: facts.epoch, round });
    } catch (error) {
      if (at('rounds').value !== name) return; // another one was chosen since
      at('rounds').value = this.round; // which is still shown
      throw error;
    }
    if (at('rounds').value !== name) return;
    chooseRound(name); // with all that is known of it, or requests would mix two rounds
    [this.round, this.facts, this.epoch] = [name, facts, facts.epoch];
    this.view.takeEpoch(null);
    [this.rows, this.numbers] = [points.rows, points.numbers];
    this.columns = new Map();
    at('epochs').replaceChildren(); // until those of this round are known
    this.paths.take([]);
    this.results.showOccupancy(null);
    await this.selection.apply([]); // before anything of this round can be chosen
    this.selection.forget();
    await this.volumes.choose([]);
    this.plot.setCount(this.facts.shown);
    await this.jobs.changeRound().catch((error) => showError(error)); // before anything that fills in a form is shown
    this.describe();
    this.showMany();
    await inTurn(
      () => this.showPlane(),
      () => this.hover.show(-1),
      () => this.askStatus(),
      () => this.results.refresh(),
      () => this.showDrawn(),
    );
  }

  /** Shows what commands have made meanwhile; what is selected stays so. */
  async refresh() {
    const { columns: before, stamp } = this.facts;
    const isCurrent = this.watch();
    const facts = await getJson('/api/facts', { epoch: this.epoch });
    if (isCurrent()) this.facts = facts;
    if (isCurrent() && (facts.stamp !== stamp || facts.columns.join() !== before.join())) {
      this.view.take();
      if (!before.includes('umap1') && facts.columns.includes('umap1')) this.view.forgetAxes();
      this.columns = new Map();
      this.describe();
      await this.showPlane();
    }
    if (facts.stamp !== stamp) await this.selection.apply(this.selection.conditions);
    await inTurn(() => this.results.refresh(), () => this.showDrawn());
  }

  /** Reads results that are drawn on the page itself: paths, occupancies. */
  async showDrawn() {
    const isCurrent = this.watch();
    const { paths, occupancy } = await getJson('/api/drawn', { epoch: this.epoch });
    if (!isCurrent()) return;
    this.paths.take(paths);
    this.results.showOccupancy(occupancy);
  }

  showTab(name) {
    for (const tab of document.querySelectorAll('[role=tab]')) {
      const isShown = tab.dataset.tab === name;
      tab.setAttribute('aria-selected', String(isShown));
      at(`tab-${tab.dataset.tab}`).hidden = !isShown;
    }
    if (name === 'images') this.images.show(0).catch((error) => showError(error));
    if (name === 'results') this.results.drawLosses();
    if (name === 'jobs') {
      this.jobs.load().catch((error) => showError(error));
      this.jobs.refresh().catch((error) => showError(error));
    }
  }

  async setTheme(name) {
    document.documentElement.dataset.theme = name;
    localStorage.setItem('theme', name);
    this.legendOf = null; // its colours are others
    await this.showColour();
    await this.showDensity();
    this.paths.take(this.paths.found);
    this.volumes.made.forEach((volume, n) => (volume.colour = this.volumes.colour(n)));
    this.volumes.list();
    this.overlay.marks = this.volumes.marks();
    this.overlay.draw();
    this.results.drawLosses();
  }

  /** Asks from time to time what has changed; goes on when the server is away. */
  async poll() {
    try {
      await this.askStatus();
      hideError('away');
      if (this.jobs.isBusy) await this.jobs.refresh();
    } catch (error) {
      showError(error, 'away');
    }
    setTimeout(() => this.poll(), STATUS_MS);
  }

  async askStatus() {
    const { root } = this.facts;
    const status = await getJson('/api/status');
    const isSame = root === this.facts.root && !this.opening;
    if (isSame && status.run !== root) return this.openRound(); // which was trained anew
    if (root !== this.facts.root) return; // of the round before
    const { epochs, is_training: isTraining, problem, project } = status;
    this.canStart = status.can_start;
    if (problem) showError(problem, 'problem');
    else hideError('problem');
    const listed = epochs.map(String);
    const select = at('epochs');
    const has = [...select.options].map(({ value }) => value);
    if (listed.join() !== has.join()) {
      const chosen = select.value || String(this.epoch); // what is chosen may yet load
      fill(select, listed, chosen);
      if (select.value !== chosen) select.selectedIndex = -1; // it is shown, but its files are gone
    }
    select.parentElement.hidden = !listed.length;
    at('training').textContent = isTraining ? 'in training' : '';
    at('make-umap').hidden = !this.canStart;
    document.querySelector('[data-tab=jobs]').hidden = !this.canStart;
    this.results.canTrain = this.canStart;
    this.project.take(project, status.round);
    if (isTraining || this.wasTraining) await this.results.refreshLosses();
    this.wasTraining = isTraining;
  }
}

window.addEventListener('error', ({ message }) => showError(message));
window.addEventListener('unhandledrejection', ({ reason }) => showError(reason));
const wanted = matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light';
document.documentElement.dataset.theme = localStorage.getItem('theme') ?? wanted;
const app = new App();
app.start().catch((error) => {
  at('hover').textContent = 'The page could not begin: see above.';
  showError(error);
});
