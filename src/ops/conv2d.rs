//! Convolution (`torch.nn.Conv2d`): `y[n,k,p,q] = bias[k] + sum over c,r,s of weight[k,c,r,s] x[n,c,h,w]` with
//! `h = p stride - top + r dilation`, w likewise. Shapes: x `[N, C, H, W]`, weight `[K, C/groups, R, S]`, y `[N, K, P, Q]`.
//!
//! The weight gradient sums over all N P Q pixels, but has few results: on a GPU the sum is cut into splits, each with
//! its own partial sums, so that there is work for many invocations; `sum_partials` adds the splits in order. With one
//! split, as on the CPU, the gradient is written at once.

use super::{Channels, Op, Operator, ParamKind, ParamSpec, workgroups_of_64};
use crate::device::simd::{self, Accumulate, ConvShape};
use crate::device::{Args, Kernel, Params, Shader, params_of, read, wgsl, write};
use crate::error::{Error, ErrorKind, Result};
use crate::from_json;
use crate::params;
use crate::plan::{NodeIo, Recorder, Tensor};
use crate::prune::surgery::Cut;
use crate::shape::Shape;
use serde::Serialize;

/// Largest filter side, stride, padding and dilation: keeps the kernels' 32-bit arithmetic exact.
pub(super) const MAX_STEP: usize = 1 << 15;

/// Most weights of one operator: 1 GiB.
pub(super) const MAX_WEIGHTS: usize = 1 << 28;

/// Filters (channels for the input gradient) and pixels of a workgroup's tile in the variants that take every size.
const TILE: [u64; 2] = [8, 512];

/// Channels below which a tile of 16 would be mostly empty: depthwise and such.
const FEW_CHANNELS: u64 = 4;

/// Whether a bias is added to each output channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub enum Bias {
    /// No bias: usual before batch norm.
    Without,
    /// One number an output channel: PyTorch's default.
    #[default]
    With,
}

from_json!(enum Bias { Without: "Without", With: "With" });

impl Bias {
    /// 1 with bias, else 0: the kernels' `has_bias`.
    pub(super) fn flag(self) -> u32 {
        u32::from(self == Bias::With)
    }
}

/// Zeros around the image, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Padding {
    /// Rows above.
    pub top: usize,
    /// Columns to the left.
    pub left: usize,
    /// Rows below.
    pub bottom: usize,
    /// Columns to the right.
    pub right: usize,
}

from_json!(Padding { top, left, bottom, right });

impl Padding {
    /// `pixels` on all four sides.
    pub const fn all(pixels: usize) -> Padding {
        Padding { top: pixels, left: pixels, bottom: pixels, right: pixels }
    }
}

/// `torch.nn.Conv2d`, with a padding of its own on each side.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Conv2d {
    /// C: input channels.
    pub in_channels: usize,
    /// K: filters, which is output channels.
    pub out_channels: usize,
    /// `[R, S]`: a filter's height and width.
    pub kernel: [usize; 2],
    /// Vertical and horizontal distance of two outputs, in pixels.
    pub stride: [usize; 2],
    /// Zeros around the image.
    pub padding: Padding,
    /// Vertical and horizontal distance of two taps, in pixels.
    pub dilation: [usize; 2],
    /// Independent groups of channels; divides C and K. C groups make a depthwise convolution.
    pub groups: usize,
    /// Whether a bias is added.
    pub bias: Bias,
}

from_json!(Conv2d { in_channels, out_channels, kernel, stride, padding, dilation, groups, bias });

impl Conv2d {
    /// PyTorch's defaults: stride 1, no padding, no dilation, one group, with bias.
    pub const fn new(in_channels: usize, out_channels: usize, kernel: [usize; 2]) -> Conv2d {
        Conv2d {
            in_channels,
            out_channels,
            kernel,
            stride: [1, 1],
            padding: Padding::all(0),
            dilation: [1, 1],
            groups: 1,
            bias: Bias::With,
        }
    }

    /// [`Conv2d::new`] with a `side` x `side` filter and `side / 2` padding: an odd side keeps the image's size.
    pub const fn same(in_channels: usize, out_channels: usize, side: usize) -> Conv2d {
        Conv2d { padding: Padding::all(side / 2), ..Conv2d::new(in_channels, out_channels, [side, side]) }
    }

    fn node_params(&self, node: &NodeIo) -> Conv2dParams {
        self.params(node.batch(), node.input_shape(0), node.output_shape())
    }

    fn group_channels(&self) -> usize {
        self.in_channels.checked_div(self.groups).unwrap_or(0)
    }

    /// The kernels' uniform for `batch` images of shape `x` in and `y` out, one split, nothing accumulated.
    pub fn params(&self, batch: usize, x: Shape, y: Shape) -> Conv2dParams {
        Conv2dParams {
            n: batch as u32,
            c: x.c as u32,
            h: x.h as u32,
            w: x.w as u32,
            k: y.c as u32,
            r: self.kernel[0] as u32,
            s: self.kernel[1] as u32,
            p: y.h as u32,
            q: y.w as u32,
            stride_h: self.stride[0] as u32,
            stride_w: self.stride[1] as u32,
            pad_top: self.padding.top as u32,
            pad_left: self.padding.left as u32,
            dilation_h: self.dilation[0] as u32,
            dilation_w: self.dilation[1] as u32,
            groups: self.groups as u32,
            has_bias: self.bias.flag(),
            accumulate: 0,
            splits: 1,
            first: 0,
        }
    }
}

params! {
    /// Uniform of the convolution kernels.
    #[derive(Default)]
    pub struct Conv2dParams {
        /// Images.
        n: u32,
        /// Input channels.
        c: u32,
        /// Input height.
        h: u32,
        /// Input width.
        w: u32,
        /// Filters.
        k: u32,
        /// Filter height.
        r: u32,
        /// Filter width.
        s: u32,
        /// Output height.
        p: u32,
        /// Output width.
        q: u32,
        /// Vertical distance of outputs.
        stride_h: u32,
        /// Horizontal distance of outputs.
        stride_w: u32,
        /// Zero rows above the image.
        pad_top: u32,
        /// Zero columns left of the image.
        pad_left: u32,
        /// Vertical distance of taps.
        dilation_h: u32,
        /// Horizontal distance of taps.
        dilation_w: u32,
        /// Groups of channels.
        groups: u32,
        /// 1 to add the bias; forward only.
        has_bias: u32,
        /// 1 to add to dx, 0 to overwrite it; input gradient only.
        accumulate: u32,
        /// Partial sums of the weight gradient.
        splits: u32,
        /// Workgroup that a dispatch begins with: the executor runs long ones in parts. 0 in what is recorded.
        first: u32,
    }
}

impl Conv2dParams {
    /// The sizes as the CPU counts them.
    pub fn shape(&self) -> ConvShape {
        let pair = |a: u32, b: u32| [a as usize, b as usize];
        ConvShape {
            n: self.n as usize,
            c: self.c as usize,
            h: self.h as usize,
            w: self.w as usize,
            k: self.k as usize,
            r: self.r as usize,
            s: self.s as usize,
            p: self.p as usize,
            q: self.q as usize,
            stride: pair(self.stride_h, self.stride_w),
            padding: pair(self.pad_top, self.pad_left),
            dilation: pair(self.dilation_h, self.dilation_w),
            groups: self.groups as usize,
        }
    }

    /// Numbers in the weight tensor.
    pub fn weights(&self) -> usize {
        (self.k * (self.c / self.groups) * self.r * self.s) as usize
    }

    fn group_channels(&self) -> u64 {
        u64::from(self.c / self.groups)
    }

    fn group_filters(&self) -> u64 {
        u64::from(self.k / self.groups)
    }

    /// Whether filters are 3 x 3, stride and dilation 1: what the variants `..._3x3` are for.
    pub(super) fn is_plain_3x3(&self) -> bool {
        self.slides_along_rows() && self.r == 3 && self.stride_h == 1 && self.dilation_h == 1
    }

    /// Whether the outputs of three taps side by side are neighbours in a row: what the variants `..._rows` are for.
    fn slides_along_rows(&self) -> bool {
        self.s == 3 && self.stride_w == 1 && self.dilation_w == 1
    }

    /// Invocations that the weight gradient keeps busy with one split.
    fn weight_tiles(&self) -> u64 {
        let tiles = self.group_channels().div_ceil(4) * self.group_filters().div_ceil(4);
        u64::from(self.groups) * tiles * u64::from(self.r) * u64::from(self.s)
    }

    /// Splits of the weight gradient's sum that keep `parallelism` invocations busy: at most one an output row, and
    /// no more than leave each invocation a sum worth starting.
    pub fn splits_for(&self, parallelism: usize) -> u32 {
        const SHORTEST_SUM: u64 = 64;
        let wanted = (parallelism as u64).div_ceil(self.weight_tiles());
        let rows = u64::from(self.n) * u64::from(self.p);
        let most = rows.min((rows * u64::from(self.q)).div_ceil(SHORTEST_SUM));
        wanted.clamp(1, most.max(1)) as u32
    }
}

params! {
    /// Uniform of `sum_partials`.
    pub struct SumPartialsParams {
        /// Numbers in y.
        len: u32,
        /// Partial sums of each.
        splits: u32,
    }
}

/// `y = conv2d(x, weight, bias)`.
pub static CONV2D_FORWARD: Kernel = Kernel {
    name: "conv2d_forward",
    params: Conv2dParams::FIELDS,
    bindings: &[read("x"), read("weight"), read("bias"), write("y")],
    shaders: &[
        Shader {
            name: "conv2d_forward_3x3",
            wgsl: wgsl!("conv2d_forward_3x3"),
            workgroups: |params| {
                let d = params_of::<Conv2dParams>(params);
                if !d.is_plain_3x3() {
                    return 0;
                }
                let patches = u64::from(d.n) * u64::from(d.p).div_ceil(4) * u64::from(d.q).div_ceil(8);
                u64::from(d.groups) * d.group_filters().div_ceil(4) * workgroups_of_64(patches)
            },
        },
        Shader {
            name: "conv2d_forward_rows",
            wgsl: wgsl!("conv2d_forward_rows"),
            workgroups: |params| {
                let d = params_of::<Conv2dParams>(params);
                if !d.slides_along_rows() {
                    return 0;
                }
                let strips = u64::from(d.n) * u64::from(d.p) * u64::from(d.q).div_ceil(8);
                u64::from(d.groups) * d.group_filters().div_ceil(8) * workgroups_of_64(strips)
            },
        },
        Shader {
            name: "conv2d_forward",
            wgsl: wgsl!("conv2d_forward"),
            workgroups: |params| {
                let d = params_of::<Conv2dParams>(params);
                let tiles = u64::from(d.groups) * d.group_filters().div_ceil(TILE[0]);
                tiles * (u64::from(d.n) * u64::from(d.p) * u64::from(d.q)).div_ceil(TILE[1])
            },
        },
        Shader {
            name: "conv2d_forward_tiled",
            wgsl: wgsl!("conv2d_forward_tiled"),
            workgroups: |params| {
                let d = params_of::<Conv2dParams>(params);
                if d.group_filters() < FEW_CHANNELS {
                    return 0;
                }
                let tiles = u64::from(d.groups) * d.group_filters().div_ceil(16);
                tiles * (u64::from(d.n) * u64::from(d.p) * u64::from(d.q)).div_ceil(128)
            },
        },
        Shader {
            name: "conv2d_forward_direct",
            wgsl: wgsl!("conv2d_forward_direct"),
            workgroups: |params| {
                let d = params_of::<Conv2dParams>(params);
                workgroups_of_64(u64::from(d.n) * u64::from(d.k) * u64::from(d.p) * u64::from(d.q))
            },
        },
    ],
    twin: conv2d_forward,
    fast: Some(conv2d_forward_fast),
};

/// Gradient of x.
pub static CONV2D_INPUT_GRADIENT: Kernel = Kernel {
    name: "conv2d_input_gradient",
    params: Conv2dParams::FIELDS,
    bindings: &[read("dy"), read("weight"), write("dx")],
    shaders: &[
        Shader {
            name: "conv2d_input_gradient_3x3",
            wgsl: wgsl!("conv2d_input_gradient_3x3"),
            workgroups: |params| {
                let d = params_of::<Conv2dParams>(params);
                if !d.is_plain_3x3() {
                    return 0;
                }
                let patches = u64::from(d.n) * u64::from(d.h).div_ceil(4) * u64::from(d.w).div_ceil(8);
                u64::from(d.groups) * d.group_channels().div_ceil(4) * workgroups_of_64(patches)
            },
        },
        Shader {
            name: "conv2d_input_gradient_rows",
            wgsl: wgsl!("conv2d_input_gradient_rows"),
            workgroups: |params| {
                let d = params_of::<Conv2dParams>(params);
                if !d.slides_along_rows() || d.stride_h != 1 {
                    return 0;
                }
                let strips = u64::from(d.n) * u64::from(d.h) * u64::from(d.w).div_ceil(8);
                u64::from(d.groups) * d.group_channels().div_ceil(8) * workgroups_of_64(strips)
            },
        },
        Shader {
            name: "conv2d_input_gradient",
            wgsl: wgsl!("conv2d_input_gradient"),
            workgroups: |params| {
                let d = params_of::<Conv2dParams>(params);
                let tiles = u64::from(d.groups) * d.group_channels().div_ceil(TILE[0]);
                let class = u64::from(d.h.div_ceil(d.stride_h)) * u64::from(d.w.div_ceil(d.stride_w));
                let classes = u64::from(d.stride_h) * u64::from(d.stride_w);
                tiles * classes * (u64::from(d.n) * class).div_ceil(TILE[1])
            },
        },
        Shader {
            name: "conv2d_input_gradient_tiled",
            wgsl: wgsl!("conv2d_input_gradient_tiled"),
            workgroups: |params| {
                let d = params_of::<Conv2dParams>(params);
                if d.group_channels() < FEW_CHANNELS || d.stride_h != 1 || d.stride_w != 1 {
                    return 0;
                }
                let tiles = u64::from(d.groups) * d.group_channels().div_ceil(16);
                tiles * (u64::from(d.n) * u64::from(d.h) * u64::from(d.w)).div_ceil(128)
            },
        },
    ],
    twin: conv2d_input_gradient,
    fast: Some(conv2d_input_gradient_fast),
};

/// Gradient of the weights, in partial sums `[splits, K, C/groups, R, S]`.
pub static CONV2D_WEIGHT_GRADIENT: Kernel = Kernel {
    name: "conv2d_weight_gradient",
    params: Conv2dParams::FIELDS,
    bindings: &[read("x"), read("dy"), write("partials")],
    shaders: &[
        Shader {
            name: "conv2d_weight_gradient_3x3",
            wgsl: wgsl!("conv2d_weight_gradient_3x3"),
            workgroups: |params| {
                let d = params_of::<Conv2dParams>(params);
                if !d.is_plain_3x3() {
                    return 0;
                }
                let tiles = d.group_filters().div_ceil(8) * d.group_channels().div_ceil(4);
                workgroups_of_64(tiles * u64::from(d.groups) * u64::from(d.splits))
            },
        },
        Shader {
            name: "conv2d_weight_gradient_rows",
            wgsl: wgsl!("conv2d_weight_gradient_rows"),
            workgroups: |params| {
                let d = params_of::<Conv2dParams>(params);
                if d.s != 3 || d.dilation_w != 1 {
                    return 0;
                }
                let tiles = d.group_filters().div_ceil(8) * d.group_channels().div_ceil(4);
                workgroups_of_64(tiles * u64::from(d.groups) * u64::from(d.r) * u64::from(d.splits))
            },
        },
        Shader {
            name: "conv2d_weight_gradient",
            wgsl: wgsl!("conv2d_weight_gradient"),
            workgroups: |params| {
                let d = params_of::<Conv2dParams>(params);
                workgroups_of_64(d.weight_tiles() * u64::from(d.splits))
            },
        },
        Shader {
            name: "conv2d_weight_gradient_tiled",
            wgsl: wgsl!("conv2d_weight_gradient_tiled"),
            workgroups: |params| {
                let d = params_of::<Conv2dParams>(params);
                if d.group_filters() < FEW_CHANNELS {
                    return 0;
                }
                let weights = d.group_channels() * u64::from(d.r) * u64::from(d.s);
                let tiles = d.group_filters().div_ceil(16) * weights.div_ceil(64);
                tiles * u64::from(d.groups) * u64::from(d.splits)
            },
        },
    ],
    twin: conv2d_weight_gradient,
    fast: Some(conv2d_weight_gradient_fast),
};

/// Gradient of the bias.
pub static CONV2D_BIAS_GRADIENT: Kernel = Kernel {
    name: "conv2d_bias_gradient",
    params: Conv2dParams::FIELDS,
    bindings: &[read("dy"), write("dbias")],
    shaders: &[Shader {
        name: "conv2d_bias_gradient",
        wgsl: wgsl!("conv2d_bias_gradient"),
        workgroups: |params| params_of::<Conv2dParams>(params).k.into(),
    }],
    twin: conv2d_bias_gradient,
    fast: Some(conv2d_bias_gradient_fast),
};

/// Adds partial sums in order.
pub static SUM_PARTIALS: Kernel = Kernel {
    name: "sum_partials",
    params: SumPartialsParams::FIELDS,
    bindings: &[read("partials"), write("y")],
    shaders: &[Shader {
        name: "sum_partials",
        wgsl: wgsl!("sum_partials"),
        workgroups: |params| workgroups_of_64(params_of::<SumPartialsParams>(params).len.into()),
    }],
    twin: sum_partials,
    fast: None,
};

/// The pixel that output (p, q) reads at tap (r, s), as a place in its plane; `None` in the padding.
fn pixel(d: &ConvShape, [p, q]: [usize; 2], [r, s]: [usize; 2]) -> Option<usize> {
    let h = (p * d.stride[0] + r * d.dilation[0]).checked_sub(d.padding[0]).filter(|&h| h < d.h)?;
    let w = (q * d.stride[1] + s * d.dilation[1]).checked_sub(d.padding[1]).filter(|&w| w < d.w)?;
    Some(h * d.w + w)
}

/// Channels and filters of one group.
fn group(d: &ConvShape) -> [usize; 2] {
    [d.c / d.groups, d.k / d.groups]
}

fn conv2d_forward(args: Args<'_>) {
    let (params, [x, weight, bias], [y]) = args.unpack::<Conv2dParams, 3, 1>();
    let d = params.shape();
    let [channels, filters] = group(&d);
    for n in 0..d.n {
        for k in 0..d.k {
            for p in 0..d.p {
                for q in 0..d.q {
                    let mut sum = if params.has_bias == 1 { bias[k] } else { 0.0 };
                    for c in 0..channels {
                        let plane = (n * d.c + k / filters * channels + c) * d.h * d.w;
                        for r in 0..d.r {
                            for s in 0..d.s {
                                if let Some(pixel) = pixel(&d, [p, q], [r, s]) {
                                    let tap = ((k * channels + c) * d.r + r) * d.s + s;
                                    sum += weight[tap] * x[plane + pixel];
                                }
                            }
                        }
                    }
                    y[((n * d.k + k) * d.p + p) * d.q + q] = sum;
                }
            }
        }
    }
}

fn conv2d_input_gradient(args: Args<'_>) {
    let (params, [dy, weight], [dx]) = args.unpack::<Conv2dParams, 2, 1>();
    let d = params.shape();
    let [channels, filters] = group(&d);
    if params.accumulate == 0 {
        dx.fill(0.0);
    }
    for n in 0..d.n {
        for k in 0..d.k {
            for p in 0..d.p {
                for q in 0..d.q {
                    let gradient = dy[((n * d.k + k) * d.p + p) * d.q + q];
                    for c in 0..channels {
                        let plane = (n * d.c + k / filters * channels + c) * d.h * d.w;
                        for r in 0..d.r {
                            for s in 0..d.s {
                                if let Some(pixel) = pixel(&d, [p, q], [r, s]) {
                                    let tap = ((k * channels + c) * d.r + r) * d.s + s;
                                    dx[plane + pixel] += weight[tap] * gradient;
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Sums over a batch are long: in f64, so that the specification carries no error of its own.
fn conv2d_weight_gradient(args: Args<'_>) {
    let (params, [x, dy], [partials]) = args.unpack::<Conv2dParams, 2, 1>();
    let d = params.shape();
    let [channels, filters] = group(&d);
    let rows = d.n * d.p;
    let split_rows = rows.div_ceil(params.splits as usize);
    for (split, partial) in partials.chunks_exact_mut(params.weights()).enumerate() {
        for k in 0..d.k {
            for c in 0..channels {
                for r in 0..d.r {
                    for s in 0..d.s {
                        let mut sum = 0.0_f64;
                        for row in (split * split_rows).min(rows)..((split + 1) * split_rows).min(rows) {
                            let (n, p) = (row / d.p, row % d.p);
                            let plane = (n * d.c + k / filters * channels + c) * d.h * d.w;
                            for q in 0..d.q {
                                if let Some(pixel) = pixel(&d, [p, q], [r, s]) {
                                    let gradient = dy[((n * d.k + k) * d.p + p) * d.q + q];
                                    sum += f64::from(gradient) * f64::from(x[plane + pixel]);
                                }
                            }
                        }
                        partial[((k * channels + c) * d.r + r) * d.s + s] = sum as f32;
                    }
                }
            }
        }
    }
}

fn conv2d_bias_gradient(args: Args<'_>) {
    let (params, [dy], [dbias]) = args.unpack::<Conv2dParams, 1, 1>();
    let d = params.shape();
    let area = d.p * d.q;
    for (k, dbias) in dbias.iter_mut().enumerate() {
        let planes = (0..d.n).flat_map(|n| &dy[(n * d.k + k) * area..][..area]);
        *dbias = planes.map(|&gradient| f64::from(gradient)).sum::<f64>() as f32;
    }
}

fn sum_partials(args: Args<'_>) {
    let (params, [partials], [y]) = args.unpack::<SumPartialsParams, 1, 1>();
    for (i, y) in y.iter_mut().enumerate() {
        *y = partials[i..].iter().step_by(params.len as usize).sum();
    }
}

/// The flag `accumulate` for the fast paths.
pub(super) fn accumulate(flag: u32) -> Accumulate {
    if flag == 1 { Accumulate::Add } else { Accumulate::Write }
}

fn conv2d_forward_fast(args: Args<'_>) {
    let (params, [x, weight, bias], [y]) = args.unpack::<Conv2dParams, 3, 1>();
    simd::conv2d_forward(&params.shape(), x, weight, (params.has_bias == 1).then_some(bias), y);
}

fn conv2d_input_gradient_fast(args: Args<'_>) {
    let (params, [dy, weight], [dx]) = args.unpack::<Conv2dParams, 2, 1>();
    simd::conv2d_input_gradient(&params.shape(), dy, weight, dx, accumulate(params.accumulate));
}

/// Everything goes to the first split: on the CPU there is but one, and any other way of cutting is as right.
fn conv2d_weight_gradient_fast(args: Args<'_>) {
    let (params, [x, dy], [partials]) = args.unpack::<Conv2dParams, 2, 1>();
    let (whole, rest) = partials.split_at_mut(params.weights());
    simd::conv2d_weight_gradient(&params.shape(), x, dy, whole);
    rest.fill(0.0);
}

fn conv2d_bias_gradient_fast(args: Args<'_>) {
    let (params, [dy], [dbias]) = args.unpack::<Conv2dParams, 1, 1>();
    simd::conv2d_bias_gradient(&params.shape(), dy, dbias);
}

impl Operator for Conv2d {
    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape> {
        let x = inputs[0];
        let fail = |expected: String, found: String| {
            Error::new(ErrorKind::Shape, "checking a convolution").expected(expected).found(found)
        };
        if x.c != self.in_channels {
            return Err(fail(format!("{} input channels", self.in_channels), x.to_string()));
        }
        let divides = |channels: usize| channels > 0 && channels.checked_rem(self.groups) == Some(0);
        if !divides(self.in_channels) || !divides(self.out_channels) {
            return Err(fail(
                "groups that divide input and output channels".into(),
                format!("{} groups of {} and {}", self.groups, self.in_channels, self.out_channels),
            ));
        }
        let steps = [self.kernel, self.stride, self.dilation];
        if steps.as_flattened().iter().any(|&step| step == 0 || step > MAX_STEP) {
            return Err(fail(
                format!("filter sides, strides and dilations from 1 to {MAX_STEP}"),
                format!("{:?}, {:?}, {:?}", self.kernel, self.stride, self.dilation),
            ));
        }
        let Padding { top, left, bottom, right } = self.padding;
        if [top, left, bottom, right].iter().any(|&side| side > MAX_STEP) {
            return Err(fail(format!("padding up to {MAX_STEP}"), format!("{:?}", self.padding)));
        }
        let taps = self.kernel[0] * self.kernel[1];
        let weights = self.out_channels.checked_mul(self.group_channels()).and_then(|n| n.checked_mul(taps));
        if weights.is_none_or(|weights| weights > MAX_WEIGHTS) {
            return Err(fail(format!("at most {MAX_WEIGHTS} weights"), format!("{self:?}")));
        }
        let extent = |axis: usize, size: usize, padding: usize| {
            let reach = (self.kernel[axis] - 1) * self.dilation[axis] + 1;
            let padded = size.saturating_add(padding);
            match padded.checked_sub(reach) {
                Some(rest) => Ok(rest / self.stride[axis] + 1),
                None => Err(fail(
                    format!("a padded image of at least {reach} pixels, the filter's reach"),
                    format!("{padded} pixels of {x}"),
                )),
            }
        };
        Ok(Shape::new(self.out_channels, extent(0, x.h, top + bottom)?, extent(1, x.w, left + right)?))
    }

    fn parameters(&self) -> Vec<ParamSpec> {
        let [r, s] = self.kernel;
        let dims = vec![self.out_channels, self.group_channels(), r, s];
        let mut specs = vec![ParamSpec { name: "weight", dims, kind: ParamKind::Weight }];
        if self.bias == Bias::With {
            specs.push(ParamSpec { name: "bias", dims: vec![self.out_channels], kind: ParamKind::Bias });
        }
        specs
    }

    fn macs(&self, _inputs: &[Shape], output: Shape) -> u64 {
        let taps = [self.group_channels(), self.kernel[0], self.kernel[1]];
        taps.iter().fold(output.len() as u64, |macs, &extent| macs.saturating_mul(extent as u64))
    }

    fn channels(&self, _inputs: &[Shape], output: Shape) -> Channels {
        if self.groups == 1 {
            Channels::New
        } else if self.groups == self.in_channels {
            let multiplier = (self.out_channels / self.in_channels).max(1);
            Channels::From((0..output.c).map(|k| Some((0, k / multiplier))).collect())
        } else {
            Channels::Grouped(self.groups)
        }
    }

    fn cut(&self, cut: &mut Cut<'_>) -> Option<Op> {
        cut.keep_rows();
        let (in_channels, out_channels) = (cut.inputs[0].len(), cut.output.len());
        let depthwise = self.groups > 1 && self.groups == self.in_channels;
        let groups = if depthwise { in_channels } else { self.groups };
        if !depthwise {
            cut.sum_grouped_columns(groups);
        }
        Some(Conv2d { in_channels, out_channels, groups, ..self.clone() }.into())
    }

    fn forward(&self, recorder: &mut Recorder<'_>, node: &NodeIo) -> Tensor {
        let y = recorder.tensor(node.output_words());
        let weight = node.parameter("weight");
        // A binding cannot stay empty: without a bias the kernel gets the weights there and reads none.
        let bias = if self.bias == Bias::With { node.parameter("bias") } else { weight.clone() };
        recorder.dispatch(
            &CONV2D_FORWARD,
            &self.node_params(node),
            &[node.input(0).into(), weight, bias, y.into()],
        );
        y
    }

    fn backward(&self, recorder: &mut Recorder<'_>, node: &NodeIo) {
        let dy = recorder.output_gradient(node);
        let mut params = self.node_params(node);
        params.splits = params.splits_for(recorder.parallelism());
        let splits = params.splits;
        let [x, dweight] = [node.input(0).into(), node.gradient("weight")];
        if splits == 1 {
            recorder.dispatch(&CONV2D_WEIGHT_GRADIENT, &params, &[x, dy.into(), dweight]);
        } else {
            let partials = recorder.tensor(params.weights() * splits as usize);
            recorder.dispatch(&CONV2D_WEIGHT_GRADIENT, &params, &[x, dy.into(), partials.into()]);
            let sum = SumPartialsParams { len: params.weights() as u32, splits };
            recorder.dispatch(&SUM_PARTIALS, &sum, &[partials.into(), dweight]);
        }
        if self.bias == Bias::With {
            recorder.dispatch(&CONV2D_BIAS_GRADIENT, &params, &[dy.into(), node.gradient("bias")]);
        }
        if let Some((dx, accumulate)) = recorder.input_gradient(node, 0) {
            let params = Conv2dParams { accumulate, ..params };
            recorder.dispatch(
                &CONV2D_INPUT_GRADIENT,
                &params,
                &[dy.into(), node.parameter("weight"), dx.into()],
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_round_down_as_in_pytorch() {
        let shape = |conv: Conv2d, h, w| conv.output_shape(&[Shape::new(3, h, w)]).map_err(|e| e.to_string());
        assert_eq!(shape(Conv2d::new(3, 8, [3, 5]), 9, 9), Ok(Shape::new(8, 7, 5)));
        assert_eq!(shape(Conv2d::same(3, 8, 3), 9, 7), Ok(Shape::new(8, 9, 7)));
        assert_eq!(shape(Conv2d { stride: [2, 3], ..Conv2d::same(3, 8, 3) }, 8, 9), Ok(Shape::new(8, 4, 3)));
        assert_eq!(
            shape(Conv2d { dilation: [2, 2], ..Conv2d::new(3, 8, [3, 3]) }, 9, 5),
            Ok(Shape::new(8, 5, 1))
        );
    }

    #[test]
    fn hostile_configurations_are_errors() {
        let good = Conv2d::same(4, 8, 3);
        let bad = [
            Conv2d { in_channels: 5, ..good.clone() },
            Conv2d { out_channels: 0, ..good.clone() },
            Conv2d { groups: 0, ..good.clone() },
            Conv2d { groups: 3, ..good.clone() },
            Conv2d { kernel: [0, 3], ..good.clone() },
            Conv2d { kernel: [3, usize::MAX], ..good.clone() },
            Conv2d { kernel: [11, 3], ..good.clone() },
            Conv2d { stride: [1, 0], ..good.clone() },
            Conv2d { dilation: [0, 1], ..good.clone() },
            Conv2d { dilation: [6, 1], ..good.clone() },
            Conv2d { padding: Padding::all(usize::MAX), ..good.clone() },
            Conv2d { out_channels: usize::MAX, ..good.clone() },
        ];
        assert!(good.output_shape(&[Shape::new(4, 8, 8)]).is_ok());
        for conv in bad {
            let outcome = conv.output_shape(&[Shape::new(4, 8, 8)]);
            assert!(outcome.is_err(), "{conv:?} gave {outcome:?}");
            assert_eq!(conv.parameters().len(), 2);
        }
    }

    #[test]
    fn channels_follow_the_groups() {
        let channels = |conv: Conv2d| conv.channels(&[Shape::new(4, 1, 1)], Shape::new(8, 1, 1));
        let conv = Conv2d::new(4, 8, [1, 1]);
        assert_eq!(channels(conv.clone()), Channels::New);
        assert_eq!(channels(Conv2d { groups: 2, ..conv.clone() }), Channels::Grouped(2));
        let from = (0..8).map(|k| Some((0, k / 2))).collect();
        assert_eq!(channels(Conv2d { groups: 4, ..conv }), Channels::From(from));
    }

    #[test]
    fn macs_count_one_filter_application_an_output() {
        let conv = Conv2d { groups: 2, ..Conv2d::same(4, 8, 3) };
        assert_eq!(conv.macs(&[Shape::new(4, 5, 5)], Shape::new(8, 5, 5)), 8 * 25 * 2 * 9);
    }

    #[test]
    fn splits_follow_the_parallelism_and_never_cut_a_row() {
        let d =
            Conv2dParams { n: 8, c: 16, h: 32, w: 32, k: 16, r: 3, s: 3, p: 32, q: 32, ..Default::default() };
        let d = Conv2dParams { groups: 1, ..d };
        assert_eq!(d.splits_for(1), 1);
        assert_eq!(d.splits_for(4096), 29);
        assert_eq!(d.splits_for(1 << 20), 128);
        assert_eq!(Conv2dParams { n: 1, p: 1, q: 1, ..d }.splits_for(1 << 20), 1);
    }
}
