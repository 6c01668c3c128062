// Prints what a visitor loads, compressed, and fails above the limits given in bytes: of the first load, of the trainer.
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { extname, join, relative } from 'node:path';
import { gzipSync } from 'node:zlib';

const [firstLoadLimit, wasmLimit] = process.argv.slice(2).map(Number);
const dist = new URL('dist/', import.meta.url).pathname;
const files = (folder) =>
  readdirSync(folder).flatMap((name) => {
    const path = join(folder, name);
    return statSync(path).isDirectory() ? files(path) : [path];
  });
const compressed = (path) => gzipSync(readFileSync(path), { level: 9 }).length;
const kilobytes = (bytes) => `${(bytes / 1000).toFixed(1).padStart(8)} kB`;

const sizes = files(dist)
  .filter((path) => !relative(dist, path).startsWith('data/'))
  .map((path) => ({ path: relative(dist, path), bytes: compressed(path) }))
  .sort((a, b) => b.bytes - a.bytes);
console.log('compressed (gzip -9):');
const ofLessons = ({ path }) => path.startsWith('lessons/');
for (const { path, bytes } of sizes.filter((file) => !ofLessons(file))) console.log(`${kilobytes(bytes)}  ${path}`);
console.log(`${kilobytes(sizes.filter(ofLessons).reduce((sum, { bytes }) => sum + bytes, 0))}  lessons, all of them`);
// Pictures, licences, the self-test and the lessons are not of the first load.
const first = sizes.filter(({ path }) => ['.html', '.js', '.css', '.wasm', '.svg'].includes(extname(path)) && !path.includes('selftest') && !ofLessons({ path }));
const total = first.reduce((sum, { bytes }) => sum + bytes, 0);
const wasm = first.filter(({ path }) => path.endsWith('.wasm')).reduce((sum, { bytes }) => sum + bytes, 0);
console.log(`${kilobytes(total)}  first load without the data (at most ${kilobytes(firstLoadLimit).trim()})`);
console.log(`${kilobytes(wasm)}  the trainer (at most ${kilobytes(wasmLimit).trim()})`);
if (total > firstLoadLimit || wasm > wasmLimit) {
  console.error('web/build: over the limit');
  process.exit(1);
}
