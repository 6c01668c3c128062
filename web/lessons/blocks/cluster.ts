/** Lesson 6: the base network's own filters in clusters. */

import { chart, legend, type Series } from '../shared/chart.ts';
import { controls, onTheCpu, select, slider } from '../shared/controls.ts';
import { few, latest, make } from '../shared/dom.ts';
import { call } from '../shared/library.ts';

interface Layer { name: string; group: number; width: number; dims: [number, number, number, number] }
interface Clustered { labels: number[]; clusters: number[][]; chi: number; maxAbs: number; curve: number[] }

const METHODS = [['kmeans', 'k-means'], ['even', 'even'], ['imbalanced', 'imbalanced']] as [string, string][];

/** One filter: its channels side by side, blue below zero, orange above. */
function filterTile(weights: Float32Array, [, channels, height, width]: Layer['dims'], most: number): HTMLCanvasElement {
  const columns = Math.ceil(Math.sqrt(channels));
  const rows = Math.ceil(channels / columns);
  const canvas = make('canvas', { width: String(columns * width), height: String(rows * height), 'aria-hidden': 'true' });
  const context = canvas.getContext('2d')!;
  weights.forEach((weight, i) => {
    const [channel, r, s] = [Math.floor(i / (height * width)), Math.floor(i / width) % height, i % width];
    const part = Math.min(1, Math.abs(weight) / most);
    const [red, green, blue] = weight < 0 ? [33, 102, 172] : [208, 88, 12];
    const mixed = [red!, green!, blue!].map((c) => Math.round(255 + (c - 255) * part));
    context.fillStyle = `rgb(${mixed.join(' ')})`;
    context.fillRect((channel % columns) * width + s, Math.floor(channel / columns) * height + r, 1, 1);
  });
  return canvas;
}

export default async function cluster(block: HTMLElement): Promise<void> {
  const { value, arrays } = await call<Layer[]>('layers');
  const layers = value as unknown as Layer[];
  const redraw = latest(block, () => draw());
  const layer = select('layer', 'Layer', layers.map(({ name, width }) => [name, `${name}, ${width} filters`]), layers.at(-1)!.name, redraw);
  const method = select('method', 'Clusters by', METHODS, 'kmeans', redraw);
  const keep = slider('keep', 'Clusters: filters that stay', { least: 1, most: 16, step: 1, start: 8 }, redraw);
  const seed = slider('seed', 'Seed of k-means', { least: 0, most: 20, step: 1, start: 0 }, redraw);
  const said = make('p', { class: 'figures', role: 'status' });
  const tiles = make('div', { class: 'row' });
  const curve = make('div');
  const curves = new Map<string, number[]>();
  block.append(controls(redraw, layer, method, keep, seed), onTheCpu('Clusters are made'), said, tiles, curve);

  async function draw(): Promise<void> {
    const index = layers.findIndex(({ name }) => name === layer.value);
    const { dims, width } = layers[index]!;
    const weights = arrays[index]!;
    const length = weights.length / dims[0];
    const kept = Math.min(keep.value, width);
    const of = async (by: string, withCurve: boolean) =>
      (await call<Clustered>('cluster', { layer: layer.value, method: by, keep: kept, seed: seed.value, curve: withCurve })).value;
    const shown = await of(method.value, false);
    const most = weights.reduce((largest, weight) => Math.max(largest, Math.abs(weight)), 0);
    said.replaceChildren(
      `${width} filters in ${kept} clusters. Deviation χ `, make('strong', { 'data-chi': '' }, few(shown.chi, 4)),
      `; the weight farthest from its cluster’s mean is ${few(shown.maxAbs)} away.`,
    );
    tiles.replaceChildren(
      ...shown.clusters.map((members, number) =>
        make('div', { class: 'tile', role: 'img', 'aria-label': `Cluster ${number + 1}: filters ${members.join(', ')}; ${members[0]} survives` },
          make('div', { class: 'tiles' }, ...members.map((member) => make('div', {}, filterTile(weights.subarray(member * length, (member + 1) * length), dims, most), make('span', {}, member === members[0] && members.length > 1 ? `${member} stays` : String(member)))))),
      ),
    );
    const series: Series[] = [];
    for (const [i, [by, name]] of METHODS.entries()) {
      const key = `${by} ${layer.value} ${seed.value}`;
      if (!curves.has(key)) curves.set(key, (await of(by, true)).curve);
      const points = curves.get(key)!.map((chi, at): [number, number] => [at + 1, chi]);
      series.push({ name, colour: i, points, dots: by === method.value, dashed: by !== method.value });
    }
    // Each curve by its value at the number that is chosen, the smallest first.
    const ends = (at: number) => series.map(({ name, points }) => `${few(points[at]![1], 4)} for ${name}`).join(', ');
    const order = series.map(({ name, points }) => [name, points[kept - 1]![1]] as const).sort(([, a], [, b]) => a - b);
    curve.replaceChildren(
      chart(series, { x: 'clusters', y: 'deviation χ' }, `Deviation by number of clusters, 1 to ${width}, for ${layer.value}: with ${kept}, ${order.map(([name, chi]) => `${few(chi, 4)} for ${name}`).join(', ')}; with 1, ${ends(0)}; with ${width}, ${ends(width - 1)}.`),
      legend(series),
    );
  }
  await draw();
}
