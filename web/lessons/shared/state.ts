/** Settings of a page in its address, so that what is seen can be shared; a reader's own text in the browser's storage. */

const defaults = new Map<string, string>();

/** The setting `name`, from the address or as given here. */
export function setting(name: string, fallback: string): string {
  defaults.set(name, fallback);
  return new URLSearchParams(location.search).get(name) ?? fallback;
}

export function numberSetting(name: string, fallback: number, least: number, most: number): number {
  const value = Number(setting(name, String(fallback)));
  return Number.isFinite(value) ? Math.min(most, Math.max(least, value)) : fallback;
}

/** Safari refuses more than 100 changes of the address in 30 seconds. */
const MOST_OFTEN = 310;
const waiting = new Map<string, string>();
let timer = 0;
let written = -MOST_OFTEN;

/** Puts settings into the address, soon; those that are as usual are left out. */
export function remember(changes: Record<string, string | number>): void {
  for (const [name, value] of Object.entries(changes)) waiting.set(name, String(value));
  const left = written + MOST_OFTEN - performance.now();
  if (left <= 0) write();
  else if (!timer) timer = window.setTimeout(write, left);
}

/** The settings of this page, with those that are not in its address yet. */
export function settings(): URLSearchParams {
  write();
  return new URLSearchParams(location.search);
}

function write(): void {
  clearTimeout(timer);
  timer = 0;
  if (!waiting.size) return;
  const query = new URLSearchParams(location.search);
  for (const [name, value] of waiting) {
    if (value === defaults.get(name)) query.delete(name);
    else query.set(name, value);
  }
  waiting.clear();
  const text = query.toString();
  history.replaceState(null, '', `${location.pathname}${text ? `?${text}` : ''}${location.hash}`);
  written = performance.now();
}

const key = (name: string) => `centripetal-lessons:${name}`;

export function stored(name: string): string | null {
  try {
    return localStorage.getItem(key(name));
  } catch {
    return null;
  }
}

export function store(name: string, text: string | null): void {
  try {
    if (text === null) localStorage.removeItem(key(name));
    else localStorage.setItem(key(name), text);
  } catch {
    // A browser may forbid it; the text then lives as long as the page.
  }
}
