// The lessons as built: every live block on WebGPU (SwiftShader) and on the CPU, every exercise, and what readers get wrong.

import { readdirSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { chromium, type Locator, type Page } from '@playwright/test';
import { LESSONS } from '../lessons/frame/course.ts';
import { EXERCISES } from '../lessons/frame/exercises.ts';
import { expect, test, watch, web } from './support.ts';

const PAGES = ['index', ...LESSONS.map(({ file }) => file), 'teacher'];
const lessonOf = (part: string) => LESSONS.find(({ file }) => file.includes(part))!.file;

async function open(page: Page, site: string, name: string, query = ''): Promise<void> {
  await page.goto(`${site}lessons/${name}.html${query}`);
  await expect.poll(() => page.locator('[data-block]:not([data-ready])').count(), { timeout: 60_000 }).toBe(0);
  expect(await page.locator('[data-ready="failed"]').allInnerTexts()).toEqual([]);
}

const block = (page: Page, name: string) => page.locator(`[data-block="${name}"]`);

async function slide(within: Locator, label: string, key: string, times = 1): Promise<void> {
  const slider = within.getByRole('slider', { name: label });
  await slider.focus();
  for (let i = 0; i < times; i++) await slider.press(key);
}

/** Sets all controls of a block to where they start, and expects no setting of it in the address. */
async function resetTo(within: Locator, page: Page, ...settings: string[]): Promise<void> {
  await within.getByRole('button', { name: 'Reset', exact: true }).click();
  for (const name of settings) await expect(page).not.toHaveURL(new RegExp(`[?&]${name}=`));
}

const numberOf = (text: string) => Number(text.replaceAll(',', '').replace('−', '-'));
const numberIn = async (within: Locator, place: string) => numberOf(await within.locator(place).innerText());

/** Play moves `place` on and on, and after Pause it rests. */
async function playsAndPauses(within: Locator, page: Page, place: () => Promise<string | null>): Promise<void> {
  const places = new Set([await place()]);
  const began = performance.now();
  await within.getByRole('button', { name: 'Play' }).click();
  await expect.poll(async () => places.add(await place()).size, { timeout: 60_000, intervals: [50] }).toBeGreaterThan(2);
  // Long enough for two more steps.
  const pace = Math.max(500, performance.now() - began);
  await within.getByRole('button', { name: 'Pause' }).click();
  await expect(within.getByRole('button', { name: 'Play' })).toHaveAttribute('aria-pressed', 'false');
  await page.waitForTimeout(pace);
  const rests = await place();
  await page.waitForTimeout(pace);
  expect(await place()).toBe(rests);
}

/** A block without a shader says that it runs on the CPU; one with networks says on what they run. */
async function saysWhere(within: Locator, device: string): Promise<void> {
  const place = within.locator('[data-where]');
  await expect(place).toBeVisible();
  await expect(place).toHaveAttribute('data-where', device === 'gpu' ? 'software-gpu' : 'cpu');
  await expect(place).toContainText(device === 'gpu' ? 'on a GPU that is played by the CPU' : 'on the CPU');
}

/** What each live block must do, besides opening. */
const LIVE: Record<string, (within: Locator, page: Page, device: string) => Promise<void>> = {
  pixel: async (within, page, device) => {
    const at = () => page.evaluate(() => new URLSearchParams(location.search).get('output'));
    await playsAndPauses(within, page, at);
    await within.getByRole('button', { name: 'First pixel' }).click();
    await expect(page).toHaveURL(/output=0/);
    const filter = within.getByRole('combobox', { name: 'Filter' });
    // At the third row and column of the picture in the lesson.
    for (const [name, sum] of [['edges', '15'], ['sharpen', '17'], ['one', '9'], ['blur', '58']]) {
      await filter.selectOption(name!);
      await within.getByRole('button', { name: /^Output row 1, column 1/ }).click();
      await expect(within.locator('[data-sum]')).toHaveText(sum!);
    }
    // What the text says of Only the middle, and the page for teachers of a dilation of 2.
    await filter.selectOption('one');
    const outputs = within.getByRole('button', { name: /^Output row/ });
    await expect(outputs).toHaveCount(16);
    await slide(within, 'Padding', 'ArrowRight');
    await expect(outputs).toHaveCount(36);
    await expect(outputs.nth(7)).toHaveText('2');
    await expect(outputs.nth(14)).toHaveText('9');
    await slide(within, 'Padding', 'Home');
    await slide(within, 'Dilation', 'ArrowRight');
    await expect(outputs).toHaveCount(4);
    await slide(within, 'Dilation', 'Home');
    await expect(outputs).toHaveCount(16);
    await filter.selectOption('blur');
    await within.getByRole('button', { name: /^Output row 1, column 1/ }).click();
    // The sum of nine pixels around the third row and column of the picture in the lesson.
    await expect(within.locator('[data-sum]')).toHaveText('58');
    await expect(within.getByText(device === 'cpu' ? 'Computed by the twin in Rust' : 'Your GPU, with shaders/conv2d_forward_direct.wgsl, says 58 here')).toBeVisible({ timeout: 30_000 });
    await within.getByRole('button', { name: 'Next pixel' }).click();
    await expect(page).toHaveURL(/output=6/);
    // Sums of nine whole numbers are exact in float32, in any order.
    if (device !== 'cpu') await expect(within.locator('p[role=status]')).toContainText('over all 16 pixels the largest difference to the twin is 0.');
    await slide(within, 'Stride', 'ArrowRight');
    await expect(within.getByRole('button', { name: /^Output row/ })).toHaveCount(4);
    await resetTo(within, page, 'filter', 'stride', 'output');
    await expect(within.getByRole('button', { name: /^Output row/ })).toHaveCount(16);
    await expect(within.locator('[data-sum]')).toHaveText('15');
  },
  picture: async (within, page, device) => {
    await expect(within.getByText(device === 'cpu' ? 'after the filter, by the twin' : 'after the filter, by your GPU').first()).toBeVisible();
    // Every filter gives other numbers; a mean of nine stays between black and white.
    const range = within.locator('p.sizes');
    const ranges = new Set<string>();
    for (const name of ['horizontal', 'vertical', 'sharpen', 'blur']) {
      await within.getByRole('combobox', { name: 'Filter' }).selectOption(name);
      await expect.poll(async () => ranges.has(await range.innerText())).toBe(false);
      ranges.add(await range.innerText());
    }
    const [least, most] = (await range.innerText()).match(/from (\S+) to (\S+)\.$/)!.slice(1).map(numberOf);
    expect(least).toBeGreaterThanOrEqual(0);
    expect(most).toBeLessThanOrEqual(1.0001);
    await slide(within, 'Picture', 'ArrowRight', 2);
    await expect(within.locator('.status, .sizes').last()).toContainText('7,056 multiply-adds');
    await expect(page).toHaveURL(/picture=3/);
    await resetTo(within, page, 'picture', 'taps');
  },
  differences: async (within, page, device) => {
    await expect(within.getByRole('columnheader')).toHaveCount(device === 'cpu' ? 4 : 5);
    await slide(within, 'h:', 'End');
    await expect(within.getByText('differences, h = 1')).toBeVisible();
    await resetTo(within, page, 'h');
    await expect(within.getByText('differences, h = 0.001')).toBeVisible();
    const slopes: number[][] = [];
    for (const row of await within.locator('tbody tr').all()) slopes.push((await row.locator('td').allInnerTexts()).map(numberOf));
    expect(slopes).toHaveLength(9);
    for (const slope of slopes) {
      // The twin, the GPU if there is one, differences, and how far these are apart.
      expect(slope).toHaveLength(device === 'cpu' ? 3 : 4);
      const analytic = slope[0]!;
      expect(Math.abs(analytic)).toBeGreaterThan(0);
      for (const other of slope.slice(1, -1)) expect(Math.abs(other - analytic)).toBeLessThan(1e-3 * Math.abs(analytic));
    }
  },
  grid: async (within, page) => {
    await playsAndPauses(within, page, () => within.locator('[data-place]').innerText());
    await within.getByRole('button', { name: 'First' }).click();
    await expect(within.locator('[data-place]')).toHaveText('k 0, p 0, q 0');
    await within.getByRole('button', { name: 'Next invocation' }).click();
    await expect(within.locator('[data-place]')).toHaveText('k 0, p 0, q 1');
    await slide(within, 'Side of the output', 'End');
    await expect(within.getByText('The grid: 8 workgroups of 64 for 512 numbers.')).toBeVisible();
    await resetTo(within, page, 'side', 'invocation');
    await expect(within.getByText('The grid: 4 workgroups of 64 for 200 numbers. Workgroup 1, invocation 6: i = 1 · 64 + 6 = 70')).toBeVisible();
  },
  measure: async (within, _, device) => {
    for (const [layer, count] of [['first', '3,538,944'], ['narrow', '18,874,368'], ['middle', '18,874,368'], ['wide', '18,874,368']]) {
      await within.getByRole('combobox', { name: 'Layer' }).selectOption(layer!);
      // What is shown is of one layer: another choice takes it away.
      await expect(within.locator('tbody tr')).toHaveCount(0);
      await within.getByRole('button', { name: 'Measure' }).click();
      await expect(within.locator('tbody tr')).toHaveCount(device === 'cpu' ? 1 : 6, { timeout: 120_000 });
      await expect(within.getByText(`${count} multiply-adds a run.`)).toBeVisible();
      const rows = await within.locator('tbody tr').all();
      for (const row of rows.slice(1)) {
        // Every variant agrees with the twin.
        expect(numberOf(await row.locator('td').last().innerText())).toBeLessThan(3e-5);
      }
    }
  },
  normalise: async (within, page) => {
    await expect(within.locator('p[role=status]')).toContainText('Mean 3.94');
    await expect(within.locator('p[role=status]')).toContainText('deviation 1.00 go out');
    await slide(within, 'γ', 'Home');
    await expect(within.locator('p[role=status]')).toContainText('deviation 3.00 go out');
    await slide(within, 'Mean of what comes in', 'Home');
    await resetTo(within, page, 'gamma', 'mean');
    await expect(within.locator('p[role=status]')).toContainText('Mean 3.94');
    await expect(within.locator('p[role=status]')).toContainText('deviation 1.00 go out');
  },
  onepass: async (within, page, device) => {
    await saysWhere(within, 'cpu');
    await expect(within.getByRole('row', { name: /in float32/ })).toContainText('−');
    // The shader reads the numbers once too, and loses nothing where the textbook's formula loses all.
    const shader = within.getByRole('row', { name: /by your GPU/ });
    await expect(shader).toHaveCount(device === 'cpu' ? 0 : 1);
    if (device !== 'cpu') {
      const error = await shader.getByRole('cell').last().innerText();
      expect(Number(error.replace('−', '-'))).toBeLessThan(1e-5);
    }
    await slide(within, 'Mean of the numbers', 'Home');
    await expect(within.getByText('Variance of 4,096 numbers around 1', { exact: true })).toBeVisible();
    await resetTo(within, page, 'far');
    await expect(within.getByText('Variance of 4,096 numbers around 1000', { exact: true })).toBeVisible();
  },
  plane: async (within, page) => {
    await saysWhere(within, 'cpu');
    await playsAndPauses(within, page, () => within.locator('p[role=status]').innerText());
    await within.getByRole('button', { name: 'Step 0' }).click();
    await expect(within.getByText(/^Step 0\./)).toBeVisible();
    await within.getByRole('button', { name: 'Step', exact: true }).click();
    await expect(within.getByText(/^Step 1\./)).toBeVisible();
    await within.getByRole('button', { name: 'Play' }).click();
    await expect.poll(() => numberIn(within, '[data-measured]'), { timeout: 30_000 }).toBeLessThan(-3);
    await within.getByRole('button', { name: 'Pause' }).click();
    const [measured, forecast] = await Promise.all(['[data-measured]', '[data-forecast]'].map((at) => numberIn(within, at)));
    expect(Math.abs(measured! - forecast!)).toBeLessThan(0.05);
    await slide(within, 'Strength', 'End');
    await within.getByRole('combobox', { name: 'Momentum is' }).selectOption('nesterov');
    await resetTo(within, page, 'strength', 'direction', 'step');
    await expect(within.getByText(/^Step 0\./)).toBeVisible();
    await expect(within.getByRole('slider', { name: 'Strength' })).toHaveAttribute('aria-valuetext', '0.0500');
  },
  cluster: async (within, page) => {
    await saysWhere(within, 'cpu');
    await expect(within.locator('[data-chi]')).toHaveText('17.18');
    await within.getByLabel('Clusters by').selectOption('even');
    await expect(within.locator('[data-chi]')).toHaveText('22.45');
    await within.getByLabel('Clusters by').selectOption('imbalanced');
    await expect(within.locator('[data-chi]')).toHaveText('22.61');
    await expect(within.getByRole('img', { name: 'for conv2: with 8, 17.18 for k-means, 22.45 for even, 22.61 for imbalanced; with 1, ' })).toBeVisible();
    await slide(within, 'Clusters: filters that stay', 'End');
    await expect(within.locator('[data-chi]')).toHaveText('0');
    await within.getByLabel('Layer').selectOption('conv1');
    await expect(within.getByText('8 filters in 8 clusters.')).toBeVisible();
    await slide(within, 'Clusters: filters that stay', 'Home');
    await expect(within.getByText('8 filters in 1 clusters.')).toBeVisible();
    await expect(within.getByRole('img', { name: 'Cluster 1: filters 0, 1, 2, 3, 4, 5, 6, 7; 0 survives' })).toBeVisible();
    await resetTo(within, page, 'layer', 'method', 'keep');
    await expect(within.locator('[data-chi]')).toHaveText('17.18');
  },
  surgery: async (within, page, device) => {
    await saysWhere(within, device);
    await expect(within.getByText('1,000 of 1,000 answers are the same')).toBeVisible();
    // What the text and the page for teachers say that a difference of 0.1 and of 0.01 changes.
    const changes = { 'conv1.weight': [11, 49], 'bn1.weight': [0, 10], 'bn1.bias': [0, 15], 'bn1.running_mean': [3, 25], 'bn1.running_var': [3, 12] };
    for (const [tensor, [little, much]] of Object.entries(changes)) {
      await within.getByRole('combobox', { name: 'Number that one member has' }).selectOption(tensor);
      for (const [key, times, changed] of [['Home', 1, 0], ['ArrowRight', 1, little], ['ArrowRight', 9, much]] as const) {
        await slide(within, 'By how much it differs', key, times);
        // Another device rounds otherwise, and an answer on the edge may fall to the other side.
        await expect.poll(async () => Math.abs(1000 - changed! - numberOf((await within.locator('.verdict').innerText()).split(' ')[0]!)), { timeout: 60_000 })
          .toBeLessThanOrEqual(device === 'gpu' ? 1 : 0);
      }
    }
    await expect(within).toHaveAttribute('data-exact', 'false', { timeout: 30_000 });
    await resetTo(within, page, 'tensor', 'delta');
    await expect(within).toHaveAttribute('data-exact', 'true', { timeout: 30_000 });
  },
  couplings: async (within, _, device) => {
    await saysWhere(within, device);
    await within.getByRole('button', { name: 'layer1.0.conv2', exact: true }).click();
    await within.getByRole('button', { name: 'Cut a channel of this layer alone' }).click();
    await expect(within.getByText(/^It breaks: .*expected 16 channels, found 15x32x32/)).toBeVisible();
    await within.getByRole('button', { name: 'Cut that channel everywhere it is tied' }).click();
    await expect(within.getByText('The network is whole. 15 layers became narrower:')).toBeVisible();
    await within.getByRole('button', { name: 'Give this layer clusters of its own, and cut' }).click();
    await expect(within).toHaveAttribute('data-apart', 'differs', { timeout: 60_000 });
    await expect(within.getByRole('row', { name: /^shapes fit yes yes$/ })).toBeVisible();
    await expect(within.getByRole('row', { name: /^equal answers 32 of 32 (?!32 of)\d+ of 32$/ })).toBeVisible();
    await within.getByRole('button', { name: 'layer1.0.conv1', exact: true }).click();
    await within.getByRole('button', { name: 'Give this layer clusters of its own, and cut' }).click();
    await expect(within).toHaveAttribute('data-apart', 'refused');
    const network = within.getByRole('combobox', { name: 'Network' });
    // How far the channels of the first layer go, and what each network is in the list for.
    await network.selectOption('resnet20 a');
    await expect(within.getByText(/^Group 1: 16 channels, each of which goes through 43 layers\. Pacesetter is conv1; .*layer3\.2\.conv2 follow\.$/)).toBeVisible();
    await network.selectOption('densenet40');
    await expect(within.getByText(/^Group 1: 16 channels, each of which goes through 39 layers\. .*nobody follows\.$/)).toBeVisible();
    await within.getByRole('button', { name: 'features.denseblock1.denselayer3.concat', exact: true }).click();
    await expect(within.getByText(/^Group \d+: 1[26] channels/)).toHaveCount(4);
    await network.selectOption('mobilenet_v2');
    await expect(within.getByRole('row', { name: 'features.1.conv.0.0 Conv2d features.0.2 32 1 ●' })).toBeVisible();
    await network.selectOption('lenet');
    await within.getByRole('button', { name: 'conv2', exact: true }).click();
    await within.getByRole('button', { name: 'Cut that channel everywhere it is tied' }).click();
    await expect(within.getByText(/conv2 16 → 15.*flatten 784 → 735/)).toBeVisible();
    await within.getByRole('button', { name: 'fc', exact: true }).click();
    await within.getByRole('button', { name: 'Cut that channel everywhere it is tied' }).click();
    await expect(within).toHaveAttribute('data-together', 'refused');
  },
  duel: async (within, page, device) => {
    await saysWhere(within, device);
    await playsAndPauses(within, page, () => within.getAttribute('data-step'));
    await within.getByRole('button', { name: 'Reset' }).click();
    await expect(within).toHaveAttribute('data-step', '0');
    await within.getByRole('button', { name: '10 steps' }).click();
    await expect(within).toHaveAttribute('data-step', '10', { timeout: 60_000 });
    await within.getByRole('button', { name: 'Cut both' }).click();
    await expect(within.getByRole('row', { name: /^equal answers/ })).toBeVisible({ timeout: 60_000 });
    await expect(within.getByRole('row', { name: /^C-SGD 10 1\/2 / })).toBeVisible();
    await expect(within.getByRole('img', { name: /^Training loss of both networks, from \d\S* to \d\S* for identical filters, from \d\S* to \d\S* for zeroed ones\.$/ })).toBeVisible();
    await within.getByRole('button', { name: 'Step 0' }).click();
    await expect(within).toHaveAttribute('data-step', '0');
    await slide(within, 'Strength of group lasso', 'End');
    await within.getByRole('combobox', { name: 'Keep of every layer' }).selectOption('1/4');
    await resetTo(within, page, 'lasso', 'part', 'step');
    await expect(within.getByRole('combobox', { name: 'Keep of every layer' })).toHaveValue('1/2');
    if (device === 'gpu') return;
    for (const [keep, left] of [['3/4', '175,224'], ['5/8', '128,380'], ['1/4', '30,184']]) {
      await within.getByRole('combobox', { name: 'Keep of every layer' }).selectOption(keep!);
      await expect(within).toHaveAttribute('data-step', '0');
      await within.getByRole('button', { name: '10 steps' }).click();
      await expect(within).toHaveAttribute('data-step', '10', { timeout: 60_000 });
      await within.getByRole('button', { name: 'Cut both' }).click();
      await expect(within.getByRole('row', { name: new RegExp(`^C-SGD 10 ${keep} `) })).toBeVisible({ timeout: 60_000 });
      await expect(within.getByRole('row', { name: `multiply-adds after ${left} ${left}` })).toBeVisible();
    }
  },
  sensitivity: async (within, _, device) => {
    await saysWhere(within, device);
    // What the text and the page for teachers say of 7 of 8 filters of conv1, and of half of conv1 and of conv2.
    const stated = { l1: [85.9, 63.2, 86.7], merge: [72.0, null, null] };
    for (const [method, [seven, half, halfOfTwo]] of Object.entries(stated)) {
      await within.getByRole('combobox', { name: 'The other filters are' }).selectOption(method);
      // Other filters, other curves: the old ones go.
      await expect(within.getByRole('img')).toHaveCount(0);
      await within.getByRole('button', { name: 'Measure' }).click();
      await expect(within.getByText(/^Each point is 1,000 test pictures/)).toBeVisible({ timeout: 120_000 });
      await expect(within).toHaveAttribute('data-measured', 'yes');
      await expect(within.getByRole('img')).toHaveCount(1);
      const words = (await within.getByRole('img').getAttribute('aria-label'))!;
      // The axis goes from 0 to 100 %, between y = 256 and 14.
      const accuracies = async (colour: number) =>
        (await within.locator(`circle.colour-${colour}`).evaluateAll((dots) => dots.map((dot) => (256 - Number(dot.getAttribute('cy'))) / 2.42)));
      const [one, two] = [await accuracies(0), await accuracies(1)];
      expect([one.length, two.length]).toEqual([8, 8]);
      // In words: the layer whole, one eighth of it, and the worst.
      const told = words.match(/conv1 \(8 filters\): (\S+) % with 100\.0 % of it, (\S+) % with 12\.5 %; worst (\S+) % with/)!.slice(1).map(numberOf);
      for (const [i, drawn] of [one[7]!, one[0]!, Math.min(...one)].entries()) expect(Math.abs(told[i]! - drawn)).toBeLessThan(0.1);
      for (const [found, expected] of [[one[6], seven], [one[3], half], [two[3], halfOfTwo]]) {
        if (expected !== null) expect(Math.abs(found! - expected!), method).toBeLessThan(0.25);
      }
    }
  },
  scale: async (within) => {
    await within.getByRole('button', { name: 'Measure' }).click();
    await expect(within).toHaveAttribute('data-measured', 'yes', { timeout: 120_000 });
    await expect(within.getByRole('row', { name: /^1\/2 88,592/ })).toBeVisible();
    await expect(within.getByRole('img', { name: /: from \d\S* of the time with 1 of the multiply-adds to \d\S* of the time with 0\.\d+ of the multiply-adds\.$/ })).toBeVisible();
  },
};

for (const device of ['auto', 'cpu']) {
  for (const { file } of LESSONS) {
    test(`${file} opens and its live blocks run on ${device === 'cpu' ? 'the CPU' : 'WebGPU'}`, async ({ page, site }) => {
      const problems = watch(page, site);
      await open(page, site, file, device === 'cpu' ? '?device=cpu' : '');
      await expect(page.locator('#device-name')).toHaveText(device === 'cpu' ? 'CPU' : /swiftshader/i);
      for (const within of await page.locator('[data-block]').all()) {
        const kind = (await within.getAttribute('data-block'))!;
        if (kind === 'source') await expect(within.locator('pre').last()).toContainText(/\w/);
        else if (kind !== 'exercise') await LIVE[kind]!(within, page, device);
      }
      expect(problems).toEqual([]);
    });
  }
}

for (const name of ['index', 'teacher']) {
  test(`the page ${name} opens and has nothing to complain of`, async ({ page, site }) => {
    const problems = watch(page, site);
    await open(page, site, name);
    await expect(page.locator('#device-name')).toHaveText(/swiftshader/i);
    await expect(page.getByRole('heading', { level: 1 })).toBeVisible();
    for (const answer of await page.locator('details').all()) {
      await answer.locator('summary').click();
      await expect(answer.locator('p').first()).toBeVisible();
    }
    // Another device begins the page anew.
    await page.getByLabel('Run on').selectOption('cpu');
    await expect(page.locator('#device-name')).toHaveText('CPU');
    await expect(page).toHaveURL(/device=cpu/);
    expect(problems).toEqual([]);
  });
}

test.describe('lesson 5: what the text says to try gives what it says', () => {
  const sliders = { strength: 'Strength', rate: 'Learning rate', momentum: 'Momentum', decay: 'Weight decay' };
  async function plane(page: Page, site: string, query = ''): Promise<Locator> {
    await open(page, site, lessonOf('sgd'), query);
    return block(page, 'plane');
  }
  /** Sets a slider by its keys and expects to read `shown` beside it. */
  async function set(within: Locator, name: keyof typeof sliders, key: string, shown: string, times = 1): Promise<void> {
    await slide(within, sliders[name], key, times);
    await expect(within.getByRole('slider', { name: sliders[name] })).toHaveAttribute('aria-valuetext', shown);
  }
  async function step(within: Locator, times: number): Promise<void> {
    const before = numberOf((await within.locator('p[role=status]').innerText()).match(/^Step (\d+)/)![1]!);
    for (let i = 0; i < times; i++) await within.getByRole('button', { name: 'Step', exact: true }).click();
    await expect(within.getByText(new RegExp(`^Step ${before + times}\\.`))).toBeVisible({ timeout: 30_000 });
  }
  const measured = (within: Locator) => numberIn(within, '[data-measured]');
  const forecast = (within: Locator) => numberIn(within, '[data-forecast]');

  test('momentum 0, strength 2, rate 0.5: one step is enough', async ({ page, site }) => {
    const problems = watch(page, site);
    const within = await plane(page, site);
    await set(within, 'momentum', 'Home', '0');
    await set(within, 'strength', 'End', '2');
    await set(within, 'rate', 'End', '0.500');
    await step(within, 1);
    expect(await measured(within)).toBeLessThan(-14);
    expect(problems).toEqual([]);
  });

  test('momentum 0.9 with the same: it swings, at 0.053 nats a step; Nesterov’s needs two steps', async ({ page, site }) => {
    const problems = watch(page, site);
    const within = await plane(page, site);
    await set(within, 'strength', 'End', '2');
    await set(within, 'rate', 'End', '0.500');
    await expect(within.getByRole('slider', { name: 'Momentum' })).toHaveAttribute('aria-valuetext', '0.900');
    await step(within, 2);
    expect(await measured(within)).toBeGreaterThan(-3);
    await step(within, 98);
    // On average 0.053 nats a step and never more; at its last step a swing may be a nat or two off.
    expect(await forecast(within)).toBeGreaterThan(-100 * 0.053 - 2);
    expect(await forecast(within)).toBeLessThan(-100 * 0.053 + 2);
    await within.getByRole('combobox', { name: 'Momentum is' }).selectOption('nesterov');
    await expect(within.getByText(/^Step 0\./)).toBeVisible();
    await step(within, 2);
    expect(await measured(within)).toBeLessThan(-14);
    expect(problems).toEqual([]);
  });

  test('at strength 0 nothing meets; weight decay alone pulls a little; 0.3 swings and arrives sooner', async ({ page, site }) => {
    const within = await plane(page, site);
    await set(within, 'strength', 'Home', '0');
    await step(within, 50);
    expect(Math.abs(await measured(within))).toBeLessThan(0.001);
    await set(within, 'decay', 'ArrowRight', '0.0100', 2);
    await step(within, 50);
    expect(await measured(within)).toBeLessThan(-0.05);
    expect(await measured(within)).toBeGreaterThan(-0.5);
    await within.getByRole('button', { name: 'Step 0' }).click();
    await set(within, 'decay', 'Home', '0');
    await set(within, 'strength', 'ArrowRight', '0.0500', 5);
    await step(within, 100);
    const weak = await forecast(within);
    await within.getByRole('button', { name: 'Step 0' }).click();
    await set(within, 'strength', 'ArrowRight', '0.300', 25);
    await step(within, 100);
    expect(await forecast(within)).toBeLessThan(weak - 0.5);
    // The measured curve dips where points cross the centre; that of a strength without swinging goes straight.
    expect(await measured(within)).toBeLessThanOrEqual((await forecast(within)) + 0.05);
  });

  test('a strength that is changed on the way changes the forecast from there', async ({ page, site }) => {
    const within = await plane(page, site);
    await step(within, 40);
    await set(within, 'strength', 'ArrowLeft', '0.0200', 3);
    await expect(page).toHaveURL(/strength=0\.02/);
    await step(within, 40);
    expect(Math.abs((await measured(within)) - (await forecast(within)))).toBeLessThan(0.05);
  });

  test('float32 ends the fall near e to the −16', async ({ page, site }) => {
    const within = await plane(page, site, '?strength=0.1&step=1000');
    await expect(within.getByText(/^Step 1000\./)).toBeVisible();
    expect(await measured(within)).toBeLessThan(-13);
    expect(await measured(within)).toBeGreaterThan(-19);
    expect(await forecast(within)).toBeLessThan(-20);
  });

  test('205 steps are 205 steps: by the address, by the button, and by both', async ({ page, site }) => {
    const said = async (query: string, more: number) => {
      const within = await plane(page, site, `?strength=0.02${query}`);
      await step(within, more);
      await expect(within.getByText(/^Step 205\./)).toBeVisible();
      await expect(page).toHaveURL(/[?&]step=205/);
      return [await within.locator('p[role=status]').innerText(), await within.locator('svg.square').innerHTML()];
    };
    const whole = await said('&step=205', 0);
    expect(await said('&step=200', 5)).toEqual(whole);
    expect(await said('', 205)).toEqual(whole);
  });
});

test('the blocks of training run on WebGPU too where it is asked for', async ({ page, site }) => {
  const problems = watch(page, site);
  await open(page, site, lessonOf('surgery'), '?device=gpu');
  await LIVE.surgery!(block(page, 'surgery'), page, 'gpu');
  await open(page, site, lessonOf('zero'), '?device=gpu');
  await LIVE.duel!(block(page, 'duel'), page, 'gpu');
  expect(problems).toEqual([]);
});

test('the blocks of depth and of couplings run on WebGPU too where it is asked for', async ({ page, site }) => {
  test.slow();
  const problems = watch(page, site);
  await open(page, site, lessonOf('far'), '?device=gpu');
  await LIVE.sensitivity!(block(page, 'sensitivity'), page, 'gpu');
  await LIVE.scale!(block(page, 'scale'), page, 'gpu');
  await expect(block(page, 'scale').getByText('50 pictures on a GPU that is played by the CPU')).toBeVisible();
  await open(page, site, lessonOf('couplings'), '?device=gpu');
  await LIVE.couplings!(block(page, 'couplings'), page, 'gpu');
  expect(problems).toEqual([]);
});

for (const { file } of LESSONS) {
  test(`${file}: every starting text fails its check and every solution passes`, async ({ page, site }) => {
    const problems = watch(page, site);
    await open(page, site, file);
    const exercises = await page.locator('[data-block="exercise"][data-id]').all();
    expect(exercises.length).toBeGreaterThan(0);
    for (const within of exercises) {
      const exercise = EXERCISES[(await within.getAttribute('data-id'))!]!;
      // The twin is there to be read, in the file's own words.
      const twin = within.locator('details.twin');
      if ((await twin.getAttribute('open')) === null) await twin.locator('summary').click();
      await expect(twin.getByText(`fn ${exercise.kernel}(args: Args<'_>) {`)).toBeVisible();
      const check = within.getByRole('button', { name: 'Run and check' });
      await check.click();
      await expect(within).toHaveAttribute('data-outcome', 'wrong', { timeout: 60_000 });
      await expect(within.getByRole('row', { name: /the twin’s/ })).toBeVisible();
      for (const hint of exercise.hints) {
        await within.getByRole('button', { name: 'Hint' }).click();
        await expect(within.getByText(hint)).toBeVisible();
      }
      await within.getByRole('button', { name: 'Show the solution' }).click();
      await check.click();
      await expect(within).toHaveAttribute('data-outcome', 'passed', { timeout: 60_000 });
      await within.getByRole('button', { name: 'Reset' }).click();
      await check.click();
      await expect(within).toHaveAttribute('data-outcome', 'wrong', { timeout: 60_000 });
    }
    expect(problems).toEqual([]);
  });
}

test.describe('what readers get wrong', () => {
  const real = readFileSync(resolve(web, '../shaders/accumulate.wgsl'), 'utf8');

  async function playground(page: Page, site: string): Promise<Locator> {
    await open(page, site, lessonOf('gpu'));
    return page.locator('[data-block="exercise"]:not([data-id])');
  }
  async function run(within: Locator, text: string, outcome: string): Promise<void> {
    await within.getByRole('textbox').fill(text);
    await within.getByRole('button', { name: 'Run', exact: true }).click();
    await expect(within).toHaveAttribute('data-outcome', outcome, { timeout: 60_000 });
  }

  test('a syntax error shows naga’s message with line and column', async ({ page, site }) => {
    const problems = watch(page, site);
    const within = await playground(page, site);
    const lines = real.split('\n');
    const at = lines.findIndex((line) => line.includes('let i ='));
    lines[at] = lines[at]!.replace('let i =', 'let i 5 =');
    await run(within, lines.join('\n'), 'syntax');
    const column = lines[at]!.indexOf('5') + 1;
    await expect(within.getByText(`naga: Line ${at + 1}, column ${column}: `)).toBeVisible();
    await expect(within.locator('.numbers .bad')).toHaveText(String(at + 1));
    await run(within, real.replace('params.len', 'params.length'), 'syntax');
    await expect(within.getByText(/naga: Line \d+, column \d+: .*length/)).toBeVisible();
    await run(within, real, 'passed');
    expect(problems).toEqual([]);
  });

  test('an endless loop, a too large dispatch or workgroup and a lost device leave the page usable', async ({ page, site }) => {
    const problems = watch(page, site);
    const within = await playground(page, site);
    const first = real.indexOf('{', real.indexOf('fn main')) + 1;
    const into = (code: string) => `${real.slice(0, first)}\n${code}\n${real.slice(first)}`;
    await run(within, into('    loop { }'), 'stopped');
    await expect(within.getByText('went round more than 20,000 times')).toBeVisible();
    await run(within, into('    var a = 1u;\n    while a > 0u { a = a + 1u; for (; a > 0u; ) { a |= 1u; } }'), 'stopped');
    // The rounds of a loop that another one calls are counted over all calls: 20,000 times 20,000 would lose the device.
    const helper = '\nfn endless() -> u32 { var a = 1u; while a > 0u { a |= 1u; } return a; }\n';
    await run(within, into('    for (var a = 1u; a > 0u; ) { a = endless(); }') + helper, 'stopped');

    await run(within, real.replace('@workgroup_size(64)', '@workgroup_size(1024)'), 'syntax');
    await expect(within.getByText('a workgroup of 1024 x 1 x 1 invocations is too large')).toBeVisible();

    await within.getByText('Grid', { exact: true }).click();
    await within.getByLabel('Workgroups of the dispatch').fill('1000000000');
    await run(within, real, 'refused');
    await expect(within.getByText('64,000,000,000 invocations')).toBeVisible();
    // The largest that is run: the more invocations, the fewer rounds.
    await within.getByLabel('Workgroups of the dispatch').fill('262144');
    await run(within, into('    loop { }'), 'stopped');
    await expect(within.getByText('went round more than 32 times')).toBeVisible();
    await within.getByLabel('Workgroups of the dispatch').fill('');
    await run(within, real, 'passed');

    await page.evaluate(() => document.dispatchEvent(new Event('lose-device')));
    // Either the run still meets the old device and says so, or it has a new one; the next is right in any case.
    await within.getByRole('button', { name: 'Run', exact: true }).click();
    await expect(within).toHaveAttribute('data-outcome', /passed|refused/, { timeout: 60_000 });
    await run(within, real, 'passed');
    expect(problems).toEqual([]);
  });

  test('a workgroup that is smaller leaves numbers out, and the first is shown', async ({ page, site }) => {
    const within = await playground(page, site);
    await run(within, real.replace('@workgroup_size(64)', '@workgroup_size(32)'), 'wrong');
    await expect(within.getByRole('row', { name: /^yours/ })).toBeVisible();
    // Half of every workgroup's 64 numbers.
    await expect(within.getByRole('row', { name: /^number 32 of \d+$/ })).toBeVisible();
  });

  test('a reader’s text stays, and Reset brings the original back', async ({ page, site }) => {
    const within = await playground(page, site);
    await within.getByRole('textbox').fill('// mine\n');
    await page.reload();
    await expect(within.getByRole('textbox')).toHaveValue('// mine\n');
    await expect(within.getByText('This is your text of last time')).toBeVisible();
    await within.getByRole('button', { name: 'Reset' }).click();
    await expect(within.getByRole('textbox')).toHaveValue(real);
  });
});

test('without WebGPU the lessons say so, run on the twins, and naga still reads', async ({ site }, info) => {
  const { executablePath } = info.project.use.launchOptions!;
  const browser = await chromium.launch({ executablePath, args: process.getuid?.() === 0 ? ['--no-sandbox'] : [] });
  const page = await browser.newPage();
  const problems = watch(page, site);
  await open(page, site, lessonOf('convolution'));
  await expect(page.locator('#no-gpu')).toContainText('This browser offers no WebGPU');
  await LIVE.pixel!(block(page, 'pixel'), page, 'cpu');
  const exercise = block(page, 'exercise').first();
  await expect(exercise.getByText('There is no GPU to run this on')).toBeVisible();
  await exercise.getByRole('button', { name: 'Run and check' }).click();
  await expect(exercise).toHaveAttribute('data-outcome', 'no-gpu');
  // Set to the GPU all the same: the twins take its place, and the page says so.
  await open(page, site, lessonOf('convolution'), '?device=gpu');
  await expect(page.locator('#device-name')).toHaveText('no GPU here, so the CPU');
  await expect(page.locator('#no-gpu')).toContainText('This page is set to the GPU, but there is none.');
  await expect(page.getByLabel('Run on')).toHaveValue('gpu');
  await LIVE.pixel!(block(page, 'pixel'), page, 'cpu');
  await open(page, site, lessonOf('surgery'), '?device=gpu');
  await LIVE.surgery!(block(page, 'surgery'), page, 'cpu');
  expect(problems).toEqual([]);
  await browser.close();
});

test('what fails later is said in its block, until something there works again', async ({ page, site }) => {
  // Workers that stop at whatever they are asked.
  await page.addInitScript(() => {
    const Real = window.Worker;
    window.Worker = class extends Real {
      override postMessage(message: unknown, options?: unknown): void {
        if (document.documentElement.dataset.broken === undefined) super.postMessage(message, options as StructuredSerializeOptions);
        else queueMicrotask(() => this.dispatchEvent(new ErrorEvent('error', { message: 'a test stops it' })));
      }
    };
  });
  const broken = (yes: boolean) => page.evaluate((yes) => void (yes ? (document.documentElement.dataset.broken = '') : delete document.documentElement.dataset.broken), yes);
  const fails = async (within: Locator, act: () => Promise<void>) => {
    await broken(true);
    await act();
    await expect(within.getByRole('alert')).toHaveText(/^This did not work, and what is shown is from before: .*stopped: a test stops it/);
    await expect(within.getByRole('alert')).toHaveCount(1);
    await broken(false);
  };
  const works = (within: Locator) => expect(within.getByRole('alert')).toHaveCount(0);
  const press = (within: Locator, name: string) => within.getByRole('button', { name, exact: true }).click();

  // A slider, and a button that is pressed anew.
  await open(page, site, lessonOf('clusters'));
  const cluster = block(page, 'cluster');
  await fails(cluster, () => slide(cluster, 'Clusters: filters that stay', 'End'));
  await expect(cluster.locator('[data-chi]')).toHaveText('17.18');
  await press(cluster, 'Reset');
  await works(cluster);
  await open(page, site, lessonOf('far'));
  const scale = block(page, 'scale');
  await fails(scale, () => press(scale, 'Measure'));
  await expect(scale.locator('p[role=status]')).toBeEmpty();
  await press(scale, 'Measure');
  await expect(scale).toHaveAttribute('data-measured', 'yes', { timeout: 120_000 });
  await works(scale);
  // Step and Play.
  await open(page, site, lessonOf('sgd'));
  const plane = block(page, 'plane');
  for (const name of ['Step', 'Play']) {
    await fails(plane, () => press(plane, name));
    await expect(plane.getByRole('button', { name: 'Play' })).toHaveAttribute('aria-pressed', 'false');
    await press(plane, 'Step 0');
    await works(plane);
    await press(plane, 'Step');
    await expect(plane.getByText(/^Step 1\./)).toBeVisible();
  }
  // The GPU's worker.
  await open(page, site, lessonOf('convolution'));
  const pixel = block(page, 'pixel');
  await fails(pixel, () => press(pixel, 'Next pixel'));
  await press(pixel, 'Next pixel');
  await works(pixel);
});

test('blocks that ask for the GPU at the same time share one device', async ({ page, site }) => {
  const problems = watch(page, site);
  // Every answer of the browser takes a while, so that both blocks ask before the first has a device.
  await page.route(/gpu\.worker[^/]*\.js$/, async (route) => {
    const response = await route.fetch();
    const slow = `const { requestDevice } = GPUAdapter.prototype;
      const opened = new BroadcastChannel('opened');
      GPUAdapter.prototype.requestDevice = async function (...args) {
        opened.postMessage('device');
        await new Promise((resolve) => setTimeout(resolve, 1500));
        return requestDevice.apply(this, args);
      };`;
    await route.fulfill({ response, body: `{${slow}}\n${await response.text()}` });
  });
  await page.addInitScript(() => {
    let devices = 0;
    new BroadcastChannel('opened').onmessage = () => (document.documentElement.dataset.devices = String(++devices));
  });
  await open(page, site, lessonOf('convolution'));
  await expect(page.locator('html')).toHaveAttribute('data-devices', '1');
  const pixel = block(page, 'pixel');
  await expect(pixel.locator('p[role=status]')).toContainText('says 15 here');
  await pixel.getByRole('button', { name: 'Next pixel' }).click();
  await expect(pixel.locator('p[role=status]')).toContainText('says −15 here');
  await expect(page.getByRole('alert')).toHaveCount(0);
  expect(problems).toEqual([]);
});

test('while something plays it is not read aloud', async ({ page, site }) => {
  for (const [lesson, name] of [['convolution', 'pixel'], ['gpu', 'grid'], ['sgd', 'plane'], ['zero', 'duel']]) {
    await open(page, site, lessonOf(lesson!));
    // The line at the top is there: from here on nothing moves.
    await expect(page.locator('#device-name')).toHaveText(/swiftshader/i);
    const within = block(page, name!);
    const live = () => within.locator('[role="status"]').evaluateAll((all) => [...new Set(all.map((one) => one.getAttribute('aria-live') ?? 'polite'))]);
    expect(await live()).toEqual(['polite']);
    await within.getByRole('button', { name: 'Play' }).click();
    await expect.poll(live, name).toEqual(['off']);
    await within.getByRole('button', { name: 'Pause' }).click();
    await expect(within.getByRole('button', { name: 'Play' })).toHaveAttribute('aria-pressed', 'false');
    await expect.poll(live, name).toEqual(['polite']);
  }
});

test('settings are in the address', async ({ page, site }) => {
  await open(page, site, lessonOf('clusters'));
  const within = block(page, 'cluster');
  await within.getByLabel('Clusters by').selectOption('imbalanced');
  await slide(within, 'Clusters: filters that stay', 'ArrowLeft', 3);
  await expect(page).toHaveURL(/method=imbalanced&keep=5/);
  await expect(within.locator('[data-chi]')).toHaveText('30.51');
  await open(page, site, lessonOf('clusters'), new URL(page.url()).search);
  await expect(block(page, 'cluster').locator('[data-chi]')).toHaveText('30.51');
});

test('the step is in the address: a run goes on from there, and Reset takes it out', async ({ page, site }) => {
  await open(page, site, lessonOf('sgd'), '?strength=0.3');
  const plane = block(page, 'plane');
  for (let i = 0; i < 12; i++) await plane.getByRole('button', { name: 'Step', exact: true }).click();
  await expect(plane.getByText(/^Step 12\./)).toBeVisible();
  const reached = await plane.locator('[data-measured]').innerText();
  await expect(page).toHaveURL(/step=12/);
  await open(page, site, lessonOf('sgd'), new URL(page.url()).search);
  await expect(plane.getByText(/^Step 12\./)).toBeVisible();
  await expect(plane.locator('[data-measured]')).toHaveText(reached);
  await plane.getByRole('button', { name: 'Reset' }).click();
  await expect(page).not.toHaveURL(/step=/);

  await open(page, site, lessonOf('zero'), '?step=20');
  const duel = block(page, 'duel');
  await expect(duel).toHaveAttribute('data-step', '20', { timeout: 60_000 });
  await expect(duel.getByRole('button', { name: 'Play' })).toBeVisible();
  await expect(page).toHaveURL(/step=20/);
  await duel.getByRole('button', { name: '10 steps' }).click();
  await expect(page).toHaveURL(/step=30/, { timeout: 60_000 });
});

test('the first visit loads what the page for teachers says', async ({ page, site }) => {
  const sizes: [string, Promise<number>][] = [];
  page.on('response', (response) => sizes.push([response.url(), response.body().then((body) => body.length, () => 0)]));
  await open(page, site, lessonOf('convolution'));
  const loaded = await Promise.all(sizes.map(async ([url, size]) => [url, await size] as const));
  const sum = (of: (url: string) => boolean) => loaded.filter(([url]) => of(url)).reduce((total, [, size]) => total + size, 0);
  const all = sum(() => true);
  const text = readFileSync(join(web, 'lessons/teacher.html'), 'utf8');
  expect(text).toContain('the first visit loads a few megabytes, most of it the program and the pictures');
  expect(all).toBeGreaterThan(2e6);
  expect(all).toBeLessThan(9e6);
  expect(sum((url) => /\.wasm$|\/data\//.test(url))).toBeGreaterThan(all / 2);
});

test('the demo asks for nothing of the lessons', async ({ page, site }) => {
  const asked: string[] = [];
  page.on('request', (request) => asked.push(request.url()));
  await page.goto(site, { waitUntil: 'networkidle' });
  expect(asked.some((url) => /centripetal_web\S*\.wasm$/.test(url)), asked.join('\n')).toBe(true);
  expect(asked.filter((url) => /\/lessons\/|centripetal_lessons/.test(url))).toEqual([]);
});

test('every link leads somewhere, and nothing is asked of another host', async () => {
  const dist = join(web, 'dist');
  const names = readdirSync(join(dist, 'lessons')).filter((name) => name.endsWith('.html'));
  expect(names.sort()).toEqual(PAGES.map((name) => `${name}.html`).sort());
  const text = (path: string) => readFileSync(path, 'utf8');
  let links = 0;
  for (const name of names) {
    const html = text(join(dist, 'lessons', name));
    for (const [, target] of html.matchAll(/(?:href|src)="([^"]+)"/g)) {
      if (target!.startsWith('data:')) continue;
      const [path, anchor] = target!.split('#');
      const file = path ? resolve(dist, 'lessons', path) : join(dist, 'lessons', name);
      expect(file.startsWith(dist), `${name}: ${target}`).toBe(true);
      const found = text(file);
      if (anchor) expect(found, `${name}: ${target}`).toContain(`id="${anchor}"`);
      links++;
    }
    expect(html).toMatch(/Content-Security-Policy" content="default-src 'none'/);
  }
  expect(links).toBeGreaterThan(60);
});

const axe = readFileSync(resolve(web, 'node_modules/axe-core/axe.min.js'), 'utf8');
interface Axe { run(): Promise<{ violations: { id: string; nodes: { html: string; failureSummary: string }[] }[] }> }

/** Contrast, labels and structure of the page as it stands pass axe, in both colours and at both widths, and nothing overflows. */
async function passesAxe(page: Page, what: string): Promise<void> {
  if (!(await page.evaluate(() => 'axe' in window))) await page.evaluate(axe);
  for (const width of [1280, 390]) {
    await page.setViewportSize({ width, height: 844 });
    const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    expect(wide, `${what} overflows at ${width} px`).toBeLessThanOrEqual(0);
    for (const colorScheme of ['light', 'dark'] as const) {
      await page.emulateMedia({ colorScheme });
      const found = await page.evaluate(async () => {
        const { violations } = await (window as unknown as { axe: Axe }).axe.run();
        return violations.map(({ id, nodes }) => `${id}, ${nodes.length} times: ${nodes[0]!.html.slice(0, 200)} ${nodes[0]!.failureSummary}`);
      });
      expect(found, `${what}, ${width} px, ${colorScheme}`).toEqual([]);
    }
  }
}

test.describe('contrast, labels and structure pass axe, light and dark, at desktop and phone width, and nothing overflows', () => {
  test.use({ bypassCSP: true });

  test('on every page as it opens', async ({ page, site }) => {
    test.slow();
    for (const name of PAGES) {
      await open(page, site, name);
      await passesAxe(page, name);
    }
  });

  test('with all answers of the page for teachers open', async ({ page, site }) => {
    await open(page, site, 'teacher');
    for (const summary of await page.locator('summary').all()) await summary.click();
    await passesAxe(page, 'answers');
  });

  test('with every verdict on an exercise', async ({ page, site }) => {
    test.slow();
    await open(page, site, lessonOf('convolution'));
    const exercises = await page.locator('[data-block="exercise"]').all();
    expect(exercises).toHaveLength(2);
    // Both at once: their tables and fields must not be taken for one another.
    const check = (within: Locator) => within.getByRole('button', { name: /^Run/ }).click();
    for (const within of exercises) {
      await check(within);
      await expect(within).toHaveAttribute('data-outcome', 'wrong', { timeout: 60_000 });
      await within.getByRole('button', { name: 'Hint' }).click();
      await within.getByText('Grid', { exact: true }).click();
      const twin = within.locator('details.twin');
      if ((await twin.getAttribute('open')) === null) await twin.locator('summary').click();
      for (const whole of await within.getByRole('button', { name: 'Whole file' }).all()) await whole.click();
    }
    await passesAxe(page, 'wrong, a hint, the grid');
    const [first, second] = exercises as [Locator, Locator];
    for (let i = 1; await first.getByRole('button', { name: 'Hint' }).isEnabled(); i++) {
      await first.getByRole('button', { name: 'Hint' }).click();
      await expect(first.locator('.hints li')).toHaveCount(i + 1);
    }
    await first.getByRole('button', { name: 'Show the solution' }).click();
    await passesAxe(page, 'the solution, all hints');
    await check(first);
    await expect(first).toHaveAttribute('data-outcome', 'passed', { timeout: 60_000 });
    const text = await second.getByRole('textbox').inputValue();
    await second.getByRole('textbox').fill(text.replace('let i =', 'let i 5 ='));
    await check(second);
    await expect(second).toHaveAttribute('data-outcome', 'syntax', { timeout: 60_000 });
    await expect(second.locator('.numbers .bad')).toBeVisible();
    await passesAxe(page, 'passed; a syntax error');
    await second.getByRole('textbox').fill(text);
    await second.getByRole('spinbutton').fill('1000000000');
    await check(second);
    await expect(second).toHaveAttribute('data-outcome', 'refused');
    await passesAxe(page, 'a dispatch that is refused');
    await page.reload();
    await open(page, site, lessonOf('convolution'), '?device=cpu');
    await expect(first.getByText('There is no GPU to run this on')).toBeVisible();
    await check(first);
    await expect(first).toHaveAttribute('data-outcome', 'no-gpu');
    await passesAxe(page, 'no GPU');
  });

  test('with a loop that was ended, and a text of last time', async ({ page, site }) => {
    await open(page, site, lessonOf('gpu'));
    const within = page.locator('[data-block="exercise"]:not([data-id])');
    const text = await within.getByRole('textbox').inputValue();
    await within.getByRole('textbox').fill(text.replace(/(fn main\([^]*?\) \{)/, '$1\n    loop { if params.len == 77777777u { break; } }'));
    await within.getByRole('button', { name: 'Run', exact: true }).click();
    await expect(within).toHaveAttribute('data-outcome', 'stopped', { timeout: 60_000 });
    await passesAxe(page, 'a loop that was ended');
    await open(page, site, lessonOf('gpu'));
    await expect(within.getByText('This is your text of last time')).toBeVisible();
    await passesAxe(page, 'a text of last time');
  });

  test('with blocks that were used', async ({ page, site }) => {
    test.slow();
    await open(page, site, lessonOf('gpu'));
    await block(page, 'measure').getByRole('combobox').selectOption('first');
    await block(page, 'measure').getByRole('button', { name: 'Measure' }).click();
    await expect(block(page, 'measure').locator('tbody tr')).toHaveCount(6, { timeout: 120_000 });
    await block(page, 'grid').getByRole('button', { name: 'Play' }).click();
    await expect(block(page, 'grid').getByRole('button', { name: 'Pause' })).toBeVisible();
    await passesAxe(page, 'measured variants, a grid that plays');
    await open(page, site, lessonOf('sgd'), '?step=300');
    await passesAxe(page, 'points after 300 steps');
    await open(page, site, lessonOf('clusters'), '?keep=1&layer=conv2');
    const whole = page.getByRole('button', { name: 'Whole file' });
    while (await whole.count()) await whole.first().click();
    await passesAxe(page, 'one cluster');
    await open(page, site, lessonOf('surgery'), '?delta=0.1');
    await expect(block(page, 'surgery')).toHaveAttribute('data-exact', 'false');
    await passesAxe(page, 'a cut that differs');
  });

  test('with couplings broken, whole and refused', async ({ page, site }) => {
    await open(page, site, lessonOf('couplings'));
    const within = block(page, 'couplings');
    const press = (name: string) => within.getByRole('button', { name, exact: true }).click();
    await press('layer1.0.conv2');
    await press('Cut a channel of this layer alone');
    await expect(within).toHaveAttribute('data-alone', 'broke');
    await passesAxe(page, 'broken');
    await press('Cut that channel everywhere it is tied');
    await expect(within).toHaveAttribute('data-together', 'done');
    await passesAxe(page, 'whole');
    await press('Give this layer clusters of its own, and cut');
    await expect(within).toHaveAttribute('data-apart', 'differs', { timeout: 60_000 });
    await passesAxe(page, 'clusters of its own');
    await press('linear');
    await press('Cut that channel everywhere it is tied');
    await expect(within).toHaveAttribute('data-together', 'refused');
    await passesAxe(page, 'refused');
  });

  test('with a duel that was cut twice, and depths that were measured', async ({ page, site }) => {
    await open(page, site, lessonOf('zero'), '?step=20');
    const duel = block(page, 'duel');
    await expect(duel).toHaveAttribute('data-step', '20', { timeout: 60_000 });
    await duel.getByRole('button', { name: 'Cut both' }).click();
    await expect(duel.getByRole('row', { name: /^C-SGD 20 / })).toHaveCount(1, { timeout: 60_000 });
    await duel.getByRole('button', { name: 'Cut both' }).click();
    await expect(duel.getByRole('row', { name: /^C-SGD 20 / })).toHaveCount(2, { timeout: 60_000 });
    await passesAxe(page, 'cut twice');
    await open(page, site, lessonOf('far'));
    for (const name of ['sensitivity', 'scale']) {
      await block(page, name).getByRole('button', { name: 'Measure' }).click();
      await expect(block(page, name)).toHaveAttribute('data-measured', 'yes', { timeout: 120_000 });
    }
    await passesAxe(page, 'sensitivity and time measured');
  });

  test('with a block that could not be loaded', async ({ page, site }) => {
    await page.route(/base.*\.safetensors/, (route) => route.fulfill({ status: 404, body: 'not here' }));
    await page.goto(`${site}lessons/${lessonOf('clusters')}.html`);
    await expect(block(page, 'cluster')).toHaveAttribute('data-ready', 'failed', { timeout: 60_000 });
    await expect(block(page, 'cluster').getByRole('alert')).toContainText('could not be loaded (404)');
    await passesAxe(page, 'a block that failed');
  });
});

test('a lesson prints without its buttons, with all of its code', async ({ page, site }) => {
  await open(page, site, lessonOf('backward'));
  await page.emulateMedia({ media: 'print' });
  await expect(page.getByRole('button', { name: 'Run and check' }).first()).toBeHidden();
  const editor = page.locator('[data-id="relu-gradient"] .editor:not(.listing)');
  const [shown, whole] = await editor.evaluate((root) => [root.clientHeight, root.scrollHeight]);
  expect(shown).toBeGreaterThanOrEqual(whole! - 2);
});

test('every page prints whole: nothing folded, cut off or wider than the paper', async ({ page, site }) => {
  test.slow();
  // A4 with margins of a centimetre, at 96 pixels an inch.
  await page.setViewportSize({ width: 718, height: 1046 });
  for (const name of PAGES) {
    await page.emulateMedia({ media: null });
    await open(page, site, name);
    const folded = await page.locator('details:not([open])').count();
    if (name === 'teacher') expect(folded).toBeGreaterThan(10);
    await page.evaluate(() => dispatchEvent(new Event('beforeprint')));
    await page.emulateMedia({ media: 'print' });
    await expect(page.locator('details:not([open])')).toHaveCount(0);
    if (name === 'teacher') for (const answer of await page.locator('details pre').all()) await expect(answer).toBeVisible();
    const cut = await page.evaluate(() => {
      const paper = document.documentElement.clientWidth;
      return [...document.querySelectorAll<HTMLElement>('main *')]
        .filter((part) => part.getClientRects().length && !part.closest('svg, math'))
        .filter((part) => {
          const { overflowX, overflowY } = getComputedStyle(part);
          const clips = (overflowX !== 'visible' && part.scrollWidth > part.clientWidth + 1) || (overflowY !== 'visible' && part.scrollHeight > part.clientHeight + 1);
          return clips || part.getBoundingClientRect().right > paper + 1;
        })
        .map((part) => `${part.tagName} ${part.className}: ${part.textContent!.slice(0, 60)}`);
    });
    expect(cut, name).toEqual([]);
    await page.evaluate(() => dispatchEvent(new Event('afterprint')));
    await expect(page.locator('details:not([open])')).toHaveCount(folded);
  }
  // A picture of colours keeps them.
  await open(page, site, lessonOf('gpu'));
  await page.emulateMedia({ media: 'print' });
  await expect(block(page, 'grid').locator('.group-1').first()).toHaveCSS('print-color-adjust', 'exact');
});
