// The plot by keyboard: arrows move a cursor, which chooses and draws as the pointer does.

import { at, hideError, showError } from './dom.js';

const STEP = 10;
const LONG_STEP = 50;
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

const HELP = {
  move: 'Arrows move a cursor, with Shift farther; Enter shows the volume there; + − 0 zoom.',
  rectangle: 'Arrows move a cursor; Enter sets two opposite corners; Escape cancels.',
  lasso: 'Arrows move a cursor; Enter sets a corner, and there once more ends; Escape cancels.',
  path: 'Arrows move a cursor; Enter sets a corner, and there once more ends; Escape cancels.',
};

export class Keyboard {
  /** `onChosen` is called with the particle at the cursor. */
  constructor(app, onChosen) {
    this.app = app;
    this.onChosen = onChosen;
    this.frame = at('frame');
    this.frame.addEventListener('keydown', (event) => this.press(event));
    this.frame.addEventListener('focus', () => this.tell());
    this.frame.addEventListener('blur', () => {
      this.app.overlay.setCursor(null);
      this.app.overlay.cancel();
    });
    document.addEventListener('keydown', ({ key }) => {
      if (key !== 'Escape') return;
      this.app.overlay.cancel();
      hideError();
    });
  }

  /** Shows what the keys do, where the focus came by keyboard. */
  tell() {
    if (this.frame.matches(':focus-visible')) at('hover').textContent = HELP[this.app.overlay.mode];
  }

  press(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const action = this.actionOf(event);
    if (!action) return;
    event.preventDefault();
    Promise.resolve(action()).catch((error) => showError(error));
  }

  actionOf({ key, shiftKey }) {
    const { plot } = this.app;
    if (key in ARROWS) return () => this.move(ARROWS[key], shiftKey ? LONG_STEP : STEP);
    if (key === 'Enter' || key === ' ') return () => this.enter();
    if (key === '+' || key === '=') return () => plot.zoomBy(0.6);
    if (key === '-') return () => plot.zoomBy(1 / 0.6);
    return key === '0' ? () => plot.showAll() : null;
  }

  /** Where the cursor is: at first in the middle. */
  get cursor() {
    const { clientWidth, clientHeight } = this.frame;
    return this.app.overlay.cursor ?? [clientWidth / 2, clientHeight / 2];
  }

  /** Moves the cursor; at an edge, what is shown moves instead. */
  async move([right, down], step) {
    const { clientWidth, clientHeight } = this.frame;
    const [left, top] = this.cursor;
    const wanted = [left + right * step, top + down * step];
    const inside = (value, size) => Math.min(Math.max(value, 0), size - 1);
    const place = [inside(wanted[0], clientWidth), inside(wanted[1], clientHeight)];
    const isAtEdge = place.join() !== wanted.join();
    const isDrawing = this.app.overlay.trail !== null; // its corners are places on the screen
    if (isAtEdge && !isDrawing) await this.app.plot.panBy(right * step, down * step);
    this.app.overlay.setCursor(place);
    if (this.app.overlay.mode === 'move') await this.app.hover.show(this.app.plot.nearest(...place));
  }

  enter() {
    const { overlay, plot } = this.app;
    if (overlay.mode !== 'move') overlay.setCorner(this.cursor);
    else if (overlay.cursor === null) overlay.setCursor(this.cursor);
    else this.onChosen(plot.nearest(...this.cursor));
  }
}
