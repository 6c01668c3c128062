/** Holds the engine: one WebAssembly module, one call at a time. */

import init, { Engine } from '../pkg/centripetal_lessons.js';
import base from '../data/base.safetensors?url';
import wide from '../data/wide.safetensors?url';

/** Calls that need the trained network and its images. */
const WITH_BASE = new Set(['image', 'layers', 'cluster', 'surgery', 'duel.start', 'sensitivity', 'scale']);
const FILES = ['train-images-idx3-ubyte', 'train-labels-idx1-ubyte', 't10k-images-idx3-ubyte', 't10k-labels-idx1-ubyte'];

let page = '';
let engine: Promise<Engine> | undefined;
let loaded: Promise<void> | undefined;

async function bytes(url: URL): Promise<Uint8Array> {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${url.pathname} could not be loaded (${response.status}). Was the whole folder put on the server?`);
  return new Uint8Array(await response.arrayBuffer());
}

async function unpacked(name: string): Promise<Uint8Array> {
  const packed = await bytes(new URL(`../data/${name}.gz`, page));
  // A server may have unpacked it already.
  if (packed[0] !== 0x1f || packed[1] !== 0x8b) return packed;
  const stream = new Blob([packed as Uint8Array<ArrayBuffer>]).stream().pipeThrough(new DecompressionStream('gzip'));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

async function load(into: Engine): Promise<void> {
  const here = (asset: string) => bytes(new URL(asset, self.location.href));
  const [before, after, ...files] = await Promise.all([here(base), here(wide), ...FILES.map(unpacked)]);
  into.load(before!, after!, FILES, files);
}

/** The GPU where it is asked for and can be opened, else the twins; the page is told why. */
async function open(choice: string): Promise<Engine> {
  await init();
  try {
    return await Engine.open(choice);
  } catch (error) {
    if (choice !== 'gpu') throw error;
    postMessage({ fellBack: said(error) });
    return Engine.open('cpu');
  }
}

const said = (error: unknown) =>
  error && typeof error === 'object' && 'message' in error ? String(error.message) : String(error);

let queue = Promise.resolve();

self.onmessage = ({ data }) => {
  if (data.open) {
    page = data.page;
    engine = open(data.open);
    engine.catch(() => undefined);
    return;
  }
  const { id, name, args, arrays } = data;
  queue = queue.then(async () => {
    try {
      const ready = await engine!;
      if (WITH_BASE.has(name)) {
        loaded ??= load(ready).catch((error: unknown) => {
          // The next call tries again.
          loaded = undefined;
          throw error;
        });
        await loaded;
      }
      const answer = await ready.call(name, args, arrays);
      postMessage({ id, answer });
    } catch (error) {
      postMessage({ id, error: said(error), fatal: error instanceof WebAssembly.RuntimeError });
    }
  });
};
