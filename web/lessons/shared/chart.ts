/** Line charts as SVG: they print, scale and have a text for those who do not see them. */

import { svg } from './dom.ts';

export interface Series {
  name: string;
  /** Number of its colour, 0 to 5. */
  colour: number;
  points: [number, number][];
  dashed?: boolean;
  dots?: boolean;
}

export interface Axes {
  x: string;
  y: string;
  logX?: boolean;
  logY?: boolean;
  /** Range of y, else that of the data. */
  range?: [number, number];
  /** For half of the page's width. */
  narrow?: boolean;
}

const WIDE = 640;
const NARROW = 400;
/** On a phone a wide chart would be scaled down until nobody could read its text. */
const PHONE = '(max-width: 40rem)';
const H = 300;
const [LEFT, RIGHT, TOP, BOTTOM] = [64, 24, 14, 44];

function ticks(low: number, high: number, count: number): number[] {
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= rough) ?? 10 * power;
  const list = [];
  for (let x = Math.ceil(low / step - 1e-9) * step; x <= high + step * 1e-6; x += step) list.push(Math.abs(x) < step * 1e-9 ? 0 : x);
  return list;
}

/** A number beside an axis; very large and very small ones of a logarithmic axis as powers of ten. */
function label(value: number, log?: boolean): (string | Node)[] {
  const power = Math.round(value);
  const shown = (x: number) => String(x).replace('-', '−');
  return log && Math.abs(power) > 3
    ? ['10', svg('tspan', { dy: -5, 'font-size': '0.8em' }, shown(power))]
    : [shown(Number((log ? 10 ** value : value).toPrecision(6)))];
}

/** A chart; `summary` says in words what it shows. */
export function chart(series: Series[], axes: Axes, summary: string): SVGElement {
  const narrow = axes.narrow || matchMedia(PHONE).matches;
  const W = narrow ? NARROW : WIDE;
  const tx = (x: number) => (axes.logX ? Math.log10(x) : x);
  const ty = (y: number) => (axes.logY ? Math.log10(y) : y);
  const usable = ([x, y]: [number, number]) => Number.isFinite(tx(x)) && Number.isFinite(ty(y));
  const all = series.flatMap(({ points }) => points.filter(usable));
  const xs = all.map(([x]) => tx(x));
  const ys = axes.range ? axes.range.map(ty) : all.map(([, y]) => ty(y));
  let [x0, x1, y0, y1] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
  if (!all.length) [x0, x1, y0, y1] = [0, 1, 0, 1];
  if (x0 === x1) x1 = x0 + 1;
  // A logarithmic axis has at least one power of ten to be read from.
  if (axes.logY && y1 - y0 < 1) [y0, y1] = [Math.floor(y0), Math.floor(y0) === Math.ceil(y1) ? y0 + 1 : Math.ceil(y1)];
  if (y0 === y1) [y0, y1] = [y0 - 0.5, y1 + 0.5];
  const px = (x: number) => LEFT + ((x - x0) / (x1 - x0)) * (W - LEFT - RIGHT);
  const py = (y: number) => H - BOTTOM - ((y - y0) / (y1 - y0)) * (H - TOP - BOTTOM);

  const drawn: SVGElement[] = [];
  // On a logarithmic axis whole powers of ten.
  const places = (low: number, high: number, count: number, log?: boolean) =>
    ticks(low, high, count).filter((at) => !log || Math.abs(at - Math.round(at)) < 1e-9);
  for (const y of places(y0, y1, 5, axes.logY)) {
    drawn.push(
      svg('line', { x1: LEFT, x2: W - RIGHT, y1: py(y), y2: py(y), class: 'grid' }),
      svg('text', { x: LEFT - 6, y: py(y) + 4, 'text-anchor': 'end' }, ...label(y, axes.logY)),
    );
  }
  for (const x of places(x0, x1, narrow ? 4 : 6, axes.logX)) {
    drawn.push(svg('text', { x: px(x), y: H - BOTTOM + 17, 'text-anchor': 'middle' }, ...label(x, axes.logX)));
  }
  drawn.push(
    svg('line', { x1: LEFT, x2: W - RIGHT, y1: H - BOTTOM, y2: H - BOTTOM, class: 'axis' }),
    svg('text', { x: (LEFT + W - RIGHT) / 2, y: H - 8, 'text-anchor': 'middle' }, axes.x),
    svg('text', { x: 14, y: (TOP + H - BOTTOM) / 2, 'text-anchor': 'middle', transform: `rotate(-90 14 ${(TOP + H - BOTTOM) / 2})` }, axes.y),
  );
  for (const { points, colour, dashed, dots } of series) {
    const dotted = points.filter(usable).map(([x, y]) => [px(tx(x)), Math.min(H - BOTTOM, Math.max(TOP, py(ty(y))))] as const);
    if (!dotted.length) continue;
    const path = dotted.map(([x, y], i) => `${i ? 'L' : 'M'}${x.toFixed(1)} ${y.toFixed(1)}`).join('');
    drawn.push(svg('path', { d: path, class: `line colour-${colour}${dashed ? ' dashed' : ''}` }));
    // One point has no line.
    if (dots || dotted.length === 1) drawn.push(...dotted.map(([x, y]) => svg('circle', { cx: x, cy: y, r: 3.5, class: `dot colour-${colour}` })));
  }
  const title = svg('title', {}, summary);
  return svg('svg', { viewBox: `0 0 ${W} ${H}`, class: 'chart', role: 'img', 'aria-label': summary }, title, ...drawn);
}

/** What the colours of a chart mean. */
export function legend(series: Pick<Series, 'name' | 'colour' | 'dashed'>[]): HTMLElement {
  const list = document.createElement('ul');
  list.className = 'legend';
  for (const { name, colour, dashed } of series) {
    const item = document.createElement('li');
    const key = svg('svg', { viewBox: '0 0 24 8', 'aria-hidden': 'true' });
    key.append(svg('path', { d: 'M1 4H23', class: `line colour-${colour}${dashed ? ' dashed' : ''}` }));
    item.append(key, name);
    list.append(item);
  }
  return list;
}
