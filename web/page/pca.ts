/** The plane through a cloud of points in which it is widest, by principal component analysis. */

export interface Plane {
  mean: Float64Array;
  /** Two orthonormal directions. */
  axes: [Float64Array, Float64Array];
  /** Share of the variance that the plane shows. */
  explained: number;
}

export type Point = [number, number];

const ITERATIONS = 200;
/** Beyond this many products only every so-many-th coordinate is used to find the plane. */
const MOST_PRODUCTS = 4e7;

/** The plane of the `rows` rows of `data`. With few rows in many dimensions the rows' Gram matrix is the small one. */
export function principalPlane(data: ArrayLike<number>, rows: number): Plane {
  const length = rows > 0 ? data.length / rows : 0;
  const mean = new Float64Array(length);
  for (let i = 0; i < data.length; i++) mean[i % length]! += data[i]! / rows;
  const stride = Math.max(1, Math.floor((rows * rows * length) / MOST_PRODUCTS));
  const gram = new Float64Array(rows * rows);
  for (let a = 0; a < rows; a++) {
    for (let b = a; b < rows; b++) {
      let sum = 0;
      for (let k = 0; k < length; k += stride) {
        sum += (data[a * length + k]! - mean[k]!) * (data[b * length + k]! - mean[k]!);
      }
      gram[a * rows + b] = sum;
      gram[b * rows + a] = sum;
    }
  }
  let total = 0;
  for (let a = 0; a < rows; a++) total += gram[a * rows + a]!;
  let shown = 0;
  const axes = [0, 1].map((which) => {
    const { vector, value } = largest(gram, rows, which);
    shown += value;
    for (let a = 0; a < rows; a++) {
      for (let b = 0; b < rows; b++) gram[a * rows + b]! -= value * vector[a]! * vector[b]!;
    }
    const axis = new Float64Array(length);
    for (let a = 0; a < rows; a++) {
      for (let k = 0; k < length; k++) axis[k]! += vector[a]! * (data[a * length + k]! - mean[k]!);
    }
    return normalized(axis);
  }) as [Float64Array, Float64Array];
  orthogonal(axes);
  return { mean, axes, explained: total > 0 ? Math.min(1, shown / total) : 1 };
}

/** Where each row of `data` falls on the plane. */
export function project(plane: Plane, data: ArrayLike<number>, rows: number): Point[] {
  const length = plane.mean.length;
  return Array.from({ length: rows }, (_, row) => {
    let [x, y] = [0, 0];
    for (let k = 0; k < length; k++) {
      const d = data[row * length + k]! - plane.mean[k]!;
      x += d * plane.axes[0][k]!;
      y += d * plane.axes[1][k]!;
    }
    return [x, y] as Point;
  });
}

/** `plane` turned or mirrored so that `now` falls nearest to where `before` was drawn: a view that does not jump. */
export function aligned(plane: Plane, now: Point[], before: Point[]): Plane {
  let [a, b, c, d] = [0, 0, 0, 0];
  now.forEach(([x, y], i) => {
    const [u, v] = before[i] ?? [0, 0];
    a += x * u; b += x * v; c += y * u; d += y * v;
  });
  const [first, second] = plane.axes;
  const mirror = a * d - b * c < 0 ? -1 : 1;
  const angle = mirror > 0 ? Math.atan2(b - c, a + d) : Math.atan2(b + c, a - d);
  const [cos, sin] = [Math.cos(angle), Math.sin(angle)];
  const x = first.map((value, k) => cos * value - sin * mirror * second[k]!);
  const y = first.map((value, k) => sin * value + cos * mirror * second[k]!);
  return { ...plane, axes: [x, y] };
}

function largest(matrix: Float64Array, size: number, which: number): { vector: Float64Array; value: number } {
  let vector: Float64Array = normalized(Float64Array.from({ length: size }, (_, i) => Math.sin(1 + i * (which + 1.7))));
  let value = 0;
  for (let iteration = 0; iteration < ITERATIONS; iteration++) {
    const next = new Float64Array(size);
    for (let a = 0; a < size; a++) {
      for (let b = 0; b < size; b++) next[a]! += matrix[a * size + b]! * vector[b]!;
    }
    value = Math.hypot(...next);
    if (value < 1e-30) return { vector, value: 0 };
    vector = next.map((x) => x / value);
  }
  return { vector, value };
}

/** Takes from the second axis what it has of the first: rounding and strides leave a little. */
function orthogonal(axes: [Float64Array, Float64Array]): void {
  const [first, second] = axes;
  const shared = first.reduce((sum, value, k) => sum + value * second[k]!, 0);
  axes[1] = normalized(second.map((value, k) => value - shared * first[k]!));
}

function normalized(vector: Float64Array): Float64Array {
  const size = Math.hypot(...vector);
  return size > 0 ? vector.map((x) => x / size) : vector;
}
