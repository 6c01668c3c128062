//! Errors and panics as a page can show them.

use std::cell::RefCell;

use centripetal::{Error, json};
use serde_json::Value;
use wasm_bindgen::prelude::*;

/// What a function of the facade returns.
pub type Outcome<T> = Result<T, Fault>;

/// A library error on its way to JavaScript.
#[derive(Debug)]
pub struct Fault(pub(crate) Error);

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Fault(error)
    }
}

/// The library's advice names the options of the command line; a page has no options.
const WORDS: &[(&str, &str)] = &[
    ("--device cpu", "the CPU as device"),
    ("--batch", "batch"),
    ("--lr", "learning rate"),
    ("--strength", "strength"),
    ("--keep", "keep"),
    (" (more epochs or a smaller batch)", ": give it more time"),
    ("The last good checkpoint is kept", "The last good state is kept"),
    ("Run again with --resume, or with the CPU as device", "The session goes on from its last state"),
];

/// `error` as the page's `SessionError`.
pub(crate) fn to_json(error: &Error) -> Value {
    let plain = |text: &str| WORDS.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to));
    let mut value = serde_json::to_value(error).unwrap_or_default();
    for part in ["doing", "expected", "found", "next"] {
        value[part] = Value::from(plain(value[part].as_str().unwrap_or_default()));
    }
    value["message"] = Value::from(plain(&error.to_string()));
    value
}

impl From<Fault> for JsValue {
    fn from(fault: Fault) -> JsValue {
        let text = json::text(&to_json(&fault.0));
        js_sys::JSON::parse(&text).unwrap_or_else(|_| JsValue::from_str(&text))
    }
}

thread_local! {
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Notes the text of a panic, which the trap that follows would lose.
#[wasm_bindgen(start)]
pub fn start() {
    std::panic::set_hook(Box::new(|info| PANIC.set(Some(info.to_string()))));
}

/// The text of the panic that stopped this module, if one did.
#[wasm_bindgen(js_name = lastPanic)]
pub fn last_panic() -> Option<String> {
    PANIC.take()
}
