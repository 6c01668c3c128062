//! What the lessons compute: the library `centripetal`, and naga for the shaders that a reader edits.
//!
//! One [`School`] lives in one Web Worker (`lessons/shared/library.worker.ts`), which calls it by name, one call at a time:
//! plain data crosses as JSON, numbers as typed arrays. Nothing here computes what the library can.

#![forbid(unsafe_code)]

mod depth;
mod duel;
mod kernels;
mod networks;
mod numbers;
mod plane;
mod school;
mod wgsl;

pub use school::{Reply, School};

use centripetal::Error;
use centripetal::device::{Device, DeviceChoice};
use js_sys::{Array, Float32Array, Object, Reflect, Uint8Array};
use serde_json::{Value, json};
use wasm_bindgen::prelude::*;

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_namespace = performance)]
    fn now() -> f64;
}

fn clock() -> f64 {
    now() / 1e3
}

fn plain(value: &Value) -> JsValue {
    js_sys::JSON::parse(&value.to_string()).unwrap_or(JsValue::NULL)
}

fn fault(error: &Error) -> JsValue {
    plain(&json!({ "message": error.to_string() }))
}

/// The engine of the lessons as JavaScript sees it.
#[wasm_bindgen]
pub struct Engine {
    school: School,
}

#[wasm_bindgen]
impl Engine {
    /// Opens `cpu` or `gpu`; `auto` is a hardware GPU, else the CPU.
    pub async fn open(choice: String) -> Result<Engine, JsValue> {
        let choice = match choice.as_str() {
            "cpu" => DeviceChoice::Cpu,
            "gpu" => DeviceChoice::Gpu,
            _ => DeviceChoice::Auto,
        };
        let device = Device::open(choice).await.map_err(|error| fault(&error))?;
        Ok(Engine { school: School::new(device, clock) })
    }

    /// Takes the checkpoints before and after C-SGD and the four files of the data set, named as published.
    pub fn load(
        &mut self,
        base: &[u8],
        wide: &[u8],
        names: Vec<String>,
        files: Vec<Uint8Array>,
    ) -> Result<(), JsValue> {
        let files: Vec<Vec<u8>> = files.iter().map(Uint8Array::to_vec).collect();
        self.school.load(base, wide, &names, &files).map_err(|error| fault(&error))
    }

    /// Calls `name` with JSON and arrays; the answer is an object `{ value, arrays }`.
    pub async fn call(
        &mut self,
        name: String,
        arguments: String,
        arrays: Vec<Float32Array>,
    ) -> Result<JsValue, JsValue> {
        let arguments = serde_json::from_str(&arguments).unwrap_or(Value::Null);
        let arrays = arrays.iter().map(Float32Array::to_vec).collect();
        let reply = self.school.call(&name, &arguments, arrays).await.map_err(|error| fault(&error))?;
        let arrays: Array = reply.arrays.iter().map(|array| Float32Array::from(array.as_slice())).collect();
        let object = Object::new();
        // Setting a property of a plain object cannot fail.
        let _ = Reflect::set(&object, &"value".into(), &plain(&reply.value));
        let _ = Reflect::set(&object, &"arrays".into(), &arrays);
        Ok(object.into())
    }
}
