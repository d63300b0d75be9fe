// The panel of volumes: particles that were chosen, their volumes, and how these are shown.

import { fromHalf, postArrays, postJson } from './api.js';
import { classColour } from './colours.js';
import { at, make, on, short, showError } from './dom.js';
import { showSlices } from './slices.js';

const MOST = 16;
const FILM_MS = 400;

export class Volumes {
  /** `onChosen` is called with the particles that are chosen, and their colours. */
  constructor(app, onChosen) {
    this.app = app;
    this.onChosen = onChosen;
    this.page = crypto.randomUUID();
    this.number = 0;
    this.chosen = [];
    this.made = [];
    this.frame = 0;
    this.film = null;
    this.view = null;
    this.isDrawing = false;
    this.isStale = false;
    this.level = 3;
    on(at('volume-level'), 'input', () => this.setLevel(Number(at('volume-level').value)));
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
    this.chosen = points.slice(-MOST);
    this.isPath = isPath;
    this.made = [];
    this.stop();
    this.list();
    this.onChosen(this.marks(), isPath);
    await this.decode();
  }

  async add(point) {
    const others = this.chosen.filter((other) => other !== point);
    await this.choose(at('choose-several').checked ? [...others, point] : [point]);
  }

  colour(number) {
    return classColour(number);
  }

  marks() {
    return this.chosen.map((point, number) => ({ point, colour: this.colour(number) }));
  }

  /** Decodes a preview, then the volumes in full; a later call takes the place of this one. */
  async decode() {
    const number = ++this.number;
    if (!this.chosen.length || !this.app.facts.has_volumes) {
      await this.show();
      return;
    }
    const rows = this.chosen.map((point) => this.app.rows[point]);
    const sizes = this.app.facts.box > 32 ? ['preview', 'full'] : ['full'];
    for (const size of sizes) {
      this.showStatus(size === 'preview' ? 'Decoding a preview…' : 'Decoding…');
      let found;
      try {
        const order = { epoch: this.app.epoch, page: this.page, number, rows, size };
        found = await postArrays('/api/volumes', order);
      } catch (error) {
        if (error.status === 409 || number !== this.number) return;
        this.showStatus('');
        throw error;
      }
      if (number !== this.number) return;
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
      sd: found.sd[number],
      colour: this.colour(number),
      name: String(this.app.numbers[this.chosen[number]]),
    }));
  }

  setLevel(level) {
    this.level = level;
    this.show();
  }

  async show() {
    const view = at('volume-view').value;
    const isFilm = view === 'film';
    const has = this.made.length > 0;
    at('film').hidden = !isFilm || !has;
    at('film-frame').max = Math.max(0, this.made.length - 1);
    at('volume-slices').hidden = view !== 'slices' || !has;
    at('volume-surface').hidden = view === 'slices' || !has;
    at('volume-empty').hidden = has;
    at('volume-empty').textContent = this.app.facts.has_volumes
      ? 'Click a point in the plot, or draw a path through it: its volumes appear here.'
      : 'A file of latents has no weights, so there are no volumes.';
    for (const id of ['volume-picture', 'volume-save-button']) at(id).disabled = !has;
    if (!has) return;
    const level = this.level * this.made[0].sd;
    at('volume-level-text').textContent = `${this.level.toFixed(1)} SD = ${short(level)}`;
    if (view === 'slices') {
      showSlices(at('volume-slices'), this.made);
      return;
    }
    if (isFilm) at('film-frame').value = this.frame;
    const shown = isFilm ? [this.made[Math.min(this.frame, this.made.length - 1)]] : this.made;
    if (this.isDrawing) {
      this.isStale = true; // drawn again at the end: the slider moves faster than surfaces are made
      return;
    }
    this.isDrawing = true;
    let triangles;
    try {
      await this.open();
      triangles = await this.view.show(shown, level, view === 'side');
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
    const rows = this.chosen.map((point) => this.app.rows[point]);
    const name = at('volume-name').value;
    this.showStatus('Decoding and writing…');
    const colours = rows.map((_, number) => this.colour(number));
    const request = { epoch: this.app.epoch, rows, name, level_sd: this.level, colours };
    const saved = await postJson('/api/save-volumes', request);
    const count = saved.files.filter((file) => file.endsWith('.mrc')).length;
    this.showStatus(`${count} volumes → explore/volumes/${name}: see Results`);
    saved.notes.forEach((note) => showError(note, note));
    await this.app.refreshResults();
  }

  async savePicture() {
    await this.open();
    const link = make('a', { href: await this.view.picture(), download: 'volumes.png' });
    link.click();
  }

  showStatus(text) {
    at('volume-status').textContent = text;
  }

  list() {
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
