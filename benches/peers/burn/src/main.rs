//! A training step of Centripetal's LeNet or ResNet-20 in burn, on its wgpu or its CPU (flex) backend.
//!
//! usage: peer-burn WORK [DEVICE] [STEPS]
//!
//! WORK is `lenet` (batches of 64) or `resnet20` (of 32), DEVICE `wgpu` or `flex`. A step is forward, cross-entropy, backward,
//! SGD with momentum and weight decay, loss read back; the median is of STEPS (5) after three that warm up, in which burn
//! tunes its kernels. The last line is JSON, `med_ms` in it.
#![recursion_limit = "256"]

use std::time::Instant;

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::loss::CrossEntropyLossConfig;
use burn::nn::pool::{MaxPool2d, MaxPool2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig, PaddingConfig2d};
use burn::optim::decay::WeightDecayConfig;
use burn::optim::momentum::MomentumConfig;
use burn::optim::{GradientsParams, SgdConfig};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Distribution, Int, Tensor, TensorData};

const CLASSES: usize = 10;
const WARM_UP: usize = 3;

#[derive(Module, Debug)]
struct ConvBatchNorm {
    conv: Conv2d,
    norm: BatchNorm,
}

impl ConvBatchNorm {
    fn new(inputs: usize, outputs: usize, side: usize, stride: usize, device: &Device) -> Self {
        let pad = side / 2;
        let conv = Conv2dConfig::new([inputs, outputs], [side, side])
            .with_stride([stride, stride])
            .with_padding(PaddingConfig2d::Explicit(pad, pad, pad, pad))
            .with_bias(false);
        ConvBatchNorm { conv: conv.init(device), norm: BatchNormConfig::new(outputs).init(device) }
    }

    fn forward(&self, images: Tensor<4>) -> Tensor<4> {
        self.norm.forward(self.conv.forward(images))
    }
}

#[derive(Module, Debug)]
struct Block {
    first: ConvBatchNorm,
    second: ConvBatchNorm,
    shortcut: Option<ConvBatchNorm>,
}

/// The layers of both networks: LeNet has no blocks and pools, the ResNet neither pools nor has a second convolution.
#[derive(Module, Debug)]
struct Network {
    first: ConvBatchNorm,
    second: Option<ConvBatchNorm>,
    pool: MaxPool2d,
    blocks: Vec<Block>,
    classifier: Linear,
}

impl Network {
    fn lenet(device: &Device) -> Self {
        Network {
            first: ConvBatchNorm::new(1, 8, 3, 1, device),
            second: Some(ConvBatchNorm::new(8, 16, 3, 1, device)),
            pool: MaxPool2dConfig::new([2, 2]).with_strides([2, 2]).init(),
            blocks: Vec::new(),
            classifier: LinearConfig::new(16 * 7 * 7, CLASSES).init(device),
        }
    }

    fn resnet20(device: &Device) -> Self {
        let widths = [(16, 16, 1), (16, 16, 1), (16, 16, 1), (16, 32, 2), (32, 32, 1), (32, 32, 1), (32, 64, 2)];
        let blocks = widths.into_iter().chain([(64, 64, 1), (64, 64, 1)]).map(|(inputs, outputs, stride)| Block {
            first: ConvBatchNorm::new(inputs, outputs, 3, stride, device),
            second: ConvBatchNorm::new(outputs, outputs, 3, 1, device),
            shortcut: (stride > 1).then(|| ConvBatchNorm::new(inputs, outputs, 1, stride, device)),
        });
        Network {
            first: ConvBatchNorm::new(3, 16, 3, 1, device),
            second: None,
            pool: MaxPool2dConfig::new([2, 2]).with_strides([2, 2]).init(),
            blocks: blocks.collect(),
            classifier: LinearConfig::new(64, CLASSES).init(device),
        }
    }

    fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        let mut x = relu(self.first.forward(images));
        if let Some(second) = &self.second {
            x = self.pool.forward(relu(second.forward(self.pool.forward(x))));
            return self.classifier.forward(x.flatten(1, 3));
        }
        for block in &self.blocks {
            let straight = block.shortcut.as_ref().map_or_else(|| x.clone(), |shortcut| shortcut.forward(x.clone()));
            x = relu(block.second.forward(relu(block.first.forward(x))) + straight);
        }
        self.classifier.forward(x.mean_dim(2).mean_dim(3).flatten(1, 3))
    }
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let word = |at: usize, default: &'static str| words.get(at).map_or(default, String::as_str);
    let device = match word(1, "wgpu") {
        "wgpu" => Device::wgpu(Default::default()),
        "flex" => Device::flex(),
        other => panic!("expected wgpu or flex, found {other}"),
    };
    device.seed(0);
    let device = device.autodiff();
    let (network, batch, [c, h, w]) = match word(0, "") {
        "lenet" => (Network::lenet(&device), 64, [1, 28, 28]),
        "resnet20" => (Network::resnet20(&device), 32, [3, 32, 32]),
        other => panic!("expected lenet or resnet20, found {other:?}"),
    };
    let steps: usize = word(2, "5").parse().expect("a number of steps");
    let images = Tensor::<4>::random([batch, c, h, w], Distribution::Normal(0.0, 1.0), &device);
    let labels: Vec<i64> = (0..batch).map(|sample| (sample % CLASSES) as i64).collect();
    let labels = Tensor::<1, Int>::from_data(TensorData::from(labels.as_slice()), &device);
    let cross_entropy = CrossEntropyLossConfig::new().init(&device);
    let mut sgd = SgdConfig::new()
        .with_momentum(Some(MomentumConfig::new().with_momentum(0.9).with_dampening(0.0)))
        .with_weight_decay(Some(WeightDecayConfig::new(1e-4)))
        .init();
    let mut network = Some(network);
    let mut losses = Vec::new();
    let mut times = Vec::new();
    for step in 0..WARM_UP + steps {
        let started = Instant::now();
        let now = network.take().expect("a network");
        let loss = cross_entropy.forward(now.forward(images.clone()), labels.clone());
        let gradients = GradientsParams::from_grads(loss.backward(), &now);
        network = Some(sgd.step(0.01, now, gradients));
        losses.push(loss.into_scalar::<f32>());
        device.sync().expect("the device answers");
        if step >= WARM_UP {
            times.push(started.elapsed().as_secs_f64() * 1e3);
        }
    }
    times.sort_by(f64::total_cmp);
    println!("{}", serde_json::json!({ "med_ms": times[times.len() / 2], "losses": [losses[0], losses[losses.len() - 1]] }));
}
