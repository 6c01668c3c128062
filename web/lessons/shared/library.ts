/** The library in a worker of its own: calls by name, answered in order. */

import { setting } from './state.ts';

export interface Answer<T = Record<string, never>> {
  value: T;
  arrays: Float32Array[];
}

interface Waiting {
  resolve(answer: Answer<never>): void;
  reject(error: Error): void;
}

export type Choice = 'auto' | 'gpu' | 'cpu';

/** What the reader chose to run on. */
export function choice(): Choice {
  const found = setting('device', 'auto');
  return found === 'gpu' || found === 'cpu' ? found : 'auto';
}

let fallBack: (why: string) => void = () => {};
/** Calls `act` with the reason when the GPU that the reader chose cannot be opened, and the twins take its place. */
export function onFallBack(act: (why: string) => void): void {
  fallBack = act;
}

let worker: Worker | undefined;
let last = 0;
const waiting = new Map<number, Waiting>();

function start(): Worker {
  const made = new Worker(new URL('./library.worker.ts', import.meta.url), { type: 'module' });
  const end = (why: string) => {
    if (worker === made) worker = undefined;
    made.terminate();
    for (const { reject } of waiting.values()) reject(new Error(why));
    waiting.clear();
  };
  made.onerror = (event) => end(`The lesson's library stopped: ${event.message || 'it could not be loaded'}. Load the page again.`);
  made.onmessage = ({ data }) => {
    if (data.fellBack) {
      fallBack(data.fellBack);
      return;
    }
    const request = waiting.get(data.id);
    waiting.delete(data.id);
    if (data.fatal) end(data.error);
    if (data.error) request?.reject(new Error(data.error));
    else request?.resolve(data.answer);
  };
  made.postMessage({ open: choice(), page: document.baseURI });
  return made;
}

/** Calls `name` of the engine (`module/src/school.rs`). */
export function call<T>(name: string, args: object = {}, arrays: Float32Array[] = []): Promise<Answer<T>> {
  worker ??= start();
  const id = ++last;
  return new Promise<Answer<T>>((resolve, reject) => {
    waiting.set(id, { resolve: resolve as Waiting['resolve'], reject });
    worker!.postMessage({ id, name, args: JSON.stringify(args), arrays });
  });
}
