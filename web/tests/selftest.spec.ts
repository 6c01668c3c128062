// The self-test page, as a visitor uses it; with UPDATE_SELFTEST=1 its numbers go to SELFTEST.md.

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { KernelCheck } from '../client/index.ts';
import { shown } from '../selftest/report.ts';
import { expect, native, test, watch, web } from './support.ts';

/** What `centripetal devices --json` prints. */
interface Native {
  device: { name: string; driver: string };
  selftest: { kernels: { shader: string; max_ulp: number; nmse: number }[] }[];
}

test('every kernel passes in the browser, and the report can be copied', async ({ page, site, context }) => {
  const problems = watch(page, site);
  await context.grantPermissions(['clipboard-read', 'clipboard-write']);
  await page.goto(`${site}selftest.html`);
  for (const device of ['cpu', 'auto']) {
    await page.getByLabel('on').selectOption(device);
    await page.getByRole('button', { name: 'Run the self-test' }).click();
    await expect(page.getByRole('status')).toHaveText('Done', { timeout: 120_000 });
    await expect(page.locator('#verdict')).toHaveText(/^All \d+ kernels compute what they should\.$/);
  }
  await page.getByRole('button', { name: 'Copy the report' }).click();
  await expect(page.getByRole('status')).toHaveText('The report is in the clipboard');
  const report = await page.evaluate(() => navigator.clipboard.readText());
  expect(report).toContain('## Centripetal self-test');
  expect(report).toMatch(/- Adapter: .*swiftshader/i);
  expect(report).toContain('- maxStorageBufferBindingSize: ');
  const rows = [...report.matchAll(/^\| (\w+) \| (\w+) \| (\d+) \| (\d+) \| (\S+) \| passed \|$/gm)];
  expect(rows.length).toBeGreaterThan(30);
  expect(problems).toEqual([]);

  if (process.env.UPDATE_SELFTEST === '1') {
    const { device: adapterOf, selftest: [lavapipe] }: Native = JSON.parse(native('centripetal', 'devices', '--device', 'gpu', '--json'));
    const adapter = /- Adapter: (.*)/.exec(report)![1];
    const lines = rows.map(([, , shader, cases, ulp, nmse]) => {
      const other = lavapipe!.kernels.find((check) => check.shader === shader)!;
      return `| ${shader} | ${cases} | ${other.max_ulp} | ${shown(other.nmse)} | ${ulp} | ${nmse} |`;
    });
    writeFileSync(
      join(web, 'SELFTEST.md'),
      [
        '# Kernels against their twins, native and in the browser',
        '',
        'Largest difference of one number in units in the last place, and normalised mean square error, over the cases of',
        '`src/selftest/cases.rs`. Both adapters are software; the numbers of yours are on the self-test page. Made by',
        '`UPDATE_SELFTEST=1 npx playwright test selftest` in `web/`.',
        '',
        `- native: ${adapterOf.name}, ${adapterOf.driver}`,
        `- browser: ${adapter}, Chromium`,
        '',
        '| shader | cases | max ULP native | NMSE native | max ULP browser | NMSE browser |',
        '|---|---:|---:|---:|---:|---:|',
        ...lines,
        '',
      ].join('\n'),
    );
  }
  const published = readFileSync(join(web, 'SELFTEST.md'), 'utf8');
  // The same adapter gives the same figures; another driver or browser adds in another order, but not worse by ten.
  const figures = new Map([...published.matchAll(/^\| (\w+) \| (\d+) \| \S+ \| \S+ \| (\d+) \| (\S+) \|$/gm)].map(([, shader, ...rest]) => [shader!, rest]));
  expect([...figures.keys()].sort()).toEqual([...new Set(rows.map(([, , shader]) => shader!))].sort());
  for (const [, , shader, cases, ulp, nmse] of rows) {
    const [expectedCases, expectedUlp, expectedNmse] = figures.get(shader!)!;
    expect(cases, shader).toBe(expectedCases);
    expect(Number(ulp), `${shader}: ULP`).toBeLessThanOrEqual(10 * Number(expectedUlp) + 4);
    expect(Number(nmse), `${shader}: NMSE`).toBeLessThanOrEqual(10 * Number(expectedNmse) + 1e-13);
  }
});

test('the report is Markdown with failures spelt out', async () => {
  const { markdown } = await import('../selftest/report.ts');
  const device = { kind: 'gpu', name: 'A', backend: 'webgpu', driver: 'd', reason: 'r', limits: {} } as const;
  const failed: KernelCheck = { kernel: 'relu_forward', shader: 'relu_forward', cases: 2, maxUlp: 9, nmse: 0.5, passed: false, message: 'why' };
  const text = markdown({ device, kernels: [failed] }, 'agent');
  expect(text).toContain('1 of 1 kernels failed: relu_forward. Do not train on this device');
  expect(text).toContain('| relu_forward | relu_forward | 2 | 9 | 5.0e-1 | FAILED why |');
});
