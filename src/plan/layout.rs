//! Where each parameter lives: three arenas of one layout (parameters, gradients, momentum) and one of statistics.

use super::{METRICS_WORDS, Metrics};
use crate::device::{Buffer, BufferSlice, Device, align};
use crate::error::{Error, ErrorKind, Result};
use crate::graph::{Graph, NodeId};
use crate::model::{TensorData, Tensors};
use crate::ops::{ParamKind, ParamSpec};
use crate::sort;

/// A parameter tensor's place in its arena.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Node that owns it.
    pub node: NodeId,
    /// Full PyTorch name.
    pub name: String,
    /// Name within the node, dimensions, kind.
    pub spec: ParamSpec,
    /// First word in the arena, aligned.
    pub offset: usize,
}

impl Entry {
    /// Output channels: rows of the tensor.
    pub fn rows(&self) -> usize {
        self.spec.dims[0]
    }

    /// Numbers in one row: a filter's length, 1 for bias and batch norm.
    pub fn row_len(&self) -> usize {
        self.spec.len() / self.rows().max(1)
    }
}

/// The arenas' layout: weights that decay first, then the other trained tensors; statistics apart.
#[derive(Debug, Clone)]
pub struct Layout {
    trained: Vec<Entry>,
    statistics: Vec<Entry>,
    decayed_words: usize,
    trained_words: usize,
    statistics_words: usize,
}

impl Layout {
    /// The layout of a graph's parameters.
    pub fn new(graph: &Graph) -> Layout {
        let all = graph.parameters();
        let place = |choose: &dyn Fn(ParamKind) -> bool, offset: &mut usize| {
            let mut entries = Vec::new();
            for (node, name, spec) in all.iter().filter(|(_, _, spec)| choose(spec.kind)) {
                entries.push(Entry { node: *node, name: name.clone(), spec: spec.clone(), offset: *offset });
                *offset += align(spec.len());
            }
            entries
        };
        let mut words = 0;
        let mut trained = place(&|kind| kind == ParamKind::Weight, &mut words);
        let decayed_words = words;
        trained.extend(place(&|kind| kind.is_trained() && kind != ParamKind::Weight, &mut words));
        let mut statistics_words = 0;
        let statistics = place(&|kind| !kind.is_trained(), &mut statistics_words);
        Layout { trained, statistics, decayed_words, trained_words: words, statistics_words }
    }

    /// Trained tensors in arena order.
    pub fn trained(&self) -> &[Entry] {
        &self.trained
    }

    /// Running statistics in arena order.
    pub fn statistics(&self) -> &[Entry] {
        &self.statistics
    }

    /// Words at the arena's start that weight decay applies to.
    pub fn decayed_words(&self) -> usize {
        self.decayed_words
    }

    /// Words of the parameter, gradient and momentum arenas.
    pub fn trained_words(&self) -> usize {
        self.trained_words
    }

    /// The entry of a node's tensor called `name`.
    pub(crate) fn entry(&self, node: NodeId, name: &str) -> &Entry {
        let mut entries = self.trained.iter().chain(&self.statistics);
        match entries.find(|entry| entry.node == node && entry.spec.name == name) {
            Some(entry) => entry,
            None => panic!("node {node} has no parameter {name}"),
        }
    }
}

/// A network's parameters, gradients, momentum, statistics and metrics on a device; shared by all its plans.
#[derive(Debug)]
pub struct Arenas {
    layout: Layout,
    parameters: Buffer,
    gradients: Buffer,
    momentum: Buffer,
    statistics: Buffer,
    metrics: Buffer,
}

impl Arenas {
    /// Uploads `tensors` for `graph`; momentum starts at zero.
    ///
    /// # Errors
    /// [`ErrorKind::Checkpoint`] when a tensor is missing or of another shape, [`ErrorKind::Device`] when there is no room.
    pub fn new(device: &Device, graph: &Graph, tensors: &Tensors) -> Result<Arenas> {
        let layout = Layout::new(graph);
        let words = layout.trained_words.max(1);
        let arenas = Arenas {
            parameters: device.buffer("parameters", words)?,
            gradients: device.buffer("gradients", words)?,
            momentum: device.buffer("momentum", words)?,
            statistics: device.buffer("running statistics", layout.statistics_words)?,
            metrics: device.buffer("metrics", METRICS_WORDS)?,
            layout,
        };
        arenas.upload(device, tensors)?;
        Ok(arenas)
    }

    /// Replaces parameters and statistics.
    ///
    /// # Errors
    /// [`ErrorKind::Checkpoint`] when a tensor is missing or of another shape.
    pub fn upload(&self, device: &Device, tensors: &Tensors) -> Result<()> {
        let trained = pack(&self.layout.trained, self.layout.trained_words, tensors)?;
        let statistics = pack(&self.layout.statistics, self.layout.statistics_words, tensors)?;
        device.write(&self.parameters.all(), &trained);
        device.write(&self.statistics.all(), &statistics);
        Ok(())
    }

    /// Replaces the momentum; tensors are named like the parameters.
    ///
    /// # Errors
    /// [`ErrorKind::Checkpoint`] when a tensor is missing or of another shape.
    pub fn upload_momentum(&self, device: &Device, tensors: &Tensors) -> Result<()> {
        let packed = pack(&self.layout.trained, self.layout.trained_words, tensors)?;
        device.write(&self.momentum.all(), &packed);
        Ok(())
    }

    /// Reads parameters and running statistics back.
    ///
    /// # Errors
    /// [`ErrorKind::Device`] when the device failed.
    pub async fn download(&self, device: &Device) -> Result<Tensors> {
        let trained = device.read(&self.parameters.all()).await?;
        let statistics = device.read(&self.statistics.all()).await?;
        let mut tensors = unpack(&self.layout.trained, &trained);
        tensors.extend(unpack(&self.layout.statistics, &statistics));
        Ok(tensors)
    }

    /// Reads the momentum back.
    ///
    /// # Errors
    /// [`ErrorKind::Device`] when the device failed.
    pub async fn download_momentum(&self, device: &Device) -> Result<Tensors> {
        Ok(unpack(&self.layout.trained, &device.read(&self.momentum.all()).await?))
    }

    /// Parameters with running statistics, and momentum, with a single wait.
    ///
    /// # Errors
    /// [`ErrorKind::Device`] when the device failed.
    pub async fn download_all(&self, device: &Device) -> Result<(Tensors, Tensors)> {
        let slices = [&self.parameters, &self.statistics, &self.momentum].map(Buffer::all);
        let words = device.gather_later(&slices).wait().await?;
        let (trained, rest) = words.split_at(slices[0].words());
        let (statistics, momentum) = rest.split_at(slices[1].words());
        let mut tensors = unpack(&self.layout.trained, trained);
        tensors.extend(unpack(&self.layout.statistics, statistics));
        Ok((tensors, unpack(&self.layout.trained, momentum)))
    }

    /// The tensors of these names alone, with a single wait; names that are not there are left out.
    ///
    /// # Errors
    /// [`ErrorKind::Device`] when the device failed.
    pub async fn read(&self, device: &Device, names: &[&str]) -> Result<Tensors> {
        let places = [(&self.layout.trained, &self.parameters), (&self.layout.statistics, &self.statistics)];
        let (mut found, mut slices) = (Vec::new(), Vec::new());
        for (entries, buffer) in places {
            for entry in entries.iter().filter(|entry| names.contains(&entry.name.as_str())) {
                slices.push(self.slice_of(buffer, entry));
                found.push(entry);
            }
        }
        if found.is_empty() {
            return Ok(Tensors::new());
        }
        let words = device.gather_later(&slices).wait().await?;
        let (mut at, mut tensors) = (0, Tensors::new());
        for (entry, slice) in found.into_iter().zip(&slices) {
            let data = words[at..at + slice.words()].to_vec();
            at += slice.words();
            tensors.insert(entry.name.clone(), TensorData { dims: entry.spec.dims.clone(), data });
        }
        Ok(tensors)
    }

    /// Reads the gradients of the last run back.
    ///
    /// # Errors
    /// [`ErrorKind::Device`] when the device failed.
    pub async fn download_gradients(&self, device: &Device) -> Result<Tensors> {
        Ok(unpack(&self.layout.trained, &device.read(&self.gradients.all()).await?))
    }

    /// Sets the sums of loss, correct answers and samples to zero and the step counter to `step`.
    pub fn reset_metrics(&self, device: &Device, step: u32) {
        let mut words = [0u32; METRICS_WORDS];
        words[METRICS_WORDS - 1] = step;
        device.write_u32(&self.metrics.all(), &words);
    }

    /// The metrics from words read off [`Arenas::metrics`].
    pub fn parse_metrics(words: &[f32]) -> Metrics {
        Metrics {
            loss_sum: f64::from(words[0]),
            correct: u64::from(words[1].to_bits()),
            samples: u64::from(words[2].to_bits()),
            bad_step: words[3].to_bits(),
        }
    }

    /// The layout.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Parameters.
    pub fn parameters(&self) -> &Buffer {
        &self.parameters
    }

    /// Gradients.
    pub fn gradients(&self) -> &Buffer {
        &self.gradients
    }

    /// Momentum.
    pub fn momentum(&self) -> &Buffer {
        &self.momentum
    }

    /// Running statistics.
    pub fn statistics(&self) -> &Buffer {
        &self.statistics
    }

    /// Metrics.
    pub fn metrics(&self) -> &Buffer {
        &self.metrics
    }

    pub(crate) fn slice_of(&self, buffer: &Buffer, entry: &Entry) -> BufferSlice {
        buffer.slice(entry.offset, entry.spec.len())
    }
}

fn pack(entries: &[Entry], words: usize, tensors: &Tensors) -> Result<Vec<f32>> {
    let mut packed = vec![0.0; words];
    for entry in entries {
        let fail = |found: String| {
            Error::new(ErrorKind::Checkpoint, format!("loading {}", entry.name))
                .expected(format!("a tensor of shape {:?}", entry.spec.dims))
                .found(found)
                .next("Is this the checkpoint of another architecture, width or class count?")
        };
        let tensor = tensors.get(&entry.name).ok_or_else(|| fail("none".into()))?;
        if tensor.dims != entry.spec.dims {
            return Err(fail(format!("{:?}", tensor.dims)));
        }
        packed[entry.offset..entry.offset + tensor.data.len()].copy_from_slice(&tensor.data);
    }
    Ok(packed)
}

fn unpack(entries: &[Entry], packed: &[f32]) -> Tensors {
    let tensor = |entry: &Entry| TensorData {
        dims: entry.spec.dims.clone(),
        data: packed[entry.offset..entry.offset + entry.spec.len()].to_vec(),
    };
    sort::gather(entries.iter().map(|entry| (entry.name.clone(), tensor(entry))))
}
