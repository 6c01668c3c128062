/** How far the pull is and what may be said of it: everything from what was measured, nothing from what was planned. */

import { EQUAL } from '../client/types';
import type { Settings } from '../client/types';
import type { State } from './state';

/** Settings that hold from the next reset on. */
export const NEW_NETWORK = ['model', 'width', 'batch', 'seed'] as const satisfies (keyof Settings)[];

/** Steps of C-SGD so far. */
function steps({ clusteredAt, progress }: State): number {
  return clusteredAt === null ? 0 : Math.max(0, (progress?.step ?? clusteredAt) - clusteredAt);
}

/** How much of the time for it is over, 0 to 1. */
export function pulled(state: State): number {
  if (state.phase === 'cut') return 1;
  return Math.min(1, steps(state) / state.applied.collapseSteps);
}

/** Whether C-SGD has done all of its steps. */
export function over(state: State): boolean {
  return state.phase === 'centripetal' && pulled(state) >= 1;
}

/** Whether the filters of every cluster are equal up to rounding, as measured last. */
export function equal({ apart }: State): boolean {
  return apart !== null && apart <= EQUAL;
}

/** Whether the slim network was trained on after the cut, so that the certificate is of an earlier state. */
export function tuned({ phase, certificate, cutAt, progress }: State): boolean {
  return phase === 'cut' && certificate !== null && cutAt !== null && progress !== null && progress.step > cutAt;
}

/** What the network holds with when `settings` are taken, but no new network was made. */
export function withoutReset(settings: Settings, applied: Settings): Settings {
  return { ...settings, ...Object.fromEntries(NEW_NETWORK.map((key) => [key, applied[key]])) };
}
