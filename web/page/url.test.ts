import { describe, expect, it } from 'vitest';
import { DEFAULTS, fromQuery, keepOfSixteenths, readKeep, toQuery, type Shared } from './url';

describe('settings in the address', () => {
  it('say nothing where all is as by default', () => {
    expect(toQuery({ settings: DEFAULTS, device: 'auto', autotune: true })).toBe('');
    expect(fromQuery('')).toEqual({ settings: DEFAULTS, device: 'auto', autotune: true });
  });

  it('come back as they went', () => {
    const shared: Shared = {
      settings: { ...DEFAULTS, model: 'resnet20', width: 0.5, batch: 128, seed: 7, lr: 0.012, keep: '5/8', strength: 0.3, collapseSteps: 600, clustering: 'even' },
      device: 'cpu',
      autotune: false,
    };
    const query = toQuery(shared);
    expect(query).toContain('keep=5/8');
    expect(fromQuery(query)).toEqual(shared);
    expect(toQuery(fromQuery(query))).toBe(query);
  });

  it.each([
    'model=alexnet', 'width=-1', 'width=', 'width=99', 'batch=2.5', 'batch=1e9', 'lr=NaN', 'lr=0', 'keep=9/8', 'keep=0/8', 'keep=five', 'strength=-1',
    'strength=Infinity', 'clustering=none', 'seed=-3', 'collapseSteps=0', 'device=tpu', '__proto__=1', '%00=%00',
  ])('ignore nonsense: %s', (query) => {
    expect(fromQuery(`?${query}`)).toEqual({ settings: DEFAULTS, device: 'auto', autotune: true });
  });
});

describe('the part that stays', () => {
  it('is a fraction in lowest terms', () => {
    expect([2, 5, 8, 10, 12, 16].map(keepOfSixteenths)).toEqual(['1/8', '5/16', '1/2', '5/8', '3/4', '1/1']);
    expect(readKeep('5/8')).toEqual([5, 8]);
    expect(readKeep('1/1')).toEqual([1, 1]);
    expect(['0/1', '2/1', '1/0', '1', '', '-1/2', '1/2/3'].map(readKeep)).toEqual(Array(7).fill(undefined));
  });
});
