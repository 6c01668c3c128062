/** The filters of one layer as points of their principal plane, on the way to their cluster's centre. */

import type { FilterView } from '../client/types';
import { hasClusters, membersOf } from './clusters';
import { clusterColour, theme } from './colours';
import { write } from './heat';
import { part, reducedMotion } from './motion';
import { aligned, principalPlane, project, type Plane, type Point } from './pca';
import type { State, Store } from './state';
import { Surface } from './surface';

const FOLLOW = 0.14;
const MARGIN = 18;
const TRAIL = 60;
/** A plane of many filters takes long to find, so it is found the less often. */
const PLANE_SHARE = 12;

export class PlanePanel {
  readonly #surface: Surface;
  #state: State;
  #plane: Plane | null = null;
  #layer = '';
  #frozen = false;
  #rows = 0;
  #clusters: number[][] = [];
  #targets: Point[] = [];
  #points: Point[] = [];
  #trails: Point[][] = [];
  #extent = 1;
  #nextPlane = -Infinity;

  constructor(canvas: HTMLCanvasElement, store: Store) {
    this.#state = store.state;
    this.#surface = new Surface(canvas, (context, width, height) => this.#draw(context, width, height), () => this.#describe());
    store.subscribe((state, changed) => {
      if (changed.has('clusteredAt')) this.#frozen = false;
      if (changed.has('view') && state.view) this.#take(state.view);
      if (changed.has('view') || changed.has('fold')) this.#surface.invalidate();
    });
  }

  /** Computes the plane anew while no clusters are fixed, and once when they are: then points move, not the plane. */
  #take(view: FilterView): void {
    const clustered = hasClusters(view);
    const known = this.#layer === view.layer && this.#plane?.mean.length === view.rowLength && this.#rows === view.rows;
    const due = performance.now() >= this.#nextPlane || clustered;
    if (!known || (!this.#frozen && due)) {
      const began = performance.now();
      let plane = principalPlane(view.weights, view.rows);
      const now = project(plane, view.weights, view.rows);
      if (known) plane = aligned(plane, now, this.#targets);
      else this.#points = [];
      this.#plane = plane;
      this.#trails = Array.from({ length: view.rows }, () => []);
      this.#frozen = clustered;
      this.#nextPlane = performance.now() + PLANE_SHARE * (performance.now() - began);
      const points = project(plane, view.weights, view.rows);
      const extent = Math.max(1e-9, ...points.map(([x, y]) => Math.max(Math.abs(x), Math.abs(y))));
      this.#extent = known && !clustered ? Math.max(extent, this.#extent * 0.9) : extent;
    }
    this.#layer = view.layer;
    this.#rows = view.rows;
    this.#clusters = membersOf(view.clusters);
    this.#targets = project(this.#plane!, view.weights, view.rows);
    const extent = Math.max(...this.#targets.map(([x, y]) => Math.max(Math.abs(x), Math.abs(y))));
    this.#extent = Math.max(this.#extent, extent);
    if (clustered) {
      this.#targets.forEach((point, row) => {
        const trail = this.#trails[row]!;
        trail.push(point);
        if (trail.length > TRAIL) trail.splice(1, 1);
      });
    }
  }

  #draw(context: CanvasRenderingContext2D, width: number, height: number): boolean {
    if (this.#targets.length === 0) return false;
    let moving = false;
    const jump = reducedMotion() || this.#points.length !== this.#targets.length;
    this.#points = this.#targets.map((target, row) => {
      const from = this.#points[row];
      if (jump || !from) return target;
      const near = Math.hypot(target[0] - from[0], target[1] - from[1]) < this.#extent * 1e-3;
      moving ||= !near;
      return near ? target : [from[0] + (target[0] - from[0]) * FOLLOW, from[1] + (target[1] - from[1]) * FOLLOW];
    });
    const scale = (Math.min(width, height) / 2 - MARGIN) / this.#extent;
    const at = ([x, y]: Point): Point => [width / 2 + x * scale, height / 2 - y * scale];
    this.#axes(context, width, height);
    const merging = this.#clusters.map((members, index) => ({ members, index }));
    for (const { members, index } of merging) this.#links(context, members, index, at);
    for (const { members, index } of merging.reverse()) this.#dots(context, members, index, at);
    return moving;
  }

  #axes(context: CanvasRenderingContext2D, width: number, height: number): void {
    context.strokeStyle = theme().line;
    context.lineWidth = 1;
    context.beginPath();
    context.moveTo(0, Math.round(height / 2) + 0.5); context.lineTo(width, Math.round(height / 2) + 0.5);
    context.moveTo(Math.round(width / 2) + 0.5, 0); context.lineTo(Math.round(width / 2) + 0.5, height);
    context.stroke();
    const shown = Math.round(100 * (this.#plane?.explained ?? 0));
    write(context, `shows ${shown} % of the variance`, width - 2, height - 4, { size: 10, colour: theme().muted, align: 'right' });
  }

  #links(context: CanvasRenderingContext2D, members: number[], index: number, at: (point: Point) => Point): void {
    if (members.length < 2 || this.#state.fold >= 1) return;
    const points = members.map((row) => this.#points[row]!);
    const mean: Point = [0, 1].map((i) => points.reduce((sum, point) => sum + point[i]!, 0) / points.length) as Point;
    context.strokeStyle = clusterColour(index, members.length);
    context.lineWidth = 1.5;
    for (const row of members) {
      context.globalAlpha = 0.35;
      context.setLineDash([]);
      context.beginPath();
      this.#trails[row]!.forEach((point, i) => context[i === 0 ? 'moveTo' : 'lineTo'](...at(point)));
      context.lineTo(...at(this.#points[row]!));
      context.stroke();
      context.globalAlpha = 0.7;
      context.setLineDash([2, 3]);
      context.beginPath();
      context.moveTo(...at(this.#points[row]!));
      context.lineTo(...at(mean));
      context.stroke();
    }
    context.setLineDash([]);
    context.globalAlpha = 1;
  }

  #dots(context: CanvasRenderingContext2D, members: number[], index: number, at: (point: Point) => Point): void {
    const { fold } = this.#state;
    members.toReversed().forEach((row, back) => {
      const survivor = back === members.length - 1;
      const alpha = survivor ? 1 : 1 - part(fold, 0.15, 0.5);
      if (alpha <= 0) return;
      const [x, y] = at(this.#points[row]!);
      context.globalAlpha = alpha;
      context.beginPath();
      context.arc(x, y, members.length > 1 ? 5 : 4, 0, 2 * Math.PI);
      context.fillStyle = clusterColour(index, members.length);
      context.fill();
      context.lineWidth = 1.5;
      context.strokeStyle = theme().panel;
      context.stroke();
    });
    context.globalAlpha = 1;
  }

  #describe(): string {
    if (!this.#plane) return 'No points yet.';
    const places = new Set(this.#targets.map(([x, y]) => `${Math.round((x / this.#extent) * 100)}:${Math.round((y / this.#extent) * 100)}`));
    return `The ${this.#rows} filters of ${this.#layer} as points of a plane that shows ${Math.round(100 * this.#plane.explained)} % of their variance. They lie at ${places.size} different places.`;
  }
}
