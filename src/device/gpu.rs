//! The GPU executor: pipelines, bind groups and one arena of uniforms over wgpu; WebGPU baseline limits only.

use super::{Access, BufferSlice, DeviceInfo, DeviceKind, Dispatch, Kernel, MAX_WORKGROUPS, Shader};
use crate::error::{Error, ErrorKind, Result};
#[cfg(feature = "native")]
use rayon::prelude::*;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};

/// Multiply-adds of one dispatch, and of one submission: more is run in several. A desktop's watchdog ends what keeps the
/// GPU for 2 s; this is 0.4 s at 20 billion a second, a tenth of what an integrated GPU of 2015 can do at most.
const LONGEST: u64 = 1 << 33;

/// After this a GPU that does not answer is given up. Long: a software adapter may be at a large step.
#[cfg(not(target_arch = "wasm32"))]
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(300);

/// Multiply-adds that could be done while a kernel that only moves numbers moves one of them.
const WORK_A_WORD: u64 = 8;

/// Distance of two uniforms in the arena: WebGPU's minUniformBufferOffsetAlignment.
const UNIFORM_STRIDE: u64 = 256;

#[derive(Debug)]
pub(super) struct Gpu {
    device: wgpu::Device,
    queue: wgpu::Queue,
    /// By shader. There are some dozens: looked through, not hashed.
    pipelines: Mutex<Vec<(&'static str, Arc<Pipeline>)>>,
    /// Where pipelines come from and go to, if there is such a thing.
    cache: OnceLock<wgpu::PipelineCache>,
    fault: Arc<Mutex<Option<Error>>>,
    limits: Vec<(&'static str, u64)>,
    longest: AtomicU64,
}

#[derive(Debug)]
struct Pipeline {
    layout: wgpu::BindGroupLayout,
    pipeline: wgpu::ComputePipeline,
}

/// What the GPU needs to run a command list: everything made beforehand.
#[derive(Debug)]
pub(super) struct Commands {
    uniforms: wgpu::Buffer,
    calls: Vec<Call>,
}

#[derive(Debug)]
struct Call {
    pipeline: Arc<Pipeline>,
    bind_group: wgpu::BindGroup,
    workgroups: [u32; 2],
    /// As [`work`] estimates it.
    work: u64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn instance() -> wgpu::Instance {
    wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle())
}

async fn list() -> Vec<wgpu::Adapter> {
    if wgpu::Instance::enabled_backend_features().is_empty() {
        return Vec::new();
    }
    let instance = instance();
    #[cfg(not(target_arch = "wasm32"))]
    let found = instance.enumerate_adapters(wgpu::Backends::all()).await;
    #[cfg(target_arch = "wasm32")]
    let found = instance
        .request_adapter(&wgpu::RequestAdapterOptions {
            power_preference: wgpu::PowerPreference::HighPerformance,
            ..Default::default()
        })
        .await
        .into_iter()
        .collect();
    found
}

fn kind_of(info: &wgpu::AdapterInfo) -> DeviceKind {
    let software = ["llvmpipe", "swiftshader", "microsoft basic render"];
    let name = info.name.to_ascii_lowercase();
    if info.device_type == wgpu::DeviceType::Cpu || software.iter().any(|s| name.contains(s)) {
        DeviceKind::SoftwareGpu
    } else {
        DeviceKind::Gpu
    }
}

fn describe(info: &wgpu::AdapterInfo, reason: &str) -> DeviceInfo {
    DeviceInfo {
        kind: kind_of(info),
        name: info.name.clone(),
        backend: info.backend.to_string(),
        driver: format!("{} {}", info.driver, info.driver_info).trim().to_owned(),
        reason: reason.to_owned(),
    }
}

/// Smaller is better: discrete before integrated before virtual before software.
fn rank(info: &wgpu::AdapterInfo) -> u8 {
    match (kind_of(info), info.device_type) {
        (DeviceKind::SoftwareGpu, _) => 4,
        (_, wgpu::DeviceType::DiscreteGpu) => 0,
        (_, wgpu::DeviceType::IntegratedGpu) => 1,
        (_, wgpu::DeviceType::VirtualGpu) => 2,
        _ => 3,
    }
}

/// Every adapter, in the order that `gpu:N` counts.
pub async fn adapters() -> Vec<DeviceInfo> {
    list().await.iter().map(|adapter| describe(&adapter.get_info(), "listed")).collect()
}

fn no_gpu() -> Error {
    let error = Error::new(ErrorKind::Device, "opening a GPU");
    if cfg!(target_arch = "wasm32") {
        return error.expected("a WebGPU adapter").found("none").next("Use another browser, or --device cpu");
    }
    error
        .expected("a Vulkan, Metal or DX12 adapter")
        .found("none")
        .next("Install a driver (on Debian, `apt-get install mesa-vulkan-drivers` gives a software one), or use --device cpu")
}

impl Gpu {
    /// The best hardware GPU, if there is one.
    pub(super) async fn open_hardware() -> Result<Option<(Gpu, DeviceInfo)>> {
        let best = list().await.into_iter().min_by_key(|adapter| rank(&adapter.get_info()));
        match best {
            Some(adapter) if kind_of(&adapter.get_info()) == DeviceKind::Gpu => {
                Self::from_adapter(&adapter, "the best hardware GPU found").await.map(Some)
            }
            _ => Ok(None),
        }
    }

    /// Adapter `index`, or the best of all.
    pub(super) async fn open(index: Option<usize>) -> Result<(Gpu, DeviceInfo)> {
        let found = list().await;
        match index {
            None => {
                let best = found.iter().min_by_key(|adapter| rank(&adapter.get_info())).ok_or_else(no_gpu)?;
                let reason = match kind_of(&best.get_info()) {
                    DeviceKind::SoftwareGpu => "asked for by --device gpu; the only adapters are software",
                    _ => "asked for by --device gpu; the best adapter found",
                };
                Self::from_adapter(best, reason).await
            }
            Some(_) if found.is_empty() => Err(no_gpu()),
            Some(index) => {
                let adapter = found.get(index).ok_or_else(|| {
                    Error::new(ErrorKind::Argument, format!("opening gpu:{index}"))
                        .expected(format!("a number below {}", found.len()))
                        .found(index)
                        .next("`centripetal devices` lists the adapters and their numbers")
                })?;
                Self::from_adapter(adapter, &format!("asked for by --device gpu:{index}")).await
            }
        }
    }

    async fn from_adapter(adapter: &wgpu::Adapter, reason: &str) -> Result<(Gpu, DeviceInfo)> {
        let info = adapter.get_info();
        let doing = || format!("opening {}", info.name);
        let baseline = wgpu::Limits::default();
        let mut lacking = Vec::new();
        baseline.check_limits_with_fail_fn(&adapter.limits(), false, |name, needed, allowed| {
            lacking.push(format!("{name} {allowed} instead of {needed}"));
        });
        if !lacking.is_empty() {
            return Err(Error::new(ErrorKind::Device, doing())
                .expected("the WebGPU baseline limits")
                .found(lacking.join(", "))
                .next("Use --device cpu"));
        }
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("centripetal"),
            // What some variants use, and what shortens the start; nothing depends on either.
            required_features: adapter.features()
                & (wgpu::Features::SUBGROUP | wgpu::Features::PIPELINE_CACHE),
            required_limits: baseline,
            experimental_features: wgpu::ExperimentalFeatures::disabled(),
            memory_hints: wgpu::MemoryHints::Performance,
            trace: wgpu::Trace::Off,
        };
        let (device, queue) = adapter
            .request_device(&descriptor)
            .await
            .map_err(|error| Error::new(ErrorKind::Device, doing()).found(error).next("Use --device cpu"))?;
        let fault = Arc::new(Mutex::new(None));
        let name = info.name.clone();
        let note = move |fault: &Mutex<Option<Error>>, kind: ErrorKind, what: String, next: &str| {
            lock(fault)
                .get_or_insert_with(|| Error::new(kind, format!("running on {name}")).found(what).next(next));
        };
        let (slot, noted) = (fault.clone(), note.clone());
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| match error {
            wgpu::Error::OutOfMemory { .. } => {
                let next = "Take a smaller --batch, or --device cpu";
                noted(&slot, ErrorKind::OutOfMemory, "out of memory".to_owned(), next);
            }
            other => noted(
                &slot,
                ErrorKind::Device,
                other.to_string(),
                "This is a defect of Centripetal or of the driver; please report it",
            ),
        }));
        let slot = fault.clone();
        device.set_device_lost_callback(move |reason, message| {
            if reason != wgpu::DeviceLostReason::Destroyed || !message.is_empty() {
                note(
                    &slot,
                    ErrorKind::DeviceLost,
                    format!("the device was lost: {message}"),
                    "Run again with --resume, or with --device cpu",
                );
            }
        });
        let described = describe(&info, reason);
        let limits = limits_of(&adapter.limits());
        let longest = AtomicU64::new(LONGEST);
        let (pipelines, cache) = (Mutex::default(), OnceLock::new());
        Ok((Gpu { device, queue, pipelines, cache, fault, limits, longest }, described))
    }

    pub(super) fn limits(&self) -> &[(&'static str, u64)] {
        &self.limits
    }

    pub(super) fn has_subgroups(&self) -> bool {
        self.device.features().contains(wgpu::Features::SUBGROUP)
    }

    pub(super) fn use_pipeline_cache(&self, open: impl FnOnce(&wgpu::Device) -> wgpu::PipelineCache) {
        if self.device.features().contains(wgpu::Features::PIPELINE_CACHE) {
            self.cache.get_or_init(|| open(&self.device));
        }
    }

    pub(super) fn pipeline_cache(&self) -> Option<Vec<u8>> {
        self.cache.get()?.get_data()
    }

    pub(super) fn set_longest(&self, work: u64) {
        self.longest.store(work.max(1), Ordering::Relaxed);
    }

    /// Gives the device up on purpose, as a driver's reset would.
    pub(super) fn destroy(&self) {
        lock(&self.fault).get_or_insert_with(|| {
            Error::new(ErrorKind::DeviceLost, "running on the GPU")
                .found("the device was lost: destroyed on purpose")
                .next("Open another one")
        });
        self.device.destroy();
    }

    pub(super) fn allocate(&self, label: &str, words: usize) -> Result<wgpu::Buffer> {
        let size = words as u64 * 4;
        let limit = self.device.limits().max_storage_buffer_binding_size;
        if size > limit {
            return Err(Error::new(ErrorKind::OutOfMemory, format!("allocating {label}"))
                .expected(format!("at most {} MB in one buffer", limit >> 20))
                .found(format!("{} MB", size >> 20))
                .next("Take a smaller --batch"));
        }
        Ok(self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some(label),
            size,
            usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        }))
    }

    pub(super) fn write(&self, buffer: &wgpu::Buffer, offset: usize, data: &[f32]) {
        self.queue.write_buffer(buffer, offset as u64 * 4, bytemuck::cast_slice(data));
    }

    /// Compiles what `dispatches` need and is not there yet, in parallel natively: a driver may take long over each.
    fn prepare(&self, dispatches: &[Dispatch]) {
        let mut missing: Vec<(&'static Kernel, &'static Shader)> = Vec::new();
        {
            let pipelines = lock(&self.pipelines);
            for dispatch in dispatches {
                let shader = &dispatch.kernel.shaders[dispatch.variant];
                let known = pipelines.iter().any(|(name, _)| *name == shader.name);
                if !known && missing.iter().all(|(_, other)| other.name != shader.name) {
                    missing.push((dispatch.kernel, shader));
                }
            }
        }
        let compile = |(kernel, shader): (&Kernel, &'static Shader)| {
            (shader.name, Arc::new(self.compile(kernel, shader)))
        };
        #[cfg(feature = "native")]
        let compiled: Vec<_> = missing.into_par_iter().map(compile).collect();
        #[cfg(not(feature = "native"))]
        let compiled: Vec<_> = missing.into_iter().map(compile).collect();
        lock(&self.pipelines).extend(compiled);
    }

    fn pipeline(&self, kernel: &'static Kernel, shader: &Shader) -> Arc<Pipeline> {
        let mut pipelines = lock(&self.pipelines);
        if let Some((_, known)) = pipelines.iter().find(|(name, _)| *name == shader.name) {
            return Arc::clone(known);
        }
        let compiled = Arc::new(self.compile(kernel, shader));
        pipelines.push((shader.name, Arc::clone(&compiled)));
        compiled
    }

    fn compile(&self, kernel: &Kernel, shader: &Shader) -> Pipeline {
        let entry = |binding: u32, ty: wgpu::BufferBindingType| wgpu::BindGroupLayoutEntry {
            binding,
            visibility: wgpu::ShaderStages::COMPUTE,
            ty: wgpu::BindingType::Buffer { ty, has_dynamic_offset: false, min_binding_size: None },
            count: None,
        };
        let storage = kernel.bindings.iter().zip(1..).map(|(binding, index)| {
            entry(index, wgpu::BufferBindingType::Storage { read_only: binding.access == Access::Read })
        });
        let entries: Vec<_> =
            std::iter::once(entry(0, wgpu::BufferBindingType::Uniform)).chain(storage).collect();
        let label = Some(shader.name);
        let layout = self
            .device
            .create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label, entries: &entries });
        let module = self.device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label,
            source: wgpu::ShaderSource::Wgsl(shader.wgsl.into()),
        });
        let pipeline_layout = self.device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label,
            bind_group_layouts: &[Some(&layout)],
            immediate_size: 0,
        });
        let pipeline = self.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label,
            layout: Some(&pipeline_layout),
            module: &module,
            entry_point: Some("main"),
            compilation_options: wgpu::PipelineCompilationOptions::default(),
            cache: self.cache.get(),
        });
        Pipeline { layout, pipeline }
    }

    pub(super) fn record(&self, dispatches: &[Dispatch]) -> Result<Commands> {
        self.prepare(dispatches);
        let longest = self.longest.load(Ordering::Relaxed);
        let split: Vec<Vec<Part>> =
            dispatches.iter().map(|dispatch| parts(dispatch, longest)).collect::<Result<_>>()?;
        let count = split.iter().map(Vec::len).sum::<usize>().max(1);
        let uniforms = self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("uniforms"),
            size: count as u64 * UNIFORM_STRIDE,
            usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        let mut bytes = vec![0; count * UNIFORM_STRIDE as usize];
        let mut calls = Vec::with_capacity(count);
        // The uniform of dispatch i is slot i, where `set_params` looks for it; further parts have theirs behind.
        let mut further = dispatches.len();
        for (index, (dispatch, parts)) in dispatches.iter().zip(&split).enumerate() {
            for part in parts {
                let slot = if part.first == 0 { index } else { further };
                further += usize::from(part.first > 0);
                let uniform = &mut bytes[slot * UNIFORM_STRIDE as usize..][..dispatch.params.len()];
                uniform.copy_from_slice(&dispatch.params);
                if let Some(field) = first_field(dispatch.kernel) {
                    uniform[4 * field..][..4].copy_from_slice(&part.first.to_le_bytes());
                }
                calls.push(self.call(dispatch, &uniforms, slot as u64 * UNIFORM_STRIDE, part));
            }
        }
        self.queue.write_buffer(&uniforms, 0, &bytes);
        self.check()?;
        Ok(Commands { uniforms, calls })
    }

    fn call(&self, dispatch: &Dispatch, uniforms: &wgpu::Buffer, offset: u64, part: &Part) -> Call {
        let kernel = dispatch.kernel;
        let shader = &kernel.shaders[dispatch.variant];
        let pipeline = self.pipeline(kernel, shader);
        let uniform_size = std::num::NonZeroU64::new((dispatch.params.len() as u64).next_multiple_of(16));
        let mut entries = vec![wgpu::BindGroupEntry {
            binding: 0,
            resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                buffer: uniforms,
                offset,
                size: uniform_size,
            }),
        }];
        for (slice, binding) in dispatch.bindings.iter().zip(1..) {
            entries.push(wgpu::BindGroupEntry { binding, resource: binding_of(slice) });
        }
        let bind_group = self.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some(&dispatch.label),
            layout: &pipeline.layout,
            entries: &entries,
        });
        Call { pipeline, bind_group, workgroups: part.workgroups, work: part.work }
    }

    pub(super) fn set_params(&self, commands: &Commands, index: usize, bytes: &[u8]) {
        self.queue.write_buffer(&commands.uniforms, index as u64 * UNIFORM_STRIDE, bytes);
    }

    /// Runs the lists as one submission, or as several where one would take long.
    pub(super) fn run<'a>(&self, lists: impl Iterator<Item = &'a Commands>) {
        let longest = self.longest.load(Ordering::Relaxed);
        let mut calls = lists.flat_map(|list| &list.calls).peekable();
        loop {
            let mut encoder = self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            {
                let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
                let mut work = 0;
                while let Some(call) = calls.next_if(|call| work == 0 || work + call.work <= longest) {
                    work += call.work;
                    pass.set_pipeline(&call.pipeline.pipeline);
                    pass.set_bind_group(0, &call.bind_group, &[]);
                    pass.dispatch_workgroups(call.workgroups[0], call.workgroups[1], 1);
                }
            }
            self.queue.submit([encoder.finish()]);
            if calls.peek().is_none() {
                return;
            }
        }
    }

    /// Reads parts (buffer, first word, words), one after the other, through one buffer.
    pub(super) fn read<'a>(
        &self,
        parts: impl Iterator<Item = (&'a wgpu::Buffer, usize, usize)> + Clone,
    ) -> PendingMap {
        let bytes = |words: usize| words as u64 * 4;
        let size = parts.clone().map(|(.., len)| bytes(len)).sum();
        let staging = self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("read-back"),
            size,
            usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        let mut encoder = self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        let mut at = 0;
        for (buffer, offset, len) in parts {
            encoder.copy_buffer_to_buffer(buffer, bytes(offset), &staging, at, bytes(len));
            at += bytes(len);
        }
        self.queue.submit([encoder.finish()]);
        let done = Signal::default();
        let signal = done.clone();
        staging.map_async(wgpu::MapMode::Read, .., move |result| {
            signal.set(result.map_err(|error| error.to_string()));
        });
        PendingMap { staging, done, device: self.device.clone(), fault: self.fault.clone() }
    }

    pub(super) async fn finish(&self) -> Result<()> {
        let done = Signal::default();
        let signal = done.clone();
        self.queue.on_submitted_work_done(move || signal.set(Ok(())));
        poll(&self.device)?;
        // The outcome is the device's fault, if any; the signal itself only says that the work is over.
        let _ = done.await;
        self.check()
    }

    /// Forgets a fault that one kernel caused; whether the device goes on.
    pub(super) fn forgive(&self) -> bool {
        let mut fault = lock(&self.fault);
        let lost = fault.as_ref().is_some_and(|error| error.kind() == ErrorKind::DeviceLost);
        if !lost {
            *fault = None;
        }
        !lost
    }

    pub(super) fn fault(&self) -> Option<Error> {
        lock(&self.fault).clone()
    }

    fn check(&self) -> Result<()> {
        self.fault().map_or(Ok(()), Err)
    }
}

/// The limits that decide what fits, by their WebGPU names.
fn limits_of(limits: &wgpu::Limits) -> Vec<(&'static str, u64)> {
    vec![
        ("maxBufferSize", limits.max_buffer_size),
        ("maxStorageBufferBindingSize", limits.max_storage_buffer_binding_size),
        ("maxStorageBuffersPerShaderStage", limits.max_storage_buffers_per_shader_stage.into()),
        ("maxComputeWorkgroupsPerDimension", limits.max_compute_workgroups_per_dimension.into()),
        ("maxComputeInvocationsPerWorkgroup", limits.max_compute_invocations_per_workgroup.into()),
        ("maxComputeWorkgroupStorageSize", limits.max_compute_workgroup_storage_size.into()),
    ]
}

fn binding_of(slice: &BufferSlice) -> wgpu::BindingResource<'_> {
    let super::Memory::Gpu(buffer) = &slice.buffer.memory else {
        panic!("{}: a CPU buffer on the GPU device", slice.buffer.label)
    };
    wgpu::BindingResource::Buffer(wgpu::BufferBinding {
        buffer,
        offset: slice.offset as u64 * 4,
        size: std::num::NonZeroU64::new(slice.len as u64 * 4),
    })
}

/// Folds a linear grid to two dimensions, each within the baseline; `None` when even that does not hold it.
fn fold(workgroups: u64) -> Option<[u32; 2]> {
    let x = workgroups.clamp(1, MAX_WORKGROUPS);
    let y = workgroups.div_ceil(x).max(1);
    (y <= MAX_WORKGROUPS).then_some([x as u32, y as u32])
}

/// A dispatch, or a part of one that would take long by itself.
struct Part {
    /// The workgroup that it begins with.
    first: u32,
    workgroups: [u32; 2],
    work: u64,
}

/// Which field of the uniform says with which workgroup a dispatch begins; kernels that cannot take long have none.
fn first_field(kernel: &Kernel) -> Option<usize> {
    kernel.params.iter().position(|field| field.name == "first")
}

/// Multiply-adds of `dispatch`, or what takes as long.
fn work(dispatch: &Dispatch) -> u64 {
    let field = |name: &str| {
        let at = dispatch.kernel.params.iter().position(|field| field.name == name)?;
        let word = dispatch.params[4 * at..].first_chunk()?;
        Some(u64::from(u32::from_le_bytes(*word)))
    };
    let words: u64 = dispatch.bindings.iter().map(|slice| slice.len as u64).sum();
    // For each image the outputs, each a sum over channels and taps: convolutions, and linear layers without those.
    let sums = ["n", "k", "p", "q", "c", "r", "s"].iter().try_fold(1u64, |product, name| {
        let side = field(name).or(matches!(*name, "p" | "q" | "r" | "s").then_some(1))?;
        product.checked_mul(side)
    });
    let sums = sums.filter(|_| first_field(dispatch.kernel).is_some()).unwrap_or(0);
    (sums / field("groups").unwrap_or(1).max(1)).max(words * WORK_A_WORD)
}

/// `dispatch` in parts of at most about `longest` multiply-adds, if its kernel can be split.
fn parts(dispatch: &Dispatch, longest: u64) -> Result<Vec<Part>> {
    let shader = &dispatch.kernel.shaders[dispatch.variant];
    let total = (shader.workgroups)(&dispatch.params);
    let work = work(dispatch);
    let wanted = if first_field(dispatch.kernel).is_some() { work.div_ceil(longest) } else { 1 };
    split(total, wanted, work).ok_or_else(|| {
        Error::new(ErrorKind::Device, format!("preparing {} of {}", dispatch.kernel.name, dispatch.label))
            .found("more workgroups than a dispatch can have")
            .next("Take a smaller --batch")
    })
}

/// `total` workgroups in about `wanted` parts that share `work`; `None` when a grid cannot hold them.
fn split(total: u64, wanted: u64, work: u64) -> Option<Vec<Part>> {
    let mut each = total.div_ceil(wanted.max(1)).max(1);
    if each > MAX_WORKGROUPS {
        // Then folding leaves no workgroup over, which would compute again what belongs to the next part.
        each = each.next_multiple_of(MAX_WORKGROUPS);
    }
    let mut parts = Vec::new();
    let mut first = 0;
    loop {
        let workgroups = each.min(total - first);
        parts.push(Part { first: first.try_into().ok()?, workgroups: fold(workgroups)?, work: 0 });
        first += workgroups;
        if first >= total {
            break;
        }
    }
    let share = work / parts.len() as u64;
    parts.iter_mut().for_each(|part| part.work = share);
    Some(parts)
}

/// Lets callbacks run.
#[cfg(target_arch = "wasm32")]
fn poll(_: &wgpu::Device) -> Result<()> {
    // In a browser the event loop does that, and nothing may wait.
    Ok(())
}

/// Lets callbacks run.
#[cfg(not(target_arch = "wasm32"))]
fn poll(device: &wgpu::Device) -> Result<()> {
    poll_for(device, PATIENCE)
}

/// Lets callbacks run, for which the GPU must have answered within `patience`.
#[cfg(not(target_arch = "wasm32"))]
fn poll_for(device: &wgpu::Device, patience: std::time::Duration) -> Result<()> {
    let error = |kind| Error::new(kind, "waiting for the GPU");
    match device.poll(wgpu::PollType::Wait { submission_index: None, timeout: Some(patience) }) {
        Ok(_) => Ok(()),
        Err(wgpu::PollError::Timeout) => Err(error(ErrorKind::DeviceLost)
            .expected(format!("an answer within {} s", patience.as_secs()))
            .found("none: it hangs, or has far too much to do")
            .next("Run again with --resume, with a smaller --batch, or with --device cpu")),
        Err(failure) => Err(error(ErrorKind::Device).found(failure)),
    }
}

/// A buffer being mapped.
#[derive(Debug)]
pub(super) struct PendingMap {
    staging: wgpu::Buffer,
    done: Signal,
    device: wgpu::Device,
    fault: Arc<Mutex<Option<Error>>>,
}

impl PendingMap {
    pub(super) async fn wait(self) -> Result<Vec<f32>> {
        let polled = poll(&self.device);
        if let Some(fault) = lock(&self.fault).clone() {
            return Err(fault);
        }
        polled?;
        let failed = |why: String| Error::new(ErrorKind::Device, "reading back from the GPU").found(why);
        let done = self.done.await;
        if let Some(fault) = lock(&self.fault).clone() {
            return Err(fault);
        }
        done.map_err(failed)?;
        let view = self.staging.get_mapped_range(..).map_err(|error| failed(error.to_string()))?;
        Ok(bytemuck::pod_collect_to_vec(&view))
    }
}

/// A future set once from a callback.
#[derive(Debug, Clone, Default)]
struct Signal(Arc<Mutex<SignalState>>);

#[derive(Debug, Default)]
struct SignalState {
    outcome: Option<std::result::Result<(), String>>,
    waker: Option<Waker>,
}

impl Signal {
    fn set(&self, outcome: std::result::Result<(), String>) {
        let mut state = lock(&self.0);
        state.outcome = Some(outcome);
        if let Some(waker) = state.waker.take() {
            waker.wake();
        }
    }
}

impl Future for Signal {
    type Output = std::result::Result<(), String>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = lock(&self.0);
        match state.outcome.take() {
            Some(outcome) => Poll::Ready(outcome),
            None => {
                state.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{fold, split};

    #[test]
    fn long_dispatches_are_split_without_gap_or_overlap() {
        for (total, wanted) in
            [(0, 1), (1, 5), (10, 3), (65_535, 1), (70_000, 1), (70_000, 2), (400_000, 3), (9, 9)]
        {
            let parts = split(total, wanted, 1000).expect("fits");
            assert!(parts.len() as u64 <= wanted.max(1), "{total} in {wanted}");
            let mut next = 0;
            for part in &parts {
                assert_eq!(u64::from(part.first), next);
                let [x, y] = part.workgroups.map(u64::from);
                next += x * y;
            }
            // The last may be folded with some over, as a dispatch that is not split.
            assert!(next >= total && next < total.max(1) + 65_535, "{total} in {wanted}: {next}");
        }
        assert!(split(u64::MAX, 1, 1).is_none());
    }

    #[test]
    fn grids_fold_within_the_baseline() {
        assert_eq!(fold(0), Some([1, 1]));
        assert_eq!(fold(65_535), Some([65_535, 1]));
        assert_eq!(fold(65_536), Some([65_535, 2]));
        assert_eq!(fold(u64::MAX), None);
    }
}
