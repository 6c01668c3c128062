//! The model zoo: architectures by name, with PyTorch's parameter names.

mod densenet;
mod googlenet;
mod lenet;
mod mobilenet;
mod resnet;
mod resnet_cifar;
mod vgg;

use crate::error::{Error, ErrorKind, Result};
use crate::graph::{Graph, GraphBuilder, NodeId};
use crate::ops::{BatchNorm2d, Bias, Conv2d, Relu};
use crate::shape::Shape;
use resnet::{Block, Gate, resnet};
use serde::{Deserialize, Serialize};
use std::str::FromStr;

/// How a residual block that changes width joins its input to its output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shortcut {
    /// A 1x1 convolution and batch norm (option B of He et al. 2016).
    #[default]
    Projection,
    /// Every other pixel, with channels of zeros before and after (option A).
    A,
}

impl FromStr for Shortcut {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "projection" | "b" => Ok(Shortcut::Projection),
            "a" => Ok(Shortcut::A),
            _ => Err(Error::new(ErrorKind::Argument, "choosing a shortcut")
                .expected("projection or a")
                .found(text)),
        }
    }
}

/// What a zoo model is built for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ModelConfig {
    /// Shape of an image.
    pub input: Shape,
    /// Number of classes.
    pub classes: usize,
    /// Factor on every width.
    pub width: f64,
    /// Residual shortcuts.
    pub shortcut: Shortcut,
}

impl ModelConfig {
    /// The usual width and shortcuts.
    pub fn new(input: Shape, classes: usize) -> Self {
        ModelConfig { input, classes, width: 1.0, shortcut: Shortcut::default() }
    }

    /// `channels` times the width factor, rounded, at least 1.
    fn scaled(&self, channels: usize) -> usize {
        ((channels as f64 * self.width).round() as usize).max(1)
    }
}

/// Names that [`build`] knows.
pub const NAMES: &[&str] = &[
    "lenet",
    "resnet20",
    "resnet32",
    "resnet44",
    "resnet56",
    "resnet110",
    "resnet164",
    "vgg16",
    "densenet40",
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "se_resnet18",
    "se_resnet50",
    "densenet121",
    "vgg16_bn",
    "mobilenet_v1",
    "mobilenet_v2",
    "googlenet",
];

/// The shape of the images that the model called `name` was designed for; `None` for a name that is not in [`NAMES`].
pub fn usual_input(name: &str) -> Option<Shape> {
    let side = match name {
        "lenet" => return Some(Shape::new(1, 28, 28)),
        "resnet20" | "resnet32" | "resnet44" | "resnet56" | "resnet110" | "resnet164" | "vgg16"
        | "densenet40" => 32,
        _ if NAMES.contains(&name) => 224,
        _ => return None,
    };
    Some(Shape::new(3, side, side))
}

/// Largest width factor and class count: larger ones are mistakes.
const MOST: f64 = 64.0;
const MOST_CLASSES: usize = 100_000;

/// The graph of the zoo model called `name`.
///
/// # Errors
/// [`ErrorKind::Argument`] for a name that is not in [`NAMES`], a width or class count that cannot be, and
/// [`ErrorKind::Shape`] for images too small for the architecture.
pub fn build(name: &str, config: &ModelConfig) -> Result<Graph> {
    let argument = |what: &str, expected: String, found: String| {
        Error::new(ErrorKind::Argument, format!("building {name}: {what}")).expected(expected).found(found)
    };
    if !(config.width > 0.0 && config.width <= MOST) {
        return Err(argument(
            "the width factor",
            format!("over 0 and at most {MOST}"),
            config.width.to_string(),
        ));
    }
    if !(1..=MOST_CLASSES).contains(&config.classes) {
        return Err(argument("the classes", format!("1 to {MOST_CLASSES}"), config.classes.to_string()));
    }
    let graph = match name {
        "lenet" => lenet::lenet(config),
        "resnet20" => resnet_cifar::basic(name, 3, config),
        "resnet32" => resnet_cifar::basic(name, 5, config),
        "resnet44" => resnet_cifar::basic(name, 7, config),
        "resnet56" => resnet_cifar::basic(name, 9, config),
        "resnet110" => resnet_cifar::basic(name, 18, config),
        "resnet164" => resnet_cifar::bottleneck(name, 18, config),
        "vgg16" => vgg::vgg16(config),
        "vgg16_bn" => vgg::vgg16_bn(config),
        "densenet40" => densenet::densenet40(config),
        "densenet121" => densenet::densenet121(config),
        "mobilenet_v1" => mobilenet::mobilenet_v1(config),
        "mobilenet_v2" => mobilenet::mobilenet_v2(config),
        "googlenet" => googlenet::googlenet(config),
        "resnet18" => resnet(name, Block::Basic, [2, 2, 2, 2], Gate::None, config),
        "resnet34" => resnet(name, Block::Basic, [3, 4, 6, 3], Gate::None, config),
        "resnet50" => resnet(name, Block::Bottleneck, [3, 4, 6, 3], Gate::None, config),
        "resnet101" => resnet(name, Block::Bottleneck, [3, 4, 23, 3], Gate::None, config),
        "se_resnet18" => resnet(name, Block::Basic, [2, 2, 2, 2], Gate::SqueezeExcite, config),
        "se_resnet50" => resnet(name, Block::Bottleneck, [3, 4, 6, 3], Gate::SqueezeExcite, config),
        _ => {
            return Err(argument(
                "choosing a model",
                format!("one of {}", NAMES.join(", ")),
                name.to_owned(),
            ));
        }
    };
    graph.shapes()?;
    Ok(graph)
}

/// Convolution without bias, batch norm.
fn conv_bn(b: &mut GraphBuilder, x: NodeId, conv_name: &str, bn_name: &str, conv: Conv2d) -> NodeId {
    let channels = conv.out_channels;
    let x = b.add(conv_name, Conv2d { bias: Bias::Without, ..conv }, &[x]);
    b.add(bn_name, BatchNorm2d::new(channels), &[x])
}

/// Convolution without bias, batch norm, ReLU.
fn conv_bn_relu(b: &mut GraphBuilder, x: NodeId, conv_name: &str, bn_name: &str, conv: Conv2d) -> NodeId {
    let x = conv_bn(b, x, conv_name, bn_name, conv);
    b.add(&format!("{bn_name}.relu"), Relu {}, &[x])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_a_model_that_says_so() {
        for name in NAMES {
            let graph = build(name, &ModelConfig::new(Shape::new(3, 32, 32), 7)).expect("a zoo model");
            assert_eq!((graph.name.as_str(), graph.classes().expect("classes")), (*name, 7));
        }
        let tiny = ModelConfig { width: 0.01, ..ModelConfig::new(Shape::new(1, 40, 33), 2) };
        for name in NAMES {
            assert!(build(name, &tiny).is_ok(), "{name} of next to no width, on odd sides");
        }
        assert!(build("resnet21", &ModelConfig::new(Shape::new(3, 32, 32), 7)).is_err());
    }

    #[test]
    fn every_name_has_a_usual_input_that_it_takes() {
        for name in NAMES {
            let input = usual_input(name).expect("a zoo model");
            let config = ModelConfig { width: 0.05, ..ModelConfig::new(input, 3) };
            assert_eq!(build(name, &config).expect("builds").input, input);
        }
        let side = |name: &str| usual_input(name).map(|input| input.h);
        assert_eq!(["lenet", "resnet56", "mobilenet_v2"].map(side), [Some(28), Some(32), Some(224)]);
        assert_eq!(usual_input("resnet21"), None);
    }

    #[test]
    fn sizes_that_cannot_be_are_refused() {
        let config = ModelConfig::new(Shape::new(3, 32, 32), 10);
        for bad in [
            ModelConfig { width: 0.0, ..config },
            ModelConfig { width: f64::NAN, ..config },
            ModelConfig { classes: 0, ..config },
            ModelConfig { input: Shape::new(3, 2, 2), ..config },
        ] {
            assert!(build("vgg16", &bad).is_err(), "{bad:?}");
        }
    }
}
