//! Turns a graph, a batch size and a mode into buffers and recorded dispatches.

mod fusion;
mod layout;
mod lifetime;
mod recorder;

pub use layout::{Arenas, Entry, Layout};
pub use recorder::{NodeIo, Operand, Recorder, Tensor};

use crate::data::IGNORE;
use crate::device::{Buffer, BufferSlice, CommandList, Device, DeviceKind, GPU_PARALLELISM, align};
use crate::error::Result;
use crate::graph::Graph;
use crate::model::Model;
use crate::ops::softmax_cross_entropy as loss;
use crate::shape::Shape;

/// Multiply-accumulates of one forward pass over a whole network that a software adapter is given to measure variants
/// with: no dispatch then takes a second, whatever the variant.
const TUNING_MACS: u64 = 200_000_000;

/// What a plan computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Batch statistics, loss, gradients of every parameter; running statistics move.
    Train,
    /// Running statistics, loss and logits; nothing else changes.
    Evaluate,
}

/// Bytes a plan takes on the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// Activations and gradients, sharing memory by lifetime.
    pub activations: u64,
    /// What they would take without sharing.
    pub unshared: u64,
    /// The largest of the buffers that they are in.
    pub largest: u64,
}

/// Loss, correct answers and state summed on the device since the last reset.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Metrics {
    /// Sum of the cross-entropy over samples, in nats.
    pub loss_sum: f64,
    /// Samples whose largest logit is the label's.
    pub correct: u64,
    /// Samples counted.
    pub samples: u64,
    /// 1 + the first step whose loss was not finite, or 0: from then on the device refuses to update.
    pub bad_step: u32,
}

/// Words of the metrics buffer: loss sum (f32), correct, samples, bad step (u32), and the step counter.
pub(crate) const METRICS_WORDS: usize = 5;

/// A compiled network: buffers and dispatches for one batch size and mode.
#[derive(Debug)]
pub struct Plan {
    mode: Mode,
    batch: usize,
    commands: CommandList,
    images: Buffer,
    labels: Buffer,
    logits: BufferSlice,
    classes: usize,
    memory: Memory,
    values: Vec<Option<BufferSlice>>,
    shapes: Vec<Shape>,
}

/// Whether every node's output stays readable after a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// Memory is shared by lifetime; only the logits are readable.
    Logits,
    /// Every node runs by itself, and its output has its own memory: for inspection.
    Everything,
}

/// Bytes of the largest of `slots`, which are in words.
fn largest(slots: &[usize]) -> u64 {
    slots.iter().map(|&words| align(words) as u64 * 4).max().unwrap_or(0)
}

impl Plan {
    /// Compiles `graph` for batches of `batch` images on `device`, over the parameters in `arenas`.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Shape`] when the graph's shapes do not fit, [`crate::ErrorKind::Device`] when it is too large.
    pub fn compile(
        device: &Device,
        graph: &Graph,
        arenas: &Arenas,
        batch: usize,
        mode: Mode,
        keep: Keep,
    ) -> Result<Plan> {
        let shapes = graph.shapes()?;
        let classes = shapes[graph.output()].len();
        let images = device.buffer("images", batch * graph.input.len())?;
        let labels = device.buffer("labels", batch)?;
        let mut recorder = Recorder::new(graph, &shapes, arenas.layout(), batch, mode, device.parallelism());
        if keep == Keep::Everything {
            recorder = recorder.without_fusion();
        }
        let image_tensor = recorder.pinned(images.all());
        let label_tensor = recorder.pinned(labels.all());
        let metrics = recorder.pinned(arenas.metrics().all());
        recorder.forward(image_tensor);
        let logits = recorder.value(graph.output());
        loss::record(&mut recorder, logits, label_tensor, metrics, classes);
        recorder.upload_constants(device)?;
        let memory;
        let slots;
        let resolved;
        {
            let keep_tensors: Vec<Tensor> = match keep {
                Keep::Logits => vec![logits],
                Keep::Everything => (0..graph.nodes.len()).map(|id| recorder.value(id)).collect(),
            };
            let plan = lifetime::share(&recorder, &keep_tensors);
            memory = Memory {
                activations: plan.slots.iter().map(|&words| align(words) as u64 * 4).sum(),
                unshared: plan.unshared * 4,
                largest: largest(&plan.slots),
            };
            slots = plan
                .slots
                .iter()
                .enumerate()
                .map(|(i, &words)| device.buffer(&format!("activations {i}"), align(words)))
                .collect::<Result<Vec<_>>>()?;
            resolved = plan.place;
        }
        let place = |tensor: Tensor| recorder.placed(tensor, &resolved, &slots);
        let dispatches = recorder.dispatches(device, arenas, &place);
        let values = (0..graph.nodes.len())
            .map(|id| (keep == Keep::Everything).then(|| place(recorder.value(id))))
            .collect();
        Ok(Plan {
            mode,
            batch,
            logits: place(logits),
            commands: device.record(dispatches)?,
            images,
            labels,
            classes,
            memory,
            values,
            shapes,
        })
    }

    /// Measures on `device` which variants of its kernels are fastest for `graph`, and has [`Plan::compile`] take them from
    /// then on: see [`Device::tune`]. Fewer images than `batch` are run where those would take long. `clock` gives
    /// seconds. Returns how many shape classes were measured: 0 when all are known.
    ///
    /// # Errors
    /// As [`Plan::compile`].
    pub async fn tune(
        device: &Device,
        graph: &Graph,
        batch: usize,
        mode: Mode,
        clock: &dyn Fn() -> f64,
    ) -> Result<usize> {
        let affordable = match device.info().kind {
            DeviceKind::Cpu => return Ok(0),
            DeviceKind::SoftwareGpu => TUNING_MACS,
            DeviceKind::Gpu => 100 * TUNING_MACS,
        };
        let images = (affordable / graph.macs()?.max(1)).clamp(1, batch.max(1) as u64) as usize;
        let model = Model::random(graph.clone(), 0);
        let arenas = Arenas::new(device, graph, &model.tensors)?;
        let plan = Plan::compile(device, graph, &arenas, images, mode, Keep::Logits)?;
        device.tune(plan.commands.dispatches(), clock).await
    }

    /// Memory that a plan would take on a GPU, without making it.
    ///
    /// # Errors
    /// As [`Plan::compile`].
    pub fn memory_of(graph: &Graph, batch: usize, mode: Mode) -> Result<Memory> {
        let shapes = graph.shapes()?;
        let layout = Layout::new(graph);
        let mut recorder = Recorder::new(graph, &shapes, &layout, batch, mode, GPU_PARALLELISM);
        let [images, labels, metrics] =
            [batch * graph.input.len(), batch, METRICS_WORDS].map(|words| recorder.external(words));
        recorder.forward(images);
        let logits = recorder.value(graph.output());
        loss::record(&mut recorder, logits, labels, metrics, shapes[graph.output()].len());
        let plan = lifetime::share(&recorder, &[logits]);
        Ok(Memory {
            activations: plan.slots.iter().map(|&words| align(words) as u64 * 4).sum(),
            unshared: plan.unshared * 4,
            largest: largest(&plan.slots),
        })
    }

    /// Uploads a batch: `images` N*C*H*W, `labels` N (or fewer; the rest is ignored).
    pub fn load(&self, device: &Device, images: &[f32], labels: &[u32]) {
        let known = |&label: &u32| label == IGNORE || (label as usize) < self.classes;
        assert!(
            labels.iter().all(known),
            "a label is not below {}: data is checked when it is opened",
            self.classes
        );
        device.write(&self.images.all(), images);
        device.write_u32(&self.labels.all(), labels);
        if labels.len() < self.batch {
            // The arena's alignment forbids a partial slice here; the whole label row is small.
            let mut padded = vec![IGNORE; self.batch];
            padded[..labels.len()].copy_from_slice(labels);
            device.write_u32(&self.labels.all(), &padded);
        }
    }

    /// The dispatches, to be given to [`Device::run`].
    pub fn commands(&self) -> &CommandList {
        &self.commands
    }

    /// Images per run.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// What it computes.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Bytes on the device.
    pub fn memory(&self) -> Memory {
        self.memory
    }

    /// The logits `[N, classes]` of the last run.
    pub fn logits(&self) -> &BufferSlice {
        &self.logits
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// Node `id`'s output of the last run; only in plans compiled with [`Keep::Everything`].
    pub fn value(&self, id: usize) -> Option<&BufferSlice> {
        self.values[id].as_ref()
    }

    /// The output shape of every node.
    pub fn shapes(&self) -> &[Shape] {
        &self.shapes
    }
}
