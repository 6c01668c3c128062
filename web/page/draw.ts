/** The image to classify: drawn with the pointer, or a test image picked with the keyboard. */

import type { DataInfo } from '../client/types';
import { onTheme } from './colours';
import { byId, element, setText } from './dom';
import { paste, photograph } from './heat';
import type { State, Store } from './state';
import { Surface } from './surface';

export interface Picker {
  pick(index: number): Promise<void>;
  classify(image: Float32Array): void;
}

export class DrawPanel {
  readonly #canvas = byId('draw', HTMLCanvasElement);
  readonly #index = byId('test-index', HTMLInputElement);
  readonly #colour = byId('ink', HTMLInputElement);
  readonly #surface: Surface;
  readonly #state: State;
  #pixels = new Float32Array();
  #drawing = false;
  #last: [number, number] | null = null;
  #own = false;
  #timer = 0;

  constructor(readonly store: Store, readonly picker: Picker) {
    this.#state = store.state;
    this.#surface = new Surface(this.#canvas, (context, width, height) => this.#draw(context, width, height), () => this.#describe());
    onTheme(() => this.#surface.invalidate());
    this.#listen();
    store.subscribe((state, changed) => {
      if (changed.has('data') && state.data) this.#fit(state.data);
      if (changed.has('picked') && state.picked) {
        this.#pixels = state.picked.image.slice();
        this.#own = state.picked.index === null;
        if (state.picked.index !== null) this.#index.value = String(state.picked.index);
        this.#label();
        this.#surface.invalidate();
      }
    });
  }

  #fit(data: DataInfo): void {
    this.#pixels = new Float32Array(data.shape.reduce((a, b) => a * b, 1));
    this.#index.max = String(Math.max(0, data.test - 1));
    this.#colour.parentElement!.hidden = data.shape[0] < 3;
    this.#surface.invalidate();
  }

  #listen(): void {
    const canvas = this.#canvas;
    canvas.addEventListener('pointerdown', (event) => {
      event.preventDefault();
      canvas.setPointerCapture(event.pointerId);
      this.#drawing = true;
      if (!this.#own) this.#pixels.fill(0);
      this.#own = true;
      this.#last = null;
      this.#stroke(event);
      this.#label();
    });
    canvas.addEventListener('pointermove', (event) => {
      if (this.#drawing) for (const each of event.getCoalescedEvents?.() ?? [event]) this.#stroke(each);
    });
    for (const name of ['pointerup', 'pointercancel'] as const) {
      canvas.addEventListener(name, () => {
        if (!this.#drawing) return;
        this.#drawing = false;
        this.#send(0);
      });
    }
    byId('clear', HTMLButtonElement).addEventListener('click', () => {
      this.#pixels.fill(0);
      this.#own = true;
      this.#label();
      this.#surface.invalidate();
      this.#send(0);
    });
    this.#index.addEventListener('change', () => void this.#pick(Number(this.#index.value)));
    const move = (by: number) => void this.#pick((this.#state.picked?.index ?? 0) + by);
    byId('previous', HTMLButtonElement).addEventListener('click', () => move(-1));
    byId('next', HTMLButtonElement).addEventListener('click', () => move(1));
  }

  async #pick(index: number): Promise<void> {
    const count = this.#state.data?.test ?? 0;
    if (count === 0 || !Number.isFinite(index)) return;
    await this.picker.pick(((Math.round(index) % count) + count) % count);
  }

  #stroke(event: PointerEvent): void {
    const { data } = this.#state;
    if (!data) return;
    const [channels, height, width] = data.shape;
    const box = this.#canvas.getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width) * width;
    const y = ((event.clientY - box.top) / box.height) * height;
    const from = this.#last ?? [x, y];
    const steps = Math.max(1, Math.ceil(Math.hypot(x - from[0], y - from[1]) * 2));
    for (let i = 1; i <= steps; i++) {
      this.#dab(from[0] + ((x - from[0]) * i) / steps, from[1] + ((y - from[1]) * i) / steps, channels, height, width);
    }
    this.#last = [x, y];
    this.#surface.invalidate();
    this.#send(150);
  }

  #dab(cx: number, cy: number, channels: number, height: number, width: number): void {
    const radius = Math.max(1.1, width / 20);
    const hex = this.#colour.value;
    const ink = channels < 3 ? [1] : [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16) / 255);
    for (let y = Math.max(0, Math.floor(cy - radius - 1)); y < Math.min(height, cy + radius + 1); y++) {
      for (let x = Math.max(0, Math.floor(cx - radius - 1)); x < Math.min(width, cx + radius + 1); x++) {
        const amount = Math.min(1, Math.max(0, radius + 0.5 - Math.hypot(x + 0.5 - cx, y + 0.5 - cy)));
        for (let c = 0; c < channels; c++) {
          const at = (c * height + y) * width + x;
          const to = ink[c] ?? ink[0]!;
          const now = this.#pixels[at]!;
          this.#pixels[at] = channels < 3 ? Math.max(now, amount * to) : now + (to - now) * amount;
        }
      }
    }
  }

  #send(wait: number): void {
    clearTimeout(this.#timer);
    this.#timer = window.setTimeout(() => this.picker.classify(this.#pixels.slice()), wait);
  }

  #draw(context: CanvasRenderingContext2D, width: number, height: number): void {
    const { data } = this.#state;
    if (!data || this.#pixels.length === 0) return;
    paste(context, photograph(this.#pixels, data.shape), 0, 0, width, height);
  }

  #label(): void {
    const { picked, data } = this.#state;
    const label = picked?.label;
    setText(element('draw-note'), this.#own
      ? 'Your drawing. Lift the pen and both networks answer.'
      : `Test image ${picked?.index ?? 0}${label !== null && label !== undefined ? `: ${data?.classes[label] ?? label}` : ''}. Draw over it for one of your own.`);
  }

  #describe(): string {
    const { picked, data } = this.#state;
    if (this.#own) return 'Drawing area with your own drawing. With the keyboard, pick a test image below instead.';
    const label = picked?.label ?? null;
    return `Drawing area, now showing test image ${picked?.index ?? 0}${label !== null ? `, ${data?.classes[label] ?? label}` : ''}. With the keyboard, pick another test image below.`;
  }
}
