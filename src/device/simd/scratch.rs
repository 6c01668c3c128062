//! Thread-local scratch memory that grows to what the largest layer needs and is then reused.

use std::cell::RefCell;

thread_local! {
    // A stack of buffers rather than one: a worker that waits for a loop of its own may be handed another
    // task meanwhile, and that task must not find the buffer taken.
    static POOL: RefCell<Vec<Vec<f32>>> = const { RefCell::new(Vec::new()) };
}

/// Floats of a cache line.
const LINE: usize = 16;

/// Calls `work` with `len` floats of arbitrary content, NaN among it, from the start of a cache line on.
pub(super) fn with_floats<R>(len: usize, work: impl FnOnce(&mut [f32]) -> R) -> R {
    let mut buffer = POOL.with_borrow_mut(Vec::pop).unwrap_or_default();
    if buffer.len() < len + LINE {
        buffer.resize(len + LINE, 0.0);
    }
    // Vectors that straddle two cache lines load at half speed; which start is aligned changes no result.
    let start = buffer.as_ptr().align_offset(LINE * size_of::<f32>()).min(LINE);
    let floats = &mut buffer[start..start + len];
    if cfg!(debug_assertions) {
        // What is read before it is written shows.
        floats.fill(f32::NAN);
    }
    let result = work(floats);
    POOL.with_borrow_mut(|pool| pool.push(buffer));
    result
}
