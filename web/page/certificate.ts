/** The certificate of the cut: wide, slim and, once compared, the L1 cut, side by side. */

import type { Certificate, Comparison } from '../client/types';
import { byId, element, make, setText } from './dom';
import { bytes, change, count, milliseconds, percent, scientific, whole } from './format';
import { tuned } from './pull';
import type { State, Store } from './state';

/** A figure, or a figure and how it changed. */
type Cell = string | [string, string];
interface Column { title: string; note: string; kind: string }

export class CertificatePanel {
  constructor(store: Store) {
    const section = element('certificate');
    store.subscribe((state, changed) => {
      if (changed.has('progress')) setText(element('certificate-of'), certificateIsOf(state));
      if (!['certificate', 'comparison', 'fold', 'phase'].some((key) => changed.has(key as 'fold'))) return;
      const { certificate, comparison, fold } = state;
      section.hidden = !certificate || fold < 1 || state.phase !== 'cut';
      if (!certificate) return;
      setText(element('certificate-of'), certificateIsOf(state));
      headline(certificate);
      table(certificate, comparison);
      bars(certificate, comparison);
    });
  }
}

/** Of which state it is, once there is another. */
function certificateIsOf(state: State): string {
  const first = 'every test image through both networks, on this device';
  return tuned(state) ? `${first}, at the cut (step ${whole(state.cutAt ?? 0)}); the slim network was trained on since` : first;
}

function headline(certificate: Certificate): void {
  const { argmaxAgreement, samples, lossless } = certificate;
  element('certificate').classList.toggle('lossy', !lossless);
  setText(element('certificate-count'), `${whole(argmaxAgreement)} of ${whole(samples)}`);
  setText(element('certificate-verdict'), lossless ? 'answers equal: the cut lost nothing' : `answers equal${argmaxAgreement === samples ? ', but logits differ' : ''}: this cut was too early`);
}

function table(certificate: Certificate, comparison: Comparison | null): void {
  const columns: Column[] = [
    { title: 'Wide', note: 'pulled together', kind: 'wide' },
    { title: 'Slim', note: 'after the cut', kind: 'slim' },
    ...(comparison ? [{ title: 'L1 cut', note: 'of the base', kind: 'l1' }] : []),
  ];
  const c = certificate;
  const l1 = (text: (comparison: Comparison) => string) => (comparison ? [text(comparison)] : []);
  const smaller = (show: (value: number) => string, before: number, after: number): Cell => [show(after), change(before, after)];
  const rows: [string, Cell[]][] = [
    ['Accuracy', [percent(c.wideAccuracy, 2), percent(c.slimAccuracy, 2), ...l1((x) => percent(x.accuracy, 2))]],
    ['Equal answers', ['', `${whole(c.argmaxAgreement)} of ${whole(c.samples)}`, ...l1((x) => `${whole(x.argmaxAgreement)} of ${whole(x.samples)}`)]],
    ['Largest logit difference', ['', scientific(c.maxAbsLogitDiff), ...l1((x) => scientific(x.maxAbsLogitDiff))]],
    ['MACs an image', [count(c.macsBefore), smaller(count, c.macsBefore, c.macsAfter), ...l1((x) => count(x.macsAfter))]],
    ['Parameters', [count(c.paramsBefore), smaller(count, c.paramsBefore, c.paramsAfter), ...l1(() => count(c.paramsAfter))]],
    ['Size', [bytes(c.bytesBefore), smaller(bytes, c.bytesBefore, c.bytesAfter), ...l1(() => bytes(c.bytesAfter))]],
    ['Time an image', [milliseconds(c.latencyBeforeMs), milliseconds(c.latencyAfterMs), ...l1(() => '')]],
  ];
  const head = make('tr', {}, make('td', {}), ...columns.map(({ title, note, kind }) =>
    make('th', { scope: 'col', class: kind }, title, make('small', {}, note))));
  byId('certificate-head', HTMLElement).replaceChildren(head);
  byId('certificate-body', HTMLElement).replaceChildren(...rows.map(([name, cells]) =>
    make('tr', {}, make('th', { scope: 'row' }, name), ...cells.map((cell, i) => {
      const [text, note] = typeof cell === 'string' ? [cell, ''] : cell;
      return make('td', { class: columns[i]!.kind }, text || '–', ...(note ? [make('span', { class: 'change' }, note)] : []));
    }))));
}

/** Accuracies as bars: what the eye compares. */
function bars(certificate: Certificate, comparison: Comparison | null): void {
  const lines: [string, number, string][] = [
    ...(certificate.baseAccuracy === null ? [] : [['Base', certificate.baseAccuracy, 'base'] as [string, number, string]]),
    ['Wide, pulled together', certificate.wideAccuracy, 'wide'],
    ['Slim, identical filters cut', certificate.slimAccuracy, 'slim'],
    ...(comparison ? [['Base, cut by L1 norm', comparison.accuracy, 'l1'] as [string, number, string]] : []),
  ];
  element('certificate-bars').replaceChildren(...lines.map(([name, value, kind]) => {
    const bar = make('span', { class: `bar ${kind}` });
    bar.style.width = `${Math.max(0.5, 100 * value)}%`;
    return make('li', {}, make('span', { class: 'name' }, name), make('span', { class: 'track' }, bar), make('span', { class: 'value' }, percent(value)));
  }));
}
