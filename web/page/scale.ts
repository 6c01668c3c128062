/** The network drawn to scale: a bar a layer, as high as it has channels, as wide as it has multiply-accumulates. */

import type { LayerInfo, NetworkInfo } from '../client/types';

export interface Bar {
  layer: LayerInfo;
  x: number;
  width: number;
  height: number;
  /** Height of the channels that stay. */
  kept: number;
}

/** Convolutions and linear layers: those that multiply. */
export function computingLayers(network: NetworkInfo): LayerInfo[] {
  return network.layers.filter((layer) => layer.macs > 0);
}

/**
 * Bars for `network` in `width` by `height`. `reference` is the network before the cut: it sets both scales, so
 * that a cut network is drawn as much smaller as it is. `widths` says how many channels stay.
 */
export function layoutBars(
  network: NetworkInfo,
  reference: NetworkInfo,
  widths: Record<string, [number, number]>,
  width: number,
  height: number,
): Bar[] {
  const layers = computingLayers(network);
  const all = computingLayers(reference);
  const gap = Math.max(0, Math.min(14, (width / all.length) * 0.2));
  const least = Math.min(4, (width / all.length) * 0.4);
  const room = width - gap * (all.length - 1) - least * all.length;
  const total = all.reduce((sum, layer) => sum + layer.macs, 0);
  const highest = Math.max(...all.map((layer) => layer.outputs));
  let x = 0;
  return layers.map((layer) => {
    const wide = least + (room * layer.macs) / total;
    const [before, after] = widths[layer.name] ?? [layer.outputs, layer.outputs];
    const tall = Math.max(2, (height * layer.outputs) / highest);
    const bar = { layer, x, width: wide, height: tall, kept: before > 0 ? (tall * Math.min(after, before)) / before : tall };
    x += wide + gap;
    return bar;
  });
}

/** The computing layer that first reads `name`'s channels, through layers that keep them (batch norm, pooling, flatten). */
export function consumerOf(network: NetworkInfo, name: string): string | undefined {
  const start = network.nodes.findIndex((node) => node.name === name);
  if (start < 0) return undefined;
  const reached = new Set([start]);
  const computing = new Set(computingLayers(network).map((layer) => layer.name));
  for (let i = start + 1; i < network.nodes.length; i++) {
    const node = network.nodes[i]!;
    if (!node.inputs.some((input) => reached.has(input))) continue;
    if (computing.has(node.name)) return node.name;
    reached.add(i);
  }
  return undefined;
}
