//! Tensors by PyTorch name in safetensors: reading, writing, and fitting a `state_dict` to a graph.

use crate::error::{Error, ErrorKind, Result};
use crate::from_json;
use crate::graph::Graph;
use crate::json::{self, FromJson, Read};
use crate::model::{Model, TensorData, Tensors};
use serde_json::Value;
use std::collections::BTreeMap;

/// Longest header: that of a network with a million tensors is shorter.
const MAX_HEADER: u64 = 100_000_000;

/// The entry of a header that is no tensor.
const METADATA: &str = "__metadata__";

/// A safetensors file taken apart.
#[derive(Debug, Clone, PartialEq)]
pub struct Contents {
    /// The tensors, converted to f32; integers are left out.
    pub tensors: Tensors,
    /// The file's metadata.
    pub metadata: BTreeMap<String, String>,
}

/// A tensor in the header.
struct Entry {
    dtype: String,
    shape: Vec<usize>,
    /// First byte of its numbers and the one after the last, counted from the header's end.
    data_offsets: [usize; 2],
}

from_json!(Entry { dtype, shape, data_offsets });

/// Reads a safetensors file called `name`.
///
/// # Errors
/// [`ErrorKind::Format`] when the bytes are no whole safetensors file.
pub fn read(name: &str, bytes: &[u8]) -> Result<Contents> {
    take_apart(bytes).map_err(|found| {
        Error::new(ErrorKind::Format, format!("reading {name}"))
            .expected("a whole safetensors file")
            .found(found)
            .next("The file is truncated, damaged or of another format (a .pth must be converted with safetensors.torch.save_file)")
    })
}

/// Length of the header, the header as JSON, then the numbers of all tensors side by side.
fn take_apart(bytes: &[u8]) -> Read<Contents> {
    let (length, rest) = bytes.split_first_chunk().ok_or("no header")?;
    let length = u64::from_le_bytes(*length);
    if length > MAX_HEADER || length > rest.len() as u64 {
        return Err(format!("a header of {length} bytes"));
    }
    let (header, data) = rest.split_at(length as usize);
    let header = std::str::from_utf8(header).map_err(|error| error.to_string())?;
    let header: Value =
        serde_json::from_str(header).map_err(|error| format!("a header that is no JSON: {error}"))?;
    let mut metadata = BTreeMap::new();
    let mut entries = Vec::new();
    for (key, value) in json::object(&header)? {
        if key == METADATA {
            for key in json::object(value)?.keys() {
                metadata.insert(key.clone(), json::field(json::object(value)?, key, None)?);
            }
        } else {
            entries.push((key, Entry::from_json(value).map_err(|problem| format!("{key}: {problem}"))?));
        }
    }
    entries.sort_by_key(|(_, entry)| entry.data_offsets);
    let mut tensors = Tensors::new();
    let mut end = 0;
    for (key, entry) in entries {
        let [from, to] = entry.data_offsets;
        let found = data.get(from..to).filter(|_| from == end);
        let found =
            found.ok_or_else(|| format!("{key} at bytes {from} to {to} of {}, after {end}", data.len()))?;
        end = to;
        let size = match entry.dtype.as_str() {
            "F64" | "I64" | "U64" => 8,
            "F32" | "I32" | "U32" => 4,
            "F16" | "BF16" | "I16" | "U16" => 2,
            "I8" | "U8" | "BOOL" => 1,
            _ => continue,
        };
        let bytes = entry.shape.iter().try_fold(size, |bytes: usize, &extent| bytes.checked_mul(extent));
        if bytes != Some(found.len()) {
            return Err(format!("{key} with {} bytes for {} {:?}", found.len(), entry.dtype, entry.shape));
        }
        if let Some(data) = to_f32(&entry.dtype, found) {
            tensors.insert(key.clone(), TensorData { dims: entry.shape, data });
        }
    }
    if end != data.len() {
        return Err(format!("{} bytes of numbers where {end} belong to tensors", data.len()));
    }
    Ok(Contents { tensors, metadata })
}

fn to_f32(dtype: &str, bytes: &[u8]) -> Option<Vec<f32>> {
    let halves = || bytes.as_chunks().0.iter().map(|&half| u16::from_le_bytes(half));
    match dtype {
        "F32" => Some(bytes.as_chunks().0.iter().map(|&x| f32::from_le_bytes(x)).collect()),
        "F64" => Some(bytes.as_chunks().0.iter().map(|&x| f64::from_le_bytes(x) as f32).collect()),
        "BF16" => Some(halves().map(|half| f32::from_bits(u32::from(half) << 16)).collect()),
        "F16" => Some(halves().map(half_to_f32).collect()),
        _ => None,
    }
}

/// IEEE 754 binary16 to binary32, exactly.
pub(super) fn half_to_f32(half: u16) -> f32 {
    let sign = if half >> 15 == 1 { -1.0 } else { 1.0 };
    let exponent = i32::from((half >> 10) & 31);
    let fraction = f32::from(half & 1023) / 1024.0;
    match exponent {
        0 => sign * fraction * 2f32.powi(-14),
        31 if fraction == 0.0 => sign * f32::INFINITY,
        31 => f32::NAN,
        _ => sign * (1.0 + fraction) * 2f32.powi(exponent - 15),
    }
}

/// Writes tensors with one metadata entry, if given. Same tensors, same bytes.
pub fn write(tensors: &Tensors, metadata: Option<(&str, String)>) -> Vec<u8> {
    let mut entries = Vec::with_capacity(tensors.len() + 1);
    if let Some((key, value)) = metadata {
        entries.push(format!("{}:{{{}:{}}}", quoted(METADATA), quoted(key), quoted(&value)));
    }
    let mut end = 0;
    for (name, tensor) in tensors {
        let start = end;
        end += tensor.data.len() * size_of::<f32>();
        let shape: Vec<String> = tensor.dims.iter().map(usize::to_string).collect();
        let (name, shape) = (quoted(name), shape.join(","));
        entries.push(format!(
            "{name}:{{\"dtype\":\"F32\",\"shape\":[{shape}],\"data_offsets\":[{start},{end}]}}"
        ));
    }
    let mut header = format!("{{{}}}", entries.join(","));
    // The numbers begin at a multiple of eight bytes.
    while !header.len().is_multiple_of(8) {
        header.push(' ');
    }
    let mut bytes = Vec::with_capacity(8 + header.len() + end);
    bytes.extend((header.len() as u64).to_le_bytes());
    bytes.extend(header.as_bytes());
    for tensor in tensors.values() {
        bytes.extend(tensor.data.iter().flat_map(|x| x.to_le_bytes()));
    }
    bytes
}

/// `text` as JSON.
fn quoted(text: &str) -> String {
    json::text(&Value::String(text.to_owned()))
}

/// Fits the tensors of the file `name` to `graph`: `module.` prefixes and counters are dropped.
///
/// # Errors
/// [`ErrorKind::Checkpoint`] naming every missing, unexpected and misshapen tensor; [`ErrorKind::Numeric`] for NaN.
pub fn import(name: &str, tensors: Tensors, graph: Graph) -> Result<Model> {
    let mut given: Tensors = tensors
        .into_iter()
        .map(|(key, tensor)| (key.strip_prefix("module.").unwrap_or(&key).to_owned(), tensor))
        .filter(|(key, _)| !key.ends_with("num_batches_tracked"))
        .collect();
    let mut fitted = Tensors::new();
    let mut wrong = Vec::new();
    for (_, key, spec) in graph.parameters() {
        match given.remove(&key) {
            Some(tensor) if tensor.dims == spec.dims => {
                fitted.insert(key, tensor);
            }
            Some(tensor) => wrong.push(format!("{key} is {:?} instead of {:?}", tensor.dims, spec.dims)),
            None => wrong.push(format!("{key} is missing")),
        }
    }
    wrong.extend(given.keys().map(|key| format!("{key} is not part of it")));
    if !wrong.is_empty() {
        const SHOWN: usize = 8;
        let more = wrong.len().saturating_sub(SHOWN);
        let tail = if more > 0 { format!("; and {more} more") } else { String::new() };
        return Err(Error::new(ErrorKind::Checkpoint, format!("importing {name}"))
            .expected(format!("the tensors of {}", graph.name))
            .found(format!("{}{tail}", wrong.into_iter().take(SHOWN).collect::<Vec<_>>().join("; ")))
            .next("Another --model, --width, --classes or --shortcut may be the right one"));
    }
    let model = Model { graph, tensors: fitted };
    model.validate()?;
    Ok(model)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_convert_exactly() {
        for (half, value) in [
            (0x3C00, 1.0),
            (0xC000, -2.0),
            (0x7BFF, 65504.0),
            (0x0001, 2f32.powi(-24)),
            (0x0400, 2f32.powi(-14)),
        ] {
            assert_eq!(half_to_f32(half), value);
        }
        assert!(half_to_f32(0x7E00).is_nan());
        assert_eq!(half_to_f32(0xFC00), f32::NEG_INFINITY);
    }

    #[test]
    fn tensors_survive_the_file_and_truncation_is_told() {
        let tensor = TensorData { dims: vec![2, 2], data: vec![1.0, -0.5, 3.25, f32::MIN_POSITIVE] };
        let tensors = Tensors::from([("a.weight".to_owned(), tensor)]);
        let bytes = write(&tensors, Some(("k", "v".into())));
        let back = read("x", &bytes).expect("reads");
        assert_eq!(back.tensors, tensors);
        assert_eq!(back.metadata["k"], "v");
        for length in 0..bytes.len() {
            let error = read("x", &bytes[..length]).expect_err("truncated");
            assert_eq!(error.kind(), ErrorKind::Format);
        }
    }

    #[test]
    fn the_bytes_are_those_of_the_reference() {
        let tensor = |dims: &[usize], data: &[f32]| TensorData { dims: dims.to_vec(), data: data.to_vec() };
        let tensors = Tensors::from([
            ("a \"quoted\"\n\u{e9}".to_owned(), tensor(&[], &[1.0])),
            ("b.weight".to_owned(), tensor(&[2, 1, 2], &[1.0, -0.0, 3.5, 1e-38])),
            ("c.empty".to_owned(), tensor(&[0, 3], &[])),
        ]);
        for metadata in [None, Some(("k\t", "{\"v\": \"\u{1}\"}".to_owned()))] {
            let ours = write(&tensors, metadata.clone());
            let owned: Vec<(&String, Vec<usize>, Vec<u8>)> = tensors
                .iter()
                .map(|(name, t)| {
                    (name, t.dims.clone(), t.data.iter().flat_map(|x| x.to_le_bytes()).collect())
                })
                .collect();
            let views = owned.iter().map(|(name, dims, bytes)| {
                (
                    name,
                    safetensors::tensor::TensorView::new(safetensors::Dtype::F32, dims.clone(), bytes)
                        .expect("fits"),
                )
            });
            let metadata = metadata.map(|(k, v)| std::iter::once((k.to_owned(), v)).collect());
            assert_eq!(ours, safetensors::serialize(views, metadata).expect("writes"));
            assert_eq!(read("x", &ours).expect("reads").tensors, tensors);
        }
    }

    #[test]
    fn headers_that_do_not_fit_the_numbers_are_refused() {
        let file = |header: &str, numbers: usize| {
            let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
            bytes.extend(header.as_bytes());
            bytes.extend(vec![0; numbers]);
            bytes
        };
        let good = r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"n":{"dtype":"I64","shape":[],"data_offsets":[8,16]}}"#;
        let contents = read("x", &file(good, 16)).expect("reads");
        assert_eq!(contents.tensors.keys().collect::<Vec<_>>(), ["a"]);
        for (header, numbers) in [
            (good, 17),
            (good, 15),
            ("[]", 0),
            ("{", 0),
            (r#"{"__metadata__":{"k":1}}"#, 0),
            (r#"{"a":{"dtype":"F32","shape":[2]}}"#, 8),
            (r#"{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}"#, 8),
            (r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}}"#, 8),
            (r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#, 8),
            (r#"{"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}}"#, 0),
            (
                r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}"#,
                12,
            ),
        ] {
            let error = read("x", &file(header, numbers)).expect_err(header);
            assert_eq!(error.kind(), ErrorKind::Format);
        }
        let endless = u64::MAX.to_le_bytes();
        assert!(read("x", &endless).is_err());
    }
}
