// Files that a visitor picked, on their way to the engine. Looked at before they are read: a wrong file may be large.

import type { Session as Engine } from '../pkg/centripetal_web.js';
import type { DataInfo, Files, SessionError } from './types.ts';

/** Most bytes of a data set; CIFAR-10 has 180 MB. */
const MOST_BYTES = 512e6;
/** Width and height that pictures are scaled to. */
const SIDE = 32;
const MOST_PICTURES = 60_000;
/** Names that promise a picture. */
const PICTURE = /\.(png|jpe?g|jpe|jfif|webp|gif|bmp)$/i;
/** Folders that hold a split, and that of training among them. */
const SPLIT = /^(train|test|val|valid|validation)$/i;
const TRAIN = /^train$/i;
/** First bytes of pictures that browsers show. */
const MAGIC = ['\x89PNG', '\xff\xd8\xff', 'GIF8', 'RIFF....WEBP'].map((start) => new RegExp(`^${start}`, 's'));
/** What lies behind a transparent pixel, as in the command. */
const PAPER = '#fff';

type Problem = (doing: string, expected: string, found: string, next: string, kind?: string) => SessionError;
type Picked = Files[number];

const pathOf = (file: Picked) => ('webkitRelativePath' in file && file.webkitRelativePath) || file.name;
const sizeOf = (file: Picked) => (file instanceof Blob ? file.size : file.bytes.byteLength);

/** The content of a file, unpacked if it is gzip: the engine leaves that to the browser. */
export async function contentOf(file: Blob, name: string, problem: Problem): Promise<Uint8Array> {
  const start = new Uint8Array(await file.slice(0, 2).arrayBuffer());
  if (start[0] !== 0x1f || start[1] !== 0x8b) return new Uint8Array(await file.arrayBuffer());
  const parts: Uint8Array[] = [];
  let size = 0;
  try {
    const reader = file.stream().pipeThrough(new DecompressionStream('gzip')).getReader();
    for (let next = await reader.read(); !next.done; next = await reader.read()) {
      parts.push(next.value);
      size += next.value.length;
      if (size > MOST_BYTES) break;
    }
  } catch (error) {
    const found = error instanceof Error ? error.message : String(error);
    throw problem(`unpacking ${name}`, 'a sound gzip file', found, 'The file is damaged or cut off: download it again', 'format');
  }
  if (size > MOST_BYTES) throw tooLarge(name, size, problem);
  const content = new Uint8Array(size);
  parts.reduce((at, part) => (content.set(part, at), at + part.length), 0);
  return content;
}

const blobOf = (file: Picked) => (file instanceof Blob ? file : new Blob([file.bytes]));

function tooLarge(names: string, size: number, problem: Problem): SessionError {
  const expected = `a data set of at most ${MOST_BYTES / 1e6} MB`;
  return problem(`reading ${names}`, expected, `${Math.round(size / 1e6)} MB`, 'Pick the files of one data set, or a part of it', 'data');
}

export async function openFiles(
  engine: Engine,
  files: Files,
  problem: Problem,
  progress: (done: number, of: number) => void,
  wasmUrl: string | undefined,
): Promise<DataInfo> {
  // What an archive or a system leaves in folders (.gitkeep) is no part of the data.
  const skipped = files.filter((file) => sizeOf(file) === 0).map(pathOf);
  if (skipped.length < files.length) files = files.filter((file) => sizeOf(file) > 0);
  const listed = files.slice(0, 4).map((file) => file.name).join(', ') || 'no files';
  const size = files.reduce((sum, file) => sum + sizeOf(file), 0);
  if (size > MOST_BYTES) {
    throw tooLarge(listed, size, problem);
  }
  // Content decides, whatever the name; what is named as a picture and is none is left out with a word.
  const pictures: Picked[] = [];
  const others: Picked[] = [];
  files = files.filter((file) => !pathOf(file).split('/').slice(0, -1).some((folder) => folder.startsWith('.') || folder === '__MACOSX'));
  for (const file of files) (PICTURE.test(file.name) || (await isPicture(file)) ? pictures : others).push(file);
  if (pictures.length > 0) return openPictures(engine, pictures, [...skipped, ...others.map(pathOf)], problem, progress, wasmUrl);
  const bytes: Uint8Array[] = [];
  for (const file of files) {
    progress(bytes.length, files.length);
    bytes.push(await contentOf(blobOf(file), file.name, problem));
  }
  progress(files.length, files.length);
  return { ...(engine.useFiles(files.map(pathOf), bytes) as DataInfo), skipped };
}

async function isPicture(file: Picked): Promise<boolean> {
  const start = new Uint8Array(await blobOf(file).slice(0, 12).arrayBuffer());
  const text = String.fromCharCode(...start);
  return MAGIC.some((magic) => magic.test(text));
}

/**
 * A picture as it is to be decoded, and how it is to be turned then. Browsers turn a JPEG as its EXIF says, but not all of them a
 * PNG: its EXIF is left out, and it is turned here.
 */
function upright(bytes: Uint8Array<ArrayBuffer>, orientation: number): { blob: Blob; turn: number } {
  const isPng = bytes[0] === 0x89;
  if (!isPng || orientation <= 1) return { blob: new Blob([bytes]), turn: 1 };
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const parts: Uint8Array<ArrayBuffer>[] = [bytes.subarray(0, 8)];
  for (let at = 8; at + 12 <= bytes.length; ) {
    const end = at + 12 + view.getUint32(at);
    // The name eXIf.
    if (view.getUint32(at + 4) !== 0x65584966) parts.push(bytes.subarray(at, end));
    at = end;
  }
  return { blob: new Blob(parts), turn: orientation };
}

/** By EXIF's orientation: a, b, c, d of the canvas's transformation, and whether it is moved by a side along x and y. */
const TURNS = [
  [1, 0, 0, 1, 0, 0],
  [-1, 0, 0, 1, 1, 0],
  [-1, 0, 0, -1, 1, 1],
  [1, 0, 0, -1, 0, 1],
  [0, 1, 1, 0, 0, 0],
  [0, 1, -1, 0, 1, 0],
  [0, -1, -1, 0, 1, 1],
  [0, -1, 1, 0, 0, 1],
] as const;

/** Pictures in folders: the folder is the class, a folder train or test above it the split. */
async function openPictures(
  engine: Engine,
  pictures: Picked[],
  skipped: string[],
  problem: Problem,
  progress: (done: number, of: number) => void,
  wasmUrl: string | undefined,
): Promise<DataInfo> {
  const doing = pictures.length === 1 ? 'reading one picture' : `reading ${pictures.length} pictures`;
  if (pictures.length > MOST_PICTURES) {
    throw problem(doing, `at most ${MOST_PICTURES}`, String(pictures.length), 'Pick a part of them', 'data');
  }
  const place = (file: Picked) => {
    const folders = pathOf(file).split('/').slice(0, -1);
    // The class is the folder right below that of the split, or else below the folder that was picked, as in the command.
    const split = folders.findIndex((folder) => SPLIT.test(folder));
    const label = split >= 0 ? folders[split + 1] : (folders[1] ?? folders[0]);
    if (label === undefined) {
      throw problem(`reading ${pathOf(file)}`, 'a picture in the folder of its class', 'one beside these folders', 'Put it into the folder of its class', 'data');
    }
    return { file, label: label.normalize('NFC'), test: split >= 0 && !TRAIN.test(folders[split]!) };
  };
  const placed = pictures.map(place).sort((a, b) => Number(a.test) - Number(b.test));
  const classes = [...new Set(placed.map(({ label }) => label))].sort();
  if (classes.length < 2) {
    throw problem(doing, 'folders of pictures, one a class', `${classes.length} folder`, 'Pick the folder that holds the folders', 'data');
  }
  // Without a test split every sixth picture is held out: of all classes, so they must be mixed.
  if (placed.every(({ test }) => test === placed[0]!.test)) mix(placed);
  const plane = SIDE * SIDE;
  const pixels = new Uint8Array(placed.length * 3 * plane);
  const { default: init, inspectPicture } = await import('../pkg/centripetal_pictures.js');
  await init(wasmUrl ? { module_or_path: wasmUrl } : undefined);
  const canvas = new OffscreenCanvas(SIDE, SIDE);
  const context = canvas.getContext('2d', { willReadFrequently: true })!;
  const shown: typeof placed = [];
  for (const [index, one] of placed.entries()) {
    if (index % 50 === 0) progress(index, placed.length);
    const bytes = new Uint8Array(await blobOf(one.file).arrayBuffer());
    // A browser would fill in what is cut short or damaged.
    const seen: number | string = inspectPicture(bytes);
    if (typeof seen === 'string') throw problem(`reading ${pathOf(one.file)}`, 'a whole picture', seen, 'Repair it or leave it out', 'data');
    const { blob, turn } = upright(bytes, seen);
    const bitmap = await createImageBitmap(blob, { imageOrientation: 'from-image' }).catch(() => null);
    if (!bitmap) {
      skipped.push(pathOf(one.file));
      continue;
    }
    context.resetTransform();
    context.fillStyle = PAPER;
    context.fillRect(0, 0, SIDE, SIDE);
    const [a, b, c, d, x, y] = TURNS[turn - 1] ?? TURNS[0];
    context.setTransform(a, b, c, d, x * SIDE, y * SIDE);
    context.drawImage(bitmap, 0, 0, SIDE, SIDE);
    bitmap.close();
    const rgba = context.getImageData(0, 0, SIDE, SIDE).data;
    for (let channel = 0; channel < 3; channel++) {
      const from = (shown.length * 3 + channel) * plane;
      for (let at = 0; at < plane; at++) pixels[from + at] = rgba[at * 4 + channel]!;
    }
    shown.push(one);
  }
  progress(placed.length, placed.length);
  skipped.sort();
  if (shown.length === 0) {
    throw problem(`reading ${skipped.slice(0, 4).join(', ')}`, 'a picture that the browser can show', 'none', 'Leave out what is no picture', 'data');
  }
  const labels = Uint32Array.from(shown, ({ label }) => classes.indexOf(label));
  const name = pathOf(shown[0]!.file).split('/')[0] ?? 'pictures';
  const shape = Uint32Array.of(3, SIDE, SIDE);
  const held = shown.filter(({ test }) => test).length;
  const used = pixels.subarray(0, shown.length * 3 * plane);
  return { ...(engine.useImages(name, shape, classes, used, labels, held === shown.length ? 0 : held) as DataInfo), skipped };
}

/** Shuffles by a fixed sequence: the same files give the same split. */
function mix<T>(values: T[]): void {
  let state = 0x2545f491;
  for (let last = values.length - 1; last > 0; last--) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    const other = state % (last + 1);
    [values[last], values[other]] = [values[other]!, values[last]!];
  }
}
