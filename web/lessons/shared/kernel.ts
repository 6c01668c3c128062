/** A reader's shader against the twin: checked by naga, run on the GPU, judged by the library. */

import { call } from './library.ts';
import * as gpu from './gpu.ts';

interface Case {
  name: string;
  words: number[];
  workgroups: Record<string, number>;
  inputs: number;
  outputs: number;
}

interface Kernel {
  name: string;
  bindings: { name: string; write: boolean }[];
  shaders: { name: string; memory: boolean }[];
}

interface Checked {
  ok: boolean;
  message: string;
  notes: string[];
  place: { line: number; column: number; length: number; marked: string } | null;
  workgroup: [number, number, number];
  guarded: string;
}

export interface Difference {
  buffer: string;
  index: number;
  place: string | null;
  expected: string;
  found: string;
  of: number;
}

interface Judged {
  case: string;
  passed: boolean;
  worst: number;
  nmse: number;
  first: Difference | null;
  params: Record<string, number>;
}

export type Outcome =
  | { kind: 'passed'; cases: number; worst: number }
  | { kind: 'syntax'; message: string; notes: string[]; line: number; column: number; marked: string }
  | { kind: 'wrong'; judged: Judged; passed: number }
  | { kind: 'stopped'; case: string; rounds: number }
  | { kind: 'refused'; message: string }
  | { kind: 'no-gpu' };

/** Rounds that each loop may make in one invocation; fewer where there are many invocations. */
const ROUNDS = 20_000;
/** Rounds that each loop may make in all invocations together. */
const ALL_ROUNDS = 1 << 29;

const tables = new Map<string, Promise<Kernel>>();
export function kernel(name: string): Promise<Kernel> {
  let table = tables.get(name);
  if (!table) tables.set(name, (table = call<Kernel>('kernel', { kernel: name }).then(({ value }) => value)));
  return table;
}

/** Buffers in the order of the bindings, from inputs and outputs apart. */
function interleave(table: Kernel, inputs: Float32Array[], outputs: Float32Array[]): gpu.Job['buffers'] {
  const [reads, writes] = [inputs.values(), outputs.values()];
  return table.bindings.map(({ write }) => ({ write, data: (write ? writes : reads).next().value ?? new Float32Array(1) }));
}

/** The shader for what naga says of it. */
export async function check(source: string, rounds: number): Promise<Checked> {
  return (await call<Checked>('wgsl', { source, rounds })).value;
}

/** Runs `source` on every case of the kernel `name` that its variant `shader` is made for. */
export async function judge(
  name: string, shader: string, source: string, workgroups: number | null, say: (text: string) => void,
): Promise<Outcome> {
  say('naga reads the shader …');
  let checked = await check(source, ROUNDS);
  if (!checked.ok) {
    const { message, notes, place } = checked;
    return { kind: 'syntax', message, notes, line: place?.line ?? 0, column: place?.column ?? 0, marked: place?.marked ?? '' };
  }
  const size = checked.workgroup.reduce((product, side) => product * side, 1);
  if (workgroups !== null && (workgroups * size > gpu.MOST_INVOCATIONS || workgroups > gpu.MOST_WORKGROUPS ** 2)) {
    const invocations = (workgroups * size).toLocaleString('en');
    return {
      kind: 'refused',
      message: `${workgroups.toLocaleString('en')} workgroups of ${size} are ${invocations} invocations. That would keep a GPU busy for too long; the lessons run at most ${gpu.MOST_INVOCATIONS.toLocaleString('en')}.`,
    };
  }
  const rounds = Math.min(ROUNDS, Math.ceil(ALL_ROUNDS / Math.max(1, (workgroups ?? 0) * size)));
  if (rounds < ROUNDS) {
    const again = await check(source, rounds);
    if (again.ok) checked = again;
  }
  if (!(await adapterOf())) return { kind: 'no-gpu' };
  const table = await kernel(name);
  const { value: cases, arrays } = await call<Case[]>('cases', { kernel: name });
  const guarded = checked.guarded.includes('lesson_flag');
  let [at, passed, worst] = [0, 0, 0];
  for (const [index, { name: title, words, workgroups: grids, inputs, outputs }] of cases.entries()) {
    const given = arrays.slice(at, at + inputs);
    const before = arrays.slice(at + inputs, at + inputs + outputs);
    at += inputs + outputs;
    const grid = workgroups ?? grids[shader] ?? 0;
    if (grid === 0) continue;
    say(`case ${index + 1} of ${cases.length}: ${title}`);
    let result;
    try {
      result = await gpu.run({ wgsl: checked.guarded, buffers: interleave(table, given, before), words, workgroups: grid, repeat: 1, guarded });
    } catch (error) {
      return { kind: 'refused', message: (error as Error).message };
    }
    if (result.stopped) return { kind: 'stopped', case: title, rounds };
    const { value: judged } = await call<Judged>('judge', { kernel: name, case: index }, result.outputs);
    if (!judged.passed) return { kind: 'wrong', judged, passed };
    worst = Math.max(worst, judged.worst);
    passed++;
  }
  return { kind: 'passed', cases: passed, worst };
}

let looked: Promise<gpu.Adapter | null> | undefined;
/** The adapter that shaders run on; none if there is none, or the reader chose the CPU. */
export function adapterOf(): Promise<gpu.Adapter | null> {
  const cpu = new URLSearchParams(location.search).get('device') === 'cpu';
  return cpu ? Promise.resolve(null) : (looked ??= gpu.adapter().catch(() => null));
}

/** Runs a real shader of the library once or more on given buffers. */
export async function runReal(
  name: string, wgsl: string, words: number[], workgroups: number, inputs: Float32Array[], outputs: Float32Array[], repeat: number,
): Promise<gpu.Result> {
  const table = await kernel(name);
  return gpu.run({ wgsl, buffers: interleave(table, inputs, outputs), words, workgroups, repeat, guarded: false });
}

export interface TwinAnswer {
  words: number[];
  workgroups: Record<string, number>;
}

/** The twin of kernel `name`. */
export const twin = (name: string, params: Record<string, number>, inputs: Float32Array[], writes: number[]) =>
  call<TwinAnswer>('twin', { kernel: name, params, writes }, inputs);
