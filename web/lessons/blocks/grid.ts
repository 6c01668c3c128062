/** Lesson 3: which invocation computes which output pixel. */

import { controls, player, slider } from '../shared/controls.ts';
import { latest, make } from '../shared/dom.ts';
import { twin } from '../shared/kernel.ts';
import { remember, numberSetting } from '../shared/state.ts';

/** The invocation that is shown at first. */
const FIRST = 70;

export default async function grid(block: HTMLElement): Promise<void> {
  let index = numberSetting('invocation', FIRST, 0, 4095);
  const redraw = latest(block, () => draw());
  const side = slider('side', 'Side of the output, P = Q', { least: 4, most: 16, step: 1, start: 10 }, redraw);
  const holder = make('div', { class: 'row' });
  const said = make('p', { class: 'figures', role: 'status' });
  const play = player(
    async () => {
      index++;
      await draw();
      await new Promise((resolve) => setTimeout(resolve, 250));
      return true;
    },
    async () => {
      index = 0;
      await draw();
    },
    { step: 'Next invocation', reset: 'First' },
  );
  const asAtFirst = () => {
    play.stop();
    index = FIRST;
    redraw();
  };
  block.append(controls(asAtFirst, side), play.root, said, holder);

  async function draw(): Promise<void> {
    const [K, P] = [2, side.value];
    const area = P * P;
    const params = { n: 1, c: 1, h: P, w: P, k: K, r: 1, s: 1, p: P, q: P, stride_h: 1, stride_w: 1, dilation_h: 1, dilation_w: 1, groups: 1, splits: 1 };
    const { value } = await twin('conv2d_forward', params, [new Float32Array(area), new Float32Array(K), new Float32Array(0)], [K * area]);
    const workgroups = value.workgroups.conv2d_forward_direct!;
    index %= workgroups * 64;
    remember({ invocation: index });
    const [group, local] = [Math.floor(index / 64), index % 64];
    const inside = index < K * area;
    const [k, p, q] = [Math.floor(index / area), Math.floor((index % area) / P), index % P];
    said.replaceChildren(
      `The grid: ${workgroups} workgroups of 64 for ${K * area} numbers. Workgroup ${group}, invocation ${local}: i = ${group} · 64 + ${local} = ${index}, `,
      make('strong', { 'data-place': '' }, inside ? `k ${k}, p ${p}, q ${q}` : 'past the end: it returns at once'),
    );
    holder.replaceChildren(
      ...Array.from({ length: K }, (_, plane) => {
        const rows = Array.from({ length: P }, (_, row) =>
          make('tr', {}, ...Array.from({ length: P }, (_, column) => {
            const i = plane * area + row * P + column;
            const cell = make('td', i === index ? { class: 'seen' } : {}, i === index ? 'i' : '');
            cell.classList.add(`group-${Math.floor(i / 64) % 4}`);
            return cell;
          })));
        return make('table', { class: 'cells small' }, make('caption', {}, `filter k = ${plane}; colours: workgroups`), make('tbody', {}, ...rows));
      }),
    );
  }
  await draw();
}
