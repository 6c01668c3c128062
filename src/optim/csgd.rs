//! Centripetal SGD (Ding et al., CVPR 2019, eq. 3; Hao et al., TNNLS 2023): one dispatch over the whole arena.
//!
//! `g'_j = mean_H(g) + eta*w_j + eps*(w_j - mean_H(w))` for filter j of cluster H, then momentum as in SGD. The averaged
//! gradient is the same number for every member, so that a difference between members can only shrink.
//! A cluster of one is plain SGD, bit for bit.
//!
//! # Tables
//! A *segment* is a cluster of rows of one tensor: `[first item, first member, members, row length]`. An *item* is one
//! column of a segment: one invocation averages it over the members and updates them all. *Members* are rows, by their
//! first word in the arena.

use super::sgd::{Direction, SgdConfig, decayed_words, is_poisoned};
use crate::device::simd;
use crate::device::{
    Args, Buffer, BufferSlice, Device, Dispatch, Kernel, Params, Shader, params_of, read, wgsl, write,
};
use crate::error::Result;
use crate::ops::workgroups_of_64;
use crate::params;
use crate::plan::{Arenas, Entry};
use crate::prune::Clusters;

params! {
    /// Uniform of `csgd_step`.
    pub struct CsgdParams {
        /// Items: columns over all segments.
        items: u32,
        /// Segments.
        segments: u32,
        /// Words at the arena's start that weight decay applies to.
        decayed: u32,
        /// 1 for Nesterov's direction.
        nesterov: u32,
        /// Learning rate.
        lr: f32,
        /// mu.
        momentum: f32,
        /// eta.
        weight_decay: f32,
        /// eps, the centripetal strength.
        strength: f32,
    }
}

params! {
    /// Uniform of `cluster_deviation`.
    pub struct DeviationParams {
        /// Segments.
        segments: u32,
    }
}

/// One step of C-SGD; does nothing once a step's loss was not finite.
pub static CSGD_STEP: Kernel = Kernel {
    name: "csgd_step",
    params: CsgdParams::FIELDS,
    bindings: &[
        read("gradients"),
        read("metrics"),
        read("segments"),
        read("members"),
        write("parameters"),
        write("momentum"),
    ],
    shaders: &[Shader {
        name: "csgd_step",
        wgsl: wgsl!("csgd_step"),
        workgroups: |params| workgroups_of_64(params_of::<CsgdParams>(params).items.into()),
    }],
    twin: csgd_step,
    fast: Some(csgd_step_fast),
};

/// Sum of squared distances of each segment's rows from their mean.
pub static CLUSTER_DEVIATION: Kernel = Kernel {
    name: "cluster_deviation",
    params: DeviationParams::FIELDS,
    bindings: &[read("segments"), read("members"), read("rows"), write("deviation")],
    shaders: &[Shader {
        name: "cluster_deviation",
        wgsl: wgsl!("cluster_deviation"),
        workgroups: |params| params_of::<DeviationParams>(params).segments.into(),
    }],
    twin: cluster_deviation,
    fast: Some(cluster_deviation_fast),
};

/// Words of a segment's row in the table.
const SEGMENT_WORDS: usize = 4;

fn csgd_step(args: Args<'_>) {
    let (p, [gradients, metrics, segments, members], [parameters, momentum]) =
        args.unpack::<CsgdParams, 4, 2>();
    if is_poisoned(metrics) {
        return;
    }
    let segments: &[u32] = bytemuck::cast_slice(segments);
    let members: &[u32] = bytemuck::cast_slice(members);
    for segment in segments.chunks_exact(SEGMENT_WORDS).take(p.segments as usize) {
        let rows = &members[segment[1] as usize..][..segment[2] as usize];
        let count = rows.len() as f32;
        for column in 0..segment[3] as usize {
            let (mut gradient, mut mean) = (0.0, 0.0);
            for &row in rows {
                gradient += gradients[row as usize + column];
                mean += parameters[row as usize + column];
            }
            gradient /= count;
            mean /= count;
            for &row in rows {
                let i = row as usize + column;
                let mut g = gradient;
                if i < p.decayed as usize {
                    g += p.weight_decay * parameters[i];
                }
                if rows.len() > 1 {
                    g += p.strength * (parameters[i] - mean);
                }
                let v = p.momentum * momentum[i] + g;
                momentum[i] = v;
                let step = if p.nesterov == 1 { g + p.momentum * v } else { v };
                parameters[i] -= p.lr * step;
            }
        }
    }
}

fn cluster_deviation(args: Args<'_>) {
    let (p, [segments, members, values], [deviation]) = args.unpack::<DeviationParams, 3, 1>();
    let segments: &[u32] = bytemuck::cast_slice(segments);
    let members: &[u32] = bytemuck::cast_slice(members);
    let segments = segments.chunks_exact(SEGMENT_WORDS).take(p.segments as usize);
    for (deviation, segment) in deviation.iter_mut().zip(segments) {
        let rows = &members[segment[1] as usize..][..segment[2] as usize];
        *deviation = 0.0;
        if rows.len() < 2 {
            continue;
        }
        for column in 0..segment[3] as usize {
            let mean: f32 =
                rows.iter().map(|&row| values[row as usize + column]).sum::<f32>() / rows.len() as f32;
            *deviation += rows.iter().map(|&row| (values[row as usize + column] - mean).powi(2)).sum::<f32>();
        }
    }
}

fn csgd_step_fast(args: Args<'_>) {
    let (p, [gradients, metrics, segments, members], [parameters, momentum]) =
        args.unpack::<CsgdParams, 4, 2>();
    if is_poisoned(metrics) {
        return;
    }
    let segments = bytemuck::cast_slice::<f32, u32>(segments).as_chunks::<SEGMENT_WORDS>().0;
    let members = bytemuck::cast_slice(members);
    let update = Update { p, gradients, members };
    update.run(&segments[..p.segments as usize], 0, parameters, momentum);
}

/// A step of C-SGD over the tables.
struct Update<'a> {
    p: CsgdParams,
    gradients: &'a [f32],
    members: &'a [u32],
}

impl Update<'_> {
    fn rows(&self, segment: &[u32; SEGMENT_WORDS]) -> &[u32] {
        &self.members[segment[1] as usize..][..segment[2] as usize]
    }

    /// Updates `segments`, all within the words of the arena from `base` on, halves side by side: tensors lie one behind
    /// the other, as their segments do, so that between two of them both can be cut.
    fn run(&self, segments: &[[u32; SEGMENT_WORDS]], base: usize, w: &mut [f32], v: &mut [f32]) {
        if w.len() > simd::PART && segments.len() > 1 {
            let end = |segment| self.rows(segment).iter().max().map_or(0, |&row| row + segment[3]);
            let start = |segment| self.rows(segment).iter().min().copied().unwrap_or(u32::MAX);
            for cut in segments.len() / 2..segments.len() {
                let (before, after) = segments.split_at(cut);
                // Neighbours of one tensor mostly show at once that this is no place.
                if end(&before[cut - 1]) > start(&after[0]) {
                    continue;
                }
                let middle = after.iter().map(start).min().unwrap_or(u32::MAX);
                if before.iter().map(end).max().is_some_and(|end| end <= middle) {
                    let at = middle as usize - base;
                    let ((w, later_w), (v, later_v)) = (w.split_at_mut(at), v.split_at_mut(at));
                    simd::join(
                        || self.run(before, base, w, v),
                        || self.run(after, middle as usize, later_w, later_v),
                    );
                    return;
                }
            }
        }
        segments.iter().for_each(|segment| self.segment(segment, base, w, v));
    }

    /// Column by column as the twin, but many columns at a time, so that memory is read along the rows.
    fn segment(&self, segment: &[u32; SEGMENT_WORDS], base: usize, w: &mut [f32], v: &mut [f32]) {
        const COLUMNS: usize = 64;
        let (rows, len) = (self.rows(segment), segment[3] as usize);
        let count = rows.len() as f32;
        for first in (0..len).step_by(COLUMNS) {
            let columns = COLUMNS.min(len - first);
            let (mut gradient, mut mean) = ([0.0; COLUMNS], [0.0; COLUMNS]);
            for &row in rows {
                let at = row as usize + first;
                for (sum, g) in gradient.iter_mut().zip(&self.gradients[at..at + columns]) {
                    *sum += g;
                }
                for (sum, w) in mean.iter_mut().zip(&w[at - base..][..columns]) {
                    *sum += w;
                }
            }
            gradient.iter_mut().chain(&mut mean).for_each(|sum| *sum /= count);
            for &row in rows {
                let at = row as usize + first;
                let decayed = (self.p.decayed as usize).saturating_sub(at).min(columns);
                let w = &mut w[at - base..][..columns];
                let v = &mut v[at - base..][..columns];
                let strength = if rows.len() > 1 { self.p.strength } else { 0.0 };
                let (decayed_w, other_w) = w.split_at_mut(decayed);
                let (decayed_v, other_v) = v.split_at_mut(decayed);
                self.columns(&gradient, &mean, strength, self.p.weight_decay, decayed_w, decayed_v);
                self.columns(&gradient[decayed..], &mean[decayed..], strength, 0.0, other_w, other_v);
            }
        }
    }

    fn columns(
        &self,
        gradient: &[f32],
        mean: &[f32],
        strength: f32,
        decay: f32,
        w: &mut [f32],
        v: &mut [f32],
    ) {
        let p = self.p;
        for (((w, v), gradient), mean) in w.iter_mut().zip(v).zip(gradient).zip(mean) {
            // Adding zero times a finite number changes nothing; a weight that is not finite stays so either way.
            let g = gradient + decay * *w + strength * (*w - mean);
            *v = p.momentum * *v + g;
            let step = if p.nesterov == 1 { g + p.momentum * *v } else { *v };
            *w -= p.lr * step;
        }
    }
}

/// The twin segment by segment, spread over the threads.
fn cluster_deviation_fast(args: Args<'_>) {
    const PART: usize = 32;
    let (p, [segments, members, values], [deviation]) = args.unpack::<DeviationParams, 3, 1>();
    simd::for_each_part(&mut deviation[..p.segments as usize], PART, |part, deviation| {
        let segments = &segments[part * PART * SEGMENT_WORDS..][..deviation.len() * SEGMENT_WORDS];
        let params = DeviationParams { segments: deviation.len() as u32 };
        cluster_deviation(Args::of(&params, &[segments, members, values], [deviation]));
    });
}

/// Cluster tables over one arena.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    segments: Vec<u32>,
    members: Vec<u32>,
    items: u32,
    owners: Vec<usize>,
}

impl Table {
    /// The table over `entries`, whose rows are clustered as their nodes' channels are.
    pub fn new(entries: &[Entry], clusters: &Clusters) -> Table {
        let mut table = Table { segments: Vec::new(), members: Vec::new(), items: 0, owners: Vec::new() };
        for (owner, entry) in entries.iter().enumerate() {
            let row_len = entry.row_len();
            match clusters.of_node(entry.node) {
                Some(partition) => {
                    for cluster in partition.clusters() {
                        let rows = cluster.iter().map(|row| (entry.offset + row * row_len) as u32);
                        table.push(owner, rows, row_len);
                    }
                }
                None => table.push(owner, std::iter::once(entry.offset as u32), entry.spec.len()),
            }
        }
        table
    }

    fn push(&mut self, owner: usize, rows: impl Iterator<Item = u32>, row_len: usize) {
        let first_member = self.members.len() as u32;
        self.members.extend(rows);
        let members = self.members.len() as u32 - first_member;
        self.segments.extend([self.items, first_member, members, row_len as u32]);
        self.items += row_len as u32;
        self.owners.push(owner);
    }

    fn len(&self) -> usize {
        self.owners.len()
    }

    fn upload(&self, device: &Device) -> Result<(Buffer, Buffer)> {
        let segments = device.buffer("cluster segments", self.segments.len())?;
        let members = device.buffer("cluster members", self.members.len())?;
        device.write_u32(&segments.all(), &self.segments);
        device.write_u32(&members.all(), &self.members);
        Ok((segments, members))
    }
}

/// The uniform of a step at learning rate `lr`.
pub fn params(config: &SgdConfig, strength: f64, table: &Table, arenas: &Arenas, lr: f64) -> CsgdParams {
    CsgdParams {
        items: table.items,
        segments: table.len() as u32,
        decayed: decayed_words(config, arenas),
        nesterov: u32::from(config.direction == Direction::Nesterov),
        lr: lr as f32,
        momentum: config.momentum as f32,
        weight_decay: config.weight_decay as f32,
        strength: strength as f32,
    }
}

/// The dispatch of a step.
///
/// # Errors
/// [`crate::ErrorKind::Device`] when there is no room for the tables.
pub fn dispatch(
    device: &Device,
    config: &SgdConfig,
    strength: f64,
    table: &Table,
    arenas: &Arenas,
) -> Result<Dispatch> {
    let (segments, members) = table.upload(device)?;
    Ok(Dispatch {
        kernel: &CSGD_STEP,
        params: bytemuck::bytes_of(&params(config, strength, table, arenas, 0.0)).to_vec(),
        bindings: vec![
            arenas.gradients().all(),
            arenas.metrics().all(),
            segments.all(),
            members.all(),
            arenas.parameters().all(),
            arenas.momentum().all(),
        ],
        label: "update".into(),
        variant: 0,
    })
}

/// Measures how far clusters are from collapsed, tensor by tensor.
#[derive(Debug)]
pub struct DeviationMeter {
    tables: [(Table, Buffer); 2],
    dispatches: Vec<Dispatch>,
}

impl DeviationMeter {
    /// A meter of parameters and running statistics.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Device`] when there is no room for the tables.
    pub fn new(device: &Device, arenas: &Arenas, clusters: &Clusters) -> Result<DeviationMeter> {
        let layout = arenas.layout();
        let mut dispatches = Vec::new();
        let mut meter = |entries: &[Entry], values: &Buffer| -> Result<(Table, Buffer)> {
            let table = Table::new(entries, clusters);
            let (segments, members) = table.upload(device)?;
            let deviation = device.buffer("deviation", table.len())?;
            dispatches.push(Dispatch {
                kernel: &CLUSTER_DEVIATION,
                params: bytemuck::bytes_of(&DeviationParams { segments: table.len() as u32 }).to_vec(),
                bindings: vec![segments.all(), members.all(), values.all(), deviation.all()],
                label: "deviation".into(),
                variant: 0,
            });
            Ok((table, deviation))
        };
        let tables =
            [meter(layout.trained(), arenas.parameters())?, meter(layout.statistics(), arenas.statistics())?];
        dispatches.retain(|dispatch| dispatch.params != [0; 4]);
        Ok(DeviationMeter { tables, dispatches })
    }

    /// The dispatches, to be recorded by the caller.
    pub fn dispatches(&self) -> Vec<Dispatch> {
        self.dispatches.clone()
    }

    /// chi of each tensor after the dispatches ran: the name and `sum ||F_j - mean_H F||^2`.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Device`] when the device failed.
    pub async fn read(&self, device: &Device, arenas: &Arenas) -> Result<Vec<(String, f64)>> {
        let words = device.gather_later(&self.results()).wait().await?;
        Ok(self.parse(arenas, &words))
    }

    /// What [`DeviationMeter::parse`] wants, one after the other.
    pub fn results(&self) -> [BufferSlice; 2] {
        [0, 1].map(|table| self.tables[table].1.all())
    }

    /// As [`DeviationMeter::read`], from the words of [`DeviationMeter::results`].
    pub fn parse(&self, arenas: &Arenas, words: &[f32]) -> Vec<(String, f64)> {
        let (trained, statistics) = words.split_at(self.tables[0].1.all().words());
        let mut all = Vec::new();
        let parts = [(arenas.layout().trained(), trained), (arenas.layout().statistics(), statistics)];
        for ((table, _), (entries, words)) in self.tables.iter().zip(parts) {
            let mut sums = vec![0.0; entries.len()];
            for (chi, &owner) in words.iter().zip(&table.owners) {
                sums[owner] += f64::from(*chi);
            }
            all.extend(entries.iter().map(|entry| entry.name.clone()).zip(sums));
        }
        all
    }
}
