//! ResNets for ImageNet (He et al. 2016; stride in the 3x3 convolution, as torchvision has it), also with
//! squeeze-and-excitation (Hu et al. 2018, reduction 16).
//!
//! Names as in torchvision: `conv1`, `bn1`, `layer1.0.conv1`, ..., `downsample.0`, `fc`; gates `se.fc1`, `se.fc2` as in timm.

use super::{ModelConfig, conv_bn, conv_bn_relu};
use crate::graph::{Graph, GraphBuilder, NodeId};
use crate::ops::{Add, Conv2d, Flatten, GlobalAvgPool, Linear, MaxPool2d, Mul, Relu, Sigmoid};

/// What a residual block holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Block {
    /// Two 3x3 convolutions.
    Basic,
    /// 1x1, 3x3, 1x1, its output four times as wide.
    Bottleneck,
}

/// Whether blocks gate their channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gate {
    /// They do not.
    None,
    /// Squeeze-and-excitation before the sum.
    SqueezeExcite,
}

/// How many times narrower the inside of a gate is, and its least width.
const REDUCTION: usize = 16;
const LEAST_SQUEEZED: usize = 4;

/// `blocks` blocks in each of four stages of 64, 128, 256 and 512 channels.
pub(super) fn resnet(
    name: &str,
    block: Block,
    blocks: [usize; 4],
    gate: Gate,
    config: &ModelConfig,
) -> Graph {
    let mut b = GraphBuilder::new(name, config.input);
    let mut channels = config.scaled(64);
    let stem = Conv2d { stride: [2, 2], ..Conv2d::same(config.input.c, channels, 7) };
    let mut x = conv_bn_relu(&mut b, 0, "conv1", "bn1", stem);
    x = b.add("maxpool", MaxPool2d { stride: [2, 2], padding: [1, 1], ..MaxPool2d::new(3) }, &[x]);
    for (stage, (planes, blocks)) in [64, 128, 256, 512].into_iter().zip(blocks).enumerate() {
        let planes = config.scaled(planes);
        let out = if block == Block::Basic { planes } else { 4 * planes };
        for index in 0..blocks {
            let prefix = format!("layer{}.{index}", stage + 1);
            let stride = if stage > 0 && index == 0 { [2, 2] } else { [1, 1] };
            let named = |part: &str| format!("{prefix}.{part}");
            let mut y = match block {
                Block::Basic => {
                    let first = Conv2d { stride, ..Conv2d::same(channels, planes, 3) };
                    let y = conv_bn_relu(&mut b, x, &named("conv1"), &named("bn1"), first);
                    conv_bn(&mut b, y, &named("conv2"), &named("bn2"), Conv2d::same(planes, out, 3))
                }
                Block::Bottleneck => {
                    let first = Conv2d::same(channels, planes, 1);
                    let middle = Conv2d { stride, ..Conv2d::same(planes, planes, 3) };
                    let y = conv_bn_relu(&mut b, x, &named("conv1"), &named("bn1"), first);
                    let y = conv_bn_relu(&mut b, y, &named("conv2"), &named("bn2"), middle);
                    conv_bn(&mut b, y, &named("conv3"), &named("bn3"), Conv2d::same(planes, out, 1))
                }
            };
            if gate == Gate::SqueezeExcite {
                y = squeeze_excite(&mut b, y, &named("se"), out);
            }
            let shortcut = if channels == out && stride == [1, 1] {
                x
            } else {
                let projection = Conv2d { stride, ..Conv2d::same(channels, out, 1) };
                conv_bn(&mut b, x, &named("downsample.0"), &named("downsample.1"), projection)
            };
            let sum = b.add(&named("add"), Add {}, &[y, shortcut]);
            x = b.add(&named("relu"), Relu {}, &[sum]);
            channels = out;
        }
    }
    let x = b.add("avgpool", GlobalAvgPool {}, &[x]);
    let x = b.add("flatten", Flatten {}, &[x]);
    b.add("fc", Linear::new(channels, config.classes), &[x]);
    b.finish()
}

/// `x` times a gate that sees the mean of every channel.
fn squeeze_excite(b: &mut GraphBuilder, x: NodeId, prefix: &str, channels: usize) -> NodeId {
    let squeezed = (channels / REDUCTION).max(LEAST_SQUEEZED);
    let named = |part: &str| format!("{prefix}.{part}");
    let gate = b.add(&named("pool"), GlobalAvgPool {}, &[x]);
    let gate = b.add(&named("fc1"), Conv2d::new(channels, squeezed, [1, 1]), &[gate]);
    let gate = b.add(&named("relu"), Relu {}, &[gate]);
    let gate = b.add(&named("fc2"), Conv2d::new(squeezed, channels, [1, 1]), &[gate]);
    let gate = b.add(&named("sigmoid"), Sigmoid {}, &[gate]);
    b.add(&named("mul"), Mul {}, &[x, gate])
}
