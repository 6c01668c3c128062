//! A network as the page draws it: the TypeScript interface `NetworkInfo`.

use centripetal::Result;
use centripetal::graph::{Coupling, Graph};
use centripetal::model::Model;
use centripetal::prune::Clusters;
use centripetal::sort;
use serde_json::Value;

use crate::js::record;

/// Layers, nodes and sizes of `graph`; which layers are clustered follows from `clusters`.
pub(crate) fn describe(graph: &Graph, clusters: Option<&Clusters>) -> Result<Value> {
    let shapes = graph.shapes()?;
    let coupling = Coupling::derive(graph, &[])?;
    let shape_of = |id: usize| [shapes[id].c, shapes[id].h, shapes[id].w];
    let mut layers = Vec::new();
    for (id, node) in graph.nodes.iter().enumerate() {
        let parameters = node.op.operator().parameters();
        let Some(weight) = parameters.iter().find(|spec| spec.name == "weight" && spec.dims.len() > 1) else {
            continue;
        };
        let group = coupling.groups.iter().position(|group| group.producers.contains(&id));
        let trained = parameters.iter().filter(|spec| spec.kind.is_trained());
        layers.push(record! {
            "name": node.name.as_str(),
            "type": node.op.type_name(),
            "shape": weight.dims.as_slice(),
            "outputs": shapes[id].c,
            "outputShape": shape_of(id),
            "macs": graph.node_macs(id, &shapes),
            "parameters": trained.map(|spec| spec.len()).sum::<usize>(),
            "group": group,
            "clustered": clusters.is_some_and(|clusters| clusters.of_node(id).is_some()),
        });
    }
    let nodes = graph.nodes.iter().enumerate().map(|(id, node)| {
        record! {
            "name": node.name.as_str(),
            "type": node.op.type_name(),
            "inputs": node.inputs.as_slice(),
            "channels": shapes[id].c,
            "shape": shape_of(id),
        }
    });
    let words: usize = graph.parameters().iter().map(|(_, _, spec)| spec.len()).sum();
    Ok(record! {
        "nodes": nodes.collect::<Vec<_>>(),
        "layers": layers,
        "macs": graph.macs()?,
        "parameters": graph.parameter_count(),
        "bytes": words * 4,
    })
}

/// Channels before and after of every layer with filters that becomes narrower.
pub(crate) fn widths(model: &Model, clusters: &Clusters) -> Value {
    let layers = model.graph.nodes.iter().enumerate().filter_map(|(id, node)| {
        let partition = clusters.of_node(id)?;
        let parameters = node.op.operator().parameters();
        let filters = parameters.iter().any(|spec| spec.name == "weight" && spec.dims.len() > 1);
        filters.then(|| (node.name.clone(), Value::from([partition.channels(), partition.len()])))
    });
    Value::Object(sort::gather(layers))
}
