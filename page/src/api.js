// Requests to the server, and its answers: JSON, or numbers by name and arrays in one body.

const TYPES = {
  float32: Float32Array,
  float16: Uint16Array,
  uint8: Uint8Array,
  uint32: Uint32Array,
  int32: Int32Array,
};

/** What the server refuses, in its words; `status` is that of HTTP, 0 without an answer. */
export class RequestError extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

async function answer(path, options) {
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new RequestError('The server does not answer. Is `raydrgn explore` still running?', 0);
  }
  if (response.ok) return response;
  let message = `${response.status} ${response.statusText}`;
  const text = await response.text();
  try {
    message = JSON.parse(text).error ?? message;
  } catch {
    const shown = new DOMParser().parseFromString(text, 'text/html').body.textContent.trim();
    message = shown || message;
  }
  throw new RequestError(message, response.status);
}

function unpack(buffer) {
  const length = new DataView(buffer).getUint32(0, true);
  const values = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  const arrays = {};
  for (const [name, { type, shape, offset }] of Object.entries(values.arrays)) {
    const count = shape.reduce((product, size) => product * size, 1);
    arrays[name] = new TYPES[type](buffer, 4 + length + offset, count);
    arrays[name].shape = shape;
  }
  return { ...values, ...arrays };
}

let round = '';

/** Of a project, the round that all later requests are about. */
export function chooseRound(name) {
  round = name;
}

function withQuery(path, query = {}) {
  const given = Object.entries({ round: round || null, ...query });
  const text = new URLSearchParams(given.filter(([, value]) => value !== null)).toString();
  return text ? `${path}?${text}` : path;
}

/** The address of a file of the run's results. */
export const fileOf = (path) => withQuery(`/files/${path}`);

function posted(body) {
  const headers = { 'Content-Type': 'application/json' };
  return { method: 'POST', headers, body: JSON.stringify(body) };
}

export async function getJson(path, query = {}) {
  return (await answer(withQuery(path, query))).json();
}

export async function getArrays(path, query = {}) {
  return unpack(await (await answer(withQuery(path, query))).arrayBuffer());
}

export async function postJson(path, body) {
  return (await answer(withQuery(path), posted(body))).json();
}

export async function postArrays(path, body) {
  return unpack(await (await answer(withQuery(path), posted(body))).arrayBuffer());
}

let halves = null;

/** Numbers of 16 bits as float32. */
export function fromHalf(packed) {
  if (halves === null) {
    halves = new Float32Array(65536);
    for (let bits = 0; bits < 65536; bits++) {
      const exponent = (bits >> 10) & 31;
      const fraction = bits & 1023;
      let value = 2 ** (exponent - 15) * (1 + fraction / 1024);
      if (exponent === 0) value = 2 ** -14 * (fraction / 1024);
      halves[bits] = bits >> 15 ? -value : value;
    }
  }
  return Float32Array.from(packed, (bits) => halves[bits]);
}
