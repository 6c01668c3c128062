// The session in a real browser: WebGPU through SwiftShader, and the CPU kernels in WebAssembly.

import { mkdtempSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Settings } from '../client/index.ts';
import { countReads, expect, native, openHarness, patchWorker, root, test, watch, withoutWebGpu } from './support.ts';

const DATA = '../package/data/';

/** Those of `losses.rs`. */
const FIXED: Settings = {
  model: 'lenet',
  width: 1,
  batch: 32,
  seed: 7,
  lr: 0.02,
  keep: '5/8',
  strength: 0.2,
  collapseSteps: 1000,
  momentum: 0.9,
  weightDecay: 5e-4,
  clustering: 'even',
};

/** Ten losses of SGD and ten of C-SGD on `device`, in the page. */
async function losses(page: import('@playwright/test').Page, device: 'gpu' | 'cpu') {
  return page.evaluate(
    async ([device, settings, dataUrl]) => {
      const session = await window.centripetal.Session.open({ device, dataUrl });
      await session.useEmbedded();
      await session.reset(settings);
      const ten = async () => {
        const losses: number[] = [];
        for (let step = 0; step < 10; step++) losses.push((await session.step(1)).loss);
        return losses;
      };
      const sgd = await ten();
      await session.cluster();
      const csgd = await ten();
      const { kind } = session.device;
      session.close();
      return { kind, sgd, csgd };
    },
    [device, FIXED, DATA] as const,
  );
}

test('trains on WebGPU, and a step comes within three seconds', async ({ client }) => {
  const result = await client.evaluate(async (dataUrl) => {
    const { Session, DEFAULTS } = window.centripetal;
    const session = await Session.open({ dataUrl });
    const data = await session.useEmbedded();
    const network = await session.reset(DEFAULTS);
    const pressed = performance.now();
    let first = 0;
    const seen: { loss: number; step: number; imagesPerSecond: number }[] = [];
    const done = new Promise<void>((resolve) => {
      session.on('progress', (progress) => {
        first ||= performance.now() - pressed;
        seen.push(progress);
        if (progress.step >= 60) resolve();
      });
    });
    await session.train();
    await done;
    const asked = performance.now();
    await session.pause();
    const waited = performance.now() - asked;
    const { device } = session;
    session.close();
    return { device, data, network, first, seen, waited };
  }, DATA);
  expect(result.device.kind).toBe('software-gpu');
  expect(result.device.name.toLowerCase()).toContain('swiftshader');
  expect(result.data).toMatchObject({ name: 'Fashion-MNIST', shape: [1, 28, 28], train: 5000, test: 1000 });
  expect(result.network.layers.map(({ name }) => name)).toEqual(['conv1', 'conv2', 'fc']);
  expect(result.first).toBeLessThan(3000);
  expect(result.waited).toBeLessThan(2000);
  const [begin, end] = [result.seen[0]!, result.seen.at(-1)!];
  expect(end.loss).toBeLessThan(begin.loss * 0.7);
  expect(end.imagesPerSecond).toBeGreaterThan(0);
  console.log(`first step after ${Math.round(result.first)} ms, ${Math.round(end.imagesPerSecond)} images/s`);
});

test('measures the variants of kernels once, keeps them, and leaves it if told', async ({ client }) => {
  const result = await client.evaluate(async (dataUrl) => {
    const { Session, DEFAULTS } = window.centripetal;
    const kept = () => Object.entries(localStorage).filter(([name]) => name.startsWith('centripetal tuning'));
    const measured = async (autotune: boolean) => {
      const session = await Session.open({ device: 'gpu', dataUrl, autotune });
      let tables = 0;
      session.on('tuning', () => void tables++);
      await session.useEmbedded();
      await session.reset({ ...DEFAULTS, batch: 16 });
      const { loss } = await session.step(1);
      session.close();
      return { tables, loss, kept: kept() };
    };
    return [await measured(false), await measured(true), await measured(true)] as const;
  }, DATA);
  const [off, first, second] = result;
  expect([off.tables, off.kept.length]).toEqual([0, 0]);
  expect([first.tables, first.kept.length]).toEqual([1, 1]);
  // Forward pass, gradients and evaluation of two convolutions.
  const { choices } = JSON.parse(first.kept[0]![1]) as { choices: Record<string, string> };
  expect(Object.keys(choices).filter((shape) => shape.startsWith('conv2d_forward c=8')).length).toBe(1);
  expect(second.tables).toBe(0);
  expect(second.kept).toEqual(first.kept);
  expect(second.loss).toBe(first.loss);
  expect(Math.abs(first.loss - off.loss)).toBeLessThan(1e-4);
});

test('tests its kernels beside the training, and the self-test ends with the session', async ({ client }) => {
  const result = await client.evaluate(
    async ([settings, dataUrl]) => {
      const session = await window.centripetal.Session.open({ device: 'cpu', dataUrl });
      await session.useEmbedded();
      await session.reset(settings);
      const told: string[] = [];
      session.on('work', ({ what }) => told.push(what));
      const [{ device, kernels }, { step }] = await Promise.all([session.selfTest(), session.step(3)]);
      const test = session.selfTest();
      session.close();
      const ended = await test.then(() => 'not at all', (error: Error) => error.message);
      return { kind: device.kind, kernels, step, told, ended };
    },
    [FIXED, DATA] as const,
  );
  expect(result.kind).toBe('cpu');
  expect(result.kernels.length).toBeGreaterThan(20);
  for (const check of result.kernels) expect(check.passed, check.kernel).toBe(true);
  expect(result.step).toBe(3);
  expect(result.told).toContain('conv2d_forward');
  expect(result.told.at(-1)).toBe('done');
  expect(result.ended).toContain('the session was closed');
});

test('trains on the CPU where there is no WebGPU', async ({ folder }) => {
  const browser = await withoutWebGpu();
  const page = await browser.newPage();
  const problems = watch(page, folder);
  await openHarness(page, folder);
  const result = await page.evaluate(async (dataUrl) => {
    const { Session, DEFAULTS } = window.centripetal;
    const session = await Session.open({ dataUrl });
    await session.useEmbedded();
    await session.reset(DEFAULTS);
    const first = await session.step(5);
    await session.step(100);
    const last = await session.step(20);
    return { device: session.device, first, last };
  }, DATA);
  await browser.close();
  expect(result.device.kind).toBe('cpu');
  expect(result.device.driver).toBe('simd128');
  expect(result.device.reason).toContain('WebGPU');
  expect(result.last.loss).toBeLessThan(result.first.loss * 0.6);
  expect(problems).toEqual([]);
  console.log(`${Math.round(result.last.imagesPerSecond)} images/s on the CPU`);
});

test('ten losses are those of the native program, on the CPU and on a GPU', async ({ client }) => {
  const found = {
    browserGpu: await losses(client, 'gpu'),
    browserCpu: await losses(client, 'cpu'),
    nativeCpu: JSON.parse(native('examples/losses', 'cpu')),
    nativeGpu: JSON.parse(native('examples/losses', 'gpu')),
  };
  expect(found.browserGpu.kind).toBe('software-gpu');
  expect(found.browserCpu.kind).toBe('cpu');
  for (const optimizer of ['sgd', 'csgd'] as const) {
    const expected: number[] = found.nativeCpu[optimizer];
    expect(expected).toHaveLength(10);
    for (const [name, { [optimizer]: losses }] of Object.entries(found)) {
      const worst = Math.max(...expected.map((loss, step) => Math.abs(loss - losses[step])));
      expect(worst, `${name}, ${optimizer}`).toBeLessThan(1e-4);
      console.log(`${name} ${optimizer}: at most ${worst.toExponential(1)} from the native CPU`);
    }
  }
});

test('Chromium compiles every shader without a message', async ({ client }) => {
  const folder = join(root, 'shaders');
  const names = readdirSync(folder).filter((name) => name.endsWith('.wgsl'));
  expect(names.length).toBeGreaterThan(30);
  const texts = names.map((name) => [name, readFileSync(join(folder, name), 'utf8')] as const);
  // naga does without the directive that WGSL wants for subgroups; no browser is given these variants.
  const sources = texts.map(([name, text]) => [name, name.endsWith('_subgroups.wgsl') ? `enable subgroups;\n${text}` : text]);
  expect(texts.filter(([, text]) => text.includes('subgroupAdd(')).map(([name]) => name)).toEqual(names.filter((name) => name.endsWith('_subgroups.wgsl')));
  const messages = await client.evaluate(async (sources) => {
    const adapter = await navigator.gpu.requestAdapter();
    if (!adapter!.features.has('subgroups')) return ['this Chromium has no subgroups'];
    const device = await adapter!.requestDevice({ requiredFeatures: ['subgroups' as GPUFeatureName] });
    const found: string[] = [];
    for (const [name, code] of sources) {
      const module = device.createShaderModule({ code: code! });
      const { messages } = await module.getCompilationInfo();
      found.push(...messages.map(({ type, message, lineNum }) => `${name}:${lineNum}: ${type}: ${message}`));
      await device
        .createComputePipelineAsync({ layout: 'auto', compute: { module, entryPoint: 'main' } })
        .catch((error: Error) => found.push(`${name}: ${error.message}`));
    }
    return found;
  }, sources);
  expect(messages).toEqual([]);
});

test('the whole method: learns, collapses, is cut without loss', async ({ client }) => {
  const result = await client.evaluate(async (dataUrl) => {
    const { Session, DEFAULTS } = window.centripetal;
    const session = await Session.open({ dataUrl });
    const events: string[] = [];
    session.on('phase', ({ phase, step }) => events.push(`${phase} ${step}`));
    session.on('paused', ({ why }) => events.push(why));
    session.on('error', ({ message }) => events.push(message));
    await session.useEmbedded();
    await session.reset(DEFAULTS);
    const began = performance.now();
    let learnt = 0;
    await new Promise<void>((resolve) => {
      session.on('progress', ({ validation, step }) => {
        if (!learnt && (validation ?? 0) > 0.7) learnt = performance.now() - began;
        if (learnt && step >= 300) resolve();
      });
      void session.train();
    });
    await session.pause();
    const base = await session.evaluate();
    const { forecast, widths } = await session.cluster();
    const clustered = performance.now();
    const course: { deviation: number; forecast: number }[] = [];
    await new Promise<void>((resolve) => {
      session.on('progress', ({ phase, deviation, forecast }) => {
        if (phase === 'centripetal') course.push({ deviation: deviation!, forecast: forecast! });
      });
      session.on('paused', () => resolve());
      void session.train();
    });
    const collapsed = performance.now() - clustered;
    const filters = await session.filters('conv2');
    const { certificate, network } = await session.cut();
    const { comparison } = await session.compareL1();
    const classified = await session.classify('test', 3);
    const after = await session.evaluate();
    const more = await session.step(3);
    session.close();
    return {
      learnt, base, forecast, widths, course, collapsed, filters: { ...filters, weights: [...filters.weights], clusters: [...filters.clusters] },
      certificate, network, comparison, classified, after, more, events,
    };
  }, DATA);
  console.log(
    `70 % after ${(result.learnt / 1000).toFixed(1)} s, collapsed in ${(result.collapsed / 1000).toFixed(1)} s, ` +
      `accuracy ${result.base.accuracy}, wide ${result.certificate.wideAccuracy}, slim ${result.certificate.slimAccuracy}, ` +
      `L1 ${result.comparison.accuracy}, logits differ by ${result.certificate.maxAbsLogitDiff.toExponential(1)}`,
  );
  expect(result.learnt).toBeLessThan(90_000);
  expect(result.collapsed).toBeLessThan(120_000);
  expect(result.base.accuracy).toBeGreaterThan(0.7);
  expect(result.forecast.verdict).toBe('enough');
  expect(result.widths).toEqual({ conv1: [8, 5], conv2: [16, 10] });
  const [first, last] = [result.course[0]!, result.course.at(-1)!];
  expect(last.deviation).toBeLessThan(first.deviation * 1e-8);
  expect(last.forecast).toBeLessThan(-16);
  // Members of a cluster have become the same filter.
  const { clusters, weights, rowLength } = result.filters;
  const twin = clusters.findIndex((cluster, row) => clusters.indexOf(cluster) !== row);
  const other = clusters.indexOf(clusters[twin]!);
  for (let at = 0; at < rowLength; at++) {
    expect(Math.abs(weights[twin * rowLength + at]! - weights[other * rowLength + at]!)).toBeLessThan(1e-5);
  }
  const { certificate } = result;
  expect(certificate).toMatchObject({ samples: 1000, argmaxAgreement: 1000, lossless: true });
  expect(certificate.slimAccuracy).toBe(certificate.wideAccuracy);
  expect(certificate.maxAbsLogitDiff).toBeLessThan(1e-3);
  expect(certificate.macsAfter).toBeLessThan(certificate.macsBefore * 0.6);
  expect(result.network.macs).toBe(certificate.macsAfter);
  expect(certificate.baseAccuracy).toBe(result.base.accuracy);
  expect(result.comparison.macsAfter).toBe(certificate.macsAfter);
  expect(result.comparison.accuracy).toBeLessThan(certificate.slimAccuracy);
  expect(result.classified.answers.map(({ network }) => network)).toEqual(['wide', 'slim', 'l1']);
  expect(result.after.accuracy).toBe(certificate.slimAccuracy);
  expect(result.more.phase).toBe('cut');
  expect(result.events.filter((event) => !event.startsWith('base') && event !== 'asked')).toEqual([
    expect.stringMatching(/^centripetal \d+$/),
    'collapsed',
    expect.stringMatching(/^cut \d+$/),
  ]);
});

test('settings change while it trains', async ({ client }) => {
  const result = await client.evaluate(
    async ([settings, dataUrl]) => {
      const session = await window.centripetal.Session.open({ device: 'cpu', dataUrl });
      await session.useEmbedded();
      await session.reset({ ...settings, strength: 'auto', collapseSteps: 400 });
      const changed = await session.set({ lr: 0.01, keep: '1/2', batch: 8 });
      const step = await session.step(1);
      const { forecast, widths } = await session.cluster();
      await session.step(50);
      const faster = await session.set({ lr: 0.02 });
      const weak = await session.set({ strength: 0.001 });
      session.close();
      return { changed, step, forecast, widths, faster, weak };
    },
    [FIXED, DATA] as const,
  );
  const { forecast: foreseen, ...changed } = result.changed;
  expect(changed).toEqual({ applied: ['lr', 'keep'].sort(), onReset: ['batch'] });
  expect(foreseen).toEqual(result.forecast);
  expect(result.step.lr).toBe(0.01);
  expect(result.widths).toEqual({ conv1: [8, 4], conv2: [16, 8] });
  expect(result.forecast.verdict).toBe('enough');
  expect(result.faster.forecast!.verdict).toBe('enough');
  expect(result.faster.forecast!.strength).toBeLessThan(result.forecast.strength);
  expect(result.faster.forecast!.curve.at(-1)![0]).toBe(400);
  expect(result.weak.forecast!.verdict).toBe('insufficient');
  expect(result.weak.forecast!.sentence).toMatch(/only [\d.]+ times smaller, and [\d.]+ (thousand|million) times are needed: .* Strength [\d.]+ would do/);
  expect(result.forecast.sentence).toMatch(/differences will be \d+ (million|billion) times smaller/);
});

test('checkpoints go from the browser to the command line and back', async ({ client }) => {
  const saved = await client.evaluate(
    async ([settings, dataUrl]) => {
      const session = await window.centripetal.Session.open({ device: 'cpu', dataUrl });
      await session.useEmbedded();
      await session.reset(settings);
      await session.step(120);
      const evaluation = await session.evaluate();
      const bytes = [...(await session.save('base'))];
      session.close();
      return { evaluation, bytes };
    },
    [FIXED, DATA] as const,
  );
  const dir = mkdtempSync(join(tmpdir(), 'centripetal-'));
  const file = join(dir, 'page.safetensors');
  writeFileSync(file, Uint8Array.from(saved.bytes));
  const evaluated = JSON.parse(native('centripetal', 'eval', file, '--data', 'embedded', '--device', 'cpu', '--json'));
  expect(evaluated.samples).toBe(1000);
  expect(evaluated.accuracy).toBe(saved.evaluation.accuracy);
  expect(Math.abs(evaluated.loss - saved.evaluation.loss)).toBeLessThan(1e-5);

  const out = join(dir, 'native');
  const train = ['train', 'lenet', '--data', 'embedded', '--epochs', '1', '--batch', '50', '--device', 'cpu', '--out', out, '--json'];
  native('centripetal', ...train);
  native('centripetal', 'prune', join(out, 'base.safetensors'), '--data', 'embedded', '--epochs', '4', '--batch', '50', '--device', 'cpu', '--json');
  for (const [name, phase] of [['base', 'base'], ['wide', 'centripetal'], ['slim', 'cut']] as const) {
    const path = join(out, `${name}.safetensors`);
    const expected = JSON.parse(native('centripetal', 'eval', path, '--data', 'embedded', '--device', 'cpu', '--json'));
    const loaded = await client.evaluate(
      async ([bytes, dataUrl]) => {
        const session = await window.centripetal.Session.open({ device: 'cpu', dataUrl });
        await session.useEmbedded();
        const loaded = await session.load('native.safetensors', Uint8Array.from(bytes).buffer);
        const evaluation = await session.evaluate();
        const step = await session.step(1);
        session.close();
        return { ...loaded, evaluation, step };
      },
      [[...readFileSync(path)], DATA] as const,
    );
    expect(loaded.phase).toBe(phase);
    expect(loaded.evaluation.accuracy).toBe(expected.accuracy);
    expect(loaded.step.loss).toBeGreaterThan(0);
  }
});

test('goes on after the device is lost, and takes the CPU when it is lost again and again', async ({ client }) => {
  const result = await client.evaluate(async (dataUrl) => {
    const { Session, DEFAULTS } = window.centripetal;
    const session = await Session.open({ dataUrl });
    await session.useEmbedded();
    await session.reset(DEFAULTS);
    const devices: { kind: string; lost?: string }[] = [];
    const errors: string[] = [];
    let steps = 0;
    session.on('device', (device) => devices.push(device));
    session.on('error', ({ message }) => errors.push(message));
    session.on('progress', ({ step }) => (steps = step));
    await session.train();
    const until = async (condition: () => boolean) => {
      while (!condition()) await new Promise((resolve) => setTimeout(resolve, 20));
    };
    await until(() => steps >= 5);
    for (const count of [1, 2, 3]) {
      await session.loseDevice();
      await until(() => devices.length === count);
      steps = 0;
      await until(() => steps > 0);
    }
    await session.pause();
    const evaluation = await session.evaluate();
    session.close();
    return { devices, errors, evaluation };
  }, DATA);
  expect(result.errors).toEqual([]);
  expect(result.devices.map(({ kind }) => kind)).toEqual(['software-gpu', 'software-gpu', 'cpu']);
  for (const { lost } of result.devices) expect(lost).toContain('lost');
  expect(result.evaluation.samples).toBe(1000);
});

test('steps are not lost with the device, and another device takes the network over', async ({ client }) => {
  const result = await client.evaluate(
    async ([settings, dataUrl]) => {
      const session = await window.centripetal.Session.open({ device: 'gpu', dataUrl });
      await session.useEmbedded();
      await session.reset(settings);
      const rest = () => new Promise((resolve) => setTimeout(resolve, 1500));
      const { step: stepped } = await session.step(5);
      await rest();
      await session.loseDevice();
      await rest();
      const { step: afterSteps } = await session.step(1);
      let last = 0;
      const trained = new Promise<void>((resolve) => {
        session.on('progress', ({ step }) => {
          last = step;
          if (step >= 12) resolve();
        });
      });
      await session.train();
      await trained;
      await session.pause();
      await session.loseDevice();
      await rest();
      const paused = last;
      const { step: afterPause } = await session.step(1);
      const before = await session.evaluate();
      const { kind } = await session.use('cpu');
      const after = await session.evaluate();
      const { step: onCpu, loss } = await session.step(1);
      const refused = await session.use('none' as 'cpu').then(() => 'taken', () => 'refused');
      session.close();
      return { stepped, afterSteps, paused, afterPause, before, after, kind, onCpu, loss, refused };
    },
    [FIXED, DATA] as const,
  );
  expect(result).toMatchObject({ stepped: 5, afterSteps: 6, afterPause: result.paused + 1, onCpu: result.paused + 2, kind: 'cpu' });
  expect(result.after.accuracy).toBeCloseTo(result.before.accuracy, 2);
  expect(Math.abs(result.after.loss - result.before.loss)).toBeLessThan(1e-3);
  expect(result.loss).toBeLessThan(3);
});

test('a look is one read-back, and there is none inside a step', async ({ page, folder }) => {
  await countReads(page);
  const problems = watch(page, folder);
  await openHarness(page, folder);
  const result = await page.evaluate(
    async ([settings, dataUrl]) => {
      const session = await window.centripetal.Session.open({ device: 'gpu', dataUrl });
      await session.useEmbedded();
      await session.reset(settings);
      let looks = 0;
      session.on('progress', () => looks++);
      /** Read-backs and looks of `work`, the messages of both having come. */
      const counted = async (work: () => Promise<unknown>) => {
        const rest = () => new Promise((resolve) => setTimeout(resolve, 1000));
        await rest();
        const [reads, seen] = [window.reads, looks];
        await work();
        const counts = { looks: looks - seen, reads: window.reads - reads };
        await rest();
        return { ...counts, after: window.reads - reads - counts.reads };
      };
      const sgd = await counted(() => session.step(30));
      await session.cluster();
      const csgd = await counted(() => session.step(30));
      const filters = await counted(() => session.filtersOf(['conv1', 'conv2', 'fc']));
      session.close();
      return { sgd, csgd, filters };
    },
    [FIXED, DATA] as const,
  );
  for (const { looks, reads, after } of [result.sgd, result.csgd]) {
    expect(looks).toBeGreaterThan(0);
    expect(looks).toBeLessThanOrEqual(30);
    expect(reads).toBe(looks);
    // The state to go back to, once nothing else is to be done.
    expect(after).toBe(1);
  }
  expect(result.filters).toEqual({ looks: 0, reads: 1, after: 0 });
  expect(problems).toEqual([]);
});

test('out of memory on the device is told, and the session goes on', async ({ page, folder }) => {
  // A real GPUOutOfMemoryError: what the session allocates beyond a megabyte is made larger than SwiftShader has.
  await patchWorker(page, `{
    const { requestDevice } = GPUAdapter.prototype;
    GPUAdapter.prototype.requestDevice = function (descriptor) {
      return requestDevice.call(this, { ...descriptor, requiredLimits: { ...descriptor?.requiredLimits, maxBufferSize: this.limits.maxBufferSize } });
    };
    const { createBuffer } = GPUDevice.prototype;
    GPUDevice.prototype.createBuffer = function (descriptor) {
      const size = descriptor.size > 8e6 && descriptor.usage & GPUBufferUsage.STORAGE ? this.limits.maxBufferSize : descriptor.size;
      return createBuffer.call(this, { ...descriptor, size });
    };
  }`);
  await openHarness(page, folder);
  const result = await page.evaluate(
    async ([settings, dataUrl]) => {
      const session = await window.centripetal.Session.open({ device: 'gpu', dataUrl });
      await session.useEmbedded();
      await session.reset(settings);
      await session.step(2);
      const refused = await session.reset({ ...settings, batch: 1000, width: 2 }).then(() => null, ({ kind, message, next }) => ({ kind, message, next }));
      const { step, loss } = await session.step(1);
      session.close();
      return { refused, step, loss };
    },
    [FIXED, DATA] as const,
  );
  expect(result.refused).toMatchObject({ kind: 'out-of-memory', next: expect.stringContaining('smaller batch') });
  expect(result.step).toBe(3);
  expect(result.loss).toBeLessThan(3);
});

test('the pull can take its time, and tells when filters are equal', async ({ client }) => {
  const result = await client.evaluate(
    async ([settings, dataUrl]) => {
      const { EQUAL, Session } = window.centripetal;
      const session = await Session.open({ device: 'cpu', dataUrl });
      await session.useEmbedded();
      await session.reset({ ...settings, width: 0.5, batch: 8, strength: 'auto', collapseSteps: 400 });
      const foreseen = (await session.set({})).forecast!;
      const begun = await session.cluster();
      const seen: { apart: number; deviation: number }[] = [];
      session.on('progress', ({ apart, deviation }) => seen.push({ apart: apart!, deviation: deviation! }));
      const run = async (seconds: number) => {
        const began = performance.now();
        const over = new Promise((resolve) => session.on('paused', resolve));
        await session.train({ seconds });
        await over;
        return (performance.now() - began) / 1000;
      };
      const took = await run(6);
      const looks = seen.length;
      const wide = await session.save('wide');
      const loaded = await session.load('wide.safetensors', wide.slice().buffer as ArrayBuffer);
      await session.reset({ ...settings, width: 0.5, batch: 8, strength: 0.001, collapseSteps: 20 });
      const weak = (await session.set({})).forecast!;
      await session.cluster();
      await run(0);
      const short = seen.at(-1)!;
      await session.set({ collapseSteps: 40 });
      const { step } = await session.step(1);
      session.close();
      return { EQUAL, foreseen, begun, took, looks, end: seen[looks - 1]!, loaded, weak, short, step };
    },
    [FIXED, DATA] as const,
  );
  expect(result.foreseen).toEqual(result.begun.forecast);
  expect(result.took).toBeGreaterThan(5.5);
  expect(result.looks).toBeGreaterThan(10);
  expect(result.begun.apart).toBeGreaterThan(0.1);
  expect(result.end.apart).toBeLessThan(result.EQUAL / 3);
  expect(result.end.deviation).toBeLessThan(1e-8 * result.begun.deviation);
  // A file has no memory of a beginning, but what is equal is seen to be.
  expect(result.loaded).toMatchObject({ phase: 'centripetal', settings: { width: 0.5, batch: 8 }, widths: result.begun.widths });
  expect(result.loaded.apart).toBeLessThan(result.EQUAL / 3);
  expect(result.loaded.forecast!.curve.length).toBeGreaterThan(10);
  expect(result.weak.verdict).not.toBe('enough');
  expect(result.short.apart).toBeGreaterThan(0.05);
  expect(result.step).toBe(21);
});

test('what has no room on the device is refused, and the session goes on', async ({ client }) => {
  const result = await client.evaluate(
    async ([settings, dataUrl]) => {
      const session = await window.centripetal.Session.open({ device: 'gpu', dataUrl });
      let devices = 0;
      session.on('device', () => devices++);
      await session.useEmbedded();
      await session.reset(settings);
      await session.step(2);
      const refused = await session.reset({ ...settings, batch: 5000, width: 8 }).catch(({ kind, message }) => ({ kind, message }));
      const { step } = await session.step(1);
      session.close();
      return { refused, step, devices };
    },
    [FIXED, DATA] as const,
  );
  expect(result.refused).toEqual({
    kind: 'out-of-memory',
    message: expect.stringMatching(/^allocating .*: expected at most 128 MB in one buffer, found \d+ MB\. Take a smaller batch/),
  });
  expect(result).toMatchObject({ step: 3, devices: 0 });
});

test('two sessions at once do not disturb each other', async ({ client }) => {
  const result = await client.evaluate(
    async ([settings, dataUrl]) => {
      const run = async (seed: number): Promise<[number[], number[]]> => {
        // Variants of kernels that are measured twice may be others, and with them the last bits.
        const session = await window.centripetal.Session.open({ dataUrl, autotune: false });
        await session.useEmbedded();
        await session.reset({ ...settings, seed });
        const losses: number[] = [];
        for (let step = 0; step < 5; step++) losses.push((await session.step(1)).loss);
        const weights = [...(await session.filters('conv2')).weights];
        session.close();
        return [losses, weights];
      };
      const together = await Promise.all([run(1), run(2)]);
      return { together, alone: [await run(1), await run(2)] };
    },
    [FIXED, DATA] as const,
  );
  expect(result.together).toEqual(result.alone);
  expect(result.together[0]![0]).not.toEqual(result.together[1]![0]);
  expect(result.together[0]![1]).not.toEqual(result.together[1]![1]);
});

test('files that are no data set, and what else goes wrong, give a sentence and leave the session usable', async ({ client }) => {
  const result = await client.evaluate(
    async ([settings, dataUrl]) => {
      const session = await window.centripetal.Session.open({ device: 'cpu', dataUrl });
      const fails: Record<string, { message: string; kind: string; next: string }> = {};
      const failing = async (name: string, work: () => Promise<unknown>) => {
        try {
          await work();
        } catch (error) {
          const { message, kind, next } = error as { message: string; kind: string; next: string };
          fails[name] = { message, kind, next };
        }
      };
      const bytes = (...values: number[]) => Uint8Array.from(values).buffer as ArrayBuffer;
      const header = (magic: number, ...sizes: number[]) => [0, 0, 8, magic, ...sizes.flatMap((size) => [0, 0, size >> 8, size & 255])];

      await failing('nothing yet', () => session.step(1));
      await failing('no data', () => session.reset(settings));
      await session.useEmbedded();
      await session.reset(settings);
      const before = await session.step(1);
      await failing('text', () => session.useFiles([new File(['hello'], 'notes.txt')]));
      await failing('truncated', () =>
        session.useFiles([
          { name: 'images', bytes: bytes(...header(3, 9, 28, 28), 1, 2, 3) },
          { name: 'labels', bytes: bytes(...header(1, 9), 1, 2, 3, 4, 5, 6, 7, 8, 9) },
        ]));
      const packed = await new Response(
        new Blob([bytes(...header(1, 9), 1, 2, 3)]).stream().pipeThrough(new CompressionStream('gzip')),
      ).arrayBuffer();
      await failing('gzip', () => session.useFiles([{ name: 'labels.gz', bytes: packed.slice(0, -9) }]));
      const huge = new File([new Blob(Array(1024).fill(new Blob([new Uint8Array(1 << 20)])))], 'huge.bin');
      await failing('huge', () => session.useFiles([huge]));
      await failing('picture', () => session.useFiles([new File(['no picture'], 'a/b.png'), new File(['no picture'], 'c/d.png')]));
      await failing('model', () => session.reset({ ...settings, model: 'resnet21' }));
      await failing('batch', () => session.reset({ ...settings, batch: 100_000 }));
      await failing('lr', () => session.set({ lr: -1 }));
      await failing('layer', () => session.filters('conv9'));
      await failing('cut', () => session.cut());
      await failing('l1', () => session.compareL1());
      await failing('slim', () => session.save('slim'));
      await failing('image', () => session.classify(new Float32Array(3)));
      await failing('index', () => session.testImage(1e6));
      await failing('checkpoint', () => session.load('photo.jpg', bytes(1, 2, 3, 4, 5, 6, 7, 8, 9)));
      await failing('time', async () => {
        await session.set({ strength: 'auto', collapseSteps: 3 });
        await session.cluster();
      });
      const good = new TextDecoder('latin1').decode(await session.save('base'));
      const future = Uint8Array.from(good.replace('{\\"version\\":1,', '{\\"version\\":9,'), (c) => c.charCodeAt(0));
      await failing('version', () => session.load('future.safetensors', future.buffer));
      const gone = { ...settings, lr: 1e30 };
      await session.set({ lr: gone.lr });
      const events: string[] = [];
      session.on('error', ({ message }) => events.push(message));
      await new Promise<void>((resolve) => {
        session.on('paused', () => resolve());
        void session.train();
      });
      await session.set({ lr: settings.lr });
      const after = await session.step(1);

      // Four images of another shape: a network for them, and the one before does not fit.
      const other = await session.useFiles([
        { name: 'images', bytes: bytes(...header(3, 12, 8, 8), ...Array(12 * 64).fill(7)) },
        { name: 'labels', bytes: bytes(...header(1, 12), ...Array(12).fill(3)) },
      ]);
      const checkpoint = Uint8Array.from(good, (c) => c.charCodeAt(0));
      await failing('shape', () => session.load('lenet.safetensors', checkpoint.buffer));
      await session.reset({ ...settings, batch: 4 });
      const small = await session.step(1);
      session.close();
      await failing('closed', () => session.step(1));
      return { fails, before, after, other, small, events };
    },
    [FIXED, DATA] as const,
  );
  const expected: Record<string, RegExp> = {
    'nothing yet': /expected a network, found none/,
    'no data': /expected images/,
    text: /^reading notes\.txt: expected the IDX files .* or CIFAR-100, found files of another kind/,
    truncated: /^reading the images of images: /,
    gzip: /^unpacking labels\.gz: expected a sound gzip file/,
    huge: /^reading huge\.bin: expected a data set of at most 512 MB, found 1074 MB/,
    picture: /^reading a\/b\.png, c\/d\.png: expected a picture that the browser can show/,
    model: /expected one of lenet, .*, found resnet21/,
    batch: /at most 5000, the number of training images, found 100000/,
    lr: /learning rate: expected a number over 0, found -1/,
    layer: /found conv9/,
    cut: /expected a network that was clustered, found a base network/,
    l1: /expected a network that was clustered/,
    slim: /expected one that exists/,
    image: /expected 784 numbers/,
    index: /expected a number below 1000, found 1000000/,
    checkpoint: /photo\.jpg/,
    time: /give it more time/,
    version: /future\.safetensors: expected checkpoint version 1, found 9/,
    shape: /expected images of 1x28x28, found 1x8x8/,
    closed: /the session was closed/,
  };
  for (const [name, pattern] of Object.entries(expected)) expect(result.fails[name]?.message, name).toMatch(pattern);
  expect(Object.keys(result.fails).sort()).toEqual(Object.keys(expected).sort());
  expect(result.events[0]).toMatch(/^training, step \d+: expected a finite loss, found NaN or infinity, first in .* The last good state is kept; take a smaller learning rate/);
  expect(result.after.loss).toBeGreaterThan(0);
  expect(result.after.loss).toBeLessThan(10);
  expect(result.other).toMatchObject({ shape: [1, 8, 8], train: 10, test: 2 });
  expect(result.small.images).toBe(4);
});

test('pictures are read as by the command: cut ones are refused, turned ones turned, clear ones lie on white', async ({ client }) => {
  const jpeg = [...readFileSync(join(root, 'tests/pictures/baseline-420.jpg'))];
  const result = await client.evaluate(
    async ([jpeg]) => {
      // EXIF with one entry, the orientation: big-endian.
      const exif = (orientation: number) => [0x4d, 0x4d, 0, 42, 0, 0, 0, 8, 0, 1, 1, 0x12, 0, 3, 0, 0, 0, 1, 0, orientation, 0, 0, 0, 0, 0, 0];
      const withExif = (bytes: number[], orientation: number) => {
        const body = exif(orientation);
        if (bytes[0] === 0xff) return [...bytes.slice(0, 2), 0xff, 0xe1, 0, body.length + 8, 0x45, 0x78, 0x69, 0x66, 0, 0, ...body, ...bytes.slice(2)];
        const covered = [0x65, 0x58, 0x49, 0x66, ...body];
        let sum = 0xffffffff;
        for (const byte of covered) {
          sum ^= byte;
          for (let bit = 0; bit < 8; bit++) sum = (sum >>> 1) ^ (sum & 1 ? 0xedb88320 : 0);
        }
        const word = (n: number) => [n >>> 24, n >>> 16, n >>> 8, n].map((byte) => byte & 255);
        return [...bytes.slice(0, 33), ...word(body.length), ...covered, ...word(~sum >>> 0), ...bytes.slice(33)];
      };
      // Red on the left, blue on the right; or clear.
      const drawn = async (type: string, clear = false) => {
        const canvas = new OffscreenCanvas(32, 32);
        const context = canvas.getContext('2d')!;
        if (!clear) {
          context.fillStyle = '#f00';
          context.fillRect(0, 0, 16, 32);
          context.fillStyle = '#00f';
          context.fillRect(16, 0, 16, 32);
        }
        return [...new Uint8Array(await (await canvas.convertToBlob({ type, quality: 1 })).arrayBuffer())];
      };
      const session = await window.centripetal.Session.open({ device: 'cpu' });
      const file = (path: string, bytes: number[]) => ({ name: path, bytes: new Uint8Array(bytes).buffer });
      const refused = async (name: string, bytes: number[]) => {
        try {
          await session.useFiles([file(`set/a/${name}`, bytes), file('set/b/1.png', await drawn('image/png'))]);
          return 'taken';
        } catch (error) {
          return (error as Error).message;
        }
      };
      const cuts = [];
      for (const part of [jpeg.length >> 1, jpeg.length - 2]) cuts.push(await refused('cut.jpg', jpeg.slice(0, part)));
      const png = await drawn('image/png');
      cuts.push(await refused('cut', png.slice(0, png.length - 4)));
      // The corners of the picture as they are seen, of each orientation, in both formats. The test image is of class a.
      const corners = async (bytes: number[]) => {
        await session.useFiles([file('set/train/a/1', bytes), file('set/train/b/1', png), file('set/test/a/1', bytes)]);
        const { pixels } = await session.testImage(0);
        return [1 * 32 + 1, 1 * 32 + 30, 30 * 32 + 1].map((at) => [0, 1, 2].map((plane) => Math.round(pixels[plane * 1024 + at]!)).join(''));
      };
      const turned = [];
      for (const type of ['image/png', 'image/jpeg']) {
        const bytes = await drawn(type);
        for (let orientation = 1; orientation <= 8; orientation++) turned.push((await corners(withExif(bytes, orientation))).join(' '));
      }
      const clear = await corners(await drawn('image/png', true));
      // The class is the folder below that of the split; hidden folders are nobody's.
      const deep = [file('set/train/a/more/1', png), file('set/train/b/1', png), file('set/train/.trash/b/1', png), file('set/val/b/1', png)];
      const { classes, train, test } = await session.useFiles(deep);
      cuts.push(await session.useFiles([file('set/train/1.png', png), file('set/train/b/1', png)]).then(() => 'taken', (error: Error) => error.message));
      session.close();
      return { cuts, turned, clear, deep: { classes, train, test } };
    },
    [jpeg] as const,
  );
  expect(result.cuts[0]).toMatch(/^reading set\/a\/cut\.jpg: expected a whole picture, found the file is cut short/);
  expect(result.cuts[1]).toMatch(/^reading set\/a\/cut\.jpg: expected a whole picture, found the file is cut short/);
  expect(result.cuts[2]).toMatch(/^reading set\/a\/cut: expected a whole picture, found the file is cut short/);
  const [left, right, up, down] = ['100 001 100', '001 100 001', '100 100 001', '001 001 100'];
  const expected = [left, right, right, left, up, up, down, down];
  expect(result.turned).toEqual([...expected, ...expected]);
  expect(result.cuts[3]).toMatch(/^reading set\/train\/1\.png: expected a picture in the folder of its class/);
  expect(result.deep).toEqual({ classes: ['a', 'b'], train: 2, test: 1 });
  expect(result.clear).toEqual(['111', '111', '111']);
});

test('pictures in folders are a data set', async ({ client }) => {
  const result = await client.evaluate(
    async ([settings]) => {
      const picture = async (path: string, colour: string) => {
        const canvas = new OffscreenCanvas(10, 6);
        const context = canvas.getContext('2d')!;
        context.fillStyle = colour;
        context.fillRect(0, 0, 10, 6);
        const file = new File([await canvas.convertToBlob()], path.split('/').at(-1)!);
        Object.defineProperty(file, 'webkitRelativePath', { value: path });
        return { name: path, bytes: await file.arrayBuffer() };
      };
      const files = [];
      files.push({ name: 'set/.gitkeep', bytes: new ArrayBuffer(0) }, { name: 'set/red/torn.png', bytes: new ArrayBuffer(9) });
      for (let i = 0; i < 12; i++) files.push(await picture(`set/${i % 2 ? 'red' : 'blue'}/${i}.png`, i % 2 ? '#f00' : '#00f'));
      const session = await window.centripetal.Session.open({ device: 'cpu' });
      const data = await session.useFiles(files);
      await session.reset({ ...settings, batch: 5 });
      const test = await session.testImage(0);
      await session.step(20);
      const evaluation = await session.evaluate();
      session.close();
      return { data, evaluation, pixel: [test.pixels[0], test.pixels[2 * 32 * 32], test.label] };
    },
    [FIXED] as const,
  );
  expect(result.data).toMatchObject({ name: 'set', classes: ['blue', 'red'], shape: [3, 32, 32], train: 10, test: 2, skipped: ['set/.gitkeep', 'set/red/torn.png'] });
  expect(result.pixel[result.pixel[2] === 1 ? 0 : 1]).toBe(1);
  expect(result.evaluation.accuracy).toBe(1);
});
