/** Lesson 4: one channel before and after batch norm. */

import { controls, slider } from '../shared/controls.ts';
import { few, latest, make, svg } from '../shared/dom.ts';
import { shader } from '../shared/files.ts';
import { adapterOf, runReal, twin } from '../shared/kernel.ts';
import { call } from '../shared/library.ts';

const COUNT = 4096;
const BINS = 48;

function histogram(values: Float32Array, low: number, high: number, label: string): HTMLElement {
  const bins = Array<number>(BINS).fill(0);
  for (const value of values) {
    const bin = Math.floor(((value - low) / (high - low)) * BINS);
    if (bin >= 0 && bin < BINS) bins[bin]!++;
  }
  const most = Math.max(...bins, 1);
  const bars = bins.map((count, i) => svg('rect', { x: 10 + i * 6, y: 100 - (90 * count) / most, width: 5, height: (90 * count) / most, class: 'bar' }));
  const picture = svg('svg', { viewBox: '0 0 310 124', class: 'chart', role: 'img', 'aria-label': label },
    ...bars, svg('line', { x1: 10, x2: 298, y1: 100.5, y2: 100.5, class: 'axis' }),
    svg('text', { x: 10, y: 118 }, few(low)), svg('text', { x: 298, y: 118, 'text-anchor': 'end' }, few(high)));
  return make('figure', { class: 'grow' }, picture, make('figcaption', { class: 'sizes' }, label));
}

export default async function normalise(block: HTMLElement): Promise<void> {
  const redraw = latest(block, () => draw());
  const mean = slider('mean', 'Mean of what comes in', { least: -10, most: 10, step: 0.5, start: 4 }, redraw);
  const spread = slider('spread', 'Its standard deviation', { least: 0.1, most: 5, step: 0.1, start: 2 }, redraw);
  const gamma = slider('gamma', 'γ (gamma)', { least: -3, most: 3, step: 0.1, start: 1 }, redraw);
  const beta = slider('beta', 'β (beta)', { least: -3, most: 3, step: 0.1, start: 0 }, redraw);
  const holder = make('div', { class: 'row' });
  const said = make('p', { class: 'figures', role: 'status' });
  block.append(controls(redraw, mean, spread, gamma, beta), holder, said);

  async function draw(): Promise<void> {
    const { arrays: [x] } = await call('variance', { mean: mean.value, spread: spread.value, count: COUNT });
    const params = { n: 1, c: 1, pixels: COUNT, eps: 1e-5, momentum: 1 };
    const zero = new Float32Array(1);
    const running = [new Float32Array([NaN]), new Float32Array([NaN]), zero, zero];
    const { arrays: [batchMean, invStd] } = await twin('batch_norm_statistics', params, [x!, ...running], [1, 1, 1, 1]);
    const inputs = [x!, batchMean!, invStd!, new Float32Array([gamma.value]), new Float32Array([beta.value])];
    const { value, arrays: [y] } = await twin('batch_norm_normalize', params, inputs, [COUNT]);
    let shown = y!;
    let by = 'the twin';
    if (await adapterOf()) {
      const name = 'batch_norm_normalize';
      const result = await runReal(name, await shader(name), value.words, value.workgroups[name]!, inputs, [new Float32Array(COUNT)], 1);
      shown = result.outputs[0]!;
      by = 'your GPU';
    }
    const { arrays: [outMean, outInv] } = await twin('batch_norm_statistics', { ...params, eps: 0 }, [shown, ...running], [1, 1, 1, 1]);
    holder.replaceChildren(histogram(x!, -20, 20, 'coming in'), histogram(shown, -10, 10, `going out, by ${by}`));
    said.textContent = `Mean ${few(batchMean![0])}, deviation ${few(1 / invStd![0]!)} come in; mean ${few(outMean![0])}, deviation ${few(1 / outInv![0]!)} go out.`;
  }
  await draw();
}
