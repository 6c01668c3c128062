//! VGG-16 with batch norm (Simonyan and Zisserman 2015): 13 convolutions in five stages, then linear layers.
//!
//! Names as in torchvision's `vgg16_bn`: `features.0`, `features.1`, ..., `classifier.0`. `vgg16` is the form for small images,
//! with one hidden linear layer and no biases before batch norms; `vgg16_bn` is torchvision's.

use super::ModelConfig;
use crate::graph::{Graph, GraphBuilder};
use crate::ops::{BatchNorm2d, Bias, Conv2d, Flatten, Linear, MaxPool2d, Relu};

/// Convolutions a stage and their width; a 2x2 max pool after each.
const STAGES: [(usize, usize); 5] = [(2, 64), (2, 128), (3, 256), (3, 512), (3, 512)];

/// One hidden linear layer of 512.
pub(super) fn vgg16(config: &ModelConfig) -> Graph {
    vgg("vgg16", Bias::Without, &[("classifier.0", 512)], "classifier.2", config)
}

/// Two hidden linear layers of 4096. Images of 224 pixels give them 7x7 pixels; other sizes give them others.
pub(super) fn vgg16_bn(config: &ModelConfig) -> Graph {
    let hidden = [("classifier.0", 4096), ("classifier.3", 4096)];
    vgg("vgg16_bn", Bias::With, &hidden, "classifier.6", config)
}

fn vgg(name: &str, bias: Bias, hidden: &[(&str, usize)], last: &str, config: &ModelConfig) -> Graph {
    let mut b = GraphBuilder::new(name, config.input);
    let mut x = 0;
    let mut channels = config.input.c;
    let mut index = 0;
    for (layers, width) in STAGES {
        let width = config.scaled(width);
        for _ in 0..layers {
            let named = |part: usize| format!("features.{}", index + part);
            x = b.add(&named(0), Conv2d { bias, ..Conv2d::same(channels, width, 3) }, &[x]);
            x = b.add(&named(1), BatchNorm2d::new(width), &[x]);
            x = b.add(&format!("{}.relu", named(1)), Relu {}, &[x]);
            channels = width;
            index += 3;
        }
        x = b.add(&format!("features.{index}"), MaxPool2d::new(2), &[x]);
        index += 1;
    }
    let mut features = channels * (config.input.h / 32) * (config.input.w / 32);
    x = b.add("flatten", Flatten {}, &[x]);
    for &(name, width) in hidden {
        let width = config.scaled(width);
        x = b.add(name, Linear::new(features, width), &[x]);
        x = b.add(&format!("{name}.relu"), Relu {}, &[x]);
        features = width;
    }
    b.add(last, Linear::new(features, config.classes), &[x]);
    b.finish()
}
