/** Lesson 7: a cut with live numbers, and what one number that does not agree does to it. */

import { controls, select, slider, whereNetworksRun } from '../shared/controls.ts';
import { few, grouped, latest, make, percent, table } from '../shared/dom.ts';
import { call } from '../shared/library.ts';

interface Cut {
  cluster: number[]; survivor: number; moved: number; facts: { tensor: string; values: number[] }[];
  sums: { filter: number; before: number[]; after: number }[];
  agreement: number; samples: number; maxLogitDiff: number; accuracyBefore: number; accuracyAfter: number;
  macsBefore: number; macsAfter: number; paramsBefore: number; paramsAfter: number;
}

const NAMES: [string, string][] = [
  ['conv1.weight', 'filter (conv1.weight)'], ['bn1.weight', 'γ (bn1.weight)'], ['bn1.bias', 'β (bn1.bias)'],
  ['bn1.running_mean', 'mean (bn1.running_mean)'], ['bn1.running_var', 'variance (bn1.running_var)'],
];

export default async function surgery(block: HTMLElement): Promise<void> {
  const redraw = latest(block, () => draw());
  const tensor = select('tensor', 'Number that one member has for itself', NAMES, 'bn1.weight', redraw);
  const delta = slider('delta', 'By how much it differs', { least: 0, most: 0.5, step: 0.01, start: 0 }, redraw);
  const verdict = make('p', { class: 'verdict', role: 'status' });
  const facts = make('div');
  const sums = make('div');
  const certificate = make('div');
  block.append(controls(redraw, tensor, delta), await whereNetworksRun(), verdict, facts, sums, certificate);

  async function draw(): Promise<void> {
    const { value } = await call<Cut>('surgery', { tensor: tensor.value, delta: delta.value });
    const exact = value.agreement === value.samples;
    verdict.className = `verdict ${exact ? 'good' : 'bad'}`;
    verdict.textContent = `${grouped(value.agreement)} of ${grouped(value.samples)} answers are the same after the cut; the largest difference of a logit is ${few(value.maxLogitDiff, 2)}.`;
    block.dataset.exact = String(exact);
    const members = value.cluster.map((member) => `filter ${member}${member === value.survivor ? ' (stays)' : ''}`);
    facts.replaceChildren(
      table(`A cluster of conv1: what its members have (of the filter, the middle weight)`, ['', ...members], value.facts.map(({ tensor: name, values }) => [
        NAMES.find(([key]) => key === name)![1], ...values.map((number) => few(number, 5)),
      ])),
    );
    sums.replaceChildren(
      table('The next layer’s weights for these channels (middle taps), and their sum after the cut', ['', ...value.cluster.map((member) => `channel ${member}`), 'summed'],
        value.sums.map(({ filter, before, after }) => [`conv2, filter ${filter}`, ...before.map((number) => few(number, 4)), few(after, 4)])),
    );
    certificate.replaceChildren(
      table('Before and after the cut', ['', 'wide', 'slim'], [
        ['accuracy on 1,000 pictures', percent(value.accuracyBefore), percent(value.accuracyAfter)],
        ['multiply-adds a picture', grouped(value.macsBefore), grouped(value.macsAfter)],
        ['parameters', grouped(value.paramsBefore), grouped(value.paramsAfter)],
      ]),
    );
  }
  await draw();
}
