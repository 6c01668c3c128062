//! The operators, one file each: configuration, output shape, parameters, MACs, channels, forward, backward, twins.

pub mod add;
pub mod avg_pool2d;
pub mod batch_norm2d;
pub mod batch_norm_relu;
pub mod channel_pad;
pub mod clamp;
pub mod concat;
pub mod conv2d;
pub mod conv_batch_norm;
pub mod flatten;
pub mod global_avg_pool;
pub mod hard_sigmoid;
pub mod hard_swish;
pub mod leaky_relu;
pub mod linear;
pub mod max_pool2d;
pub mod mul;
pub mod pad2d;
pub mod relu;
pub mod relu6;
pub mod sigmoid;
pub mod silu;
pub mod softmax_cross_entropy;

pub use add::Add;
pub use avg_pool2d::{AvgPool2d, Divisor};
pub use batch_norm2d::BatchNorm2d;
pub use channel_pad::ChannelPad;
pub use clamp::Clamp;
pub use concat::Concat;
pub use conv2d::{Bias, Conv2d, Padding};
pub use flatten::Flatten;
pub use global_avg_pool::GlobalAvgPool;
pub use hard_sigmoid::HardSigmoid;
pub use hard_swish::HardSwish;
pub use leaky_relu::LeakyRelu;
pub use linear::Linear;
pub use max_pool2d::MaxPool2d;
pub use mul::Mul;
pub use pad2d::Pad2d;
pub use relu::Relu;
pub use relu6::Relu6;
pub use sigmoid::Sigmoid;
pub use silu::Silu;

use crate::device::Kernel;
use crate::error::{Error, ErrorKind, Result};
use crate::from_json;
use crate::json::{self, FromJson, Read};
use crate::plan::{NodeIo, Recorder, Tensor};
use crate::prune::surgery::Cut;
use crate::shape::Shape;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::ops::RangeInclusive;

/// Every kernel of the library: what the self-test and the shader tests go through.
pub static KERNELS: &[&Kernel] = &[
    &add::ACCUMULATE,
    &add::ADD_FORWARD,
    &avg_pool2d::AVG_POOL2D_BACKWARD,
    &avg_pool2d::AVG_POOL2D_FORWARD,
    &batch_norm2d::BATCH_NORM_BACKWARD_ELEMENTWISE,
    &batch_norm2d::BATCH_NORM_BACKWARD_REDUCE,
    &batch_norm2d::BATCH_NORM_INFERENCE,
    &batch_norm2d::BATCH_NORM_NORMALIZE,
    &batch_norm_relu::BATCH_NORM_RELU_BACKWARD_REDUCE,
    &batch_norm_relu::BATCH_NORM_RELU_FORWARD,
    &batch_norm2d::BATCH_NORM_STATISTICS,
    &channel_pad::CHANNEL_PAD_BACKWARD,
    &channel_pad::CHANNEL_PAD_FORWARD,
    &clamp::CLAMP_BACKWARD,
    &clamp::CLAMP_FORWARD,
    &crate::optim::csgd::CLUSTER_DEVIATION,
    &concat::CONCAT_BACKWARD,
    &concat::CONCAT_FORWARD,
    &conv2d::CONV2D_BIAS_GRADIENT,
    &conv2d::CONV2D_FORWARD,
    &conv2d::CONV2D_INPUT_GRADIENT,
    &conv2d::CONV2D_WEIGHT_GRADIENT,
    &conv_batch_norm::CONV_BATCH_NORM,
    &crate::optim::csgd::CSGD_STEP,
    &global_avg_pool::GLOBAL_AVG_POOL_BACKWARD,
    &global_avg_pool::GLOBAL_AVG_POOL_FORWARD,
    &hard_sigmoid::HARD_SIGMOID_BACKWARD,
    &hard_sigmoid::HARD_SIGMOID_FORWARD,
    &hard_swish::HARD_SWISH_BACKWARD,
    &hard_swish::HARD_SWISH_FORWARD,
    &leaky_relu::LEAKY_RELU_BACKWARD,
    &leaky_relu::LEAKY_RELU_FORWARD,
    &linear::LINEAR_BIAS_GRADIENT,
    &linear::LINEAR_FORWARD,
    &linear::LINEAR_INPUT_GRADIENT,
    &linear::LINEAR_WEIGHT_GRADIENT,
    &max_pool2d::MAX_POOL2D_BACKWARD,
    &max_pool2d::MAX_POOL2D_FORWARD,
    &softmax_cross_entropy::METRICS_ACCUMULATE,
    &mul::MUL_FORWARD,
    &mul::MUL_GATE_GRADIENT,
    &pad2d::PAD2D_BACKWARD,
    &pad2d::PAD2D_FORWARD,
    &relu6::RELU6_BACKWARD,
    &relu6::RELU6_FORWARD,
    &relu::RELU_BACKWARD,
    &relu::RELU_FORWARD,
    &crate::optim::sgd::SGD_STEP,
    &crate::optim::sparsity::SHRINK_ROWS,
    &sigmoid::SIGMOID_BACKWARD,
    &sigmoid::SIGMOID_FORWARD,
    &silu::SILU_BACKWARD,
    &silu::SILU_FORWARD,
    &softmax_cross_entropy::SOFTMAX_CROSS_ENTROPY_BACKWARD,
    &softmax_cross_entropy::SOFTMAX_CROSS_ENTROPY_FORWARD,
    &crate::optim::norms::SUM_OF_SQUARES,
    &conv2d::SUM_PARTIALS,
];

/// Lists the operators once: the enum, its conversions and its dispatch to [`Operator`].
macro_rules! operators {
    ($($(#[$meta:meta])* $name:ident),* $(,)?) => {
        /// An operator with its configuration.
        #[derive(Debug, Clone, PartialEq, Serialize)]
        #[serde(tag = "type")]
        pub enum Op {
            $($(#[$meta])* $name($name)),*
        }

        impl Op {
            /// The operator's behaviour.
            pub fn operator(&self) -> &dyn Operator {
                match self { $(Op::$name(op) => op),* }
            }

            /// The operator's name as in PyTorch.
            pub fn type_name(&self) -> &'static str {
                match self { $(Op::$name(_) => stringify!($name)),* }
            }
        }

        impl FromJson for Op {
            fn from_json(value: &Value) -> Read<Op> {
                const NAMES: &[&str] = &[$(stringify!($name)),*];
                const READERS: &[fn(&Value) -> Read<Op>] = &[$(|value| $name::from_json(value).map(Op::$name)),*];
                READERS[json::tag(value, "type", NAMES)?](value)
            }
        }

        $(impl From<$name> for Op {
            fn from(op: $name) -> Op { Op::$name(op) }
        })*
    };
}

operators! {
    /// Sum of all inputs.
    Add,
    /// Mean of each window.
    AvgPool2d,
    /// Batch normalisation of each channel.
    BatchNorm2d,
    /// Pixels subsampled, channels rearranged among zeros.
    ChannelPad,
    /// min(max(x, low), high).
    Clamp,
    /// All inputs, channel after channel.
    Concat,
    /// Convolution.
    Conv2d,
    /// Pixels as features.
    Flatten,
    /// Mean of each channel's pixels.
    GlobalAvgPool,
    /// min(max(slope x + offset, 0), 1).
    HardSigmoid,
    /// x min(max(x + 3, 0), 6) / 6.
    HardSwish,
    /// The image.
    Input,
    /// x, or slope x below zero.
    LeakyRelu,
    /// Matrix product with the feature vector.
    Linear,
    /// Largest number of each window.
    MaxPool2d,
    /// Product of two inputs, or of an input and a number for each channel.
    Mul,
    /// Zeros around the image.
    Pad2d,
    /// max(x, 0).
    Relu,
    /// min(max(x, 0), 6).
    Relu6,
    /// 1 / (1 + exp(-x)).
    Sigmoid,
    /// x sigmoid(x).
    Silu,
}

impl Op {
    /// How many inputs it takes.
    pub fn arity(&self) -> RangeInclusive<usize> {
        self.operator().arity()
    }
}

from_json!(@serde Op);

/// The input image: no computation.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Input {}

from_json!(Input {});

impl Operator for Input {
    fn arity(&self) -> RangeInclusive<usize> {
        0..=0
    }

    fn output_shape(&self, _inputs: &[Shape]) -> Result<Shape> {
        Err(Error::new(ErrorKind::Shape, "checking the input node").expected("it as the first node alone"))
    }

    fn channels(&self, _inputs: &[Shape], _output: Shape) -> Channels {
        Channels::New
    }

    fn forward(&self, _recorder: &mut Recorder<'_>, _node: &NodeIo) -> Tensor {
        panic!("the input image is bound, not computed")
    }

    fn backward(&self, _recorder: &mut Recorder<'_>, _node: &NodeIo) {}
}

/// What a parameter tensor is; decides weight decay, initialisation and the optimizer's treatment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ParamKind {
    /// Filters or a linear layer's matrix: decayed.
    Weight,
    /// Bias of a convolution or linear layer.
    Bias,
    /// Batch norm's gamma (`weight` in PyTorch).
    Gamma,
    /// Batch norm's beta (`bias` in PyTorch).
    Beta,
    /// Batch norm's running mean: a statistic, not trained.
    RunningMean,
    /// Batch norm's running variance: a statistic, not trained.
    RunningVar,
}

impl ParamKind {
    /// Whether the optimizer updates it.
    pub fn is_trained(self) -> bool {
        !matches!(self, ParamKind::RunningMean | ParamKind::RunningVar)
    }
}

/// A parameter tensor of an operator. Its first dimension is the operator's output channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParamSpec {
    /// PyTorch's name within the module: `weight`, `bias`, `running_mean`, `running_var`.
    pub name: &'static str,
    /// Dimensions, `[K, C/groups, R, S]` for filters.
    pub dims: Vec<usize>,
    /// What it is.
    pub kind: ParamKind,
}

impl ParamSpec {
    /// Numbers in it.
    pub fn len(&self) -> usize {
        self.dims.iter().product()
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Where an operator's output channels come from: all that coupling needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Channels {
    /// Output channel k is channel k of every input: elementwise operators, batch norm, pooling, add.
    Same,
    /// New channels, each a mixture of all input channels: convolution, linear.
    New,
    /// Output channel k is the given channel of the given input, or constant zero: concat, padding, flatten, depthwise.
    From(Vec<Option<(usize, usize)>>),
    /// Grouped convolution: new channels, but both sides must shrink alike in each of this many groups.
    Grouped(usize),
}

/// What every operator states about itself.
pub trait Operator {
    /// How many inputs it takes.
    fn arity(&self) -> RangeInclusive<usize> {
        1..=1
    }

    /// Shape of one image's output.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`] when the inputs do not fit its configuration.
    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape>;

    /// Its parameter tensors and running statistics.
    fn parameters(&self) -> Vec<ParamSpec> {
        Vec::new()
    }

    /// Multiply-accumulates for one image; 0 for all but convolution and linear.
    fn macs(&self, _inputs: &[Shape], _output: Shape) -> u64 {
        0
    }

    /// Where its output channels come from.
    fn channels(&self, inputs: &[Shape], output: Shape) -> Channels;

    /// The operator after surgery, its tensors in `cut` made smaller. Needed only where channels show in the
    /// configuration or the tensors; `None` leaves both as they are.
    fn cut(&self, _cut: &mut Cut<'_>) -> Option<Op> {
        None
    }

    /// Records the forward dispatches and returns the output tensor.
    fn forward(&self, recorder: &mut Recorder<'_>, node: &NodeIo) -> Tensor;

    /// Records the backward dispatches: parameter gradients, then input gradients.
    fn backward(&self, recorder: &mut Recorder<'_>, node: &NodeIo);
}

/// Shared by operators that need exactly one shape on all inputs.
pub(crate) fn same_shapes(doing: &str, inputs: &[Shape]) -> Result<Shape> {
    match inputs.iter().find(|shape| **shape != inputs[0]) {
        None => Ok(inputs[0]),
        Some(other) => Err(Error::new(ErrorKind::Shape, doing).expected(inputs[0]).found(other)),
    }
}

/// Workgroups of 64 invocations for `invocations` of them: the grid of one-number-per-invocation kernels.
pub(crate) fn workgroups_of_64(invocations: u64) -> u64 {
    invocations.div_ceil(64)
}
