//! Tensors by PyTorch name in safetensors: reading, writing, and fitting a `state_dict` to a graph.

use crate::error::{Error, ErrorKind, Result};
use crate::graph::Graph;
use crate::model::{Model, TensorData, Tensors};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use std::collections::{BTreeMap, HashMap, HashSet};

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

/// Tensors without what a wrapper put in front of their names.
#[derive(Debug, Clone, PartialEq)]
pub struct Unwrapped {
    /// The tensors, those that had the prefix without it; counters are left out.
    pub tensors: Tensors,
    /// The prefix, such as `module.` or `model.backbone.`; empty where there is none.
    pub prefix: String,
    /// How many of the network's tensors have it.
    pub found: usize,
}

/// Finds the prefix that makes the most of the file's names those of `graph`, and takes it away. Wrappers put many there
/// (`module.`, `_orig_mod.`, `model.`, `backbone.`, one in the other), so it is found and not listed.
pub fn unwrapped(tensors: Tensors, graph: &Graph) -> Unwrapped {
    /// Dots of a name behind which the network's own name may begin.
    const DEEPEST: usize = 12;
    let needed: HashSet<String> = graph.parameters().into_iter().map(|(_, key, _)| key).collect();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for key in tensors.keys() {
        let begins = key.match_indices('.').take(DEEPEST).map(|(at, _)| at + 1);
        for at in std::iter::once(0).chain(begins).filter(|&at| needed.contains(&key[at..])) {
            *counts.entry(&key[..at]).or_insert(0) += 1;
        }
    }
    // Of equally good ones the shortest, which is none where the names are right as they are.
    let best = counts.iter().max_by_key(|(prefix, count)| (**count, std::cmp::Reverse(prefix.len())));
    let (prefix, found) = best.map_or((String::new(), 0), |(prefix, count)| ((*prefix).to_owned(), *count));
    let mut own = Tensors::new();
    let mut others = Tensors::new();
    for (key, tensor) in tensors.into_iter().filter(|(key, _)| !key.ends_with("num_batches_tracked")) {
        match key.strip_prefix(&prefix) {
            Some(name) => own.insert(name.to_owned(), tensor),
            None => others.insert(key, tensor),
        };
    }
    // A name that both have is that of the prefix; the other one's tensor is unexpected under a name that says so.
    for (key, tensor) in others {
        let key = if own.contains_key(&key) { format!("{key} (without {prefix})") } else { key };
        own.insert(key, tensor);
    }
    Unwrapped { tensors: own, prefix, found }
}

/// Fits the tensors of the file `name` to `graph`: counters are dropped, and a prefix of all names, as [`unwrapped`] finds it.
///
/// # Errors
/// [`ErrorKind::Checkpoint`] naming every missing, unexpected and misshapen tensor, and the prefix; [`ErrorKind::Numeric`]
/// for NaN.
pub fn import(name: &str, tensors: Tensors, graph: Graph) -> Result<Model> {
    fit(name, unwrapped(tensors, &graph), graph)
}

/// As [`import`], of tensors that were unwrapped already.
///
/// # Errors
/// Those of [`import`].
pub fn fit(name: &str, unwrapped: Unwrapped, graph: Graph) -> Result<Model> {
    let Unwrapped { tensors: mut given, prefix, found } = unwrapped;
    let mut fitted = Tensors::new();
    let mut wrong = Vec::new();
    let parameters = graph.parameters();
    let needed = parameters.len();
    for (_, key, spec) in parameters {
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
        let under = if prefix.is_empty() {
            String::new()
        } else {
            format!(", {found} of {needed} of which the file has under the prefix {prefix:?}")
        };
        return Err(Error::new(ErrorKind::Checkpoint, format!("importing {name}"))
            .expected(format!("the tensors of {}{under}", graph.name))
            .found(format!("{}{tail}", wrong.into_iter().take(SHOWN).collect::<Vec<_>>().join("; ")))
            .next("Another --model, --width, --classes, --input or --shortcut may be the right one"));
    }
    let model = Model { graph, tensors: fitted };
    model.validate()?;
    Ok(model)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::{self, ModelConfig};

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

    /// The tensors of a small network, their names behind `prefix`.
    fn prefixed(graph: &Graph, prefix: &str) -> Tensors {
        let model = Model::random(graph.clone(), 1);
        model.tensors.into_iter().map(|(key, tensor)| (format!("{prefix}{key}"), tensor)).collect()
    }

    #[test]
    fn any_prefix_of_all_names_is_taken_away() {
        let input = crate::Shape::new(1, 8, 8);
        for model in ["lenet", "mobilenet_v1"] {
            let config = ModelConfig { width: 0.1, ..ModelConfig::new(input, 3) };
            let graph = models::build(model, &config).expect("a zoo model");
            let plain = prefixed(&graph, "");
            for prefix in ["", "module.", "_orig_mod.", "module._orig_mod.", "model.backbone.", "a b.c."] {
                let mut tensors = prefixed(&graph, prefix);
                let counter = TensorData { dims: Vec::new(), data: vec![1.0] };
                tensors.insert(format!("{prefix}bn1.num_batches_tracked"), counter);
                let found = unwrapped(tensors.clone(), &graph);
                assert_eq!((found.prefix.as_str(), found.found), (prefix, plain.len()), "{model}");
                assert_eq!(import("x", tensors, graph.clone()).expect("fits").tensors, plain, "{prefix}");
            }
        }
    }

    #[test]
    fn a_prefix_that_not_all_have_is_named_with_what_is_missing() {
        let config = ModelConfig { width: 0.1, ..ModelConfig::new(crate::Shape::new(1, 8, 8), 3) };
        let graph = models::build("lenet", &config).expect("a zoo model");
        let mut tensors = prefixed(&graph, "backbone.");
        let head = tensors.remove("backbone.fc.weight").expect("a head");
        tensors.insert("head.weight".to_owned(), head.clone());
        tensors.insert("conv1.weight".to_owned(), head);
        let error = import("x", tensors, graph).expect_err("no head").to_string();
        for part in [
            "11 of 12 of which the file has under the prefix \"backbone.\"",
            "fc.weight is missing",
            "head.weight is not part of it",
            "conv1.weight (without backbone.) is not part of it",
        ] {
            assert!(error.contains(part), "{part} in {error}");
        }
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
