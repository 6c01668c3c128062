//! Subsamples pixels and rearranges channels, zero where there is no source: the option-A shortcut of CIFAR ResNets
//! (He et al. 2016, section 4.2).
//!
//! `y_nkpq = x[n, source_k, p stride_h, q stride_w]`, or 0. Shapes: x `[N, C, H, W]`, y `[N, K, P, Q]` with
//! `P = ceil(H / stride_h)`.

use super::{Channels, Op, Operator, workgroups_of_64};
use crate::device::simd;
use crate::device::{Args, Kernel, Params, Shader, params_of, read, wgsl, write};
use crate::error::{Error, ErrorKind, Result};
use crate::from_json;
use crate::params;
use crate::plan::{NodeIo, Recorder, Tensor};
use crate::prune::surgery::Cut;
use crate::shape::Shape;
use serde::Serialize;

/// `torch.nn.functional.pad(x[:, :, ::s, ::s], (0, 0, 0, 0, before, after))`, and what surgery makes of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ChannelPad {
    /// Rows and columns from one pixel taken to the next.
    pub stride: [usize; 2],
    /// Input channel of each output channel; `None` is a channel of zeros. No input channel may occur twice.
    pub source: Vec<Option<usize>>,
}

from_json!(ChannelPad { stride, source });

impl ChannelPad {
    /// All input channels in order, between `before` and `after` channels of zeros.
    pub fn symmetric(in_channels: usize, before: usize, after: usize, stride: usize) -> Self {
        let zeros = |count| std::iter::repeat_n(None, count);
        let source = zeros(before).chain((0..in_channels).map(Some)).chain(zeros(after)).collect();
        ChannelPad { stride: [stride, stride], source }
    }

    /// The map as its kernel reads it: input channel of each output channel, `u32::MAX` where there is none.
    pub fn source(&self) -> Vec<u32> {
        self.source.iter().map(|source| source.map_or(NONE, |c| c as u32)).collect()
    }

    /// The map backwards: output channel of each of `channels` input channels, `u32::MAX` where there is none.
    pub fn destination(&self, channels: usize) -> Vec<u32> {
        let mut destination = vec![NONE; channels];
        for (k, source) in self.source.iter().enumerate() {
            if let Some(c) = source {
                destination[*c] = k as u32;
            }
        }
        destination
    }

    /// The kernels' uniform for `batch` images of shape `x` in and `y` out, nothing accumulated.
    pub fn params(&self, batch: usize, x: Shape, y: Shape) -> ChannelPadParams {
        ChannelPadParams {
            n: batch as u32,
            c: x.c as u32,
            h: x.h as u32,
            w: x.w as u32,
            k: y.c as u32,
            p: y.h as u32,
            q: y.w as u32,
            stride_h: self.stride[0] as u32,
            stride_w: self.stride[1] as u32,
            accumulate: 0,
        }
    }
}

params! {
    /// Uniform of the two kernels.
    pub struct ChannelPadParams {
        /// Images.
        n: u32,
        /// Input channels.
        c: u32,
        /// Input height.
        h: u32,
        /// Input width.
        w: u32,
        /// Output channels.
        k: u32,
        /// Output height.
        p: u32,
        /// Output width.
        q: u32,
        /// Rows from one output row to the next.
        stride_h: u32,
        /// Columns from one output column to the next.
        stride_w: u32,
        /// 1 when the gradient is added to what is there, 0 when it overwrites; unused forward.
        accumulate: u32,
    }
}

/// What a channel map says of a channel that has no counterpart.
const NONE: u32 = u32::MAX;

/// `y = x` through the channel map `source [K]`, zero where that is `NONE`.
pub static CHANNEL_PAD_FORWARD: Kernel = Kernel {
    name: "channel_pad_forward",
    params: ChannelPadParams::FIELDS,
    bindings: &[read("x"), read("source"), write("y")],
    shaders: &[Shader {
        name: "channel_pad_forward",
        wgsl: wgsl!("channel_pad_forward"),
        workgroups: |params| {
            let p = params_of::<ChannelPadParams>(params);
            workgroups_of_64([p.n, p.k, p.p, p.q].into_iter().map(u64::from).product())
        },
    }],
    twin: channel_pad_forward,
    fast: Some(channel_pad_forward_fast),
};

/// `dx = dy` through the inverse map `destination [C]`, zero where that is `NONE` and between the pixels taken.
pub static CHANNEL_PAD_BACKWARD: Kernel = Kernel {
    name: "channel_pad_backward",
    params: ChannelPadParams::FIELDS,
    bindings: &[read("dy"), read("destination"), write("dx")],
    shaders: &[Shader {
        name: "channel_pad_backward",
        wgsl: wgsl!("channel_pad_backward"),
        workgroups: |params| {
            let p = params_of::<ChannelPadParams>(params);
            workgroups_of_64([p.n, p.c, p.h, p.w].into_iter().map(u64::from).product())
        },
    }],
    twin: channel_pad_backward,
    fast: Some(channel_pad_backward_fast),
};

fn channel_pad_forward(args: Args<'_>) {
    let (params, [x, source], [y]) = args.unpack::<ChannelPadParams, 2, 1>();
    let source: &[u32] = bytemuck::cast_slice(source);
    let [c, h, w] = [params.c, params.h, params.w].map(|extent| extent as usize);
    let [k, p, q] = [params.k, params.p, params.q].map(|extent| extent as usize);
    let [stride_h, stride_w] = [params.stride_h, params.stride_w].map(|stride| stride as usize);
    for (plane, y) in y.chunks_exact_mut(p * q).enumerate() {
        let (image, channel) = (plane / k, source[plane % k]);
        if channel == NONE {
            y.fill(0.0);
            continue;
        }
        let x = &x[(image * c + channel as usize) * h * w..][..h * w];
        for i in 0..p {
            for j in 0..q {
                y[i * q + j] = x[i * stride_h * w + j * stride_w];
            }
        }
    }
}

/// The twins image by image, spread over the threads.
fn channel_pad_forward_fast(args: Args<'_>) {
    let (params, [x, source], [y]) = args.unpack::<ChannelPadParams, 2, 1>();
    let image = (params.c * params.h * params.w) as usize;
    simd::for_each_part(y, (params.k * params.p * params.q) as usize, |n, y| {
        channel_pad_forward(Args::of(&params, &[&x[n * image..][..image], source], [y]));
    });
}

fn channel_pad_backward_fast(args: Args<'_>) {
    let (params, [dy, destination], [dx]) = args.unpack::<ChannelPadParams, 2, 1>();
    let image = (params.k * params.p * params.q) as usize;
    simd::for_each_part(dx, (params.c * params.h * params.w) as usize, |n, dx| {
        channel_pad_backward(Args::of(&params, &[&dy[n * image..][..image], destination], [dx]));
    });
}

fn channel_pad_backward(args: Args<'_>) {
    let (params, [dy, destination], [dx]) = args.unpack::<ChannelPadParams, 2, 1>();
    let destination: &[u32] = bytemuck::cast_slice(destination);
    let [c, h, w] = [params.c, params.h, params.w].map(|extent| extent as usize);
    let [k, p, q] = [params.k, params.p, params.q].map(|extent| extent as usize);
    let [stride_h, stride_w] = [params.stride_h, params.stride_w].map(|stride| stride as usize);
    for (plane, dx) in dx.chunks_exact_mut(h * w).enumerate() {
        let (image, channel) = (plane / c, destination[plane % c]);
        for i in 0..h {
            for j in 0..w {
                let taken = channel != NONE && i % stride_h == 0 && j % stride_w == 0;
                let gradient = if taken {
                    dy[((image * k + channel as usize) * p + i / stride_h) * q + j / stride_w]
                } else {
                    0.0
                };
                let dx = &mut dx[i * w + j];
                *dx = if params.accumulate == 1 { *dx + gradient } else { gradient };
            }
        }
    }
}

impl Operator for ChannelPad {
    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape> {
        let Shape { c, h, w } = inputs[0];
        let fail = |expected: String, found: String| {
            Error::new(ErrorKind::Shape, "checking a channel padding").expected(expected).found(found)
        };
        if self.stride.iter().any(|&stride| stride == 0 || u32::try_from(stride).is_err()) {
            return Err(fail(format!("strides from 1 to {}", u32::MAX), format!("{:?}", self.stride)));
        }
        let mut seen = vec![false; c];
        for source in self.source.iter().flatten() {
            match seen.get_mut(*source) {
                None => return Err(fail(format!("source channels below {c}"), source.to_string())),
                Some(true) => {
                    return Err(fail("each source channel at most once".into(), format!("{source} twice")));
                }
                Some(seen) => *seen = true,
            }
        }
        Ok(Shape::new(self.source.len(), h.div_ceil(self.stride[0]), w.div_ceil(self.stride[1])))
    }

    fn channels(&self, _inputs: &[Shape], _output: Shape) -> Channels {
        Channels::From(self.source.iter().map(|source| source.map(|c| (0, c))).collect())
    }

    fn cut(&self, cut: &mut Cut<'_>) -> Option<Op> {
        let new_index = cut.inputs[0].new_index();
        let source =
            cut.output.survivors().into_iter().map(|k| self.source[k].and_then(|c| new_index[c])).collect();
        Some(ChannelPad { source, ..self.clone() }.into())
    }

    fn forward(&self, recorder: &mut Recorder<'_>, node: &NodeIo) -> Tensor {
        let source = recorder.constant(&self.source());
        let y = recorder.tensor(node.output_words());
        let operands = [node.input(0).into(), source.into(), y.into()];
        let params = self.params(node.batch(), node.input_shape(0), node.output_shape());
        recorder.dispatch(&CHANNEL_PAD_FORWARD, &params, &operands);
        y
    }

    fn backward(&self, recorder: &mut Recorder<'_>, node: &NodeIo) {
        let dy = recorder.output_gradient(node);
        if let Some((dx, accumulate)) = recorder.input_gradient(node, 0) {
            let destination = recorder.constant(&self.destination(node.input_shape(0).c));
            let operands = [dy.into(), destination.into(), dx.into()];
            let params = self.params(node.batch(), node.input_shape(0), node.output_shape());
            recorder.dispatch(&CHANNEL_PAD_BACKWARD, &ChannelPadParams { accumulate, ..params }, &operands);
        }
    }
}
