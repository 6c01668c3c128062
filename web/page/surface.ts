/** A canvas that is sharp on every screen, drawn when something changed, with a text that says what it shows. */

import { onTheme } from './colours';

export type Draw = (context: CanvasRenderingContext2D, width: number, height: number) => boolean | void;

const DESCRIBE_EVERY = 2000;

export class Surface {
  #requested = false;
  #describedAt = -Infinity;
  #timer = 0;

  /** `draw` returns true while it wants to be called again in the next frame. */
  constructor(readonly canvas: HTMLCanvasElement, readonly draw: Draw, readonly describe: () => string) {
    new ResizeObserver(() => this.invalidate()).observe(canvas);
    onTheme(() => this.invalidate());
  }

  invalidate(): void {
    if (this.#requested) return;
    this.#requested = true;
    requestAnimationFrame(() => this.#paint());
  }

  #paint(): void {
    this.#requested = false;
    const { canvas } = this;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    if (width === 0 || height === 0) return;
    const ratio = Math.min(3, devicePixelRatio || 1);
    const [w, h] = [Math.round(width * ratio), Math.round(height * ratio)];
    if (canvas.width !== w || canvas.height !== h) [canvas.width, canvas.height] = [w, h];
    const context = canvas.getContext('2d');
    if (!context) return;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    if (this.draw(context, width, height)) this.invalidate();
    this.#label();
  }

  /** Text alternatives change now and then, not in every frame: screen readers read them at rest. */
  #label(): void {
    clearTimeout(this.#timer);
    const wait = this.#describedAt + DESCRIBE_EVERY - performance.now();
    const write = () => {
      this.#describedAt = performance.now();
      this.canvas.setAttribute('aria-label', this.describe());
    };
    if (wait <= 0) write();
    else this.#timer = window.setTimeout(write, wait);
  }
}
