//! DenseNets (Huang et al. 2017): every layer reads the concatenation of all before it in its block.
//!
//! Names as in torchvision: `features.conv0`, `features.denseblock1.denselayer1.norm1`, ..., `classifier`.

use super::ModelConfig;
use crate::graph::{Graph, GraphBuilder, NodeId};
use crate::ops::{
    AvgPool2d, BatchNorm2d, Bias, Concat, Conv2d, Flatten, GlobalAvgPool, Linear, MaxPool2d, Relu,
};

/// The plain DenseNet-40 for CIFAR: three blocks of 12 layers, growth 12, no bottlenecks, no compression.
pub(super) fn densenet40(config: &ModelConfig) -> Graph {
    let mut b = GraphBuilder::new("densenet40", config.input);
    let mut channels = config.scaled(16);
    let x = conv(&mut b, 0, "features.conv0", Conv2d::same(config.input.c, channels, 3));
    let growth = config.scaled(12);
    let x = blocks(&mut b, x, &mut channels, &[12, 12, 12], growth, None);
    head(b, x, channels, 4, config)
}

/// DenseNet-121 for ImageNet: growth 32, bottlenecks of 128, channels halved between blocks.
pub(super) fn densenet121(config: &ModelConfig) -> Graph {
    let mut b = GraphBuilder::new("densenet121", config.input);
    let mut channels = config.scaled(64);
    let stem = Conv2d { stride: [2, 2], ..Conv2d::same(config.input.c, channels, 7) };
    let x = conv(&mut b, 0, "features.conv0", stem);
    let x = norm_relu(&mut b, x, "features.norm0", "features.relu0", channels);
    let pool = MaxPool2d { stride: [2, 2], padding: [1, 1], ..MaxPool2d::new(3) };
    let x = b.add("features.pool0", pool, &[x]);
    let growth = config.scaled(32);
    let x = blocks(&mut b, x, &mut channels, &[6, 12, 24, 16], growth, Some(4 * growth));
    head(b, x, channels, 5, config)
}

/// Blocks with a transition after each but the last. Bottlenecks, if any, have so many channels, and then transitions halve.
fn blocks(
    b: &mut GraphBuilder,
    mut x: NodeId,
    channels: &mut usize,
    layers: &[usize],
    growth: usize,
    bottleneck: Option<usize>,
) -> NodeId {
    let blocks = layers.len();
    for (block, &layers) in layers.iter().enumerate() {
        for layer in 0..layers {
            let prefix = format!("features.denseblock{}.denselayer{}", block + 1, layer + 1);
            let named = |part: &str| format!("{prefix}.{part}");
            let mut y = norm_relu(b, x, &named("norm1"), &named("relu1"), *channels);
            y = match bottleneck {
                None => conv(b, y, &named("conv1"), Conv2d::same(*channels, growth, 3)),
                Some(inner) => {
                    let y = conv(b, y, &named("conv1"), Conv2d::same(*channels, inner, 1));
                    let y = norm_relu(b, y, &named("norm2"), &named("relu2"), inner);
                    conv(b, y, &named("conv2"), Conv2d::same(inner, growth, 3))
                }
            };
            x = b.add(&named("concat"), Concat {}, &[x, y]);
            *channels += growth;
        }
        if block + 1 < blocks {
            let prefix = format!("features.transition{}", block + 1);
            let named = |part: &str| format!("{prefix}.{part}");
            let out = if bottleneck.is_some() { (*channels / 2).max(1) } else { *channels };
            x = norm_relu(b, x, &named("norm"), &named("relu"), *channels);
            x = conv(b, x, &named("conv"), Conv2d::same(*channels, out, 1));
            x = b.add(&named("pool"), AvgPool2d::new(2), &[x]);
            *channels = out;
        }
    }
    x
}

fn head(mut b: GraphBuilder, x: NodeId, channels: usize, norm: usize, config: &ModelConfig) -> Graph {
    let x = norm_relu(&mut b, x, &format!("features.norm{norm}"), "relu", channels);
    let x = b.add("avgpool", GlobalAvgPool {}, &[x]);
    let x = b.add("flatten", Flatten {}, &[x]);
    b.add("classifier", Linear::new(channels, config.classes), &[x]);
    b.finish()
}

fn conv(b: &mut GraphBuilder, x: NodeId, name: &str, conv: Conv2d) -> NodeId {
    b.add(name, Conv2d { bias: Bias::Without, ..conv }, &[x])
}

fn norm_relu(b: &mut GraphBuilder, x: NodeId, norm: &str, relu: &str, channels: usize) -> NodeId {
    let x = b.add(norm, BatchNorm2d::new(channels), &[x]);
    b.add(relu, Relu {}, &[x])
}
