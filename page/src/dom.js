// Elements of the page.

/** The element with an id. */
export const at = (id) => document.getElementById(id);

/** A new element with properties, and children: elements or text. */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in element) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

/** Shows an error in words above the page, until it is closed or `hideError` is called with it. */
export function showError(error, key = 'error') {
  const text = error instanceof Error ? error.message : String(error);
  const shown = [...at('messages').children].find(({ dataset }) => dataset.key === key);
  if (shown?.dataset.text === text) return; // it need not be read out again
  const close = make('button', { type: 'button', textContent: 'Close' });
  const line = make('p', { className: 'message', role: 'alert' }, text, close);
  line.dataset.key = key;
  line.dataset.text = text;
  close.addEventListener('click', () => line.remove());
  hideError(key);
  at('messages').append(line);
}

export function hideError(key = 'error') {
  for (const line of [...at('messages').children]) if (line.dataset.key === key) line.remove();
}

/** Calls a function when an element is used; what it throws is shown. */
export function on(element, event, action) {
  element.addEventListener(event, async (given) => {
    try {
      hideError();
      await action(given);
    } catch (error) {
      showError(error);
    }
  });
}

/** Takes steps one after the other; one that fails does not keep the others back. */
export async function inTurn(...steps) {
  const errors = [];
  for (const step of steps) await step().catch((error) => errors.push(error));
  if (errors.length) throw errors[0];
}

/** Fills a list of choices, and keeps the one chosen if it is still there; `words` name them. */
export function fill(select, values, chosen = select.value, words = {}) {
  select.replaceChildren(...values.map((value) => make('option', { value, title: value }, words[value] ?? value)));
  if (values.includes(chosen)) select.value = chosen;
}

/** A number for people: no more digits than are needed to tell it from others. */
export function short(value) {
  if (!Number.isFinite(value)) return '–';
  if (Number.isInteger(value) && Math.abs(value) < 1e7) return value.toLocaleString('en');
  return Math.abs(value) >= 1e5 || Math.abs(value) < 1e-3
    ? value.toExponential(2)
    : String(Number(value.toPrecision(4)));
}

/** Sets the size of a canvas in pixels of the screen, and returns its context in CSS pixels. */
export function prepared(canvas) {
  const { width, height } = canvas.getBoundingClientRect();
  const ratio = window.devicePixelRatio || 1;
  canvas.width = Math.max(1, Math.round(width * ratio));
  canvas.height = Math.max(1, Math.round(height * ratio));
  const context = canvas.getContext('2d');
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  return { context, width, height };
}
