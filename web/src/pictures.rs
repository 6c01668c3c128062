//! Whether a picture is whole: a module of its own, since few visitors bring pictures.

use centripetal::data::picture::{self, Format};
use wasm_bindgen::prelude::*;

/// Looks through a picture that the browser is to decode, since browsers fill in what is missing: EXIF's orientation, 1 to 8,
/// 0 where it is neither PNG nor JPEG, or a text that says what is wrong with it.
#[wasm_bindgen(js_name = inspectPicture)]
pub fn inspect_picture(bytes: &[u8]) -> JsValue {
    match Format::of(bytes) {
        Some(Format::Png | Format::Jpeg) => match picture::inspect(bytes) {
            Ok(outline) => outline.orientation.into(),
            Err(why) => why.into(),
        },
        _ => 0.into(),
    }
}
