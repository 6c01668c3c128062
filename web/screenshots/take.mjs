// Takes the pictures of the page in this folder: node screenshots/take.mjs, after web/build.
// On the CPU, which every machine has, and with the page's own settings.
import { statSync } from 'node:fs';
import { chromium } from '@playwright/test';
import { serve } from '../serve.mjs';

const LARGEST = 200_000;
const folder = new URL('./', import.meta.url).pathname;
const { server, url } = await serve(0);
const browser = await chromium.launch({
  executablePath: process.env.CENTRIPETAL_CHROMIUM ?? '/usr/bin/chromium',
  args: process.getuid?.() === 0 ? ['--no-sandbox'] : [],
});

/** Plays the story in a window of this kind and takes the pictures asked for, by the moment. */
async function story({ width, height, colorScheme, pictures }) {
  const context = await browser.newContext({ viewport: { width, height }, colorScheme });
  const page = await context.newPage();
  const take = async (moment) => {
    const name = pictures[moment];
    if (!name) return;
    const path = `${folder}${name}.png`;
    await page.screenshot({ path });
    const { size } = statSync(path);
    if (size > LARGEST) throw new Error(`${name}.png has ${size} bytes, more than ${LARGEST}`);
    console.log(`${name}.png ${Math.round(size / 1000)} kB`);
  };
  const offers = (label) => page.waitForFunction(
    (label) => {
      const button = document.querySelector('#primary');
      return button.textContent.includes(label) && button.getAttribute('aria-disabled') === 'false';
    },
    label, { timeout: 240_000 },
  );
  const press = async () => {
    await page.waitForTimeout(700);
    await page.locator('#primary').click();
  };
  const at = (pattern) => page.waitForFunction((pattern) => new RegExp(pattern).test(document.querySelector('.lead').textContent), pattern, { timeout: 240_000 });

  await page.goto(`${url}?device=cpu`);
  await offers('Train');
  await press();
  await at('epoch [2-9]');
  await take('training');
  await at('epoch [4-9]');
  await press();
  await at('together … [2-3][0-9] %');
  await take('pulling');
  await offers('Cut');
  await press();
  await page.waitForFunction(() => !document.querySelector('#certificate').hidden, undefined, { timeout: 60_000 });
  await page.waitForTimeout(1500);
  await take('cut');
  await offers('Compare');
  await press();
  await offers('Download');
  await page.waitForTimeout(1200);
  await take('compare');
  await context.close();
}

await story({ width: 1280, height: 840, colorScheme: 'light', pictures: { training: 'training', pulling: 'pulling', cut: 'cut', compare: 'compare' } });
await story({ width: 1280, height: 840, colorScheme: 'dark', pictures: { pulling: 'pulling-dark', compare: 'compare-dark' } });
await story({ width: 360, height: 740, colorScheme: 'light', pictures: { pulling: 'phone', compare: 'phone-compare' } });
await browser.close();
server.close();
