/// <reference lib="webworker" />
// The worker: owns WebAssembly, the device, the data and the networks. One request at a time; training goes on between them
// in chunks, so that a request waits a fifth of a second at most.

import init, { lastPanic, Session as Engine } from '../pkg/centripetal_web.js';
import { contentOf, openFiles } from './files.ts';
import type { DeviceChoice, DeviceInfo, Files, Loaded, Progress, SessionError, SessionEvents, Settings, TrainOptions } from './types.ts';

/** Milliseconds from one progress to the next. */
const LOOK_EVERY = 180;
/** Milliseconds from one noted state to the next, and how often what it costs: a slow device must not do little else. */
const KEEP_EVERY = 4000;
const KEEP_SHARE = 8;
/** After so many milliseconds without a request the state after single steps is noted. */
const IDLE = 150;
/** Two losses of the device within so many milliseconds are enough of it. */
const PATIENCE = 60_000;
/** Most steps between two looks. */
const MOST_STEPS = 1000;

interface Options {
  device: DeviceChoice;
  wasmUrl?: string;
  picturesWasmUrl?: string;
  dataUrl: string;
}

interface Request {
  id: number;
  method: string;
  args: unknown[];
}

/** `Progress` as the engine gives it: without rates, and with a note whether C-SGD is done. */
type Look = Omit<Progress, 'imagesPerSecond' | 'stepsPerSecond' | 'validation'> & { collapsed: boolean };

const scope = self as unknown as DedicatedWorkerGlobalScope;
const requests: Request[] = [];
const losses: number[] = [];
let options: Options;
let engine: Engine;
let device: DeviceInfo;
let choice: DeviceChoice;
let training = false;
let working = false;
let crashed: SessionError | undefined;
let chunk = 1;
let stepped = 0;
let validation: number | null = null;
let kept = 0;
let keepEvery = KEEP_EVERY;
let unkept = false;
let idle: ReturnType<typeof setTimeout> | undefined;
/** Least milliseconds for a step of C-SGD, and when the next chunk may begin. */
let pace = 0;
let due = 0;
let looked = 0;
/** The measured variants of kernels; undefined where none are measured. */
let tuning: string | undefined;
let settings: Settings | undefined;

function emit<K extends keyof SessionEvents>(event: K, data: SessionEvents[K]): void {
  scope.postMessage({ event, data });
}

/** Lets messages in: tasks run, not only promises. */
const breathe = (() => {
  const { port1, port2 } = new MessageChannel();
  const waiting: (() => void)[] = [];
  port1.onmessage = () => waiting.shift()?.();
  return () =>
    new Promise<void>((resolve) => {
      waiting.push(resolve);
      port2.postMessage(0);
    });
})();

function problem(doing: string, expected: string, found: string, next: string, kind = 'argument'): SessionError {
  return { kind, doing, expected, found, next, message: `${doing}: expected ${expected}, found ${found}. ${next}` };
}

/** Whatever was thrown, as an error that a page can show. */
function explained(thrown: unknown): SessionError {
  if (thrown instanceof WebAssembly.RuntimeError) {
    const text = lastPanic() ?? thrown.message;
    crashed = problem('running the trainer', 'no defect', text, 'This is a defect of Centripetal: please report it, and open the page again', 'defect');
    return crashed;
  }
  if (typeof thrown === 'object' && thrown !== null && 'doing' in thrown) return thrown as SessionError;
  const found = thrown instanceof Error ? thrown.message : String(thrown);
  return problem('running the session', 'an answer', found, 'Open the page again', 'defect');
}

/** The device as the engine and the browser know it: the engine does not see vendor and architecture. */
async function describe(): Promise<DeviceInfo> {
  const info = engine.device() as DeviceInfo;
  if (info.kind === 'cpu') return info;
  const adapter = await navigator.gpu.requestAdapter({ powerPreference: 'high-performance' });
  const { vendor = '', architecture = '', device = '', description = '' } = adapter?.info ?? {};
  const name = description || [vendor, architecture, device].filter(Boolean).join(' ') || 'a WebGPU adapter without a name';
  const software = (adapter?.info as { isFallbackAdapter?: boolean })?.isFallbackAdapter || /swiftshader|llvmpipe|warp|basic render/i.test(`${architecture} ${name}`);
  const driver = info.driver || [vendor, architecture].filter(Boolean).join(' ');
  const kind = software ? 'software-gpu' : info.kind;
  const reason = software
    ? 'the browser offers no hardware GPU, only a software one, which computes on the CPU'
    : 'the GPU that the browser offers';
  return { ...info, kind, name, driver, reason };
}

async function open(given: Options): Promise<DeviceInfo> {
  options = given;
  choice = given.device;
  await init(given.wasmUrl ? { module_or_path: given.wasmUrl } : undefined);
  engine = await Engine.open(choice);
  device = await describe();
  return device;
}

/** Opens another device after `error`, and goes on from the last good state. */
async function recover(error: SessionError): Promise<void> {
  const now = performance.now();
  losses.push(now);
  if (losses.filter((loss) => now - loss < PATIENCE).length > 2) choice = 'cpu';
  await engine.recover(choice);
  if (tuning !== undefined) engine.autotune(tuning);
  device = await describe();
  if (choice === 'cpu' && device.kind === 'cpu') device = { ...device, reason: 'the GPU was lost again and again' };
  rest();
  emit('device', { ...device, lost: error.message });
}

/** The fault for which the device can no longer be used, if `error` comes of one. */
async function faultBehind(error: SessionError): Promise<SessionError | undefined> {
  if (crashed || !['device', 'device-lost', 'out-of-memory'].includes(error.kind)) return undefined;
  const fault = engine.fault() as SessionError | undefined;
  if (fault) return fault;
  // A read-back can fail a moment before the browser says that the device is lost.
  await new Promise((resolve) => setTimeout(resolve, 100));
  return engine.fault() as SessionError | undefined;
}

/** Begins to count rates anew. */
function rest(): void {
  chunk = 1;
  stepped = 0;
  due = 0;
  looked = performance.now();
}

async function look(): Promise<Progress & { collapsed: boolean }> {
  const seen = (await engine.look()) as Look;
  const now = performance.now();
  const seconds = Math.max(now - looked, 0.01) / 1000;
  const { collapsed, ...plain } = seen;
  const progress: Progress = {
    ...plain,
    imagesPerSecond: seen.images / seconds,
    stepsPerSecond: stepped / seconds,
    validation,
  };
  chunk = Math.min(Math.max(Math.round((chunk * LOOK_EVERY) / (seconds * 1000)), 1), chunk * 4, MOST_STEPS);
  validation = null;
  stepped = 0;
  looked = now;
  return { ...progress, collapsed };
}

/** Notes the state and validates, if it is time. */
async function keep(): Promise<void> {
  const began = performance.now();
  if (began - kept < keepEvery) return;
  await engine.keep();
  validation = await engine.validate();
  kept = looked = performance.now();
  keepEvery = Math.max(KEEP_EVERY, KEEP_SHARE * (kept - began));
}

/** Notes the state after single steps: before anything that could lose it, or once nothing else is to be done. */
async function settle(): Promise<void> {
  if (!unkept) return;
  unkept = false;
  await engine.keep();
}

/** One chunk of training. */
async function advance(): Promise<void> {
  const began = performance.now();
  try {
    stepped += engine.steps(chunk);
    if (stepped > 0) {
      const steps = stepped;
      const { collapsed, ...progress } = await look();
      emit('progress', progress);
      if (progress.phase === 'centripetal') due = began + steps * pace;
      if (!collapsed) return await keep();
    }
    training = false;
    await engine.keep();
    emit('paused', { why: 'collapsed' });
  } catch (thrown) {
    const error = explained(thrown);
    try {
      const fault = await faultBehind(error);
      if (fault) await recover(fault);
      if (fault?.kind === 'device-lost') return;
    } catch (again) {
      emit('error', explained(again));
    }
    training = false;
    emit('error', error);
    emit('paused', { why: 'error' });
  }
}

/** `count` steps: a progress for each chunk, and one of all as the answer. */
async function step(count: number): Promise<Progress> {
  rest();
  let sum: (Progress & { collapsed: boolean }) | undefined;
  const began = performance.now();
  let total = 0;
  while (total < count) {
    const done = engine.steps(Math.min(chunk, count - total));
    if (done === 0) break;
    total += done;
    stepped += done;
    unkept = true;
    const seen = await look();
    const { collapsed: _, ...told } = seen;
    emit('progress', told);
    if (sum) {
      const images = sum.images + seen.images;
      const mean = (a: number, b: number) => (a * sum!.images + b * seen.images) / images;
      sum = { ...seen, images, loss: mean(sum.loss, seen.loss), accuracy: mean(sum.accuracy, seen.accuracy) };
    } else {
      sum = seen;
    }
    await breathe();
  }
  if (!sum) {
    throw problem('training', 'steps that are left', 'C-SGD has done all of its steps', 'Cut, or give it more time (collapseSteps)');
  }
  const seconds = Math.max(performance.now() - began, 0.01) / 1000;
  const { collapsed: _, ...progress } = sum;
  return { ...progress, imagesPerSecond: sum.images / seconds, stepsPerSecond: total / seconds };
}

/** A method that begins a phase. */
async function begin<T>(result: T, phase?: 'base' | 'centripetal' | 'cut', at = 0): Promise<T> {
  rest();
  kept = performance.now();
  validation = null;
  const table = engine.tuning();
  if (tuning !== undefined && table !== tuning && device.kind !== 'cpu') emit('tuning', (tuning = table));
  if (phase) emit('phase', { phase, step: at });
  return result;
}

async function working_on<T>(what: string, work: () => Promise<T>): Promise<T> {
  emit('work', { what, done: 0, of: 1 });
  const result = await work();
  emit('work', { what, done: 1, of: 1 });
  return result;
}

const EMBEDDED = ['train-images-idx3-ubyte.gz', 'train-labels-idx1-ubyte.gz', 't10k-images-idx3-ubyte.gz', 't10k-labels-idx1-ubyte.gz'];

async function fetched(name: string): Promise<Uint8Array> {
  const url = new URL(name, options.dataUrl);
  const fail = (found: string) => problem('fetching the data set', `the file ${url.pathname}`, found, 'Check the connection, and that the data lies beside the page', 'data');
  const response = await fetch(url).catch((error: unknown) => {
    throw fail(String(error));
  });
  if (!response.ok) throw fail(`the answer ${response.status}`);
  return contentOf(await response.blob(), name, problem);
}

/** Steps so far, for the event of a phase that begins; the engine counts on. */
async function stepsSoFar(): Promise<number> {
  return ((await engine.look()) as Look).step;
}

const methods: Record<string, (...args: never[]) => unknown> = {
  open,
  autotune: (table: string) => {
    engine.autotune(table);
    tuning = engine.tuning();
  },
  useEmbedded: async () => {
    let done = 0;
    emit('work', { what: 'data', done, of: EMBEDDED.length });
    const bytes = await Promise.all(
      EMBEDDED.map(async (name) => {
        const content = await fetched(name);
        emit('work', { what: 'data', done: ++done, of: EMBEDDED.length });
        return content;
      }),
    );
    return engine.useFiles(EMBEDDED, bytes);
  },
  useFiles: async (files: Files) => openFiles(engine, files, problem, (done, of) => emit('work', { what: 'data', done, of }), options.picturesWasmUrl),
  reset: async (given: Settings) => {
    const network = await working_on('reset', () => engine.reset(JSON.stringify(given)));
    training = false;
    settings = given;
    return begin(network, 'base');
  },
  set: (changes: Partial<Settings>) => {
    const result = engine.set(JSON.stringify(changes));
    settings = { ...settings!, ...changes };
    return result;
  },
  train: async ({ seconds = 0 }: TrainOptions) => {
    await engine.keep();
    pace = (1000 * seconds) / settings!.collapseSteps;
    rest();
    kept = performance.now();
    training = true;
  },
  pause: async () => {
    if (!training) return;
    training = false;
    emit('paused', { why: 'asked' });
    await engine.keep();
  },
  settle,
  use: async (wanted: DeviceChoice) => {
    if (settings) await engine.keep();
    await engine.recover(wanted);
    if (tuning !== undefined) engine.autotune(tuning);
    choice = wanted;
    losses.length = 0;
    device = await describe();
    rest();
    emit('device', device);
    return device;
  },
  step: async (count: number) => {
    training = false;
    return step(count);
  },
  cluster: async () => {
    const result = await working_on('clustering', () => engine.cluster());
    return begin(result, 'centripetal', await stepsSoFar());
  },
  filters: (layers: string[]) => engine.filters(layers),
  cut: async () => {
    const result = await working_on('certificate', () => engine.cut());
    training = false;
    return begin(result, 'cut', await stepsSoFar());
  },
  compareL1: () => working_on('comparison', () => engine.compareL1()),
  classify: async (image: Float32Array | 'test', index = 0) => {
    const known = image === 'test' ? engine.testImage(index) : { pixels: image, label: null };
    return { answers: await engine.classify(known.pixels), image: known.pixels, label: known.label };
  },
  testImage: (index: number) => engine.testImage(index),
  evaluate: () => working_on('evaluation', () => engine.evaluate()),
  save: (which: string) => engine.save(which),
  load: async (name: string, bytes: ArrayBuffer, defaults: Settings) => {
    const result = (await engine.load(name, new Uint8Array(bytes), JSON.stringify(settings ?? defaults))) as Loaded;
    training = false;
    settings = { ...(settings ?? defaults), ...result.settings };
    return begin(result, result.phase as Exclude<Loaded['phase'], 'empty'>);
  },
  loseDevice: () => engine.loseDevice(),
};

function transferable(result: unknown): Transferable[] {
  return result instanceof Uint8Array ? [result.buffer as ArrayBuffer] : [];
}

async function answer({ id, method, args }: Request): Promise<void> {
  const call = async () => {
    if (crashed) throw crashed;
    if (method !== 'step') await settle();
    return methods[method]!(...(args as never[]));
  };
  try {
    let result: unknown;
    try {
      result = await call();
    } catch (thrown) {
      const error = explained(thrown);
      const fault = method === 'open' ? undefined : await faultBehind(error);
      if (fault) await recover(fault);
      if (fault?.kind !== 'device-lost') throw error;
      // A method that failed has changed nothing.
      result = await call();
    }
    scope.postMessage({ id, result }, transferable(result));
  } catch (thrown) {
    scope.postMessage({ id, error: explained(thrown) });
  }
}

/** Answers requests and trains in turn until there is nothing to do. */
async function work(): Promise<void> {
  if (working) return;
  working = true;
  clearTimeout(idle);
  while (requests.length > 0 || training) {
    const request = requests.shift();
    const rest = due - performance.now();
    if (request) await answer(request);
    else if (rest > 0) await new Promise((resolve) => setTimeout(resolve, Math.min(rest, 20)));
    else await advance();
    await breathe();
  }
  working = false;
  if (!unkept) return;
  idle = setTimeout(() => {
    requests.push({ id: -1, method: 'settle', args: [] });
    void work();
  }, IDLE);
}

scope.onmessage = ({ data }: MessageEvent<Request>) => {
  requests.push(data);
  void work();
};
