/** Weights and maps as small pictures. */

import type { FilterView } from '../client/types';
import { diverging, theme } from './colours';
import type { Map2d } from './feature';

/** A picture of `map`, one pixel a value, `scale` the value of full colour. */
export function picture(map: Map2d, scale: number): HTMLCanvasElement {
  const canvas = document.createElement('canvas');
  [canvas.width, canvas.height] = [Math.max(1, map.width), Math.max(1, map.height)];
  const context = canvas.getContext('2d');
  if (!context) return canvas;
  const image = context.createImageData(canvas.width, canvas.height);
  map.values.forEach((value, i) => {
    const [r, g, b] = diverging(value / scale);
    image.data.set([r, g, b, 255], 4 * i);
  });
  context.putImageData(image, 0, 0);
  return canvas;
}

/** Filter `row` of a layer: its R x S weights, the channels side by side in a square. */
export function filterMap(view: FilterView, row: number): Map2d {
  const [, channels = view.rowLength, r = 1, s = 1] = view.shape;
  const across = Math.ceil(Math.sqrt((channels * r) / s));
  const down = Math.ceil(channels / across);
  const [width, height] = [across * s, down * r];
  const values = new Float32Array(width * height);
  for (let c = 0; c < channels; c++) {
    const [x0, y0] = [(c % across) * s, Math.floor(c / across) * r];
    for (let i = 0; i < r; i++) {
      for (let j = 0; j < s; j++) {
        values[(y0 + i) * width + x0 + j] = view.weights[row * view.rowLength + (c * r + i) * s + j] ?? 0;
      }
    }
  }
  return { width, height, values };
}

/** Draws `source` into a square or oblong without smoothing. */
export function paste(context: CanvasRenderingContext2D, source: HTMLCanvasElement, x: number, y: number, w: number, h: number): void {
  context.imageSmoothingEnabled = false;
  context.drawImage(source, x, y, w, h);
}

/** An image of the data set (C x H x W, 0 to 1) in its own colours. */
export function photograph(image: Float32Array, shape: [number, number, number]): HTMLCanvasElement {
  const [channels, height, width] = shape;
  const canvas = document.createElement('canvas');
  [canvas.width, canvas.height] = [width, height];
  const context = canvas.getContext('2d');
  if (!context) return canvas;
  const pixels = context.createImageData(width, height);
  const plane = height * width;
  for (let i = 0; i < plane; i++) {
    const at = (c: number) => 255 * (image[Math.min(c, channels - 1) * plane + i] ?? 0);
    pixels.data.set(channels >= 3 ? [at(0), at(1), at(2), 255] : [at(0), at(0), at(0), 255], 4 * i);
  }
  context.putImageData(pixels, 0, 0);
  return canvas;
}

/** Text in the page's font. */
export function write(
  context: CanvasRenderingContext2D, text: string, x: number, y: number,
  options: { size?: number; colour?: string; align?: CanvasTextAlign; weight?: number; baseline?: CanvasTextBaseline } = {},
): void {
  const { ink, font } = theme();
  context.font = `${options.weight ?? 400} ${options.size ?? 12}px ${font}`;
  context.fillStyle = options.colour ?? ink;
  context.textAlign = options.align ?? 'left';
  context.textBaseline = options.baseline ?? 'alphabetic';
  context.fillText(text, x, y);
}
