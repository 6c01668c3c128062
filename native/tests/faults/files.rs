//! Files cut short and with bits flipped, given to every reader: no panic, no hang, no memory beyond a ceiling.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use centripetal::data::idx::{self, Family};
use centripetal::data::{Source, cifar};
use centripetal::formats::{Checkpoint, Provenance, Stage, state_dict};
use centripetal::model::Model;
use centripetal::models::{self, ModelConfig};
use centripetal::prune::width::WidthRule;
use centripetal::rng::Rng;
use centripetal::{Result, Shape};
use flate2::Compression;
use flate2::write::GzEncoder;
use std::io::Write;

use super::table::Row;
use crate::MEMORY;

/// No file may take longer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Memory that reading a damaged file may take beyond what is in use: these files have some kilobytes.
const CEILING: usize = 64 << 20;

type Reader = fn(&[u8]) -> Result<()>;

/// A whole file of each kind, with its reader.
fn kinds() -> Vec<(&'static str, Vec<u8>, Reader)> {
    let graph = models::build("lenet", &ModelConfig::new(Shape::new(1, 12, 12), 4)).expect("builds");
    let model = Model::random(graph, 1);
    let weights = state_dict::write(&model.tensors, None).expect("plain tensors");
    let provenance = Provenance {
        stage: Stage::Base,
        seed: 1,
        classes: ["a", "b", "c", "d"].map(str::to_owned).to_vec(),
        normalization: None,
        data: "test".to_owned(),
    };
    let checkpoint = Checkpoint { model, provenance, clusters: None, training: None };
    let checkpoint = checkpoint.to_bytes().expect("writes");
    let images: Vec<u8> = [&[0, 0, 8, 3, 0, 0, 0, 9, 0, 0, 0, 5, 0, 0, 0, 5][..], &[7; 225]].concat();
    let labels: Vec<u8> = [&[0, 0, 8, 1, 0, 0, 0, 9][..], &[3; 9]].concat();
    let mut gz = GzEncoder::new(Vec::new(), Compression::default());
    gz.write_all(&images).expect("compresses");
    let gz = gz.finish().expect("compresses");
    let batch: Vec<u8> = [&[4][..], &[9; 3072]].concat().repeat(3);
    let widths = b"conv1 5/8\nlayer1.*.conv1 10 # of 16\n".to_vec();
    vec![
        ("checkpoint", checkpoint, |bytes| Checkpoint::from_bytes("file", bytes).map(drop)),
        ("PyTorch state_dict", weights, |bytes| state_dict::read("file", bytes).map(drop)),
        ("IDX images", images, |bytes| idx::images(Source { name: "file", bytes }).map(drop)),
        ("IDX images, gzip", gz, |bytes| idx::images(Source { name: "file", bytes }).map(drop)),
        ("IDX labels", labels, |bytes| idx::labels(Source { name: "file", bytes }).map(drop)),
        ("CIFAR-10 batch", batch, |bytes| cifar::cifar10(&[Source { name: "file", bytes }]).map(drop)),
        ("widths", widths, |bytes| WidthRule::parse_file("file", &String::from_utf8_lossy(bytes)).map(drop)),
        ("IDX data set", vec![1; 64], |bytes| {
            let source = Source { name: "file", bytes };
            idx::dataset(Family::Mnist, source, source).map(drop)
        }),
    ]
}

/// Damages each kind of file in `tries` ways, all kinds together.
pub(crate) fn broken(tries: usize) -> Vec<Row> {
    let kinds = kinds();
    let each = tries.div_ceil(kinds.len());
    // A panic is counted here; its message would only clutter.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let mut rng = Rng::new(7);
    let rows = kinds.into_iter().map(|(kind, whole, read)| {
        let mut row = Row::new(format!("{kind}: cut short or with bits flipped"));
        for _ in 0..each {
            let (damaged, how) = damage(&whole, &mut rng);
            row.count(survives(&damaged, read).map_err(|loss| format!("{how}: {loss}")));
        }
        row
    });
    let rows = rows.collect();
    std::panic::set_hook(hook);
    rows
}

fn damage(whole: &[u8], rng: &mut Rng) -> (Vec<u8>, String) {
    let mut bytes = whole.to_vec();
    // Headers are where damage does most.
    let place = |rng: &mut Rng| {
        if rng.below(2) == 0 { rng.below(whole.len().min(64)) } else { rng.below(whole.len()) }
    };
    match rng.below(3) {
        0 => {
            let end = rng.below(whole.len());
            bytes.truncate(end);
            (bytes, format!("cut to {end} bytes"))
        }
        1 => {
            let flips: Vec<(usize, usize)> = (0..=rng.below(8)).map(|_| (place(rng), rng.below(8))).collect();
            for (at, bit) in &flips {
                bytes[*at] ^= 1 << bit;
            }
            (bytes, format!("bits flipped: {flips:?}"))
        }
        _ => {
            let (at, value) = (place(rng), [0, 255, 127, 128][rng.below(4)]);
            let end = (at + 1 + rng.below(8)).min(bytes.len());
            bytes[at..end].fill(value);
            (bytes, format!("{at}..{end} filled with {value}"))
        }
    }
}

/// A message or a file that is still readable; never a panic, a hang or a flood.
fn survives(bytes: &[u8], read: Reader) -> std::result::Result<(), String> {
    MEMORY.reset_peak_usage();
    let before = MEMORY.current_usage();
    let started = Instant::now();
    let outcome = catch_unwind(AssertUnwindSafe(|| read(bytes)));
    let (took, took_memory) = (started.elapsed(), MEMORY.peak_usage().saturating_sub(before));
    match outcome {
        Err(_) => return Err("a panic".to_owned()),
        Ok(Err(error)) if error.to_string().is_empty() => return Err("an empty message".to_owned()),
        Ok(_) => {}
    }
    if took > PATIENCE {
        return Err(format!("took {took:?}"));
    }
    if took_memory > CEILING {
        return Err(format!("took {took_memory} bytes"));
    }
    Ok(())
}
