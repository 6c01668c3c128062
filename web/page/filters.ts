/** The filters of one layer as tiles, grouped by cluster and drawn together as they become identical. */

import type { FilterView } from '../client/types';
import { membersOf, spread, togetherness } from './clusters';
import { clusterColour, theme } from './colours';
import { largest } from './feature';
import { filterMap, paste, picture, write } from './heat';
import { part, reducedMotion } from './motion';
import type { State, Store } from './state';
import { Surface } from './surface';
import { drawnTogether, layoutTiles } from './tiles';

interface Tile { x: number; y: number; size: number; alpha: number }

const FOLLOW = 0.16;
const LABEL = 15;

export class FiltersPanel {
  readonly #surface: Surface;
  #state: State;
  #view: FilterView | null = null;
  #pictures: HTMLCanvasElement[] = [];
  #tiles: Tile[] = [];
  #starts = new Map<string, number>();
  #clusters: number[][] = [];
  #amounts: number[] = [];

  constructor(canvas: HTMLCanvasElement, store: Store) {
    this.#state = store.state;
    this.#surface = new Surface(canvas, (context, width, height) => this.#draw(context, width, height), () => this.#describe());
    store.subscribe((state, changed) => {
      if (changed.has('clusteredAt')) this.#starts.clear();
      if (changed.has('view')) this.#take(state.view);
      if (['view', 'fold', 'phase'].some((key) => changed.has(key as keyof State))) this.#surface.invalidate();
    });
  }

  #take(view: FilterView | null): void {
    const sameLayer = this.#view?.layer === view?.layer && this.#view?.rows === view?.rows;
    this.#view = view;
    if (!view) return;
    if (!sameLayer) this.#tiles = [];
    const scale = largest(view.weights) * 0.9;
    this.#pictures = Array.from({ length: view.rows }, (_, row) => picture(filterMap(view, row), scale));
    this.#clusters = membersOf(view.clusters);
    this.#amounts = this.#clusters.map((members) => {
      if (members.length < 2) return 0;
      const key = `${view.layer}:${members.join()}`;
      const now = spread(view, members);
      if (!this.#starts.has(key)) this.#starts.set(key, now);
      return togetherness(now, this.#starts.get(key)!);
    });
  }

  #draw(context: CanvasRenderingContext2D, width: number, height: number): boolean {
    const view = this.#view;
    if (!view) return false;
    const { fold } = this.#state;
    const targets = this.#targets(view, width, height - LABEL, fold);
    const jump = reducedMotion() || this.#tiles.length !== targets.length;
    let moving = false;
    this.#tiles = targets.map((target, row) => {
      const from = this.#tiles[row];
      if (jump || !from) return target;
      const follow = (a: number, b: number) => (Math.abs(b - a) < 0.3 ? b : a + (b - a) * FOLLOW);
      const tile = { x: follow(from.x, target.x), y: follow(from.y, target.y), size: follow(from.size, target.size), alpha: target.alpha };
      moving ||= tile.x !== target.x || tile.y !== target.y || tile.size !== target.size;
      return tile;
    });
    this.#clusters.forEach((members, index) => this.#drawCluster(context, members, index, fold));
    return moving;
  }

  #targets(view: FilterView, width: number, height: number, fold: number): Tile[] {
    const compact = fold > 0.55;
    const clusters = compact ? this.#clusters.map((members) => [members[0]!]) : this.#clusters;
    const layout = layoutTiles(clusters, view.rows, width, height);
    const tiles: Tile[] = [];
    this.#clusters.forEach((members, index) => {
      const block = layout.blocks[index]!;
      const amount = Math.max(this.#amounts[index] ?? 0, members.length > 1 ? part(fold, 0, 0.15) : 0);
      members.forEach((row, i) => {
        const slot = layout.slots[compact ? members[0]! : row]!;
        const at = compact ? slot : drawnTogether(block, slot, i, layout.tile, amount);
        tiles[row] = { ...at, size: layout.tile, alpha: i === 0 ? 1 : 1 - part(fold, 0.15, 0.5) };
      });
    });
    return tiles;
  }

  #drawCluster(context: CanvasRenderingContext2D, members: number[], index: number, fold: number): void {
    const colour = clusterColour(index, members.length);
    const grouped = members.length > 1;
    const shown = [...members].reverse();
    for (const row of shown) {
      const tile = this.#tiles[row]!;
      if (tile.alpha <= 0) continue;
      const { x, y, size } = tile;
      context.globalAlpha = tile.alpha;
      paste(context, this.#pictures[row]!, x, y, size, size);
      context.lineWidth = grouped ? Math.max(1.5, size / 18) : 1;
      context.strokeStyle = grouped ? colour : theme().line;
      context.strokeRect(x, y, size, size);
    }
    context.globalAlpha = 1;
    const first = this.#tiles[members[0]!]!;
    if (!grouped || first.size < 20) return;
    const last = this.#tiles[members.at(-1)!]!;
    const centre = fold > 0.5 ? first.x + first.size / 2 : (Math.min(first.x, last.x) + Math.max(first.x, last.x) + first.size) / 2;
    const text = fold > 0.5 ? `was ${members.length}` : `${members.length} → 1`;
    if (first.size < 30 && fold > 0.5) return;
    write(context, text, centre, Math.max(first.y, last.y) + first.size + 11, { size: 10, colour, align: 'center', weight: 600 });
  }

  #describe(): string {
    const view = this.#view;
    if (!view) return 'No filters yet.';
    const merging = this.#clusters.filter((members) => members.length > 1);
    if (merging.length === 0) return `The ${view.rows} filters of ${view.layer}, each a small picture of its weights.`;
    if (this.#state.fold >= 1) return `The ${this.#clusters.length} filters of ${view.layer} that stay; ${view.rows - this.#clusters.length} duplicates are gone.`;
    const together = this.#amounts.filter((_, i) => this.#clusters[i]!.length > 1);
    const least = Math.min(...together);
    return `The ${view.rows} filters of ${view.layer} in ${this.#clusters.length} clusters, of which ${merging.length} have several members: ${merging
      .map((members) => members.length).join(', ')}. On the way to being identical: ${Math.round(100 * least)} %.`;
  }
}
