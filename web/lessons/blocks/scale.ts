/** Lesson 10: multiply-adds against time on the reader's device. */

import { chart, legend, type Series } from '../shared/chart.ts';
import { deviceOfNetworks } from '../shared/controls.ts';
import { button, few, grouped, make, table } from '../shared/dom.ts';
import { call } from '../shared/library.ts';

interface Scaled { macsBefore: number; macsAfter: number; paramsBefore: number; paramsAfter: number; msBefore: number; msAfter: number }

export default async function scale(block: HTMLElement): Promise<void> {
  const said = make('p', { class: 'figures', role: 'status' });
  const holder = make('div');
  const run = button('Measure', async () => {
    try {
      await measure();
    } catch (error) {
      said.textContent = '';
      throw error;
    }
  }, 'primary');
  block.append(make('div', { class: 'buttons' }, run), said, holder);

  async function measure(): Promise<void> {
    const rows: (string | Node)[][] = [];
    const series: Series[] = [{ name: 'measured', colour: 0, points: [], dots: true }, { name: 'if time were multiply-adds', colour: 1, points: [[0, 0], [1, 1]], dashed: true }];
    const { words } = await deviceOfNetworks();
    for (const keep of ['1', '7/8', '3/4', '5/8', '1/2', '3/8', '1/4']) {
      said.textContent = `keep ${keep} …`;
      const { value } = await call<Scaled>('scale', { keep, batch: 50 });
      series[0]!.points.push([value.macsAfter / value.macsBefore, value.msAfter / value.msBefore]);
      rows.push([keep, grouped(value.macsAfter), few(value.macsBefore / value.macsAfter), grouped(value.paramsAfter), few(value.msAfter), few(value.msBefore / value.msAfter)]);
    }
    const ends = [series[0]!.points[0]!, series[0]!.points.at(-1)!].map(([macs, time]) => `${few(time)} of the time with ${few(macs)} of the multiply-adds`);
    holder.replaceChildren(
      chart(series, { x: 'multiply-adds, part of the base', y: 'time, part of the base' }, `Time of the slim network over that of the base, by its multiply-adds over those of the base: from ${ends.join(' to ')}.`),
      legend(series),
      table('Keep of every layer', ['keep', 'multiply-adds', 'times fewer', 'parameters', 'ms a picture', 'times as fast'], rows),
    );
    said.textContent = `Batches of 50 pictures on ${words}; each time beside the base’s in the same run, median of nine.`;
    block.dataset.measured = 'yes';
  }
}
