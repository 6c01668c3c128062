//! The self-test: a module of its own, since a visitor who trains has no use for its cases.

use centripetal::device::Device;
use centripetal::ops::KERNELS;
use centripetal::selftest::{Verdict, run_kernel};
use serde_json::Value;
use wasm_bindgen::prelude::*;

use crate::device;
use crate::fault::{self, Outcome};
use crate::js::{self, record};

/// A device whose kernels are tested.
#[wasm_bindgen]
pub struct Tester {
    device: Device,
}

#[wasm_bindgen]
impl Tester {
    /// Opens `auto`, `gpu` or `cpu`.
    pub async fn open(choice: String) -> Outcome<Tester> {
        Ok(Tester { device: device::open(&choice).await? })
    }

    /// Names of the kernels that [`Tester::test`] takes.
    pub fn kernels() -> Vec<String> {
        KERNELS.iter().map(|kernel| kernel.name.to_owned()).collect()
    }

    /// Runs one kernel's cases on the device and by its twin: a list with one entry for every implementation.
    pub async fn test(&self, name: String) -> Outcome<JsValue> {
        let checks = match run_kernel(&self.device, &name).await {
            Ok(checks) => checks
                .iter()
                .map(|check| {
                    record! {
                        "kernel": check.kernel,
                        "shader": check.shader,
                        "cases": check.cases,
                        "maxUlp": check.max_ulp,
                        "nmse": check.nmse,
                        "passed": check.verdict == Verdict::Passed,
                    }
                })
                .collect(),
            Err(error) => vec![record! {
                "kernel": name.as_str(),
                "shader": name.as_str(),
                "cases": 0,
                "maxUlp": 0,
                "nmse": 0,
                "passed": false,
                "message": fault::to_json(&error)["message"].take(),
            }],
        };
        Ok(js::plain(&Value::Array(checks)))
    }
}
