//! Where dispatches run: a GPU through wgpu, or the CPU twins. One interface, two executors.

mod cpu;
mod gpu;
mod kernel;
pub mod simd;
mod tuning;

pub use cpu::CpuPath;
pub use gpu::adapters;
pub use kernel::{
    Access, Args, Binding, Field, Kernel, MAX_BINDINGS, MAX_WORKGROUPS, Params, Shader, Twin, params_of,
    read, write,
};

#[cfg(target_arch = "wasm32")]
pub(crate) use kernel::bare;
pub(crate) use kernel::wgsl;
pub use tuning::Tuning;

use crate::error::{Error, ErrorKind, Result};
use serde::Serialize;
use std::str::FromStr;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Offsets of bound ranges are multiples of this many 4-byte words (WebGPU: 256 bytes).
pub const ALIGNMENT: usize = 64;

/// [`Device::parallelism`] of a GPU. A constant, for it decides the order of sums: the same on every GPU.
pub(crate) const GPU_PARALLELISM: usize = 8192;

/// `words` rounded up to [`ALIGNMENT`].
pub const fn align(words: usize) -> usize {
    words.next_multiple_of(ALIGNMENT)
}

/// Which device a user asks for: `auto`, `cpu`, `gpu` or `gpu:N`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeviceChoice {
    /// A hardware GPU if there is one, else the CPU.
    #[default]
    Auto,
    /// The CPU twins.
    Cpu,
    /// The best adapter, software adapters included.
    Gpu,
    /// Adapter `N` of the list that [`adapters`] gives.
    GpuIndex(usize),
}

impl FromStr for DeviceChoice {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "auto" => Ok(DeviceChoice::Auto),
            "cpu" => Ok(DeviceChoice::Cpu),
            "gpu" => Ok(DeviceChoice::Gpu),
            _ => {
                text.strip_prefix("gpu:").and_then(|n| n.parse().ok()).map(DeviceChoice::GpuIndex).ok_or_else(
                    || {
                        Error::new(ErrorKind::Argument, "choosing a device")
                            .expected("auto, cpu, gpu or gpu:N")
                            .found(text)
                            .next("`centripetal devices` lists the adapters and their numbers")
                    },
                )
            }
        }
    }
}

/// What sort of machine a device is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeviceKind {
    /// This process's own CPU threads.
    Cpu,
    /// A hardware GPU.
    Gpu,
    /// A GPU interface computed by the CPU: lavapipe, SwiftShader, WARP.
    SoftwareGpu,
}

/// A device as told to people.
#[derive(Debug, Clone, Serialize)]
pub struct DeviceInfo {
    /// What sort of machine.
    pub kind: DeviceKind,
    /// The adapter's or the CPU path's name.
    pub name: String,
    /// `vulkan`, `metal`, `dx12`, `webgpu` or `cpu`.
    pub backend: String,
    /// Driver name and version, or the CPU's vector instructions.
    pub driver: String,
    /// Why this one was taken.
    pub reason: String,
}

/// An open device.
#[derive(Debug)]
pub struct Device {
    executor: Executor,
    info: DeviceInfo,
    tuning: Mutex<Tuning>,
}

#[derive(Debug)]
enum Executor {
    Cpu(cpu::Cpu),
    Gpu(Box<gpu::Gpu>),
}

/// Memory on a device, in 4-byte words (f32, or u32 by bit pattern). Clones share it.
#[derive(Debug, Clone)]
pub struct Buffer {
    label: String,
    words: usize,
    memory: Memory,
}

#[derive(Debug, Clone)]
enum Memory {
    Cpu(cpu::Memory),
    Gpu(wgpu::Buffer),
}

impl Buffer {
    /// Length in 4-byte words.
    pub fn words(&self) -> usize {
        self.words
    }

    /// What it holds, for messages.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// All of it.
    pub fn all(&self) -> BufferSlice {
        self.slice(0, self.words)
    }

    /// `len` words from `offset` on, a multiple of [`ALIGNMENT`].
    pub fn slice(&self, offset: usize, len: usize) -> BufferSlice {
        assert!(offset.is_multiple_of(ALIGNMENT), "{}: offset {offset} is not aligned", self.label);
        assert!(offset + len <= self.words, "{}: {offset}+{len} is past its end {}", self.label, self.words);
        BufferSlice { buffer: self.clone(), offset, len }
    }
}

/// A range of a [`Buffer`].
#[derive(Debug, Clone)]
pub struct BufferSlice {
    buffer: Buffer,
    offset: usize,
    len: usize,
}

impl BufferSlice {
    /// Length in 4-byte words.
    pub fn words(&self) -> usize {
        self.len
    }
}

/// One kernel call over bound buffers.
#[derive(Debug, Clone)]
pub struct Dispatch {
    /// What runs.
    pub kernel: &'static Kernel,
    /// Which of [`Kernel::shaders`] a GPU runs.
    pub variant: usize,
    /// Bytes of the uniform.
    pub params: Vec<u8>,
    /// Buffers in the order of [`Kernel::bindings`].
    pub bindings: Vec<BufferSlice>,
    /// The node it belongs to, for messages.
    pub label: String,
}

/// Dispatches made ready to run many times: pipelines, bind groups and uniforms exist.
#[derive(Debug)]
pub struct CommandList {
    dispatches: Vec<Dispatch>,
    gpu: Option<gpu::Commands>,
}

impl CommandList {
    /// Number of dispatches.
    pub fn len(&self) -> usize {
        self.dispatches.len()
    }

    /// Whether there is nothing to run.
    pub fn is_empty(&self) -> bool {
        self.dispatches.is_empty()
    }

    /// The dispatches, for tests and inspection.
    pub fn dispatches(&self) -> &[Dispatch] {
        &self.dispatches
    }
}

/// A read-back under way; see [`Device::read_later`].
#[derive(Debug)]
pub struct PendingRead(PendingKind);

#[derive(Debug)]
enum PendingKind {
    Ready(Vec<f32>),
    Gpu(gpu::PendingMap),
}

impl PendingRead {
    /// The words, once the device has got that far.
    pub async fn wait(self) -> Result<Vec<f32>> {
        match self.0 {
            PendingKind::Ready(words) => Ok(words),
            PendingKind::Gpu(map) => map.wait().await,
        }
    }
}

impl Device {
    /// Opens the device asked for. [`DeviceInfo::reason`] says why this one.
    ///
    /// # Errors
    /// [`ErrorKind::Device`] when a GPU was asked for and there is none, or it lacks the WebGPU baseline.
    pub async fn open(choice: DeviceChoice) -> Result<Device> {
        match choice {
            DeviceChoice::Cpu => Ok(Self::cpu("asked for by --device cpu")),
            DeviceChoice::Auto => match gpu::Gpu::open_hardware().await {
                Ok(Some(opened)) => Ok(Self::from_gpu(opened)),
                Ok(None) => Ok(Self::cpu(
                    "no hardware GPU found (software adapters are used only when asked for by --device gpu)",
                )),
                Err(error) => Ok(Self::cpu(&format!("the GPU could not be used: {error}"))),
            },
            DeviceChoice::Gpu => Ok(Self::from_gpu(gpu::Gpu::open(None).await?)),
            DeviceChoice::GpuIndex(index) => Ok(Self::from_gpu(gpu::Gpu::open(Some(index)).await?)),
        }
    }

    fn new(executor: Executor, info: DeviceInfo) -> Device {
        let tuning = Mutex::new(Tuning::new(&info));
        Device { executor, info, tuning }
    }

    fn from_gpu((gpu, info): (gpu::Gpu, DeviceInfo)) -> Device {
        Self::new(Executor::Gpu(Box::new(gpu)), info)
    }

    fn lock_tuning(&self) -> MutexGuard<'_, Tuning> {
        self.tuning.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The CPU with its fast paths.
    pub fn cpu(reason: &str) -> Device {
        Self::cpu_with(CpuPath::Fast, reason)
    }

    /// The CPU by the chosen path; [`CpuPath::Twins`] runs the plain loops alone.
    pub fn cpu_with(path: CpuPath, reason: &str) -> Device {
        let (cpu, info) = cpu::Cpu::open(path, reason);
        Self::new(Executor::Cpu(cpu), info)
    }

    /// What this device is and why it was chosen.
    pub fn info(&self) -> &DeviceInfo {
        &self.info
    }

    /// What the adapter allows, by WebGPU's names; empty on the CPU. No kernel needs more than the baseline.
    pub fn limits(&self) -> &[(&'static str, u64)] {
        match &self.executor {
            Executor::Cpu(_) => &[],
            Executor::Gpu(gpu) => gpu.limits(),
        }
    }

    /// Whether the device has what `shader` needs beyond the baseline.
    pub fn can_run(&self, shader: &Shader) -> bool {
        match &self.executor {
            Executor::Cpu(_) => true,
            Executor::Gpu(gpu) => !shader.uses_subgroups() || gpu.has_subgroups(),
        }
    }

    /// Why the device can no longer be used, if so: it was lost, ran out of memory or refused a command. Then everything
    /// fails with this error, and another device must be opened.
    pub fn fault(&self) -> Option<Error> {
        match &self.executor {
            Executor::Cpu(_) => None,
            Executor::Gpu(gpu) => gpu.fault(),
        }
    }

    /// Gives a GPU up on purpose, as the reset of a driver would: everything later fails with
    /// [`ErrorKind::DeviceLost`]. For tests of what then happens; nothing on the CPU.
    pub fn destroy(&self) {
        if let Executor::Gpu(gpu) = &self.executor {
            gpu.destroy();
        }
    }

    /// Has pipelines come from, and go into, the cache that `open` makes of wgpu's device. `open` is called where the backend
    /// has such caches (Vulkan), the first time. wgpu's function that loads a kept one is `unsafe`, so its caller answers for
    /// the bytes.
    pub fn use_pipeline_cache(&self, open: impl FnOnce(&wgpu::Device) -> wgpu::PipelineCache) {
        if let Executor::Gpu(gpu) = &self.executor {
            gpu.use_pipeline_cache(open);
        }
    }

    /// The bytes of the cache in use, to be kept for the next start; `None` without one.
    pub fn pipeline_cache(&self) -> Option<Vec<u8>> {
        match &self.executor {
            Executor::Cpu(_) => None,
            Executor::Gpu(gpu) => gpu.pipeline_cache(),
        }
    }

    /// Has what is recorded from now on run in dispatches and submissions of at most about so many multiply-adds, so that no
    /// watchdog takes the GPU for hung. The default suits GPUs of the last ten years; results do not depend on it.
    pub fn set_longest(&self, multiply_adds: u64) {
        if let Executor::Gpu(gpu) = &self.executor {
            gpu.set_longest(multiply_adds);
        }
    }

    /// Invocations that keep the device busy, for kernels that may cut a long sum into parts: 1 on the CPU, whose
    /// kernels spread their work themselves.
    pub fn parallelism(&self) -> usize {
        match &self.executor {
            Executor::Cpu(_) => 1,
            Executor::Gpu(_) => GPU_PARALLELISM,
        }
    }

    /// Memory of `words` 4-byte words, all zero.
    ///
    /// # Errors
    /// [`ErrorKind::Device`] when a single buffer is over the device's limit.
    pub fn buffer(&self, label: &str, words: usize) -> Result<Buffer> {
        let words = words.max(1);
        let memory = match &self.executor {
            Executor::Cpu(_) => Memory::Cpu(cpu::allocate(label, words)?),
            Executor::Gpu(gpu) => Memory::Gpu(gpu.allocate(label, words)?),
        };
        Ok(Buffer { label: label.to_owned(), words, memory })
    }

    /// Copies `data` to the start of `slice`, ordered before everything run later.
    pub fn write(&self, slice: &BufferSlice, data: &[f32]) {
        assert!(
            data.len() <= slice.len,
            "{}: writing {} words over {}",
            slice.buffer.label,
            data.len(),
            slice.len
        );
        match (&self.executor, &slice.buffer.memory) {
            (Executor::Cpu(_), Memory::Cpu(memory)) => cpu::write(memory, slice.offset, data),
            (Executor::Gpu(gpu), Memory::Gpu(buffer)) => gpu.write(buffer, slice.offset, data),
            _ => panic!("{}: a buffer of another device", slice.buffer.label),
        }
    }

    /// Like [`Device::write`], for integers.
    pub fn write_u32(&self, slice: &BufferSlice, data: &[u32]) {
        self.write(slice, bytemuck::cast_slice(data));
    }

    /// Starts a read-back of `slice` as it is after everything run so far; waiting for it can come later.
    pub fn read_later(&self, slice: &BufferSlice) -> PendingRead {
        self.gather_later(std::slice::from_ref(slice))
    }

    /// Like [`Device::read_later`] of several slices, one after the other: one read-back, however many they are.
    pub fn gather_later(&self, slices: &[BufferSlice]) -> PendingRead {
        let foreign =
            |slice: &BufferSlice| -> ! { panic!("{}: a buffer of another device", slice.buffer.label) };
        PendingRead(match &self.executor {
            Executor::Cpu(_) => PendingKind::Ready(
                slices
                    .iter()
                    .flat_map(|slice| match &slice.buffer.memory {
                        Memory::Cpu(memory) => cpu::read(memory, slice.offset, slice.len),
                        Memory::Gpu(_) => foreign(slice),
                    })
                    .collect(),
            ),
            Executor::Gpu(gpu) => {
                PendingKind::Gpu(gpu.read(slices.iter().map(|slice| match &slice.buffer.memory {
                    Memory::Gpu(buffer) => (buffer, slice.offset, slice.len),
                    Memory::Cpu(_) => foreign(slice),
                })))
            }
        })
    }

    /// Reads `slice` back.
    ///
    /// # Errors
    /// [`ErrorKind::Device`] when the device failed at this or at anything before.
    pub async fn read(&self, slice: &BufferSlice) -> Result<Vec<f32>> {
        self.read_later(slice).wait().await
    }

    /// Makes dispatches ready: checks them, creates pipelines and bind groups. Nothing of that happens in [`Device::run`].
    ///
    /// # Errors
    /// [`ErrorKind::Device`] when a binding is larger than the device allows.
    pub fn record(&self, dispatches: Vec<Dispatch>) -> Result<CommandList> {
        for dispatch in &dispatches {
            check_dispatch(dispatch);
        }
        let gpu = match &self.executor {
            Executor::Cpu(_) => None,
            Executor::Gpu(gpu) => Some(gpu.record(&dispatches)?),
        };
        Ok(CommandList { dispatches, gpu })
    }

    /// Replaces the uniform of dispatch `index` from the next run on.
    pub fn set_params(&self, list: &mut CommandList, index: usize, params: &impl Params) {
        let bytes = bytemuck::bytes_of(params);
        list.dispatches[index].params.copy_from_slice(bytes);
        if let (Executor::Gpu(gpu), Some(commands)) = (&self.executor, &list.gpu) {
            gpu.set_params(commands, index, bytes);
        }
    }

    /// Runs the lists in order, as one submission unless that would take long.
    pub fn run(&self, lists: &[&CommandList]) {
        match &self.executor {
            Executor::Cpu(cpu) => {
                // Only what is needed goes to another thread: a recording of the GPU may have to stay.
                let run = |dispatches: &[Dispatch]| dispatches.iter().for_each(|dispatch| cpu.run(dispatch));
                let lists: Vec<&[Dispatch]> = lists.iter().map(|list| &list.dispatches[..]).collect();
                simd::in_pool(|| lists.iter().for_each(|list| run(list)));
            }
            Executor::Gpu(gpu) => gpu.run(lists.iter().filter_map(|list| list.gpu.as_ref())),
        }
    }

    /// Waits until everything run so far is done.
    ///
    /// # Errors
    /// [`ErrorKind::Device`] when the device reported an error or was lost.
    pub async fn finish(&self) -> Result<()> {
        match &self.executor {
            Executor::Cpu(_) => Ok(()),
            Executor::Gpu(gpu) => gpu.finish().await,
        }
    }
}

fn check_dispatch(dispatch: &Dispatch) {
    let kernel = dispatch.kernel;
    assert_eq!(
        dispatch.bindings.len(),
        kernel.bindings.len(),
        "{} ({}): bindings",
        kernel.name,
        dispatch.label
    );
    assert_eq!(
        dispatch.params.len(),
        kernel.params.len() * 4,
        "{} ({}): uniform",
        kernel.name,
        dispatch.label
    );
}
