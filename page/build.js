// Bundles the page into raydrgn/explore/assets, minified, with the licences of what is in it.
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { build } from 'esbuild';

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
  external: ['/assets/*'], // loaded when they are needed
});
for (const name of ['index.html', 'page.css']) copyFileSync(join('src', name), join(out, name));

// Folders of packages are those up to the last node_modules/NAME of an input's path.
const folders = new Set();
for (const input of Object.keys(metafile.inputs)) {
  const found = input.match(/^(.*node_modules\/(?:@[^/]+\/)?[^/]+)\//);
  if (found) folders.add(found[1]);
}
// The library of points is bundled by its makers, with what it depends on.
const pending = ['regl-scatterplot'];
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
