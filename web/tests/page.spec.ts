/** The demo page in real Chromium: the story from Train to Compare, and what visitors do to it. */

import { mkdtempSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Page } from '@playwright/test';
import { expect, native, test, watch } from './support.ts';

const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
/** A network that SwiftShader trains within a test's time. */
const SMALL = '?width=1&batch=32&collapseSteps=200';
const MINUTES = 60_000;

/** Opens the page; returns what must stay empty: errors in the console, exceptions, requests to other hosts. */
async function open(page: Page, site: string, query = SMALL): Promise<string[]> {
  const wrong = watch(page, new URL(site).origin);
  await page.goto(`${site}index.html${query}`);
  await primary(page, 'Train');
  return wrong;
}

/** Waits until the one button offers `label`. */
async function primary(page: Page, label: string, timeout = MINUTES): Promise<void> {
  const button = page.locator('#primary');
  await expect(button).toContainText(label, { timeout });
  await expect(button).toHaveAttribute('aria-disabled', 'false', { timeout });
}

/** Presses it, as a person would: not within the guard against double clicks. */
async function press(page: Page): Promise<void> {
  await page.waitForTimeout(600);
  await page.locator('#primary').click();
}

/** "accuracy 83.1 %" as 0.831. */
async function share(page: Page, selector: string): Promise<number> {
  const text = (await page.locator(selector).textContent()) ?? '';
  return Number(/([\d.]+) %/.exec(text)?.[1] ?? NaN) / 100;
}

const trainedTo = (page: Page, accuracy: number) =>
  expect.poll(() => share(page, '#story li:nth-child(1) .result'), { timeout: 3 * MINUTES, intervals: [500] }).toBeGreaterThan(accuracy);

async function checkAccessible(page: Page): Promise<void> {
  // As an expression of the debugger: the page's CSP forbids injected scripts and eval.
  if (!(await page.evaluate(() => 'axe' in window))) await page.evaluate(AXE);
  const violations = await page.evaluate(async () => {
    const { axe } = window as unknown as { axe: { run(root: Document, options: object): Promise<{ violations: { id: string; nodes: { html: string }[] }[] }> } };
    const { violations } = await axe.run(document, { resultTypes: ['violations'] });
    return violations.map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.html.slice(0, 120)).join(' | ')}`);
  });
  expect(violations).toEqual([]);
}

/** What the native tool answers. */
function tool(...args: string[]): Record<string, unknown> {
  return JSON.parse(native('centripetal', ...args, '--device', 'cpu', '--json')) as Record<string, unknown>;
}

async function drop(page: Page, name: string, text: string): Promise<void> {
  await page.evaluate(([name, text]) => {
    const transfer = new DataTransfer();
    transfer.items.add(new File([text!], name!));
    document.body.dispatchEvent(new DragEvent('drop', { dataTransfer: transfer, bubbles: true, cancelable: true }));
  }, [name, text]);
}

test('trains, pulls together, cuts without loss, compares, and hands out the slim network', async ({ page, site }) => {
  test.setTimeout(8 * MINUTES);
  const wrong = await open(page, site);
  await expect(page.locator('#device-chip')).toContainText('WebGPU');
  await expect(page.locator('#notices')).toContainText('software adapter');
  await checkAccessible(page);

  await press(page);
  await trainedTo(page, 0.7);
  await primary(page, 'Pull together');
  await press(page);
  await expect(page.locator('#story li:nth-child(2)')).toHaveAttribute('aria-current', 'step', { timeout: MINUTES });
  await expect(page.locator('#deviation-note')).toContainText('Deviation', { timeout: MINUTES });
  await primary(page, 'Cut', 4 * MINUTES);
  const deviation = (await page.locator('#story li:nth-child(2) .result').textContent()) ?? '';
  const exponent = deviation.includes('⁻') ? Number([...deviation.split('⁻')[1]!].map((digit) => '⁰¹²³⁴⁵⁶⁷⁸⁹'.indexOf(digit)).join('')) : 0;
  expect(exponent, deviation).toBeGreaterThanOrEqual(8);
  await checkAccessible(page);

  await press(page);
  await primary(page, 'Compare', 2 * MINUTES);
  await expect(page.locator('#certificate')).toBeVisible();
  await expect(page.locator('#certificate-count')).toHaveText('1,000 of 1,000');
  await expect(page.locator('#certificate-verdict')).toContainText('lost nothing');
  const slim = await share(page, '#certificate-body tr:nth-child(1) td.slim');
  expect(slim).toBeGreaterThan(0.6);
  expect(await share(page, '#certificate-body tr:nth-child(1) td.wide')).toBe(slim);
  await expect(page.locator('#certificate-body tr:nth-child(4) td.slim')).toContainText('−');

  await press(page);
  await primary(page, 'Download');
  expect(await share(page, '#certificate-body tr:nth-child(1) td.l1')).toBeLessThan(slim - 0.1);
  await checkAccessible(page);

  await page.locator('#test-index').fill('7');
  await page.locator('#test-index').press('Enter');
  await expect(page.locator('#draw-note')).toContainText('Test image 7');
  await expect(page.locator('#answers-note')).toContainText('Both say');
  const canvas = (await page.locator('#draw').boundingBox())!;
  await page.locator('#clear').click();
  await page.locator('#draw').scrollIntoViewIfNeeded();
  const box = (await page.locator('#draw').boundingBox()) ?? canvas;
  await page.mouse.move(box.x + 60, box.y + 60);
  await page.mouse.down();
  await page.mouse.move(box.x + 150, box.y + 60, { steps: 8 });
  await page.mouse.move(box.x + 150, box.y + 180, { steps: 8 });
  await page.mouse.up();
  await expect(page.locator('#draw-note')).toContainText('Your drawing');
  await expect(page.locator('#answers-note')).toContainText('Both say');
  for (const network of ['wide', 'slim']) await expect(page.locator(`#answers-head th.${network}`)).toBeVisible();

  const [download] = await Promise.all([page.waitForEvent('download'), press(page)]);
  expect(download.suggestedFilename()).toBe('slim.safetensors');
  const file = join(mkdtempSync(join(tmpdir(), 'centripetal-page-')), 'slim.safetensors');
  await download.saveAs(file);
  const evaluated = tool('eval', file, '--data', 'embedded');
  expect(evaluated['samples']).toBe(1000);
  expect(evaluated['accuracy']).toBeCloseTo(slim, 3);

  await page.locator('#again').click();
  await primary(page, 'Pull together');
  await expect(page.locator('#certificate')).toBeHidden();
  expect(wrong).toEqual([]);
});

test('loads a network that the native tool made', async ({ page, site }) => {
  test.setTimeout(3 * MINUTES);
  const folder = mkdtempSync(join(tmpdir(), 'centripetal-page-'));
  tool('train', 'lenet', '--data', 'embedded', '--width', '1', '--epochs', '1', '--out', folder);
  const file = join(folder, 'base.safetensors');
  const { accuracy } = tool('eval', file, '--data', 'embedded') as { accuracy: number };
  const wrong = await open(page, site);
  await page.locator('#checkpoint-file').setInputFiles(file);
  await expect(page.locator('#sentence')).toContainText('1,000 test images right', { timeout: MINUTES });
  expect(Math.abs((await share(page, '#sentence')) - accuracy)).toBeLessThan(0.0015);
  expect(wrong).toEqual([]);
});

test('takes a setting from its address and puts it back there', async ({ page, site }) => {
  const wrong = await open(page, site, '?width=0.5&lr=0.02&keep=5/8&strength=0.3&seed=9&clustering=even&batch=16&collapseSteps=600');
  await expect(page.locator('#lr-value')).toHaveText('0.02');
  await expect(page.locator('#keep-value')).toContainText('5/8');
  await expect(page.locator('#strength-value')).toHaveText('0.3');
  await expect(page.locator('#auto')).not.toBeChecked();
  await page.locator('#auto').check();
  await page.locator('#keep').fill('4');
  const url = new URL(page.url());
  expect(url.searchParams.get('strength')).toBeNull();
  expect(url.searchParams.get('keep')).toBe('1/4');
  expect(url.searchParams.get('seed')).toBe('9');
  await page.goto(url.href);
  await primary(page, 'Train');
  await expect(page.locator('#keep-value')).toContainText('1/4');
  await expect(page.locator('#width-value')).toContainText('0.5');
  await expect(page.locator('#filters')).toHaveAttribute('aria-label', /4 filters of conv1/);
  expect(wrong).toEqual([]);
});

test('goes on while settings are moved, and says which wait', async ({ page, site }) => {
  test.setTimeout(3 * MINUTES);
  const wrong = await open(page, site);
  await press(page);
  await expect(page.locator('#meta')).toContainText('step', { timeout: MINUTES });
  for (const value of ['10', '90', '60']) await page.locator('#lr').fill(value);
  await page.locator('#keep').fill('4');
  await page.locator('#collapse-steps').fill('0');
  await page.locator('#width').fill('0.5');
  await page.locator('#batch').fill('0');
  await expect(page.locator('#pending')).toContainText('Takes effect on reset');
  const before = await page.locator('#meta').textContent();
  await expect(page.locator('#meta')).not.toHaveText(before ?? '', { timeout: MINUTES });
  await press(page);
  await expect(page.locator('#keep-note')).toBeHidden();
  await expect(page.locator('#story li:nth-child(2)')).toHaveAttribute('aria-current', 'step', { timeout: MINUTES });
  await page.locator('#strength').evaluate((slider: HTMLInputElement) => slider.dispatchEvent(new Event('input')));
  await page.locator('#keep').fill('8');
  await expect(page.locator('#keep-note')).toBeVisible();
  await page.locator('#early').click();
  await primary(page, 'Compare', 2 * MINUTES);
  await expect(page.locator('#certificate')).toBeVisible();
  await page.locator('#reset').click();
  await primary(page, 'Train');
  await expect(page.locator('#pending')).toBeHidden();
  await expect(page.locator('#filters')).toHaveAttribute('aria-label', /4 filters of conv1/, { timeout: 10_000 });
  expect(wrong).toEqual([]);
});

test('answers bad files with a sentence and stays usable', async ({ page, site }) => {
  test.setTimeout(3 * MINUTES);
  const wrong = await open(page, site);
  const notice = page.locator('#notices .notice').last();
  await drop(page, 'holiday.txt', 'no images in here at all');
  await expect(notice).toContainText('holiday.txt');
  await drop(page, 'train-images-idx3-ubyte', '\0\0\b\x03truncated');
  await expect(notice).toContainText(/idx3|IDX/);
  await drop(page, 'future.safetensors', 'not a checkpoint');
  await expect(notice).toContainText(/safetensors|checkpoint/i);
  await drop(page, 'nothing.gz', '');
  await expect(notice).toContainText('empty');
  await notice.getByRole('button', { name: 'Close' }).click();
  await primary(page, 'Train');
  await press(page);
  await expect(page.locator('#meta')).toContainText('step', { timeout: MINUTES });
  expect(wrong).toEqual([]);
});

test('can be used by keyboard alone, and is quiet for those who want no motion', async ({ page, site }) => {
  test.setTimeout(4 * MINUTES);
  await page.emulateMedia({ reducedMotion: 'reduce' });
  const wrong = await open(page, site, '?width=0.5&batch=16&collapseSteps=200');
  const focused = () => page.evaluate(() => document.activeElement?.id ?? '');
  await page.keyboard.press('Tab');
  await page.keyboard.press('Enter');
  await page.waitForTimeout(600);
  await page.keyboard.press('Enter');
  await expect(page.locator('#meta')).toContainText('step', { timeout: MINUTES });
  expect(await focused()).toBe('primary');
  await page.keyboard.press('Tab');
  expect(await focused()).toBe('run');
  await page.keyboard.press('Space');
  await expect(page.locator('#run')).toHaveText('Train on');
  await page.keyboard.press('Shift+Tab');
  await primary(page, 'Pull together');
  await page.waitForTimeout(600);
  await page.keyboard.press('Enter');
  await primary(page, 'Cut', 2 * MINUTES);
  await page.waitForTimeout(600);
  await page.keyboard.press('Enter');
  await primary(page, 'Compare', MINUTES);
  await expect(page.locator('#certificate')).toBeVisible();
  await page.locator('#test-index').focus();
  await page.keyboard.press('ArrowUp');
  await page.keyboard.press('Enter');
  await expect(page.locator('#draw-note')).toContainText('Test image 1');
  await page.locator('input[name="answering"]:checked').focus();
  await page.keyboard.press('ArrowLeft');
  await expect(page.locator('#answers-head th.wide')).toHaveCount(0);
  expect(wrong).toEqual([]);
});

for (const scheme of ['light', 'dark'] as const) {
  test(`fits a phone, ${scheme}`, async ({ page, site }) => {
    await page.setViewportSize({ width: 360, height: 740 });
    await page.emulateMedia({ colorScheme: scheme });
    const wrong = await open(page, site);
    await page.locator('#settings > summary').click();
    const { scroll, inner } = await page.evaluate(() => ({ scroll: document.documentElement.scrollWidth, inner: innerWidth }));
    expect(scroll).toBeLessThanOrEqual(inner);
    await checkAccessible(page);
    expect(wrong).toEqual([]);
  });
}
