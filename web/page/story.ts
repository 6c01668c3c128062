/** The story line: which step it is, the next thing to do, and one sentence on what is seen now. A pure function. */

import { furthest } from './clusters';
import { percent, scientific, whole } from './format';
import { equal, over, pulled, tuned } from './pull';
import type { State } from './state';

export type Action = 'start' | 'train' | 'cluster' | 'goOn' | 'cut' | 'compare' | 'download' | 'none';
export type Status = 'past' | 'now' | 'ahead';

export interface Story {
  steps: { name: string; status: Status; result: string }[];
  primary: { action: Action; label: string; ready: boolean; progress: number | null };
  sentence: string;
}

/** Accuracy from which on the next step is interesting. */
const READY = 0.6;
/** Or after so many epochs, whatever the accuracy. */
const ENOUGH_EPOCHS = 4;
/** Samples that count as the present: some seconds of them. */
const LATELY = 24;
/** Test images of a validation during training. */
const VALIDATION = 256;

/** Whether the base network is good enough for the next step to be interesting. */
export function trained(state: State): boolean {
  const { progress, evaluation, samples } = state;
  if (progress === null) return evaluation !== null && evaluation.accuracy >= READY;
  return progress.epoch >= ENOUGH_EPOCHS || (accuracyOf(state) ?? 0) >= READY || samples.some(({ validation }) => (validation ?? 0) >= READY);
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
function recent(samples: State['samples']): { accuracy: number; validated: boolean } {
  const last = samples.slice(-LATELY);
  const validation = last.findLast((sample) => sample.validation !== null)?.validation ?? null;
  const accuracy = validation ?? last.reduce((sum, sample) => sum + sample.accuracy, 0) / last.length;
  return { accuracy, validated: validation !== null };
}

function accuracyOf(state: State): number | null {
  const { samples, evaluation } = state;
  if (samples.length === 0) return evaluation?.accuracy ?? null;
  return recent(samples).accuracy;
}

/** The accuracy of the base, and on which images it was measured. */
function trainResult(state: State): string {
  const { certificate, samples, clusteredAt, evaluation, data } = state;
  if (certificate?.baseAccuracy !== undefined && certificate.baseAccuracy !== null) return `accuracy ${percent(certificate.baseAccuracy)}`;
  const before = clusteredAt === null ? samples : samples.filter((sample) => sample.step <= clusteredAt);
  if (before.length === 0) return evaluation ? `accuracy ${percent(evaluation.accuracy)}` : 'ordinary SGD';
  const { accuracy, validated } = recent(before);
  return `accuracy ${percent(accuracy)} of ${validated ? `${Math.min(VALIDATION, data?.test ?? VALIDATION)} test` : 'training'} images`;
}

function pullResult({ samples, clusteredAt, deviationAtStart }: State): string {
  if (clusteredAt === null) return 'centripetal SGD';
  const deviation = samples.findLast((sample) => sample.deviation !== null)?.deviation ?? deviationAtStart;
  return deviation === null ? 'centripetal SGD' : `deviation ${scientific(deviation)}`;
}

function cutResult({ certificate }: State): string {
  if (!certificate) return 'duplicates go';
  return `${whole(certificate.argmaxAgreement)} of ${whole(certificate.samples)} equal`;
}

function compareResult({ comparison, phase, hasBase }: State): string {
  if (comparison) return `L1 cut: ${percent(comparison.accuracy)}`;
  return phase === 'cut' && !hasBase ? 'needs the base' : 'with an L1 cut';
}

function primary(state: State): Story['primary'] {
  const make = (action: Action, label: string, ready: boolean, progress: number | null = null) => ({ action, label, ready, progress });
  if (state.busy) return make('none', `${state.busy} …`, false);
  if (!state.network) return make('start', 'Try again', true);
  switch (state.phase) {
    case 'empty':
      return make('train', 'Train', true);
    case 'base': {
      if (trained(state)) return make('cluster', 'Pull together', true);
      const accuracy = accuracyOf(state) ?? 0;
      return state.running ? make('none', `Training … ${percent(accuracy, 0)}`, false, Math.min(1, accuracy / READY)) : make('train', 'Train on', true);
    }
    case 'centripetal':
      if (state.running) return make('none', `Pulling together … ${Math.floor(100 * pulled(state))} %`, false, pulled(state));
      return equal(state) ? make('cut', 'Cut', true) : make('goOn', over(state) ? 'Go on pulling, for twice the time' : 'Go on pulling', true);
    case 'cut':
      if (!state.certificate) return make('none', 'Loaded: a slim network', false);
      if (state.comparison || !state.hasBase) return make('download', 'Download slim.safetensors', true);
      return make('compare', 'Compare with an L1 cut', true);
  }
}

/** Where a network comes from that was not trained here just now. */
function origin({ evaluation, origin }: State): string {
  const [what, gets] = origin === 'base' ? ['This is the base network again', 'it gets'] : ['This network was loaded from a file', 'gets'];
  if (!evaluation) return `${what}.`;
  return `${what}${origin === 'base' ? ':' : ' and'} ${gets} ${percent(evaluation.accuracy)} of ${whole(evaluation.samples)} test images right.`;
}

/** Says beforehand, and on the way, if the settings will not make filters equal. */
function warning({ forecast }: State): string | null {
  if (!forecast || forecast.verdict === 'enough') return null;
  return `${forecast.sentence} “Strength”, its “auto” and “Time for it” are under Settings.`;
}

function sentence(state: State): string {
  const { certificate, comparison, widths, layer, view } = state;
  const [before, after] = (layer ? widths[layer] : undefined) ?? [0, 0];
  switch (state.phase) {
    case 'empty':
      if (!state.network && !state.busy) return 'The session could not start; the message below says why. Choose another device under Settings, or try again.';
      return state.network
        ? 'A small convolutional network with random filters. Press Train: it learns on your own machine, in this tab.'
        : 'Loading the network and its data.';
    case 'base': {
      const warned = warning(state);
      if (!state.progress) return `${origin(state)} ${warned ?? 'Train it further, or pull its filters together.'}`;
      if (!trained(state)) return 'Ordinary training: the filters take shape and accuracy rises.';
      return warned ?? 'It can tell most images apart, and every filter is different: deleting any would lose something. So first make some of them equal: press Pull together.';
    }
    case 'centripetal': {
      if (equal(state) && !state.running) {
        const left = before === 0 ? 'Filters have become equal' : `Of ${before} filters in ${layer}, only ${after === 1 ? 'a single one is' : `${after} different ones are`} left`;
        return `${left}: those of a cluster are equal up to rounding. Now duplicates can go: press Cut.`;
      }
      if (over(state)) {
        const apart = view ? furthest(view) : 0;
        return `The time is over, but filters of a cluster still differ${apart > 0 ? ` by up to ${scientific(apart)}` : ''}. Give it more time or more strength; a cut would lose something now.`;
      }
      const becoming = before === 0 ? '' : `: the ${before} filters of ${layer} are becoming ${after === 1 ? 'a single one' : `${after} different ones`}`;
      return warning(state) ?? `Training goes on, but filters of one colour share their gradient and are pulled to their mean${becoming}.`;
    }
    case 'cut':
      if (!certificate) return `${origin(state)} It has been cut already: try it, or train it further.`;
      if (tuned(state)) return `The slim network trains on by itself since the cut at step ${whole(state.cutAt ?? 0)}: its answers are its own now. The certificate is of the moment of the cut.`;
      if (comparison) {
        return `Same base, same widths, no retraining: L1 deletes filters that still do something, and accuracy falls from ${percent(comparison.baseAccuracy)} to ${percent(comparison.accuracy)}. Pulling trained on meanwhile; then cutting identical filters changed ${certificate.lossless ? 'nothing' : 'a little'}: ${percent(certificate.wideAccuracy)} before, ${percent(certificate.slimAccuracy)} after.`;
      }
      if (certificate.lossless) {
        return `Equal filters see the same thing, so one of each is enough: the next layer adds up its weights for them. All ${whole(certificate.samples)} test answers are the same, with ${percent(certificate.macsAfter / certificate.macsBefore, 0)} of the multiplications.`;
      }
      return certificate.argmaxAgreement === certificate.samples
        ? `All ${whole(certificate.samples)} answers are still the same, but by luck: the filters were not yet equal, and logits differ by up to ${scientific(certificate.maxAbsLogitDiff)}. Pull for longer, or harder.`
        : `${whole(certificate.samples - certificate.argmaxAgreement)} of ${whole(certificate.samples)} answers changed: the filters were not yet equal. Pull for longer, or harder, and nothing is lost.`;
  }
}
