import { describe, expect, it } from 'vitest';
import type { Certificate, Forecast, Progress } from '../client/types';
import { membersOf, nearestPair, spread, togetherness } from './clusters';
import { featureMap, readingWeights, summed } from './feature';
import { refusal } from './files';
import { bytes, change, count, percent, scientific } from './format';
import { initialState, type State } from './state';
import { equal, over, pulled, tuned } from './pull';
import { story } from './story';
import { DEFAULTS } from './url';

const progress = (patch: Partial<Progress>): Progress => ({
  phase: 'base', step: 100, epoch: 1, loss: 1, accuracy: 0.5, images: 1, imagesPerSecond: 1, stepsPerSecond: 1, lr: 0.1, strength: null,
  deviation: null, apart: null, forecast: null, validation: null, ...patch,
});
const sample = (validation: number | null) => ({ step: 100, loss: 1, accuracy: 0.5, validation, deviation: null });
const state = (patch: Partial<State>): State => ({ ...initialState(DEFAULTS, 'auto'), busy: null, network: { layers: [], nodes: [], macs: 1, parameters: 1, bytes: 1 }, ...patch });
const certificate = {
  samples: 1000, argmaxAgreement: 1000, baseAccuracy: 0.8, wideAccuracy: 0.8, slimAccuracy: 0.8, maxAbsLogitDiff: 4e-6, lossless: true, macsBefore: 200, macsAfter: 80,
} as Certificate;
const forecast = { curve: [], strength: 0.001, verdict: 'insufficient', sentence: 'The cut will lose something. Strength 0.2 would do.' } as Forecast;
const pulling = { phase: 'centripetal', clusteredAt: 50, hasBase: true } as const;
/** All of the 300 steps are done. */
const done = progress({ step: 350 });
const view = { layer: 'conv1', rows: 4, rowLength: 2, shape: [4, 2], clusters: Uint32Array.of(0, 1, 0, 1), survivors: Uint32Array.of(0, 1), weights: Float32Array.of(0, 0, 5, 5, 1, 0, 5, 5.5) };

describe('story', () => {
  it.each<[string, Partial<State>, string, boolean, number]>([
    ['starting', { busy: 'Starting' }, 'none', false, 0],
    ['random', {}, 'train', true, 0],
    ['failed', { network: null }, 'start', true, 0],
    ['training', { phase: 'base', running: true, progress: progress({}), samples: [sample(null)] }, 'none', false, 0],
    ['paused too early', { phase: 'base', progress: progress({}), samples: [sample(null)] }, 'train', true, 0],
    ['trained', { phase: 'base', running: true, progress: progress({}), samples: [sample(0.8), sample(null)] }, 'cluster', true, 0],
    ['trained, then one bad sample', { phase: 'base', running: true, progress: progress({}), samples: [sample(0.8), sample(0.5)] }, 'cluster', true, 0],
    ['trained for long', { phase: 'base', running: true, progress: progress({ epoch: 5 }), samples: [sample(0.3)] }, 'cluster', true, 0],
    ['pulling', { ...pulling, running: true, apart: 0.5, progress: progress({}) }, 'none', false, 1],
    ['paused while pulling', { ...pulling, apart: 0.5, progress: progress({}) }, 'goOn', true, 1],
    ['equal', { ...pulling, apart: 1e-7, progress: done }, 'cut', true, 1],
    ['equal before the time is over', { ...pulling, apart: 1e-7, progress: progress({}) }, 'cut', true, 1],
    ['over, but not equal', { ...pulling, apart: 0.5, progress: done }, 'goOn', true, 1],
    ['over, then more time', { ...pulling, apart: 0.5, progress: done, applied: { ...DEFAULTS, collapseSteps: 600 } }, 'goOn', true, 1],
    ['loaded wide, equal already', { ...pulling, clusteredAt: 0, apart: 1e-7, origin: 'file', hasBase: false }, 'cut', true, 1],
    ['cut', { phase: 'cut', certificate, hasBase: true }, 'compare', true, 2],
    ['cut without a base', { phase: 'cut', certificate }, 'download', true, 2],
    ['compared', { phase: 'cut', certificate, comparison: { accuracy: 0.3, baseAccuracy: 0.8 } as State['comparison'] }, 'download', true, 3],
  ])('offers the next thing: %s', (_, patch, action, ready, now) => {
    const told = story(state(patch));
    expect(told.primary.action).toBe(action);
    expect(told.primary.ready).toBe(ready);
    expect(told.steps.map((step) => step.status)).toEqual([0, 1, 2, 3].map((i) => (i < now ? 'past' : i === now ? 'now' : 'ahead')));
    expect(told.sentence.length).toBeGreaterThan(20);
  });

  it('calls filters equal when they were measured to be, and not when their time is over', () => {
    expect(story(state({ ...pulling, apart: 1e-7, progress: done })).sentence).toContain('equal up to rounding');
    const { sentence, primary } = story(state({ ...pulling, apart: 0.5, progress: done, view }));
    expect(sentence).toMatch(/^The time is over, but filters of a cluster still differ by up to 0\.5\. Give it more time or more strength/);
    expect(primary.label).toContain('twice the time');
    expect(equal(state({ apart: null }))).toBe(false);
    expect([over(state({ ...pulling, progress: done })), over(state({ ...pulling, progress: progress({}) })), pulled(state({ ...pulling, progress: progress({ step: 200 }) }))]).toEqual([true, false, 0.5]);
  });

  it('warns before and while pulling if the settings will not do', () => {
    const ready: Partial<State> = { phase: 'base', progress: progress({}), samples: [sample(0.8)] };
    expect(story(state({ ...ready, forecast })).sentence).toContain('Strength 0.2 would do');
    expect(story(state({ ...ready, forecast: { ...forecast, verdict: 'enough' } })).sentence).toContain('press Pull together');
    expect(story(state({ ...pulling, running: true, apart: 0.5, progress: progress({}), forecast })).sentence).toContain('Strength 0.2 would do');
  });

  it('does not call a lossy cut free, nor a lucky one', () => {
    expect(story(state({ phase: 'cut', certificate: { ...certificate, argmaxAgreement: 640, lossless: false } })).sentence).toContain('360 of 1,000 answers changed');
    expect(story(state({ phase: 'cut', certificate: { ...certificate, maxAbsLogitDiff: 0.3, lossless: false } })).sentence).toContain('by luck');
    expect(story(state({ phase: 'cut', certificate })).sentence).toContain('All 1,000 test answers are the same, with 40');
  });

  it('says what the accuracy was measured on, and of which state the certificate is', () => {
    const first = (patch: Partial<State>) => story(state({ phase: 'base', progress: progress({}), ...patch })).steps[0]!.result.replace('\u00a0', ' ');
    expect(first({ samples: [sample(0.8)] })).toBe('accuracy 80.0 % of 256 test images');
    expect(first({ samples: [sample(null)] })).toBe('accuracy 50.0 % of training images');
    const after = state({ phase: 'cut', certificate, cutAt: 350, progress: progress({ step: 360 }) });
    expect([tuned(after), tuned({ ...after, progress: done })]).toEqual([true, false]);
    expect(story(after).sentence).toContain('since the cut at step 350');
  });

  it('knows the base from a file', () => {
    const evaluation = { accuracy: 0.8, samples: 1000 };
    expect(story(state({ phase: 'base', origin: 'base', evaluation })).sentence).toContain('This is the base network again: it gets 80.0');
    expect(story(state({ phase: 'base', origin: 'file', evaluation })).sentence).toContain('was loaded from a file and gets');
  });
});

describe('clusters', () => {
  it('lists members, their spread, and the nearest pair', () => {
    expect(membersOf([2, 0, 2, 1, 2, 0])).toEqual([[0, 2, 4], [1, 5], [3]]);
    expect(spread(view, [0, 2])).toBeCloseTo(0.5);
    expect(spread(view, [1])).toBe(0);
    expect(nearestPair(view)).toEqual([1, 3]);
  });

  it('measures togetherness by the logarithm', () => {
    expect(togetherness(1, 1)).toBe(0);
    expect(togetherness(Math.exp(-7.5), 1)).toBeCloseTo(0.5);
    expect([togetherness(1e-9, 1), togetherness(0, 1), togetherness(2, 1)]).toEqual([1, 1, 0]);
  });
});

describe('what a filter sees', () => {
  it('is a convolution with zero padding', () => {
    const view = { layer: 'c', rows: 1, rowLength: 9, shape: [1, 1, 3, 3], clusters: Uint32Array.of(0), survivors: Uint32Array.of(0), weights: Float32Array.of(0, 0, 0, 1, 0, 0, 0, 0, 0) };
    const map = featureMap(view, 0, Float32Array.of(1, 2, 3, 4), [1, 2, 2]);
    expect([...map.values]).toEqual([0, 1, 0, 3]);
  });

  it('is read by columns whose sum is the sum of the parts', () => {
    const consumer = { layer: 'd', rows: 2, rowLength: 8, shape: [2, 2, 2, 2], clusters: Uint32Array.of(0, 1), survivors: Uint32Array.of(0, 1), weights: Float32Array.from({ length: 16 }, (_, i) => i) };
    const [a, b] = [readingWeights(consumer, 0, 2), readingWeights(consumer, 1, 2)];
    expect([...a.values]).toEqual([0, 8, 1, 9, 2, 10, 3, 11]);
    expect([...summed([a, b]).values]).toEqual([4, 20, 6, 22, 8, 24, 10, 26]);
  });
});

describe('numbers and files', () => {
  const plain = (texts: string[]) => texts.map((text) => text.replaceAll('\u00a0', ' '));

  it('are written for people', () => {
    expect(plain([count(999), count(113000), count(1.03e6), bytes(80300), percent(0.8312)])).toEqual(['999', '113 k', '1.03 M', '78.4 KiB', '83.1 %']);
    expect(plain([scientific(3.8e-6), scientific(0.25), scientific(0), change(100, 42)])).toEqual(['3.8 × 10⁻⁶', '0.25', '0', '−58 %']);
  });

  it('are refused before they are opened if they cannot work', () => {
    expect(refusal([{ name: 'a.gz', size: 1000 }])).toBeNull();
    expect(refusal([{ name: 'big.bin', size: 2 ** 30 }])).toContain('big.bin would need 1.0 GiB');
    expect(refusal([{ name: 'a', size: 0 }])).toContain('a is empty');
    expect(refusal([{ name: '.gitkeep', size: 0 }, { name: 'b.png', size: 9 }])).toBeNull();
    expect(refusal([])).toContain('Nothing');
    expect(refusal([{ name: 'a.safetensors', size: 9 }, { name: 'b.png', size: 9 }])).toContain('alone');
  });
});
