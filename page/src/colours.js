// Colours that people with any colour vision tell apart: Okabe and Ito's and Tol's for classes, and
// darker shades of them from the thirteenth on; viridis for numbers.

import { make, short } from './dom.js';

const SHADE = 0.4;
const TWELVE = {
  light: [
    '#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9',
    '#332288', '#999933', '#882255', '#117733', '#aa4499', '#666666',
  ],
  dark: [
    '#56b4e9', '#e69f00', '#00c793', '#e69ac4', '#f0e442', '#ff7f50',
    '#8f7bff', '#999933', '#ee8899', '#7fd68a', '#d58ae0', '#bbbbbb',
  ],
};
const CLASSES = Object.fromEntries(
  Object.entries(TWELVE).map(([theme, first]) => [
    theme,
    [...first, ...first.map((colour) => mixed(colour, '#000000', SHADE))],
  ]),
);

const VIRIDIS = [
  '#440154', '#481d6f', '#453581', '#3d4d8a', '#34618d', '#2b748e', '#24878e', '#1f998a',
  '#25ac82', '#40bd72', '#67cc5c', '#98d83e', '#cde11d', '#fde725',
];

export const isDark = () => document.documentElement.dataset.theme === 'dark';

export const background = () => (isDark() ? '#15181c' : '#ffffff');

/** The colour of a class, counted from 0; after twenty-four they come again. */
export function classColour(number) {
  const all = isDark() ? CLASSES.dark : CLASSES.light;
  return all[((number % all.length) + all.length) % all.length];
}

/** The colour of particles without a value, and of classes that are not listed. */
export const noColour = () => (isDark() ? '#5a5a5a' : '#c8c8c8');

/** The colours of classes, and after them that of no class. */
export const classColours = () => [...(isDark() ? CLASSES.dark : CLASSES.light), noColour()];

/** Colours from the lowest number to the highest; on white the palest end is left out. */
export function scaleColours() {
  const used = isDark() ? VIRIDIS.slice(2) : VIRIDIS.slice(0, -1);
  const colours = [];
  for (let step = 0; step < 128; step++) {
    const place = (step / 127) * (used.length - 1);
    const first = Math.min(Math.floor(place), used.length - 2);
    colours.push(mixed(used[first], used[first + 1], place - first));
  }
  return colours;
}

/** The colour of the n-th of some volumes that follow each other; the darkest hide their shading. */
export function orderColour(number, count) {
  const colours = scaleColours().slice(20);
  return colours[Math.round((number / Math.max(count - 1, 1)) * (colours.length - 1))];
}

export function channels(colour) {
  return [1, 3, 5].map((start) => parseInt(colour.slice(start, start + 2), 16));
}

function mixed(first, second, share) {
  const [from, to] = [channels(first), channels(second)];
  const values = from.map((value, axis) => Math.round(value + share * (to[axis] - value)));
  return `#${values.map((value) => value.toString(16).padStart(2, '0')).join('')}`;
}

/** The colours of numbers, as a background. */
export const gradient = () => `linear-gradient(to right, ${scaleColours().join(', ')})`;

/** The scale of a column, with its ends, and how many particles have no value. */
export function colourBar(column) {
  const bar = make('div', { className: 'bar' });
  bar.style.background = gradient();
  const ends = make('div', { className: 'ends' });
  ends.append(make('span', {}, short(column.from)), make('span', {}, short(column.to)));
  const found = make('div', {}, bar, ends);
  if (column.without_value) {
    const dot = make('span', { className: 'dot' });
    dot.style.background = noColour();
    found.append(dot, ` no value: ${column.without_value.toLocaleString('en')}`);
  }
  return found;
}
