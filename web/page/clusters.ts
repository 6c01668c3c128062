/** Clusters of one layer as lists of members, from the session's flat table. */

import type { FilterView } from '../client/types';

/** Clusters with members ascending: those of several members first, the larger the earlier. */
export function membersOf(clusters: ArrayLike<number>): number[][] {
  const byLabel = new Map<number, number[]>();
  for (let row = 0; row < clusters.length; row++) {
    const label = clusters[row]!;
    byLabel.set(label, [...(byLabel.get(label) ?? []), row]);
  }
  return [...byLabel.values()].sort((a, b) => b.length - a.length || a[0]! - b[0]!);
}

/** Whether any two filters are to become one. */
export function hasClusters(view: FilterView): boolean {
  return membersOf(view.clusters).some((members) => members.length > 1);
}

/** The largest distance of a member's weight from the mean of all members. */
export function spread(view: FilterView, members: number[]): number {
  const { rowLength, weights } = view;
  let furthest = 0;
  for (let k = 0; k < rowLength; k++) {
    let mean = 0;
    for (const row of members) mean += weights[row * rowLength + k]! / members.length;
    for (const row of members) furthest = Math.max(furthest, Math.abs(weights[row * rowLength + k]! - mean));
  }
  return furthest;
}

/** The largest spread of any cluster. */
export function furthest(view: FilterView): number {
  return Math.max(0, ...membersOf(view.clusters).map((members) => spread(view, members)));
}

/** The two filters that are nearest to each other: what to show where there are no clusters yet. */
export function nearestPair(view: FilterView): [number, number] {
  const { rows, rowLength, weights } = view;
  let best: [number, number] = [0, Math.min(1, rows - 1)];
  let least = Infinity;
  for (let a = 0; a < rows; a++) {
    for (let b = a + 1; b < rows; b++) {
      let sum = 0;
      for (let k = 0; k < rowLength; k++) sum += (weights[a * rowLength + k]! - weights[b * rowLength + k]!) ** 2;
      if (sum < least) [least, best] = [sum, [a, b]];
    }
  }
  return best;
}

/** 0 while members of a cluster are as far apart as at the start, 1 when only rounding tells them apart. */
export function togetherness(now: number, start: number): number {
  if (!(start > 0)) return 1;
  if (!(now > 0)) return 1;
  const nats = Math.log(now / start);
  return Math.min(1, Math.max(0, nats / -15));
}
