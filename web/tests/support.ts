// What the browser tests share: a server, a page that reports every error and every request, the native programs.

import { execFileSync } from 'node:child_process';
import { existsSync, statSync } from 'node:fs';
import { resolve } from 'node:path';
import { test as base, chromium, expect, type Browser, type Page } from '@playwright/test';
import type * as Client from '../client/index.ts';
import { serve } from '../serve.mjs';

export const web = resolve(import.meta.dirname, '..');
export const root = resolve(web, '..');

declare global {
  interface Window {
    centripetal: typeof Client;
    reads: number;
  }
}

/** A native program of this repository, the one built last; `cargo test` builds them. */
export function native(program: string, ...args: string[]): string {
  const places = ['release', 'debug'].map((profile) => resolve(root, 'target', profile, program));
  const built = places.filter((place) => existsSync(place));
  const [path] = built.sort((a, b) => statSync(b).mtimeMs - statSync(a).mtimeMs);
  if (!path) throw new Error(`${program} is not built: cargo build --workspace --examples`);
  return execFileSync(path, args, { encoding: 'utf8', env: { XDG_RUNTIME_DIR: '/tmp', ...process.env } });
}

/** Where Chromium has no WebGPU it says so whenever a page asks. */
const NO_WEBGPU = /No available adapters|WebGPU is (experimental|not (yet )?available)|Failed to create WebGPU/;

/**
 * Fails on console errors and warnings (WebGPU's validation errors are warnings), exceptions and requests to other hosts;
 * returns the problems seen so far.
 */
export function watch(page: Page, host: string): string[] {
  const problems: string[] = [];
  page.on('console', (message) => {
    if (['error', 'warning'].includes(message.type()) && !NO_WEBGPU.test(message.text())) problems.push(`console: ${message.text()}`);
  });
  page.on('pageerror', (error) => problems.push(`exception: ${error.message}`));
  page.on('request', (request) => {
    const url = request.url();
    if (!url.startsWith(host) && !/^(data|blob):/.test(url)) problems.push(`request to ${url}`);
  });
  return problems;
}

interface Fixtures {
  /** A page with `window.centripetal`, the npm package as it is published. */
  client: Page;
}

interface WorkerFixtures {
  /** Address of `web/`. */
  folder: string;
  /** Address of `web/dist`, below a sub-path. */
  site: string;
}

export const test = base.extend<Fixtures, WorkerFixtures>({
  folder: [
    async ({}, use) => {
      const { server, url } = await serve(0, '/', web);
      await use(url);
      server.close();
    },
    { scope: 'worker' },
  ],
  site: [
    async ({}, use) => {
      const { server, url } = await serve(0, '/some/sub-path/', resolve(web, 'dist'));
      await use(url);
      server.close();
    },
    { scope: 'worker' },
  ],
  client: async ({ page, folder }, use) => {
    const problems = watch(page, folder);
    await openHarness(page, folder);
    await use(page);
    expect(problems).toEqual([]);
  },
});

/** Puts `code` before the session's worker: what a page's own scripts cannot reach. */
export async function patchWorker(page: Page, code: string): Promise<void> {
  await page.route(/\/worker[^/]*\.js$/, async (route) => {
    const response = await route.fetch();
    await route.fulfill({ response, body: `${code};\n${await response.text()}` });
  });
}

/** Counts read-backs in the worker; the page finds their number in `window.reads`. */
export async function countReads(page: Page): Promise<void> {
  await patchWorker(page, `{
    const channel = new BroadcastChannel('reads');
    const { mapAsync } = GPUBuffer.prototype;
    GPUBuffer.prototype.mapAsync = function (...args) { channel.postMessage('read'); return mapAsync.apply(this, args); };
  }`);
  await page.addInitScript(() => {
    window.reads = 0;
    new BroadcastChannel('reads').onmessage = () => void window.reads++;
  });
}

/** A browser in which WebGPU is off, as it is without the flags of the configuration. */
export async function withoutWebGpu(): Promise<Browser> {
  const args = process.getuid?.() === 0 ? ['--no-sandbox'] : [];
  return chromium.launch({ executablePath: test.info().project.use.launchOptions!.executablePath!, args });
}

export async function openHarness(page: Page, folder: string): Promise<void> {
  await page.goto(`${folder}tests/harness.html`);
  await page.waitForFunction(() => Boolean(window.centripetal));
}

export { expect };
