//! Networks rewritten so that they compute the same: batch norms folded into the layers before them, or put behind layers
//! that have none. Pure functions of plain data.

use crate::error::Result;
use crate::graph::{Graph, Node, NodeId};
use crate::model::{Model, TensorData};
use crate::ops::{BatchNorm2d, Bias, Op};
use std::collections::BTreeSet;

/// The model with every batch norm folded into the convolution or linear layer before it, where nothing else reads that:
/// `W' = W gamma / sqrt(var + eps)`, `b' = (b - mean) gamma / sqrt(var + eps) + beta`. Other batch norms stay.
///
/// # Errors
/// Those of the model's validation.
pub fn fold_batch_norms(model: &Model) -> Result<Model> {
    model.validate()?;
    let graph = &model.graph;
    let consumers = graph.consumers();
    let mut tensors = model.tensors.clone();
    let mut nodes: Vec<Node> = Vec::with_capacity(graph.nodes.len());
    let mut places: Vec<NodeId> = Vec::with_capacity(graph.nodes.len());
    for (id, node) in graph.nodes.iter().enumerate() {
        let inputs: Vec<NodeId> = node.inputs.iter().map(|&input| places[input]).collect();
        if let Op::BatchNorm2d(norm) = &node.op {
            let layer = node.inputs[0];
            let foldable = consumers[layer] == [id] && layer != graph.output();
            let bias = match &mut nodes[inputs[0]].op {
                Op::Conv2d(conv) if foldable => Some(&mut conv.bias),
                Op::Linear(linear) if foldable => Some(&mut linear.bias),
                _ => None,
            };
            if let Some(bias) = bias {
                *bias = Bias::With;
                let mut take = |name: &str| {
                    let tensor = tensors.remove(&format!("{}.{name}", node.name));
                    tensor.map(|tensor| tensor.data).unwrap_or_default()
                };
                let [gamma, beta, mean, var] =
                    ["weight", "bias", "running_mean", "running_var"].map(&mut take);
                // In f64, so that folding adds no more than the rounding of its results.
                let scales: Vec<f64> = gamma
                    .iter()
                    .zip(&var)
                    .map(|(&gamma, &var)| f64::from(gamma) / (f64::from(var) + f64::from(norm.eps)).sqrt())
                    .collect();
                let layer = &graph.nodes[layer].name;
                if let Some(weight) = tensors.get_mut(&format!("{layer}.weight")) {
                    let row_len = weight.data.len() / scales.len().max(1);
                    for (row, scale) in weight.data.chunks_exact_mut(row_len.max(1)).zip(&scales) {
                        row.iter_mut().for_each(|x| *x = (f64::from(*x) * scale) as f32);
                    }
                }
                let key = format!("{layer}.bias");
                let before = tensors.get(&key).map(|tensor| tensor.data.clone());
                let before = before.unwrap_or_else(|| vec![0.0; scales.len()]);
                let data = (0..scales.len())
                    .map(|k| {
                        let centred = f64::from(before[k]) - f64::from(mean[k]);
                        (centred * scales[k] + f64::from(beta[k])) as f32
                    })
                    .collect();
                tensors.insert(key, TensorData { dims: vec![scales.len()], data });
                places.push(inputs[0]);
                continue;
            }
        }
        places.push(nodes.len());
        nodes.push(Node { name: node.name.clone(), op: node.op.clone(), inputs });
    }
    let folded = Model { graph: Graph { name: graph.name.clone(), input: graph.input, nodes }, tensors };
    folded.validate()?;
    Ok(folded)
}

/// The model with a batch norm behind every convolution that has none, but for the output and for gates of one pixel. It
/// is the identity by its running statistics; a training step, which normalises by its batch, changes that.
///
/// # Errors
/// Those of the model's validation.
pub fn insert_batch_norms(model: &Model) -> Result<Model> {
    model.validate()?;
    let graph = &model.graph;
    let shapes = graph.shapes()?;
    let consumers = graph.consumers();
    let mut names: BTreeSet<String> = graph.nodes.iter().map(|node| node.name.clone()).collect();
    let mut tensors = model.tensors.clone();
    let mut nodes: Vec<Node> = Vec::with_capacity(graph.nodes.len());
    let mut places: Vec<NodeId> = Vec::with_capacity(graph.nodes.len());
    for (id, node) in graph.nodes.iter().enumerate() {
        let inputs = node.inputs.iter().map(|&input| places[input]).collect();
        nodes.push(Node { name: node.name.clone(), op: node.op.clone(), inputs });
        let normed = consumers[id].iter().any(|&reader| matches!(graph.nodes[reader].op, Op::BatchNorm2d(_)));
        let wants =
            matches!(node.op, Op::Conv2d(_)) && !normed && id != graph.output() && shapes[id].pixels() > 1;
        if wants {
            let mut name = format!("{}.bn", node.name);
            while !names.insert(name.clone()) {
                name.push('_');
            }
            let norm = BatchNorm2d::new(shapes[id].c);
            let channels = shapes[id].c;
            for (parameter, value) in
                [("weight", 1.0), ("bias", 0.0), ("running_mean", 0.0), ("running_var", 1.0 - norm.eps)]
            {
                let tensor = TensorData { dims: vec![channels], data: vec![value; channels] };
                tensors.insert(format!("{name}.{parameter}"), tensor);
            }
            nodes.push(Node { name, op: norm.into(), inputs: vec![nodes.len() - 1] });
        }
        places.push(nodes.len() - 1);
    }
    let more = Model { graph: Graph { name: graph.name.clone(), input: graph.input, nodes }, tensors };
    more.validate()?;
    Ok(more)
}
