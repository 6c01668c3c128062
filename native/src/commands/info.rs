//! `info`: layers, shapes, cost, memory and coupled layers.

use centripetal::Result;
use centripetal::formats::Description;
use centripetal::formats::description::normalised;
use centripetal::graph::{Coupling, Graph, Group};
use centripetal::ops::Op;
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
            let description = Description::of(&checkpoint.provenance, checkpoint.model.graph.input);
            let origin = json!({
                "provenance": checkpoint.provenance,
                "has_clusters": checkpoint.clusters.is_some(),
                "step": checkpoint.training.as_ref().map(|training| training.step),
            });
            (checkpoint.model.graph, Some((origin, description)))
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
    if let Some((origin, description)) = &origin {
        text += &told_origin(origin);
        text += &told_description(description);
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
        "checkpoint": origin.map(|(origin, _)| origin),
    });
    scene.console.answer(&text, &document)
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

/// How images are normalised, and the classes.
fn told_description(description: &Description) -> String {
    let images = match &description.normalization {
        Some(normalization) => normalised(normalization),
        None => "normalised by the statistics of the data set that it is used on".to_owned(),
    };
    match description.classes.as_slice() {
        [] => format!("images: {images}\n"),
        names => format!("images: {images}\nclasses: {}\n", super::named_classes(names)),
    }
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

/// A group of coupled channels: who sets the pace, who follows, what ties them, who reads them, or why it may not shrink.
fn describe(graph: &Graph, group: &Group) -> Value {
    let name = |&node: &usize| graph.nodes[node].name.clone();
    let mut nodes: Vec<usize> = group.members.iter().map(|member| member.node).collect();
    nodes.dedup();
    let is_depthwise = |node: usize| match &graph.nodes[node].op {
        Op::Conv2d(conv) => conv.groups > 1 && conv.groups == conv.in_channels,
        _ => false,
    };
    let those = |of: &dyn Fn(usize) -> bool| -> Vec<String> {
        nodes.iter().filter(|&&node| of(node)).map(name).collect()
    };
    let consumers = graph.consumers();
    let mut readers: Vec<usize> = nodes
        .iter()
        .flat_map(|&node| &consumers[node])
        .copied()
        .filter(|&reader| {
            matches!(graph.nodes[reader].op, Op::Conv2d(_) | Op::Linear(_)) && !is_depthwise(reader)
        })
        .collect();
    readers.sort_unstable();
    readers.dedup();
    let op = |node: usize| &graph.nodes[node].op;
    json!({
        "width": group.width(),
        "kind": group.kind(),
        "pacesetter": group.pacesetter.as_ref().map(name),
        "followers": group.producers.iter().filter(|&&node| Some(node) != group.pacesetter).map(name).collect::<Vec<_>>(),
        "added_in": those(&|node| matches!(op(node), Op::Add(_))),
        "multiplied_in": those(&|node| matches!(op(node), Op::Mul(_))),
        "depthwise_in": those(&is_depthwise),
        "concatenated_in": those(&|node| matches!(op(node), Op::Concat(_))),
        "flattened_in": those(&|node| matches!(op(node), Op::Flatten(_))),
        "rearranged_in": those(&|node| matches!(op(node), Op::ChannelPad(_))),
        "grouped_in": those(&|node| matches!(op(node), Op::Conv2d(conv) if conv.groups > 1) && !is_depthwise(node)),
        "read_by": readers.iter().map(name).collect::<Vec<_>>(),
        "members": nodes.iter().map(name).collect::<Vec<_>>(),
        "frozen": group.frozen,
    })
}

/// Names that are spelt out on a line; `--json` has them all.
const NAMED: usize = 6;

/// The first few of `names`, and how many more there are.
fn listed(names: &[&str]) -> String {
    match names.len().checked_sub(NAMED) {
        None | Some(0) => names.join(", "),
        Some(more) => format!("{} and {more} more", names[..NAMED].join(", ")),
    }
}

fn group_table(groups: &[Value]) -> String {
    /// What ties channels together, and how that is said.
    const TIES: [(&str, &str); 6] = [
        ("added_in", "added"),
        ("multiplied_in", "multiplied, as by a gate"),
        ("depthwise_in", "filtered each by itself (depthwise)"),
        ("grouped_in", "in groups that must shrink alike"),
        ("rearranged_in", "padded or rearranged"),
        ("flattened_in", "flattened, a number for each pixel"),
    ];
    let mut text = "coupled channels: those of a group are the same ones in all its layers, and go together. The first layer's \
        filters decide which become one; the others' follow. --json names every layer\n"
        .to_owned();
    for group in groups {
        let strings = |name: &str| -> Vec<&str> {
            group[name].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
        };
        let width = group["width"].as_u64().unwrap_or(0);
        let head = match (&group["pacesetter"], group["frozen"].as_str()) {
            (Value::String(pacesetter), Some(why)) => format!("{pacesetter}: stay, {why}"),
            (_, Some(why)) => format!("{}: stay, {why}", listed(&strings("members"))),
            (Value::String(pacesetter), None) => format!("{pacesetter} decides"),
            _ => format!("{}: stay, no filters make them", listed(&strings("members"))),
        };
        text += &format!("\n{width:>6} channels  {head}\n");
        let mut line = |what: &str, names: &[&str]| {
            if !names.is_empty() {
                text += &format!("{:17}{what} {}\n", "", listed(names));
            }
        };
        line("followed by", &strings("followers"));
        for (key, what) in TIES {
            line(&format!("{what}, in"), &strings(key));
        }
        line("beside others (concatenated) in", &strings("concatenated_in"));
        line("read by", &strings("read_by"));
    }
    text
}
