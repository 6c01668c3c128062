/** What one filter of the first layer sees in an image, and what the next layer makes of each channel. */

import type { FilterView } from '../client/types';

export interface Map2d { width: number; height: number; values: Float32Array }

/** The convolution of `image` (C x H x W) with one filter, zero-padded to the same size. */
export function featureMap(view: FilterView, row: number, image: Float32Array, shape: [number, number, number]): Map2d {
  const [channels, height, width] = shape;
  const [, , r = 1, s = 1] = view.shape;
  const values = new Float32Array(height * width);
  const base = row * view.rowLength;
  for (let c = 0; c < channels; c++) {
    for (let i = 0; i < r; i++) {
      for (let j = 0; j < s; j++) {
        const w = view.weights[base + (c * r + i) * s + j] ?? 0;
        const [dy, dx] = [i - (r >> 1), j - (s >> 1)];
        for (let y = Math.max(0, -dy); y < Math.min(height, height - dy); y++) {
          for (let x = Math.max(0, -dx); x < Math.min(width, width - dx); x++) {
            values[y * width + x]! += w * image[(c * height + y + dy) * width + x + dx]!;
          }
        }
      }
    }
  }
  return { width, height, values };
}

/**
 * The weights with which `consumer` reads channel `channel` of the layer before it, which has `channels`: one
 * column a filter of the consumer, one row a tap (taps of a linear layer after flatten are averaged to 3 x 3).
 */
export function readingWeights(consumer: FilterView, channel: number, channels: number): Map2d {
  const block = Math.round(consumer.rowLength / channels);
  const taps = Math.min(block, 9);
  const values = new Float32Array(taps * consumer.rows);
  const perTap = block / taps;
  for (let k = 0; k < consumer.rows; k++) {
    for (let t = 0; t < block; t++) {
      const weight = consumer.weights[k * consumer.rowLength + channel * block + t] ?? 0;
      values[Math.min(taps - 1, Math.floor(t / perTap)) * consumer.rows + k]! += weight;
    }
  }
  return { width: consumer.rows, height: taps, values };
}

/** Element by element. */
export function summed(maps: Map2d[]): Map2d {
  const [first] = maps;
  if (!first) return { width: 0, height: 0, values: new Float32Array() };
  const values = new Float32Array(first.values.length);
  for (const map of maps) map.values.forEach((value, i) => (values[i]! += value));
  return { ...first, values };
}

/** The largest absolute value, at least a little, to divide by. */
export function largest(values: ArrayLike<number>): number {
  let most = 1e-12;
  for (let i = 0; i < values.length; i++) most = Math.max(most, Math.abs(values[i]!));
  return most;
}
