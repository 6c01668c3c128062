//! Which of a file's outputs is taken, and what the numbers of it are.

use super::schema::{Graph, Node};
use std::collections::{BTreeSet, HashMap, HashSet};

/// Outputs of a file that are looked at to choose one.
const MOST_OUTPUTS: usize = 16;

/// Operators that give the numbers of their first input, or a softmax of them.
const PASSING: [&str; 6] = ["Cast", "Dropout", "Identity", "LogSoftmax", "Softmax", "Unsqueeze"];

/// Operators behind which there is one number a channel, or a vector.
const FLATTENING: [&str; 7] =
    ["AveragePool", "Flatten", "GlobalAveragePool", "GlobalMaxPool", "ReduceMean", "Reshape", "Squeeze"];

/// What an output ends in.
struct End<'a> {
    output: &'a str,
    /// What its last linear layer or convolution gives.
    layer: &'a str,
    /// Whether it is surely no map of pixels.
    is_vector: bool,
}

/// The output to take, and a sentence about the choice if there was one.
///
/// Of several it is the first that a linear layer or a convolution ends in, a softmax behind it or not, and upon whose layer
/// no other such output builds: features stand before the logits, and the heads of training come after them in a file.
pub(super) fn chosen<'a>(
    graph: &'a Graph<'a>,
    asked: Option<&str>,
) -> Result<(&'a str, Option<String>), String> {
    let names: Vec<&str> = graph.outputs.iter().map(|output| output.name).collect();
    let producers: HashMap<&str, &Node<'_>> = graph
        .nodes
        .iter()
        .flat_map(|node| node.outputs.iter().map(move |&name| (name, node)))
        .filter(|(name, _)| !name.is_empty())
        .collect();
    if let Some(asked) = asked {
        let Some((&name, _)) = producers.get_key_value(asked) else {
            return Err(format!("no {asked:?} among them, nor a node that gives it"));
        };
        let others: Vec<&&str> = names.iter().filter(|&&other| other != name).collect();
        let note = match others.as_slice() {
            [] => None,
            others if names.contains(&name) => {
                Some(format!("its output {name:?} is taken, as --output says, and {others:?} left out"))
            }
            others => Some(format!(
                "{name:?} within the network is taken for its output, as --output says, and {others:?} left out"
            )),
        };
        return Ok((name, note));
    }
    let first = *names.first().ok_or_else(|| "none".to_owned())?;
    if names.len() == 1 {
        return Ok((first, None));
    }
    let initializers: HashSet<&str> = graph.initializers.iter().map(|tensor| tensor.name).collect();
    let ends: Vec<End<'_>> = graph
        .outputs
        .iter()
        .take(MOST_OUTPUTS)
        .filter(|output| {
            // Numbers of each pixel are no logits.
            let sides = output.dims.as_deref().and_then(|dims| dims.get(2..)).unwrap_or_default();
            sides.iter().all(|side| side.is_none_or(|side| side <= 1))
        })
        .filter_map(|output| end(output.name, &producers, &initializers))
        .collect();
    let built_upon: BTreeSet<&str> =
        ends.iter().flat_map(|end| before(end.layer, &producers, &ends)).collect();
    let mut last = ends.iter().filter(|end| !built_upon.contains(end.layer));
    let best = last.clone().find(|end| end.is_vector).or_else(|| last.next()).map(|end| end.output);
    let others: Vec<&str> = names.iter().copied().filter(|&name| name != best.unwrap_or(first)).collect();
    let note = match best {
        Some(name) => format!(
            "its outputs are {names:?}; {name:?} is taken, the first that ends in a linear layer or a convolution on which no \
             other such output builds, and {others:?} left out; --output NAME takes another"
        ),
        None => format!(
            "its outputs are {names:?}; the first is taken, since none ends in a linear layer, and {others:?} left out; --output \
             NAME takes another"
        ),
    };
    Ok((best.unwrap_or(first), Some(note)))
}

/// What `output` ends in, if that is a linear layer or a convolution.
fn end<'a>(
    output: &'a str,
    producers: &HashMap<&'a str, &'a Node<'a>>,
    initializers: &HashSet<&str>,
) -> Option<End<'a>> {
    let is_constant = |name: &&str| {
        initializers.contains(name) || producers.get(name).is_some_and(|node| node.op == "Constant")
    };
    let (mut name, mut is_vector) = (output, false);
    // A cycle, which is refused later, has no more nodes than the file.
    for _ in 0..producers.len() {
        let node = producers.get(name)?;
        name = match node.op {
            "Gemm" | "MatMul" => return Some(End { output, layer: name, is_vector: true }),
            "Conv" => return Some(End { output, layer: name, is_vector }),
            op if PASSING.contains(&op) => node.inputs.first()?,
            op if FLATTENING.contains(&op) => {
                is_vector = true;
                node.inputs.first()?
            }
            // A bias of its own, or a temperature.
            "Add" | "Sub" | "Mul" | "Div" if node.inputs.iter().any(is_constant) => {
                node.inputs.iter().find(|name| !name.is_empty() && !is_constant(name))?
            }
            _ => return None,
        };
    }
    None
}

/// The layers of `ends` that `of` is computed from.
fn before<'a>(of: &'a str, producers: &HashMap<&'a str, &'a Node<'a>>, ends: &[End<'a>]) -> Vec<&'a str> {
    let mut seen: HashSet<&str> = HashSet::from([of]);
    let mut stack = vec![of];
    let mut found = Vec::new();
    while let Some(name) = stack.pop() {
        for &input in producers.get(name).iter().flat_map(|node| &node.inputs) {
            if seen.insert(input) {
                if ends.iter().any(|end| end.layer == input) {
                    found.push(input);
                }
                stack.push(input);
            }
        }
    }
    found
}
