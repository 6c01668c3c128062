//! The GPU executor: pipelines, bind groups and one arena of uniforms over wgpu; WebGPU baseline limits only.

use super::{Access, BufferSlice, DeviceInfo, DeviceKind, Dispatch, Kernel, MAX_WORKGROUPS, Shader};
use crate::error::{Error, ErrorKind, Result};
#[cfg(feature = "native")]
use rayon::prelude::*;
use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// Distance of two uniforms in the arena: WebGPU's minUniformBufferOffsetAlignment.
const UNIFORM_STRIDE: u64 = 256;

#[derive(Debug)]
pub(super) struct Gpu {
    device: wgpu::Device,
    queue: wgpu::Queue,
    pipelines: Mutex<HashMap<&'static str, Arc<Pipeline>>>,
    fault: Arc<Mutex<Option<Error>>>,
    limits: Vec<(&'static str, u64)>,
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
    let name = info.name.to_lowercase();
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
            required_features: wgpu::Features::empty(),
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
        Ok((Gpu { device, queue, pipelines: Mutex::default(), fault, limits }, described))
    }

    pub(super) fn limits(&self) -> &[(&'static str, u64)] {
        &self.limits
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
                let known = pipelines.contains_key(shader.name);
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
        lock(&self.pipelines)
            .entry(shader.name)
            .or_insert_with(|| Arc::new(self.compile(kernel, shader)))
            .clone()
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
            cache: None,
        });
        Pipeline { layout, pipeline }
    }

    pub(super) fn record(&self, dispatches: &[Dispatch]) -> Result<Commands> {
        self.prepare(dispatches);
        let uniforms = self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("uniforms"),
            size: (dispatches.len().max(1) as u64) * UNIFORM_STRIDE,
            usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        let mut bytes = vec![0; dispatches.len() * UNIFORM_STRIDE as usize];
        let mut calls = Vec::with_capacity(dispatches.len());
        for (dispatch, slot) in dispatches.iter().zip(bytes.chunks_exact_mut(UNIFORM_STRIDE as usize)) {
            slot[..dispatch.params.len()].copy_from_slice(&dispatch.params);
            let offset = calls.len() as u64 * UNIFORM_STRIDE;
            calls.push(self.call(dispatch, &uniforms, offset)?);
        }
        self.queue.write_buffer(&uniforms, 0, &bytes);
        self.check()?;
        Ok(Commands { uniforms, calls })
    }

    fn call(&self, dispatch: &Dispatch, uniforms: &wgpu::Buffer, offset: u64) -> Result<Call> {
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
        let workgroups = fold((shader.workgroups)(&dispatch.params)).ok_or_else(|| {
            Error::new(ErrorKind::Device, format!("preparing {} of {}", kernel.name, dispatch.label))
                .found("more workgroups than a dispatch can have")
                .next("Take a smaller --batch")
        })?;
        Ok(Call { pipeline, bind_group, workgroups })
    }

    pub(super) fn set_params(&self, commands: &Commands, index: usize, bytes: &[u8]) {
        self.queue.write_buffer(&commands.uniforms, index as u64 * UNIFORM_STRIDE, bytes);
    }

    pub(super) fn run<'a>(&self, lists: impl Iterator<Item = &'a Commands>) {
        let mut encoder = self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        {
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            for call in lists.flat_map(|list| &list.calls) {
                pass.set_pipeline(&call.pipeline.pipeline);
                pass.set_bind_group(0, &call.bind_group, &[]);
                pass.dispatch_workgroups(call.workgroups[0], call.workgroups[1], 1);
            }
        }
        self.queue.submit([encoder.finish()]);
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

/// Lets callbacks run.
#[cfg(target_arch = "wasm32")]
fn poll(_: &wgpu::Device) -> Result<()> {
    // In a browser the event loop does that, and nothing may wait.
    Ok(())
}

/// Lets callbacks run.
#[cfg(not(target_arch = "wasm32"))]
fn poll(device: &wgpu::Device) -> Result<()> {
    match device.poll(wgpu::PollType::wait_indefinitely()) {
        Ok(_) => Ok(()),
        Err(error) => Err(Error::new(ErrorKind::Device, "waiting for the GPU").found(error)),
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
    use super::fold;

    #[test]
    fn grids_fold_within_the_baseline() {
        assert_eq!(fold(0), Some([1, 1]));
        assert_eq!(fold(65_535), Some([65_535, 1]));
        assert_eq!(fold(65_536), Some([65_535, 2]));
        assert_eq!(fold(u64::MAX), None);
    }
}
