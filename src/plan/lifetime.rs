//! Memory sharing: tensors whose lifetimes do not overlap take the same slot.
//!
//! Greedy by size: the largest tensor first, each into the first slot that is free over its whole lifetime. Slots are
//! separate buffers, since WebGPU forbids reading and writing one buffer in a dispatch, even at disjoint ranges.

use super::{Recorder, Tensor};
use crate::sort;

/// The outcome of sharing.
#[derive(Debug)]
pub(super) struct Sharing {
    /// Words of each slot.
    pub(super) slots: Vec<usize>,
    /// Slot of each tensor; `None` for pinned tensors and those never used.
    pub(super) place: Vec<Option<usize>>,
    /// Words of all tensors, unshared.
    pub(super) unshared: u64,
}

/// Places every tensor of `recorder`; `keep` live to the end.
pub(super) fn share(recorder: &Recorder<'_>, keep: &[Tensor]) -> Sharing {
    let sizes = recorder.sizes();
    let end = recorder.len();
    let mut lifetimes: Vec<Option<(usize, usize)>> = vec![None; sizes.len()];
    for (time, tensors) in recorder.uses() {
        for tensor in tensors {
            let (first, _) = lifetimes[tensor].unwrap_or((time, time));
            lifetimes[tensor] = Some((first, time));
        }
    }
    for tensor in keep {
        if let Some((_, last)) = &mut lifetimes[tensor.index()] {
            *last = end;
        }
    }
    let mut order: Vec<usize> =
        (0..sizes.len()).filter(|&t| lifetimes[t].is_some() && !recorder.is_pinned(t)).collect();
    sort::by(&mut order, |&a, &b| sizes[b].cmp(&sizes[a]));
    let mut slots: Vec<(usize, Vec<(usize, usize)>)> = Vec::new();
    let mut place = vec![None; sizes.len()];
    for &tensor in &order {
        let Some((first, last)) = lifetimes[tensor] else { continue };
        let free = |busy: &[(usize, usize)]| busy.iter().all(|&(from, to)| last < from || to < first);
        let slot = slots.iter().position(|(_, busy)| free(busy)).unwrap_or_else(|| {
            slots.push((sizes[tensor], Vec::new()));
            slots.len() - 1
        });
        slots[slot].1.push((first, last));
        place[tensor] = Some(slot);
    }
    Sharing {
        slots: slots.into_iter().map(|(words, _)| words).collect(),
        place,
        unshared: order.iter().map(|&t| sizes[t] as u64).sum(),
    }
}
