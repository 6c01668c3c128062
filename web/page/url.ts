/** The settings of a session as the query of the page's address, so that a setting can be shared. */

import type { DeviceChoice, Settings } from '../client/types';

export const DEFAULTS: Settings = {
  model: 'lenet',
  width: 2,
  batch: 50,
  seed: 1,
  lr: 0.05,
  keep: '3/8',
  strength: 'auto',
  collapseSteps: 300,
  momentum: 0.8,
  weightDecay: 5e-4,
  clustering: 'kmeans',
};

export const MODELS = ['lenet', 'resnet20', 'resnet32', 'resnet44', 'resnet56', 'resnet110', 'resnet164', 'vgg16'];

export interface Shared {
  settings: Settings;
  device: DeviceChoice;
  /** `autotune=off` takes the default variants of kernels instead of measuring. */
  autotune: boolean;
}

type Key = keyof Settings;

/** What each setting may be. The ranges are those of the sliders. */
const within = (low: number, high: number) => (text: string) => {
  const value = Number(text);
  return text !== '' && value >= low && value <= high ? value : undefined;
};
const wholeWithin = (low: number, high: number) => (text: string) => {
  const value = within(low, high)(text);
  return value !== undefined && Number.isInteger(value) ? value : undefined;
};
const oneOf = (allowed: string[]) => (text: string) => (allowed.includes(text) ? text : undefined);

const READERS: Record<Key, (text: string) => string | number | undefined> = {
  model: oneOf(MODELS),
  width: within(0.25, 4),
  batch: wholeWithin(1, 512),
  seed: wholeWithin(0, 4294967295),
  lr: within(1e-4, 1),
  keep: (text) => (readKeep(text) === undefined ? undefined : text),
  strength: (text) => (text === 'auto' ? text : within(0, 100)(text)),
  collapseSteps: wholeWithin(20, 20000),
  momentum: within(0, 0.99),
  weightDecay: within(0, 0.1),
  clustering: oneOf(['kmeans', 'even', 'imbalanced']),
};

/** "5/8" as [5, 8], if it is a fraction over 0 and at most 1. */
export function readKeep(text: string): [number, number] | undefined {
  const match = /^(\d{1,4})\/(\d{1,4})$/.exec(text);
  if (!match) return undefined;
  const [top, bottom] = [Number(match[1]), Number(match[2])];
  return top > 0 && top <= bottom ? [top, bottom] : undefined;
}

/** Sixteenths in lowest terms: 8 is "1/2". */
export function keepOfSixteenths(sixteenths: number): string {
  let [top, bottom] = [sixteenths, 16];
  while (top % 2 === 0 && bottom > 1) [top, bottom] = [top / 2, bottom / 2];
  return `${top}/${bottom}`;
}

/** The query for these settings; only what differs from the defaults, so that most addresses stay short. */
export function toQuery({ settings, device, autotune }: Shared): string {
  const parameters = new URLSearchParams();
  for (const key of Object.keys(DEFAULTS) as Key[]) {
    if (settings[key] !== DEFAULTS[key]) parameters.set(key, String(settings[key]));
  }
  if (device !== 'auto') parameters.set('device', device);
  if (!autotune) parameters.set('autotune', 'off');
  const text = parameters.toString().replaceAll('%2F', '/');
  return text ? `?${text}` : '';
}

/** The settings of a query. What is missing or makes no sense is as by default. */
export function fromQuery(query: string): Shared {
  const parameters = new URLSearchParams(query);
  const settings: Record<string, string | number> = { ...DEFAULTS };
  for (const key of Object.keys(DEFAULTS) as Key[]) {
    const text = parameters.get(key);
    const value = text === null ? undefined : READERS[key](text);
    if (value !== undefined) settings[key] = value;
  }
  const device = parameters.get('device');
  return {
    settings: settings as unknown as Settings,
    device: device === 'gpu' || device === 'cpu' ? device : 'auto',
    autotune: parameters.get('autotune') !== 'off',
  };
}
