/** The story line: which step it is, the next thing to do, and one sentence on what is seen now. A pure function. */

import { percent, scientific, whole } from './format';
import type { State } from './state';

export type Action = 'start' | 'train' | 'cluster' | 'cut' | 'compare' | 'download' | 'none';
export type Status = 'past' | 'now' | 'ahead';

export interface Story {
  steps: { name: string; status: Status; result: string }[];
  primary: { action: Action; label: string; ready: boolean; progress: number | null };
  sentence: string;
}

const READY = 0.7;
/** Samples that count as the present: some seconds of them. */
const LATELY = 24;

/** How far the C-SGD run is, 0 to 1. */
export function pulled(state: State): number {
  const { clusteredAt, progress, applied, collapsed } = state;
  if (collapsed) return 1;
  if (clusteredAt === null || !progress) return 0;
  return Math.min(1, Math.max(0, (progress.step - clusteredAt) / applied.collapseSteps));
}

/** Whether the base network is good enough for the next step to be interesting. */
export function trained(state: State): boolean {
  const { progress, evaluation } = state;
  if (progress === null) return evaluation !== null && evaluation.accuracy >= READY;
  return (accuracyOf(state) ?? 0) >= READY || progress.epoch >= 4;
}

export function story(state: State): Story {
  const at = state.comparison ? 3 : state.phase === 'cut' && state.certificate ? 2 : state.phase === 'centripetal' ? 1 : 0;
  const status = (index: number): Status => (index < at ? 'past' : index === at ? 'now' : 'ahead');
  const names = ['Train', 'Pull together', 'Cut', 'Compare'];
  const results = [trainResult(state), pullResult(state), cutResult(state), compareResult(state)];
  return {
    steps: names.map((name, i) => ({ name, status: status(i), result: results[i] ?? '' })),
    primary: primary(state),
    sentence: sentence(state),
  };
}

/** Accuracy on test images if it was measured lately, else the mean of the last batches: one batch alone is noise. */
function recent(samples: State['samples']): number {
  const last = samples.slice(-LATELY);
  const validation = last.findLast((sample) => sample.validation !== null)?.validation;
  return validation ?? last.reduce((sum, sample) => sum + sample.accuracy, 0) / last.length;
}

function accuracyOf(state: State): number | null {
  const { samples, evaluation } = state;
  if (samples.length === 0) return evaluation?.accuracy ?? null;
  return recent(samples);
}

function trainResult(state: State): string {
  const accuracy = state.certificate?.baseAccuracy ?? baseAccuracy(state);
  return accuracy === null ? 'ordinary SGD' : `accuracy ${percent(accuracy)}`;
}

function baseAccuracy(state: State): number | null {
  if (state.clusteredAt === null) return accuracyOf(state);
  const before = state.samples.filter((sample) => sample.step <= (state.clusteredAt ?? 0));
  return before.length > 0 ? recent(before) : (state.evaluation?.accuracy ?? null);
}

function pullResult(state: State): string {
  const deviation = state.samples.findLast((sample) => sample.deviation !== null)?.deviation;
  if (deviation === null || deviation === undefined || state.clusteredAt === null) return 'centripetal SGD';
  return `deviation ${scientific(deviation)}`;
}

function cutResult({ certificate }: State): string {
  if (!certificate) return 'duplicates go';
  return `${whole(certificate.argmaxAgreement)} of ${whole(certificate.samples)} equal`;
}

function compareResult({ comparison }: State): string {
  return comparison ? `L1 cut: ${percent(comparison.accuracy)}` : 'with an L1 cut';
}

function primary(state: State): Story['primary'] {
  const make = (action: Action, label: string, ready: boolean, progress: number | null = null) => ({ action, label, ready, progress });
  if (state.busy) return make('none', `${state.busy} …`, false);
  if (!state.network) return make('start', 'Try again', true);
  switch (state.phase) {
    case 'empty':
      return make('train', 'Train', true);
    case 'base':
      if (!state.running && !state.progress && !trained(state)) return make('train', 'Train on', true);
      return make('cluster', 'Pull together', trained(state));
    case 'centripetal':
      if (state.collapsed) return make('cut', 'Cut', true);
      if (state.running) return make('none', `Pulling together … ${Math.floor(100 * pulled(state))} %`, false, pulled(state));
      return make('train', 'Go on pulling', true);
    case 'cut':
      if (!state.certificate) return make('none', 'Loaded: a slim network', false);
      return state.comparison ? make('download', 'Download slim.safetensors', true) : make('compare', 'Compare with an L1 cut', true);
  }
}

function loaded({ evaluation }: State): string {
  if (!evaluation) return 'This network was loaded from a file.';
  return `This network was loaded from a file and gets ${percent(evaluation.accuracy)} of ${whole(evaluation.samples)} test images right.`;
}

function sentence(state: State): string {
  const { certificate, comparison, applied, widths, layer } = state;
  const [before, after] = (layer ? widths[layer] : undefined) ?? [0, 0];
  switch (state.phase) {
    case 'empty':
      if (!state.network && !state.busy) return 'The session could not start; the message below says why. Choose another device under Settings, or try again.';
      return state.network
        ? 'A small convolutional network with random filters. Press Train: it learns on your own machine, in this tab.'
        : 'Loading the network and its data.';
    case 'base':
      if (!state.progress) return `${loaded(state)} Train it further, or pull its filters together.`;
      return trained(state)
        ? 'It can tell most images apart, and every filter is different: deleting any would lose something. So first make some of them equal: press Pull together.'
        : 'Ordinary training: the filters take shape and accuracy rises.';
    case 'centripetal':
      if (state.collapsed) {
        return `Of ${before} filters in ${layer}, only ${after === 1 ? 'a single one is' : `${after} different ones are`} left: those of a cluster are equal up to rounding. Now duplicates can go: press Cut.`;
      }
      return `Training goes on, but filters of one colour share their gradient and are pulled to their mean: the ${before} filters of ${layer} are becoming ${after === 1 ? 'a single one' : `${after} different ones`}.`;
    case 'cut':
      if (!certificate) return `${loaded(state)} It has been cut already: try it, or train it further.`;
      if (comparison) {
        return `Same network, same widths, no retraining: L1 deletes filters that still do something, and accuracy falls from ${percent(comparison.baseAccuracy)} to ${percent(comparison.accuracy)}. Cutting identical filters changed nothing: ${percent(certificate.wideAccuracy)} before, ${percent(certificate.slimAccuracy)} after.`;
      }
      return certificate.lossless
        ? `Equal filters see the same thing, so one of each is enough: the next layer adds up its weights for them. All ${whole(certificate.samples)} test answers are the same, with ${applied.keep} of the filters.`
        : `${whole(certificate.samples - certificate.argmaxAgreement)} of ${whole(certificate.samples)} answers changed: the filters were not yet equal. Pull for longer, or harder, and nothing is lost.`;
  }
}
