// The result of a self-test as Markdown, to be copied into a report.

import type { DeviceInfo, KernelCheck } from '../client/types.ts';

export interface Result {
  device: DeviceInfo;
  kernels: KernelCheck[];
}

const KINDS = { gpu: 'GPU', 'software-gpu': 'software adapter (computes on the CPU)', cpu: 'CPU' };

/** What is known of the device, a name and a value each. */
export function about(device: DeviceInfo, agent: string): [string, string][] {
  const limits = Object.entries(device.limits).map(([name, value]): [string, string] => [name, String(value)]);
  return [
    ['Adapter', device.name],
    ['Kind', KINDS[device.kind]],
    ['Interface', device.backend],
    ['Driver', device.driver],
    ['Why this one', device.reason],
    ['Browser', agent],
    ...limits,
  ];
}

export function verdict(kernels: KernelCheck[]): string {
  const failed = kernels.filter((check) => !check.passed);
  if (failed.length === 0) return `All ${kernels.length} kernels compute what they should.`;
  const names = failed.map((check) => check.shader).join(', ');
  return `${failed.length} of ${kernels.length} kernels failed: ${names}. Do not train on this device; please report it.`;
}

/** NMSE with two digits. */
export const shown = (nmse: number) => (nmse === 0 ? '0' : nmse.toExponential(1));

export function markdown({ device, kernels }: Result, agent: string): string {
  const lines = about(device, agent).map(([name, value]) => `- ${name}: ${value}`);
  const rows = kernels.map(({ kernel, shader, cases, maxUlp, nmse, passed, message }) =>
    `| ${kernel} | ${shader} | ${cases} | ${maxUlp} | ${shown(nmse)} | ${passed ? 'passed' : `FAILED ${message ?? ''}`.trim()} |`);
  return [
    '## Centripetal self-test',
    '',
    ...lines,
    '',
    verdict(kernels),
    '',
    '| kernel | shader | cases | max ULP | NMSE | result |',
    '|---|---|---:|---:|---:|---|',
    ...rows,
    '',
  ].join('\n');
}
