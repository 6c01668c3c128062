//! Lessons 1, 6, 7 and 8: the base network's pictures and filters, its surgery, and the couplings of the zoo.

use crate::school::{Base, Reply, School, get, wrong};
use centripetal::data::synthetic::Split;
use centripetal::data::{Loader, Synthetic};
use centripetal::device::{Device, DeviceKind};
use centripetal::graph::{Coupling, Graph, Group, NodeId};
use centripetal::model::Model;
use centripetal::models::{self, ModelConfig, Shortcut};
use centripetal::prune::cluster::{Clustering, within_deviation};
use centripetal::prune::criteria::Selection;
use centripetal::prune::width::{Rounding, WidthRule};
use centripetal::prune::{ClusterPlan, Clusters, Pace, certificate, surgery};
use centripetal::train::{Answers, evaluate};
use centripetal::{Result, Shape};
use serde_json::{Value, json};
use std::sync::Arc;

/// Pictures that two networks answer to be compared.
const PICTURES: usize = 32;

pub(crate) fn device(device: &Device) -> Value {
    let info = device.info();
    let kind = match info.kind {
        DeviceKind::Cpu => "cpu",
        DeviceKind::Gpu => "gpu",
        DeviceKind::SoftwareGpu => "software-gpu",
    };
    json!({ "kind": kind, "name": info.name, "reason": info.reason })
}

/// Test image `index`, from 0 (black) to 1 (white), with its class.
pub(crate) fn image(base: &Base, index: usize) -> Result<Reply> {
    let [c, h, w] = base.test.shape();
    let mut bytes = vec![0; c * h * w];
    let index = index % base.test.len();
    base.test.image(index, &mut bytes)?;
    let pixels = bytes.iter().map(|&byte| f32::from(byte) / 255.0).collect();
    let name = base.test.classes().get(base.test.label(index) as usize).cloned().unwrap_or_default();
    Ok(Reply { value: json!({ "shape": [c, h, w], "class": name, "index": index }), arrays: vec![pixels] })
}

/// A plan that keeps `widths` and clusters by `clustering`.
pub(crate) fn plan(widths: WidthRule, clustering: Clustering, seed: u64) -> ClusterPlan {
    ClusterPlan {
        widths,
        rounding: Rounding::Floor,
        round_to: 1,
        clustering,
        pace: Pace::Pacesetter,
        frozen: Vec::new(),
        seed,
    }
}

/// The plan that lets group `index` alone shrink to `keep`.
pub(crate) fn one_group(index: usize, keep: usize) -> ClusterPlan {
    plan(WidthRule::Groups([(index, keep)].into()), Clustering::default(), 0)
}

/// The layers that may shrink, and their filters.
pub(crate) fn layers(base: &Base) -> Result<Reply> {
    let (mut list, mut arrays) = (Vec::new(), Vec::new());
    for (index, group) in base.coupling.prunable() {
        let Some(node) = group.pacesetter else { continue };
        let name = base.model.graph.nodes[node].name.clone();
        if let Some(weight) = base.model.tensors.get(&format!("{name}.weight")) {
            list.push(json!({ "group": index, "name": name, "width": group.width(), "dims": weight.dims }));
            arrays.push(weight.data.clone());
        }
    }
    Ok(Reply { value: json!(list), arrays })
}

/// Clusters of one layer's filters, with their deviation.
pub(crate) fn cluster(base: &Base, a: &Value) -> Result<Reply> {
    let name: String = get(a, "layer")?;
    let weight = base.model.tensors.get(&format!("{name}.weight")).ok_or_else(|| wrong("layer", &name))?;
    let row_len = weight.data.len() / weight.dims[0].max(1);
    let method: Clustering = get::<String>(a, "method")?.parse()?;
    let seed = get(a, "seed")?;
    let of = |keep: usize| -> Result<_> {
        let partition = method.partition(&weight.data, row_len, keep, seed)?;
        let deviation = within_deviation(&weight.data, row_len, &partition);
        Ok((partition, deviation))
    };
    let (partition, deviation) = of(get(a, "keep")?)?;
    // Only when it is asked for: k-means for every width takes its time.
    let last = if get(a, "curve")? { weight.dims[0] } else { 0 };
    let curve: Vec<f64> = (1..=last).map(|keep| Ok(of(keep)?.1.chi)).collect::<Result<_>>()?;
    Ok(json!({
        "labels": partition.cluster_of(),
        "clusters": partition.clusters(),
        "survivors": partition.survivors(),
        "chi": deviation.chi,
        "maxAbs": deviation.max_abs,
        "curve": curve,
    })
    .into())
}

/// The network after C-SGD, one member of `conv1`'s first cluster moved in one tensor, and cut.
pub(crate) async fn surgery(school: &School, a: &Value) -> Result<Reply> {
    let base = school.base()?;
    let (tensor, delta): (String, f32) = (get(a, "tensor")?, get(a, "delta")?);
    let (clusters, mut wide) = (&base.clusters, base.wide.clone());
    let node = base.model.graph.find("conv1").ok_or_else(|| wrong("layer", "conv1"))?;
    let partition = clusters.of_node(node).ok_or_else(|| wrong("layer", "conv1 without clusters"))?;
    let cluster = partition.clusters().iter().find(|cluster| cluster.len() > 1);
    let cluster = cluster.ok_or_else(|| wrong("layer", "conv1 without a cluster of two"))?.clone();
    let moved = wide.tensors.get_mut(&tensor).ok_or_else(|| wrong("tensor", &tensor))?;
    let row_len = moved.data.len() / moved.dims[0].max(1);
    let row = cluster[1] * row_len;
    moved.data[row..row + row_len].iter_mut().for_each(|x| *x += delta);
    let slim = surgery::cut(&wide, clusters)?;

    let loader = base.test_loader()?;
    let before = evaluate(&school.device, &wide, &loader, Answers::Keep).await?;
    let after = evaluate(&school.device, &slim, &loader, Answers::Keep).await?;
    let compared = certificate::compare(&before, &after);
    // The next layer's weights for the middle tap of its first filters, before and after they are summed.
    let (columns, summed) = (&wide.tensors["conv2.weight"], &slim.tensors["conv2.weight"]);
    let taps: usize = columns.dims[2..].iter().product();
    let place = partition.survivors().iter().position(|&survivor| survivor == cluster[0]).unwrap_or(0);
    let conv2 = base.model.graph.find("conv2").and_then(|node| clusters.of_node(node));
    let kept = conv2.map_or_else(Vec::new, |partition| partition.survivors());
    let sums = kept.iter().take(3).enumerate().map(|(i, &filter)| {
        let at = |channel: usize| columns.data[(filter * columns.dims[1] + channel) * taps + taps / 2];
        json!({
            "filter": filter,
            "before": cluster.iter().map(|&channel| at(channel)).collect::<Vec<_>>(),
            "after": summed.data[(i * summed.dims[1] + place) * taps + taps / 2],
        })
    });
    // What the layer hands on for a first pixel of 1, by the numbers that must agree.
    let facts =
        ["conv1.weight", "bn1.weight", "bn1.bias", "bn1.running_mean", "bn1.running_var"].map(|name| {
            let tensor = &wide.tensors[name];
            let len = tensor.data.len() / tensor.dims[0].max(1);
            let shown = cluster.iter().map(|&row| tensor.data[row * len + len / 2]);
            json!({ "tensor": name, "values": shown.collect::<Vec<_>>() })
        });
    Ok(json!({
        "cluster": cluster,
        "survivor": cluster[0],
        "moved": cluster[1],
        "facts": facts,
        "sums": sums.collect::<Vec<_>>(),
        "agreement": compared.argmax_agreement,
        "samples": compared.samples,
        "maxLogitDiff": compared.max_abs_logit_diff,
        "accuracyBefore": compared.accuracy_before,
        "accuracyAfter": compared.accuracy_after,
        "macsBefore": wide.graph.macs()?,
        "macsAfter": slim.graph.macs()?,
        "paramsBefore": wide.graph.parameter_count(),
        "paramsAfter": slim.graph.parameter_count(),
    })
    .into())
}

/// A network of the zoo: `resnet20`, or `resnet20 a` with option-A shortcuts.
fn zoo(a: &Value) -> Result<Graph> {
    let name: String = get(a, "model")?;
    let (model, option_a) = name.strip_suffix(" a").map_or((name.as_str(), false), |model| (model, true));
    let side = if matches!(model, "lenet") { Shape::new(1, 28, 28) } else { Shape::new(3, 32, 32) };
    let shortcut = if option_a { Shortcut::A } else { Shortcut::Projection };
    models::build(model, &ModelConfig { shortcut, ..ModelConfig::new(side, 10) })
}

/// Layers of a zoo network, and which channels are tied.
pub(crate) fn couplings(a: &Value) -> Result<Reply> {
    let graph = zoo(a)?;
    let shapes = graph.shapes()?;
    let coupling = Coupling::derive(&graph, &[])?;
    let name = |&node: &usize| graph.nodes[node].name.clone();
    let nodes = graph.nodes.iter().enumerate().map(|(id, node)| {
        let groups: Vec<usize> = (0..coupling.groups.len())
            .filter(|&group| coupling.groups[group].members.iter().any(|member| member.node == id))
            .collect();
        let operator = node.op.type_name();
        json!({ "name": node.name, "op": operator, "inputs": node.inputs, "channels": shapes[id].c, "groups": groups })
    });
    let groups = coupling.groups.iter().map(|group| {
        let mut members: Vec<String> = group.members.iter().map(|member| name(&member.node)).collect();
        members.dedup();
        json!({
            "width": group.width(),
            "pacesetter": group.pacesetter.as_ref().map(name),
            "followers": group.producers.iter().filter(|&&node| Some(node) != group.pacesetter).map(name).collect::<Vec<_>>(),
            "members": members,
            "frozen": group.frozen,
        })
    });
    Ok(json!({
        "nodes": nodes.collect::<Vec<_>>(),
        "groups": groups.collect::<Vec<_>>(),
        "macs": graph.macs()?,
        "params": graph.parameter_count(),
    })
    .into())
}

/// Merges the first two channels of one node and of nothing else: what the library says to that.
pub(crate) fn cut_alone(a: &Value) -> Result<Reply> {
    let model = Model::random(zoo(a)?, 0);
    let name: String = get(a, "node")?;
    let node = model.graph.find(&name).ok_or_else(|| wrong("layer", &name))?;
    let channels = model.graph.shapes()?[node].c;
    if channels < 2 {
        let why = format!("{name} has one channel, which no other can be merged with");
        return Ok(json!({ "done": false, "why": why }).into());
    }
    let partition: Vec<Vec<usize>> =
        std::iter::once(vec![0, 1]).chain((2..channels).map(|channel| vec![channel])).collect();
    let clusters: Clusters = serde_json::from_value(json!({ "nodes": { node.to_string(): partition } }))
        .map_err(|error| wrong("clusters", &error.to_string()))?;
    Ok(match surgery::cut(&model, &clusters) {
        Ok(slim) => {
            json!({ "done": true, "macs": slim.graph.macs()?, "params": slim.graph.parameter_count() })
        }
        Err(error) => json!({ "done": false, "why": error.to_string() }),
    }
    .into())
}

/// `producer` and what its channels go through unchanged before they meet those of another layer.
fn own_layers(graph: &Graph, group: &Group, producer: NodeId) -> Vec<NodeId> {
    let mut own = vec![producer];
    for (id, node) in graph.nodes.iter().enumerate().skip(producer + 1) {
        let tied = group.members.iter().any(|member| member.node == id);
        if tied && node.inputs.len() == 1 && own.contains(&node.inputs[0]) {
            own.push(id);
        }
    }
    own
}

/// Moves the last layer's bias so that the `logits` of each class are 0 in the mean: a network with random weights would give
/// one answer to all pictures.
fn centre(model: &mut Model, logits: &[f32]) {
    let Some(last) = model.graph.nodes.last() else { return };
    let Some(bias) = model.tensors.get_mut(&format!("{}.bias", last.name)) else { return };
    let classes = bias.data.len();
    let pictures = (logits.len() / classes.max(1)) as f32;
    for (class, bias) in bias.data.iter_mut().enumerate() {
        *bias -= logits.iter().skip(class).step_by(classes).sum::<f32>() / pictures;
    }
}

/// Gives one layer clusters of its own, as many as all that is tied to it has: makes the filters of every cluster identical,
/// cuts, and compares the answers with those before the cut; beside it the same with one clustering for all.
pub(crate) async fn cut_apart(school: &School, a: &Value) -> Result<Reply> {
    let model = Model::random(zoo(a)?, 0);
    let graph = &model.graph;
    let name: String = get(a, "node")?;
    let node = graph.find(&name).ok_or_else(|| wrong("layer", &name))?;
    let coupling = Coupling::derive(graph, &[])?;
    let refuse = |why: String| Ok(json!({ "done": false, "why": why }).into());
    let Some((index, group)) =
        coupling.groups.iter().enumerate().find(|(_, group)| group.producers.contains(&node))
    else {
        return refuse(format!("{name} makes no channels of its own; choose a convolution"));
    };
    if let Some(why) = &group.frozen {
        return refuse(format!("these channels stay: {why}"));
    }
    if group.producers.len() < 2 {
        return refuse(format!("no other layer makes channels that are tied to those of {name}"));
    }
    let keep = group.width().div_ceil(2);
    let find = |clustering| {
        let widths = WidthRule::Groups([(index, keep)].into());
        Clusters::find(&model, &coupling, &plan(widths, clustering, 0))
    };
    let (together, other) = (find(Clustering::Even)?, find(Clustering::Imbalanced)?);
    let own = own_layers(graph, group, node);
    let mut nodes = serde_json::Map::new();
    for id in 0..graph.nodes.len() {
        let clusters = if own.contains(&id) { &other } else { &together };
        if let Some(partition) = clusters.of_node(id) {
            nodes.insert(id.to_string(), json!(partition.clusters()));
        }
    }
    let apart: Clusters = serde_json::from_value(json!({ "nodes": nodes }))
        .map_err(|error| wrong("clusters", &error.to_string()))?;

    let input = graph.input;
    let pictures = Synthetic { shape: [input.c, input.h, input.w], ..Synthetic::default() };
    let loader = Loader::evaluation(Arc::new(pictures.generate(Split::Test, PICTURES)?), PICTURES)?;
    let mut results = Vec::new();
    for clusters in [&together, &apart] {
        let mut wide = surgery::snap(&model, clusters);
        let answers = evaluate(&school.device, &wide, &loader, Answers::Keep).await?;
        centre(&mut wide, &answers.logits);
        let slim = surgery::cut(&wide, clusters)?;
        let before = evaluate(&school.device, &wide, &loader, Answers::Keep).await?;
        let after = evaluate(&school.device, &slim, &loader, Answers::Keep).await?;
        let compared = certificate::compare(&before, &after);
        results.push(json!({
            "agreement": compared.argmax_agreement,
            "samples": compared.samples,
            "maxLogitDiff": compared.max_abs_logit_diff,
            "relative": compared.max_rel_logit_diff,
            "width": slim.graph.shapes()?[node].c,
            "clusters": clusters.of_node(node).map(|partition| partition.clusters().to_vec()),
        }));
    }
    Ok(json!({
        "done": true,
        "own": own.iter().map(|&id| graph.nodes[id].name.clone()).collect::<Vec<_>>(),
        "tied": group.producers.len() - 1,
        "together": results[0],
        "apart": results[1],
    })
    .into())
}

/// Deletes one channel of a group everywhere it occurs.
pub(crate) fn cut_together(a: &Value) -> Result<Reply> {
    let model = Model::random(zoo(a)?, 0);
    let coupling = Coupling::derive(&model.graph, &[])?;
    let index: usize = get(a, "group")?;
    let group = coupling.groups.get(index).ok_or_else(|| wrong("group", &index.to_string()))?;
    if let Some(why) = &group.frozen {
        return Ok(json!({ "done": false, "why": format!("These channels stay: {why}.") }).into());
    }
    let selection = Selection::without(&model, &coupling, &[(index, vec![0])])?;
    let slim = surgery::delete(&model, &selection)?;
    let (before, after) = (model.graph.shapes()?, slim.graph.shapes()?);
    let narrower = (0..before.len()).filter(|&id| after[id].c < before[id].c).map(
        |id| json!({ "name": model.graph.nodes[id].name, "before": before[id].c, "after": after[id].c }),
    );
    Ok(json!({
        "done": true,
        "narrower": narrower.collect::<Vec<_>>(),
        "macsBefore": model.graph.macs()?,
        "macsAfter": slim.graph.macs()?,
        "paramsBefore": model.graph.parameter_count(),
        "paramsAfter": slim.graph.parameter_count(),
    })
    .into())
}
