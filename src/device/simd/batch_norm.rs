//! Batch normalisation over N, H, W of each channel, as PyTorch's `batch_norm` in training.
//!
//! With the batch's mean and biased variance, `xhat = (x - mean) / sqrt(variance + eps)`,
//! `y = gamma * xhat + beta`. Backward, with `m` values a channel: `dbeta = sum dy`,
//! `dgamma = sum dy * xhat`, `dx = gamma / sqrt(variance + eps) * (dy - dbeta / m - xhat * dgamma / m)`.
//!
//! All slices are `[N,C,HW]`; channel vectors are `[C]`.

use pulp::{Simd, WithSimd};

use super::Accumulate;
use super::parallel::{for_each_chunk, for_each_chunk_pair};
use super::scratch::with_floats;
use super::tile::dispatch;

/// Mean and biased variance of each channel of `x` `[N,C,HW]`.
///
/// Each plane is reduced by itself, its squares about its own mean, and the planes are joined in f64
/// (Chan, Golub and LeVeque 1979): exact enough for any offset of the data, yet memory is read once,
/// since the second pass over a plane finds it in the cache. Work is split by image, as in the convolution
/// before.
pub fn channel_moments(n: usize, c: usize, hw: usize, x: &[f32], mean: &mut [f32], variance: &mut [f32]) {
    assert_eq!(x.len(), n * c * hw, "channel_moments: length of x");
    assert!(mean.len() == c && variance.len() == c, "channel_moments: lengths of mean and variance");
    // Two f64 a plane in the room of four f32.
    with_floats(n * c * 4, |planes| {
        for_each_chunk(planes, c * 4, |image, planes| {
            let x = &x[image * c * hw..][..c * hw];
            dispatch(Moments { hw, x, planes: bytemuck::cast_slice_mut(planes) });
        });
        let planes: &[[f64; 2]] = bytemuck::cast_slice(planes);
        for channel in 0..c {
            let (mut count, mut average, mut squares) = (0.0, 0.0, 0.0);
            for &[plane_mean, plane_squares] in planes.iter().skip(channel).step_by(c) {
                let delta = plane_mean - average;
                let total = count + hw as f64;
                average += delta * hw as f64 / total;
                squares += plane_squares + delta * delta * count * hw as f64 / total;
                count = total;
            }
            mean[channel] = average as f32;
            variance[channel] = (squares / count).max(0.0) as f32;
        }
    });
}

/// Mean, and sum of squares about it, of each plane of an image.
struct Moments<'a> {
    hw: usize,
    x: &'a [f32],
    planes: &'a mut [[f64; 2]],
}

impl WithSimd for Moments<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let count = self.hw as f64;
        for (moments, plane) in self.planes.iter_mut().zip(self.x.chunks_exact(self.hw)) {
            let center = (Sum { plane }.with_simd(simd) / count) as f32;
            let (distances, squares) = Squares { plane, center }.with_simd(simd);
            // The center is the mean but for rounding; these two terms take the rounding out again.
            let rest = distances / count;
            *moments = [f64::from(center) + rest, squares - distances * rest];
        }
    }
}

/// `y = (x - mean) * scale + shift` per channel, all `[N,C,HW]`; for batch normalisation `scale` is
/// `gamma / sqrt(variance + eps)` and `shift` is `beta`.
pub fn normalize(c: usize, hw: usize, x: &[f32], mean: &[f32], scale: &[f32], shift: &[f32], y: &mut [f32]) {
    assert_eq!(x.len(), y.len(), "normalize: lengths of x and y");
    assert!([mean, scale, shift].iter().all(|v| v.len() == c), "normalize: lengths of channel vectors");
    for_each_chunk(y, c * hw, |image, y| {
        let x = &x[image * c * hw..][..y.len()];
        dispatch(Affine { hw, x, mean, scale, shift, y });
    });
}

/// What is added before a ReLU.
#[derive(Debug, Clone, Copy)]
pub enum Residual<'a> {
    /// Nothing.
    None,
    /// A tensor of the output's shape.
    Added(&'a [f32]),
}

impl<'a> Residual<'a> {
    /// The part that belongs to `range` of the output.
    pub(super) fn part(self, range: std::ops::Range<usize>) -> Self {
        match self {
            Residual::None => Residual::None,
            Residual::Added(all) => Residual::Added(&all[range]),
        }
    }
}

/// `y = max((x - mean) * inverse_deviation * gamma + beta [+ residual], 0)`, all `[N,C,HW]`; the channel vectors
/// in this order.
pub fn normalize_relu(
    c: usize,
    hw: usize,
    x: &[f32],
    channels: [&[f32]; 4],
    residual: Residual<'_>,
    y: &mut [f32],
) {
    assert_eq!(x.len(), y.len(), "normalize_relu: lengths of x and y");
    assert!(channels.iter().all(|v| v.len() == c), "normalize_relu: lengths of channel vectors");
    for_each_chunk(y, c * hw, |image, y| {
        let here = image * c * hw..image * c * hw + y.len();
        let residual = residual.part(here.clone());
        dispatch(AffineRelu { hw, x: &x[here], channels, residual, y });
    });
}

/// `dz = dy where y > 0, else 0`, and the sums of [`backward_reduce`] over it: `tensors` is x, y, dy and `channels`
/// mean and inverse deviation.
///
/// One pass, image by image: each image leaves its sums beside the others', which are then added in order.
pub fn relu_backward_reduce(
    [n, c, hw]: [usize; 3],
    tensors: [&[f32]; 3],
    [mean, inverse_deviation]: [&[f32]; 2],
    dz: &mut [f32],
    dgamma: &mut [f32],
    dbeta: &mut [f32],
) {
    assert!(tensors.iter().all(|x| x.len() == n * c * hw), "relu_backward_reduce: lengths of x, y and dy");
    assert!(dgamma.len() == c && dbeta.len() == c, "relu_backward_reduce: lengths of dgamma and dbeta");
    // Two f64 a channel in the room of four f32.
    with_floats(n * c * 4, |sums| {
        for_each_chunk_pair(dz, c * hw, sums, 4 * c, |image, dz, sums| {
            let [x, y, dy] = tensors.map(|x| &x[image * c * hw..][..c * hw]);
            let sums: &mut [[f64; 2]] = bytemuck::cast_slice_mut(sums);
            dispatch(Gated { hw, x, y, dy, mean, dz, sums });
        });
        let sums: &[[f64; 2]] = bytemuck::cast_slice(sums);
        for channel in 0..c {
            let (mut total, mut products) = (0.0, 0.0);
            for sums in sums.iter().skip(channel).step_by(c) {
                total += sums[0];
                products += sums[1];
            }
            dbeta[channel] = total as f32;
            dgamma[channel] = (products * f64::from(inverse_deviation[channel])) as f32;
        }
    });
}

/// `dbeta = sum dy` and `dgamma = sum dy * xhat` per channel, over `[N,C,HW]`.
///
/// `inverse_deviation` is `1 / sqrt(variance + eps)`.
pub fn backward_reduce(
    n: usize,
    c: usize,
    hw: usize,
    x: &[f32],
    dy: &[f32],
    mean: &[f32],
    inverse_deviation: &[f32],
    dgamma: &mut [f32],
    dbeta: &mut [f32],
) {
    assert!(x.len() == n * c * hw && dy.len() == x.len(), "backward_reduce: lengths of x and dy");
    assert!(dgamma.len() == c && dbeta.len() == c, "backward_reduce: lengths of dgamma and dbeta");
    for_each_chunk_pair(dgamma, 1, dbeta, 1, |channel, dgamma, dbeta| {
        let (mut products, mut total) = (0.0, 0.0);
        for image in 0..n {
            let here = (image * c + channel) * hw..(image * c + channel + 1) * hw;
            let (sum, product) =
                dispatch(Products { x: &x[here.clone()], dy: &dy[here], center: mean[channel] });
            total += sum;
            products += product;
        }
        dgamma[0] = (products * f64::from(inverse_deviation[channel])) as f32;
        dbeta[0] = total as f32;
    });
}

/// What [`backward_elementwise`] reads, all `[C]` but `count`.
#[derive(Debug, Clone, Copy)]
pub struct BatchNormGradient<'a> {
    /// Batch mean.
    pub mean: &'a [f32],
    /// `1 / sqrt(variance + eps)`.
    pub inverse_deviation: &'a [f32],
    /// Scale.
    pub gamma: &'a [f32],
    /// Result of [`backward_reduce`].
    pub dgamma: &'a [f32],
    /// Result of [`backward_reduce`].
    pub dbeta: &'a [f32],
    /// Values a channel: N * H * W.
    pub count: usize,
}

/// `dx = gamma * inverse_deviation * (dy - dbeta / count - xhat * dgamma / count)`, over `[N,C,HW]`.
pub fn backward_elementwise(
    c: usize,
    hw: usize,
    x: &[f32],
    dy: &[f32],
    channels: BatchNormGradient<'_>,
    dx: &mut [f32],
    accumulate: Accumulate,
) {
    assert!(x.len() == dx.len() && dy.len() == dx.len(), "backward_elementwise: lengths of x, dy and dx");
    for_each_chunk(dx, c * hw, |image, dx| {
        let here = image * c * hw..image * c * hw + dx.len();
        dispatch(Backward { hw, x: &x[here.clone()], dy: &dy[here], channels, dx, accumulate });
    });
}

/// Sum of a plane: in f32 within lanes, in f64 beyond.
pub(super) fn sum(plane: &[f32]) -> f64 {
    dispatch(Sum { plane })
}

/// Vectors summed in f32 before the sum moves to f64.
const BLOCK: usize = 64;

/// Independent sums, which hide the latency of the addition.
const SUMS: usize = 4;

struct Sum<'a> {
    plane: &'a [f32],
}

impl WithSimd for Sum<'_> {
    type Output = f64;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f64 {
        let (vectors, rest) = S::as_simd_f32s(self.plane);
        let mut total: f64 = rest.iter().map(|&x| f64::from(x)).sum();
        for block in vectors.chunks(BLOCK) {
            let mut sums = [simd.splat_f32s(0.0); SUMS];
            let (groups, rest) = block.as_chunks::<SUMS>();
            for group in groups {
                for (sum, &x) in sums.iter_mut().zip(group) {
                    *sum = simd.add_f32s(*sum, x);
                }
            }
            for &x in rest {
                sums[0] = simd.add_f32s(sums[0], x);
            }
            total += f64::from(join(simd, sums));
        }
        total
    }
}

/// Sums of `x - center` and of its square.
struct Squares<'a> {
    plane: &'a [f32],
    center: f32,
}

impl WithSimd for Squares<'_> {
    type Output = (f64, f64);

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> (f64, f64) {
        let (vectors, rest) = S::as_simd_f32s(self.plane);
        let (mut total, mut squares) = (0.0, 0.0);
        for &x in rest {
            let distance = f64::from(x - self.center);
            total += distance;
            squares += distance * distance;
        }
        let center = simd.splat_f32s(self.center);
        for block in vectors.chunks(BLOCK) {
            let mut totals = [simd.splat_f32s(0.0); SUMS];
            let mut products = [simd.splat_f32s(0.0); SUMS];
            let (groups, rest) = block.as_chunks::<SUMS>();
            for group in groups {
                for i in 0..SUMS {
                    let distance = simd.sub_f32s(group[i], center);
                    totals[i] = simd.add_f32s(totals[i], distance);
                    products[i] = simd.mul_add_e_f32s(distance, distance, products[i]);
                }
            }
            for &x in rest {
                let distance = simd.sub_f32s(x, center);
                totals[0] = simd.add_f32s(totals[0], distance);
                products[0] = simd.mul_add_e_f32s(distance, distance, products[0]);
            }
            total += f64::from(join(simd, totals));
            squares += f64::from(join(simd, products));
        }
        (total, squares)
    }
}

/// Sums of `dy` and of `dy * (x - center)`.
struct Products<'a> {
    x: &'a [f32],
    dy: &'a [f32],
    center: f32,
}

impl WithSimd for Products<'_> {
    type Output = (f64, f64);

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> (f64, f64) {
        let (x_vectors, x_rest) = S::as_simd_f32s(self.x);
        let (dy_vectors, dy_rest) = S::as_simd_f32s(self.dy);
        let (mut total, mut product) = (0.0, 0.0);
        for (&x, &dy) in x_rest.iter().zip(dy_rest) {
            total += f64::from(dy);
            product += f64::from(dy * (x - self.center));
        }
        let center = simd.splat_f32s(self.center);
        for (x, dy) in x_vectors.chunks(BLOCK).zip(dy_vectors.chunks(BLOCK)) {
            let mut totals = [simd.splat_f32s(0.0); SUMS];
            let mut products = [simd.splat_f32s(0.0); SUMS];
            let (x_groups, x_rest) = x.as_chunks::<SUMS>();
            let (dy_groups, dy_rest) = dy.as_chunks::<SUMS>();
            for (x, dy) in x_groups.iter().zip(dy_groups) {
                for i in 0..SUMS {
                    totals[i] = simd.add_f32s(totals[i], dy[i]);
                    products[i] = simd.mul_add_e_f32s(dy[i], simd.sub_f32s(x[i], center), products[i]);
                }
            }
            for (&x, &dy) in x_rest.iter().zip(dy_rest) {
                totals[0] = simd.add_f32s(totals[0], dy);
                products[0] = simd.mul_add_e_f32s(dy, simd.sub_f32s(x, center), products[0]);
            }
            total += f64::from(join(simd, totals));
            product += f64::from(join(simd, products));
        }
        (total, product)
    }
}

#[inline(always)]
fn join<S: Simd>(simd: S, [a, b, c, d]: [S::f32s; SUMS]) -> f32 {
    simd.reduce_sum_f32s(simd.add_f32s(simd.add_f32s(a, b), simd.add_f32s(c, d)))
}

struct Affine<'a> {
    hw: usize,
    x: &'a [f32],
    mean: &'a [f32],
    scale: &'a [f32],
    shift: &'a [f32],
    y: &'a mut [f32],
}

impl WithSimd for Affine<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let planes = self.x.chunks_exact(self.hw).zip(self.y.chunks_exact_mut(self.hw));
        for (channel, (x, y)) in planes.enumerate() {
            let (mean, scale, shift) = (self.mean[channel], self.scale[channel], self.shift[channel]);
            for (y, &x) in y.iter_mut().zip(x) {
                *y = (x - mean) * scale + shift;
            }
        }
    }
}

struct AffineRelu<'a> {
    hw: usize,
    x: &'a [f32],
    channels: [&'a [f32]; 4],
    residual: Residual<'a>,
    y: &'a mut [f32],
}

impl WithSimd for AffineRelu<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let [mean, inverse_deviation, gamma, beta] = self.channels;
        let planes = self.x.chunks_exact(self.hw).zip(self.y.chunks_exact_mut(self.hw));
        for (channel, (x, y)) in planes.enumerate() {
            let (mean, shift) = (mean[channel], beta[channel]);
            let scale = inverse_deviation[channel] * gamma[channel];
            // A NaN must come through to be found.
            match self.residual {
                Residual::None => {
                    for (y, &x) in y.iter_mut().zip(x) {
                        let sum = (x - mean) * scale + shift;
                        *y = if sum < 0.0 { 0.0 } else { sum };
                    }
                }
                Residual::Added(residual) => {
                    let residual = &residual[channel * self.hw..][..self.hw];
                    for (y, (&x, &residual)) in y.iter_mut().zip(x.iter().zip(residual)) {
                        let sum = (x - mean) * scale + shift + residual;
                        *y = if sum < 0.0 { 0.0 } else { sum };
                    }
                }
            }
        }
    }
}

/// One image of [`relu_backward_reduce`].
struct Gated<'a> {
    hw: usize,
    x: &'a [f32],
    y: &'a [f32],
    dy: &'a [f32],
    mean: &'a [f32],
    dz: &'a mut [f32],
    sums: &'a mut [[f64; 2]],
}

impl WithSimd for Gated<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let zero = simd.splat_f32s(0.0);
        for (channel, (sums, dz)) in self.sums.iter_mut().zip(self.dz.chunks_exact_mut(self.hw)).enumerate() {
            let plane = channel * self.hw..(channel + 1) * self.hw;
            let (x, x_rest) = S::as_simd_f32s(&self.x[plane.clone()]);
            let (y, y_rest) = S::as_simd_f32s(&self.y[plane.clone()]);
            let (dy, dy_rest) = S::as_simd_f32s(&self.dy[plane]);
            let (dz, dz_rest) = S::as_mut_simd_f32s(dz);
            let (mut total, mut product) = (0.0, 0.0);
            for ((dz, &x), (&y, &dy)) in dz_rest.iter_mut().zip(x_rest).zip(y_rest.iter().zip(dy_rest)) {
                *dz = if y > 0.0 { dy } else { 0.0 };
                total += f64::from(*dz);
                product += f64::from(*dz * (x - self.mean[channel]));
            }
            let center = simd.splat_f32s(self.mean[channel]);
            let blocks = x.chunks(BLOCK).zip(y.chunks(BLOCK)).zip(dy.chunks(BLOCK)).zip(dz.chunks_mut(BLOCK));
            for (((x, y), dy), dz) in blocks {
                let mut totals = [zero; SUMS];
                let mut products = [zero; SUMS];
                let ([x, y, dy], [x_rest, y_rest, dy_rest]) = {
                    let [x, y, dy] = [x, y, dy].map(|all| all.as_chunks::<SUMS>());
                    ([x.0, y.0, dy.0], [x.1, y.1, dy.1])
                };
                let (dz, dz_rest) = dz.as_chunks_mut::<SUMS>();
                for ((dz, x), (y, dy)) in dz.iter_mut().zip(x).zip(y.iter().zip(dy)) {
                    for i in 0..SUMS {
                        dz[i] = simd.select_f32s(simd.less_than_f32s(zero, y[i]), dy[i], zero);
                        totals[i] = simd.add_f32s(totals[i], dz[i]);
                        products[i] = simd.mul_add_e_f32s(dz[i], simd.sub_f32s(x[i], center), products[i]);
                    }
                }
                for ((dz, x), (y, dy)) in dz_rest.iter_mut().zip(x_rest).zip(y_rest.iter().zip(dy_rest)) {
                    *dz = simd.select_f32s(simd.less_than_f32s(zero, *y), *dy, zero);
                    totals[0] = simd.add_f32s(totals[0], *dz);
                    products[0] = simd.mul_add_e_f32s(*dz, simd.sub_f32s(*x, center), products[0]);
                }
                total += f64::from(join(simd, totals));
                product += f64::from(join(simd, products));
            }
            *sums = [total, product];
        }
    }
}

struct Backward<'a> {
    hw: usize,
    x: &'a [f32],
    dy: &'a [f32],
    channels: BatchNormGradient<'a>,
    dx: &'a mut [f32],
    accumulate: Accumulate,
}

impl WithSimd for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let BatchNormGradient { mean, inverse_deviation, gamma, dgamma, dbeta, count } = self.channels;
        let planes = self.x.chunks_exact(self.hw).zip(self.dy.chunks_exact(self.hw));
        for (channel, ((x, dy), dx)) in planes.zip(self.dx.chunks_exact_mut(self.hw)).enumerate() {
            let scale = gamma[channel] * inverse_deviation[channel];
            let slope = inverse_deviation[channel] * dgamma[channel] / count as f32;
            let (mean, offset) = (mean[channel], dbeta[channel] / count as f32);
            let all = dx.iter_mut().zip(x.iter().zip(dy));
            match self.accumulate {
                Accumulate::Write => all.for_each(|(dx, (&x, &dy))| {
                    *dx = scale * (dy - offset - (x - mean) * slope);
                }),
                Accumulate::Add => all.for_each(|(dx, (&x, &dy))| {
                    *dx += scale * (dy - offset - (x - mean) * slope);
                }),
            }
        }
    }
}
