/** Lesson 4: the variance of numbers far from zero, by two formulas. */

import { chart, legend, type Series } from '../shared/chart.ts';
import { controls, onTheCpu, slider } from '../shared/controls.ts';
import { few, latest, make, table } from '../shared/dom.ts';
import { shader } from '../shared/files.ts';
import { adapterOf, runReal, twin } from '../shared/kernel.ts';
import { call } from '../shared/library.ts';

interface Variance { exact: number; twin: number; onePass: number; mean: number; unbiased: number }

const COUNT = 4096;

/** The variance of `x` by the shader of the library, where there is a GPU. */
async function byShader(x: Float32Array): Promise<number | null> {
  if (!(await adapterOf())) return null;
  const name = 'batch_norm_statistics';
  const one = () => new Float32Array(1);
  const { value } = await twin(name, { n: 1, c: 1, pixels: COUNT, eps: 0, momentum: 1 }, [x, one(), one(), one(), one()], [1, 1, 1, 1]);
  const { outputs } = await runReal(name, await shader(name), value.words, value.workgroups[name]!, [x], [one(), one(), one(), one()], 1);
  return outputs[1]![0]! ** -2;
}

export default async function onepass(block: HTMLElement): Promise<void> {
  const redraw = latest(block, () => draw());
  const mean = slider('far', 'Mean of the numbers', { least: 1, most: 1e5, step: 0.25, start: 1000, log: true }, redraw);
  const holder = make('div');
  const curve = make('div');
  block.append(controls(redraw, mean), onTheCpu('The formulas are computed'), holder, curve);
  const numbers = (mean: number) => call<Variance>('variance', { mean, spread: 1, count: COUNT });
  const of = async (mean: number) => (await numbers(mean)).value;

  async function draw(): Promise<void> {
    const { value: found, arrays: [x] } = await numbers(mean.value);
    const onGpu = await byShader(x!);
    const error = (x: number) => few(Math.abs(x - found.exact) / found.exact, 2);
    holder.replaceChildren(
      table(`Variance of 4,096 numbers around ${few(mean.value)}`, ['formula', 'variance', 'relative error'], [
        ['mean of (x − mean)², in float64', few(found.exact, 6), '–'],
        ['mean of (x − mean)², by the twin', few(found.twin, 6), error(found.twin)],
        ['mean of x² less the square of the mean, in float32', few(found.onePass, 6), error(found.onePass)],
        ...(onGpu === null ? [] : [['one pass over differences, by your GPU with batch_norm_statistics.wgsl', few(onGpu, 6), error(onGpu)]]),
      ]),
    );
  }
  const points: { two: [number, number][]; one: [number, number][] } = { two: [], one: [] };
  for (let power = 0; power <= 5; power += 0.25) {
    const at = 10 ** power;
    const found = await of(at);
    points.two.push([at, Math.max(1e-9, Math.abs(found.twin - found.exact) / found.exact)]);
    points.one.push([at, Math.max(1e-9, Math.abs(found.onePass - found.exact) / found.exact)]);
  }
  const series: Series[] = [{ name: 'mean of x² less the square of the mean, in float32', colour: 1, points: points.one }, { name: 'mean of (x − mean)², by the twin', colour: 0, points: points.two, dashed: true }];
  curve.append(chart(series, { x: 'mean of the numbers', y: 'relative error', logX: true, logY: true }, 'Relative error of the variance by the mean of the numbers: that of the textbook formula grows with the square of the mean and passes 1 near a mean of 1,000; that of the twin stays small.'), legend(series));
  await draw();
}
