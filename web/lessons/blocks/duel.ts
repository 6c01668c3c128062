/** Lesson 9: group lasso beside C-SGD, from the same base, on the same images. */

import { chart, legend, type Series } from '../shared/chart.ts';
import { controls, player, select, slider, whereNetworksRun } from '../shared/controls.ts';
import { button, few, grouped, make, percent, table, telling } from '../shared/dom.ts';
import { call } from '../shared/library.ts';
import { numberSetting, remember } from '../shared/state.ts';

interface Entry { step: number; chi: number; residue: number; identityLoss: number | null; zeroLoss: number | null }
interface Shown { step: number; total: number; strength: number; lasso: number; history: Entry[] }
interface Side { before: number; after: number; agreement: number; samples: number; maxLogitDiff: number; macsBefore: number; macsAfter: number }

const CHUNK = 10;
const STEPS = 400;

export default async function duel(block: HTMLElement): Promise<void> {
  // Other settings are another race.
  const again = () => void telling(block, reset);
  // An address asks for a step; both networks train up to it before the reader's eyes.
  const wanted = Math.round(numberSetting('step', 0, 0, STEPS));
  const lasso = slider('lasso', 'Strength of group lasso', { least: 0.01, most: 1, step: 0.1, start: 0.05, log: true }, again);
  const keep = select('part', 'Keep of every layer', [['3/4', '3/4'], ['5/8', '5/8'], ['1/2', '1/2'], ['1/4', '1/4']], '1/2', again);
  const said = make('p', { class: 'figures', role: 'status' });
  const curves = make('div', { class: 'row' });
  const result = make('div', { class: 'status', role: 'status' });
  const all = make('div');
  const lines: string[][] = [];
  const play = player(advance, reset, { step: `${CHUNK} steps`, reset: 'Step 0' });
  const cut = button('Cut both', async () => {
    play.stop();
    const { value } = await call<{ step: number; identity: Side; zero: Side }>('duel.cut');
    const column = ({ before, after, agreement, samples, maxLogitDiff, macsAfter }: Side) =>
      [percent(before), percent(after), `${grouped(agreement)} of ${grouped(samples)}`, few(maxLogitDiff, 2), grouped(macsAfter)];
    const [identity, zero] = [column(value.identity), column(value.zero)];
    const names = ['accuracy before the cut', 'accuracy after it', 'equal answers', 'largest difference of a logit', 'multiply-adds after'];
    result.replaceChildren(table(`Both cut after ${value.step} steps, to the same widths, without fine-tuning`, ['', 'identical (C-SGD)', 'zero (group lasso)'], names.map((name, i) => [name, identity[i]!, zero[i]!])));
    if (value.step > 0) {
      const line = (name: string, { before, after, agreement, samples }: Side) => [name, `${value.step}`, keep.value, percent(before), percent(after), `${grouped(agreement)} of ${grouped(samples)}`];
      lines.push(line(`lasso ${few(lasso.value)}`, value.zero), line('C-SGD', value.identity));
      all.replaceChildren(table('All cuts so far, without training after them', ['method', 'steps', 'kept', 'before', 'after', 'equal answers'], lines));
    }
    block.dataset.cut = 'done';
  });
  play.root.append(cut);
  block.append(controls(reset, lasso, keep), await whereNetworksRun(), play.root, said, curves, result, all);

  async function reset(): Promise<void> {
    play.stop();
    result.replaceChildren();
    block.dataset.cut = '';
    draw((await call<Shown>('duel.start', { steps: STEPS, lr: 0.03, lasso: lasso.value, keep: keep.value })).value);
  }
  async function advance(): Promise<boolean> {
    const { value } = await call<Shown>('duel.step', { steps: CHUNK });
    draw(value);
    return value.step < value.total;
  }
  function draw(shown: Shown): void {
    const last = shown.history.at(-1)!;
    block.dataset.step = String(shown.step);
    remember({ step: shown.step });
    said.replaceChildren(
      `Step ${shown.step} of ${shown.total}; C-SGD of strength ${few(shown.strength)}, as forecast. Left to do: `,
      make('strong', { 'data-chi': '' }, few(last.chi, 2)), ' (deviation inside clusters) against ', make('strong', { 'data-residue': '' }, few(last.residue, 2)), ' (squares of the filters that would be deleted).',
    );
    const of = (value: (entry: Entry) => number | null) =>
      shown.history.map((entry): [number, number] => [entry.step, value(entry) ?? NaN]).filter(([, y]) => !Number.isNaN(y));
    const left: Series[] = [
      { name: 'identical: deviation', colour: 0, points: of(({ chi }) => Math.max(chi, 1e-16)) },
      { name: 'zero: what is left of deleted filters', colour: 1, points: of(({ residue }) => Math.max(residue, 1e-16)), dashed: true },
    ];
    const loss: Series[] = [
      { name: 'identical: loss', colour: 0, points: of(({ identityLoss }) => identityLoss) },
      { name: 'zero: loss', colour: 1, points: of(({ zeroLoss }) => zeroLoss), dashed: true },
    ];
    const lossWords = (value: (entry: Entry) => number | null) => {
      const points = of(value);
      return points.length ? `from ${few(points[0]![1])} to ${few(points.at(-1)![1])}` : 'none yet';
    };
    curves.replaceChildren(
      make('div', { class: 'grow' }, chart(left, { x: 'step', y: 'left to do', logY: true, narrow: true }, `What the cut will change, after ${shown.step} steps: ${few(last.chi, 2)} for identical filters, ${few(last.residue, 2)} for zeroed ones.`), legend(left)),
      make('div', { class: 'grow' }, chart(loss, { x: 'step', y: 'training loss', narrow: true }, `Training loss of both networks, ${lossWords(({ identityLoss }) => identityLoss)} for identical filters, ${lossWords(({ zeroLoss }) => zeroLoss)} for zeroed ones.`), legend(loss)),
    );
  }
  await reset();
  if (wanted) play.playUntil(() => Number(block.dataset.step) >= wanted);
}
