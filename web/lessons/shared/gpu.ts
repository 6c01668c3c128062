/** Shaders of the reader in a worker that can be ended: an endless loop must not take the page down. */

export interface Job {
  wgsl: string;
  /** Storage buffers in the order of their bindings, from 1 on. */
  buffers: { write: boolean; data: Float32Array }[];
  /** The uniform, word by word. */
  words: number[];
  workgroups: number;
  /** Dispatches; more than one for measuring. */
  repeat: number;
  /** Whether the shader has the flag that says that a loop was ended. */
  guarded: boolean;
}

export interface Result {
  outputs: Float32Array[];
  /** A loop went round too often and was ended. */
  stopped: boolean;
  /** Milliseconds for all dispatches. */
  milliseconds: number;
}

export interface Adapter {
  name: string;
  software: boolean;
}

/** Longest that a run may take. */
const PATIENCE = 20_000;
/** Most invocations of one dispatch that the lessons run: seconds on a software adapter. */
export const MOST_INVOCATIONS = 1 << 24;
/** Most workgroups in one dimension (WebGPU). */
export const MOST_WORKGROUPS = 65_535;

let worker: Worker | undefined;
let last = 0;
const waiting = new Map<number, { resolve(value: never): void; reject(error: Error): void }>();

function end(why: string): void {
  worker?.terminate();
  worker = undefined;
  for (const { reject } of waiting.values()) reject(new Error(why));
  waiting.clear();
}

function start(): Worker {
  const made = new Worker(new URL('./gpu.worker.ts', import.meta.url), { type: 'module' });
  made.onerror = (event) => end(`The worker that talks to the GPU stopped: ${event.message}. Run again.`);
  made.onmessage = ({ data }) => {
    const request = waiting.get(data.id);
    waiting.delete(data.id);
    if (data.error) request?.reject(new Error(data.error));
    else request?.resolve(data.result as never);
  };
  return made;
}

async function ask<T>(message: object): Promise<T> {
  worker ??= start();
  const id = ++last;
  const answer = new Promise<T>((resolve, reject) => {
    waiting.set(id, { resolve: resolve as (value: never) => void, reject });
    worker!.postMessage({ id, ...message });
  });
  const timer = setTimeout(
    () => end(`Stopped after ${PATIENCE / 1000} seconds. Is there a loop that does not end, or far too much work? Change the shader and run again.`),
    PATIENCE,
  );
  try {
    return await answer;
  } finally {
    clearTimeout(timer);
  }
}

/** Runs a shader and reads its outputs. */
export const run = (job: Job) => ask<Result>({ job });

/** The browser's adapter, or none. */
export const adapter = () => ask<Adapter | null>({ look: true });

/** Loses the device on purpose, as a driver's reset would; for tests. */
export const loseDevice = () => ask<null>({ lose: true });
