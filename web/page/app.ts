/** What the buttons do: calls of the session in the right order, and their results into the state. */

import { Session } from '../client/session';
import type { Answer, Clustering, DataInfo, DeviceChoice, FilterView, Progress, Settings } from '../client/types';
import { batchFor } from './controls';
import { download } from './dom';
import type { Dropped } from './files';
import { percent, scientific, whole } from './format';
import { animate } from './motion';
import { clearNotices, notify, say, sentence } from './notice';
import { equal, over, withoutReset } from './pull';
import { computingLayers, consumerOf } from './scale';
import { initialState, type Networks, type State, type Store } from './state';
import { fromQuery } from './url';

const FOLD_MS = 3200;
/** Filters are read back this often while training, each by one read-back. */
const VIEW_EVERY = 350;
/** A view that takes long, to read or to draw, is taken the less often. */
const VIEW_SHARE = 4;
/** But at least so often: one that took long because the device was lost says nothing of the next. */
const VIEW_AT_LEAST = 2500;
/** Seconds that the pull takes at least, so that it can be watched. */
const WATCHED = 9;
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
  /** Reads the data in use once more. */
  #source: (session: Session) => Promise<DataInfo> = (session) => session.useEmbedded();
  #dropAdvice = () => {};
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
      await this.#take((session) => session.useEmbedded(), 'Making the network');
    });
    if (this.#state.device?.kind === 'software-gpu' && this.#state.deviceChoice === 'auto') {
      this.#dropAdvice = notify('This browser has no hardware GPU to offer, only a software adapter: everything works, but the CPU code in WebAssembly is several times faster here.', 'warning', {
        label: 'Use the CPU',
        run: () => void this.use('cpu'),
      });
    }
  }

  /** Goes on on another device, with the network as it is. */
  async use(deviceChoice: DeviceChoice): Promise<void> {
    const session = this.#session;
    const before = this.#state.deviceChoice;
    this.store.set({ deviceChoice });
    if (!session || !this.#state.network) return this.start();
    let used = false;
    await this.#doing('Changing the device', async () => {
      await session.use(deviceChoice);
      used = true;
      await this.#answer();
    });
    if (!used) this.store.set({ deviceChoice: before });
  }

  #listen(session: Session): void {
    session.on('progress', (progress) => this.#progress(progress));
    session.on('device', (device) => {
      this.store.set({ device });
      this.#nextView = -Infinity;
      if (device.kind !== 'software-gpu') this.#dropAdvice();
      if (device.lost) notify(`The device was lost. Another one was opened (${device.name}), and the session goes on from its last state.`, 'warning');
    });
    session.on('phase', ({ step }) => (this.#phaseBegan = step));
    session.on('error', (error) => {
      this.store.set({ running: false });
      notify(sentence(error));
    });
    session.on('paused', ({ why }) => {
      this.store.set({ running: false });
      void this.#views(true);
      void this.#answer();
      if (why === 'collapsed') say(equal(this.#state) ? 'Filters of a cluster are equal. Next: Cut.' : 'The time is over, and filters are not equal yet.', true);
    });
    session.on('work', ({ what, done, of }) => {
      if (this.#state.busy && what === 'data') this.store.set({ busy: `Loading images, ${Math.round((100 * done) / of)} %` });
    });
  }

  /** A random network by the settings; with `data`, for those. */
  async #fresh(data?: DataInfo): Promise<void> {
    const session = this.#needed();
    const { settings: wanted, data: known } = this.#state;
    const images = (data ?? known)?.train ?? Infinity;
    const settings = { ...wanted, batch: wanted.batch <= images ? wanted.batch : batchFor(images) };
    const network = await session.reset(settings);
    this.#begin(settings, settings, { network, reference: network, layer: firstGrouped(network), ...(data ? { data, picked: null } : {}) });
    if (!this.#state.picked) await this.pick(0);
    await this.#views(true);
    await this.#answer();
    await this.#foresee();
  }

  /** The state of a page whose network is another one. */
  #begin(settings: Settings, applied: Settings, patch: Partial<State>): void {
    this.#wide.clear();
    this.#networks = null;
    this.#epoch++;
    const { device, data, deviceChoice, busy, picked, paced } = this.#state;
    this.store.set({ ...initialState(settings, deviceChoice), applied, device, data, busy, picked, paced, ...patch });
    clearNotices();
  }

  /** What the settings would lead to, before anything is pulled. */
  async #foresee(): Promise<void> {
    const { forecast } = await this.#needed().set({});
    if (forecast) this.store.set({ forecast });
  }

  /** Reads data and makes a network for them. If there can be none, the data in use are read again. */
  async #take(source: (session: Session) => Promise<DataInfo>, then?: string): Promise<DataInfo> {
    const session = this.#needed();
    const data = await source(session);
    if (then) this.store.set({ busy: then });
    try {
      await this.#fresh(data);
    } catch (error) {
      if (this.#state.data) await this.#source(session);
      throw error;
    }
    this.#source = source;
    return data;
  }

  async reset(): Promise<void> {
    await this.#doing('Resetting', () => this.#fresh());
  }

  async toggle(): Promise<void> {
    if (this.#state.running) await this.#doing(null, () => this.#halt());
    else this.train();
  }

  train(): void {
    const session = this.#session;
    if (!session) return void notify('No session is open. Press Try again, or choose another device under Settings.');
    const { phase, paced } = this.#state;
    this.store.set({ running: true, phase: phase === 'empty' ? 'base' : phase });
    session.train(paced ? { seconds: WATCHED } : {}).catch((error: unknown) => {
      this.store.set({ running: false });
      notify(sentence(error));
    });
  }

  /** Goes on pulling; if the time is over, for as long again. */
  async goOn(): Promise<void> {
    if (over(this.#state)) await this.change({ collapseSteps: 2 * this.#state.applied.collapseSteps });
    if (!over(this.#state)) this.train();
  }

  async step(): Promise<void> {
    await this.#doing(null, async () => {
      await this.#halt();
      if (this.#state.phase === 'empty') this.store.set({ phase: 'base' });
      await this.#needed().step(1);
      await this.#views(true);
      await this.#answer();
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
      const { network, ...clustering } = await this.#needed().cluster();
      const applied = withoutReset(this.#state.settings, this.#state.applied);
      this.store.set({ phase: 'centripetal', network, reference: network, applied, hasBase: true, ...clustered(clustering, this.#phaseBegan) });
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
        phase: 'cut', certificate, network, reference: wide, comparison: null, fold: 0.001,
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
      await this.#adopt('base.safetensors', base.slice().buffer, 'base');
    });
  }

  async load(file: File): Promise<void> {
    await this.#doing(`Loading ${file.name}`, async () => {
      await this.#adopt(file.name, await file.arrayBuffer(), 'file');
      say(`${file.name} is loaded.`, true);
    });
  }

  async #adopt(name: string, bytes: ArrayBuffer, origin: 'file' | 'base'): Promise<void> {
    const { settings, applied } = this.#state;
    const { network, phase, settings: own, widths, forecast, deviation, apart } = await this.#needed().load(name, bytes);
    // The base is of the settings applied; a file may be of a width that no setting makes.
    const held = withoutReset(settings, origin === 'base' ? applied : { ...applied, width: 0, ...own });
    const shown = origin === 'base' ? settings : { ...settings, ...own, batch: settings.batch };
    this.#begin(shown, held, {
      network, reference: network, phase, origin, hasBase: phase === 'base', layer: firstGrouped(network),
      ...(widths && forecast ? clustered({ widths, forecast, deviation: deviation ?? 0, apart: apart ?? 0 }, 0) : {}),
    });
    await this.#views(true);
    await this.#answer();
    if (phase === 'base') await this.#foresee();
    const { accuracy, samples } = await this.#needed().evaluate();
    this.store.set({ evaluation: { accuracy, samples } });
  }

  async useData(files: File[] | Dropped[]): Promise<void> {
    await this.#doing('Reading the data', async () => {
      const { name, train, test, skipped = [] } = await this.#take((session) => session.useFiles(files));
      say(`${name}: ${whole(train)} training and ${whole(test)} test images.`, true);
      if (skipped.length === 0) return;
      const some = `${skipped.slice(0, 3).join(', ')}${skipped.length > 3 ? ', …' : ''}`;
      notify(`${skipped.length === 1 ? 'One file was' : `${whole(skipped.length)} files were`} left out, being empty or no picture that this browser can show: ${some}.`, 'warning');
    });
  }

  async useEmbedded(): Promise<void> {
    await this.#doing('Loading images', async () => void (await this.#take((session) => session.useEmbedded())));
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
      const taken = Object.fromEntries(Object.entries(patch).filter(([name]) => applied.includes(name)));
      this.store.set({ applied: { ...this.#state.applied, ...taken }, ...(forecast ? { forecast } : {}) });
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
    const { samples, phase } = this.#state;
    const { step, loss, accuracy, validation, deviation, apart } = progress;
    // After a lost device or a divergence the session goes back, and so do the curves.
    const added = [...samples.filter((sample) => sample.step < step), { step, loss, accuracy, validation, deviation }];
    const kept = added.length > MOST_SAMPLES ? added.filter((_, i) => i % 2 === 0 || i > MOST_SAMPLES / 2) : added;
    this.store.set({ progress, samples: kept, ...(apart === null ? {} : { apart }) });
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
      for (const view of await session.filtersOf(names)) views.set(view.layer, view);
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
      this.#nextView = now + Math.min(VIEW_AT_LEAST, Math.max(VIEW_EVERY, VIEW_SHARE * (now - began)));
    }
  }

  async #keepWide(): Promise<void> {
    await this.#views(true);
    const { network, layer } = this.#state;
    const layers = groupedLayers(network).slice(0, MOST_KEPT);
    const names = [...new Set([layer, ...layers])].filter((name) => name !== null);
    for (const view of await this.#needed().filtersOf(names)) this.#wide.set(view.layer, view);
  }

  #needed(): Session {
    if (!this.#session) throw { message: 'The session has not opened. Load the page again.' };
    return this.#session;
  }

  /** Runs `work` alone; whatever fails becomes a sentence, and the page stays usable. */
  async #doing(busy: string | null, work: () => Promise<void>): Promise<void> {
    const other = this.#state.busy;
    if (other && busy !== 'Starting') return void notify(`Not now, the page is busy (${other}). Try again when that is done.`, 'warning');
    if (busy) this.store.set({ busy });
    const failed = await work().then(() => null, sentence);
    if (busy) this.store.set({ busy: null });
    // Last, so that whoever reads it can go on.
    if (failed !== null) notify(failed);
  }
}

/** The state in which C-SGD begins, at `step`. */
function clustered({ forecast, widths, deviation, apart }: Clustering, step: number): Partial<State> {
  return { forecast, widths, apart, deviationAtStart: deviation, clusteredAt: step };
}

/** Layers whose filters can be clustered. */
export function groupedLayers(network: State['network']): string[] {
  return network ? computingLayers(network).filter((layer) => layer.group !== null).map((layer) => layer.name) : [];
}

function firstGrouped(network: NonNullable<State['network']>): string | null {
  return groupedLayers(network)[0] ?? computingLayers(network)[0]?.name ?? null;
}
