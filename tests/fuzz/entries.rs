//! What reads bytes that others wrote, as functions of bytes: the fuzz targets call one each, and the ordinary tests all of
//! them. Where a file is accepted, what is done with such files next is done too.

#[path = "../../native/src/data/picture.rs"]
mod picture;

use std::ops::Range;

use centripetal::data::picture as outline;
use centripetal::data::{Source, cifar, files, idx};
use centripetal::device::Tuning;
use centripetal::formats::onnx::{self, Options};
use centripetal::formats::{Checkpoint, Description, state_dict};
use centripetal::graph::{Coupling, Graph};
use centripetal::models::{self, ModelConfig};
use centripetal::plan::{Mode, Plan};
use centripetal::prune::width::WidthRule;
use centripetal::rng::Rng;
use centripetal::{Error, ErrorKind, Result, Shape};
use picture::Part;

/// Memory that a file of some kilobytes may take, hostile or not.
const CEILING: usize = 64 << 20;

/// What coupling may take for a graph of a million channels, which a kilobyte can describe.
const GRAPH_CEILING: usize = 256 << 20;

/// The pixels of a picture at its ceiling, once more in another format, and what its decoder holds.
const PICTURE_CEILING: usize = 3 * outline::CEILING as usize;

/// A reader of bytes.
pub(crate) struct Entry {
    /// Of the target, and of its folders `corpus/NAME` and `regressions/NAME`.
    pub(crate) name: &'static str,
    /// Reads, and uses what it read.
    pub(crate) read: fn(&[u8]) -> Result<()>,
    /// Bytes that it may allocate.
    pub(crate) ceiling: usize,
}

/// All of them.
pub(crate) const ENTRIES: &[Entry] = &[
    Entry { name: "checkpoint", read: checkpoint, ceiling: GRAPH_CEILING },
    Entry { name: "state_dict", read: weights, ceiling: CEILING },
    Entry { name: "onnx", read: onnx, ceiling: GRAPH_CEILING },
    Entry { name: "idx", read: idx, ceiling: CEILING },
    Entry { name: "cifar", read: cifar, ceiling: CEILING },
    Entry { name: "picked", read: picked, ceiling: CEILING },
    Entry { name: "picture", read: picture, ceiling: PICTURE_CEILING },
    Entry { name: "widths", read: widths, ceiling: CEILING },
    Entry { name: "tuning", read: |bytes| Tuning::from_json(&text(bytes)).map(drop), ceiling: CEILING },
];

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What `info` looks at.
fn look(graph: &Graph) -> Result<()> {
    graph.macs()?;
    Coupling::derive(graph, &[])?;
    Plan::memory_of(graph, 1, Mode::Train).map(drop)
}

fn checkpoint(bytes: &[u8]) -> Result<()> {
    let checkpoint = Checkpoint::from_bytes("file", bytes)?;
    look(&checkpoint.model.graph)?;
    let again = checkpoint.to_bytes()?;
    assert!(
        Checkpoint::from_bytes("again", &again).is_ok_and(|again| again == checkpoint),
        "what is read is written"
    );
    Ok(())
}

fn weights(bytes: &[u8]) -> Result<()> {
    let contents = state_dict::read("file", bytes)?;
    let config = ModelConfig { width: 0.1, ..ModelConfig::new(Shape::new(1, 12, 12), 4) };
    let graph = models::build("lenet", &config)?;
    state_dict::import("file", contents.tensors, graph).map(drop)
}

fn onnx(bytes: &[u8]) -> Result<()> {
    let options = Options { name: "test".to_owned(), ..Options::default() };
    let mut beside = |location: &str, part: Range<u64>| match location {
        "weights.bin" => Ok(vec![0; part.end.min(4096).saturating_sub(part.start) as usize]),
        _ => Err(Error::new(ErrorKind::Io, format!("reading {location}")).found("no such file")),
    };
    let model = onnx::import("file", bytes, &options, &mut beside)?.model;
    look(&model.graph)?;
    onnx::export(&model, &Description::default()).map(drop)
}

fn idx(bytes: &[u8]) -> Result<()> {
    let source = Source { name: "file", bytes };
    idx::images(source).map(drop).or(idx::labels(source).map(drop))
}

fn cifar(bytes: &[u8]) -> Result<()> {
    let source = Source { name: "file", bytes };
    cifar::cifar10(&[source]).map(drop).or(cifar::cifar100(source).map(drop))
}

/// Two files picked in a browser, the first as long as the first two bytes say.
fn picked(bytes: &[u8]) -> Result<()> {
    const NAMES: [&str; 4] = ["train-images", "t10k-labels.gz", "test_batch.bin", "train.bin"];
    let [low, high, rest @ ..] = bytes else { return Ok(()) };
    let (first, second) = rest.split_at(usize::from(u16::from_le_bytes([*low, *high])).min(rest.len()));
    for names in [[0, 1], [2, 3]].map(|pair| pair.map(|at: usize| NAMES[at])) {
        let both = [Source { name: names[0], bytes: first }, Source { name: names[1], bytes: second }];
        for files in [&both[..], &both[..1]] {
            if let Ok(splits) = files::open(files) {
                let mut image = vec![0; splits.train.shape().iter().product()];
                splits.train.image(0, &mut image)?;
            }
        }
    }
    Ok(())
}

fn picture(bytes: &[u8]) -> Result<()> {
    let failed = |why: &str| Error::new(ErrorKind::Data, "reading a picture").found(why);
    let outline = outline::inspect(bytes).map_err(failed)?;
    let (width, height) = outline.size();
    assert!(width > 0 && height > 0, "a picture has pixels");
    let shape = [if outline.grey { 1 } else { 3 }, 5, 4];
    let image = picture::pixels(bytes).map_err(|why| failed(&why))?;
    assert_eq!((image.width(), image.height()), (width, height), "a picture has the size that was told");
    let mut out = vec![0; shape.iter().product()];
    let mut rng = Rng::new(bytes.len() as u64);
    for part in [Part::whole(&image), Part::middle(&image, shape), Part::random(&image, shape, 8, &mut rng)] {
        picture::write_planes(image.clone(), part, shape, &mut out);
    }
    Ok(())
}

fn widths(bytes: &[u8]) -> Result<()> {
    let rule = WidthRule::parse_file("file", &text(bytes))?;
    rule.unmatched(&["conv1", "layer1.0.conv1"]);
    Ok(())
}
