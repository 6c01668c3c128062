/** Lesson 2: the gradient of nine weights, by the backward kernels and by finite differences. */

import { chart, legend, type Series } from '../shared/chart.ts';
import { controls, slider } from '../shared/controls.ts';
import { few, latest, make, table } from '../shared/dom.ts';
import { shader } from '../shared/files.ts';
import { adapterOf, runReal, twin } from '../shared/kernel.ts';
import { call } from '../shared/library.ts';

interface Gradient {
  x: number[]; dy: number[]; loss: number; backward: number[]; differences: number[]; error: number; curve: [number, number][];
}

export default async function differences(block: HTMLElement): Promise<void> {
  const redraw = latest(block, () => draw());
  const h = slider('h', 'h: how far each weight is moved', { least: 1e-7, most: 1, step: 0.25, start: 0.001, log: true }, redraw);
  const holder = make('div');
  const curve = make('div');
  block.append(controls(redraw, h), holder, curve);

  async function draw(): Promise<void> {
    const { value } = await call<Gradient>('gradient', { h: h.value });
    let gpu: number[] | null = null;
    if (await adapterOf()) {
      const params = { n: 1, c: 1, h: 6, w: 6, k: 1, r: 3, s: 3, p: 4, q: 4, stride_h: 1, stride_w: 1, dilation_h: 1, dilation_w: 1, groups: 1, splits: 1 };
      const inputs = [Float32Array.from(value.x), Float32Array.from(value.dy)];
      const { value: { words, workgroups } } = await twin('conv2d_weight_gradient', params, inputs, [9]);
      const name = 'conv2d_weight_gradient';
      gpu = [...(await runReal(name, await shader(name), words, workgroups[name]!, inputs, [new Float32Array(9)], 1)).outputs[0]!];
    }
    const rows = value.backward.map((twinSays, i) => [
      `weight ${Math.floor(i / 3)},${i % 3}`, few(twinSays, 5), ...(gpu ? [few(gpu[i], 5)] : []), few(value.differences[i], 5), few(Math.abs(twinSays - value.differences[i]!), 2),
    ]);
    holder.replaceChildren(
      table(`Loss ${few(value.loss, 6)}; its slope along each of the nine weights`, ['tap', 'backward (twin)', ...(gpu ? ['backward (GPU)'] : []), `differences, h = ${few(h.value)}`, 'apart'], rows),
    );
    const series: Series[] = [
      { name: 'largest error of the nine', colour: 0, points: value.curve },
      { name: 'the h of the slider', colour: 1, points: [[h.value, value.error]], dots: true },
    ];
    const best = value.curve.reduce((least, point) => (point[1] < least[1] ? point : least));
    curve.replaceChildren(
      chart(series, { x: 'h', y: 'error', logX: true, logY: true }, `Error of finite differences by h: smallest, ${few(best[1])}, near h = ${few(best[0])}, and larger on both sides.`),
      legend(series),
    );
  }
  await draw();
}
