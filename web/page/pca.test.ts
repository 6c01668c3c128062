import { describe, expect, it } from 'vitest';
import { aligned, principalPlane, project, type Point } from './pca';

/** Points of a flat ellipse in five dimensions, three times as long as wide. */
function ellipse(rows: number): Float32Array {
  const data = new Float32Array(rows * 5);
  for (let i = 0; i < rows; i++) {
    const angle = (2 * Math.PI * i) / rows;
    const [a, b] = [3 * Math.cos(angle), Math.sin(angle)];
    data.set([a + 1, b - 2, a / 2, b / 2, 7], 5 * i);
  }
  return data;
}

const distance = (a: Point, b: Point) => Math.hypot(a[0] - b[0], a[1] - b[1]);

describe('principalPlane', () => {
  it('keeps all of a flat cloud, its distances and its long axis first', () => {
    const data = ellipse(12);
    const plane = principalPlane(data, 12);
    expect(plane.explained).toBeGreaterThan(0.999999);
    const points = project(plane, data, 12);
    const rows = Array.from({ length: 12 }, (_, i) => [...data.subarray(5 * i, 5 * i + 5)]);
    for (let i = 0; i < 12; i++) {
      const straight = Math.hypot(...rows[i]!.map((value, k) => value - rows[(i + 5) % 12]![k]!));
      expect(distance(points[i]!, points[(i + 5) % 12]!)).toBeCloseTo(straight, 4);
    }
    const reach = [0, 1].map((axis) => Math.max(...points.map((point) => Math.abs(point[axis]!))));
    expect(reach[0]! / reach[1]!).toBeCloseTo(3, 3);
  });

  it('has orthonormal axes', () => {
    const data = Float32Array.from({ length: 16 * 9 }, (_, i) => Math.sin(i * i));
    const [a, b] = principalPlane(data, 16).axes;
    const dot = (x: Float64Array, y: Float64Array) => x.reduce((sum, value, i) => sum + value * y[i]!, 0);
    expect(dot(a, a)).toBeCloseTo(1, 9);
    expect(dot(b, b)).toBeCloseTo(1, 9);
    expect(dot(a, b)).toBeCloseTo(0, 9);
  });

  it('puts equal filters on one point, and survives no variance at all', () => {
    const data = Float32Array.from({ length: 4 * 9 }, (_, i) => (i % 9) / 9);
    const points = project(principalPlane(data, 4), data, 4);
    expect(points.every((point) => Number.isFinite(point[0]) && distance(point, points[0]!) < 1e-6)).toBe(true);
  });
});

describe('aligned', () => {
  it('turns and mirrors a plane back to how the points were drawn', () => {
    const data = ellipse(9);
    const plane = principalPlane(data, 9);
    const before = project(plane, data, 9);
    for (const [cos, sin, mirror] of [[0.8, 0.6, 1], [-0.6, 0.8, 1], [0.28, -0.96, -1]] as const) {
      const turn = (x: number, y: number) => [cos * x - sin * y * mirror, sin * x + cos * y * mirror];
      const [first, second] = plane.axes;
      const axes: [Float64Array, Float64Array] = [first.map((x, k) => turn(x, second[k]!)[0]!), first.map((x, k) => turn(x, second[k]!)[1]!)];
      const turned = { ...plane, axes };
      const back = aligned(turned, project(turned, data, 9), before);
      project(back, data, 9).forEach((point, i) => expect(distance(point, before[i]!)).toBeLessThan(1e-6));
    }
  });
});
