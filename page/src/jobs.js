// Commands: forms that stand for a command line, jobs with their progress and logs.

import { getJson, postJson } from './api.js';
import { at, make, on, short, showError } from './dom.js';

const WAIT_MS = 250;

export class Jobs {
  constructor(app) {
    this.app = app;
    this.forms = null;
    this.log = null;
    this.running = new Set();
    this.isKnown = false;
    this.isStarting = false;
    this.number = 0;
    this.listNumber = 0;
    this.entries = new Map(); // of each job: what was known of it, and its place in the list
    on(at('job-form-name'), 'change', () => this.choose(at('job-form-name').value));
    on(at('job-form'), 'submit', (event) => this.start(event));
    at('job-form').addEventListener('input', () => this.changed());
    on(at('job-log-close'), 'click', () => this.showLog(null));
  }

  /** Shows the form of a command, with some of its fields filled in. */
  async open(name, filled = {}) {
    this.app.showTab('jobs');
    await this.load();
    at('job-form-name').value = name;
    await this.choose(name, filled);
  }

  /** Takes the forms of another round: what was filled in was about the one before. */
  async changeRound() {
    const name = at('job-form-name').value;
    this.forms = null;
    if (name) await this.choose(name);
  }

  /** Takes the epoch that is shown now, where the form has the one shown before. */
  async changeEpoch(before) {
    const input = at('job-fields').querySelector('[data-field=epoch]');
    if (input?.value !== String(before)) return;
    input.value = String(this.app.epoch);
    await this.change();
  }

  /** Reads the forms, once for a round. */
  async load() {
    if (this.forms !== null) return;
    const { forms } = await getJson('/api/forms');
    this.forms = new Map(forms.map((form) => [form.name, form]));
    const names = [...this.forms.keys()].sort();
    const head = new Option('choose a command', '');
    const chosen = at('job-form-name').value;
    at('job-form-name').replaceChildren(head, ...names.map((name) => new Option(name, name)));
    at('job-form-name').value = this.forms.has(chosen) ? chosen : '';
  }

  async choose(name, filled = {}) {
    await this.load();
    const chosen = at('job-form-name').value;
    if (chosen && chosen !== name) return null; // another one was chosen since
    const form = this.forms.get(name);
    at('job-fields').hidden = !form;
    at('job-help').textContent = form ? form.help : '';
    if (!form) return this.change();
    const given = { epoch: this.app.epoch === null ? '' : String(this.app.epoch), ...filled };
    const free = form.fields.filter((field) => !(field.name in form.fixed));
    const isArgument = (field) => !field.option.startsWith('-');
    const isFirst = (field) => field.is_required || field.name in filled || isArgument(field);
    const rows = (fields) => fields.map((field) => fieldOf(field, given[field.name]));
    const more = make('details', {}, make('summary', {}, 'More settings'));
    more.open = !free.some((field) => field.is_required) && !Object.keys(filled).length;
    more.append(...rows(free.filter((field) => !isFirst(field))));
    at('job-fields').replaceChildren(...rows(free.filter(isFirst)), more);
    return this.change();
  }

  changed() {
    clearTimeout(this.wait);
    this.wait = setTimeout(() => this.change().catch((error) => showError(error)), WAIT_MS);
  }

  filled() {
    const inputs = at('job-fields').querySelectorAll('[data-field]');
    return Object.fromEntries(
      [...inputs].map((input) => [
        input.dataset.field,
        input.type === 'checkbox' ? input.checked : input.value,
      ]),
    );
  }

  /** Shows the command that the form stands for, or what is wrong with it; until then, the last. */
  async change() {
    const number = ++this.number;
    const name = at('job-form-name').value;
    at('job-start').disabled = true;
    let made = { command: '', problem: '' };
    try {
      if (name) made = await postJson('/api/command', { name, filled: this.filled() });
    } finally {
      if (number === this.number) {
        at('job-command').replaceChildren(...wordsOf(made.command));
        at('job-problem').textContent = made.problem;
        at('job-start').disabled = !made.command || Boolean(made.problem) || this.isStarting;
      }
    }
  }

  async start(event) {
    event.preventDefault();
    const name = at('job-form-name').value;
    this.isStarting = true;
    at('job-start').disabled = true;
    try {
      const { deleted } = await postJson('/api/command', { name, filled: this.filled() });
      if (deleted && !confirm(deleted)) return;
      const { id } = await postJson('/api/start', { name, filled: this.filled() });
      this.log = id;
      await this.refresh();
    } finally {
      this.isStarting = false;
      await this.change();
    }
  }

  /** Whether jobs change, are looked at, or are not known yet. */
  get isBusy() {
    return !this.isKnown || this.running.size > 0 || !at('tab-jobs').hidden;
  }

  async refresh() {
    const number = ++this.listNumber;
    const { dashboard, problem, jobs } = await getJson('/api/jobs');
    if (number !== this.listNumber) return;
    this.isKnown = true;
    at('job-dashboard').hidden = !dashboard;
    at('job-dashboard').href = dashboard ?? '';
    at('job-dashboard').title = dashboard ?? '';
    at('job-cluster-problem').textContent = problem;
    this.list(jobs);
    const own = jobs.filter((job) => job.is_own && job.exit_code === null);
    const ended = [...this.running].filter((id) => !own.some((job) => job.id === id));
    if (!problem) this.running = new Set(own.map(({ id }) => id)); // else they are not known
    const [first] = own;
    at('task').textContent = first ? `${first.command.split(' ')[1]}${share(first.progress)}` : '';
    if (ended.length && !problem) await this.app.refresh();
    try {
      await this.refreshLog();
    } catch (error) {
      this.log = null; // or it would fail again with each refresh
      showError(error);
    }
  }

  /** Lists jobs; what has not changed stays as it is, with the focus of the keyboard. */
  list(jobs) {
    const list = at('job-list');
    const before = this.entries;
    this.entries = new Map(
      jobs.map((job) => {
        const text = JSON.stringify(job);
        const known = before.get(job.id);
        return [job.id, known?.text === text ? known : { text, line: this.entry(job) }];
      }),
    );
    const same = [...before.keys()].join() === [...this.entries.keys()].join();
    if (!same || !jobs.length) {
      list.replaceChildren(...[...this.entries.values()].map(({ line }) => line));
      if (!jobs.length) list.append(make('li', { className: 'hint' }, 'none yet'));
      return;
    }
    for (const [id, { line }] of this.entries) {
      if (before.get(id).line !== line) before.get(id).line.replaceWith(line);
    }
  }

  entry(job) {
    const state = job.is_stopping ? 'STOPPING' : job.status;
    const code = job.exit_code ? `, exit code ${job.exit_code}` : '';
    const took = job.seconds === null ? '' : `, ${clock(job.seconds)}`;
    const head = make('div', { className: 'row' });
    const status = make('b', { className: `state ${state.toLowerCase()}` }, state.toLowerCase());
    const log = make('button', { type: 'button' }, 'Log');
    on(log, 'click', () => this.showLog(job.id));
    const whose = job.is_own || !job.owner ? '' : `, ${job.owner}`;
    head.append(status, make('span', { className: 'count' }, `${code}${took}${whose}`.replace(/^, /, '')));
    head.append(make('span', { className: 'space' }), log);
    if (job.is_own && job.exit_code === null) {
      const stop = make('button', { type: 'button', disabled: job.is_stopping }, 'Stop');
      stop.title = 'As Ctrl-C would: training keeps a checkpoint';
      on(stop, 'click', async () => {
        stop.disabled = true; // a second one would end a training without a checkpoint
        try {
          await postJson('/api/stop', { id: job.id });
        } catch (error) {
          stop.disabled = false;
          throw error;
        }
        await this.refresh();
      });
      head.append(stop);
    }
    const line = make('li', {}, head, make('code', { title: job.command }, job.command));
    line.dataset.job = job.id;
    if (job.progress) {
      const { what, done, total, extra, seconds_left: left } = job.progress;
      const rest = left === null || done >= total ? '' : `, ${clock(left)} left`;
      const text = `${what} ${short(done)}/${short(total)}${rest} ${extra}`;
      line.append(make('progress', { max: total || 1, value: done, 'aria-label': what }), make('div', { className: 'count' }, text));
    } else if (job.waits) line.append(make('div', { className: 'count' }, job.waits));
    return line;
  }

  async showLog(id) {
    this.log = id;
    await this.refreshLog();
  }

  async refreshLog() {
    at('job-log-part').hidden = this.log === null;
    if (this.log === null || at('tab-jobs').hidden) return;
    const id = this.log;
    const { text } = await getJson('/api/job-log', { id });
    if (id !== this.log) return; // another log was opened since
    const box = at('job-log');
    const isAtEnd = box.scrollHeight - box.scrollTop - box.clientHeight < 20;
    at('job-log-name').textContent = id;
    if (box.textContent !== text) box.textContent = text;
    if (isAtEnd) box.scrollTop = box.scrollHeight;
  }
}

/** A command in words, each of which goes to the next line whole: an option has hyphens. */
function wordsOf(command) {
  if (!command) return [];
  return command.split(' ').flatMap((word, n) => [n ? ' ' : '', make('span', {}, word)]);
}

/** A row of a form: the name of an option, its input, and what it is. */
function fieldOf(field, value) {
  const id = `field-${field.name}`;
  let input;
  if (field.is_flag) {
    input = make('input', { type: 'checkbox', checked: value ?? field.default ?? false });
  } else if (field.choices.length) {
    input = make('select', {}, new Option(field.default ?? 'not given', ''));
    for (const choice of field.choices) {
      if (choice !== field.default) input.append(new Option(choice, choice));
    }
    input.value = value ?? '';
  } else {
    input = make('input', { type: 'text', placeholder: field.default ?? '', value: value ?? '' });
    input.autocomplete = 'off';
  }
  input.id = id;
  input.dataset.field = field.name;
  const help = make('span', { className: 'hint', id: `${id}-help` }, field.help);
  input.setAttribute('aria-describedby', `${id}-help`);
  const label = make('label', { htmlFor: id }, make('code', {}, field.option));
  return make('div', { className: field.is_flag ? 'setting flag' : 'setting' }, label, input, help);
}

function share(progress) {
  return progress?.total ? ` ${Math.round((100 * progress.done) / progress.total)} %` : '';
}

function clock(seconds) {
  const whole = Math.round(seconds);
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60];
  const two = (number) => String(number).padStart(2, '0');
  return hours ? `${hours}:${two(minutes)}:${two(whole % 60)}` : `${minutes}:${two(whole % 60)}`;
}
