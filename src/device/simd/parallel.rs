//! The one place that knows about threads: loops over chunks of a slice, parallel natively.

#[cfg(feature = "native")]
use rayon::prelude::*;

/// Threads that share the work; 1 without the `native` feature.
pub(super) fn threads() -> usize {
    #[cfg(feature = "native")]
    return rayon::current_num_threads();
    #[cfg(not(feature = "native"))]
    return 1;
}

/// Runs `work`, a sequence of loops, on one of the threads that share them.
///
/// A loop begun from outside wakes a thread and waits for it, every time. Begun by one of them, it also falls to
/// the threads in the same way each time, so that what one kernel wrote the next finds in its core's cache.
#[cfg(feature = "native")]
pub fn in_pool<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    if threads() > 1 { rayon::scope(|_| work()) } else { work() }
}

/// Runs `work`: without threads of our own it stays where it is, and so may hold what cannot leave (a browser's buffers).
#[cfg(not(feature = "native"))]
pub fn in_pool<R>(work: impl FnOnce() -> R) -> R {
    work()
}

/// Does both, side by side where there are threads.
pub fn join(one: impl FnOnce() + Send, other: impl FnOnce() + Send) {
    #[cfg(feature = "native")]
    if threads() > 1 {
        rayon::join(one, other);
        return;
    }
    one();
    other();
}

/// Calls `work(index, chunk)` for every `chunk`-long piece of `data`, the last one possibly shorter.
///
/// `chunk` must follow from the shapes or only decide who computes what, never how a sum is ordered.
pub fn for_each_chunk<T: Send>(data: &mut [T], chunk: usize, work: impl Fn(usize, &mut [T]) + Sync) {
    let chunk = chunk.max(1);
    #[cfg(feature = "native")]
    if data.len() > chunk && threads() > 1 {
        data.par_chunks_mut(chunk).enumerate().for_each(|(index, chunk)| work(index, chunk));
        return;
    }
    data.chunks_mut(chunk).enumerate().for_each(|(index, chunk)| work(index, chunk));
}

/// As [`for_each_chunk`] over two slices cut alike into pieces of `chunk` and `other_chunk`.
pub fn for_each_chunk_pair<T: Send>(
    data: &mut [T],
    chunk: usize,
    other: &mut [T],
    other_chunk: usize,
    work: impl Fn(usize, &mut [T], &mut [T]) + Sync,
) {
    let (chunk, other_chunk) = (chunk.max(1), other_chunk.max(1));
    #[cfg(feature = "native")]
    if data.len() > chunk && threads() > 1 {
        data.par_chunks_mut(chunk)
            .zip(other.par_chunks_mut(other_chunk))
            .enumerate()
            .for_each(|(index, (a, b))| work(index, a, b));
        return;
    }
    data.chunks_mut(chunk)
        .zip(other.chunks_mut(other_chunk))
        .enumerate()
        .for_each(|(index, (a, b))| work(index, a, b));
}
