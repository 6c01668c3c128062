/** The page: one state, one session, and panels that draw them. */

import './base.css';
import './layout.css';
import './panels.css';
import './controls.css';

import { AnswersPanel } from './answers';
import { App, groupedLayers } from './app';
import { CertificatePanel } from './certificate';
import { CloseupPanel } from './closeup';
import { Controls } from './controls';
import { CurvesPanel } from './curves';
import { DevicePanel } from './device';
import { byId, element, make, setText } from './dom';
import { DrawPanel } from './draw';
import { FilesPanel } from './files';
import { FiltersPanel } from './filters';
import { whole } from './format';
import { NetworkPanel } from './network';
import { notify } from './notice';
import { equal, over, tuned } from './pull';
import { PlanePanel } from './plane';
import { initialState, Store, type State } from './state';
import { story, trained, type Action } from './story';
import { fromQuery, toQuery } from './url';
import type { DeviceChoice } from '../client/types';

const NARROW = matchMedia('(max-width: 1000px)');

const shared = fromQuery(location.search);
const store = new Store(initialState(shared.settings, shared.device));
const app = new App(store);

const answers = new AnswersPanel();
app.onAnswers = (list, state) => answers.show(list, state);
new FiltersPanel(byId('filters', HTMLCanvasElement), store);
new PlanePanel(byId('plane', HTMLCanvasElement), store);
new CloseupPanel(byId('closeup', HTMLCanvasElement), element('closeup-note'), store);
new NetworkPanel(byId('network', HTMLCanvasElement), element('network-figures'), element('network-table'), store, (layer) => app.select(layer));
new CurvesPanel(element('curves'), element('deviation'), element('curves-note'), element('deviation-note'), store);
new CertificatePanel(store);
new DevicePanel(store);
new DrawPanel(store, { pick: (index) => app.pick(index), classify: (image) => app.draw(image) });
new FilesPanel({
  data: (files) => void app.useData(files),
  checkpoint: (file) => void app.load(file),
  refuse: (sentence) => notify(sentence),
});
new Controls(store, {
  live: (patch) => void app.change(patch),
  onReset: (patch) => store.set({ settings: { ...store.state.settings, ...patch } }),
  pace: (paced) => store.set({ paced }),
});

const actions: Record<Action, () => void> = {
  start: () => void app.start(),
  train: () => app.train(),
  cluster: () => void app.cluster(),
  goOn: () => void app.goOn(),
  cut: () => void app.cut(),
  compare: () => void app.compare(),
  download: () => void app.save('slim'),
  none: () => {},
};

const primary = byId('primary', HTMLButtonElement);
let action: Action = 'none';
let changedAt = 0;
/** A second click of a double click must not do the next thing too. */
const GUARD = 500;
primary.addEventListener('click', () => {
  if (performance.now() - changedAt > GUARD) actions[action]();
});

const click = (id: string, run: () => void) => byId(id, HTMLButtonElement).addEventListener('click', run);
click('run', () => void app.toggle());
click('step', () => void app.step());
click('reset', () => void app.reset());
click('apply', () => void app.reset());
click('pull', () => void app.cluster());
click('early', () => void app.cut());
click('again', () => void app.again());
click('embedded', () => void app.useEmbedded());
for (const which of ['base', 'wide', 'slim'] as const) click(`save-${which}`, () => void app.save(which));
click('share', () => {
  const said = (text: string) => setText(element('share-note'), text);
  showAddress();
  navigator.clipboard.writeText(location.href).then(() => said('Address copied.'), () => said('Copy it from the address bar.'));
});

const layerSelect = byId('layer', HTMLSelectElement);
layerSelect.addEventListener('change', () => app.select(layerSelect.value));
const deviceSelect = byId('device', HTMLSelectElement);
deviceSelect.value = shared.device;
deviceSelect.addEventListener('change', () => void app.use(deviceSelect.value as DeviceChoice));

addEventListener('beforeunload', (event) => {
  if (store.state.running) event.preventDefault();
});

const settingsBox = byId('settings', HTMLDetailsElement);
const fold = () => (settingsBox.open = !NARROW.matches);
NARROW.addEventListener('change', fold);
fold();

/** Puts the settings into the address. Safari allows a hundred changes in half a minute, and a slider makes more. */
const ADDRESS_AFTER = 400;
let addressTimer: ReturnType<typeof setTimeout> | undefined;
function showAddress(): void {
  clearTimeout(addressTimer);
  const { settings, deviceChoice } = store.state;
  try {
    history.replaceState(null, '', `${location.pathname}${toQuery({ settings, device: deviceChoice, autotune: shared.autotune })}${location.hash}`);
  } catch {
    addressTimer = setTimeout(showAddress, 10_000);
  }
}

store.subscribe((state, changed) => {
  if (changed.has('settings') || changed.has('deviceChoice')) {
    clearTimeout(addressTimer);
    addressTimer = setTimeout(showAddress, ADDRESS_AFTER);
  }
  showStory(state);
  showButtons(state);
  if (changed.has('deviceChoice')) deviceSelect.value = state.deviceChoice;
  if (changed.has('network') || changed.has('layer') || changed.has('phase')) showLayers(state);
  if (changed.has('data') && state.data) showData(state.data);
});

function showStory(state: State): void {
  const { steps, primary: next, sentence } = story(state);
  const items = element('story').children;
  steps.forEach(({ name, status, result }, i) => {
    const item = items[i] as HTMLElement;
    item.className = status;
    if (status === 'now') item.setAttribute('aria-current', 'step');
    else item.removeAttribute('aria-current');
    const [, title, figure] = item.children;
    setText(title as HTMLElement, name);
    setText(figure as HTMLElement, result);
  });
  setText(element('sentence'), sentence);
  if (next.action !== action) changedAt = performance.now();
  action = next.action;
  setText(primary, next.label);
  primary.setAttribute('aria-disabled', String(next.action === 'none'));
  primary.classList.toggle('ready', next.ready);
  primary.style.setProperty('--progress', `${100 * (next.progress ?? 0)}%`);
  const { progress } = state;
  setText(element('meta'), progress ? `step ${whole(progress.step)} · epoch ${progress.epoch.toFixed(1)} · ${whole(progress.imagesPerSecond)} images/s` : '');
}

function showButtons(state: State): void {
  const { running, busy, phase, hasBase } = state;
  const run = byId('run', HTMLButtonElement);
  setText(run, running ? 'Pause' : phase === 'empty' ? 'Train' : 'Train on');
  run.hidden = !running && action === 'train' && !state.progress;
  // Not hidden at the end of the pull: whoever paused by keyboard would lose the focus.
  run.disabled = busy !== null || !state.network || (over(state) && !running);
  byId('step', HTMLButtonElement).disabled = busy !== null || running || !state.network || over(state);
  byId('reset', HTMLButtonElement).disabled = busy !== null || !state.network;
  element('pull').hidden = phase !== 'base' || trained(state) || busy !== null;
  element('early').hidden = phase !== 'centripetal' || action === 'cut' || busy !== null;
  setText(element('early'), over(state) && !equal(state) ? 'Cut anyway' : 'Cut early');
  element('again').hidden = phase !== 'cut' || !state.certificate || !hasBase;
  byId('again', HTMLButtonElement).disabled = busy !== null;
  byId('save-base', HTMLButtonElement).disabled = !(hasBase || (phase === 'base' && state.progress));
  byId('save-wide', HTMLButtonElement).disabled = !(phase === 'centripetal' || state.certificate);
  byId('save-slim', HTMLButtonElement).disabled = phase !== 'cut';
  setText(element('save-slim'), tuned(state) ? 'Save slim, trained on' : 'Save slim');
  document.body.dataset['phase'] = phase;
  document.body.dataset['busy'] = String(busy !== null);
}

function showLayers(state: State): void {
  const names = groupedLayers(state.reference ?? state.network);
  if ([...layerSelect.options].map((option) => option.value).join() !== names.join()) {
    layerSelect.replaceChildren(...names.map((name) => new Option(name, name)));
  }
  if (state.layer) layerSelect.value = state.layer;
}

function showData({ name, shape, classes, train, test }: NonNullable<State['data']>): void {
  setText(element('validation-key'), `${Math.min(256, test)} test images`);
  element('data-facts').replaceChildren(
    make('strong', {}, name), ` ${whole(train)} training and ${whole(test)} test images of ${shape.join(' × ')}, ${classes.length} classes.`,
  );
}

void app.start();
