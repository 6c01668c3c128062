/** Lesson 10: the accuracy when one layer alone is narrowed, without any training. */

import { chart, legend, type Series } from '../shared/chart.ts';
import { select, whereNetworksRun } from '../shared/controls.ts';
import { button, make, percent } from '../shared/dom.ts';
import { call } from '../shared/library.ts';

interface Layer { name: string; group: number; width: number }

/** A curve by its ends and its worst point. */
function inWords({ name, points }: Series): string {
  const at = ([part, accuracy]: [number, number]) => `${percent(accuracy / 100)} with ${percent(part)}`;
  const worst = points.reduce((least, point) => (point[1] < least[1] ? point : least));
  return `${name}: ${at(points.at(-1)!)} of it, ${at(points[0]!)}; worst ${at(worst)}.`;
}

export default async function sensitivity(block: HTMLElement): Promise<void> {
  const layers = (await call<Layer[]>('layers')).value as unknown as Layer[];
  const holder = make('div');
  const said = make('p', { class: 'figures', role: 'status' });
  const method = select('how', 'The other filters are', [['l1', 'deleted (smallest L1 norm)'], ['merge', 'merged by k-means, untrained']], 'l1', () => {
    holder.replaceChildren();
    said.textContent = '';
  });
  const run = button('Measure', async () => {
    try {
      await measure();
    } catch (error) {
      said.textContent = '';
      throw error;
    }
  }, 'primary');
  block.append(make('div', { class: 'controls' }, method.root), await whereNetworksRun(), make('div', { class: 'buttons' }, run), said, holder);

  async function measure(): Promise<void> {
    const series: Series[] = [];
    let lowest = 1;
    for (const [i, { name, group, width }] of layers.entries()) {
      const points: [number, number][] = [];
      series.push({ name: `${name} (${width} filters)`, colour: i, points, dots: true, dashed: i > 0 });
      for (let keep = width; keep >= 1; keep -= Math.max(1, width / 8)) {
        said.textContent = `${name}: ${keep} of ${width} filters …`;
        const { value } = await call<{ accuracy: number }>('sensitivity', { group, keep, method: method.value });
        points.unshift([keep / width, 100 * value.accuracy]);
        lowest = Math.min(lowest, value.accuracy);
        holder.replaceChildren(chart(series, { x: 'part of the layer that stays', y: 'accuracy in %', range: [0, 100] }, `Accuracy by the part of a layer that stays. ${series.map(inWords).join(' ')}`), legend(series));
      }
    }
    said.textContent = `Each point is 1,000 test pictures. Lowest accuracy: ${percent(lowest)}; chance is 10 %.`;
    block.dataset.measured = 'yes';
  }
}
