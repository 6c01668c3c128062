import './style.css';
import { choice } from './shared/library.ts';
import { make, setText } from './shared/dom.ts';
import { adapterOf } from './shared/kernel.ts';
import { loseDevice } from './shared/gpu.ts';
import { settings } from './shared/state.ts';

type Mount = (block: HTMLElement) => Promise<void>;

const blocks = import.meta.glob<Mount>('./blocks/*.ts', { import: 'default' });

async function mount(block: HTMLElement): Promise<void> {
  const load = blocks[`./blocks/${block.dataset.block}.ts`];
  try {
    if (!load) throw new Error(`there is no block ${block.dataset.block}`);
    await (await load())(block);
    block.dataset.ready = 'yes';
  } catch (error) {
    block.dataset.ready = 'failed';
    block.append(make('p', { class: 'verdict bad', role: 'alert' }, `This part does not work: ${(error as Error).message}`));
  }
}

async function device(): Promise<void> {
  const field = document.getElementById('device') as HTMLSelectElement;
  field.value = choice();
  field.onchange = () => {
    // Everything that runs belongs to a device, so the page begins anew with another.
    const query = settings();
    if (field.value === 'auto') query.delete('device');
    else query.set('device', field.value);
    location.search = query.toString();
  };
  const found = await adapterOf();
  const name = document.getElementById('device-name')!;
  const notice = document.getElementById('no-gpu')!;
  if (found) {
    setText(name, found.software ? `${found.name} (computed by the CPU)` : found.name);
  } else {
    const chosen = choice() === 'cpu';
    setText(name, chosen ? 'CPU' : 'no WebGPU here');
    notice.textContent = chosen
      ? 'This page is set to the CPU: what you see is computed by the twins. Shaders that you edit are checked, but run only on a GPU.'
      : 'This browser offers no WebGPU. The lessons run on the twins, in WebAssembly; shaders that you edit are checked, but cannot run. Chrome, Edge, Safari 26 and Firefox 141 or later have WebGPU on most machines.';
    notice.hidden = false;
  }
}

void device();
void Promise.all([...document.querySelectorAll<HTMLElement>('[data-block]')].map(mount));
// For tests of what a lost device does to a page.
document.addEventListener('lose-device', () => void loseDevice());
