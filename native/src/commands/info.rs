//! `info`: layers, shapes, cost, memory and coupled layers.

use centripetal::Result;
use centripetal::graph::{Coupling, Graph, Group};
use centripetal::plan::{Layout, Mode, Plan};
use serde_json::{Value, json};

use super::{MOST_TESTED_ON_CPU, Named, Scene, build, named};
use crate::args::InfoArgs;
use crate::progress::{bytes, grouped, scaled, table};
use crate::run::Needed;

pub(super) fn run(scene: &Scene, args: &InfoArgs) -> Result<()> {
    let (graph, origin) = match named(&args.model)? {
        Named::Zoo(name) => (build(&name, args.input, args.classes, args.width, args.shortcut)?, None),
        Named::File(checkpoint) => {
            let origin = json!({
                "provenance": checkpoint.provenance,
                "has_clusters": checkpoint.clusters.is_some(),
                "step": checkpoint.training.as_ref().map(|training| training.step),
            });
            (checkpoint.model.graph, Some(origin))
        }
    };
    let shapes = graph.shapes()?;
    let (macs, parameters) = (graph.macs()?, graph.parameter_count());
    let statistics: usize = graph
        .parameters()
        .iter()
        .filter(|(_, _, spec)| !spec.kind.is_trained())
        .map(|(_, _, spec)| spec.len())
        .sum();
    let size = (parameters + statistics as u64) * 4;
    let layers: Vec<Value> = graph
        .nodes
        .iter()
        .enumerate()
        .map(|(id, node)| {
            let numbers = node.op.operator().parameters();
            let trained: usize =
                numbers.iter().filter(|spec| spec.kind.is_trained()).map(|spec| spec.len()).sum();
            json!({
                "name": node.name,
                "op": node.op.type_name(),
                "inputs": node.inputs.iter().map(|&input| &graph.nodes[input].name).collect::<Vec<_>>(),
                "shape": [shapes[id].c, shapes[id].h, shapes[id].w],
                "macs": graph.node_macs(id, &shapes),
                "params": trained,
            })
        })
        .collect();
    let coupling = Coupling::derive(&graph, &[])?;
    let groups: Vec<Value> = coupling.groups.iter().map(|group| describe(&graph, group)).collect();
    let memory = args.batch.map(|batch| memory(&graph, batch)).transpose()?;

    let mut text = format!("{}, images of {}, {} classes\n", graph.name, graph.input, graph.classes()?);
    if let Some(origin) = &origin {
        text += &told_origin(origin);
    }
    text += &format!("\n{}", layer_table(&layers));
    text +=
        &format!("\n{} MACs an image, {} parameters, {}\n", scaled(macs), grouped(parameters), bytes(size));
    if let Some(memory) = &memory {
        text += &told_memory(memory);
    }
    if args.couplings {
        text += &format!("\n{}", group_table(&groups));
    }
    let document = json!({
        "model": graph.name,
        "input": [graph.input.c, graph.input.h, graph.input.w],
        "classes": graph.classes()?,
        "macs": macs,
        "params": parameters,
        "bytes": size,
        "layers": layers,
        "groups": groups,
        "memory": memory,
        "checkpoint": origin,
    });
    scene.console.result(&text, &document)
}

/// Memory for batches of `batch` images.
fn memory(graph: &Graph, batch: usize) -> Result<Value> {
    let arenas = Layout::new(graph).trained_words() as u64 * 4 * 3;
    let training = Plan::memory_of(graph, batch, Mode::Train)?;
    let evaluation = Plan::memory_of(graph, batch, Mode::Evaluate)?;
    let needed = Needed::of(graph, batch, batch.min(MOST_TESTED_ON_CPU))?;
    Ok(json!({
        "batch": batch,
        "parameters_gradients_momentum": arenas,
        "training": needed.device,
        "training_without_sharing": needed.device - training.activations + training.unshared,
        "beside_the_device": needed.host,
        "training_on_cpu": needed.device + needed.host,
        "evaluation": evaluation.activations + arenas / 3,
    }))
}

fn told_memory(memory: &Value) -> String {
    let size = |name: &str| bytes(memory[name].as_u64().unwrap_or(0));
    format!(
        "memory for batches of {}: training {} on the device ({} if activations shared none) and {} beside it, {} on the CPU; \
         evaluation {}\n",
        memory["batch"],
        size("training"),
        size("training_without_sharing"),
        size("beside_the_device"),
        size("training_on_cpu"),
        size("evaluation")
    )
}

fn told_origin(origin: &Value) -> String {
    let provenance = &origin["provenance"];
    let text = |name: &str| provenance[name].as_str().unwrap_or("unknown").to_owned();
    let step = origin["step"].as_u64().map_or(String::new(), |step| format!(", after step {step}"));
    let data = if text("data").is_empty() { "unknown data".to_owned() } else { text("data") };
    format!("{} network of {data}, seed {}{step}\n", text("stage"), provenance["seed"])
}

fn layer_table(layers: &[Value]) -> String {
    let header = ["layer", "", "shape", "MACs", "parameters"];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    for layer in layers {
        let side = |i: usize| layer["shape"][i].as_u64().unwrap_or(0);
        let count = |name: &str| match layer[name].as_u64() {
            None | Some(0) => String::new(),
            Some(count) => grouped(count),
        };
        rows.push(vec![
            layer["name"].as_str().unwrap_or_default().to_owned(),
            layer["op"].as_str().unwrap_or_default().to_owned(),
            format!("{}x{}x{}", side(0), side(1), side(2)),
            count("macs"),
            count("params"),
        ]);
    }
    table(&rows)
}

/// A group of coupled channels: who sets the pace, who follows, or why it may not shrink.
fn describe(graph: &Graph, group: &Group) -> Value {
    let name = |&node: &usize| graph.nodes[node].name.clone();
    let mut members: Vec<String> = group.members.iter().map(|member| name(&member.node)).collect();
    members.dedup();
    json!({
        "width": group.width(),
        "kind": group.kind(),
        "pacesetter": group.pacesetter.as_ref().map(name),
        "followers": group.producers.iter().filter(|&&node| Some(node) != group.pacesetter).map(name).collect::<Vec<_>>(),
        "members": members,
        "frozen": group.frozen,
    })
}

fn group_table(groups: &[Value]) -> String {
    let mut text = "coupled channels (clustered together; the pacesetter's filters decide)\n".to_owned();
    for group in groups {
        let strings = |name: &str| -> Vec<&str> {
            group[name].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
        };
        let head = match (&group["pacesetter"], group["frozen"].as_str()) {
            (_, Some(why)) => format!("stays: {why}"),
            (Value::String(pacesetter), None) => format!("pacesetter {pacesetter}"),
            _ => "stays: no filters make it".to_owned(),
        };
        text += &format!("{:>6} channels  {head}\n", group["width"].as_u64().unwrap_or(0));
        if !strings("followers").is_empty() {
            text += &format!("                 followers  {}\n", strings("followers").join(", "));
        }
        text += &format!("                 layers     {}\n", strings("members").join(", "));
    }
    text
}
