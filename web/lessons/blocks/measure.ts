/** Lesson 3: every variant of the convolution on the reader's own device. */

import { select } from '../shared/controls.ts';
import { button, few, make, table } from '../shared/dom.ts';
import { shader } from '../shared/files.ts';
import { adapterOf, kernel, runReal, twin } from '../shared/kernel.ts';

/** N, C, H = W, K of layers as they are in small ResNets; filters 3 x 3, padding 1. */
const SHAPES: Record<string, [n: number, c: number, side: number, k: number]> = {
  first: [8, 3, 32, 16],
  narrow: [8, 16, 32, 16],
  middle: [8, 32, 16, 32],
  wide: [8, 64, 8, 64],
};
/** A measurement lasts about so many milliseconds, of dispatches one after another. */
const WANTED = 120;

export default async function measure(block: HTMLElement): Promise<void> {
  const shape = select('layer', 'Layer', [
    ['first', '8 pictures, 3 → 16 channels, 32 × 32'], ['narrow', '8 pictures, 16 → 16 channels, 32 × 32'],
    ['middle', '8 pictures, 32 → 32 channels, 16 × 16'], ['wide', '8 pictures, 64 → 64 channels, 8 × 8'],
  ], 'narrow', () => {
    result.replaceChildren();
    status.textContent = '';
  });
  const status = make('p', { class: 'status', role: 'status' });
  const result = make('div');
  const run = button('Measure', async () => {
    try {
      await measureAll();
    } catch (error) {
      status.textContent = '';
      throw error;
    }
  }, 'primary');
  block.append(make('div', { class: 'controls' }, shape.root), make('div', { class: 'buttons' }, run), status, result);

  async function measureAll(): Promise<void> {
    const [n, c, side, k] = SHAPES[shape.value]!;
    const params = { n, c, h: side, w: side, k, r: 3, s: 3, p: side, q: side, stride_h: 1, stride_w: 1, pad_top: 1, pad_left: 1, dilation_h: 1, dilation_w: 1, groups: 1, splits: 1 };
    const numbers = (length: number) => Float32Array.from({ length }, (_, i) => Math.sin(i * 1.7));
    const inputs = [numbers(n * c * side * side), numbers(k * c * 9), new Float32Array(1)];
    const length = n * k * side * side;
    status.textContent = 'The twin, as a plain loop in WebAssembly …';
    const before = performance.now();
    const { value, arrays: [expected] } = await twin('conv2d_forward', params, inputs, [length]);
    const twinTime = performance.now() - before;
    const flops = 2 * length * c * 9;
    const speed = (milliseconds: number) => few(flops / milliseconds / 1e6);
    const rows: [string, number, string][] = [['twin (plain loop, one thread)', twinTime, '–']];
    const found = await adapterOf();
    const largest = expected!.reduce((most, y) => Math.max(most, Math.abs(y)), 0);
    for (const { name } of found ? (await kernel('conv2d_forward')).shaders : []) {
      const workgroups = value.workgroups[name]!;
      if (workgroups === 0) continue;
      status.textContent = `${name} …`;
      const text = await shader(name);
      const once = (repeat: number) => runReal('conv2d_forward', text, value.words, workgroups, inputs, [new Float32Array(length)], repeat);
      const first = await once(1);
      const worst = expected!.reduce((most, y, i) => Math.max(most, Math.abs(y - first.outputs[0]![i]!)), 0);
      // The first run compiled the pipeline; how many are needed is guessed from a second.
      const warm = (await once(1)).milliseconds;
      const repeat = Math.max(2, Math.min(500, Math.round(WANTED / Math.max(warm, 0.05))));
      const times = [];
      for (let i = 0; i < 3; i++) times.push((await once(repeat)).milliseconds / repeat);
      rows.push([name, times.sort((a, b) => a - b)[1]!, few(worst / largest, 2)]);
    }
    const fastest = Math.min(...rows.map(([, time]) => time));
    result.replaceChildren(
      table('Median of three measurements', ['variant', 'ms', 'GFLOP/s', 'times the fastest', 'largest difference to the twin'],
        rows.map(([name, time, apart]) => [name, few(time), speed(time), few(time / fastest), apart])),
    );
    status.textContent = found
      ? `Measured on ${found.name}${found.software ? ', which computes on your CPU: do not take it for a graphics card' : ''}. ${(flops / 2).toLocaleString('en')} multiply-adds a run.`
      : `No GPU here, so only the twin was measured. ${(flops / 2).toLocaleString('en')} multiply-adds a run.`;
  }
}
