// Central slices of volumes, all with the same grey levels, and in the same orientation as surfaces.

import { make, short } from './dom.js';

/** What each slice is perpendicular to, and the axes that it shows: across, and upwards. */
const SLICES = [['z', 'x', 'y'], ['y', 'x', 'z'], ['x', 'y', 'z']];

const caption = ([normal, across, up]) => `⊥ ${normal} (${across} →, ${up} ↑)`;

/** In a saved picture: the edge of a slice, and of the margins. */
const EDGE = 256;
const [NAME_WIDTH, LINE] = [130, 22];

/** Of more pixels, each n-th counts for the grey levels. */
const MOST_SORTED = 2e5;

/** Fills an element with a row of three slices for each volume, and says how large and bright. */
export function showSlices(container, volumes) {
  const { rows, scale } = slicesOf(volumes);
  const lines = volumes.map((volume, number) => {
    const pictures = rows[number].map((picture, axis) =>
      make('figure', {}, picture, make('figcaption', {}, caption(SLICES[axis]))),
    );
    const name = make('span', { className: 'slice-name' }, volume.name);
    name.style.borderColor = volume.colour;
    return make('div', { className: 'slice-row' }, name, ...pictures);
  });
  container.replaceChildren(make('p', { className: 'hint' }, scale), ...lines);
}

/** The slices as a data URL of a PNG. */
export function slicesPicture(volumes) {
  const { rows, scale } = slicesOf(volumes);
  const canvas = make('canvas', {
    width: NAME_WIDTH + 3 * EDGE,
    height: rows.length * (EDGE + LINE) + LINE,
  });
  const context = canvas.getContext('2d');
  context.fillStyle = '#ffffff';
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.font = '13px system-ui, sans-serif';
  context.imageSmoothingEnabled = false;
  rows.forEach((row, number) => {
    const top = number * (EDGE + LINE);
    context.fillStyle = volumes[number].colour;
    context.fillRect(0, top, 5, EDGE);
    context.fillStyle = '#1c2126';
    context.fillText(volumes[number].name, 12, top + 16, NAME_WIDTH - 20);
    row.forEach((picture, axis) => {
      const left = NAME_WIDTH + axis * EDGE;
      context.drawImage(picture, left, top, EDGE - 4, EDGE - 4);
      context.fillText(caption(SLICES[axis]), left, top + EDGE + 15);
    });
  });
  context.fillText(scale, NAME_WIDTH, canvas.height - 6);
  return canvas.toDataURL('image/png');
}

/** A canvas for each slice of each volume, and their common scale in words. */
function slicesOf(volumes) {
  const values = volumes.map((volume) => SLICES.map(([normal]) => slice(volume, normal)));
  const [low, high] = greyLevels(values.flat());
  const [{ box, pixelSize }] = volumes;
  return {
    rows: values.map((row) => row.map((found) => draw(found, box, low, high))),
    scale: `edge ${short(box * pixelSize)} Å; black is ${short(low)}, white ${short(high)}`,
  };
}

/** The values that are black and white: one in two hundred is darker, and one brighter. */
function greyLevels(slices) {
  const every = slices.flatMap((found) => [...found]);
  const step = Math.ceil(every.length / MOST_SORTED);
  const some = Float32Array.from(every.filter((_, place) => place % step === 0)).sort();
  return [0.005, 0.995].map((share) => some[Math.round(share * (some.length - 1))]);
}

/** The values of a slice, from the top row to the lowest. */
function slice({ values, box }, normal) {
  const found = new Float32Array(box * box);
  const middle = box >> 1;
  for (let row = 0; row < box; row++) {
    for (let column = 0; column < box; column++) {
      const place = {
        z: (middle * box + row) * box + column,
        y: (row * box + middle) * box + column,
        x: (row * box + column) * box + middle,
      }[normal];
      found[(box - 1 - row) * box + column] = values[place];
    }
  }
  return found;
}

function draw(values, box, low, high) {
  const canvas = make('canvas', { width: box, height: box });
  const image = new ImageData(box, box);
  const span = high - low || 1;
  values.forEach((value, place) => {
    const grey = (255 * (value - low)) / span;
    image.data.set([grey, grey, grey, 255], 4 * place);
  });
  canvas.getContext('2d').putImageData(image, 0, 0);
  return canvas;
}
