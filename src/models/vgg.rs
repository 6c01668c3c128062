//! VGG-16 for small images (Simonyan and Zisserman 2015, with batch norm): 13 convolutions in five stages, two linear layers.
//!
//! Names as in torchvision's `vgg16_bn`: `features.0`, `features.1`, ..., `classifier.0`, `classifier.2`.

use super::{ModelConfig, conv_bn_relu};
use crate::graph::{Graph, GraphBuilder};
use crate::ops::{Conv2d, Flatten, Linear, MaxPool2d, Relu};

/// Convolutions a stage and their width; a 2x2 max pool after each.
const STAGES: [(usize, usize); 5] = [(2, 64), (2, 128), (3, 256), (3, 512), (3, 512)];

/// Width of the hidden linear layer.
const HIDDEN: usize = 512;

pub(super) fn vgg16(config: &ModelConfig) -> Graph {
    let mut b = GraphBuilder::new("vgg16", config.input);
    let mut x = 0;
    let mut channels = config.input.c;
    let mut index = 0;
    for (layers, width) in STAGES {
        let width = config.scaled(width);
        for _ in 0..layers {
            let names = [index, index + 1].map(|i| format!("features.{i}"));
            x = conv_bn_relu(&mut b, x, &names[0], &names[1], Conv2d::same(channels, width, 3));
            channels = width;
            index += 3;
        }
        let pool = MaxPool2d::new(2);
        x = b.add(&format!("features.{index}"), pool, &[x]);
        index += 1;
    }
    let hidden = config.scaled(HIDDEN);
    let pixels = (config.input.h / 32) * (config.input.w / 32);
    x = b.add("flatten", Flatten {}, &[x]);
    x = b.add("classifier.0", Linear::new(channels * pixels, hidden), &[x]);
    x = b.add("classifier.1", Relu {}, &[x]);
    b.add("classifier.2", Linear::new(hidden, config.classes), &[x]);
    b.finish()
}
