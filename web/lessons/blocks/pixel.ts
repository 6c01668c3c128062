/** Lesson 1: a small picture, a filter, and one output pixel as its nine products. */

import { controls, player, select, slider } from '../shared/controls.ts';
import { few, latest, make, table } from '../shared/dom.ts';
import { shader } from '../shared/files.ts';
import { adapterOf, runReal, twin } from '../shared/kernel.ts';
import { numberSetting, remember } from '../shared/state.ts';

const SIDE = 6;
const IMAGE = [
  0, 0, 1, 1, 0, 0,
  0, 2, 5, 5, 2, 0,
  1, 5, 9, 9, 5, 1,
  1, 5, 9, 9, 5, 1,
  0, 2, 5, 5, 2, 0,
  0, 0, 1, 1, 0, 0,
];
const FILTERS: Record<string, number[]> = {
  edges: [-1, 0, 1, -2, 0, 2, -1, 0, 1],
  blur: [1, 1, 1, 1, 1, 1, 1, 1, 1],
  sharpen: [0, -1, 0, -1, 5, -1, 0, -1, 0],
  one: [0, 0, 0, 0, 1, 0, 0, 0, 0],
};

/** The output pixel that is shown at first. */
const FIRST = 5;

const grid = (caption: string, columns: number, cells: Node[]): HTMLElement => {
  const rows = [];
  for (let at = 0; at < cells.length; at += columns) rows.push(make('tr', {}, ...cells.slice(at, at + columns)));
  return make('table', { class: 'cells' }, make('caption', {}, caption), make('tbody', {}, ...rows));
};

export default async function pixel(block: HTMLElement): Promise<void> {
  const redraw = latest(block, () => draw());
  const filter = select('filter', 'Filter', [['edges', 'Edges (Sobel)'], ['blur', 'Sum of nine'], ['sharpen', 'Sharpen'], ['one', 'Only the middle']], 'edges', redraw);
  const stride = slider('stride', 'Stride: pixels from one output to the next', { least: 1, most: 3, step: 1, start: 1 }, redraw);
  const pad = slider('padding', 'Padding: zeros around the picture', { least: 0, most: 2, step: 1, start: 0 }, redraw);
  const dilation = slider('dilation', 'Dilation: pixels from one tap to the next', { least: 1, most: 2, step: 1, start: 1 }, redraw);
  let at = numberSetting('output', FIRST, 0, 99);
  const holder = make('div', { class: 'row' });
  const sum = make('p', { class: 'figures' });
  const gpu = make('p', { class: 'sizes', role: 'status' });
  const play = player(
    async () => {
      at++;
      await draw();
      await new Promise((resolve) => setTimeout(resolve, 500));
      return true;
    },
    async () => {
      at = 0;
      await draw();
    },
    { step: 'Next pixel', reset: 'First pixel' },
  );
  const asAtFirst = () => {
    play.stop();
    at = FIRST;
    redraw();
  };
  block.append(controls(asAtFirst, filter, stride, pad, dilation), play.root, holder, sum, gpu);

  // Draws may overtake one another; what is shown is the last that was asked for.
  let asked = 0;
  async function draw(): Promise<void> {
    const mine = ++asked;
    const out = Math.floor((SIDE + 2 * pad.value - dilation.value * 2 - 1) / stride.value) + 1;
    at = Math.min(at, 1e6) % (out * out);
    remember({ output: at });
    const weight = FILTERS[filter.value]!;
    const params = {
      n: 1, c: 1, h: SIDE, w: SIDE, k: 1, r: 3, s: 3, p: out, q: out, stride_h: stride.value, stride_w: stride.value,
      pad_top: pad.value, pad_left: pad.value, dilation_h: dilation.value, dilation_w: dilation.value, groups: 1, splits: 1,
    };
    const x = Float32Array.from(IMAGE);
    const none = new Float32Array(0);
    const { value, arrays: [y] } = await twin('conv2d_forward', params, [x, Float32Array.from(weight), none], [out * out]);
    // Nine filters of one tap each: what each tap adds.
    const taps = new Float32Array(81);
    weight.forEach((w, i) => (taps[10 * i] = w));
    const { arrays: [terms] } = await twin('conv2d_forward', { ...params, k: 9 }, [x, taps, none], [9 * out * out]);
    if (mine !== asked) return;
    const [p, q] = [Math.floor(at / out), at % out];
    const place = (tap: number) => [
      p * stride.value + Math.floor(tap / 3) * dilation.value - pad.value,
      q * stride.value + (tap % 3) * dilation.value - pad.value,
    ] as const;
    const seen = new Set(weight.map((_, tap) => place(tap).join()));
    const inputs = [];
    for (let row = -pad.value; row < SIDE + pad.value; row++) {
      for (let column = -pad.value; column < SIDE + pad.value; column++) {
        const inside = row >= 0 && column >= 0 && row < SIDE && column < SIDE;
        inputs.push(make('td', seen.has(`${row},${column}`) ? { class: 'seen' } : {}, inside ? String(IMAGE[row * SIDE + column]) : '·'));
      }
    }
    const outputs = [...y!].map((value, i) => {
      const press = make('button', { type: 'button', 'aria-pressed': String(i === at), 'aria-label': `Output row ${Math.floor(i / out)}, column ${i % out}: ${value}` }, few(value));
      press.onclick = () => {
        at = i;
        void draw().then(() => block.querySelector<HTMLElement>('[aria-pressed="true"]')?.focus());
      };
      return make('td', {}, press);
    });
    holder.replaceChildren(
      grid('x: the picture; what this pixel sees is outlined', SIDE + 2 * pad.value, inputs),
      grid('weight: the filter', 3, weight.map((w) => make('td', {}, few(w)))),
      grid('y: choose a pixel', out, outputs),
    );
    const products = weight.map((w, tap) => {
      const [h, c] = place(tap);
      const inside = h >= 0 && c >= 0 && h < SIDE && c < SIDE;
      const factor = inside ? String(IMAGE[h * SIDE + c]) : '0 (outside)';
      return [`r ${Math.floor(tap / 3)}, s ${tap % 3}`, few(w), factor, few(terms![tap * out * out + at])];
    });
    sum.replaceChildren(
      table(`y at row ${p}, column ${q}: nine products`, ['tap', 'weight', 'pixel', 'product'], products),
      make('p', {}, 'Their sum, by the twin: ', make('strong', { 'data-sum': '' }, few(y![at]))),
    );
    if (await adapterOf()) {
      const name = 'conv2d_forward_direct';
      const result = await runReal('conv2d_forward', await shader(name), value.words, value.workgroups[name]!, [x, Float32Array.from(weight), new Float32Array(1)], [new Float32Array(out * out)], 1);
      if (mine !== asked) return;
      const worst = y!.reduce((most, value, i) => Math.max(most, Math.abs(value - result.outputs[0]![i]!)), 0);
      gpu.textContent = `Your GPU, with shaders/${name}.wgsl, says ${few(result.outputs[0]![at])} here; over all ${out * out} pixels the largest difference to the twin is ${few(worst)}.`;
    } else {
      gpu.textContent = 'Computed by the twin in Rust; there is no GPU to compare with.';
    }
  }
  await draw();
}
