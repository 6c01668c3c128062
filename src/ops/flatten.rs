//! Flattening: `[C, H, W]` to `[C H W, 1, 1]` (`torch.nn.Flatten`). NCHW is flat already, so nothing is computed.

use super::{Channels, Operator};
use crate::error::Result;
use crate::from_json;
use crate::plan::{NodeIo, Recorder, Tensor};
use crate::shape::Shape;
use serde::Serialize;

/// `torch.nn.Flatten`: pixel i of channel c becomes feature `c H W + i`.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Flatten {}

from_json!(Flatten {});

impl Operator for Flatten {
    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape> {
        Ok(Shape::new(inputs[0].len(), 1, 1))
    }

    fn channels(&self, inputs: &[Shape], _output: Shape) -> Channels {
        let pixels = inputs[0].pixels();
        Channels::From((0..inputs[0].len()).map(|feature| Some((0, feature / pixels))).collect())
    }

    fn forward(&self, _recorder: &mut Recorder<'_>, node: &NodeIo) -> Tensor {
        node.input(0)
    }

    fn backward(&self, recorder: &mut Recorder<'_>, node: &NodeIo) {
        recorder.pass_gradient(node, 0);
    }
}
