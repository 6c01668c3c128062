/** Lesson 5: filters of two weights as points in a plane, moved by C-SGD. */

import { chart, legend, type Series } from '../shared/chart.ts';
import { controls, onTheCpu, player, select, slider } from '../shared/controls.ts';
import { few, make, svg, telling } from '../shared/dom.ts';
import { call } from '../shared/library.ts';
import { numberSetting, remember } from '../shared/state.ts';

interface Shown {
  step: number; points: [number, number][]; goals: [number, number][]; centres: [number, number][]; labels: number[];
  measured: number; forecast: number; chi: number; history: [number, number, number][];
}
/** Steps that an address may ask for; the curve of more says nothing new. */
const MOST_STEPS = 1000;

interface Forecast { logShrink: number; needed: number | null; why: string | null }

export default async function plane(block: HTMLElement): Promise<void> {
  // An address shows this step of a run with its settings, as if none of them had been changed on the way.
  const wanted = Math.round(numberSetting('step', 0, 0, MOST_STEPS));
  const told = () => void telling(block, foretell);
  const anew = () => void telling(block, again);
  const lr = slider('lr', 'Learning rate τ', { least: 0.001, most: 0.51, step: 0.05, start: 0.05, log: true }, told);
  const momentum = slider('momentum', 'Momentum μ', { least: 0, most: 0.95, step: 0.05, start: 0.9 }, anew);
  const strength = slider('strength', 'Strength ε', { least: 0, most: 2, step: 0.01, start: 0.05 }, told);
  const decay = slider('decay', 'Weight decay η', { least: 0, most: 0.1, step: 0.005, start: 0 }, told);
  const clusters = slider('clusters', 'Clusters', { least: 1, most: 12, step: 1, start: 3 }, anew);
  const kind = select('direction', 'Momentum is', [['plain', 'plain (heavy ball)'], ['nesterov', 'Nesterov’s']], 'plain', anew);
  const picture = make('div', { class: 'grow' });
  const curve = make('div', { class: 'grow' });
  const said = make('p', { class: 'figures', role: 'status' });
  const promise = make('p', { class: 'figures' });
  const settings = () => ({ lr: lr.value, momentum: momentum.value, strength: strength.value, decay: decay.value, nesterov: kind.value === 'nesterov' });
  const play = player(
    async () => {
      await steps(1);
      return true;
    },
    reset,
    { step: 'Step', reset: 'Step 0' },
  );
  block.append(
    controls(again, strength, lr, momentum, decay, clusters, kind),
    onTheCpu('The steps are made by the twin,'), promise, play.root, said, make('div', { class: 'row' }, picture, curve),
  );

  async function again(): Promise<void> {
    play.stop();
    await reset();
    await foretell();
  }
  async function reset(): Promise<void> {
    const { value } = await call<Shown>('plane.reset', { points: 12, clusters: clusters.value, seed: 1, kmeans: true, momentum: momentum.value, nesterov: kind.value === 'nesterov' });
    draw(value);
  }
  async function steps(count: number): Promise<void> {
    draw((await call<Shown>('plane.step', { ...settings(), curvature: 1, steps: count })).value);
  }
  async function foretell(): Promise<void> {
    const { value } = await call<Forecast>('plane.forecast', { ...settings(), steps: 400 });
    const needed = value.needed === null ? `No strength is enough in 400 steps. ${value.why?.replace(/^.*next: /, '') ?? ''}` : `Enough for identical filters would be a strength of ${few(value.needed)}.`;
    promise.replaceChildren('Forecast for 400 steps: differences shrink to e', make('sup', {}, few(value.logShrink)), ` of what they are. ${needed}`);
  }
  function draw(shown: Shown): void {
    remember({ step: Math.min(shown.step, MOST_STEPS) });
    // The goals do not move, so the picture does not.
    const middle = (axis: 0 | 1) => shown.goals.reduce((sum, goal) => sum + goal[axis], 0) / shown.goals.length;
    const [left, top] = [middle(0), middle(1)];
    const place = ([x, y]: [number, number]) => [160 + 50 * (x - left), 160 - 50 * (y - top)] as const;
    const drawn: SVGElement[] = [];
    shown.points.forEach((point, i) => {
      const [x, y] = place(point);
      const [cx, cy] = place(shown.centres[shown.labels[i]!]!);
      const [gx, gy] = place(shown.goals[i]!);
      const colour = shown.labels[i]! % 6;
      drawn.push(
        svg('line', { x1: x, y1: y, x2: cx, y2: cy, class: `pull colour-${colour}` }),
        svg('circle', { cx: gx, cy: gy, r: 2, class: 'goal' }),
        svg('circle', { cx: x, cy: y, r: 6, class: `dot colour-${colour}` }),
      );
    });
    shown.centres.forEach((centre, i) => {
      const [x, y] = place(centre);
      drawn.push(svg('path', { d: `M${x - 6} ${y}H${x + 6}M${x} ${y - 6}V${y + 6}`, class: `line colour-${i % 6}` }));
    });
    const label = `Twelve filters of two weights in ${shown.centres.length} clusters after ${shown.step} steps; crosses are the centres, grey dots what the data wants of each filter.`;
    picture.replaceChildren(svg('svg', { viewBox: '0 0 320 320', class: 'chart square', role: 'img', 'aria-label': label }, ...drawn));
    const line = (index: 1 | 2) => shown.history.map((entry): [number, number] => [entry[0], entry[index] / Math.LN10]);
    const series: Series[] = [{ name: 'measured', colour: 0, points: line(1) }, { name: 'forecast', colour: 1, points: line(2), dashed: true }];
    curve.replaceChildren(chart(series, { x: 'step', y: 'log10 of the difference', narrow: true }, `Difference inside clusters over steps: measured ${few(shown.measured / Math.LN10)}, forecast ${few(shown.forecast / Math.LN10)} powers of ten.`), legend(series));
    said.replaceChildren(`Step ${shown.step}. Differences inside clusters have shrunk to e`, make('sup', { 'data-measured': '' }, few(shown.measured)), '; the forecast says e', make('sup', { 'data-forecast': '' }, few(shown.forecast)), '.');
  }
  await again();
  if (wanted) await steps(wanted);
}
