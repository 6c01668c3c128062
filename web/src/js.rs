//! Values for JavaScript.

use centripetal::{json, sort};
use js_sys::{Array, Float32Array, Object, Reflect, Uint32Array};
use serde_json::Value;
use wasm_bindgen::prelude::*;

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_namespace = performance)]
    fn now() -> f64;
}

/// An object: `record! { "name": value, ... }`, for values that [`Value`] can be made from. As `json!`, in less code.
macro_rules! record {
    ($($key:literal: $value:expr),* $(,)?) => {
        $crate::js::object_of(&mut [$(($key, ::serde_json::Value::from($value))),*])
    };
}
pub(crate) use record;

/// The object with `entries`, which are taken.
pub(crate) fn object_of(entries: &mut [(&str, Value)]) -> Value {
    Value::Object(sort::gather(entries.iter_mut().map(|(key, value)| ((*key).to_owned(), value.take()))))
}

/// Seconds since the worker began.
pub(crate) fn clock() -> f64 {
    now() / 1e3
}

/// `value` as JavaScript's own; numbers that are not finite become null.
pub(crate) fn plain(value: &Value) -> JsValue {
    js_sys::JSON::parse(&json::text(value)).unwrap_or(JsValue::NULL)
}

/// A plain object with `entries` added to those of `value`.
pub(crate) fn object<const N: usize>(value: &Value, entries: [(&str, JsValue); N]) -> JsValue {
    let object: Object = plain(value).unchecked_into();
    for (key, entry) in entries {
        // Setting a property of a plain object cannot fail.
        let _ = Reflect::set(&object, &key.into(), &entry);
    }
    object.into()
}

pub(crate) fn floats(values: &[f32]) -> JsValue {
    Float32Array::from(values).into()
}

pub(crate) fn integers(values: &[usize]) -> JsValue {
    let values: Vec<u32> = values.iter().map(|&value| value as u32).collect();
    Uint32Array::from(values.as_slice()).into()
}

pub(crate) fn list(values: impl IntoIterator<Item = JsValue>) -> JsValue {
    values.into_iter().collect::<Array>().into()
}

/// Keys of all objects in `value` as JavaScript writes them: `macs_before` becomes `macsBefore`.
pub(crate) fn camel_case(value: Value) -> Value {
    match value {
        Value::Array(values) => values.into_iter().map(camel_case).collect(),
        Value::Object(entries) => {
            let renamed = entries.into_iter().map(|(key, value)| (camel(&key), camel_case(value)));
            Value::Object(sort::gather(renamed))
        }
        other => other,
    }
}

fn camel(key: &str) -> String {
    let mut words = key.split('_');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |name, word| {
        let mut letters = word.chars();
        name + &letters.next().map(|c| c.to_ascii_uppercase()).into_iter().chain(letters).collect::<String>()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn keys_are_renamed_everywhere() {
        let renamed = camel_case(json!({"macs_before": 1, "layers": [{"width_after": null}]}));
        assert_eq!(renamed, json!({"macsBefore": 1, "layers": [{"widthAfter": null}]}));
    }
}
