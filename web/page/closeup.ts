/** One cluster of the first layer close up: image, filters, what they see, how the next layer reads it, and the fold. */

import type { FilterView } from '../client/types';
import { hasClusters, membersOf, nearestPair, spread } from './clusters';
import { clusterColour, theme } from './colours';
import { featureMap, largest, readingWeights, summed, type Map2d } from './feature';
import { scientific } from './format';
import { filterMap, paste, photograph, picture, write } from './heat';
import { part } from './motion';
import { equal } from './pull';
import type { State, Store } from './state';
import { Surface } from './surface';

const MOST = 4;
/** Room between two rows for the sign of the sum. */
const PLUS = 17;
const WORDS = ['', 'one filter', 'two filters', 'three filters', 'four filters'];

interface Row { filter: HTMLCanvasElement; map: HTMLCanvasElement; weights: HTMLCanvasElement }
interface Scene { image: HTMLCanvasElement; rows: Row[]; sum: HTMLCanvasElement; strip: Map2d; colour: string; clustered: boolean; members: number; apart: number; layer: string }

export class CloseupPanel {
  readonly #surface: Surface;
  #state: State;
  #scene: Scene | null = null;

  constructor(canvas: HTMLCanvasElement, readonly note: HTMLElement, store: Store) {
    this.#state = store.state;
    this.#surface = new Surface(canvas, (context, width, height) => this.#draw(context, width, height), () => this.#describe());
    store.subscribe((_, changed) => {
      const inputs: (keyof State)[] = ['first', 'second', 'picked', 'data'];
      if (inputs.some((key) => changed.has(key))) this.#build();
      if (changed.has('fold') || changed.has('apart') || changed.has('phase') || changed.has('certificate') || inputs.some((key) => changed.has(key))) {
        this.#surface.invalidate();
        this.#explain();
      }
    });
  }

  #build(): void {
    const { first, second, picked, data } = this.#state;
    if (!first || !second || !picked || !data) {
      this.#scene = null;
      return;
    }
    const { members, index, clustered } = chosen(first);
    const shown = members.slice(0, MOST);
    const maps = shown.map((row) => featureMap(first, row, picked.image, data.shape));
    const readings = shown.map((row) => readingWeights(second, row, first.rows));
    const all = members.map((row) => readingWeights(second, row, first.rows));
    const mapScale = Math.max(...maps.map((map) => largest(map.values))) * 0.9;
    const sum = summed(all);
    const stripScale = Math.max(largest(sum.values), ...readings.map((map) => largest(map.values))) * 0.8;
    const filterScale = largest(first.weights) * 0.9;
    this.#scene = {
      image: photograph(picked.image, data.shape),
      rows: shown.map((row, i) => ({
        filter: picture(filterMap(first, row), filterScale),
        map: picture(maps[i]!, mapScale),
        weights: picture(readings[i]!, stripScale),
      })),
      sum: picture(sum, stripScale),
      strip: sum,
      colour: clusterColour(index, clustered ? members.length : 1),
      clustered,
      members: members.length,
      apart: spread(first, members),
      layer: first.layer,
    };
  }

  #draw(context: CanvasRenderingContext2D, width: number, height: number): void {
    const scene = this.#scene;
    if (!scene) return;
    const { fold } = this.#state;
    const narrow = width < 480;
    const top = 20;
    const rows = scene.rows.length;
    const pitch = (height - top) / Math.max(rows, 2);
    const centre = part(fold, 0.72, 1);
    const small = Math.min(pitch - 8, narrow ? 44 : 64);
    const size = small + (Math.max(small, narrow ? 52 : 96) - small) * centre;
    const picture0 = Math.min(narrow ? 44 : 88, height - top - 10);
    const middle = top + (height - top) / 2;
    const xFilter = picture0 + (narrow ? 22 : 48);
    const xMap = xFilter + size + (narrow ? 16 : 34);
    const xStrip = xMap + size + (narrow ? 18 : 40);
    const wStrip = Math.max(40, width - xStrip - (narrow ? 2 : 8));
    const between = scene.clustered && rows > 1 ? PLUS * (1 - centre) : 0;
    const hStrip = Math.min(size, Math.max(10, Math.round((wStrip * scene.strip.height) / scene.strip.width)), 44 + 36 * centre, Math.max(10, pitch - between));
    const head = (text: string, x: number, align: CanvasTextAlign = 'center') => write(context, text, x, 11, { size: 11, colour: theme().muted, align });
    head('image', picture0 / 2);
    head(narrow ? 'filters' : 'filters', xFilter + size / 2);
    head(narrow ? 'see' : 'what they see', xMap + size / 2);
    head(narrow ? 'next layer reads' : 'weights with which the next layer reads it', xStrip + wStrip / 2);
    paste(context, scene.image, 0, middle - picture0 / 2, picture0, picture0);
    outline(context, 0, middle - picture0 / 2, picture0, picture0, theme().line);

    const join = part(fold, 0.08, 0.5);
    const merged = part(fold, 0.45, 0.62);
    const home = (i: number) => top + pitch * i + pitch / 2 + (rows === 1 ? (height - top - pitch) / 2 : 0);
    const goal = home(0) + (middle - home(0)) * centre;
    for (let i = rows - 1; i >= 0; i--) {
      const y = i === 0 ? goal : home(i) + (home(0) - home(i)) * join;
      const alpha = i === 0 ? 1 : 1 - merged;
      if (alpha <= 0) continue;
      context.globalAlpha = alpha;
      this.#row(context, scene, i, y, { picture0, middle, xFilter, xMap, xStrip, wStrip, hStrip, size, merged: i === 0 ? merged : 0 });
    }
    context.globalAlpha = 1;
    if (scene.clustered && fold < 0.1) this.#pluses(context, scene, home, xStrip + wStrip / 2);
    if (merged > 0 && merged < 1) {
      context.globalAlpha = Math.sin(Math.PI * merged);
      outline(context, xStrip - 3, goal - hStrip / 2 - 3, wStrip + 6, hStrip + 6, theme().accent, 3);
      context.globalAlpha = 1;
    }
  }

  #row(
    context: CanvasRenderingContext2D, scene: Scene, index: number, y: number,
    at: { picture0: number; middle: number; xFilter: number; xMap: number; xStrip: number; wStrip: number; hStrip: number; size: number; merged: number },
  ): void {
    const row = scene.rows[index]!;
    const { size } = at;
    const top = y - size / 2;
    context.strokeStyle = theme().line;
    context.lineWidth = 1.5;
    context.beginPath();
    context.moveTo(at.picture0 + 4, at.middle);
    context.bezierCurveTo(at.picture0 + 20, at.middle, at.xFilter - 20, y, at.xFilter - 5, y);
    context.stroke();
    paste(context, row.filter, at.xFilter, top, size, size);
    outline(context, at.xFilter, top, size, size, scene.colour, 2.5);
    paste(context, row.map, at.xMap, top, size, size);
    outline(context, at.xMap, top, size, size, theme().line);
    write(context, '→', (at.xFilter + size + at.xMap) / 2, y, { size: 14, colour: theme().muted, align: 'center', baseline: 'middle' });
    write(context, '×', (at.xMap + size + at.xStrip) / 2, y, { size: 16, colour: theme().muted, align: 'center', baseline: 'middle' });
    paste(context, row.weights, at.xStrip, y - at.hStrip / 2, at.wStrip, at.hStrip);
    if (at.merged > 0) {
      const alpha = context.globalAlpha;
      context.globalAlpha = at.merged;
      paste(context, scene.sum, at.xStrip, y - at.hStrip / 2, at.wStrip, at.hStrip);
      context.globalAlpha = alpha;
    }
    outline(context, at.xStrip, y - at.hStrip / 2, at.wStrip, at.hStrip, theme().line);
  }

  /** Between the rows; what is not shown is counted before the last. */
  #pluses(context: CanvasRenderingContext2D, { rows, members }: Scene, home: (i: number) => number, x: number): void {
    for (let i = 1; i < rows.length; i++) {
      const text = i === rows.length - 1 && members > rows.length ? `+ ${members - rows.length} more +` : '+';
      write(context, text, x, (home(i - 1) + home(i)) / 2, { size: 14, colour: theme().muted, align: 'center', baseline: 'middle', weight: 600 });
    }
  }

  #explain(): void {
    this.note.textContent = this.#text();
  }

  #text(): string {
    const scene = this.#scene;
    if (!scene) return 'Loading.';
    const { fold, certificate } = this.#state;
    const some = WORDS[scene.members] ?? `${scene.members} filters`;
    const shown = scene.members > MOST ? ` (${MOST} are shown)` : '';
    const names = Array.from({ length: Math.min(scene.members, 3) }, (_, i) => 'w' + '₁₂₃'[i]);
    const sum = scene.members > 3 ? `${names[0]} + … + w${subscript(scene.members)}` : names.join(' + ');
    if (fold >= 1 && scene.clustered) {
      const lost = certificate && !certificate.lossless ? `But they were still ${scientific(scene.apart)} apart, and where they differed something is lost.` : 'Nothing is lost.';
      return `One filter now sees it for all ${scene.members}, and the next layer reads it with the sum of their weights: ${sum}. ${lost}`;
    }
    if (!scene.clustered) return `Two filters of ${scene.layer}, the two nearest to each other. They see different things, so both are needed.`;
    const distance = scientific(scene.apart);
    if (equal(this.#state)) return `${capital(some)} of one cluster${shown}, ${distance} apart. They see the same map m, so ${names.map((name) => `${name}·m`).join(' + ')}${scene.members > 3 ? ' + …' : ''} = (${sum})·m: one filter and summed weights do the same.`;
    return `${capital(some)} of one cluster of ${scene.layer}${shown}, still ${distance} apart. As they become equal, so does what they see, and one with the sum ${sum} of their weights would do.`;
  }

  #describe(): string {
    return `Close up. ${this.#text()}`;
  }
}

/** A cluster that can be shown whole, best of three; without clusters the two nearest filters. */
function chosen(view: FilterView): { members: number[]; index: number; clustered: boolean } {
  if (!hasClusters(view)) return { members: nearestPair(view), index: 0, clustered: false };
  const clusters = membersOf(view.clusters);
  const ofSize = (size: number) => clusters.findIndex((members) => members.length === size);
  const index = Math.max(0, [3, 2, MOST].map(ofSize).find((found) => found >= 0) ?? 0);
  return { members: clusters[index]!, index, clustered: true };
}

function outline(context: CanvasRenderingContext2D, x: number, y: number, w: number, h: number, colour: string, line = 1): void {
  context.strokeStyle = colour;
  context.lineWidth = line;
  context.strokeRect(x, y, w, h);
}

const capital = (text: string) => text.charAt(0).toUpperCase() + text.slice(1);
const subscript = (value: number) => [...String(value)].map((digit) => '₀₁₂₃₄₅₆₇₈₉'[Number(digit)]).join('');
