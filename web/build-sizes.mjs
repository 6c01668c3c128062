// What a visitor loads, compressed, against limits in bytes:
//   node build-sizes.mjs trainer MODULE LIMIT            fails when the trainer's module is over it
//   node build-sizes.mjs page FOLDER FIRST-LOAD TRAINER  prints every file, and fails over either
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { extname, join, relative } from 'node:path';
import { gzipSync } from 'node:zlib';

const [what, place, ...limits] = process.argv.slice(2);
const files = (folder) =>
  readdirSync(folder).flatMap((name) => {
    const path = join(folder, name);
    return statSync(path).isDirectory() ? files(path) : [path];
  });
const compressed = (path) => gzipSync(readFileSync(path), { level: 9 }).length;
const kilobytes = (bytes) => `${(bytes / 1000).toFixed(1).padStart(8)} kB`;

/** Prints `bytes`; over the limit the build ends. */
function check(name, bytes, limit) {
  console.log(`${kilobytes(bytes)}  ${name} (at most ${kilobytes(Number(limit)).trim()})`);
  if (bytes <= Number(limit)) return;
  console.error(`web/build: ${name}: ${bytes - Number(limit)} bytes over the limit`);
  process.exit(1);
}

if (what === 'trainer') {
  check('the trainer, compressed (gzip -9)', compressed(place), limits[0]);
} else {
  const sizes = files(place)
    .map((path) => ({ name: relative(place, path), path }))
    .filter(({ name }) => !name.startsWith('data/'))
    .map(({ name, path }) => ({ name, bytes: compressed(path) }))
    .sort((a, b) => b.bytes - a.bytes);
  const sum = (of) => of.reduce((total, { bytes }) => total + bytes, 0);
  const ofLessons = ({ name }) => name.startsWith('lessons/');
  console.log('compressed (gzip -9):');
  for (const { name, bytes } of sizes.filter((file) => !ofLessons(file))) console.log(`${kilobytes(bytes)}  ${name}`);
  console.log(`${kilobytes(sum(sizes.filter(ofLessons)))}  lessons, all of them`);
  // Images, licences, the self-test, what looks through a visitor's pictures, and the lessons are not of the first load.
  const later = ({ name }) => name.includes('selftest') || name.includes('centripetal_pictures');
  const loaded = ['.html', '.js', '.css', '.wasm', '.svg'];
  const first = sizes.filter((file) => loaded.includes(extname(file.name)) && !later(file) && !ofLessons(file));
  check('first load without the data', sum(first), limits[0]);
  check('the trainer', sum(first.filter(({ name }) => name.endsWith('.wasm'))), limits[1]);
}
