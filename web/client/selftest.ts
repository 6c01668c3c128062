/// <reference lib="webworker" />
// The worker of the self-test: a module and a device of its own, so that those who train need not load it, and a session
// goes on whatever a shader does to the device here.

import init, { lastPanic, Tester } from '../pkg/centripetal_selftest.js';
import type { DeviceChoice, KernelCheck, SessionError, SessionEvents } from './types.ts';

/** What the worker is told once. */
export interface Task {
  device: DeviceChoice;
  wasmUrl?: string;
}

/** What it tells: where it is, then all results or why there are none. */
export type Told = { work: SessionEvents['work'] } | { kernels: KernelCheck[] } | { error: SessionError };

const scope = self as unknown as DedicatedWorkerGlobalScope;
const tell = (told: Told) => scope.postMessage(told);

function explained(thrown: unknown): SessionError {
  if (typeof thrown === 'object' && thrown !== null && 'doing' in thrown) return thrown as SessionError;
  const panic = thrown instanceof WebAssembly.RuntimeError ? lastPanic() : undefined;
  const found = panic ?? (thrown instanceof Error ? thrown.message : String(thrown));
  const [doing, expected, next] = ['testing the kernels', 'results', 'Open the page again'];
  return { kind: 'defect', doing, expected, found, next, message: `${doing}: expected ${expected}, found ${found}. ${next}` };
}

async function test({ device, wasmUrl }: Task): Promise<KernelCheck[]> {
  await init(wasmUrl ? { module_or_path: wasmUrl } : undefined);
  let tester = await Tester.open(device);
  const names = Tester.kernels();
  const kernels: KernelCheck[] = [];
  for (const [done, what] of names.entries()) {
    tell({ work: { what, done, of: names.length } });
    const checks = (await tester.test(what)) as KernelCheck[];
    kernels.push(...checks);
    // A shader that the device refused leaves it unusable.
    if (checks.some((check) => check.message)) tester = await Tester.open(device);
  }
  tell({ work: { what: 'done', done: names.length, of: names.length } });
  return kernels;
}

scope.onmessage = ({ data }: MessageEvent<Task>) => {
  test(data).then(
    (kernels) => tell({ kernels }),
    (thrown) => tell({ error: explained(thrown) }),
  );
};
