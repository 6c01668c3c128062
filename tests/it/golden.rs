//! The twins against what PyTorch answered: see tests/golden/README.md.

use crate::harness::{Output, Tolerance, compare, run, twins};
use centripetal::device::{Kernel, Params};
use centripetal::ops::conv2d::{self, Conv2dParams};
use centripetal::ops::linear::{self, LinearParams};
use centripetal::ops::{Conv2d, Op, Padding};
use centripetal::shape::Shape;
use safetensors::SafeTensors;
use std::collections::BTreeMap;
use std::sync::OnceLock;

/// The goldens were computed in f64; f32 sums of up to some hundred terms may be this far off.
pub(crate) const GOLDEN: Tolerance = Tolerance { nmse: 1e-12, worst: 1e-5 };

/// One case: the operator's configuration, and its tensors with their dimensions.
#[derive(Debug, Clone, Default)]
pub(crate) struct Golden {
    pub(crate) name: String,
    config: serde_json::Value,
    tensors: BTreeMap<String, (Vec<usize>, Vec<f32>)>,
}

impl Golden {
    /// All cases of `op` (`conv2d`, `linear`, `batch_norm`, ...).
    pub(crate) fn cases(op: &str) -> Vec<Golden> {
        static ALL: OnceLock<Vec<Golden>> = OnceLock::new();
        let cases: Vec<Golden> =
            ALL.get_or_init(load).iter().filter(|g| g.config["op"] == op).cloned().collect();
        assert!(!cases.is_empty(), "no golden for {op}");
        cases
    }

    /// The tensor called `name` within the case.
    pub(crate) fn tensor(&self, name: &str) -> &[f32] {
        &self.entry(name).1
    }

    /// Its dimensions.
    pub(crate) fn dims<const N: usize>(&self, name: &str) -> [usize; N] {
        let dims = &self.entry(name).0;
        dims.as_slice().try_into().unwrap_or_else(|_| panic!("{}/{name} has dimensions {dims:?}", self.name))
    }

    /// Whether the case has such a tensor.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// The configuration's value called `key`, as a number or a list of numbers.
    pub(crate) fn config<T: serde::de::DeserializeOwned>(&self, key: &str) -> T {
        serde_json::from_value(self.config[key].clone())
            .unwrap_or_else(|error| panic!("{}: {key}: {error}", self.name))
    }

    /// Runs the twin of `kernel` and compares its only output with the tensor called `expected`.
    pub(crate) fn check(
        &self,
        kernel: &'static Kernel,
        params: &impl Params,
        inputs: &[&str],
        expected: &str,
    ) {
        let inputs: Vec<&[f32]> = inputs.iter().map(|name| self.tensor(name)).collect();
        let expected_numbers = self.tensor(expected);
        let outputs = [Output::Overwritten(expected_numbers.len())];
        let found = run(&twins(), kernel, 0, params, &inputs, &outputs);
        compare(&format!("{}/{expected}", self.name), expected_numbers, &found[0], GOLDEN);
    }

    fn entry(&self, name: &str) -> &(Vec<usize>, Vec<f32>) {
        self.tensors.get(name).unwrap_or_else(|| panic!("{} has no {name}", self.name))
    }
}

fn load() -> Vec<Golden> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/ops.safetensors");
    let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let (_, metadata) = SafeTensors::read_metadata(&bytes).unwrap_or_else(|error| panic!("{path}: {error}"));
    let file = SafeTensors::deserialize(&bytes).unwrap_or_else(|error| panic!("{path}: {error}"));
    let mut cases: BTreeMap<String, Golden> = BTreeMap::new();
    for (name, json) in metadata.metadata().iter().flatten() {
        if let Ok(config) = serde_json::from_str::<serde_json::Value>(json)
            && config.get("op").is_some()
        {
            cases.insert(name.clone(), Golden { name: name.clone(), config, ..Golden::default() });
        }
    }
    for (name, view) in file.tensors() {
        let (case, tensor) = name.rsplit_once('/').unwrap_or_else(|| panic!("{name}: expected CASE/NAME"));
        let golden = cases.get_mut(case).unwrap_or_else(|| panic!("{case} has no configuration"));
        let numbers = bytemuck::pod_collect_to_vec(view.data());
        golden.tensors.insert(tensor.to_owned(), (view.shape().to_vec(), numbers));
    }
    cases.into_values().collect()
}

#[test]
fn conv2d() {
    for golden in Golden::cases("conv2d") {
        let [n, c, h, w] = golden.dims("x");
        let [k, _, r, s] = golden.dims("weight");
        let [top, left]: [usize; 2] = golden.config("padding");
        let conv = Conv2d {
            stride: golden.config("stride"),
            padding: Padding { top, left, bottom: top, right: left },
            dilation: golden.config("dilation"),
            groups: golden.config("groups"),
            ..Conv2d::new(c, k, [r, s])
        };
        let input = Shape::new(c, h, w);
        let output = Op::from(conv.clone()).operator().output_shape(&[input]);
        let output = output.unwrap_or_else(|error| panic!("{}: {error}", golden.name));
        assert_eq!([n, output.c, output.h, output.w], golden.dims("y"), "{}", golden.name);
        let has_bias = golden.has("bias");
        let d = Conv2dParams { has_bias: has_bias.into(), ..conv.params(n, input, output) };
        let bias = if has_bias { "bias" } else { "weight" };
        golden.check(&conv2d::CONV2D_FORWARD, &d, &["x", "weight", bias], "y");
        golden.check(&conv2d::CONV2D_INPUT_GRADIENT, &d, &["dy", "weight"], "dx");
        golden.check(&conv2d::CONV2D_WEIGHT_GRADIENT, &d, &["x", "dy"], "dweight");
        if has_bias {
            golden.check(&conv2d::CONV2D_BIAS_GRADIENT, &d, &["dy"], "dbias");
        }
    }
}

#[test]
fn linear() {
    for golden in Golden::cases("linear") {
        let [n, c] = golden.dims("x");
        let [k, _] = golden.dims("weight");
        let d = LinearParams { n: n as u32, c: c as u32, k: k as u32, has_bias: 1, accumulate: 0, first: 0 };
        golden.check(&linear::LINEAR_FORWARD, &d, &["x", "weight", "bias"], "y");
        golden.check(&linear::LINEAR_INPUT_GRADIENT, &d, &["dy", "weight"], "dx");
        golden.check(&linear::LINEAR_WEIGHT_GRADIENT, &d, &["x", "dy"], "dweight");
        golden.check(&linear::LINEAR_BIAS_GRADIENT, &d, &["dy"], "dbias");
    }
}
