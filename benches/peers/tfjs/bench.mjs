// A training step of LeNet (1x28x28, batch 64, batch norm, momentum) in Centripetal and in TensorFlow.js, in turn in one
// headless Chromium. Needs web/build and, in this folder, `npm install`.
//
//   node bench.mjs [PEER=webgpu,webgl,cpu] [ROUNDS=5] [STEPS=5]
//
// Prints the median step of each, ours as a part of the peer's, and JSON in the last line. CENTRIPETAL_CHROMIUM names another
// browser; CHROMIUM_FLAGS replaces the flags that choose SwiftShader, where there is no GPU.

import { createRequire } from 'node:module';
import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { serve } from '../../../web/serve.mjs';

const root = resolve(import.meta.dirname, '../../..');
const { chromium } = createRequire(resolve(root, 'web/package.json'))('@playwright/test');
const [peers = 'webgpu', rounds = '5', steps = '5'] = process.argv.slice(2);
const software = '--enable-unsafe-webgpu --use-angle=swiftshader --enable-features=Vulkan --use-vulkan=swiftshader';
const browsers = [process.env.CENTRIPETAL_CHROMIUM, '/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'];

const median = (values) => [...values].sort((a, b) => a - b)[values.length >> 1];

const { server, url } = await serve(0, '/', root);
const browser = await chromium.launch({
  executablePath: browsers.find((path) => path && existsSync(path)),
  args: [...(process.getuid?.() === 0 ? ['--no-sandbox'] : []), ...(process.env.CHROMIUM_FLAGS ?? software).split(' ')],
});
const page = await browser.newPage();
page.on('pageerror', (error) => console.error(String(error)));
await page.goto(`${url}benches/peers/tfjs/bench.html`);
await page.waitForFunction(() => Boolean(window.bench));
const seen = {};
for (let round = 0; round < Number(rounds); round++) {
  for (const subject of ['centripetal', ...peers.split(',')]) {
    const result = await page.evaluate(([subject, steps]) => window.bench(subject, steps), [subject, Number(steps)]);
    seen[subject] ??= { ...result, times: [] };
    seen[subject].times.push(...result.times);
    seen[subject].loss = result.loss;
    console.error(`round ${round + 1}: ${result.name} ${median(result.times).toFixed(1)} ms`);
  }
}
await browser.close();
server.close();
const ours = median(seen.centripetal.times);
const report = Object.values(seen).map(({ name, first, times, loss }) => {
  const med_ms = median(times);
  console.log(`${name}: ${med_ms.toFixed(1)} ms a step, first after ${(first / 1000).toFixed(1)} s, loss ${loss.toFixed(3)}, ours is ${(ours / med_ms).toFixed(3)} of it`);
  return { name, med_ms, first_ms: first, steps: times.length, ratio: ours / med_ms };
});
console.log(JSON.stringify(report));
