/** Lesson 8: which channels are tied, derived from the graph; and an attempt to cut one alone. */

import { select, whereNetworksRun } from '../shared/controls.ts';
import { button, few, grouped, make, percent, table, telling } from '../shared/dom.ts';
import { call } from '../shared/library.ts';
import { numberSetting, remember } from '../shared/state.ts';

interface Coupled {
  nodes: { name: string; op: string; inputs: number[]; channels: number; groups: number[] }[];
  groups: { width: number; pacesetter: string | null; followers: string[]; members: string[]; frozen: string | null }[];
  macs: number; params: number;
}
interface Alone { done: boolean; why?: string }
interface Answered { agreement: number; samples: number; maxLogitDiff: number; relative: number; width: number; clusters: number[][] }
interface Apart { done: boolean; why?: string; own: string[]; tied: number; together: Answered; apart: Answered }
interface Together { done: boolean; why?: string; narrower: { name: string; before: number; after: number }[]; macsBefore: number; macsAfter: number; paramsBefore: number; paramsAfter: number }

const MODELS: [string, string][] = [
  ['lenet', 'LeNet'], ['resnet20', 'ResNet-20, projections'], ['resnet20 a', 'ResNet-20, option A'], ['densenet40', 'DenseNet-40'], ['mobilenet_v2', 'MobileNet V2'],
];

export default async function couplings(block: HTMLElement): Promise<void> {
  let coupled: Coupled;
  let node = numberSetting('node', 1, 0, 100_000);
  const model = select('network', 'Network', MODELS, 'resnet20', () => {
    node = 1;
    void telling(block, load);
  });
  const list = make('div', { class: 'network', tabindex: '0', role: 'region', 'aria-label': 'Layers of the network' });
  const told = make('div');
  const result = make('div', { class: 'status', role: 'status' });
  /** What is shown of another try goes first. */
  const anew = (work: () => Promise<void>) => async () => {
    result.replaceChildren();
    await work();
  };
  const alone = button('Cut a channel of this layer alone', anew(async () => {
    const { name } = coupled.nodes[node]!;
    const { value } = await call<Alone>('cut-alone', { model: model.value, node: name });
    result.replaceChildren(
      value.done
        ? make('p', { class: 'verdict good' }, `${name} could be cut alone.`)
        : make('p', { class: 'verdict bad' }, `It breaks: ${value.why}.`),
    );
    block.dataset.alone = value.done ? 'done' : 'broke';
  }));
  const together = button('Cut that channel everywhere it is tied', anew(async () => {
    const group = coupled.nodes[node]!.groups[0]!;
    const { value } = await call<Together>('cut-together', { model: model.value, group });
    block.dataset.together = value.done ? 'done' : 'refused';
    result.replaceChildren(
      ...(value.done
        ? [
          make('p', { class: 'verdict good' }, `The network is whole. ${value.narrower.length} layers became narrower:`),
          make('p', {}, value.narrower.map(({ name, before, after }) => `${name} ${before} → ${after}`).join(', ')),
          make('p', {}, `${grouped(value.macsBefore)} multiply-adds before, ${grouped(value.macsAfter)} after; ${grouped(value.paramsBefore)} parameters, ${grouped(value.paramsAfter)}.`),
        ]
        : [make('p', { class: 'verdict bad' }, value.why ?? '')]),
    );
  }));
  const apart = button('Give this layer clusters of its own, and cut', anew(async () => {
    const { name } = coupled.nodes[node]!;
    result.replaceChildren(make('p', {}, `${name}: two cuts and their answers …`));
    const { value } = await call<Apart>('cut-apart', { model: model.value, node: name }).catch((error: unknown) => {
      result.replaceChildren();
      throw error;
    });
    block.dataset.apart = !value.done ? 'refused' : value.apart.relative < 1e-4 ? 'same' : 'differs';
    if (!value.done) {
      result.replaceChildren(make('p', { class: 'verdict bad' }, `Not here: ${value.why}.`));
      return;
    }
    const groups = ({ clusters }: Answered) => clusters.filter((members) => members.length > 1).map((members) => members.join(' + ')).join(', ');
    const column = ({ agreement, samples, maxLogitDiff, width }: Answered) => [
      String(width), 'yes', `${agreement} of ${samples}`, few(maxLogitDiff, 2),
    ];
    const [one, own] = [column(value.together), column(value.apart)];
    const rows = ['channels left', 'shapes fit', 'equal answers', 'logits apart'];
    result.replaceChildren(
      make('p', { class: 'verdict bad' }, `No error. But ${value.apart.samples - value.apart.agreement} of ${value.apart.samples} pictures are answered otherwise, and logits are off by up to ${percent(value.apart.relative)} of the largest.`),
      make('p', {}, `In ${value.own.join(' and ')} other channels were merged than in the ${value.tied} layers that are tied to it, as many in both. The filters of every cluster had been made identical first, so each layer by itself was cut rightly.`),
      make('p', {}, `Merged in the tied layers: ${groups(value.together)}. In ${name}: ${groups(value.apart)}.`),
      table('Clusters of the layer: the same, its own', ['', 'same', 'its own'], rows.map((row, i) => [row, one[i]!, own[i]!])),
    );
  }));
  block.append(make('div', { class: 'controls' }, model.root), list, told, make('div', { class: 'buttons' }, alone, together, apart), await whereNetworksRun(), result);

  async function load(): Promise<void> {
    coupled = (await call<Coupled>('couplings', { model: model.value })).value;
    node = Math.min(node, coupled.nodes.length - 1);
    draw();
  }
  function draw(): void {
    remember({ node });
    result.replaceChildren();
    const mine = new Set(coupled.nodes[node]!.groups);
    const rows = coupled.nodes.map(({ name, op, inputs, channels, groups }, id) => {
      const choose = make('button', { type: 'button', 'aria-pressed': String(id === node) }, name);
      choose.onclick = () => {
        node = id;
        draw();
        list.querySelector<HTMLElement>('[aria-pressed="true"]')?.focus();
      };
      const tied = groups.some((group) => mine.has(group));
      return make('tr', tied ? { class: 'tied' } : {},
        make('th', { scope: 'row' }, choose), make('td', {}, op), make('td', {}, inputs.map((input) => coupled.nodes[input]!.name).join(', ')),
        make('td', {}, String(channels)), make('td', {}, `${groups.join(', ')}${tied ? ' ●' : ''}`));
    });
    const head = make('tr', {}, ...['layer', 'operator', 'reads', 'channels', 'group'].map((text) => make('th', { scope: 'col' }, text)));
    list.replaceChildren(make('table', {}, make('caption', {}, 'Choose a layer; ● marks those that share channels with it'), make('thead', {}, head), make('tbody', {}, ...rows)));
    told.replaceChildren(
      ...[...mine].map((index) => {
        const { width, pacesetter, followers, members, frozen } = coupled.groups[index]!;
        const who = frozen ? `They stay: ${frozen}.` : `Pacesetter is ${pacesetter}${followers.length ? `; ${followers.join(', ')} follow` : '; nobody follows'}.`;
        return make('p', {}, `Group ${index}: ${width} ${width === 1 ? 'channel that goes' : 'channels, each of which goes'} through ${members.length} layers. ${who}`);
      }),
    );
  }
  await load();
}
