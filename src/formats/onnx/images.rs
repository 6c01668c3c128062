//! What images a network takes: the type of its input, what its first nodes do to the pixels, and what both say of their range.
//!
//! Exporters put a part of the preprocessing into the file: a cast from bytes, the difference to a mean, the quotient by a
//! deviation. Each makes `scale x + offset` of a channel's pixel `x`. Where these come first and alone they are left out of
//! the graph, and images are normalised by the same numbers; otherwise they stay, and images are fed in the range that they
//! fit.

use super::schema::ValueInfo;
use crate::data::Normalization;
use crate::graph::Graph;
use crate::model::Model;
use crate::ops::Op;
use std::collections::BTreeSet;

/// What images are normalised with, and how that is known.
#[derive(Debug, Clone, PartialEq)]
pub struct Images {
    /// What images are normalised with; `None` where the file does not tell.
    pub normalization: Option<Normalization>,
    /// Where that is from.
    pub source: Source,
    /// The reason, as a sentence without its full stop.
    pub reason: String,
}

/// Where a normalisation is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Whoever imports it says so.
    Given,
    /// The file describes it in its metadata.
    Described,
    /// The type of the input, or the first nodes, leave no other.
    Network,
    /// The file does not tell.
    Unknown,
}

impl Source {
    /// One word for it.
    pub fn word(self) -> &'static str {
        match self {
            Source::Given => "given",
            Source::Described => "described",
            Source::Network => "network",
            Source::Unknown => "unknown",
        }
    }
}

/// Numbers of an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Numbers {
    Floats,
    /// Whole numbers of this type, which are pixels of 0 to 255.
    Whole(&'static str),
}

/// The type of the input `image`.
pub(super) fn numbers(image: &ValueInfo<'_>) -> Result<Numbers, String> {
    match image.data_type {
        0 | 1 | 10 | 11 | 16 => Ok(Numbers::Floats),
        2 => Ok(Numbers::Whole("uint8")),
        6 => Ok(Numbers::Whole("int32")),
        7 => Ok(Numbers::Whole("int64")),
        3 => Err("int8".to_owned()),
        4 => Err("uint16".to_owned()),
        8 => Err("text".to_owned()),
        9 => Err("truth values".to_owned()),
        other => Err(format!("ONNX's type {other}")),
    }
}

/// Most channels and nodes at the front of a network that are looked at: pictures have few.
const MOST_CHANNELS: usize = 64;
const MOST_NODES: usize = 256;

/// Operators that move whole numbers about and compute nothing of them.
pub(super) const MOVING: [&str; 12] = [
    "Concat",
    "Dropout",
    "Flatten",
    "Gather",
    "Identity",
    "Pad",
    "Reshape",
    "Shape",
    "Slice",
    "Split",
    "Squeeze",
    "Transpose",
];

/// The range of a pixel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Range {
    /// 0 to 255.
    Bytes,
    /// 0 to 1.
    Unit,
}

impl Range {
    /// As `Image.NominalPixelRange` of ONNX's metadata says it.
    pub(super) fn from_metadata(text: &str) -> Option<Self> {
        match text {
            "NominalRange_0_255" => Some(Range::Bytes),
            "Normalized_0_1" => Some(Range::Unit),
            _ => None,
        }
    }

    /// Its largest pixel.
    fn most(self) -> f64 {
        match self {
            Range::Bytes => 255.0,
            Range::Unit => 1.0,
        }
    }

    fn told(self) -> &'static str {
        match self {
            Range::Bytes => "0 to 255",
            Range::Unit => "0 to 1",
        }
    }
}

/// `scale x + offset` of a channel's pixel.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Line {
    scale: f64,
    offset: f64,
}

impl Line {
    const SAME: Line = Line { scale: 1.0, offset: 0.0 };

    fn then(self, next: Line) -> Line {
        Line { scale: self.scale * next.scale, offset: self.offset * next.scale + next.offset }
    }

    /// The range in which its mean and deviation are those of pictures. Between the two are numbers that fit neither: those of
    /// a network whose images are normalised before they come to it.
    fn range(self) -> Option<Range> {
        let (mean, deviation) = (-self.offset / self.scale, 1.0 / self.scale.abs());
        if deviation >= 16.0 || (8.0..=255.0).contains(&mean) {
            return Some(Range::Bytes);
        }
        // A deviation of pixels of 0 to 1 is at most a half; 1 is that of a mean which is only taken off.
        let close = 1e-6;
        let fits = deviation <= 0.5 + close || (deviation - 1.0).abs() <= close && mean >= 0.1;
        (fits && (-close..=1.0 + close).contains(&mean)).then_some(Range::Unit)
    }
}

/// What is computed of the image before anything else.
struct Preparation {
    /// Of every channel that the network goes on with.
    lines: Vec<Line>,
    /// The nodes that compute it and what they make of each channel, where nothing else comes between or beside them.
    chain: Option<(Vec<usize>, Vec<Line>)>,
}

/// Reads the first nodes of `model`; those called `affine` multiply and add by channel.
fn preparation(model: &Model, affine: &BTreeSet<String>) -> Preparation {
    let Graph { nodes, input, .. } = &model.graph;
    let consumers = model.graph.consumers();
    let data = |node: &str, parameter: &str| model.tensors.get(&format!("{node}.{parameter}"));
    // Of a normalisation by running statistics only these tell of the images: the rest is trained.
    let by_statistics = |node: usize, eps: f32| -> Option<Vec<Line>> {
        let name = &nodes[node].name;
        let (means, variances) = (data(name, "running_mean")?, data(name, "running_var")?);
        let line = |(&mean, &variance): (&f32, &f32)| {
            let scale = 1.0 / f64::from(variance + eps).sqrt();
            Line { scale, offset: -f64::from(mean) * scale }
        };
        Some(means.data.iter().zip(&variances.data).map(line).collect())
    };
    let mut known: Vec<Option<Vec<Line>>> = vec![None; nodes.len()];
    known[0] = (input.c <= MOST_CHANNELS).then(|| vec![Line::SAME; input.c]);
    for (id, node) in nodes.iter().enumerate().take(MOST_NODES).skip(1) {
        let parts: Option<Vec<&Vec<Line>>> = node.inputs.iter().map(|&from| known[from].as_ref()).collect();
        let Some(parts) = parts else { continue };
        let Some(first) = parts.first() else { continue };
        let lines = match &node.op {
            Op::Conv2d(_) if affine.contains(&node.name) => {
                let (Some(weight), Some(bias)) = (data(&node.name, "weight"), data(&node.name, "bias"))
                else {
                    continue;
                };
                let own = weight
                    .data
                    .iter()
                    .zip(&bias.data)
                    .map(|(&scale, &offset)| Line { scale: f64::from(scale), offset: f64::from(offset) });
                first.iter().zip(own).map(|(line, own)| line.then(own)).collect()
            }
            Op::ChannelPad(pad) => {
                let none = Line { scale: 0.0, offset: 0.0 };
                pad.source.iter().map(|source| source.map_or(none, |channel| first[channel])).collect()
            }
            Op::Pad2d(_) | Op::Clamp(_) => (*first).clone(),
            Op::Concat(_) => parts.into_iter().flatten().copied().collect(),
            _ => continue,
        };
        known[id] = Some(lines).filter(|lines: &Vec<Line>| lines.len() <= MOST_CHANNELS);
    }
    let mut lines = Vec::new();
    let mut ends = Vec::new();
    for (id, known_here) in known.iter().enumerate() {
        let Some(own) = known_here else { continue };
        let beyond = consumers[id].iter().filter(|&&reader| known[reader].is_none());
        let (mut normalised, mut read) = (false, id == model.graph.output());
        for &reader in beyond {
            match &nodes[reader].op {
                Op::BatchNorm2d(norm) => {
                    let statistics = by_statistics(reader, norm.eps).unwrap_or_default();
                    lines.extend(own.iter().zip(statistics).map(|(line, next)| line.then(next)));
                    normalised = true;
                }
                _ => read = true,
            }
        }
        if read {
            lines.extend(own);
        }
        if read || normalised {
            ends.push(id);
        }
    }
    lines.retain(|line| line.scale != 0.0);
    let mut chain = Vec::new();
    let mut last = 0;
    while let [next] = consumers[last][..]
        && affine.contains(&nodes[next].name)
    {
        chain.push(next);
        last = next;
    }
    let alone = ends == [last] && last > 0 && last != model.graph.output();
    let chain = known[last].take().filter(|_| alone).map(|lines| (chain, lines));
    Preparation { lines, chain }
}

/// What images are normalised with if whoever imports the file says so, and what the network does to them besides.
pub(super) fn given(
    model: &Model,
    affine: &BTreeSet<String>,
    numbers: Numbers,
    normalization: Normalization,
) -> Images {
    let mut reason = "as --mean and --std say".to_owned();
    if let Numbers::Whole(kind) = numbers {
        reason += &format!(", although its input is {kind}, which takes pixels of 0 to 255");
    }
    if preparation(model, affine).lines.iter().any(|&line| line != Line::SAME) {
        reason += "; its first nodes, which normalise images too, stay in the network";
    }
    Images { normalization: Some(normalization), source: Source::Given, reason }
}

/// Takes what normalises the images at the front of `model` out of it, where that can be done, and says what images are to be
/// normalised with. `stated` is the range that the file's metadata names.
pub(super) fn normalization(
    model: &mut Model,
    affine: &BTreeSet<String>,
    numbers: Numbers,
    stated: Option<Range>,
) -> Images {
    let Preparation { lines, chain } = preparation(model, affine);
    // What reads a channel as it is says nothing of its range.
    let telling: Vec<Line> = lines.into_iter().filter(|&line| line != Line::SAME).collect();
    let prepares = !telling.is_empty();
    let mut ranges = telling.iter().map(|line| line.range());
    let first = ranges.next().flatten();
    let fitting = first.filter(|_| ranges.all(|range| range == first));
    let (range, because) = match (numbers, stated, fitting) {
        (Numbers::Whole(kind), ..) => {
            (Range::Bytes, format!("its input is {kind}, which takes pixels of 0 to 255"))
        }
        (_, Some(range), _) => (range, format!("its metadata says that pixels are {}", range.told())),
        (_, None, Some(range)) => (
            range,
            format!("its first nodes normalise images by numbers that fit pixels of {}", range.told()),
        ),
        (_, None, None) if prepares => {
            let Line { scale, offset } = telling[0];
            let reason = format!(
                "its first nodes make {scale} x + {offset} of an image, which fits pixels neither of 0 to 255 nor of 0 to 1; what \
                 they take is assumed to be normalised already"
            );
            return Images { normalization: None, source: Source::Unknown, reason };
        }
        _ => {
            let reason = "the file does not say how images are normalised".to_owned();
            return Images { normalization: None, source: Source::Unknown, reason };
        }
    };
    let channels = model.graph.input.c;
    let plain = Normalization { mean: vec![0.0; channels], std: vec![(1.0 / range.most()) as f32; channels] };
    let (normalization, reason) = match chain.and_then(|(chain, lines)| folded(model, &chain, &lines, range))
    {
        Some(normalization) => {
            (normalization, format!("{because}, and its first nodes normalise them; both are done here"))
        }
        None if prepares => {
            (plain, format!("{because}; its first nodes, which normalise them, stay in the network"))
        }
        None => (plain, because),
    };
    Images { normalization: Some(normalization), source: Source::Network, reason }
}

/// The nodes `chain` behind the input as a normalisation instead, if it is one.
fn folded(model: &mut Model, chain: &[usize], lines: &[Line], range: Range) -> Option<Normalization> {
    let of = |line: &Line| {
        let scale = line.scale * range.most();
        ((-line.offset / scale) as f32, (1.0 / scale) as f32)
    };
    let (mean, std): (Vec<f32>, Vec<f32>) = lines.iter().map(of).unzip();
    let fits = mean.len() == model.graph.input.c
        && mean.iter().all(|x| x.is_finite())
        && std.iter().all(|x| x.is_normal() && *x > 0.0);
    if !fits {
        return None;
    }
    let graph = &mut model.graph;
    let nodes = std::mem::take(&mut graph.nodes);
    let mut places = vec![0; nodes.len()];
    for (id, mut node) in nodes.into_iter().enumerate() {
        if chain.contains(&id) {
            model.tensors.remove(&format!("{}.weight", node.name));
            model.tensors.remove(&format!("{}.bias", node.name));
            continue;
        }
        places[id] = graph.nodes.len();
        node.inputs.iter_mut().for_each(|input| *input = places[*input]);
        graph.nodes.push(node);
    }
    Some(Normalization { mean, std })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_tell_the_range_of_pixels_where_they_can() {
        for (mean, deviation, range) in [
            // What is usual: ImageNet's statistics in both ranges, means alone, plain ranges, -1 to 1.
            (123.675, 58.4, Some(Range::Bytes)),
            (103.9, 1.0, Some(Range::Bytes)),
            (0.0, 255.0, Some(Range::Bytes)),
            (127.5, 127.5, Some(Range::Bytes)),
            (128.0, 1.0, Some(Range::Bytes)),
            (0.485, 0.229, Some(Range::Unit)),
            (0.45, 1.0, Some(Range::Unit)),
            (0.5, 0.5, Some(Range::Unit)),
            (0.0, 1.0 / 255.0, Some(Range::Unit)),
            // Images that are normalised already: Inception's other statistics, from -1 to 1, a batch norm.
            (0.0655, 2.183, None),
            (-1.0, 2.0, None),
            (0.02, 0.98, None),
            (0.0, 1.0, None),
            (-0.1, 0.3, None),
        ] {
            let line = Line { scale: 1.0 / deviation, offset: -mean / deviation };
            assert_eq!(line.range(), range, "mean {mean}, deviation {deviation}");
        }
        let negative = Line { scale: -1.0, offset: 255.0 };
        assert_eq!(negative.range(), Some(Range::Bytes));
        assert_eq!(Range::from_metadata("Normalized_0_1"), Some(Range::Unit));
        assert_eq!(Range::from_metadata("NominalRange_16_235"), None);
    }
}
