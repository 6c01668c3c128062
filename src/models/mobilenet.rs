//! MobileNets: depthwise 3x3 convolutions between 1x1 ones.
//!
//! V1 (Howard et al. 2017) with names by index, `model.0.0`, ..., `fc`; V2 (Sandler et al. 2018) with torchvision's,
//! `features.0.0`, `features.1.conv.0.0`, ..., `classifier.1`.

use super::{ModelConfig, conv_bn, conv_bn_relu};
use crate::graph::{Graph, GraphBuilder, NodeId};
use crate::ops::{Add, Conv2d, Flatten, GlobalAvgPool, Linear, Relu6};

/// Width and stride of V1's 13 depthwise separable layers.
const SEPARABLE: [(usize, usize); 13] = [
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    (512, 1),
    (512, 1),
    (512, 1),
    (512, 1),
    (512, 1),
    (1024, 2),
    (1024, 1),
];

/// Expansion, width, blocks and stride of V2's seven stages.
const INVERTED: [(usize, usize, usize, usize); 7] = [
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
];

fn depthwise(channels: usize, stride: usize) -> Conv2d {
    Conv2d { groups: channels, stride: [stride, stride], ..Conv2d::same(channels, channels, 3) }
}

fn head(mut b: GraphBuilder, x: NodeId, name: &str, channels: usize, config: &ModelConfig) -> Graph {
    let x = b.add("avgpool", GlobalAvgPool {}, &[x]);
    let x = b.add("flatten", Flatten {}, &[x]);
    b.add(name, Linear::new(channels, config.classes), &[x]);
    b.finish()
}

pub(super) fn mobilenet_v1(config: &ModelConfig) -> Graph {
    let mut b = GraphBuilder::new("mobilenet_v1", config.input);
    let mut channels = config.scaled(32);
    let stem = Conv2d { stride: [2, 2], ..Conv2d::same(config.input.c, channels, 3) };
    let mut x = conv_bn_relu(&mut b, 0, "model.0.0", "model.0.1", stem);
    for (index, (width, stride)) in SEPARABLE.into_iter().enumerate() {
        let named = |part: usize| format!("model.{}.{part}", index + 1);
        let out = config.scaled(width);
        x = conv_bn_relu(&mut b, x, &named(0), &named(1), depthwise(channels, stride));
        x = conv_bn_relu(&mut b, x, &named(3), &named(4), Conv2d::same(channels, out, 1));
        channels = out;
    }
    head(b, x, "fc", channels, config)
}

pub(super) fn mobilenet_v2(config: &ModelConfig) -> Graph {
    let mut b = GraphBuilder::new("mobilenet_v2", config.input);
    let relu6 = |b: &mut GraphBuilder, x: NodeId, prefix: &str, conv: Conv2d| {
        let x = conv_bn(b, x, &format!("{prefix}.0"), &format!("{prefix}.1"), conv);
        b.add(&format!("{prefix}.2"), Relu6 {}, &[x])
    };
    let mut channels = config.scaled(32);
    let stem = Conv2d { stride: [2, 2], ..Conv2d::same(config.input.c, channels, 3) };
    let mut x = relu6(&mut b, 0, "features.0", stem);
    let mut index = 1;
    for (expansion, width, blocks, stride) in INVERTED {
        let out = config.scaled(width);
        for block in 0..blocks {
            let prefix = format!("features.{index}.conv");
            let stride = if block == 0 { stride } else { 1 };
            let (mut y, mut part, inner) = (x, 0, channels * expansion);
            if expansion > 1 {
                y = relu6(&mut b, y, &format!("{prefix}.0"), Conv2d::same(channels, inner, 1));
                part = 1;
            }
            y = relu6(&mut b, y, &format!("{prefix}.{part}"), depthwise(inner, stride));
            let (conv, norm) = (format!("{prefix}.{}", part + 1), format!("{prefix}.{}", part + 2));
            y = conv_bn(&mut b, y, &conv, &norm, Conv2d::same(inner, out, 1));
            let joins = stride == 1 && channels == out;
            x = if joins { b.add(&format!("features.{index}.add"), Add {}, &[x, y]) } else { y };
            channels = out;
            index += 1;
        }
    }
    let last = config.scaled(1280);
    x = relu6(&mut b, x, &format!("features.{index}"), Conv2d::same(channels, last, 1));
    head(b, x, "classifier.1", last, config)
}
