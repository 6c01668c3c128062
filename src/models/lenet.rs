//! A small network in LeNet's form: two convolutions with batch norm, each followed by ReLU and max pooling, one linear layer.

use super::{ModelConfig, conv_bn_relu};
use crate::graph::{Graph, GraphBuilder};
use crate::ops::{Conv2d, Flatten, Linear, MaxPool2d};

/// `conv1` 3x3x8, `bn1`, `conv2` 3x3x16, `bn2`, `fc`.
pub(super) fn lenet(config: &ModelConfig) -> Graph {
    let mut b = GraphBuilder::new("lenet", config.input);
    let pool = || MaxPool2d::new(2);
    let [first, second] = [8, 16].map(|channels| config.scaled(channels));
    let x = conv_bn_relu(&mut b, 0, "conv1", "bn1", Conv2d::same(config.input.c, first, 3));
    let x = b.add("pool1", pool(), &[x]);
    let x = conv_bn_relu(&mut b, x, "conv2", "bn2", Conv2d::same(first, second, 3));
    let x = b.add("pool2", pool(), &[x]);
    let x = b.add("flatten", Flatten {}, &[x]);
    b.add("fc", Linear::new(second * (config.input.h / 4) * (config.input.w / 4), config.classes), &[x]);
    b.finish()
}
