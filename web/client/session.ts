// The page's side of a session: promises and events over one Web Worker.

import type { Task, Told as Tested } from './selftest.ts';
import type {
  Answer,
  Certificate,
  Clustering,
  Comparison,
  DataInfo,
  DeviceChoice,
  DeviceInfo,
  Files,
  FilterView,
  KernelCheck,
  Loaded,
  NetworkInfo,
  Progress,
  SessionError,
  SessionEvents,
  SetResult,
  Settings,
  TrainOptions,
} from './types.ts';

/** Names of the model zoo. */
export const MODELS = ['lenet', 'resnet20', 'resnet32', 'resnet44', 'resnet56', 'resnet110', 'resnet164', 'vgg16', 'densenet40', 'resnet18', 'resnet34', 'resnet50', 'resnet101', 'se_resnet18', 'se_resnet50', 'densenet121', 'vgg16_bn', 'mobilenet_v1', 'mobilenet_v2', 'googlenet'] as const;

/** Settings with which the data that comes with the page is learnt, and clusters collapse, within a minute or two. */
export const DEFAULTS: Settings = {
  model: 'lenet',
  width: 1,
  batch: 32,
  seed: 0,
  lr: 0.05,
  keep: '5/8',
  strength: 'auto',
  collapseSteps: 240,
  // At 0.9 no strength makes filters identical in fewer than about 340 steps.
  momentum: 0.8,
  weightDecay: 0.0005,
  clustering: 'kmeans',
};

/** The error of a rejected promise; its parts are those of `SessionError`. */
export class SessionFault extends Error implements SessionError {
  readonly kind: string;
  readonly doing: string;
  readonly expected: string;
  readonly found: string;
  readonly next: string;

  constructor(error: SessionError) {
    super(error.message);
    this.name = 'SessionFault';
    this.kind = error.kind;
    this.doing = error.doing;
    this.expected = error.expected;
    this.found = error.found;
    this.next = error.next;
  }
}

function workerFault(doing: string, found: string): SessionFault {
  const next = 'Open another session';
  return new SessionFault({ kind: 'closed', doing, expected: 'a worker', found, next, message: `${doing}: ${found}. ${next}` });
}

export interface OpenOptions {
  device?: DeviceChoice;
  /** Where the WebAssembly module is, if not beside the worker. */
  wasmUrl?: string;
  /** Where that of the self-test is, if not beside its worker. */
  selftestWasmUrl?: string;
  /** Where that which looks through pictures is, if not beside the worker. */
  picturesWasmUrl?: string;
  /** Whether the fastest variants of kernels are measured, once an adapter and shape, and kept in the browser's storage. On unless said. */
  autotune?: boolean;
  /** The folder of the data set that comes with the page; `data/` beside the document unless given. */
  dataUrl?: string;
}

type Answered = { id: number; result?: unknown; error?: SessionError };
type Told = { event: keyof SessionEvents; data: never };
type Listener = (data: never) => void;

/** A training session. Everything happens in a worker; a request waits for the chunk of training under way. */
export class Session {
  #worker: Worker;
  #device!: DeviceInfo;
  #next = 0;
  #closed: SessionFault | undefined;
  #selftestWasmUrl: string | undefined;
  /** Ends the self-tests under way. */
  #tests = new Set<(fault: SessionFault) => void>();
  #waiting = new Map<number, { resolve: (result: never) => void; reject: (error: SessionFault) => void }>();
  #listeners = new Map<keyof SessionEvents, Set<Listener>>();

  private constructor() {
    this.#worker = new Worker(new URL('./worker.ts', import.meta.url), { type: 'module' });
    this.#worker.onmessage = ({ data }: MessageEvent<Answered | Told>) => {
      if ('event' in data) this.#tell(data.event, data.data);
      else this.#settle(data);
    };
    this.#worker.onerror = (event) => {
      event.preventDefault();
      this.#fail(event.message || 'the worker could not be loaded');
    };
  }

  /** Starts the worker and opens a device. */
  static async open(options: OpenOptions = {}): Promise<Session> {
    const session = new Session();
    const absolute = (url: string) => new URL(url, document.baseURI).href;
    const { device = 'auto', autotune = true, wasmUrl, selftestWasmUrl, picturesWasmUrl, dataUrl = 'data/' } = options;
    session.#selftestWasmUrl = selftestWasmUrl && absolute(selftestWasmUrl);
    try {
      session.#device = await session.#ask('open', {
        device,
        dataUrl: absolute(dataUrl),
        ...(wasmUrl ? { wasmUrl: absolute(wasmUrl) } : {}),
        ...(picturesWasmUrl ? { picturesWasmUrl: absolute(picturesWasmUrl) } : {}),
      });
      if (autotune) await session.#autotune();
    } catch (error) {
      session.close();
      throw error;
    }
    return session;
  }

  /** The device in use; it changes when one is lost. */
  get device(): DeviceInfo {
    return this.#device;
  }

  /** Calls `listener` for every event of that name; the function returned ends that. */
  on<K extends keyof SessionEvents>(event: K, listener: (data: SessionEvents[K]) => void): () => void {
    const listeners = this.#listeners.get(event) ?? new Set<Listener>();
    this.#listeners.set(event, listeners.add(listener as Listener));
    return () => void listeners.delete(listener as Listener);
  }

  /** The part of Fashion-MNIST that comes with the page. */
  useEmbedded(): Promise<DataInfo> {
    return this.#ask('useEmbedded');
  }

  /** IDX files (gzip or not, two or four), CIFAR-10 or CIFAR-100 (binary version), or pictures in folders. */
  useFiles(files: Files): Promise<DataInfo> {
    return this.#ask('useFiles', [...files]);
  }

  /** A random base network. */
  reset(settings: Settings): Promise<NetworkInfo> {
    return this.#ask('reset', settings);
  }

  /** Changes settings of a run under way. */
  set(changes: Partial<Settings>): Promise<SetResult> {
    return this.#ask('set', changes);
  }

  /** Begins to train; goes on until `pause`, or until C-SGD has done its steps. */
  train(options: TrainOptions = {}): Promise<void> {
    return this.#ask('train', options);
  }

  pause(): Promise<void> {
    return this.#ask('pause');
  }

  /** Goes on on another device, with the network and the state of its training. */
  use(device: DeviceChoice): Promise<DeviceInfo> {
    return this.#ask('use', device);
  }

  /** Trains `count` steps and no more. */
  step(count = 1): Promise<Progress> {
    return this.#ask('step', count);
  }

  /** From the base network to C-SGD. */
  cluster(): Promise<Clustering & { network: NetworkInfo }> {
    return this.#ask('cluster');
  }

  /** The filters of a layer as they are now. */
  async filters(layer: string): Promise<FilterView> {
    return (await this.filtersOf([layer]))[0]!;
  }

  /** Those of several layers, by one read-back. */
  filtersOf(layers: string[]): Promise<FilterView[]> {
    return this.#ask('filters', layers);
  }

  /** From C-SGD to the slim network. */
  cut(): Promise<{ certificate: Certificate; network: NetworkInfo }> {
    return this.#ask('cut');
  }

  /** The base network cut to the widths of the clusters by the L1 norm of its filters. */
  compareL1(): Promise<{ comparison: Comparison; network: NetworkInfo }> {
    return this.#ask('compareL1');
  }

  /** What every network that exists says of an image (C, H, W; 0 to 1) or of a test image. */
  classify(
    image: Float32Array | 'test',
    index = 0,
  ): Promise<{ answers: Answer[]; image: Float32Array; label: number | null }> {
    return this.#ask('classify', image, index);
  }

  testImage(index: number): Promise<{ pixels: Float32Array; label: number }> {
    return this.#ask('testImage', index);
  }

  /** The current network on all test images. */
  evaluate(): Promise<{ accuracy: number; loss: number; samples: number }> {
    return this.#ask('evaluate');
  }

  /** A checkpoint: safetensors, which the command line reads too. */
  save(which: 'base' | 'wide' | 'slim'): Promise<Uint8Array> {
    return this.#ask('save', which);
  }

  /** Makes the network of a checkpoint the current one. */
  load(name: string, bytes: ArrayBuffer): Promise<Loaded> {
    return this.#ask('load', name, bytes, DEFAULTS);
  }

  /** Every kernel against its twin, on a device like this one in a worker of its own; `work` events tell which one runs. */
  async selfTest(): Promise<{ device: DeviceInfo; kernels: KernelCheck[] }> {
    if (this.#closed) throw this.#closed;
    const device = this.#device;
    const wasmUrl = this.#selftestWasmUrl;
    const worker = new Worker(new URL('./selftest.ts', import.meta.url), { type: 'module' });
    let end!: (fault: SessionFault) => void;
    try {
      const kernels = await new Promise<KernelCheck[]>((resolve, reject) => {
        this.#tests.add((end = reject));
        worker.onmessage = ({ data }: MessageEvent<Tested>) => {
          if ('work' in data) this.#tell('work', data.work as never);
          else if ('kernels' in data) resolve(data.kernels);
          else reject(new SessionFault(data.error));
        };
        worker.onerror = (event) => {
          event.preventDefault();
          reject(workerFault('running the self-test', event.message || 'the worker could not be loaded'));
        };
        const task: Task = { device: device.kind === 'cpu' ? 'cpu' : 'gpu', ...(wasmUrl ? { wasmUrl } : {}) };
        worker.postMessage(task);
      });
      return { device, kernels };
    } finally {
      this.#tests.delete(end);
      worker.terminate();
    }
  }

  /** Destroys the device on purpose. For tests. */
  loseDevice(): Promise<void> {
    return this.#ask('loseDevice');
  }

  /** Ends the worker. Whatever is still asked is rejected. */
  close(): void {
    this.#worker.terminate();
    this.#fail('the session was closed');
  }

  /** Gives the worker what was measured on this adapter before, and keeps what it measures. */
  async #autotune(): Promise<void> {
    const place = () => `centripetal tuning ${this.device.name} ${this.device.driver}`;
    // Storage may be forbidden or full: then it is measured again.
    const quietly = <T>(work: () => T) => {
      try {
        return work();
      } catch {
        return null;
      }
    };
    this.on('tuning', (table) => void quietly(() => localStorage.setItem(place(), table)));
    await this.#ask('autotune', quietly(() => localStorage.getItem(place())) ?? '');
  }

  #ask<T>(method: string, ...args: unknown[]): Promise<T> {
    if (this.#closed) return Promise.reject(this.#closed);
    const id = this.#next++;
    return new Promise<T>((resolve, reject) => {
      this.#waiting.set(id, { resolve: resolve as (result: never) => void, reject });
      this.#worker.postMessage({ id, method, args });
    });
  }

  #settle({ id, result, error }: Answered): void {
    const waiting = this.#waiting.get(id);
    this.#waiting.delete(id);
    if (error) waiting?.reject(new SessionFault(error));
    else waiting?.resolve(result as never);
  }

  #tell(event: keyof SessionEvents, data: never): void {
    if (event === 'device') this.#device = data;
    for (const listener of this.#listeners.get(event) ?? []) listener(data);
  }

  #fail(found: string): void {
    this.#closed = workerFault('running the session', found);
    for (const { reject } of this.#waiting.values()) reject(this.#closed);
    for (const end of this.#tests) end(this.#closed);
    this.#waiting.clear();
  }
}
