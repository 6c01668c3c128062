/** Which device computes, and why, said plainly. */

import type { DeviceInfo } from '../client/types';
import { byId, element, make, setText } from './dom';
import { bytes, whole } from './format';
import type { Store } from './state';

const KINDS: Record<DeviceInfo['kind'], string> = {
  gpu: 'WebGPU',
  'software-gpu': 'WebGPU, software adapter',
  cpu: 'CPU, in WebAssembly',
};

export class DevicePanel {
  constructor(store: Store) {
    const chip = byId('device-chip', HTMLButtonElement);
    const card = element('device-card');
    const toggle = (open: boolean): void => {
      chip.setAttribute('aria-expanded', String(open));
      card.hidden = !open;
    };
    chip.addEventListener('click', () => toggle(card.hidden === true));
    document.addEventListener('keydown', (event) => {
      if (event.key !== 'Escape' || card.hidden) return;
      toggle(false);
      chip.focus();
    });
    document.addEventListener('pointerdown', (event) => {
      if (card.hidden !== true && event.target instanceof Node && !card.contains(event.target) && !chip.contains(event.target)) toggle(false);
    });
    store.subscribe((state, changed) => {
      if (changed.has('device') && state.device) show(state.device);
    });
  }
}

function show(device: DeviceInfo): void {
  const chip = element('device-chip');
  chip.dataset['kind'] = device.kind;
  setText(element('device-kind'), KINDS[device.kind]);
  setText(element('device-name'), device.kind === 'cpu' ? '' : device.name);
  setText(element('device-reason'), `${KINDS[device.kind]}. Why: ${device.reason.replace(/\.$/, '')}.`);
  const facts: [string, string][] = [
    ['Device', device.name], ['Backend', device.backend], ['Driver', device.driver],
    ...Object.entries(device.limits).slice(0, 8).map(([name, value]): [string, string] => [spaced(name), /size/i.test(name) ? bytes(value) : whole(value)]),
  ];
  element('device-facts').replaceChildren(...facts.filter(([, value]) => value !== '').flatMap(([name, value]) => [make('dt', {}, name), make('dd', {}, value)]));
}

const spaced = (name: string) => name.replace(/([a-z])([A-Z])/g, '$1 $2').toLowerCase().replace(/^./, (first) => first.toUpperCase());
