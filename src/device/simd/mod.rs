//! Fast CPU kernels: what makes the CPU a device one can really train on.
//!
//! Everything here works on contiguous `f32` slices, activations NCHW, weights OIHW (`K C R S`), and
//! computes what the plain loops of the CPU twins compute; only the order of the additions differs.
//!
//! # How a convolution comes near the peak of the machine
//!
//! A core with AVX2 starts two fused multiply-adds of eight lanes a cycle, but loads only two or three
//! vectors. So every number that is loaded must be used several times while it sits in a register. The
//! whole module rests on two small loops in `tile.rs` that do this, each the mirror of the other:
//!
//! - `weigh`: the sums of 6 filters x 2 vectors of pixels are held in 12 registers. For each tap (c, r, s),
//!   two vectors of pixels are loaded, six weights are broadcast, and 12 multiply-adds follow.
//!   Forward pass, input gradient and matrix product all are this loop.
//! - `correlate`: the sums of 4 filters x 3 taps are held in 12 registers, and the loop runs over the pixels.
//!   The weight gradient is this loop.
//!
//! What makes one loop serve every stride, padding, dilation and size is a *table of taps*. The image is
//! first copied into scratch with its zero border (`geometry.rs`), so that tap (c, r, s) of the output
//! pixel at scratch position `i` lies at `i + taps[c, r, s]`, with no test for borders. For stride 2 the
//! copy separates even from odd rows and columns; then neighbouring outputs read neighbouring inputs again
//! and the same table idea holds. The input gradient of a strided convolution is the reverse: the pixels of
//! `dx` fall into 2 x 2 classes by parity, and each class is a stride-1 convolution of `dy` with those taps
//! that reach it, so that no zeros are ever multiplied. No `im2col` matrix is built: it would be nine
//! times as large as the image.
//!
//! # Rules
//!
//! - Work is split by image, filter or channel, never by thread, and each sum has a fixed order: the same
//!   input gives the same bits with any number of threads.
//! - Scratch memory comes from thread-local pools that only grow: a training step allocates nothing.
//! - No `unsafe`: `pulp` chooses AVX2, NEON, wasm simd128 or scalar code at run time and checks for it.

mod batch_norm;
mod conv;
mod conv_weight;
mod conv_weight_wide;
mod elementwise;
mod geometry;
mod matmul;
mod parallel;
mod scratch;
mod tile;

pub use batch_norm::{
    BatchNormGradient, Residual, backward_elementwise, backward_reduce, channel_moments, normalize,
    normalize_relu, relu_backward_reduce,
};
pub use conv::{Finish, conv2d_finished, conv2d_forward, conv2d_input_gradient};
pub use conv_weight::{conv2d_bias_gradient, conv2d_weight_gradient};
pub use elementwise::{add, relu, relu_gradient};
pub use geometry::ConvShape;
pub use matmul::{linear_forward, linear_input_gradient, linear_weight_gradient};
pub use parallel::{for_each_chunk as for_each_part, for_each_chunk_pair, in_pool, join};

/// Numbers of one task of an elementwise kernel: 64 KiB of each operand.
pub const PART: usize = 1 << 14;

/// [`for_each_chunk_pair`] over pieces of one length.
pub fn for_each_part_of_two<T: Send>(
    data: &mut [T],
    other: &mut [T],
    part: usize,
    work: impl Fn(usize, &mut [T], &mut [T]) + Sync,
) {
    for_each_chunk_pair(data, part, other, part, work);
}

/// What a gradient kernel does with what its output already holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accumulate {
    /// Overwrites it: the first consumer of a tensor writes its gradient.
    Write,
    /// Adds to it: every later consumer adds.
    Add,
}

/// The vector instructions in use, for [`super::DeviceInfo::driver`].
pub(super) fn description() -> String {
    // The variant's name alone: what follows lists every feature flag.
    let arch = format!("{:?}", pulp::Arch::new());
    arch.split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default().to_ascii_lowercase()
}

#[cfg(test)]
mod tests;
