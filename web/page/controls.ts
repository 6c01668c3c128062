/** The settings: sliders that apply at once, and some that need a new network and say so. */

import type { Settings } from '../client/types';
import { byId, element, setText } from './dom';
import { percent } from './format';
import { NEW_NETWORK } from './pull';
import type { State, Store } from './state';
import { keepOfSixteenths, MODELS, readKeep } from './url';

export interface Changes {
  /** Applies at once or with the next clustering. */
  live(patch: Partial<Settings>): void;
  /** Needs a new network. */
  onReset(patch: Partial<Settings>): void;
  /** Of the page alone. */
  pace(paced: boolean): void;
}

/** Small ones for data sets of a few pictures. */
const BATCHES = [1, 2, 4, 8, 16, 25, 32, 50, 64, 100, 128, 256];
/** With momentum 0.8 no strength makes filters equal in much fewer than 200. */
const STEPS = [200, 240, 300, 400, 500, 600, 800, 1200, 2000, 4000];

const nearest = (list: number[], value: number) =>
  list.reduce((best, each, i) => (Math.abs(each - value) < Math.abs(list[best]! - value) ? i : best), 0);
/** The largest batch on offer that so many images can fill. */
export const batchFor = (images: number) => BATCHES.findLast((batch) => batch <= images) ?? 1;
const power = (low: number, high: number, position: number) => Number((low * (high / low) ** (position / 100)).toPrecision(2));
const position = (low: number, high: number, value: number) => Math.round((100 * Math.log(value / low)) / Math.log(high / low));
const LR: [number, number] = [0.001, 0.5];
const STRENGTH: [number, number] = [0.001, 10];

export class Controls {
  readonly #store: Store;
  readonly #width = byId('width', HTMLInputElement);
  readonly #batch = byId('batch', HTMLInputElement);
  readonly #lr = byId('lr', HTMLInputElement);
  readonly #keep = byId('keep', HTMLInputElement);
  readonly #strength = byId('strength', HTMLInputElement);
  readonly #auto = byId('auto', HTMLInputElement);
  readonly #steps = byId('collapse-steps', HTMLInputElement);
  readonly #paced = byId('paced', HTMLInputElement);
  readonly #model = byId('model', HTMLSelectElement);
  readonly #clustering = byId('clustering', HTMLSelectElement);
  readonly #seed = byId('seed', HTMLInputElement);

  constructor(store: Store, changes: Changes) {
    this.#store = store;
    this.#model.replaceChildren(...MODELS.map((name) => new Option(name, name)));
    const on = (input: HTMLElement, event: 'input' | 'change', run: () => void) => input.addEventListener(event, run);
    this.#batch.max = String(BATCHES.length - 1);
    this.#steps.max = String(STEPS.length - 1);
    on(this.#paced, 'change', () => changes.pace(this.#paced.checked));
    on(this.#width, 'input', () => changes.onReset({ width: Number(this.#width.value) }));
    on(this.#batch, 'input', () => changes.onReset({ batch: BATCHES[Number(this.#batch.value)]! }));
    on(this.#model, 'change', () => changes.onReset({ model: this.#model.value }));
    on(this.#seed, 'change', () => {
      const seed = Math.min(4294967295, Math.max(0, Math.round(Number(this.#seed.value) || 0)));
      changes.onReset({ seed });
    });
    on(this.#lr, 'input', () => changes.live({ lr: power(...LR, Number(this.#lr.value)) }));
    on(this.#keep, 'input', () => changes.live({ keep: keepOfSixteenths(Number(this.#keep.value)) }));
    on(this.#strength, 'input', () => changes.live({ strength: power(...STRENGTH, Number(this.#strength.value)) }));
    on(this.#auto, 'change', () => changes.live({ strength: this.#auto.checked ? 'auto' : (this.#store.state.forecast?.strength ?? power(...STRENGTH, Number(this.#strength.value))) }));
    on(this.#steps, 'input', () => changes.live({ collapseSteps: STEPS[Number(this.#steps.value)]! }));
    on(this.#clustering, 'change', () => changes.live({ clustering: this.#clustering.value as Settings['clustering'] }));
    store.subscribe((state, changed) => {
      if (['settings', 'applied', 'forecast', 'phase', 'network', 'data'].some((key) => changed.has(key as keyof State))) this.#show(state);
    });
    this.#show(store.state);
  }

  #show(state: State): void {
    const { settings, forecast } = state;
    const slide = (input: HTMLInputElement, at: number, text: string) => {
      if (Number(input.value) !== at) input.value = String(at);
      input.setAttribute('aria-valuetext', text);
      setText(element(`${input.id}-value`), text);
    };
    this.#model.value = settings.model;
    this.#clustering.value = settings.clustering;
    if (document.activeElement !== this.#seed) this.#seed.value = String(settings.seed);
    slide(this.#width, settings.width, `× ${settings.width}`);
    slide(this.#batch, nearest(BATCHES, settings.batch), `${settings.batch} images`);
    slide(this.#lr, position(...LR, settings.lr), String(settings.lr));
    const [top, bottom] = readKeep(settings.keep) ?? [1, 2];
    slide(this.#keep, Math.round((16 * top) / bottom), `${settings.keep} (${percent(top / bottom, 0)})`);
    const auto = settings.strength === 'auto';
    const strength = settings.strength === 'auto' ? forecast?.strength : settings.strength;
    this.#auto.checked = auto;
    this.#paced.checked = state.paced;
    this.#strength.disabled = auto;
    slide(this.#strength, strength !== undefined && strength > 0 ? Math.min(100, Math.max(0, position(...STRENGTH, strength))) : 50, strength === undefined ? 'auto' : `${auto ? 'auto: ' : ''}${Number(strength.toPrecision(2))}`);
    slide(this.#steps, nearest(STEPS, settings.collapseSteps), `${settings.collapseSteps} steps`);
    element('forecast-note').classList.toggle('pending', forecast !== null && forecast.verdict !== 'enough');
    setText(element('forecast-note'), forecast?.sentence ?? 'Auto takes the least strength that makes filters equal in this time.');
    this.#pending(state);
  }

  /** Says which settings wait, and for what. */
  #pending(state: State): void {
    const { settings, applied, phase } = state;
    const waiting = state.network === null ? [] : NEW_NETWORK.filter((key) => settings[key] !== applied[key]);
    for (const key of NEW_NETWORK) element(`${key}-field`).classList.toggle('pending', waiting.includes(key));
    element('pending').hidden = waiting.length === 0;
    const clustered = phase === 'centripetal' || phase === 'cut';
    const late = clustered && (settings.keep !== applied.keep || settings.clustering !== applied.clustering);
    element('keep-note').hidden = !late;
  }
}
