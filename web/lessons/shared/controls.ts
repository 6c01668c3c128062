/** Sliders and choices with labels, kept in the address. */

import { button, few, fresh, make, telling } from './dom.ts';
import { call } from './library.ts';
import { numberSetting, remember, setting } from './state.ts';

export interface Slider {
  root: HTMLElement;
  readonly value: number;
  /** Sets it to where it starts. */
  reset(): void;
}

/** A slider; `scale` log puts the range on powers. */
export function slider(
  name: string, label: string, { least, most, step, start, log }: { least: number; most: number; step: number; start: number; log?: boolean },
  change: (value: number) => void,
): Slider {
  const id = fresh('slider');
  const to = (x: number) => (log ? Math.log10(x) : x);
  const from = (x: number) => (log ? 10 ** x : x);
  const value = numberSetting(name, start, least, most);
  const input = make('input', { id, type: 'range', min: String(to(least)), max: String(to(most)), step: String(step), value: String(to(value)) });
  const output = make('output', { for: id });
  const show = () => {
    output.textContent = few(current());
    input.setAttribute('aria-valuetext', few(current()));
  };
  const set = (value: number) => {
    input.value = String(to(value));
    show();
    remember({ [name]: current() });
  };
  const current = () => (log ? Number(from(Number(input.value)).toPrecision(2)) : Number(input.value));
  input.oninput = () => {
    show();
    remember({ [name]: current() });
    change(current());
  };
  show();
  return {
    root: make('div', { class: 'control' }, make('label', { for: id }, label), input, output),
    get value() {
      return current();
    },
    reset: () => set(start),
  };
}

export interface Select {
  root: HTMLElement;
  readonly value: string;
  /** Chooses what is chosen at first. */
  reset(): void;
}

/** A choice of one of several. */
export function select(name: string, label: string, options: [string, string][], start: string, change: (value: string) => void): Select {
  const id = fresh('select');
  const field = make('select', { id }, ...options.map(([value, text]) => make('option', { value }, text)));
  const wanted = setting(name, start);
  field.value = options.some(([value]) => value === wanted) ? wanted : start;
  field.onchange = () => {
    remember({ [name]: field.value });
    change(field.value);
  };
  const set = (value: string) => {
    field.value = value;
    remember({ [name]: value });
  };
  return {
    root: make('div', { class: 'control' }, make('label', { for: id }, label), field),
    get value() {
      return field.value;
    },
    reset: () => set(start),
  };
}

/** Says that a block has no shader: what the choice at the top of the page does not change. */
export const onTheCpu = (what: string): HTMLElement =>
  make('p', { class: 'sizes', 'data-where': 'cpu' }, `${what} on the CPU, whatever the page is set to run on.`);

const DEVICES: Record<string, string> = { cpu: 'the CPU', gpu: 'your GPU', 'software-gpu': 'a GPU that is played by the CPU' };

/** What networks run on, in words: a GPU that a CPU plays is only taken where it is asked for. Browsers tell no name. */
export async function deviceOfNetworks(): Promise<{ kind: string; words: string }> {
  const { value: { kind } } = await call<{ kind: string }>('device');
  return { kind, words: DEVICES[kind] ?? kind };
}

/** Says so in a block. */
export async function whereNetworksRun(): Promise<HTMLElement> {
  const { kind, words } = await deviceOfNetworks();
  return make('p', { class: 'sizes', 'data-where': kind }, `The networks run on ${words}.`);
}

/** Controls side by side, and a button that sets all of them to where they start. */
export function controls(change: () => unknown, ...all: (Slider | Select)[]): HTMLElement {
  const reset = button('Reset', () => {
    for (const control of all) control.reset();
    return change();
  });
  return make('div', {}, make('div', { class: 'controls' }, ...all.map(({ root }) => root)), make('div', { class: 'buttons' }, reset));
}

/**
 * Play, step and reset: `step` advances once and says whether there is more. `playUntil` plays as the button does, until it is
 * done or somebody stops it. What is told to those who listen to the page rests while it plays: it would never end.
 */
export function player(step: () => Promise<boolean>, reset: () => Promise<void>, labels: { step: string; reset: string }) {
  let playing = false;
  let busy = Promise.resolve();
  const play = make('button', { type: 'button', class: 'primary', 'aria-pressed': 'false' }, 'Play');
  const one = make('button', { type: 'button' }, labels.step);
  const again = make('button', { type: 'button' }, labels.reset);
  const root = make('div', { class: 'buttons' }, play, one, again);
  const show = () => {
    play.textContent = playing ? 'Pause' : 'Play';
    play.setAttribute('aria-pressed', String(playing));
    for (const live of root.closest('[data-block]')?.querySelectorAll('[role="status"]') ?? []) {
      live.setAttribute('aria-live', playing ? 'off' : 'polite');
    }
  };
  const stop = () => {
    playing = false;
    show();
  };
  const queue = (what: () => Promise<void>) => (busy = busy.then(() => telling(root, what)));
  const playUntil = (done: () => boolean) => {
    playing = true;
    show();
    void queue(async () => {
      try {
        while (playing && !done() && (await step())) await new Promise(requestAnimationFrame);
      } finally {
        stop();
      }
    });
  };
  play.onclick = () => {
    if (playing) stop();
    else playUntil(() => false);
  };
  one.onclick = () => {
    stop();
    void queue(async () => void (await step()));
  };
  again.onclick = () => {
    stop();
    void queue(reset);
  };
  return { root, stop, playUntil };
}
