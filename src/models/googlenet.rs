//! GoogLeNet (Szegedy et al. 2015) with batch norm and without auxiliary classifiers.
//!
//! Names as in torchvision: `conv1.conv`, `conv1.bn`, `inception3a.branch1.conv`, ..., `fc`. As there, the third branch has a
//! 3x3 convolution where the paper has 5x5.

use super::ModelConfig;
use crate::graph::{Graph, GraphBuilder, NodeId};
use crate::ops::{BatchNorm2d, Bias, Concat, Conv2d, Flatten, GlobalAvgPool, Linear, MaxPool2d, Relu};

/// Name and widths of a module: 1x1; 3x3 and its reduction; the other 3x3 and its reduction; behind the pooling.
type Module = (&'static str, usize, [usize; 2], [usize; 2], usize);

const STAGES: [&[Module]; 3] = [
    &[("inception3a", 64, [96, 128], [16, 32], 32), ("inception3b", 128, [128, 192], [32, 96], 64)],
    &[
        ("inception4a", 192, [96, 208], [16, 48], 64),
        ("inception4b", 160, [112, 224], [24, 64], 64),
        ("inception4c", 128, [128, 256], [24, 64], 64),
        ("inception4d", 112, [144, 288], [32, 64], 64),
        ("inception4e", 256, [160, 320], [32, 128], 128),
    ],
    &[("inception5a", 256, [160, 320], [32, 128], 128), ("inception5b", 384, [192, 384], [48, 128], 128)],
];

/// A network that grows from the image, with the size of what it has made.
struct Builder {
    graph: GraphBuilder,
    x: NodeId,
    channels: usize,
    sides: [usize; 2],
}

impl Builder {
    fn conv(&mut self, x: NodeId, name: &str, conv: Conv2d) -> NodeId {
        let norm = BatchNorm2d { eps: 1e-3, ..BatchNorm2d::new(conv.out_channels) };
        let x = self.graph.add(&format!("{name}.conv"), Conv2d { bias: Bias::Without, ..conv }, &[x]);
        let x = self.graph.add(&format!("{name}.bn"), norm, &[x]);
        self.graph.add(&format!("{name}.relu"), Relu {}, &[x])
    }

    /// Windows two pixels apart, the last one over the edge where the sizes do not divide.
    fn pool(&mut self, name: &str, kernel: usize) {
        let windows = self.sides.map(|side| side.saturating_sub(kernel).div_ceil(2) + 1);
        let trailing = [0, 1].map(|axis| (2 * (windows[axis] - 1) + kernel).saturating_sub(self.sides[axis]));
        let pool = MaxPool2d { stride: [2, 2], trailing: Some(trailing), ..MaxPool2d::new(kernel) };
        self.x = self.graph.add(name, pool, &[self.x]);
        self.sides = windows;
    }

    fn module(&mut self, (name, one, three, five, pooled): Module, config: &ModelConfig) {
        let (x, c) = (self.x, self.channels);
        let one = config.scaled(one);
        let [three, five] = [three, five].map(|widths| widths.map(|width| config.scaled(width)));
        let pooled = config.scaled(pooled);
        let mut branches = vec![self.conv(x, &format!("{name}.branch1"), Conv2d::same(c, one, 1))];
        for (branch, [reduced, out]) in [("branch2", three), ("branch3", five)] {
            let y = self.conv(x, &format!("{name}.{branch}.0"), Conv2d::same(c, reduced, 1));
            branches.push(self.conv(y, &format!("{name}.{branch}.1"), Conv2d::same(reduced, out, 3)));
        }
        let pool = MaxPool2d { stride: [1, 1], padding: [1, 1], ..MaxPool2d::new(3) };
        let y = self.graph.add(&format!("{name}.branch4.0"), pool, &[x]);
        branches.push(self.conv(y, &format!("{name}.branch4.1"), Conv2d::same(c, pooled, 1)));
        self.x = self.graph.add(&format!("{name}.concat"), Concat {}, &branches);
        self.channels = one + three[1] + five[1] + pooled;
    }
}

pub(super) fn googlenet(config: &ModelConfig) -> Graph {
    let graph = GraphBuilder::new("googlenet", config.input);
    let [first, second, third] = [64, 64, 192].map(|width| config.scaled(width));
    let sides = [config.input.h, config.input.w].map(|side| side.saturating_sub(1) / 2 + 1);
    let mut b = Builder { graph, x: 0, channels: third, sides };
    b.x = b.conv(0, "conv1", Conv2d { stride: [2, 2], ..Conv2d::same(config.input.c, first, 7) });
    b.pool("maxpool1", 3);
    b.x = b.conv(b.x, "conv2", Conv2d::same(first, second, 1));
    b.x = b.conv(b.x, "conv3", Conv2d::same(second, third, 3));
    b.pool("maxpool2", 3);
    for (stage, modules) in STAGES.into_iter().enumerate() {
        modules.iter().for_each(|&module| b.module(module, config));
        match stage {
            0 => b.pool("maxpool3", 3),
            1 => b.pool("maxpool4", 2),
            _ => {}
        }
    }
    let (x, channels, mut graph) = (b.x, b.channels, b.graph);
    let x = graph.add("avgpool", GlobalAvgPool {}, &[x]);
    let x = graph.add("flatten", Flatten {}, &[x]);
    graph.add("fc", Linear::new(channels, config.classes), &[x]);
    graph.finish()
}
