//! The filter sheet: the filters of every clustered convolution, cluster by cluster, before C-SGD and after.
//!
//! A filter is a column of its first channel planes. The filters of a cluster stand side by side in one frame; above as
//! they were, below as C-SGD left them. Both halves share one colour scale, so a collapse shows as identical columns.

mod font;

use centripetal::error::{Error, ErrorKind, Result};
use centripetal::model::Model;
use centripetal::ops::{Conv2d, Op};
use centripetal::prune::Clusters;
use image::{ImageFormat, Rgb, RgbImage};
use std::io::Cursor;

/// Most layers drawn.
const MAX_LAYERS: usize = 24;

/// Width that blocks are laid out in, in pixels.
const WIDTH: u32 = 1440;

/// Height that the sheet may grow to, in pixels.
const MAX_HEIGHT: u32 = 2400;

/// Height that cells are made larger to fill, in pixels.
const WANTED_HEIGHT: u32 = 900;

/// Sides of a cell, one weight, in pixels; the largest that fits [`WANTED_HEIGHT`] is taken.
const CELLS: std::ops::RangeInclusive<u32> = 4..=12;

/// Height of a filter in cells that its planes are stacked to.
const STACK: usize = 12;

/// Blank around the sheet.
const MARGIN: u32 = 24;

/// From one block to the next.
const BLOCK_GAP: u32 = 24;

/// From one cluster's frame to the next.
const CLUSTER_GAP: u32 = 4;

/// Frame and the space inside of it.
const FRAME: u32 = 2;

/// From one filter of a cluster to the next.
const FILTER_GAP: u32 = 3;

/// From one channel plane of a filter to the next.
const PLANE_GAP: u32 = 1;

/// From the filters before to those after.
const BEFORE_AFTER_GAP: u32 = 6;

/// Height of a block's name and what follows it.
const TITLE: u32 = 38;

/// Height of the sheet's heading.
const HEADING: u32 = 64;

const PAPER: Rgb<u8> = Rgb([255, 255, 255]);
const INK: Rgb<u8> = Rgb([34, 40, 49]);
const PALE_INK: Rgb<u8> = Rgb([112, 120, 132]);

/// Frame of a filter that shares its cluster with no other.
const ALONE: Rgb<u8> = Rgb([208, 212, 218]);

/// Frames of clusters, in turn; neighbours differ also for the colour-blind.
const FRAMES: [Rgb<u8>; 6] = [
    Rgb([230, 159, 0]),
    Rgb([0, 114, 178]),
    Rgb([0, 158, 115]),
    Rgb([204, 121, 167]),
    Rgb([86, 180, 233]),
    Rgb([213, 94, 0]),
];

/// Blue over white to red, at -1, -1/2, 0, 1/2, 1.
const COLOURS: [[f32; 3]; 5] = [
    [5.0, 48.0, 122.0],
    [103.0, 169.0, 207.0],
    [248.0, 248.0, 248.0],
    [239.0, 138.0, 98.0],
    [140.0, 0.0, 26.0],
];

/// The filters of each clustered convolution of `before`, and what they are in `after`, as a PNG.
///
/// # Errors
/// [`ErrorKind::Checkpoint`] when the two are not the same network.
pub(crate) fn sheet(before: &Model, after: &Model, clusters: &Clusters) -> Result<Vec<u8>> {
    let layers = layers(before, after, clusters)?;
    let layout = Layout::best(&layers);

    let mut page = Page { image: RgbImage::from_pixel(layout.width, layout.height, PAPER) };
    page.heading(&before.graph.name, layout.width);
    for block in &layout.blocks {
        page.block(block, layout.cell);
    }
    if layers.is_empty() {
        page.text(MARGIN, HEADING, "no convolution is clustered", 2, PALE_INK);
    } else if layout.blocks.len() < layers.len() {
        let text = format!(
            "{} of {} clustered convolutions, evenly over the depth",
            layout.blocks.len(),
            layers.len()
        );
        page.text(MARGIN, layout.height - MARGIN - font::height(1), &text, 1, PALE_INK);
    }
    let mut bytes = Cursor::new(Vec::new());
    page.image
        .write_to(&mut bytes, ImageFormat::Png)
        .map_err(|error| Error::new(ErrorKind::Io, "encoding the filter sheet as PNG").found(error))?;
    Ok(bytes.into_inner())
}

/// A clustered convolution.
struct Layer<'a> {
    name: &'a str,
    conv: &'a Conv2d,
    before: &'a [f32],
    after: &'a [f32],
    /// Largest first, so that what merges is seen also where not all fits.
    clusters: Vec<&'a [usize]>,
}

fn layers<'a>(before: &'a Model, after: &'a Model, clusters: &'a Clusters) -> Result<Vec<Layer<'a>>> {
    let mut layers = Vec::new();
    for (id, node) in before.graph.nodes.iter().enumerate() {
        let (Op::Conv2d(conv), Some(partition)) = (&node.op, clusters.of_node(id)) else { continue };
        let name = format!("{}.weight", node.name);
        let tensor = |model: &'a Model| {
            let tensor =
                model.tensors.get(&name).filter(|tensor| tensor.dims.first() == Some(&conv.out_channels));
            tensor.map(|tensor| tensor.data.as_slice())
        };
        let (Some(old), Some(new)) = (tensor(before), tensor(after)) else {
            return Err(missing(&name, "in both networks"));
        };
        if old.len() != new.len() || partition.channels() != conv.out_channels {
            return Err(missing(&name, "of one shape, as the clusters have it"));
        }
        let mut clusters: Vec<&[usize]> = partition.clusters().iter().map(Vec::as_slice).collect();
        clusters.sort_by_key(|cluster| std::cmp::Reverse(cluster.len()));
        layers.push(Layer { name: &node.name, conv, before: old, after: new, clusters });
    }
    Ok(layers)
}

fn missing(name: &str, expected: &str) -> Error {
    Error::new(ErrorKind::Checkpoint, "drawing the filter sheet")
        .expected(format!("{name} {expected}"))
        .next("The sheet compares a network with itself, before the cut")
}

impl Layer<'_> {
    /// Planes of a filter side by side and below each other, as many as make about a [`STACK`] high, three cells wide.
    fn planes(&self) -> [usize; 2] {
        let channels = self.channels();
        let [r, s] = self.conv.kernel;
        let across = (3 / s).clamp(1, channels);
        [across, (STACK / r).clamp(1, channels.div_ceil(across))]
    }

    fn channels(&self) -> usize {
        (self.before.len() / (self.conv.out_channels * self.conv.kernel[0] * self.conv.kernel[1]).max(1))
            .max(1)
    }

    /// Width and height of a filter in pixels.
    fn filter_size(&self, cell: u32) -> [u32; 2] {
        let [across, down] = self.planes();
        let [r, s] = self.conv.kernel;
        let side = |planes: usize, cells: usize| {
            let gaps = if cells > 1 { planes as u32 - 1 } else { 0 };
            (planes * cells) as u32 * cell + gaps * PLANE_GAP
        };
        [side(across, s), side(down, r)]
    }

    /// Largest weight that the colours tell apart: three standard deviations.
    fn scale(&self) -> f32 {
        let all = self.before.iter().chain(self.after);
        let squares: f64 = all.map(|&x| f64::from(x) * f64::from(x)).sum();
        let rms = (squares / (2 * self.before.len()).max(1) as f64).sqrt();
        (3.0 * rms) as f32
    }
}

/// A layer on the sheet.
struct Block<'a> {
    layer: &'a Layer<'a>,
    x: u32,
    y: u32,
    /// Clusters that fit.
    clusters: usize,
}

struct Layout<'a> {
    cell: u32,
    width: u32,
    height: u32,
    blocks: Vec<Block<'a>>,
}

impl<'a> Layout<'a> {
    /// As many layers as fit, the cells as large as a sheet of modest height allows.
    fn best(layers: &'a [Layer<'a>]) -> Layout<'a> {
        let most = layers.len().min(MAX_LAYERS);
        let large = CELLS.rev().map(|cell| Layout::new(layers, most, cell));
        let small = (0..=most).rev().map(|count| Layout::new(layers, count, *CELLS.start()));
        let fitting = large.filter(|layout| layout.height <= WANTED_HEIGHT);
        let mut fitting = fitting.chain(small.filter(|layout| layout.height <= MAX_HEIGHT));
        fitting.next().unwrap_or_else(|| Layout::new(layers, 0, *CELLS.start()))
    }

    /// `count` layers, evenly over the depth, in rows from left to right.
    fn new(layers: &'a [Layer<'a>], count: usize, cell: u32) -> Layout<'a> {
        let mut layout = Layout { cell, width: 0, height: 0, blocks: Vec::new() };
        let (mut x, mut y, mut bottom) = (MARGIN, HEADING + MARGIN, HEADING + MARGIN);
        for layer in (0..count).map(|i| &layers[i * layers.len() / count]) {
            let (clusters, filters_width) = fitting(layer, cell);
            let width =
                filters_width.max(font::width(layer.name, 2)).max(font::width(&caption(layer, clusters), 1));
            let height = TITLE + 2 * (layer.filter_size(cell)[1] + 4 * FRAME) + BEFORE_AFTER_GAP;
            if x > MARGIN && x + width > WIDTH - MARGIN {
                (x, y) = (MARGIN, bottom + BLOCK_GAP);
            }
            layout.blocks.push(Block { layer, x, y, clusters });
            bottom = bottom.max(y + height);
            layout.width = layout.width.max(x + width + MARGIN);
            x += width + BLOCK_GAP;
        }
        layout.width = layout.width.clamp(WIDTH / 2, WIDTH);
        layout.height = bottom + 2 * MARGIN;
        layout
    }
}

/// How many clusters of a layer fit across the sheet, and how wide they are.
fn fitting(layer: &Layer<'_>, cell: u32) -> (usize, u32) {
    let mut width = 0;
    for (i, cluster) in layer.clusters.iter().enumerate() {
        let gap = if i > 0 { CLUSTER_GAP } else { 0 };
        let wider = width + gap + cluster_width(layer, cluster.len(), cell);
        if i > 0 && wider > WIDTH - 2 * MARGIN {
            return (i, width);
        }
        width = wider;
    }
    (layer.clusters.len(), width.min(WIDTH - 2 * MARGIN))
}

fn cluster_width(layer: &Layer<'_>, filters: usize, cell: u32) -> u32 {
    let filters = filters as u32;
    filters * layer.filter_size(cell)[0] + filters.saturating_sub(1) * FILTER_GAP + 4 * FRAME
}

fn caption(layer: &Layer<'_>, clusters: usize) -> String {
    let [across, down] = layer.planes();
    let (channels, planes) = (layer.channels(), (across * down).min(layer.channels()));
    let mut text = format!("{} filters to {}", layer.conv.out_channels, layer.clusters.len());
    if planes < channels {
        text += &format!(", {planes} of {channels} channels");
    }
    if clusters < layer.clusters.len() {
        text += &format!(", {clusters} clusters shown");
    }
    text
}

fn colour(value: f32, scale: f32) -> Rgb<u8> {
    if !value.is_finite() {
        return INK;
    }
    let last = COLOURS.len() - 1;
    let at = ((value / scale.max(f32::MIN_POSITIVE)).clamp(-1.0, 1.0) + 1.0) / 2.0 * last as f32;
    let below = (at as usize).min(last - 1);
    let part = at - below as f32;
    Rgb(std::array::from_fn(|i| {
        (COLOURS[below][i] * (1.0 - part) + COLOURS[below + 1][i] * part).round() as u8
    }))
}

struct Page {
    image: RgbImage,
}

impl Page {
    /// A rectangle, as much of it as is on the page.
    fn fill(&mut self, x: u32, y: u32, width: u32, height: u32, colour: Rgb<u8>) {
        for y in y..(y + height).min(self.image.height()) {
            for x in x..(x + width).min(self.image.width()) {
                self.image.put_pixel(x, y, colour);
            }
        }
    }

    fn text(&mut self, x: u32, y: u32, text: &str, size: u32, colour: Rgb<u8>) {
        for (column, row) in font::dots(text) {
            self.fill(x + column * size, y + row * size, size, size, colour);
        }
    }

    fn heading(&mut self, network: &str, width: u32) {
        self.text(MARGIN, MARGIN, &format!("filters of {network}"), 3, INK);
        let text = "above: before c-sgd.  below: after it.  a frame is a cluster, a column is a filter.";
        self.text(MARGIN, MARGIN + 32, text, 1, PALE_INK);
        const STEPS: u32 = 96;
        let x = width - MARGIN - STEPS;
        for step in 0..STEPS {
            let value = 2.0 * step as f32 / (STEPS - 1) as f32 - 1.0;
            self.fill(x + step, MARGIN + 2, 1, 12, colour(value, 1.0));
        }
        for (text, at) in [("-", 0), ("0", STEPS / 2 - 2), ("+", STEPS - 5)] {
            self.text(x + at, MARGIN + 20, text, 1, PALE_INK);
        }
    }

    fn block(&mut self, block: &Block<'_>, cell: u32) {
        let layer = block.layer;
        self.text(block.x, block.y, layer.name, 2, INK);
        self.text(block.x, block.y + 20, &caption(layer, block.clusters), 1, PALE_INK);
        let scale = layer.scale();
        let [filter_width, filter_height] = layer.filter_size(cell);
        let (mut x, top) = (block.x, block.y + TITLE);
        for (i, cluster) in layer.clusters[..block.clusters].iter().enumerate() {
            let frame = if cluster.len() > 1 { FRAMES[i % FRAMES.len()] } else { ALONE };
            let width = cluster_width(layer, cluster.len(), cell);
            let height = filter_height + 4 * FRAME;
            for (half, weights) in (0..).zip([layer.before, layer.after]) {
                let y = top + half * (height + BEFORE_AFTER_GAP);
                self.fill(x, y, width, height, frame);
                self.fill(x + FRAME, y + FRAME, width - 2 * FRAME, height - 2 * FRAME, PAPER);
                for (j, &filter) in (0..).zip(*cluster) {
                    let x = x + 2 * FRAME + j * (filter_width + FILTER_GAP);
                    self.filter(x, y + 2 * FRAME, layer, weights, filter, cell, scale);
                }
            }
            x += width + CLUSTER_GAP;
        }
    }

    fn filter(
        &mut self,
        x: u32,
        y: u32,
        layer: &Layer<'_>,
        weights: &[f32],
        filter: usize,
        cell: u32,
        scale: f32,
    ) {
        let [r, s] = layer.conv.kernel;
        let [across, down] = layer.planes();
        let channels = layer.channels();
        let weights = &weights[filter * channels * r * s..][..channels * r * s];
        let step = |cells: usize| cells as u32 * cell + if cells > 1 { PLANE_GAP } else { 0 };
        for (c, plane) in weights.chunks_exact(r * s).take(across * down).enumerate() {
            let (x, y) = (x + (c % across) as u32 * step(s), y + (c / across) as u32 * step(r));
            for (i, &weight) in plane.iter().enumerate() {
                let (column, row) = ((i % s) as u32, (i / s) as u32);
                self.fill(x + column * cell, y + row * cell, cell, cell, colour(weight, scale));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use centripetal::graph::Coupling;
    use centripetal::models::{ModelConfig, build};
    use centripetal::prune::cluster::even;
    use centripetal::prune::surgery::snap;
    use centripetal::shape::Shape;

    fn network(name: &str, keep: usize) -> (Model, Model, Clusters) {
        let graph = build(name, &ModelConfig::new(Shape::new(3, 32, 32), 10)).expect("a graph");
        let coupling = Coupling::derive(&graph, &[]).expect("its coupling");
        let groups: Vec<_> = coupling
            .prunable()
            .map(|(index, group)| (index, even(group.width(), group.width() * keep / 8).expect("clusters")))
            .collect();
        let clusters = Clusters::from_groups(&graph, &coupling, &groups);
        let before = Model::random(graph, 1);
        let after = snap(&before, &clusters);
        (before, after, clusters)
    }

    fn drawn(png: &[u8]) -> RgbImage {
        image::load_from_memory(png).expect("a PNG").to_rgb8()
    }

    #[test]
    fn a_collapsed_cluster_is_identical_columns() {
        let (before, after, clusters) = network("resnet20", 5);
        let layers = layers(&before, &after, &clusters).expect("layers");
        let layer = &layers[0];
        let image = drawn(&sheet(&before, &after, &clusters).expect("a sheet"));
        let layout = Layout::best(&layers);
        let (block, cell) = (&layout.blocks[0], layout.cell);
        let [width, height] = layer.filter_size(cell);
        let x = block.x + 2 * FRAME;
        let above = block.y + TITLE + 2 * FRAME;
        let below = above + height + 4 * FRAME + BEFORE_AFTER_GAP;
        let column = |x: u32, y: u32| -> Vec<Rgb<u8>> {
            (y..y + height)
                .flat_map(|y| (x..x + width).map(move |x| (x, y)))
                .map(|(x, y)| *image.get_pixel(x, y))
                .collect()
        };
        let next = x + width + FILTER_GAP;
        assert_eq!(column(x, below), column(next, below));
        assert_ne!(column(x, above), column(next, above));
    }

    #[test]
    fn a_deep_network_stays_in_bounds() {
        let (before, after, clusters) = network("resnet56", 5);
        let image = drawn(&sheet(&before, &after, &clusters).expect("a sheet"));
        assert!(image.width() <= WIDTH && image.height() <= MAX_HEIGHT, "{:?}", image.dimensions());
    }

    #[test]
    fn nothing_clustered_is_a_sheet_that_says_so() {
        let (before, after, _) = network("resnet20", 5);
        let image = drawn(&sheet(&before, &after, &Clusters::default()).expect("a sheet"));
        assert!(image.pixels().any(|pixel| *pixel == PALE_INK));
    }

    #[test]
    fn another_network_is_an_error() {
        let (before, _, clusters) = network("resnet20", 5);
        let mut other = before.clone();
        other.tensors.clear();
        assert!(sheet(&before, &other, &clusters).is_err());
    }

    #[test]
    fn colours_are_blue_white_red() {
        assert_eq!(colour(0.0, 1.0), Rgb([248, 248, 248]));
        assert_eq!(colour(-2.0, 1.0), Rgb([5, 48, 122]));
        assert_eq!(colour(1.0, 1.0), Rgb([140, 0, 26]));
        assert_eq!(colour(0.0, 0.0), Rgb([248, 248, 248]));
        assert_eq!(colour(f32::NAN, 1.0), INK);
    }
}
