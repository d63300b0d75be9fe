// Bundles the page into raydrgn/explore/assets, minified, with the licences of what is in it.
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { build } from 'esbuild';

// regl compiles text with `Function`, which the page's policy does not allow.
const withoutFunction = {
  name: 'without-function',
  setup({ onLoad }) {
    onLoad({ filter: /node_modules.regl.dist.regl\.js$/ }, ({ path }) => {
      const parts = readFileSync(path, 'utf8').split('Function.apply(null, linkedNames.concat(src))');
      if (parts.length !== 2) throw new Error(`${path} compiles its commands in another way`);
      const head = `var compiled = require(${JSON.stringify(resolve('src', 'compiled.js'))}).compiled;\n`;
      return { contents: head + parts.join('compiled(linkedNames, src)'), loader: 'js' };
    });
  },
};

const out = join('..', 'raydrgn', 'explore', 'assets');
mkdirSync(out, { recursive: true });
const { metafile } = await build({
  entryPoints: { page: 'src/main.js', surface: 'src/surface.js', cubes: 'src/cubes.js' },
  outdir: out,
  bundle: true,
  minify: true,
  format: 'esm',
  target: 'es2022',
  charset: 'utf8',
  legalComments: 'none',
  metafile: true,
  plugins: [withoutFunction],
  external: ['/assets/*'], // loaded when they are needed
});
for (const file of Object.keys(metafile.outputs)) {
  if (/\bFunction\s*(\.apply|\.call)?\(|\beval\(/.test(readFileSync(file, 'utf8'))) {
    throw new Error(`${file} compiles text, which the page's policy does not allow`);
  }
}
for (const name of ['index.html', 'page.css']) copyFileSync(join('src', name), join(out, name));

// Folders of packages are those up to the last node_modules/NAME of an input's path.
const folders = new Set();
for (const input of Object.keys(metafile.inputs)) {
  const found = input.match(/^(.*node_modules\/(?:@[^/]+\/)?[^/]+)\//);
  if (found) folders.add(found[1]);
}
// These are bundled by their makers, with what they depend on.
const pending = ['regl-scatterplot', 'sval'];
while (pending.length) {
  const folder = join('node_modules', pending.pop());
  const { dependencies = {} } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'));
  folders.add(folder);
  pending.push(...Object.keys(dependencies));
}
const names = ['LICENSE', 'LICENSE.md', 'LICENSE.txt', 'LICENCE', 'license', 'License.md', 'README.md'];
const parts = [...folders].sort().map((folder) => {
  const about = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'));
  let text = '';
  for (const name of names) {
    try {
      text = readFileSync(join(folder, name), 'utf8');
      break;
    } catch {
      continue;
    }
  }
  return `${about.name} ${about.version} (${about.license})\n\n${text.trim()}\n`;
});
writeFileSync(join(out, 'LICENSES.txt'), parts.join(`\n${'-'.repeat(80)}\n\n`));
