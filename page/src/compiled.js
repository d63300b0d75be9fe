// Runs what regl writes: it makes a program of text for each of its drawing commands. `Function`
// would need 'unsafe-eval' in the page's policy; an interpreter does not, and these programs are
// short: they set what WebGL is to draw, which then draws all points at once.

import Sval from 'sval';

/** The function with these names of arguments and this text. */
export function compiled(names, text) {
  const interpreter = new Sval({ ecmaVer: 5, sourceType: 'script', sandBox: true });
  interpreter.run(`exports.made = function (${names.join(', ')}) {${text}};`);
  return interpreter.exports.made;
}
