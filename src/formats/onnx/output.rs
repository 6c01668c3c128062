//! Which of a file's outputs is taken, and what the numbers of it are.

use super::schema::{Graph, Node};
use std::collections::{BTreeSet, HashMap, HashSet};

/// Outputs of a file that are looked at to choose one.
const MOST_OUTPUTS: usize = 16;

/// Operators that give the numbers of their first input, or a softmax of them.
const PASSING: [&str; 9] =
    ["Cast", "Dropout", "Flatten", "Identity", "LogSoftmax", "Reshape", "Softmax", "Squeeze", "Unsqueeze"];

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
    let layers: Vec<(&str, &str)> = graph
        .outputs
        .iter()
        .take(MOST_OUTPUTS)
        .filter(|output| {
            // Numbers of each pixel are no logits.
            let sides = output.dims.as_deref().and_then(|dims| dims.get(2..)).unwrap_or_default();
            sides.iter().all(|side| side.is_none_or(|side| side <= 1))
        })
        .filter_map(|output| layer(output.name, &producers, &initializers).map(|layer| (output.name, layer)))
        .collect();
    let built_upon: BTreeSet<&str> =
        layers.iter().flat_map(|&(_, layer)| before(layer, &producers, &layers)).collect();
    let best = layers.iter().find(|(_, layer)| !built_upon.contains(layer)).map(|(name, _)| *name);
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

/// The output of the linear layer or convolution that `name` ends in.
fn layer<'a>(
    mut name: &'a str,
    producers: &HashMap<&'a str, &'a Node<'a>>,
    initializers: &HashSet<&str>,
) -> Option<&'a str> {
    let is_constant = |name: &&str| {
        initializers.contains(name) || producers.get(name).is_some_and(|node| node.op == "Constant")
    };
    // A cycle, which is refused later, has no more nodes than the file.
    for _ in 0..producers.len() {
        let node = producers.get(name)?;
        let computed = || node.inputs.iter().find(|name| !name.is_empty() && !is_constant(name));
        name = match node.op {
            "Gemm" | "MatMul" | "Conv" => return Some(name),
            op if PASSING.contains(&op) => node.inputs.first()?,
            // A bias of its own, or a temperature.
            "Add" | "Sub" | "Mul" | "Div" if node.inputs.iter().any(|name| is_constant(&name)) => computed()?,
            _ => return None,
        };
    }
    None
}

/// Those of `layers` that the output `of` is computed from.
fn before<'a>(
    of: &'a str,
    producers: &HashMap<&'a str, &'a Node<'a>>,
    layers: &[(&'a str, &'a str)],
) -> Vec<&'a str> {
    let mut seen: HashSet<&str> = HashSet::from([of]);
    let mut stack = vec![of];
    let mut found = Vec::new();
    while let Some(name) = stack.pop() {
        for &input in producers.get(name).iter().flat_map(|node| &node.inputs) {
            if seen.insert(input) {
                if layers.iter().any(|(_, layer)| *layer == input) {
                    found.push(input);
                }
                stack.push(input);
            }
        }
    }
    found
}
