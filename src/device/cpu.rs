//! The CPU executor: runs each dispatch's fast path where there is one, else its twin.

use super::{Access, Args, DeviceInfo, DeviceKind, Dispatch, MAX_BINDINGS};
use crate::error::{Error, ErrorKind, Result};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// A cache line. Buffers are made of whole ones, since a vector that straddles two loads at half speed.
#[repr(C, align(64))]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
pub(super) struct Line([f32; 16]);

/// Memory of a CPU buffer.
pub(super) type Memory = Arc<RwLock<Vec<Line>>>;

/// Which implementation of a kernel the CPU runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CpuPath {
    /// The fast path where a kernel has one.
    Fast,
    /// The plain loops: the specification.
    Twins,
}

#[derive(Debug)]
pub(super) struct Cpu {
    path: CpuPath,
}

impl Cpu {
    pub(super) fn open(path: CpuPath, reason: &str) -> (Cpu, DeviceInfo) {
        let info = DeviceInfo {
            kind: DeviceKind::Cpu,
            name: match path {
                CpuPath::Fast => "CPU".to_owned(),
                CpuPath::Twins => "CPU (plain loops)".to_owned(),
            },
            backend: "cpu".to_owned(),
            driver: super::simd::description(),
            reason: reason.to_owned(),
        };
        (Cpu { path }, info)
    }

    pub(super) fn run(&self, dispatch: &Dispatch) {
        let kernel = dispatch.kernel;
        let twin = match self.path {
            CpuPath::Fast => kernel.fast.unwrap_or(kernel.twin),
            CpuPath::Twins => kernel.twin,
        };
        let of = |access: Access| {
            kernel
                .bindings
                .iter()
                .zip(&dispatch.bindings)
                .filter(move |(b, _)| b.access == access)
                .map(|(_, s)| s)
        };

        let mut read_guards: [Option<RwLockReadGuard<'_, Vec<Line>>>; MAX_BINDINGS] = Default::default();
        for (guard, slice) in read_guards.iter_mut().zip(of(Access::Read)) {
            *guard = Some(memory(slice).try_read().unwrap_or_else(|_| {
                panic!(
                    "{} ({}): {} is bound for reading and writing",
                    kernel.name, dispatch.label, slice.buffer.label
                )
            }));
        }
        let mut reads: [&[f32]; MAX_BINDINGS] = Default::default();
        for ((read, guard), slice) in reads.iter_mut().zip(&read_guards).zip(of(Access::Read)) {
            if let Some(guard) = guard {
                *read = &floats(guard)[slice.offset..slice.offset + slice.len];
            }
        }

        // Ranges of one buffer may be bound for writing side by side: lock it once, split it by offset.
        let mut order: [Option<usize>; MAX_BINDINGS] = Default::default();
        let mut written: [Option<&super::BufferSlice>; MAX_BINDINGS] = Default::default();
        for (i, slice) in of(Access::Write).enumerate() {
            order[i] = Some(i);
            written[i] = Some(slice);
        }
        order.sort_unstable_by_key(|i| {
            i.and_then(|i| written[i])
                .map_or((usize::MAX, 0), |s| (Arc::as_ptr(memory(s)) as usize, s.offset))
        });
        let mut write_guards: [Option<RwLockWriteGuard<'_, Vec<Line>>>; MAX_BINDINGS] = Default::default();
        let mut previous: Option<&Memory> = None;
        for (guard, i) in write_guards.iter_mut().zip(order) {
            let Some(slice) = i.and_then(|i| written[i]) else { break };
            if previous.is_some_and(|p| Arc::ptr_eq(p, memory(slice))) {
                continue;
            }
            previous = Some(memory(slice));
            *guard = Some(memory(slice).try_write().unwrap_or_else(|_| {
                panic!(
                    "{} ({}): {} is bound for reading and writing",
                    kernel.name, dispatch.label, slice.buffer.label
                )
            }));
        }
        let mut writes: [&mut [f32]; MAX_BINDINGS] = Default::default();
        let mut rest: &mut [f32] = &mut [];
        let mut consumed = 0;
        for (guard, i) in write_guards.iter_mut().zip(order) {
            let Some((i, slice)) = i.and_then(|i| written[i].map(|s| (i, s))) else { break };
            if let Some(guard) = guard {
                rest = bytemuck::cast_slice_mut(guard.as_mut_slice());
                consumed = 0;
            }
            assert!(slice.offset >= consumed, "{} ({}): written ranges overlap", kernel.name, dispatch.label);
            let (_, from) = std::mem::take(&mut rest).split_at_mut(slice.offset - consumed);
            let (mine, after) = from.split_at_mut(slice.len);
            writes[i] = mine;
            rest = after;
            consumed = slice.offset + slice.len;
        }
        twin(Args::new(&dispatch.params, reads, writes));
    }
}

fn memory(slice: &super::BufferSlice) -> &Memory {
    match &slice.buffer.memory {
        super::Memory::Cpu(memory) => memory,
        super::Memory::Gpu(_) => panic!("{}: a GPU buffer on the CPU device", slice.buffer.label),
    }
}

fn floats(lines: &[Line]) -> &[f32] {
    bytemuck::cast_slice(lines)
}

pub(super) fn allocate(label: &str, words: usize) -> Result<Memory> {
    let lines = words.div_ceil(size_of::<Line>() / size_of::<f32>());
    let mut data = Vec::new();
    data.try_reserve_exact(lines).map_err(|_| {
        Error::new(ErrorKind::OutOfMemory, format!("allocating {label}"))
            .found(format!("no room for {} MB", words / 250_000))
            .next("Take a smaller --batch")
    })?;
    data.resize(lines, Line([0.0; 16]));
    Ok(Arc::new(RwLock::new(data)))
}

pub(super) fn write(memory: &Memory, offset: usize, data: &[f32]) {
    let mut target = memory.write().unwrap_or_else(PoisonError::into_inner);
    bytemuck::cast_slice_mut(&mut target)[offset..offset + data.len()].copy_from_slice(data);
}

pub(super) fn read(memory: &Memory, offset: usize, len: usize) -> Vec<f32> {
    floats(&memory.read().unwrap_or_else(PoisonError::into_inner))[offset..offset + len].to_vec()
}
