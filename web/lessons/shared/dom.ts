/** Small helpers for the document. */

type Child = string | Node;

/** A new element with attributes and children. */
export function make<K extends keyof HTMLElementTagNameMap>(
  tag: K, attributes: Record<string, string> = {}, ...children: Child[]
): HTMLElementTagNameMap[K] {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/** A new SVG element. */
export function svg(tag: string, attributes: Record<string, string | number> = {}, ...children: Child[]): SVGElement {
  const made = document.createElementNS('http://www.w3.org/2000/svg', tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, String(value));
  made.append(...children);
  return made;
}

/** Tells in the block of `place` that something failed, below the part of the block that `place` is in. */
export function tellError(place: Element, text: string): void {
  const block = place.closest('[data-block]');
  if (!block) throw new Error(text);
  forgetError(block);
  const line = make('p', { class: 'verdict bad', role: 'alert', 'data-error': '' }, text);
  let part: Element | null = place;
  while (part && part.parentElement !== block) part = part.parentElement;
  part ??= block.firstElementChild;
  if (part) part.after(line);
  else block.append(line);
}

function forgetError(place: Element): void {
  for (const line of place.closest('[data-block]')?.querySelectorAll('[data-error]') ?? []) line.remove();
}

/** Does `work`. What it fails with is told in the block of `place`, until something there succeeds. */
export async function telling(place: Element, work: () => unknown): Promise<void> {
  try {
    await work();
    forgetError(place);
  } catch (error) {
    tellError(place, `This did not work, and what is shown is from before: ${error instanceof Error ? error.message : String(error)}`);
  }
}

/** A button that calls `act`, and is disabled until it is done. */
export function button(text: string, act: () => unknown, kind = ''): HTMLButtonElement {
  const made = make('button', kind ? { type: 'button', class: kind } : { type: 'button' }, text);
  made.onclick = async () => {
    made.disabled = true;
    await telling(made, act).finally(() => (made.disabled = false));
  };
  return made;
}

let named = 0;
/** An id that no other element has. */
export const fresh = (stem: string) => `${stem}-${++named}`;

/** Sets text only if it differs, so that live regions do not repeat themselves. */
export function setText(target: HTMLElement, text: string): void {
  if (target.textContent !== text) target.textContent = text;
}

/**
 * A table of rows; the first row is the header, the first cell of each row names it. `name` tells it from others on the page
 * with the same caption.
 */
export function table(caption: string, header: string[], rows: Child[][], name = caption): HTMLElement {
  const head = make('tr', {}, ...header.map((text) => (text ? make('th', { scope: 'col' }, text) : make('td'))));
  const body = rows.map((cells) =>
    make('tr', {}, ...cells.map((cell, i) => (i === 0 ? make('th', { scope: 'row' }, cell) : make('td', {}, cell)))),
  );
  const made = make('table', {}, make('caption', {}, caption), make('thead', {}, head), make('tbody', {}, ...body));
  return make('div', { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': name }, made);
}

/** A number in few characters, true minus sign. */
export function few(x: number | null | undefined, digits = 3): string {
  if (x === null || x === undefined || Number.isNaN(x)) return '–';
  if (x === 0) return '0';
  const size = Math.abs(x);
  if (Number.isInteger(x) && size < 1e6) return String(x).replace('-', '−');
  const text = size >= 1e6 || size < 10 ** -digits ? x.toExponential(2) : x.toPrecision(Math.max(digits, Math.floor(Math.log10(size)) + 1));
  return text.replace(/^-/, '−').replace('e-', 'e−').replace('e+', 'e');
}

export const percent = (x: number) => `${(100 * x).toFixed(1)} %`;

export const grouped = (x: number) => Math.round(x).toLocaleString('en');

/**
 * Calls `draw` now, or once more when the call under way is done: a slider moves faster than some pictures are made. What it
 * fails with is told in `block`.
 */
export function latest(block: HTMLElement, draw: () => Promise<void>): () => void {
  let [busy, again] = [false, false];
  return () => {
    again = true;
    if (busy) return;
    busy = true;
    void (async () => {
      while (again) {
        again = false;
        await telling(block, draw);
      }
      busy = false;
    })();
  };
}
