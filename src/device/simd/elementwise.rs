//! Element by element: ReLU, its gradient, sums. These only move memory, so each is one pass.

use pulp::{Simd, WithSimd};

use super::Accumulate;
use super::parallel::for_each_chunk;
use super::tile::dispatch;

/// Floats of one task: 64 KiB of each operand.
const CHUNK: usize = 1 << 14;

/// `y = max(x, 0)`.
pub fn relu(x: &[f32], y: &mut [f32]) {
    assert_eq!(x.len(), y.len(), "relu: lengths of x and y");
    for_each_chunk(y, CHUNK, |i, y| {
        dispatch(Map { x: &x[i * CHUNK..][..y.len()], z: None, y, step: Step::Relu });
    });
}

/// `dx = dy where x > 0, else 0`; `x` may be ReLU's input or its output.
pub fn relu_gradient(x: &[f32], dy: &[f32], dx: &mut [f32], accumulate: Accumulate) {
    assert_eq!(x.len(), dx.len(), "relu_gradient: lengths of x and dx");
    assert_eq!(dy.len(), dx.len(), "relu_gradient: lengths of dy and dx");
    let step = match accumulate {
        Accumulate::Write => Step::Gate,
        Accumulate::Add => Step::GateAdd,
    };
    for_each_chunk(dx, CHUNK, |i, y| {
        let here = i * CHUNK..i * CHUNK + y.len();
        dispatch(Map { x: &x[here.clone()], z: Some(&dy[here]), y, step });
    });
}

/// `y = a + b`.
pub fn add(a: &[f32], b: &[f32], y: &mut [f32]) {
    assert_eq!(a.len(), y.len(), "add: lengths of a and y");
    assert_eq!(b.len(), y.len(), "add: lengths of b and y");
    for_each_chunk(y, CHUNK, |i, y| {
        let here = i * CHUNK..i * CHUNK + y.len();
        dispatch(Map { x: &a[here.clone()], z: Some(&b[here]), y, step: Step::Sum });
    });
}

#[derive(Clone, Copy)]
enum Step {
    Relu,
    Gate,
    GateAdd,
    Sum,
}

struct Map<'a> {
    x: &'a [f32],
    z: Option<&'a [f32]>,
    y: &'a mut [f32],
    step: Step,
}

impl WithSimd for Map<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let z = self.z.unwrap_or(self.x);
        let all = self.y.iter_mut().zip(self.x.iter().zip(z));
        match self.step {
            // A NaN must come through to be found.
            Step::Relu => all.for_each(|(y, (&x, _))| *y = if x < 0.0 { 0.0 } else { x }),
            Step::Gate => all.for_each(|(y, (&x, &z))| *y = if x > 0.0 { z } else { 0.0 }),
            Step::GateAdd => all.for_each(|(y, (&x, &z))| *y += if x > 0.0 { z } else { 0.0 }),
            Step::Sum => all.for_each(|(y, (&x, &z))| *y = x + z),
        }
    }
}
