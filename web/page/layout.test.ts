import { describe, expect, it } from 'vitest';
import type { LayerInfo, NetworkInfo } from '../client/types';
import { consumerOf, layoutBars } from './scale';
import { drawnTogether, layoutTiles } from './tiles';

const alone = (rows: number) => Array.from({ length: rows }, (_, i) => [i]);

describe('layoutTiles', () => {
  it.each([
    [alone(16), 16, 390, 232],
    [[[0, 3, 4, 9], [1, 2, 5], [6, 7], [8], [10], [11]], 12, 300, 200],
    [[[...Array(40).keys()], ...alone(24).map(([i]) => [i! + 40])], 64, 320, 240],
    [alone(512), 512, 320, 240],
  ])('keeps tiles inside and apart: case %#', (clusters, rows, width, height) => {
    const { slots, tile, blocks } = layoutTiles(clusters, rows, width, height);
    expect(slots).toHaveLength(rows);
    for (const { x, y } of slots) {
      expect(x).toBeGreaterThanOrEqual(0);
      expect(x + tile).toBeLessThanOrEqual(width);
      expect(y).toBeGreaterThanOrEqual(0);
    }
    slots.forEach((a, i) => slots.forEach((b, j) => {
      if (i < j) expect(Math.abs(a.x - b.x) >= tile || Math.abs(a.y - b.y) >= tile).toBe(true);
    }));
    for (const block of blocks) {
      for (const row of block.members) {
        const { x, y } = slots[row]!;
        expect(x >= block.x && y >= block.y && x + tile <= block.x + block.width && y + tile <= block.y + block.height).toBe(true);
      }
    }
  });

  it('fits the height while tiles are not yet tiny', () => {
    expect(layoutTiles(alone(64), 64, 390, 232).height).toBeLessThanOrEqual(232);
  });

  it('draws a cluster together without leaving its block', () => {
    const clusters = [[0, 1, 2, 3]];
    const { blocks, slots, tile } = layoutTiles(clusters, 4, 300, 200);
    const at = (amount: number) => slots.map((slot, i) => drawnTogether(blocks[0]!, slot, i, tile, amount));
    const reach = (amount: number) => Math.max(...at(amount).map(({ x }) => x)) - Math.min(...at(amount).map(({ x }) => x));
    expect(at(0)).toEqual(slots);
    expect(reach(1)).toBeLessThan(tile / 2);
    expect(reach(0.5)).toBeLessThan(reach(0.2));
    for (const { x } of at(1)) expect(x).toBeGreaterThanOrEqual(blocks[0]!.x);
  });
});

function layer(name: string, outputs: number, macs: number): LayerInfo {
  return { name, type: 'conv2d', shape: [outputs, 1, 3, 3], outputs, outputShape: [outputs, 8, 8], macs, parameters: 9, group: 0, clustered: true };
}

function network(layers: LayerInfo[]): NetworkInfo {
  const nodes = ['input', 'conv1', 'bn1', 'conv2', 'add', 'fc'].map((name, i) => ({ name, type: name, inputs: i ? [i - 1] : [], channels: 1, shape: [1, 1, 1] as [number, number, number] }));
  return { layers, nodes, macs: 0, parameters: 0, bytes: 0 };
}

describe('layoutBars', () => {
  const wide = network([layer('conv1', 16, 100), layer('bn1', 16, 0), layer('conv2', 32, 800), layer('fc', 10, 10)]);

  it('is to scale, in order and inside', () => {
    const bars = layoutBars(wide, wide, { conv1: [16, 4] }, 600, 100);
    expect(bars.map((bar) => bar.layer.name)).toEqual(['conv1', 'conv2', 'fc']);
    expect(bars[1]!.height).toBe(100);
    expect(bars[0]!.height).toBe(50);
    expect(bars[0]!.kept).toBeCloseTo(12.5);
    const [first, second, last] = bars as [typeof bars[0], typeof bars[0], typeof bars[0]];
    expect((second.width - 4) / (first.width - 4)).toBeCloseTo(8, 6);
    expect(second.x).toBeGreaterThan(first.x + first.width);
    expect(last.x + last.width).toBeCloseTo(600, 6);
  });

  it('fits a hundred layers on a phone', () => {
    const deep = network(Array.from({ length: 110 }, (_, i) => layer(`conv${i}`, 16, 10)));
    const last = layoutBars(deep, deep, {}, 320, 100).at(-1)!;
    expect(last.x + last.width).toBeLessThanOrEqual(320.001);
    expect(last.width).toBeGreaterThan(0);
  });

  it('finds the layer that reads a layer', () => {
    expect(consumerOf(wide, 'conv1')).toBe('conv2');
    expect(consumerOf(wide, 'conv2')).toBe('fc');
    expect(consumerOf(wide, 'fc')).toBeUndefined();
    expect(consumerOf(wide, 'nothing')).toBeUndefined();
  });
});
