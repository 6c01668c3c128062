//! Tensors by PyTorch name in safetensors: reading, writing, and fitting a `state_dict` to a graph.

use crate::error::{Error, ErrorKind, Result};
use crate::graph::Graph;
use crate::model::{Model, TensorData, Tensors};
use crate::sort;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use std::collections::HashMap;

/// A safetensors file taken apart.
#[derive(Debug, Clone, PartialEq)]
pub struct Contents {
    /// The tensors, converted to f32; integers are left out.
    pub tensors: Tensors,
    /// The file's metadata.
    pub metadata: HashMap<String, String>,
}

/// Reads a safetensors file called `name`.
///
/// # Errors
/// [`ErrorKind::Format`] when the bytes are no whole safetensors file.
pub fn read(name: &str, bytes: &[u8]) -> Result<Contents> {
    let fail = |found: String| {
        Error::new(ErrorKind::Format, format!("reading {name}"))
            .expected("a whole safetensors file")
            .found(found)
            .next("The file is truncated, damaged or of another format (a .pth must be converted with safetensors.torch.save_file)")
    };
    let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(|error| fail(error.to_string()))?;
    let metadata = metadata.metadata().iter().flatten().map(|(k, v)| (k.clone(), v.clone())).collect();
    let file = SafeTensors::deserialize(bytes).map_err(|error| fail(error.to_string()))?;
    let mut tensors = Tensors::new();
    for (key, view) in file.iter() {
        if let Some(data) = to_f32(&view) {
            tensors.insert(key.to_owned(), TensorData { dims: view.shape().to_vec(), data });
        }
    }
    Ok(Contents { tensors, metadata })
}

fn to_f32(view: &TensorView<'_>) -> Option<Vec<f32>> {
    let bytes = view.data();
    let halves = || bytes.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
    match view.dtype() {
        Dtype::F32 => {
            Some(bytes.chunks_exact(4).map(|x| f32::from_le_bytes([x[0], x[1], x[2], x[3]])).collect())
        }
        Dtype::F64 => Some(
            bytes
                .chunks_exact(8)
                .map(|x| f64::from_le_bytes([x[0], x[1], x[2], x[3], x[4], x[5], x[6], x[7]]) as f32)
                .collect(),
        ),
        Dtype::BF16 => Some(halves().map(|half| f32::from_bits(u32::from(half) << 16)).collect()),
        Dtype::F16 => Some(halves().map(half_to_f32).collect()),
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
///
/// # Errors
/// [`ErrorKind::Format`] when the library refuses them.
pub fn write(tensors: &Tensors, metadata: Option<(&str, String)>) -> Result<Vec<u8>> {
    serialize(tensors.iter().map(|(name, tensor)| (name.clone(), tensor)), metadata)
}

/// As [`write`], of tensors that are not all in one place: no number is copied but into the file.
pub(super) fn serialize<'t>(
    tensors: impl Iterator<Item = (String, &'t TensorData)>,
    metadata: Option<(&str, String)>,
) -> Result<Vec<u8>> {
    let fail = |error: &dyn std::fmt::Display| {
        Error::new(ErrorKind::Format, "writing a safetensors file").found(error.to_string())
    };
    // The format is little-endian, as is every platform that wgpu runs on.
    let mut views = Vec::new();
    for (name, tensor) in tensors {
        let bytes = bytemuck::cast_slice(&tensor.data);
        let view = TensorView::new(Dtype::F32, tensor.dims.clone(), bytes).map_err(|error| fail(&error))?;
        views.push((name, view));
    }
    let metadata = metadata.map(|(key, value)| std::iter::once((key.to_owned(), value)).collect());
    safetensors::serialize(views, metadata).map_err(|error| fail(&error))
}

/// Fits the tensors of the file `name` to `graph`: `module.` prefixes and counters are dropped.
///
/// # Errors
/// [`ErrorKind::Checkpoint`] naming every missing, unexpected and misshapen tensor; [`ErrorKind::Numeric`] for NaN.
pub fn import(name: &str, tensors: Tensors, graph: Graph) -> Result<Model> {
    let named = tensors
        .into_iter()
        .map(|(key, tensor)| (key.strip_prefix("module.").unwrap_or(&key).to_owned(), tensor))
        .filter(|(key, _)| !key.ends_with("num_batches_tracked"));
    let mut given: Tensors = sort::gather(named);
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
        let bytes = write(&tensors, Some(("k", "v".into()))).expect("writes");
        let back = read("x", &bytes).expect("reads");
        assert_eq!(back.tensors, tensors);
        assert_eq!(back.metadata["k"], "v");
        for length in 0..bytes.len() {
            let error = read("x", &bytes[..length]).expect_err("truncated");
            assert_eq!(error.kind(), ErrorKind::Format);
        }
    }
}
