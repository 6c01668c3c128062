//! Writes the seed corpora: a small whole file of every sort. `cargo run --example seeds` in tests/fuzz.

use std::collections::BTreeMap;
use std::fs;
use std::io::Cursor;
use std::path::Path;

use centripetal::Shape;
use centripetal::data::{Augment, Normalization};
use centripetal::device::{Device, Tuning};
use centripetal::formats::{Description, Checkpoint, Provenance, Stage, Training, onnx, state_dict};
use centripetal::graph::{Coupling, GraphBuilder};
use centripetal::model::Model;
use centripetal::models::{self, ModelConfig};
use centripetal::ops::{
    Add, BatchNorm2d, Concat, Conv2d, Flatten, GlobalAvgPool, HardSwish, Linear, MaxPool2d, Mul, Relu,
    Sigmoid,
};
use centripetal::optim::{Decay, Schedule, SgdConfig};
use centripetal::prune::width::{Ratio, Rounding, WidthRule};
use centripetal::prune::{ClusterPlan, Clustering, Clusters, Pace};
use centripetal::train::{Centripetal, TrainConfig};
use image::{DynamicImage, ImageFormat};

fn main() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let write = |target: &str, name: &str, bytes: &[u8]| {
        let folder = corpus.join(target);
        fs::create_dir_all(&folder).expect("makes a folder");
        fs::write(folder.join(name), bytes).expect("writes");
    };

    // Branches, a gate, batch norm: what couples channels.
    let mut b = GraphBuilder::new("small", Shape::new(1, 6, 6));
    let stem = b.add("conv1", Conv2d::same(1, 4, 3), &[0]);
    let stem = b.add("bn1", BatchNorm2d::new(4), &[stem]);
    let stem = b.add("relu1", Relu {}, &[stem]);
    let branch = b.add("conv2", Conv2d { groups: 2, ..Conv2d::same(4, 4, 3) }, &[stem]);
    let branch = b.add("swish", HardSwish {}, &[branch]);
    let gate = b.add("squeeze", GlobalAvgPool {}, &[branch]);
    let gate = b.add("fc1", Linear::new(4, 4), &[gate]);
    let gate = b.add("sigmoid", Sigmoid {}, &[gate]);
    let gated = b.add("gated", Mul {}, &[branch, gate]);
    let sum = b.add("sum", Add {}, &[stem, gated]);
    let joined = b.add("joined", Concat {}, &[sum, stem]);
    let pooled = b.add("pool", MaxPool2d { stride: [2, 2], ..MaxPool2d::new(2) }, &[joined]);
    let flat = b.add("flatten", Flatten {}, &[pooled]);
    b.add("fc2", Linear::new(8 * 9, 3), &[flat]);
    let model = Model::random(b.finish(), 1);
    let coupling = Coupling::derive(&model.graph, &[]).expect("couples");
    let plan = ClusterPlan {
        widths: WidthRule::All(Ratio::new(1, 2).expect("a ratio")),
        rounding: Rounding::Floor,
        round_to: 1,
        clustering: Clustering::Even,
        pace: Pace::Pacesetter,
        frozen: Vec::new(),
        seed: 1,
    };
    let clusters = Clusters::find(&model, &coupling, &plan).expect("clusters");
    let provenance = Provenance {
        stage: Stage::Wide,
        seed: 1,
        classes: ["a", "b", "c"].map(str::to_owned).to_vec(),
        normalization: Some(Normalization { mean: vec![0.5], std: vec![0.25] }),
        data: "seeds".to_owned(),
    };
    let config = TrainConfig {
        batch: 2,
        schedule: Schedule {
            base_lr: 0.1,
            total_steps: 9,
            warmup_steps: 1,
            decay: Decay::Cosine { final_lr: 0.0 },
        },
        sgd: SgdConfig::default(),
        centripetal: Some(Centripetal { clusters: clusters.clone(), strength: 0.1 }),
        sparsity: None,
    };
    let trained = |(_, name, spec): (usize, String, centripetal::ops::ParamSpec)| {
        spec.kind.is_trained().then(|| (name.clone(), model.tensors[&name].clone()))
    };
    let momentum: BTreeMap<_, _> = model.graph.parameters().into_iter().filter_map(trained).collect();
    let training = Training {
        config,
        augment: Augment::NONE,
        images: 8,
        fingerprint: 7,
        rollbacks: 0,
        restarted: false,
        step: 3,
        momentum,
    };
    let whole = Checkpoint { model, provenance, clusters: Some(clusters), training: Some(training) };
    let slim = Checkpoint { clusters: None, training: None, ..whole.clone() };
    write("checkpoint", "wide", &whole.to_bytes().expect("writes"));
    write("checkpoint", "slim", &slim.to_bytes().expect("writes"));
    let description = Description::of(&whole.provenance, whole.model.graph.input);
    write("onnx", "ours", &onnx::export(&whole.model, &description).expect("exports"));

    let config = ModelConfig { width: 0.1, ..ModelConfig::new(Shape::new(1, 12, 12), 4) };
    let lenet = Model::random(models::build("lenet", &config).expect("builds"), 1);
    write("state_dict", "lenet", &state_dict::write(&lenet.tensors, None).expect("writes"));

    let images: Vec<u8> = [&[0, 0, 8, 3, 0, 0, 0, 9, 0, 0, 0, 5, 0, 0, 0, 5][..], &[7; 225]].concat();
    let labels: Vec<u8> = [&[0, 0, 8, 1, 0, 0, 0, 9][..], &[3; 9]].concat();
    // A stored block: header, one final block of that length, its complement, checksum and length.
    let gzip = |bytes: &[u8]| {
        let length = (bytes.len() as u16).to_le_bytes();
        let mut crc = !0u32;
        for byte in bytes {
            crc ^= u32::from(*byte);
            (0..8).for_each(|_| crc = crc >> 1 ^ if crc & 1 == 1 { 0xEDB8_8320 } else { 0 });
        }
        let head = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255, 1];
        let size = (bytes.len() as u32).to_le_bytes();
        [&head[..], &length, &length.map(|x| !x), bytes, &(!crc).to_le_bytes(), &size].concat()
    };
    write("idx", "images", &images);
    write("idx", "labels", &labels);
    write("idx", "images-gzip", &gzip(&images));
    let ten = [&[4][..], &[9; 3072]].concat();
    let hundred = [&[4, 44][..], &[9; 3072]].concat();
    write("cifar", "ten", &ten.repeat(2));
    write("cifar", "hundred", &hundred);
    let two = |first: &[u8], second: &[u8]| [&(first.len() as u16).to_le_bytes(), first, second].concat();
    write("picked", "idx", &two(&images, &labels));
    write("picked", "idx-gzip", &two(&gzip(&images), &labels));
    write("picked", "cifar", &two(&ten.repeat(2), &hundred));

    let mut colour = DynamicImage::new_rgb8(7, 6);
    colour
        .as_mut_rgb8()
        .expect("it")
        .pixels_mut()
        .zip(0u8..)
        .for_each(|(pixel, i)| pixel.0 = [i * 5, 99, 255 - i]);
    let pictures = [
        ("colour.png", colour.clone(), ImageFormat::Png),
        ("grey.png", colour.to_luma8().into(), ImageFormat::Png),
        ("deep.png", colour.to_rgba16().into(), ImageFormat::Png),
        ("colour.jpg", colour.clone(), ImageFormat::Jpeg),
        ("grey.jpg", colour.to_luma8().into(), ImageFormat::Jpeg),
    ];
    for (name, picture, format) in pictures {
        let mut bytes = Cursor::new(Vec::new());
        picture.write_to(&mut bytes, format).expect("encodes");
        write("picture", name, &bytes.into_inner());
    }

    write("widths", "lines", b"conv1            5/8\nlayer1.*.conv1   10    # of 16\n");
    write("widths", "json", br#"{"conv1": "5/8", "layer1.*.conv1": 10, "layer2.*": 0.5}"#);
    let mut tuning = Tuning::new(Device::cpu("seeds").info());
    tuning.choices.insert("conv2d_forward c=16".to_owned(), "conv2d_forward_3x3".to_owned());
    write("tuning", "table", tuning.to_json().as_bytes());
}
