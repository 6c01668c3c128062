import { describe, expect, it } from 'vitest';
import type { Certificate, Progress } from '../client/types';
import { membersOf, nearestPair, spread, togetherness } from './clusters';
import { featureMap, readingWeights, summed } from './feature';
import { refusal } from './files';
import { bytes, change, count, percent, scientific } from './format';
import { initialState, type State } from './state';
import { story } from './story';
import { DEFAULTS } from './url';

const progress = (patch: Partial<Progress>): Progress => ({
  phase: 'base', step: 100, epoch: 1, loss: 1, accuracy: 0.5, images: 1, imagesPerSecond: 1, stepsPerSecond: 1, lr: 0.1, strength: null,
  deviation: null, forecast: null, validation: null, ...patch,
});
const sample = (validation: number | null) => ({ step: 100, loss: 1, accuracy: 0.5, validation, deviation: null });
const state = (patch: Partial<State>): State => ({ ...initialState(DEFAULTS, 'auto'), busy: null, network: { layers: [], nodes: [], macs: 1, parameters: 1, bytes: 1 }, ...patch });
const certificate = { samples: 1000, argmaxAgreement: 1000, baseAccuracy: 0.8, wideAccuracy: 0.8, slimAccuracy: 0.8, lossless: true } as Certificate;

describe('story', () => {
  it.each<[Partial<State>, string, boolean, number]>([
    [{ busy: 'Starting' }, 'none', false, 0],
    [{}, 'train', true, 0],
    [{ network: null }, 'start', true, 0],
    [{ phase: 'base', running: true, progress: progress({}), samples: [sample(null)] }, 'cluster', false, 0],
    [{ phase: 'base', running: true, progress: progress({}), samples: [sample(0.8), sample(null)] }, 'cluster', true, 0],
    [{ phase: 'centripetal', running: true, clusteredAt: 50, progress: progress({}) }, 'none', false, 1],
    [{ phase: 'centripetal', clusteredAt: 50, progress: progress({}) }, 'train', true, 1],
    [{ phase: 'centripetal', clusteredAt: 50, collapsed: true, progress: progress({}) }, 'cut', true, 1],
    [{ phase: 'cut', certificate }, 'compare', true, 2],
    [{ phase: 'cut', certificate, comparison: { accuracy: 0.3, baseAccuracy: 0.8 } as State['comparison'] }, 'download', true, 3],
  ])('offers the next thing: %#', (patch, action, ready, now) => {
    const told = story(state(patch));
    expect(told.primary.action).toBe(action);
    expect(told.primary.ready).toBe(ready);
    expect(told.steps.map((step) => step.status)).toEqual([0, 1, 2, 3].map((i) => (i < now ? 'past' : i === now ? 'now' : 'ahead')));
    expect(told.sentence.length).toBeGreaterThan(20);
  });

  it('does not call a lossy cut free', () => {
    const told = story(state({ phase: 'cut', certificate: { ...certificate, argmaxAgreement: 640, lossless: false } }));
    expect(told.sentence).toContain('360 of 1,000 answers changed');
  });
});

describe('clusters', () => {
  const view = { layer: 'conv1', rows: 4, rowLength: 2, shape: [4, 2], clusters: Uint32Array.of(0, 1, 0, 1), survivors: Uint32Array.of(0, 1), weights: Float32Array.of(0, 0, 5, 5, 1, 0, 5, 5.5) };

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
  it('are written for people', () => {
    expect([count(999), count(113000), count(1.03e6), bytes(80300), percent(0.8312)]).toEqual(['999', '113 k', '1.03 M', '78.4 KiB', '83.1 %']);
    expect([scientific(3.8e-6), scientific(0.25), scientific(0), change(100, 42)]).toEqual(['3.8 × 10⁻⁶', '0.25', '0', '−58 %']);
  });

  it('are refused before they are opened if they cannot work', () => {
    expect(refusal([{ name: 'a.gz', size: 1000 }])).toBeNull();
    expect(refusal([{ name: 'big.bin', size: 2 ** 30 }])).toContain('big.bin would need 1.0 GiB');
    expect(refusal([{ name: 'a', size: 0 }])).toContain('empty');
    expect(refusal([])).toContain('Nothing');
    expect(refusal([{ name: 'a.safetensors', size: 9 }, { name: 'b.png', size: 9 }])).toContain('alone');
  });
});
