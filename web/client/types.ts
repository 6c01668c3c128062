/** What a session is asked and what it answers. */

/** `auto`: WebGPU if there is an adapter (software ones too, said plainly), else the CPU kernels in WebAssembly. */
export type DeviceChoice = 'auto' | 'gpu' | 'cpu';

export interface DeviceInfo {
  kind: 'gpu' | 'software-gpu' | 'cpu';
  name: string;
  backend: string;
  driver: string;
  /** Why this one was taken. */
  reason: string;
  /** The adapter's limits, by WebGPU's names; empty on the CPU. */
  limits: Record<string, number>;
}

/** Which network trains: none yet, one by plain SGD, the clustered one by C-SGD, the slim one after the cut. */
export type Phase = 'empty' | 'base' | 'centripetal' | 'cut';

export interface Settings {
  /** Name in the model zoo, see `MODELS`. Holds from the next `reset` on, as do the three that follow. */
  model: string;
  /** Factor on every width. */
  width: number;
  batch: number;
  seed: number;
  /** Holds at once. */
  lr: number;
  /** How much of every layer stays: `'5/8'`, `'0.625'` or `'62.5%'`. Used by `cluster()`. */
  keep: string;
  /** Holds at once, during C-SGD. `auto`: the smallest that collapses within `collapseSteps` at this learning rate. */
  strength: number | 'auto';
  /** Steps of the C-SGD run. */
  collapseSteps: number;
  momentum: number;
  weightDecay: number;
  clustering: 'kmeans' | 'even' | 'imbalanced';
}

export interface DataInfo {
  name: string;
  /** C, H, W. */
  shape: [number, number, number];
  classes: string[];
  train: number;
  test: number;
  /** Files that were left out: empty, beside pictures and none themselves, or pictures that the browser cannot show. */
  skipped?: string[];
}

/** A layer with filters: convolution or linear. */
export interface LayerInfo {
  name: string;
  type: string;
  /** OIHW of a convolution, OI of a linear layer. */
  shape: number[];
  outputs: number;
  /** C, H, W. */
  outputShape: [number, number, number];
  macs: number;
  parameters: number;
  /** Layers of one group are cut together. */
  group: number | null;
  clustered: boolean;
}

export interface NodeInfo {
  name: string;
  type: string;
  /** Indices of the nodes that it reads. */
  inputs: number[];
  channels: number;
  /** C, H, W. */
  shape: [number, number, number];
}

export interface NetworkInfo {
  layers: LayerInfo[];
  nodes: NodeInfo[];
  /** Multiply-accumulates for one image. */
  macs: number;
  parameters: number;
  bytes: number;
}

/** `Progress.apart` of filters that are equal but for the rounding of their updates. */
export const EQUAL = 1e-5;

/** Sent about five times a second while training; every one costs one read-back. */
export interface Progress {
  phase: Phase;
  /** All steps since the last `reset` or `load`, over all phases. */
  step: number;
  epoch: number;
  /** Mean cross-entropy since the last progress, in nats. */
  loss: number;
  /** Training accuracy since the last progress. */
  accuracy: number;
  /** Images since the last progress. */
  images: number;
  imagesPerSecond: number;
  stepsPerSecond: number;
  lr: number;
  strength: number | null;
  /** Sum of chi over all clustered tensors. */
  deviation: number | null;
  /**
   * How far members of clusters are from their means, relative to the size of the filters (the worst tensor of weights).
   * Below `EQUAL` they are equal up to rounding.
   */
  apart: number | null;
  /** Natural logarithm of what should be left of a difference at this step, from 0 when C-SGD began. */
  forecast: number | null;
  /** Accuracy on a part (at most 256) of the test images, from time to time. */
  validation: number | null;
}

export interface Forecast {
  /** `[steps since C-SGD began, logarithm]`; the deviation should be `deviation(0) * exp(2 * logarithm)`. */
  curve: [number, number][];
  strength: number;
  verdict: 'enough' | 'insufficient' | 'too-short' | 'unstable';
  sentence: string;
}

/** What C-SGD begins with, and what its settings lead to. */
export interface Clustering {
  forecast: Forecast;
  /** Channels before and after, by layer. */
  widths: Record<string, [number, number]>;
  /** As in `Progress`. */
  deviation: number;
  apart: number;
}

/** A checkpoint that was taken; of a clustered one also what C-SGD begins with. */
export interface Loaded extends Partial<Clustering> {
  network: NetworkInfo;
  phase: Phase;
  /** Those that the network holds with; `width` only where it is one of the zoo's. */
  settings: Partial<Settings>;
}

export interface TrainOptions {
  /** C-SGD rests between steps so that `collapseSteps` take at least so many seconds, and can be watched. */
  seconds?: number;
}

export interface FilterView {
  layer: string;
  /** Output channels. */
  rows: number;
  rowLength: number;
  shape: number[];
  /** The cluster of every row, by number. */
  clusters: Uint32Array;
  /** The rows that stay after the cut. */
  survivors: Uint32Array;
  weights: Float32Array;
  biases?: Float32Array;
}

export interface LayerReport {
  name: string;
  op: string;
  widthBefore: number;
  widthAfter: number;
  macsBefore: number;
  macsAfter: number;
  deviationKernel: number | null;
  deviationBias: number | null;
  deviationGamma: number | null;
  deviationBeta: number | null;
  deviationMean: number | null;
  deviationVariance: number | null;
  maxAbsDeviation: number;
}

/** The wide network against the slim one, on all test images. */
export interface Certificate {
  samples: number;
  /** Null when the base network is not known: the session began with a loaded one. */
  baseAccuracy: number | null;
  wideAccuracy: number;
  slimAccuracy: number;
  argmaxAgreement: number;
  maxAbsLogitDiff: number;
  macsBefore: number;
  macsAfter: number;
  paramsBefore: number;
  paramsAfter: number;
  bytesBefore: number;
  bytesAfter: number;
  /** Milliseconds an image. */
  latencyBeforeMs: number;
  latencyAfterMs: number;
  /** Whether every answer is the same. */
  lossless: boolean;
  layers: LayerReport[];
}

/** The base cut to the same widths by the L1 norm of its filters, without fine-tuning. */
export interface Comparison {
  method: 'l1';
  samples: number;
  baseAccuracy: number;
  accuracy: number;
  argmaxAgreement: number;
  maxAbsLogitDiff: number;
  macsAfter: number;
  /** Channels before and after, by layer. */
  widths: Record<string, [number, number]>;
}

export interface Answer {
  /** `wide` is the current network until the cut, and the one that was cut afterwards. */
  network: 'wide' | 'slim' | 'l1';
  logits: Float32Array;
  probabilities: Float32Array;
  milliseconds: number;
}

export interface KernelCheck {
  kernel: string;
  shader: string;
  cases: number;
  maxUlp: number;
  nmse: number;
  passed: boolean;
  message?: string;
}

/** What every rejected promise carries. */
export interface SessionError {
  /** `device-lost`, `out-of-memory`, `numeric`, `data`, `format`, `argument` ... */
  kind: string;
  doing: string;
  expected: string;
  found: string;
  next: string;
  /** All of it as a sentence. */
  message: string;
}

export interface SessionEvents {
  progress: Progress;
  /** The phase that began, and `Progress.step` at that moment. */
  phase: { phase: Phase; step: number };
  /** `lost` says why the device before this one went. */
  device: DeviceInfo & { lost?: string };
  /** What went wrong while training went on by itself. */
  error: SessionError;
  /** Training stopped: `asked`, `collapsed` (C-SGD has done its steps; `Progress.apart` tells whether filters are equal) or `error`. */
  paused: { why: 'asked' | 'collapsed' | 'error' };
  /** Variants of kernels were measured: the table, as text. */
  tuning: string;
  /** Long work under way. */
  work: { what: string; done: number; of: number };
}

/** Files as a visitor picks them, or bytes under a name. */
export type Files = readonly (File | { name: string; bytes: ArrayBuffer })[];

export interface SetResult {
  /** Names that hold from the next step on. */
  applied: string[];
  /** Names that hold from the next `reset` on only. */
  onReset: string[];
  /** Until the cut: what the settings now lead to, or would after clustering. */
  forecast?: Forecast;
}
