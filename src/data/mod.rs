//! Data sets: bytes in, batches out.
