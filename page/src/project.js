// A project: its rounds, and the answer to what it waits for.

import { getJson, postJson } from './api.js';
import { at, fill, hideError, on, showError } from './dom.js';

export class Project {
  constructor(app) {
    this.app = app;
    on(at('rounds'), 'change', () => this.app.openRound());
    on(at('pause-show'), 'click', () => this.showProposal());
    on(at('pause-answer'), 'click', () => this.answer());
    on(at('pause-go-on'), 'click', () => this.app.jobs.open('protocol'));
  }

  /** Takes what the server knows of the project; null where a run was opened. */
  take(project, round) {
    at('rounds').parentElement.hidden = !project;
    this.pause = project?.pause ?? null;
    at('pause').hidden = !this.pause;
    if (!project) return;
    const listed = [...at('rounds').options].map(({ value }) => value);
    if (listed.join() !== project.rounds.join()) {
      fill(at('rounds'), project.rounds, listed.length ? at('rounds').value : round);
    }
    if (!this.pause) return;
    const { summary, answer, report, round: number } = this.pause;
    at('pause-text').textContent = answer
      ? `Round ${number}: ${answer}.`
      : `The project waits at round ${number}. ${summary}`;
    at('pause-report').href = `/files/${report}`;
    at('pause-go-on').hidden = !answer;
    at('pause-go-on').disabled = !this.app.canStart;
    at('pause-go-on').title = this.pause.go_on;
    this.listAnswers().then(
      () => hideError('answers'),
      (error) => showError(error, 'answers'),
    );
  }

  /** Lists what can be answered: what is proposed, or a saved selection of that round. */
  async listAnswers() {
    if (this.pause === null) return;
    const { round } = this.pause;
    const { selections } = await getJson('/api/results', { round });
    if (this.pause?.round !== round) return;
    const chosen = at('pause-choice').value;
    const options = selections.map(({ name, count }) => new Option(`keep ${name} (${count})`, name));
    const listed = [...at('pause-choice').options].slice(1).map(({ text }) => text);
    if (listed.length && listed.join() === options.map(({ text }) => text).join()) return;
    at('pause-choice').replaceChildren(new Option('drop what is proposed', ''), ...options);
    at('pause-choice').value = selections.some(({ name }) => name === chosen) ? chosen : '';
  }

  /** Selects what is proposed to be kept, to be changed and saved. */
  async showProposal() {
    const { round, conditions } = this.pause;
    if (this.app.round !== round || this.app.opening) {
      at('rounds').value = round;
      await this.app.openRound();
      if (at('rounds').value !== round) return;
    }
    await this.app.selection.load(conditions);
  }

  async answer() {
    const { key } = this.pause; // of the proposal that was read
    at('pause-answer').disabled = true;
    try {
      await postJson('/api/answer', { key, selection: at('pause-choice').value || null });
      await this.app.askStatus();
    } finally {
      at('pause-answer').disabled = false;
    }
    if (this.app.canStart) await this.app.jobs.open('protocol');
  }
}
