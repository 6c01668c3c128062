/** What the buttons do: calls of the session in the right order, and their results into the state. */

import { Session } from '../client/session';
import type { Answer, DeviceChoice, FilterView, Progress, Settings } from '../client/types';
import { download } from './dom';
import type { Dropped } from './files';
import { percent, scientific, whole } from './format';
import { animate } from './motion';
import { clearNotices, notify, say, sentence } from './notice';
import { computingLayers, consumerOf } from './scale';
import { initialState, type Networks, type State, type Store } from './state';
import { fromQuery } from './url';

const FOLD_MS = 3200;
/** Filters are read back this often while training, each by one read-back. */
const VIEW_EVERY = 350;
/** A view that takes long, to read or to draw, is taken the less often. */
const VIEW_SHARE = 4;
/** Samples kept for the curves; beyond them every other one is dropped. */
const MOST_SAMPLES = 2400;
/** Layers whose filters are kept over the cut, so that they can still be looked at wide. */
const MOST_KEPT = 24;

export class App {
  #session: Session | null = null;
  #nextView = -Infinity;
  #reading = false;
  #wide = new Map<string, FilterView>();
  #networks: Networks | null = null;
  #epoch = 0;
  #phaseBegan = 0;
  onAnswers: (answers: Answer[], state: State) => void = () => {};

  constructor(readonly store: Store) {}

  get #state(): State {
    return this.store.state;
  }

  /** Opens a session on the device chosen, with the embedded data and a random network. */
  async start(): Promise<void> {
    await this.#doing('Starting', async () => {
      this.#session?.close();
      this.#session = null;
      const session = await Session.open({ device: this.#state.deviceChoice, autotune: fromQuery(location.search).autotune });
      this.#session = session;
      this.#listen(session);
      this.store.set({ device: session.device, busy: 'Loading images' });
      this.store.set({ data: await session.useEmbedded() });
      await this.#fresh();
    });
    if (this.#state.device?.kind === 'software-gpu' && this.#state.deviceChoice === 'auto') {
      notify('This browser has no hardware GPU to offer, only a software adapter: everything works, but the CPU code in WebAssembly is several times faster here.', 'warning', {
        label: 'Use the CPU',
        run: () => void this.use('cpu'),
      });
    }
  }

  /** Starts again on another device. */
  async use(deviceChoice: DeviceChoice): Promise<void> {
    this.store.set({ deviceChoice });
    await this.start();
  }

  #listen(session: Session): void {
    session.on('progress', (progress) => this.#progress(progress));
    session.on('device', (device) => {
      this.store.set({ device });
      if (device.lost) notify(`The device was lost. Another one was opened (${device.name}), and the session goes on from its last state.`, 'warning');
    });
    session.on('phase', ({ step }) => (this.#phaseBegan = step));
    session.on('error', (error) => {
      this.store.set({ running: false });
      notify(sentence(error));
    });
    session.on('paused', ({ why }) => {
      const collapsed = why === 'collapsed';
      this.store.set({ running: false, collapsed: this.#state.collapsed || collapsed });
      void this.#views(true);
      void this.#answer();
      if (collapsed) say('C-SGD has done its steps. Next: Cut.', true);
    });
    session.on('work', ({ what, done, of }) => {
      if (this.#state.busy && what === 'data') this.store.set({ busy: `Loading images, ${Math.round((100 * done) / of)} %` });
    });
  }

  /** A random network by the settings. */
  async #fresh(): Promise<void> {
    const session = this.#needed();
    const settings = { ...this.#state.settings };
    const network = await session.reset(settings);
    this.#forget();
    const { device, data, deviceChoice, busy, picked } = this.#state;
    const layer = firstGrouped(network);
    this.store.set({ ...initialState(settings, deviceChoice), device, data, busy, picked, network, reference: network, layer });
    clearNotices();
    if (!picked) await this.pick(0);
    await this.#views(true);
    await this.#answer();
  }

  #forget(): void {
    this.#wide.clear();
    this.#networks = null;
    this.#epoch++;
  }

  async reset(): Promise<void> {
    await this.#doing('Resetting', async () => {
      await this.#halt();
      await this.#fresh();
    });
  }

  async toggle(): Promise<void> {
    if (this.#state.running) await this.#doing(null, () => this.#halt());
    else this.train();
  }

  train(): void {
    const session = this.#session;
    if (!session) return notify('No session is open. Press Try again, or choose another device under Settings.');
    const { phase } = this.#state;
    this.store.set({ running: true, phase: phase === 'empty' ? 'base' : phase, collapsed: false });
    session.train().catch((error: unknown) => {
      this.store.set({ running: false });
      notify(sentence(error));
    });
  }

  async step(): Promise<void> {
    await this.#doing(null, async () => {
      await this.#halt();
      if (this.#state.phase === 'empty') this.store.set({ phase: 'base' });
      this.#progress(await this.#needed().step(1));
      await this.#views(true);
    });
  }

  async #halt(): Promise<void> {
    if (!this.#state.running) return;
    await this.#needed().pause();
    this.store.set({ running: false });
  }

  /** Clusters the base network and begins C-SGD. */
  async cluster(): Promise<void> {
    await this.#doing('Clustering', async () => {
      await this.#halt();
      const session = this.#needed();
      const { forecast, network, widths } = await session.cluster();
      const applied = { ...this.#state.settings };
      this.store.set({
        phase: 'centripetal', forecast, network, reference: network, widths, applied, hasBase: true, collapsed: false,
        clusteredAt: this.#phaseBegan, deviationAtStart: null,
      });
      await this.#views(true);
    });
    if (this.#state.phase === 'centripetal') this.train();
  }

  async cut(): Promise<void> {
    let cut = false;
    await this.#doing('Cutting', async () => {
      await this.#halt();
      await this.#keepWide();
      const wide = this.#state.network;
      const { certificate, network } = await this.#needed().cut();
      if (wide) this.#networks = { wide, slim: network };
      this.store.set({
        phase: 'cut', certificate, network, reference: wide, comparison: null, fold: 0.001, collapsed: true,
        cutAt: this.#phaseBegan,
      });
      cut = true;
    });
    if (!cut) return;
    const epoch = this.#epoch;
    await animate(FOLD_MS, (amount) => {
      if (epoch === this.#epoch) this.store.set({ fold: Math.max(0.001, amount) });
    });
    const { certificate } = this.#state;
    if (certificate) say(`Cut. ${whole(certificate.argmaxAgreement)} of ${whole(certificate.samples)} answers are equal, largest difference of a logit ${scientific(certificate.maxAbsLogitDiff)}.`, true);
    await this.#answer();
  }

  async compare(): Promise<void> {
    await this.#doing('Cutting the base by L1', async () => {
      const { comparison } = await this.#needed().compareL1();
      this.store.set({ comparison });
      say(`The base cut by L1 norm has an accuracy of ${percent(comparison.accuracy)}.`, true);
      await this.#answer();
    });
  }

  /** Back to the base network, to pull it together with other settings. */
  async again(): Promise<void> {
    await this.#doing('Taking the base again', async () => {
      await this.#halt();
      const base = await this.#needed().save('base');
      await this.#adopt('base.safetensors', base.slice().buffer);
    });
  }

  async load(file: File): Promise<void> {
    await this.#doing(`Loading ${file.name}`, async () => {
      const bytes = await file.arrayBuffer();
      await this.#halt();
      await this.#adopt(file.name, bytes);
        say(`${file.name} is loaded.`, true);
    });
  }

  async #adopt(name: string, bytes: ArrayBuffer): Promise<void> {
    const { network, phase, settings } = await this.#needed().load(name, bytes);
    this.#forget();
    const { device, data, deviceChoice, busy, picked } = this.#state;
    const merged: Settings = { ...this.#state.settings, ...settings };
    this.store.set({
      ...initialState(merged, deviceChoice), device, data, busy, picked, network, reference: network,
      phase, hasBase: phase === 'base', layer: firstGrouped(network),
    });
    clearNotices();
    await this.#views(true);
    await this.#answer();
    const { accuracy, samples } = await this.#needed().evaluate();
    this.store.set({ evaluation: { accuracy, samples } });
  }

  async useData(files: File[] | Dropped[]): Promise<void> {
    await this.#doing('Reading the data', async () => {
      await this.#halt();
      const data = await this.#needed().useFiles(files);
      this.store.set({ data, picked: null });
      await this.#fresh();
      say(`${data.name}: ${whole(data.train)} training and ${whole(data.test)} test images.`, true);
    });
  }

  async useEmbedded(): Promise<void> {
    await this.#doing('Loading images', async () => {
      await this.#halt();
      this.store.set({ data: await this.#needed().useEmbedded(), picked: null });
      await this.#fresh();
    });
  }

  async save(which: 'base' | 'wide' | 'slim'): Promise<void> {
    await this.#doing(null, async () => download(await this.#needed().save(which), `${which}.safetensors`));
  }

  /** Settings that apply at once; the session says what it took. */
  async change(patch: Partial<Settings>): Promise<void> {
    const settings = { ...this.#state.settings, ...patch };
    this.store.set({ settings });
    const session = this.#session;
    if (!session || !this.#state.network) return;
    try {
      const { applied, forecast } = await session.set(patch);
      if (forecast) this.store.set({ forecast });
      if (applied.includes('collapseSteps')) this.store.set({ applied: { ...this.#state.applied, collapseSteps: settings.collapseSteps } });
    } catch (error) {
      notify(sentence(error));
    }
  }

  select(layer: string): void {
    this.store.set({ layer });
    const kept = this.#wide.get(layer);
    if (this.#networks && kept) this.store.set({ view: kept });
    else void this.#views(true);
  }

  async pick(index: number): Promise<void> {
    try {
      const { pixels, label } = await this.#needed().testImage(index);
      this.store.set({ picked: { image: pixels, label, index } });
      await this.#answer();
    } catch (error) {
      notify(sentence(error));
    }
  }

  draw(image: Float32Array): void {
    this.store.set({ picked: { image, label: null, index: null } });
    void this.#answer();
  }

  async #answer(): Promise<void> {
    const { picked, network } = this.#state;
    if (!picked || !network || !this.#session) return;
    try {
      const { answers } = await this.#session.classify(picked.image);
      if (picked === this.#state.picked) this.onAnswers(answers, this.#state);
    } catch (error) {
      notify(sentence(error));
    }
  }

  #progress(progress: Progress): void {
    const { samples, clusteredAt, deviationAtStart, phase } = this.#state;
    const { step, loss, accuracy, validation, deviation } = progress;
    const added = [...samples, { step, loss, accuracy, validation, deviation }];
    const kept = added.length > MOST_SAMPLES ? added.filter((_, i) => i % 2 === 0 || i > MOST_SAMPLES / 2) : added;
    const shrunk = deviation !== null && clusteredAt !== null && deviationAtStart === null;
    const start = shrunk ? deviation * Math.exp(-2 * (progress.forecast ?? 0)) : deviationAtStart;
    this.store.set({ progress, samples: kept, deviationAtStart: start });
    void this.#views(false);
    if (validation !== null) void this.#answer();
    const extra = phase === 'centripetal' && deviation !== null ? `, deviation ${scientific(deviation)}` : '';
    say(`Step ${step}, loss ${loss.toFixed(2)}, accuracy ${percent(validation ?? accuracy)}${extra}.`);
  }

  /** Reads the filters that are on show: the layer selected, and the first two for the close-up. */
  async #views(now: boolean): Promise<void> {
    const session = this.#session;
    const { network, layer } = this.#state;
    if (!session || !network || !layer || (!now && (this.#reading || performance.now() < this.#nextView))) return;
    if (this.#networks && (this.#state.progress?.step ?? 0) <= (this.#state.cutAt ?? 0)) return;
    this.#reading = true;
    const began = performance.now();
    const epoch = this.#epoch;
    try {
      const firstName = computingLayers(network)[0]?.name;
      const secondName = firstName && consumerOf(network, firstName);
      const names = [...new Set([layer, firstName, secondName].filter((name): name is string => name !== undefined))];
      const views = new Map<string, FilterView>();
      for (const name of names) views.set(name, await session.filters(name));
      if (epoch !== this.#epoch) return;
      const get = (name: string | undefined) => (name ? (views.get(name) ?? null) : null);
      if (layer === this.#state.layer) this.store.set({ view: get(layer) });
      if (!this.#networks) this.store.set({ first: get(firstName), second: get(secondName) });
      await Promise.resolve();
    } catch (error) {
      if (epoch === this.#epoch) notify(sentence(error));
    } finally {
      this.#reading = false;
      const now = performance.now();
      this.#nextView = now + Math.max(VIEW_EVERY, VIEW_SHARE * (now - began));
    }
  }

  async #keepWide(): Promise<void> {
    await this.#views(true);
    const { network, layer } = this.#state;
    const layers = groupedLayers(network).slice(0, MOST_KEPT);
    for (const name of new Set([layer, ...layers])) if (name) this.#wide.set(name, await this.#needed().filters(name));
  }

  #needed(): Session {
    if (!this.#session) throw { message: 'The session has not opened. Load the page again.' };
    return this.#session;
  }

  /** Runs `work` alone; whatever fails becomes a sentence, and the page stays usable. */
  async #doing(busy: string | null, work: () => Promise<void>): Promise<void> {
    if (this.#state.busy && busy !== 'Starting') return;
    if (busy) this.store.set({ busy });
    try {
      await work();
    } catch (error) {
      notify(sentence(error));
    } finally {
      if (busy) this.store.set({ busy: null });
    }
  }
}

/** Layers whose filters can be clustered. */
export function groupedLayers(network: State['network']): string[] {
  return network ? computingLayers(network).filter((layer) => layer.group !== null).map((layer) => layer.name) : [];
}

function firstGrouped(network: NonNullable<State['network']>): string | null {
  return groupedLayers(network)[0] ?? computingLayers(network)[0]?.name ?? null;
}
