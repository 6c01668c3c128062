import './style.css';
import { choice, onFallBack } from './shared/library.ts';
import { setText, tellError } from './shared/dom.ts';
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
    tellError(block, `This part does not work: ${(error as Error).message}`);
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
  const name = document.getElementById('device-name')!;
  const notice = document.getElementById('no-gpu')!;
  const say = (top: string, text: string) => {
    setText(name, top);
    notice.textContent = text;
    notice.hidden = false;
  };
  const looked = adapterOf();
  onFallBack(async (why) => {
    const found = await looked;
    // Without an adapter it is said below.
    if (found) say(`${found.name} for shaders, the CPU for networks`, `This page is set to the GPU, but the library cannot open it, so networks run on the twins: ${why}`);
  });
  const found = await looked;
  if (found) {
    if (notice.hidden) setText(name, found.software ? `${found.name} (computed by the CPU)` : found.name);
    return;
  }
  const none = 'This browser offers no WebGPU. The lessons run on the twins, in WebAssembly; shaders that you edit are checked, but cannot run. Chrome, Edge, Safari 26 and Firefox 141 or later have WebGPU on most machines.';
  if (choice() === 'cpu') say('CPU', 'This page is set to the CPU: what you see is computed by the twins. Shaders that you edit are checked, but run only on a GPU.');
  else if (choice() === 'gpu') say('no GPU here, so the CPU', `This page is set to the GPU, but there is none. ${none}`);
  else say('no WebGPU here', none);
}

/** What is folded away is printed too, and folded again after. */
function unfoldInPrint(): void {
  const opened: HTMLDetailsElement[] = [];
  addEventListener('beforeprint', () => {
    for (const folded of document.querySelectorAll<HTMLDetailsElement>('details:not([open])')) {
      folded.open = true;
      opened.push(folded);
    }
  });
  addEventListener('afterprint', () => {
    for (const unfolded of opened.splice(0)) unfolded.open = false;
  });
}

void device();
unfoldInPrint();
void Promise.all([...document.querySelectorAll<HTMLElement>('[data-block]')].map(mount));
// For tests of what a lost device does to a page.
document.addEventListener('lose-device', () => void loseDevice());
