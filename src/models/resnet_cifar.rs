//! ResNets for CIFAR (He et al. 2016, section 4.2): three stages of 16, 32 and 64 channels, 6n + 2 layers.
//!
//! Names as in akamaster/pytorch_resnet_cifar10: `conv1`, `bn1`, `layer1.0.conv1`, ..., `shortcut.0`, `linear`.

use super::{ModelConfig, Shortcut, conv_bn, conv_bn_relu};
use crate::graph::{Graph, GraphBuilder, NodeId};
use crate::ops::{Add, ChannelPad, Conv2d, Flatten, GlobalAvgPool, Linear, Relu};

/// Two 3x3 convolutions a block, `blocks` blocks a stage.
pub(super) fn basic(name: &str, blocks: usize, config: &ModelConfig) -> Graph {
    stages(name, blocks, 1, config)
}

/// 1x1, 3x3, 1x1 a block, the block's output four times as wide; `blocks` blocks a stage.
pub(super) fn bottleneck(name: &str, blocks: usize, config: &ModelConfig) -> Graph {
    stages(name, blocks, 4, config)
}

fn stages(name: &str, blocks: usize, expansion: usize, config: &ModelConfig) -> Graph {
    let mut b = GraphBuilder::new(name, config.input);
    let mut channels = config.scaled(16);
    let mut x = conv_bn_relu(&mut b, 0, "conv1", "bn1", Conv2d::same(config.input.c, channels, 3));
    for (stage, planes) in [16, 32, 64].into_iter().enumerate() {
        let planes = config.scaled(planes);
        for block in 0..blocks {
            let prefix = format!("layer{}.{block}", stage + 1);
            let stride = if stage > 0 && block == 0 { 2 } else { 1 };
            let out = planes * expansion;
            let inner = if expansion == 1 {
                basic_branch(&mut b, x, &prefix, channels, planes, stride)
            } else {
                bottleneck_branch(&mut b, x, &prefix, channels, planes, out, stride)
            };
            let shortcut = shortcut(&mut b, x, &prefix, channels, out, stride, config.shortcut);
            let sum = b.add(&format!("{prefix}.add"), Add {}, &[inner, shortcut]);
            x = b.add(&format!("{prefix}.relu"), Relu {}, &[sum]);
            channels = out;
        }
    }
    let x = b.add("avgpool", GlobalAvgPool {}, &[x]);
    let x = b.add("flatten", Flatten {}, &[x]);
    b.add("linear", Linear::new(channels, config.classes), &[x]);
    b.finish()
}

fn named(prefix: &str, part: &str) -> String {
    format!("{prefix}.{part}")
}

fn basic_branch(
    b: &mut GraphBuilder,
    x: NodeId,
    prefix: &str,
    channels: usize,
    planes: usize,
    stride: usize,
) -> NodeId {
    let first = Conv2d { stride: [stride, stride], ..Conv2d::same(channels, planes, 3) };
    let x = conv_bn_relu(b, x, &named(prefix, "conv1"), &named(prefix, "bn1"), first);
    conv_bn(b, x, &named(prefix, "conv2"), &named(prefix, "bn2"), Conv2d::same(planes, planes, 3))
}

fn bottleneck_branch(
    b: &mut GraphBuilder,
    x: NodeId,
    prefix: &str,
    channels: usize,
    planes: usize,
    out: usize,
    stride: usize,
) -> NodeId {
    let middle = Conv2d { stride: [stride, stride], ..Conv2d::same(planes, planes, 3) };
    let x =
        conv_bn_relu(b, x, &named(prefix, "conv1"), &named(prefix, "bn1"), Conv2d::same(channels, planes, 1));
    let x = conv_bn_relu(b, x, &named(prefix, "conv2"), &named(prefix, "bn2"), middle);
    conv_bn(b, x, &named(prefix, "conv3"), &named(prefix, "bn3"), Conv2d::same(planes, out, 1))
}

fn shortcut(
    b: &mut GraphBuilder,
    x: NodeId,
    prefix: &str,
    channels: usize,
    out: usize,
    stride: usize,
    kind: Shortcut,
) -> NodeId {
    if channels == out && stride == 1 {
        return x;
    }
    let name = named(prefix, "shortcut");
    match kind {
        Shortcut::A => {
            let before = (out - channels) / 2;
            b.add(&name, ChannelPad::symmetric(channels, before, out - channels - before, stride), &[x])
        }
        Shortcut::Projection => {
            let conv = Conv2d { stride: [stride, stride], ..Conv2d::same(channels, out, 1) };
            conv_bn(b, x, &format!("{name}.0"), &format!("{name}.1"), conv)
        }
    }
}
