/** All that the page knows, in one place; panels subscribe and draw it. */

import type {
  Certificate, Comparison, DataInfo, DeviceChoice, DeviceInfo, FilterView, Forecast, NetworkInfo, Phase, Progress, Settings,
} from '../client/types';

export interface Sample { step: number; loss: number; accuracy: number; validation: number | null; deviation: number | null }
export interface Networks { wide: NetworkInfo; slim: NetworkInfo }
export interface Picked { image: Float32Array; label: number | null; index: number | null }

export interface State {
  settings: Settings;
  /** The settings that the network now trained was made with. */
  applied: Settings;
  deviceChoice: DeviceChoice;
  device: DeviceInfo | null;
  data: DataInfo | null;
  network: NetworkInfo | null;
  /** The network before the cut, which sets the scale of drawings. */
  reference: NetworkInfo | null;
  widths: Record<string, [number, number]>;
  phase: Phase;
  running: boolean;
  /** What is being waited for, or null. */
  busy: string | null;
  progress: Progress | null;
  samples: Sample[];
  forecast: Forecast | null;
  /** Step at which C-SGD began, and at which the cut was. */
  clusteredAt: number | null;
  cutAt: number | null;
  deviationAtStart: number | null;
  /** How far members of clusters are from their means, relative to their size, as measured last. */
  apart: number | null;
  /** Whether the pull is slowed down on fast devices, so that it can be watched. */
  paced: boolean;
  layer: string | null;
  view: FilterView | null;
  first: FilterView | null;
  second: FilterView | null;
  /** 0 before the cut, 1 after it, in between while it is animated. */
  fold: number;
  certificate: Certificate | null;
  comparison: Comparison | null;
  /** What a loaded network gets right, until it is trained further. */
  evaluation: { accuracy: number; samples: number } | null;
  picked: Picked | null;
  hasBase: boolean;
  /** Where the network comes from: made here, read from a file, or the base taken again. */
  origin: 'random' | 'file' | 'base';
}

type Listener = (state: State, changed: ReadonlySet<keyof State>) => void;

export class Store {
  #listeners: Listener[] = [];
  #changed = new Set<keyof State>();

  constructor(readonly state: State) {}

  /** Changes the state now and tells the listeners once, soon. */
  set(patch: Partial<State>): void {
    if (this.#changed.size === 0) queueMicrotask(() => this.#tell());
    for (const key of Object.keys(patch) as (keyof State)[]) this.#changed.add(key);
    Object.assign(this.state, patch);
  }

  subscribe(listener: Listener): void {
    this.#listeners.push(listener);
  }

  #tell(): void {
    const changed = this.#changed;
    this.#changed = new Set();
    for (const listener of this.#listeners) listener(this.state, changed);
  }
}

export function initialState(settings: Settings, deviceChoice: DeviceChoice): State {
  return {
    settings, applied: settings, deviceChoice,
    device: null, data: null, network: null, reference: null, widths: {},
    phase: 'empty', running: false, busy: 'Starting', progress: null, samples: [], forecast: null,
    clusteredAt: null, cutAt: null, deviationAtStart: null, apart: null, paced: true,
    layer: null, view: null, first: null, second: null, fold: 0,
    certificate: null, comparison: null, evaluation: null, picked: null, hasBase: false, origin: 'random',
  };
}
