/** Lesson 1: a real picture through a filter that the reader sets. */

import { controls, select, slider } from '../shared/controls.ts';
import { few, latest, make } from '../shared/dom.ts';
import { call } from '../shared/library.ts';
import { shader } from '../shared/files.ts';
import { adapterOf, runReal, twin } from '../shared/kernel.ts';

const PRESETS: Record<string, number[]> = {
  horizontal: [-1, -2, -1, 0, 0, 0, 1, 2, 1],
  vertical: [-1, 0, 1, -2, 0, 2, -1, 0, 1],
  blur: Array<number>(9).fill(1 / 9),
  sharpen: [0, -1, 0, -1, 5, -1, 0, -1, 0],
};

/** Draws a plane of numbers: white is the largest, black the smallest. */
export function plane(values: Float32Array, side: number, label: string): HTMLElement {
  const canvas = make('canvas', { width: String(side), height: String(side), class: 'picture', role: 'img', 'aria-label': label });
  const context = canvas.getContext('2d')!;
  const picture = context.createImageData(side, side);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  values.forEach((value, i) => picture.data.set([...Array<number>(3).fill(Math.round((255 * (value - low)) / (high - low || 1))), 255], 4 * i));
  context.putImageData(picture, 0, 0);
  return make('figure', { class: 'grow' }, canvas, make('figcaption', { class: 'sizes' }, label));
}

export default async function picture(block: HTMLElement): Promise<void> {
  const redraw = latest(block, () => draw());
  const index = slider('picture', 'Picture', { least: 0, most: 99, step: 1, start: 1 }, redraw);
  const preset = select('taps', 'Filter', [['horizontal', 'Horizontal edges'], ['vertical', 'Vertical edges'], ['blur', 'Mean of nine'], ['sharpen', 'Sharpen']], 'horizontal', redraw);
  const holder = make('div', { class: 'row' });
  const said = make('p', { class: 'sizes', role: 'status' });
  block.append(controls(redraw, index, preset), holder, said);

  async function draw(): Promise<void> {
    const { value, arrays: [x] } = await call<{ shape: number[]; class: string }>('image', { index: index.value });
    const side = value.shape[1]!;
    const weight = Float32Array.from(PRESETS[preset.value]!);
    const params = { n: 1, c: 1, h: side, w: side, k: 1, r: 3, s: 3, p: side, q: side, stride_h: 1, stride_w: 1, pad_top: 1, pad_left: 1, dilation_h: 1, dilation_w: 1, groups: 1, splits: 1 };
    const { value: { words, workgroups }, arrays: [y] } = await twin('conv2d_forward', params, [x!, weight, new Float32Array(0)], [side * side]);
    let shown = y!;
    let by = 'the twin';
    if (await adapterOf()) {
      const name = 'conv2d_forward_direct';
      const result = await runReal('conv2d_forward', await shader(name), words, workgroups[name]!, [x!, weight, new Float32Array(1)], [new Float32Array(side * side)], 1);
      shown = result.outputs[0]!;
      by = 'your GPU';
    }
    holder.replaceChildren(plane(x!, side, `${value.class}, ${side} × ${side} pixels`), plane(shown, side, `after the filter, by ${by}`));
    said.textContent = `${(9 * side * side).toLocaleString('en')} multiply-adds, minus those that fall on the border. Outputs from ${few(Math.min(...shown))} to ${few(Math.max(...shown))}.`;
  }
  await draw();
}
