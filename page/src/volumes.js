// The panel of volumes: particles that were chosen, their volumes, and how these are shown.

import { fromHalf, postArrays, postJson } from './api.js';
import { classColour, orderColour } from './colours.js';
import { at, make, on, short, showError } from './dom.js';
import { showSlices, slicesPicture } from './slices.js';

export const MOST_VOLUMES = 16;
const FILM_MS = 400;

export class Volumes {
  /** `onChosen` is called with the particles that are chosen, and their colours. */
  constructor(app, onChosen) {
    this.app = app;
    this.onChosen = onChosen;
    // `randomUUID` is there in secure contexts alone, which a page over HTTP of another node is not
    this.page = [...crypto.getRandomValues(new Uint32Array(4))].join('-');
    this.number = 0;
    this.isDecoding = false;
    this.chosen = [];
    this.path = null; // points of a path that are chosen in place of particles
    this.isOrdered = false; // whether what is chosen follows each other
    this.made = [];
    this.frame = 0;
    this.film = null;
    this.view = null;
    this.isDrawing = false;
    this.isStale = false;
    this.isSaving = false;
    this.level = 3;
    on(at('volume-level'), 'input', () => this.setLevel(Number(at('volume-level').value)));
    on(at('volume-level-number'), 'change', () => this.setLevel(Number(at('volume-level-number').value)));
    on(at('volume-view'), 'change', () => this.show());
    on(at('volume-clear'), 'click', () => this.choose([]));
    on(at('volume-save'), 'submit', (event) => this.save(event));
    on(at('volume-picture'), 'click', () => this.savePicture());
    on(at('volume-reset'), 'click', () => this.view?.resetCamera());
    on(at('film-play'), 'click', () => this.play());
    on(at('film-frame'), 'input', () => this.setFrame(Number(at('film-frame').value)));
    this.list();
  }

  /** Chooses points, in their order; `isPath` says that they follow each other. */
  async choose(points, isPath = false) {
    this.chosen = points.slice(-MOST_VOLUMES);
    this.path = null;
    await this.begin(isPath);
  }

  /** Chooses points of a path of `traverse`, which need not be particles. */
  async choosePath(name, steps, columns) {
    this.chosen = [];
    this.path = { name, steps, columns };
    await this.begin(false);
  }

  /** Shows another epoch: its volumes of the same particles; its paths are others. */
  async changeEpoch() {
    if (this.path !== null) await this.choose([]);
    else await this.decode();
  }

  async begin(isPath) {
    this.made = [];
    this.isOrdered = isPath || this.path !== null;
    this.stop();
    this.list();
    this.onChosen(this.marks(), isPath);
    await this.decode();
  }

  /** What the server knows the chosen ones by. */
  order() {
    if (this.path !== null) return { path: this.path.name, rows: this.path.steps };
    return { rows: this.chosen.map((point) => this.app.rows[point]) };
  }

  async add(point) {
    const others = this.chosen.filter((other) => other !== point);
    await this.choose(at('choose-several').checked ? [...others, point] : [point]);
  }

  /** Along a path the colours have its order; those of clusters would seem to mean clusters. */
  colour(number) {
    const count = this.order().rows.length;
    return this.isOrdered ? orderColour(number, count) : classColour(number);
  }

  marks() {
    return this.chosen.map((point, number) => ({ point, colour: this.colour(number) }));
  }

  /** Decodes a preview, then the volumes in full; a later call takes the place of this one. */
  async decode() {
    const number = ++this.number;
    const chosen = this.order();
    if (!chosen.rows.length || !this.app.facts.has_volumes) {
      this.showStatus('');
      this.isDecoding = false;
      await this.show();
      return;
    }
    this.isDecoding = true;
    await this.show();
    const sizes = this.app.facts.box > 32 ? ['preview', 'full'] : ['full'];
    for (const size of sizes) {
      this.showStatus(size === 'preview' ? 'Decoding a preview…' : 'Decoding…');
      let found;
      try {
        const order = { epoch: this.app.epoch, page: this.page, number, ...chosen, size };
        found = await postArrays('/api/volumes', order);
      } catch (error) {
        if (error.status === 409 || number !== this.number) return;
        this.showStatus('');
        this.isDecoding = false;
        this.made = []; // those of another epoch would seem to be of this one
        await this.show();
        throw error;
      }
      if (number !== this.number) return;
      this.isDecoding = false;
      this.take(found);
      const isLast = size === sizes.at(-1);
      this.showStatus(`${found.box} px${isLast ? '' : ', preview'}; ${short(found.pixel_size)} Å/px`);
      await this.show();
    }
  }

  take(found) {
    const all = fromHalf(found.volumes);
    const count = found.box ** 3;
    this.made = found.rows.map((row, number) => ({
      values: all.slice(number * count, (number + 1) * count).map((v) => v * found.scale[number]),
      box: found.box,
      pixelSize: found.pixel_size,
      sd: found.sd[number],
      colour: this.colour(number),
      name: this.path ? `${this.path.name} ${row}` : String(this.app.numbers[this.chosen[number]]),
    }));
  }

  /** The threshold as a density of volumes in the run's own box. */
  density() {
    return this.level * this.made[0].sd;
  }

  /** Sets the threshold in SD, within the ends of the slider, which the number agrees with. */
  setLevel(level) {
    at('volume-level').value = level || this.level;
    this.level = Number(at('volume-level').value);
    at('volume-level-number').value = this.level;
    return this.show();
  }

  /** The volume of the film that is shown. */
  get filmed() {
    return Math.min(this.frame, this.made.length - 1);
  }

  /** Where in the plot the volume lies that a film shows, in CSS pixels; null if it does not. */
  filmPlace() {
    const { plot } = this.app;
    if (at('volume-view').value !== 'film' || !this.made.length || !plot.px) return null;
    if (this.path === null) return plot.screenOf(this.chosen[this.filmed]);
    const step = this.path.steps[this.filmed];
    const [x, y] = [plot.x, plot.y].map(({ name }) => this.path.columns[name]?.[step]);
    return Number.isFinite(x + y) ? plot.toScreen(x, y) : null;
  }

  /** Shows the parts of the panel that the view has. */
  arrange(view) {
    const has = this.made.length > 0;
    at('film').hidden = view !== 'film' || !has;
    at('film-frame').max = Math.max(0, this.made.length - 1);
    at('volume-slices').hidden = view !== 'slices' || !has;
    at('volume-surface').hidden = view === 'slices' || !has;
    at('volume-empty').hidden = has;
    at('volume-empty').textContent = this.app.facts.has_volumes
      ? 'Click a point in the plot, or draw a path through it: its volumes appear here.'
      : 'A file of latents has no weights, so there are no volumes.';
    if (this.isDecoding) at('volume-empty').textContent = 'Decoding…';
    at('volume-reset').disabled = !has || view === 'slices';
    at('volume-picture').disabled = !has;
    at('volume-save-button').disabled = !has || this.isSaving;
    this.app.overlay.draw(); // with the place of the film
  }

  async show() {
    const view = at('volume-view').value;
    const isFilm = view === 'film';
    this.arrange(view);
    if (!this.made.length) return;
    const level = this.density();
    at('volume-level-text').textContent = `SD = ${short(level)}`;
    if (view === 'slices') {
      showSlices(at('volume-slices'), this.made);
      return;
    }
    const shown = isFilm ? [this.made[this.filmed]] : this.made;
    if (isFilm) {
      at('film-frame').value = this.filmed;
      at('film-text').textContent = `${this.filmed + 1} of ${this.made.length}: ${shown[0].name}`;
    }
    if (this.isDrawing) {
      this.isStale = true; // drawn again at the end: the slider moves faster than surfaces are made
      return;
    }
    this.isDrawing = true;
    let triangles;
    try {
      await this.open();
      triangles = await this.view.show(shown, level, view === 'side');
    } catch (error) {
      this.isDrawing = false;
      if (at('volume-view').value === 'slices') await this.show();
      throw error;
    } finally {
      this.isDrawing = false;
    }
    if (this.isStale) {
      this.isStale = false;
      await this.show();
      return;
    }
    at('volume-surface').dataset.triangles = triangles.join(' ');
    at('volume-level-text').classList.toggle('warning', triangles.includes(0));
    if (triangles.includes(0)) at('volume-level-text').textContent += ': nothing above it';
  }

  async open() {
    if (this.view !== null) return;
    const { SurfaceView } = await import('/assets/surface.js');
    try {
      this.view ??= new SurfaceView(at('volume-surface'));
    } catch {
      at('volume-view').value = 'slices';
      throw new Error('This browser draws no surfaces (it has no WebGL). Slices are shown.');
    }
  }

  setFrame(frame) {
    this.frame = frame;
    this.show();
  }

  play() {
    if (this.film !== null) {
      this.stop();
      return;
    }
    at('film-play').textContent = 'Stop';
    this.film = setInterval(() => {
      this.setFrame((this.frame + 1) % Math.max(1, this.made.length));
    }, FILM_MS);
  }

  stop() {
    clearInterval(this.film);
    this.film = null;
    this.frame = 0;
    at('film-play').textContent = 'Play';
  }

  async save(event) {
    event.preventDefault();
    const chosen = this.order();
    const name = at('volume-name').value;
    const { number } = this;
    const tell = (text) => number === this.number && this.showStatus(text); // of no later volumes
    tell('Decoding and writing…');
    this.isSaving = true;
    at('volume-save-button').disabled = true;
    const colours = chosen.rows.map((_, number) => this.colour(number));
    const request = { epoch: this.app.epoch, ...chosen, name, level: this.density(), colours };
    let saved;
    try {
      saved = await postJson('/api/save-volumes', request);
    } catch (error) {
      tell('');
      throw error;
    } finally {
      this.isSaving = false;
      at('volume-save-button').disabled = !this.made.length;
    }
    const count = saved.files.filter((file) => file.endsWith('.mrc')).length;
    tell(`${count} volumes → explore/volumes/${name}: see Results`);
    saved.notes.forEach((note) => showError(note, note));
    await this.app.results.refresh();
  }

  async savePicture() {
    const isSlices = at('volume-view').value === 'slices';
    if (!isSlices) await this.open();
    const href = isSlices ? slicesPicture(this.made) : await this.view.picture();
    make('a', { href, download: isSlices ? 'slices.png' : 'volumes.png' }).click();
  }

  showStatus(text) {
    at('volume-status').textContent = text;
  }

  list() {
    if (this.path !== null) {
      const clear = make('button', { type: 'button', className: 'chip' });
      clear.append(`${this.path.steps.length} points of ${this.path.name} ×`);
      clear.title = 'Clear';
      on(clear, 'click', () => this.choose([]));
      at('volume-chosen').replaceChildren(clear);
      this.show().catch((error) => showError(error));
      return;
    }
    const chips = this.chosen.map((point, number) => {
      const remove = make('button', { type: 'button', className: 'chip' });
      const dot = make('span', { className: 'dot' });
      dot.style.background = this.colour(number);
      remove.append(dot, `${this.app.numbers[point]} ×`);
      remove.title = `Particle ${this.app.numbers[point]}: leave out`;
      on(remove, 'click', () => this.choose(this.chosen.filter((other) => other !== point)));
      return remove;
    });
    at('volume-chosen').replaceChildren(...chips);
    this.show().catch((error) => showError(error));
  }

}
