/** One WebGPU device, asked for anew when it was lost. Only what WebGPU promises everywhere is used. */

import type { Adapter, Job, Result } from './gpu.ts';

/** Where `module/src/wgsl.rs` puts the flag of ended loops. */
const FLAG_BINDING = 15;

let device: Promise<GPUDevice> | undefined;

/** The device; blocks that ask at the same time get the same one. */
function open(): Promise<GPUDevice> {
  if (device) return device;
  const opening = request();
  const forget = () => {
    if (device !== opening) return;
    device = undefined;
    cache = new Map();
  };
  opening.then(({ lost }) => lost.then(forget), forget);
  return (device = opening);
}

async function request(): Promise<GPUDevice> {
  const found = await navigator.gpu?.requestAdapter();
  if (!found) throw new Error('This browser offers no WebGPU adapter.');
  return found.requestDevice();
}

async function look(): Promise<Adapter | null> {
  const found = await navigator.gpu?.requestAdapter().catch(() => null);
  if (!found) return null;
  // Older browsers tell nothing of the adapter.
  const { vendor, architecture, description, isFallbackAdapter } = found.info ?? ({} as Partial<GPUAdapterInfo>);
  const name = [description || vendor, architecture].filter(Boolean).join(' ');
  return { name: name || 'a GPU', software: Boolean(isFallbackAdapter) || /swiftshader|llvmpipe|lavapipe/i.test(name) };
}

async function run(job: Job): Promise<Result> {
  const gpu = await open();
  const lost = gpu.lost.then(({ message }) => {
    throw new Error(`The GPU was lost (${message || 'no reason given'}). The next run takes a new one: run again.`);
  });
  return Promise.race([compute(gpu, job), lost]);
}

interface Compiled {
  pipeline: GPUComputePipeline;
  layout: GPUBindGroupLayout;
}

/** Pipelines made before: the cases of a check, and the runs of a measurement, share one. */
let cache = new Map<string, Compiled>();
const CACHED = 16;

async function compiled(gpu: GPUDevice, wgsl: string, writes: boolean[], guarded: boolean): Promise<Compiled> {
  const key = `${writes.join()} ${guarded}\n${wgsl}`;
  const known = cache.get(key);
  if (known) return known;
  const module = gpu.createShaderModule({ code: wgsl });
  const entry = (binding: number, type: GPUBufferBindingType): GPUBindGroupLayoutEntry => ({
    binding, visibility: GPUShaderStage.COMPUTE, buffer: { type },
  });
  const entries = [entry(0, 'uniform'), ...writes.map((write, i) => entry(i + 1, write ? 'storage' : 'read-only-storage'))];
  if (guarded) entries.push(entry(FLAG_BINDING, 'storage'));
  const layout = gpu.createBindGroupLayout({ entries });
  const { messages } = await module.getCompilationInfo();
  const refused = messages.find(({ type }) => type === 'error');
  if (refused) throw new Error(`The browser's compiler refuses line ${refused.lineNum}: ${refused.message}`);
  const pipeline = await gpu
    .createComputePipelineAsync({ layout: gpu.createPipelineLayout({ bindGroupLayouts: [layout] }), compute: { module, entryPoint: 'main' } })
    .catch((error: Error) => {
      throw new Error(`The browser cannot make a pipeline of this: ${error.message}`);
    });
  if (cache.size >= CACHED) cache.delete(cache.keys().next().value!);
  cache.set(key, { pipeline, layout });
  return { pipeline, layout };
}

async function compute(gpu: GPUDevice, { wgsl, buffers, words, workgroups, repeat, guarded }: Job): Promise<Result> {
  gpu.pushErrorScope('validation');
  gpu.pushErrorScope('out-of-memory');
  const made: GPUBuffer[] = [];
  let failed = false;
  try {
    const { pipeline, layout } = await compiled(gpu, wgsl, buffers.map(({ write }) => write), guarded);

    const filled = (bytes: ArrayBuffer, usage: number) => {
      const buffer = gpu.createBuffer({ size: Math.max(16, Math.ceil(bytes.byteLength / 16) * 16), usage: usage | GPUBufferUsage.COPY_DST });
      gpu.queue.writeBuffer(buffer, 0, bytes);
      made.push(buffer);
      return buffer;
    };
    const uniform = filled(new Uint32Array(words).buffer, GPUBufferUsage.UNIFORM);
    const storage = buffers.map(({ data }) => filled(data.slice().buffer, GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC));
    const flag = filled(new ArrayBuffer(16), GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC);
    // Only as much as there is data, so that arrayLength() is right.
    const bound = [uniform, ...storage].map((buffer, i) => ({
      binding: i, resource: { buffer, size: i === 0 ? Math.max(4 * words.length, 4) : Math.max(4, buffers[i - 1]!.data.byteLength) },
    }));
    if (guarded) bound.push({ binding: FLAG_BINDING, resource: { buffer: flag, size: 16 } });
    const group = gpu.createBindGroup({ layout, entries: bound });
    const [x, y] = workgroups <= 65_535 ? [workgroups, 1] : [65_535, Math.ceil(workgroups / 65_535)];

    await gpu.queue.onSubmittedWorkDone();
    const before = performance.now();
    const encoder = gpu.createCommandEncoder();
    const pass = encoder.beginComputePass();
    pass.setPipeline(pipeline);
    pass.setBindGroup(0, group);
    for (let i = 0; i < repeat; i++) pass.dispatchWorkgroups(x, y);
    pass.end();
    gpu.queue.submit([encoder.finish()]);
    await gpu.queue.onSubmittedWorkDone();
    const milliseconds = performance.now() - before;

    const reading = gpu.createCommandEncoder();
    const wanted = [...storage.filter((_, i) => buffers[i]!.write), flag];
    const copies = wanted.map((buffer) => {
      const copy = gpu.createBuffer({ size: buffer.size, usage: GPUBufferUsage.COPY_DST | GPUBufferUsage.MAP_READ });
      reading.copyBufferToBuffer(buffer, 0, copy, 0, buffer.size);
      made.push(copy);
      return copy;
    });
    gpu.queue.submit([reading.finish()]);
    await Promise.all(copies.map((copy) => copy.mapAsync(GPUMapMode.READ)));
    const read = copies.map((copy) => copy.getMappedRange().slice(0));
    const stopped = new Uint32Array(read.pop()!)[0] !== 0;
    const lengths = buffers.filter(({ write }) => write).map(({ data }) => data.length);
    const outputs = read.map((bytes, i) => new Float32Array(bytes, 0, lengths[i]!));
    return { outputs, stopped, milliseconds };
  } catch (error) {
    failed = true;
    throw error;
  } finally {
    const errors = await Promise.all([gpu.popErrorScope(), gpu.popErrorScope()]).catch(() => []);
    for (const buffer of made) buffer.destroy();
    const error = errors.find(Boolean);
    // What was thrown already says more.
    if (error && !failed) throw new Error(`WebGPU refused it: ${error.message}`);
  }
}

self.onmessage = async ({ data: { id, job, look: asked, lose } }) => {
  try {
    if (lose) {
      (await open()).destroy();
      postMessage({ id, result: null });
    } else {
      postMessage({ id, result: asked ? await look() : await run(job as Job) });
    }
  } catch (error) {
    postMessage({ id, error: (error as Error).message });
  }
};
