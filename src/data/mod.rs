//! Data sets: bytes in, batches out.

/// Label of a sample that does not count.
pub const IGNORE: u32 = u32::MAX;
