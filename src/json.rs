//! Plain data read from JSON.
//!
//! Types that a checkpoint holds are written by serde, but read by hand: serde's derived readers take every struct from a
//! list too, and each is compiled anew for every source, which made them a tenth of the browser's module. What is read is
//! what serde writes: structs as objects, unknown fields passed over, options that are missing or null as `None`.
//!
//! [`from_json!`](crate::from_json) writes the reader of a struct or of an enum of words, and [`serde::Deserialize`] with
//! it.

use serde::de::{Deserialize, Deserializer, Error as _};
use serde_json::Value;
use std::collections::BTreeMap;

/// What reading gives: on failure, where and what was wrong.
pub type Read<T> = std::result::Result<T, String>;

/// Data that can be read from JSON.
pub trait FromJson: Sized {
    /// Reads it from `value`.
    ///
    /// # Errors
    /// A text that says where something else was expected.
    fn from_json(value: &Value) -> Read<Self>;

    /// What a field is that is not there; `None` where it must be.
    fn missing() -> Option<Self> {
        None
    }
}

/// The reader of a struct, by its fields, or of an enum, by its words.
///
/// ```
/// use centripetal::from_json;
///
/// #[derive(Debug, PartialEq)]
/// struct Slope { rise: f64, name: Option<String>, steps: u64 }
/// from_json!(Slope { rise, name, steps = 1 });
///
/// let read: Slope = serde_json::from_str(r#"{"rise": 0.5}"#).unwrap();
/// assert_eq!(read, Slope { rise: 0.5, name: None, steps: 1 });
/// ```
#[macro_export]
macro_rules! from_json {
    ($name:ident { $($field:ident $(= $default:expr)?),* $(,)? }) => {
        impl $crate::json::FromJson for $name {
            fn from_json(value: &::serde_json::Value) -> $crate::json::Read<Self> {
                let _fields = $crate::json::object(value)?;
                Ok($name { $($field: $crate::from_json!(@field _fields, $field $(, $default)?)),* })
            }
        }
        $crate::from_json!(@serde $name);
    };
    (enum $name:ident { $($variant:ident: $word:literal),* $(,)? }) => {
        impl $crate::json::FromJson for $name {
            fn from_json(value: &::serde_json::Value) -> $crate::json::Read<Self> {
                const VARIANTS: &[$name] = &[$($name::$variant),*];
                Ok(VARIANTS[$crate::json::word(value, &[$($word),*])?])
            }
        }
        $crate::from_json!(@serde $name);
    };
    (@field $fields:ident, $field:ident) => {
        $crate::json::field($fields, stringify!($field), None)?
    };
    (@field $fields:ident, $field:ident, $default:expr) => {
        $crate::json::field($fields, stringify!($field), Some($default))?
    };
    (@serde $name:ident) => {
        impl<'de> ::serde::Deserialize<'de> for $name {
            fn deserialize<D: ::serde::Deserializer<'de>>(deserializer: D) -> ::std::result::Result<Self, D::Error> {
                $crate::json::deserialize(deserializer)
            }
        }
    };
}

/// Reads `T` for serde.
///
/// # Errors
/// As [`FromJson::from_json`].
pub fn deserialize<'de, T: FromJson, D: Deserializer<'de>>(
    deserializer: D,
) -> std::result::Result<T, D::Error> {
    T::from_json(&Value::deserialize(deserializer)?).map_err(D::Error::custom)
}

/// The fields of an object.
pub type Fields = serde_json::Map<String, Value>;

/// `value` as an object.
///
/// # Errors
/// For anything else.
pub fn object(value: &Value) -> Read<&Fields> {
    value.as_object().ok_or_else(|| unlike(value, "an object"))
}

/// Reads the field `name`; `default` if it is not there.
///
/// # Errors
/// When it is neither there nor has a default, or is not what it must be.
pub fn field<T: FromJson>(fields: &Fields, name: &str, default: Option<T>) -> Read<T> {
    match fields.get(name) {
        Some(value) => T::from_json(value).map_err(|problem| inside(name, problem)),
        None => default.or_else(T::missing).ok_or_else(|| inside(name, "missing".to_owned())),
    }
}

/// The place in `words` of the word that `value` is.
///
/// # Errors
/// For anything else.
pub fn word(value: &Value, words: &[&str]) -> Read<usize> {
    let found = value.as_str().and_then(|text| words.iter().position(|word| *word == text));
    found.ok_or_else(|| unlike(value, &format!("one of {}", words.join(", "))))
}

/// The place in `words` of the word in the field `name` of `value`.
///
/// # Errors
/// For anything else.
pub fn tag(value: &Value, name: &str, words: &[&str]) -> Read<usize> {
    word(object(value)?.get(name).unwrap_or(&Value::Null), words).map_err(|problem| inside(name, problem))
}

/// A variant with fields: its word and what it holds. Null for a word alone.
///
/// # Errors
/// For anything else.
pub fn variant(value: &Value) -> Read<(&str, &Value)> {
    match value {
        Value::String(word) => Ok((word, &Value::Null)),
        Value::Object(fields) if fields.len() == 1 => {
            let mut all = fields.iter().map(|(word, held)| (word.as_str(), held));
            all.next().ok_or_else(String::new)
        }
        _ => Err(unlike(value, "a word, or an object with one field")),
    }
}

/// `value` as JSON. Not by `Display`, which would bring a second writer along.
pub fn text(value: &Value) -> String {
    // Keys are texts and numbers finite: nothing can fail.
    serde_json::to_string(value).unwrap_or_default()
}

/// Says that `value` is not what was expected.
#[cold]
pub fn unlike(value: &Value, expected: &str) -> String {
    let found = match value {
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
        plain => text(plain),
    };
    format!("expected {expected}, found {found}")
}

/// Says in which field or place `problem` is.
#[cold]
fn inside(place: &str, problem: String) -> String {
    format!("{place}: {problem}")
}

/// `value` as a list of `length`, if given.
fn items(value: &Value, length: Option<usize>) -> Read<&[Value]> {
    let fits = |list: &&Vec<Value>| length.is_none_or(|length| list.len() == length);
    let list = value.as_array().filter(fits);
    let expected = || length.map_or_else(|| "a list".to_owned(), |length| format!("a list of {length}"));
    list.map(Vec::as_slice).ok_or_else(|| unlike(value, &expected()))
}

fn whole(value: &Value, most: u64) -> Read<u64> {
    let number = value.as_u64().filter(|&number| number <= most);
    number.ok_or_else(|| unlike(value, "a whole number"))
}

impl FromJson for u64 {
    fn from_json(value: &Value) -> Read<Self> {
        whole(value, u64::MAX)
    }
}

impl FromJson for u8 {
    fn from_json(value: &Value) -> Read<Self> {
        whole(value, u64::from(u8::MAX)).map(|number| number as u8)
    }
}

impl FromJson for u32 {
    fn from_json(value: &Value) -> Read<Self> {
        whole(value, u64::from(u32::MAX)).map(|number| number as u32)
    }
}

impl FromJson for usize {
    fn from_json(value: &Value) -> Read<Self> {
        whole(value, usize::MAX as u64).map(|number| number as usize)
    }
}

impl FromJson for bool {
    fn from_json(value: &Value) -> Read<Self> {
        value.as_bool().ok_or_else(|| unlike(value, "true or false"))
    }
}

impl FromJson for f64 {
    fn from_json(value: &Value) -> Read<Self> {
        value.as_f64().ok_or_else(|| unlike(value, "a number"))
    }
}

impl FromJson for f32 {
    fn from_json(value: &Value) -> Read<Self> {
        f64::from_json(value).map(|number| number as f32)
    }
}

impl FromJson for String {
    fn from_json(value: &Value) -> Read<Self> {
        value.as_str().map(str::to_owned).ok_or_else(|| unlike(value, "a text"))
    }
}

impl<T: FromJson> FromJson for Option<T> {
    fn from_json(value: &Value) -> Read<Self> {
        if value.is_null() { Ok(None) } else { T::from_json(value).map(Some) }
    }

    fn missing() -> Option<Self> {
        Some(None)
    }
}

impl<T: FromJson> FromJson for Vec<T> {
    fn from_json(value: &Value) -> Read<Self> {
        let list = items(value, None)?;
        let mut read = Vec::with_capacity(list.len());
        for (place, item) in list.iter().enumerate() {
            read.push(T::from_json(item).map_err(|problem| inside(&place.to_string(), problem))?);
        }
        Ok(read)
    }
}

impl<T: FromJson> FromJson for [T; 2] {
    fn from_json(value: &Value) -> Read<Self> {
        let pair = items(value, Some(2))?;
        Ok([T::from_json(&pair[0])?, T::from_json(&pair[1])?])
    }
}

/// Keys are written as texts.
impl<T: FromJson> FromJson for BTreeMap<usize, T> {
    fn from_json(value: &Value) -> Read<Self> {
        let mut read = BTreeMap::new();
        for (key, value) in object(value)? {
            let number = key.parse().map_err(|_| inside(key, "expected a whole number as key".to_owned()))?;
            read.insert(number, T::from_json(value).map_err(|problem| inside(key, problem))?);
        }
        Ok(read)
    }
}

impl<T: FromJson> FromJson for BTreeMap<String, T> {
    fn from_json(value: &Value) -> Read<Self> {
        let mut read = BTreeMap::new();
        for (key, value) in object(value)? {
            read.insert(key.clone(), T::from_json(value).map_err(|problem| inside(key, problem))?);
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[derive(Debug, PartialEq)]
    struct Sample {
        count: usize,
        rate: f32,
        pair: [u32; 2],
        list: Vec<Option<String>>,
        map: BTreeMap<usize, Word>,
        step: u64,
    }
    from_json!(Sample { count, rate, pair, list, map, step = 7 });

    #[derive(Debug, Clone, Copy, PartialEq)]
    enum Word {
        First,
        Last,
    }
    from_json!(enum Word { First: "first", Last: "last" });

    #[test]
    fn what_is_written_is_read() {
        let written = json!({
            "count": 3, "rate": 0.1f32, "pair": [1, 2], "list": ["a", null], "map": {"10": "last"}, "unknown": {},
        });
        let map = BTreeMap::from([(10, Word::Last)]);
        let expected =
            Sample { count: 3, rate: 0.1, pair: [1, 2], list: vec![Some("a".into()), None], map, step: 7 };
        assert_eq!(Sample::from_json(&written), Ok(expected));
        assert_eq!(Word::from_json(&json!("first")), Ok(Word::First));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        let right = json!({"count": 3, "rate": 1, "pair": [1, 2], "list": [], "map": {}});
        assert!(Sample::from_json(&right).is_ok());
        for (field, value, told) in [
            ("count", json!(-1), "count: expected a whole number, found -1"),
            ("count", json!(1.5), "count: expected a whole number, found 1.5"),
            ("rate", json!(null), "rate: expected a number, found null"),
            ("pair", json!([1]), "pair: expected a list of 2, found a list"),
            ("pair", json!([1, u64::MAX]), "pair: expected a whole number, found 18446744073709551615"),
            ("list", json!(["a", 1]), "list: 1: expected a text, found 1"),
            ("map", json!({"x": "first"}), "map: x: expected a whole number as key"),
            ("map", json!({"1": "middle"}), "map: 1: expected one of first, last, found \"middle\""),
        ] {
            let mut wrong = right.clone();
            wrong[field] = value;
            assert_eq!(Sample::from_json(&wrong), Err(told.to_owned()));
        }
        let mut without = right;
        without.as_object_mut().expect("an object").remove("rate");
        assert_eq!(Sample::from_json(&without), Err("rate: missing".to_owned()));
        assert_eq!(Sample::from_json(&json!([1])), Err("expected an object, found a list".to_owned()));
    }
}
