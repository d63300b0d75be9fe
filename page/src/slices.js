// Central slices of volumes, all with the same grey levels.

import { make } from './dom.js';

const AXES = ['z', 'y', 'x'];

/** Fills an element with a row of three slices for each volume. */
export function showSlices(container, volumes) {
  let low = Infinity;
  let high = -Infinity;
  const rows = volumes.map((volume) => AXES.map((axis) => slice(volume, axis)));
  for (const value of rows.flat().flatMap((values) => [...values])) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  container.replaceChildren(
    ...volumes.map((volume, number) => {
      const pictures = rows[number].map((values, axis) => {
        const picture = draw(values, volume.box, low, high);
        picture.title = `perpendicular to ${AXES[axis]}`;
        return make('figure', {}, picture, make('figcaption', {}, `⊥ ${AXES[axis]}`));
      });
      const name = make('span', { className: 'slice-name' }, volume.name);
      name.style.borderColor = volume.colour;
      return make('div', { className: 'slice-row' }, name, ...pictures);
    }),
  );
}

function slice({ values, box }, axis) {
  const found = new Float32Array(box * box);
  const middle = box >> 1;
  for (let row = 0; row < box; row++) {
    for (let column = 0; column < box; column++) {
      const place = {
        z: (middle * box + row) * box + column,
        y: (row * box + middle) * box + column,
        x: (row * box + column) * box + middle,
      }[axis];
      found[row * box + column] = values[place];
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
