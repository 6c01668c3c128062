/** The network to scale: height is channels, width is multiply-accumulates. What will go is hatched. */

import { theme } from './colours';
import { bytes, change, count } from './format';
import { write } from './heat';
import { part } from './motion';
import { layoutBars, type Bar } from './scale';
import type { State, Store } from './state';
import { Surface } from './surface';

const TOP = 18;
const BOTTOM = 34;

export class NetworkPanel {
  readonly #surface: Surface;
  #state: State;
  #bars: Bar[] = [];

  constructor(canvas: HTMLCanvasElement, readonly figures: HTMLElement, readonly table: HTMLElement, store: Store, select: (layer: string) => void) {
    this.#state = store.state;
    this.#surface = new Surface(canvas, (context, width, height) => this.#draw(context, width, height), () => this.#describe());
    canvas.addEventListener('click', (event) => {
      const bar = this.#bars.find(({ x, width }) => event.offsetX >= x - 2 && event.offsetX <= x + width + 2);
      if (bar && (bar.layer.group !== null)) select(bar.layer.name);
    });
    store.subscribe((_, changed) => {
      if (['network', 'widths', 'reference', 'fold', 'layer', 'phase'].some((key) => changed.has(key as keyof State))) {
        this.#surface.invalidate();
        if (!changed.has('fold') || this.#state.fold === 0 || this.#state.fold === 1) this.#write();
      }
    });
  }

  #draw(context: CanvasRenderingContext2D, width: number, height: number): void {
    const { network, reference, widths, fold, layer } = this.#state;
    if (!network) return;
    const wide = reference ?? network;
    const room = height - TOP - BOTTOM;
    const base = TOP + room;
    const before = layoutBars(wide, wide, widths, width, room);
    const after = fold > 0 ? layoutBars(network, wide, {}, width, room) : before;
    const slide = part(fold, 0.5, 1);
    let labelled = -Infinity;
    this.#bars = before.map((bar, i) => {
      const to = after.find(({ layer }) => layer.name === bar.layer.name) ?? bar;
      const mix = (a: number, b: number) => a + (b - a) * slide;
      const now: Bar = { ...bar, layer: fold >= 1 ? to.layer : bar.layer, width: mix(bar.width, to.width), height: bar.height, kept: fold >= 1 ? to.height : bar.kept };
      if (fold > 0.3) ghost(context, bar, base);
      this.#bar(context, now, base, fold, now.layer.name === layer);
      const text = now.layer.name;
      context.font = `10px ${theme().font}`;
      const half = Math.max(context.measureText(text).width, context.measureText(count(now.layer.macs)).width) / 2;
      const first = before.length <= 12 || i === 0 || i === before.length - 1;
      const centre = Math.min(Math.max(now.x + now.width / 2, half), width - half);
      if (first && centre - half > labelled + 4) {
        write(context, text, centre, base + 14, { size: 10, align: 'center', colour: theme().ink });
        write(context, `${count(now.layer.macs)}`, centre, base + 27, { size: 10, align: 'center', colour: theme().muted });
        labelled = centre + half;
      }
      return now;
    });
  }

  #bar(context: CanvasRenderingContext2D, bar: Bar, base: number, fold: number, selected: boolean): void {
    const colours = theme();
    const leaving = (bar.height - bar.kept) * (1 - part(fold, 0.1, 0.5));
    context.fillStyle = colours.accent;
    context.globalAlpha = selected ? 1 : 0.62;
    context.fillRect(bar.x, base - bar.kept, bar.width, bar.kept);
    context.globalAlpha = 1;
    if (leaving > 0.5) hatch(context, bar.x, base - bar.kept - leaving, bar.width, leaving, colours.warm);
    if (bar.width < 16) return;
    const shown = Math.round(fold > 0.5 || bar.kept >= bar.height - 0.01 ? bar.layer.outputs : 0);
    const [from, to] = this.#state.widths[bar.layer.name] ?? [bar.layer.outputs, bar.layer.outputs];
    const text = fold > 0.5 ? String(to) : shown || from === to ? String(bar.layer.outputs) : bar.width > 44 ? `${from} → ${to}` : `${to}`;
    write(context, text, bar.x + bar.width / 2, base - bar.kept - leaving - 5, { size: 11, align: 'center', weight: 600 });
  }

  #write(): void {
    const { network, reference, fold } = this.#state;
    if (!network) return;
    const wide = fold > 0 && reference ? reference : null;
    const line = (name: string, from: number | undefined, to: number, show: (value: number) => string) => {
      const item = document.createElement('span');
      const strong = document.createElement('strong');
      strong.textContent = from !== undefined ? `${show(from)} → ${show(to)}` : show(to);
      item.append(`${name} `, strong, from !== undefined ? ` (${change(from, to)})` : '');
      return item;
    };
    this.figures.replaceChildren(
      line('MACs an image', wide?.macs, network.macs, count),
      line('parameters', wide?.parameters, network.parameters, count),
      line('size', wide?.bytes, network.bytes, bytes),
    );
    this.table.replaceChildren(...network.layers.filter((layer) => layer.macs > 0).map((layer) => {
      const row = document.createElement('tr');
      const [from, to] = this.#state.widths[layer.name] ?? [layer.outputs, layer.outputs];
      const cells = [layer.name, layer.type, from === to || fold > 0 ? String(layer.outputs) : `${from} → ${to}`, layer.outputShape.join(' × '), count(layer.macs), count(layer.parameters)];
      row.append(...cells.map((text, i) => {
        const cell = document.createElement(i === 0 ? 'th' : 'td');
        if (i === 0) cell.setAttribute('scope', 'row');
        cell.textContent = text;
        return cell;
      }));
      return row;
    }));
  }

  #describe(): string {
    const { network, reference, fold } = this.#state;
    if (!network) return 'No network yet.';
    const layers = network.layers.filter((layer) => layer.macs > 0);
    const text = `The network to scale: ${layers.length} layers that compute, ${count(network.macs)} multiply-accumulates an image.`;
    return fold >= 1 && reference ? `${text} Before the cut it had ${count(reference.macs)}.` : text;
  }
}

/** Where the bar reached before the cut. */
function ghost(context: CanvasRenderingContext2D, bar: Bar, base: number): void {
  context.strokeStyle = theme().muted;
  context.globalAlpha = 0.6;
  context.lineWidth = 1;
  context.setLineDash([3, 3]);
  context.strokeRect(Math.round(bar.x) + 0.5, Math.round(base - bar.height) + 0.5, Math.round(bar.width) - 1, Math.round(bar.height));
  context.setLineDash([]);
  context.globalAlpha = 1;
}

function hatch(context: CanvasRenderingContext2D, x: number, y: number, w: number, h: number, colour: string): void {
  context.save();
  context.beginPath();
  context.rect(x, y, w, h);
  context.clip();
  context.strokeStyle = colour;
  context.lineWidth = 1.5;
  context.globalAlpha = 0.75;
  context.beginPath();
  for (let d = -h; d < w; d += 5) {
    context.moveTo(x + d, y + h);
    context.lineTo(x + d + h, y);
  }
  context.stroke();
  context.restore();
}
