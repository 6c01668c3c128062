/** What went wrong, as a sentence that says what to do, and progress for screen readers. */

import type { SessionError } from '../client/types';
import { element, make, setText } from './dom';

const SAY_EVERY = 6000;
const MOST = 3;

/** The sentence of an error, whatever was thrown. */
export function sentence(error: unknown): string {
  if (typeof error === 'string') return error;
  const { message } = (error ?? {}) as Partial<SessionError>;
  return message || 'Something failed without saying why. Press Reset, or load the page again.';
}

/** Shows `text` until it is closed, by the visitor or by the function returned. `kind` "warning" is for what the session has already dealt with. */
export function notify(text: string, kind: 'error' | 'warning' = 'error', remedy?: { label: string; run: () => void }): () => void {
  const box = element('notices');
  const same = [...box.children].find((child) => child.firstChild?.textContent === text);
  same?.remove();
  while (box.childElementCount >= MOST) box.firstElementChild?.remove();
  const close = make('button', { type: 'button', class: 'quiet' }, 'Close');
  const notice = make('div', { class: `notice ${kind}` }, make('p', {}, text), close);
  if (remedy) {
    const button = make('button', { type: 'button' }, remedy.label);
    button.addEventListener('click', () => {
      notice.remove();
      remedy.run();
    });
    close.before(button);
  }
  close.addEventListener('click', () => notice.remove());
  box.append(notice);
  return () => notice.remove();
}

/** Removes what no longer applies. */
export function clearNotices(): void {
  element('notices').replaceChildren();
}

let saidAt = -Infinity;

/** Tells screen readers how it goes, seldom enough to be listened to. */
export function say(text: string, now = false): void {
  if (!now && performance.now() - saidAt < SAY_EVERY) return;
  saidAt = performance.now();
  setText(element('live'), text);
}
