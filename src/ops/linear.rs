//! Linear layer (`torch.nn.Linear`): `y[n,k] = bias[k] + sum over c of x[n,c] weight[k,c]`.
//! Shapes: x `[N, C]` (images of C x 1 x 1), weight `[K, C]`, y `[N, K]`.

use super::conv2d::{MAX_WEIGHTS, accumulate};
use super::{Bias, Channels, Op, Operator, ParamKind, ParamSpec, workgroups_of_64};
use crate::device::simd;
use crate::device::{Args, Kernel, Params, Shader, params_of, read, wgsl, write};
use crate::error::{Error, ErrorKind, Result};
use crate::from_json;
use crate::params;
use crate::plan::{NodeIo, Recorder, Tensor};
use crate::prune::surgery::Cut;
use crate::shape::Shape;
use serde::Serialize;

/// `torch.nn.Linear`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Linear {
    /// C: numbers in a sample.
    pub in_features: usize,
    /// K: outputs.
    pub out_features: usize,
    /// Whether a bias is added.
    pub bias: Bias,
}

from_json!(Linear { in_features, out_features, bias });

impl Linear {
    /// PyTorch's default: with bias.
    pub const fn new(in_features: usize, out_features: usize) -> Linear {
        Linear { in_features, out_features, bias: Bias::With }
    }

    fn params(&self, node: &NodeIo) -> LinearParams {
        LinearParams {
            n: node.batch() as u32,
            c: self.in_features as u32,
            k: self.out_features as u32,
            has_bias: self.bias.flag(),
            accumulate: 0,
            first: 0,
        }
    }
}

params! {
    /// Uniform of the linear kernels.
    pub struct LinearParams {
        /// Samples.
        n: u32,
        /// Numbers in a sample.
        c: u32,
        /// Outputs.
        k: u32,
        /// 1 to add the bias; forward only.
        has_bias: u32,
        /// 1 to add to dx, 0 to overwrite it; input gradient only.
        accumulate: u32,
        /// Workgroup that a dispatch begins with: the executor runs long ones in parts. 0 in what is recorded.
        first: u32,
    }
}

impl LinearParams {
    fn sizes(&self) -> [usize; 3] {
        [self.n as usize, self.c as usize, self.k as usize]
    }
}

/// Workgroups for a matrix of `rows` x `columns` in tiles of 4 x 4.
fn tiles(rows: u32, columns: u32) -> u64 {
    workgroups_of_64(u64::from(rows.div_ceil(4)) * u64::from(columns.div_ceil(4)))
}

/// `y = x weight^T + bias`.
pub static LINEAR_FORWARD: Kernel = Kernel {
    name: "linear_forward",
    params: LinearParams::FIELDS,
    bindings: &[read("x"), read("weight"), read("bias"), write("y")],
    shaders: &[Shader {
        name: "linear_forward",
        wgsl: wgsl!("linear_forward"),
        workgroups: |params| {
            let d = params_of::<LinearParams>(params);
            tiles(d.n, d.k)
        },
    }],
    twin: linear_forward,
    fast: Some(linear_forward_fast),
};

/// Gradient of x: `dx = dy weight`.
pub static LINEAR_INPUT_GRADIENT: Kernel = Kernel {
    name: "linear_input_gradient",
    params: LinearParams::FIELDS,
    bindings: &[read("dy"), read("weight"), write("dx")],
    shaders: &[Shader {
        name: "linear_input_gradient",
        wgsl: wgsl!("linear_input_gradient"),
        workgroups: |params| {
            let d = params_of::<LinearParams>(params);
            tiles(d.n, d.c)
        },
    }],
    twin: linear_input_gradient,
    fast: Some(linear_input_gradient_fast),
};

/// Gradient of the weights: `dweight = dy^T x`.
pub static LINEAR_WEIGHT_GRADIENT: Kernel = Kernel {
    name: "linear_weight_gradient",
    params: LinearParams::FIELDS,
    bindings: &[read("x"), read("dy"), write("dweight")],
    shaders: &[Shader {
        name: "linear_weight_gradient",
        wgsl: wgsl!("linear_weight_gradient"),
        workgroups: |params| {
            let d = params_of::<LinearParams>(params);
            tiles(d.k, d.c)
        },
    }],
    twin: linear_weight_gradient,
    fast: Some(linear_weight_gradient_fast),
};

/// Gradient of the bias: the sum of dy over samples.
pub static LINEAR_BIAS_GRADIENT: Kernel = Kernel {
    name: "linear_bias_gradient",
    params: LinearParams::FIELDS,
    bindings: &[read("dy"), write("dbias")],
    shaders: &[Shader {
        name: "linear_bias_gradient",
        wgsl: wgsl!("linear_bias_gradient"),
        workgroups: |params| workgroups_of_64(params_of::<LinearParams>(params).k.into()),
    }],
    twin: linear_bias_gradient,
    fast: None,
};

fn linear_forward(args: Args<'_>) {
    let (params, [x, weight, bias], [y]) = args.unpack::<LinearParams, 3, 1>();
    let [samples, features, outputs] = params.sizes();
    for n in 0..samples {
        for k in 0..outputs {
            let mut sum = if params.has_bias == 1 { bias[k] } else { 0.0 };
            for c in 0..features {
                sum += x[n * features + c] * weight[k * features + c];
            }
            y[n * outputs + k] = sum;
        }
    }
}

fn linear_input_gradient(args: Args<'_>) {
    let (params, [dy, weight], [dx]) = args.unpack::<LinearParams, 2, 1>();
    let [samples, features, outputs] = params.sizes();
    for n in 0..samples {
        for c in 0..features {
            let mut sum = if params.accumulate == 1 { dx[n * features + c] } else { 0.0 };
            for k in 0..outputs {
                sum += dy[n * outputs + k] * weight[k * features + c];
            }
            dx[n * features + c] = sum;
        }
    }
}

fn linear_weight_gradient(args: Args<'_>) {
    let (params, [x, dy], [dweight]) = args.unpack::<LinearParams, 2, 1>();
    let [samples, features, outputs] = params.sizes();
    for k in 0..outputs {
        for c in 0..features {
            let mut sum = 0.0;
            for n in 0..samples {
                sum += dy[n * outputs + k] * x[n * features + c];
            }
            dweight[k * features + c] = sum;
        }
    }
}

fn linear_bias_gradient(args: Args<'_>) {
    let (params, [dy], [dbias]) = args.unpack::<LinearParams, 1, 1>();
    let [_, _, outputs] = params.sizes();
    for (k, dbias) in dbias.iter_mut().enumerate() {
        *dbias = dy[k..].iter().step_by(outputs).sum();
    }
}

fn linear_forward_fast(args: Args<'_>) {
    let (params, [x, weight, bias], [y]) = args.unpack::<LinearParams, 3, 1>();
    simd::linear_forward(params.sizes(), x, weight, (params.has_bias == 1).then_some(bias), y);
}

fn linear_input_gradient_fast(args: Args<'_>) {
    let (params, [dy, weight], [dx]) = args.unpack::<LinearParams, 2, 1>();
    simd::linear_input_gradient(params.sizes(), dy, weight, dx, accumulate(params.accumulate));
}

fn linear_weight_gradient_fast(args: Args<'_>) {
    let (params, [x, dy], [dweight]) = args.unpack::<LinearParams, 2, 1>();
    simd::linear_weight_gradient(params.sizes(), x, dy, dweight);
}

impl Operator for Linear {
    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape> {
        let fail = |expected: String, found: String| {
            Error::new(ErrorKind::Shape, "checking a linear layer").expected(expected).found(found)
        };
        let expected = Shape::new(self.in_features, 1, 1);
        if inputs[0] != expected {
            return Err(fail(expected.to_string(), inputs[0].to_string()));
        }
        let weights = self.in_features.checked_mul(self.out_features);
        if weights.is_none_or(|weights| weights == 0 || weights > MAX_WEIGHTS) {
            return Err(fail(format!("1 to {MAX_WEIGHTS} weights"), format!("{self:?}")));
        }
        Ok(Shape::new(self.out_features, 1, 1))
    }

    fn parameters(&self) -> Vec<ParamSpec> {
        let dims = vec![self.out_features, self.in_features];
        let mut specs = vec![ParamSpec { name: "weight", dims, kind: ParamKind::Weight }];
        if self.bias == Bias::With {
            specs.push(ParamSpec { name: "bias", dims: vec![self.out_features], kind: ParamKind::Bias });
        }
        specs
    }

    fn macs(&self, _inputs: &[Shape], _output: Shape) -> u64 {
        (self.in_features as u64).saturating_mul(self.out_features as u64)
    }

    fn channels(&self, _inputs: &[Shape], _output: Shape) -> Channels {
        Channels::New
    }

    fn cut(&self, cut: &mut Cut<'_>) -> Option<Op> {
        cut.keep_rows();
        cut.sum_grouped_columns(1);
        Some(
            Linear { in_features: cut.inputs[0].len(), out_features: cut.output.len(), ..self.clone() }
                .into(),
        )
    }

    fn forward(&self, recorder: &mut Recorder<'_>, node: &NodeIo) -> Tensor {
        let y = recorder.tensor(node.output_words());
        let weight = node.parameter("weight");
        // A binding cannot stay empty: without a bias the kernel gets the weights there and reads none.
        let bias = if self.bias == Bias::With { node.parameter("bias") } else { weight.clone() };
        recorder.dispatch(
            &LINEAR_FORWARD,
            &self.params(node),
            &[node.input(0).into(), weight, bias, y.into()],
        );
        y
    }

    fn backward(&self, recorder: &mut Recorder<'_>, node: &NodeIo) {
        let dy = recorder.output_gradient(node);
        let params = self.params(node);
        recorder.dispatch(
            &LINEAR_WEIGHT_GRADIENT,
            &params,
            &[node.input(0).into(), dy.into(), node.gradient("weight")],
        );
        if self.bias == Bias::With {
            recorder.dispatch(&LINEAR_BIAS_GRADIENT, &params, &[dy.into(), node.gradient("bias")]);
        }
        if let Some((dx, accumulate)) = recorder.input_gradient(node, 0) {
            recorder.dispatch(
                &LINEAR_INPUT_GRADIENT,
                &LinearParams { accumulate, ..params },
                &[dy.into(), node.parameter("weight"), dx.into()],
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_vector_of_the_right_length_fits() {
        let linear = Linear::new(12, 5);
        assert_eq!(linear.output_shape(&[Shape::new(12, 1, 1)]).ok(), Some(Shape::new(5, 1, 1)));
        assert!(linear.output_shape(&[Shape::new(3, 2, 2)]).is_err());
        assert!(Linear::new(12, 0).output_shape(&[Shape::new(12, 1, 1)]).is_err());
        assert!(Linear::new(12, usize::MAX).output_shape(&[Shape::new(12, 1, 1)]).is_err());
        assert_eq!(linear.macs(&[], Shape::new(5, 1, 1)), 60);
    }
}
