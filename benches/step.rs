//! Speed of whole networks and of each kernel in them, against what the machine can do and against a peer.
//!
//! `cargo bench --bench step [-- OPTIONS] [WORK ...]`, where WORK is any of `lenet`, `resnet20`, `resnet56` (a
//! training step), `inference` (ResNet-20), `csgd` (its step against that of SGD, ResNet-56), `slim` (inference of
//! ResNet-56 wide against one of 5/8 of its filters) and `memory` (by how much a ResNet-56 step of 64 images makes
//! the process grow; Linux); all of them if none is named.
//!
//! - `--against WORK=COMMAND` runs COMMAND between our own runs of WORK. It is any program whose last line is JSON
//!   with `med_ms`, the median time of a step, and for `memory` with `growth_mb`. `benches/peers/pytorch.py` is one.
//! - `--rounds N`: interleaved rounds, 5 if not said. Every figure is a median over rounds.
//! - `--threads N`: threads of the CPU device, all cores if not said.
//! - `--device CHOICE`: `cpu` (if not said), `gpu` or `gpu:N`.
//! - `--json FILE`: writes what was printed as JSON.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use centripetal::data::Batch;
use centripetal::device::{CommandList, Device, DeviceChoice, params_of, simd};
use centripetal::graph::Coupling;
use centripetal::model::Model;
use centripetal::models::{self, ModelConfig};
use centripetal::ops::conv2d::Conv2dParams;
use centripetal::optim::{Decay, Schedule, SgdConfig};
use centripetal::plan::{Arenas, Keep, Mode, Plan};
use centripetal::prune::width::{Ratio, Rounding, WidthRule};
use centripetal::prune::{ClusterPlan, Clustering, Clusters, Pace, surgery};
use centripetal::rng::Rng;
use centripetal::train::{Centripetal, TrainConfig, Trainer};
use centripetal::{Shape, plan};
use pollster::block_on;
use serde_json::{Value, json};

/// Milliseconds that one round of a workload takes at least.
const ROUND_MS: f64 = 1500.0;

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn milliseconds(mut run: impl FnMut()) -> f64 {
    let start = Instant::now();
    run();
    start.elapsed().as_secs_f64() * 1e3
}

/// Median milliseconds of the runs that fit in a round.
fn round(mut run: impl FnMut()) -> f64 {
    let start = Instant::now();
    let mut times = Vec::new();
    while times.len() < 3 || start.elapsed().as_secs_f64() * 1e3 < ROUND_MS {
        times.push(milliseconds(&mut run));
    }
    median(times)
}

fn images(shape: Shape, samples: usize) -> Batch {
    let mut rng = Rng::stream(1, &[2]);
    Batch {
        images: (0..samples * shape.len()).map(|_| rng.normal()).collect(),
        labels: (0..samples as u32).map(|i| i % 10).collect(),
        samples,
    }
}

fn model(name: &str, input: Shape) -> Model {
    let graph = models::build(name, &ModelConfig::new(input, 10)).expect("a zoo model");
    Model::random(graph, 1)
}

fn clusters(model: &Model) -> Clusters {
    let coupling = Coupling::derive(&model.graph, &[]).expect("couples");
    let plan = ClusterPlan {
        widths: WidthRule::All(Ratio::new(5, 8).expect("a ratio")),
        rounding: Rounding::Floor,
        round_to: 1,
        clustering: Clustering::Even,
        pace: Pace::Pacesetter,
        frozen: Vec::new(),
        seed: 1,
    };
    Clusters::find(model, &coupling, &plan).expect("clusters")
}

/// Something to measure: one run of it, its multiply-adds, its dispatches.
struct Subject {
    name: String,
    macs: f64,
    run: Box<dyn FnMut()>,
    lists: Box<dyn Fn() -> Vec<CommandList>>,
}

const CIFAR: Shape = Shape { c: 3, h: 32, w: 32 };

fn training(device: &Arc<Device>, name: &str, input: Shape, batch: usize, centripetal: bool) -> Subject {
    let model = model(name, input);
    let macs = 3.0 * model.graph.macs().expect("macs") as f64 * batch as f64;
    let centripetal = centripetal.then(|| Centripetal { clusters: clusters(&model), strength: 3e-3 });
    let config = TrainConfig {
        batch,
        schedule: Schedule { base_lr: 0.01, total_steps: 1 << 40, warmup_steps: 0, decay: Decay::Constant },
        sgd: SgdConfig::default(),
        centripetal,
        sparsity: None,
    };
    let mut trainer = Trainer::new(device.clone(), model.clone(), config).expect("a trainer");
    let data = images(input, batch);
    let (owner, graph) = (device.clone(), model);
    Subject {
        name: name.to_owned(),
        macs,
        run: Box::new(move || {
            trainer.step(&data);
            black_box(block_on(trainer.metrics()).expect("metrics"));
        }),
        lists: Box::new(move || single(&owner, &graph, batch, Mode::Train)),
    }
}

fn inference(device: &Arc<Device>, name: &str, model: Model, batch: usize) -> Subject {
    let macs = model.graph.macs().expect("macs") as f64 * batch as f64;
    let arenas = Arenas::new(device, &model.graph, &model.tensors).expect("arenas");
    let plan =
        Plan::compile(device, &model.graph, &arenas, batch, Mode::Evaluate, Keep::Logits).expect("a plan");
    let data = images(model.graph.input, batch);
    let (owner, runner) = (device.clone(), device.clone());
    Subject {
        name: name.to_owned(),
        macs,
        run: Box::new(move || {
            plan.load(&runner, &data.images, &data.labels);
            runner.run(&[plan.commands()]);
            black_box(block_on(runner.read(plan.logits())).expect("logits"));
        }),
        lists: Box::new(move || single(&owner, &model, batch, Mode::Evaluate)),
    }
}

/// Every dispatch of a plan as a list of its own, to be timed one by one.
fn single(device: &Device, model: &Model, batch: usize, mode: Mode) -> Vec<CommandList> {
    let arenas = Arenas::new(device, &model.graph, &model.tensors).expect("arenas");
    let plan = Plan::compile(device, &model.graph, &arenas, batch, mode, Keep::Logits).expect("a plan");
    let data = images(model.graph.input, batch);
    plan.load(device, &data.images, &data.labels);
    let dispatches = plan.commands().dispatches().iter().cloned();
    dispatches.map(|dispatch| device.record(vec![dispatch]).expect("a dispatch")).collect()
}

/// What the machine can do at most: GFLOP/s of a large matrix product, GB/s of a copy (read and written).
struct Ceilings {
    gflops: f64,
    gbytes: f64,
}

fn ceilings() -> Ceilings {
    const SIDE: usize = 768;
    let (a, b) = (vec![0.5; SIDE * SIDE], vec![0.25; SIDE * SIDE]);
    let mut y = vec![0.0; SIDE * SIDE];
    let product = (0..25).map(|_| milliseconds(|| simd::linear_forward([SIDE; 3], &a, &b, None, &mut y)));
    let gflops = 2.0 * (SIDE as f64).powi(3) / product.fold(f64::MAX, f64::min) / 1e6;
    // As large as the activations of a CIFAR ResNet's first stage at 32 images: 2 MB.
    let from = vec![1.0; 1 << 19];
    let mut to = vec![0.0; 1 << 19];
    let copy = (0..200).map(|_| milliseconds(|| simd::relu(&from, &mut to)));
    let gbytes = 2.0 * 4.0 * from.len() as f64 / copy.fold(f64::MAX, f64::min) / 1e6;
    Ceilings { gflops, gbytes }
}

/// Times every dispatch of `subject` and adds them up by kernel.
fn profile(device: &Device, subject: &Subject, ceilings: &Ceilings) -> Value {
    const PASSES: usize = 15;
    let lists = (subject.lists)();
    let mut times = vec![Vec::new(); lists.len()];
    for pass in 0..=PASSES {
        for (list, times) in lists.iter().zip(&mut times) {
            let time = milliseconds(|| {
                device.run(&[list]);
                block_on(device.finish()).expect("runs");
            });
            if pass > 0 {
                times.push(time);
            }
        }
    }
    let mut kernels: BTreeMap<&str, [f64; 4]> = BTreeMap::new();
    for (list, times) in lists.iter().zip(times) {
        let dispatch = &list.dispatches()[0];
        let words: usize = dispatch.bindings.iter().map(|slice| slice.words()).sum();
        let macs = match dispatch.kernel.name {
            name if name.starts_with("conv2d") && !name.contains("bias") => {
                params_of::<Conv2dParams>(&dispatch.params).shape().macs()
            }
            _ => 0,
        };
        let sums = kernels.entry(dispatch.kernel.name).or_default();
        for (sum, value) in sums.iter_mut().zip([1.0, median(times), macs as f64, words as f64]) {
            *sum += value;
        }
    }
    let total: f64 = kernels.values().map(|sums| sums[1]).sum();
    let mut rows: Vec<_> = kernels.into_iter().collect();
    rows.sort_by(|a, b| b.1[1].total_cmp(&a.1[1]));
    println!("  {:<34} {:>5} {:>9} {:>6} {:>8} {:>8}", "kernel", "calls", "ms", "share", "GFLOP/s", "GB/s");
    let mut all = Vec::new();
    for (name, [calls, ms, macs, words]) in rows {
        let (gflops, gbytes) = (2.0 * macs / ms / 1e6, 4.0 * words / ms / 1e6);
        println!(
            "  {name:<34} {calls:>5} {ms:>9.3} {:>5.1}% {gflops:>8.1} {gbytes:>8.1}",
            ms / total * 100.0
        );
        all.push(json!({ "kernel": name, "calls": calls, "ms": ms, "gflops": gflops, "gbytes": gbytes }));
    }
    println!(
        "  {:<34} {:>5} {total:>9.3}        of at most {:.0} GFLOP/s, {:.0} GB/s\n",
        "all, one by one", "", ceilings.gflops, ceilings.gbytes
    );
    Value::Array(all)
}

/// Megabytes of this process: resident now, and at most so far. Zero where the system does not say.
fn resident() -> [f64; 2] {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    ["VmRSS:", "VmHWM:"].map(|key| {
        let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
        line.trim().trim_end_matches(" kB").parse::<f64>().unwrap_or(0.0) * 1.024e-3
    })
}

/// By how much a step of ResNet-56 with 64 images makes the process grow. Must come first: memory once taken stays.
fn memory(device: &Arc<Device>, commands: &[&str]) -> Value {
    let [idle, _] = resident();
    let mut subject = training(device, "resnet56", CIFAR, 64, false);
    (0..3).for_each(|_| (subject.run)());
    let growth = resident()[1] - idle;
    println!("memory: ResNet-56 step of 64 images: {growth:.0} MB over {idle:.0} MB");
    let mut against = Vec::new();
    for command in commands {
        let theirs = ask(command, "growth_mb");
        println!("memory: {theirs:.0} MB, ours is {:.3} of it: {command}", growth / theirs);
        against.push(json!({ "command": command, "growth_mb": theirs }));
    }
    json!({ "work": "memory", "growth_mb": growth, "against": against })
}

/// The number `key` in the last line that `command` prints.
fn ask(command: &str, key: &str) -> f64 {
    let output = std::process::Command::new("sh").arg("-c").arg(command).output().expect("sh runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let answer = text.lines().last().and_then(|line| serde_json::from_str::<Value>(line).ok());
    match answer.as_ref().and_then(|answer| answer[key].as_f64()) {
        Some(ms) => ms,
        None => panic!(
            "{command}: no JSON with {key} in its last line\n{}",
            String::from_utf8_lossy(&output.stderr)
        ),
    }
}

#[derive(Default)]
struct Options {
    works: Vec<String>,
    against: Vec<(String, String)>,
    rounds: usize,
    threads: usize,
    device: String,
    json: Option<String>,
}

fn options() -> Options {
    let mut options = Options { rounds: 5, device: "cpu".into(), ..Options::default() };
    let mut words = std::env::args().skip(1).filter(|word| word != "--bench");
    while let Some(word) = words.next() {
        let mut value = || words.next().unwrap_or_else(|| panic!("{word} needs a value"));
        match word.as_str() {
            "--against" => {
                let value = value();
                let (work, command) = value.split_once('=').expect("--against WORK=COMMAND");
                options.against.push((work.to_owned(), command.to_owned()));
            }
            "--rounds" => options.rounds = value().parse().expect("--rounds N"),
            "--threads" => options.threads = value().parse().expect("--threads N"),
            "--device" => options.device = value(),
            "--json" => options.json = Some(value()),
            _ => options.works.push(word),
        }
    }
    options
}

fn main() {
    let options = options();
    rayon::ThreadPoolBuilder::new().num_threads(options.threads).build_global().expect("threads");
    let choice: DeviceChoice = options.device.parse().expect("--device cpu, gpu or gpu:N");
    let device = Arc::new(block_on(Device::open(choice)).expect("a device"));
    let wanted = |work: &str| options.works.is_empty() || options.works.iter().any(|wanted| wanted == work);
    let against = |work: &str| -> Vec<&str> {
        let of_work = options.against.iter().filter(|(name, _)| name == work);
        of_work.map(|(_, command)| command.as_str()).collect()
    };
    let mut report = Vec::new();
    if wanted("memory") {
        report.push(memory(&device, &against("memory")));
    }
    let ceilings = ceilings();
    println!(
        "{} ({}), {} threads; measured: matrix product {:.0} GFLOP/s, elementwise {:.0} GB/s (CPU, all threads)\n",
        device.info().name,
        device.info().driver,
        rayon::current_num_threads(),
        ceilings.gflops,
        ceilings.gbytes
    );
    let gray = Shape::new(1, 28, 28);
    for work in ["lenet", "resnet20", "resnet56", "inference", "csgd", "slim"] {
        if !wanted(work) {
            continue;
        }
        let wide = || model("resnet56", CIFAR);
        let mut subjects = match work {
            "lenet" => vec![training(&device, "lenet", gray, 64, false)],
            "inference" => vec![inference(&device, "resnet20", model("resnet20", CIFAR), 32)],
            "csgd" => [true, false].map(|c| training(&device, "resnet56", CIFAR, 32, c)).into(),
            "slim" => {
                let (wide, clusters) = (wide(), clusters(&wide()));
                let slim = surgery::cut(&wide, &clusters).expect("cuts");
                vec![inference(&device, "wide", wide, 32), inference(&device, "slim", slim, 32)]
            }
            name => vec![training(&device, name, CIFAR, 32, false)],
        };
        let commands = against(work);
        let mut ours = vec![Vec::new(); subjects.len()];
        let mut theirs = vec![Vec::new(); commands.len()];
        subjects.iter_mut().for_each(|subject| (subject.run)());
        for _ in 0..options.rounds {
            if subjects.len() == 1 {
                ours[0].push(round(&mut subjects[0].run));
            } else {
                // Run by run in turn, so that whatever else the machine does meets both.
                let start = Instant::now();
                while start.elapsed().as_secs_f64() * 1e3 < ROUND_MS * 2.0 {
                    for (subject, times) in subjects.iter_mut().zip(&mut ours) {
                        times.push(milliseconds(&mut subject.run));
                    }
                }
            }
            for (command, times) in commands.iter().zip(&mut theirs) {
                times.push(ask(command, "med_ms"));
            }
        }
        let ours: Vec<f64> = ours.into_iter().map(median).collect();
        let theirs: Vec<f64> = theirs.into_iter().map(median).collect();
        for (subject, ms) in subjects.iter().zip(&ours) {
            let gflops = 2.0 * subject.macs / ms / 1e6;
            println!(
                "{work}: {} {ms:.2} ms, {gflops:.1} GFLOP/s, {:.0} % of a matrix product",
                subject.name,
                gflops / ceilings.gflops * 100.0
            );
        }
        if let [first, second] = ours[..] {
            println!("{work}: ratio {:.3}", first / second);
        }
        for (command, ms) in commands.iter().zip(&theirs) {
            println!("{work}: {ms:.2} ms, ours is {:.3} of it: {command}", ours[0] / ms);
        }
        let kernels = profile(&device, &subjects[0], &ceilings);
        report.push(json!({
            "work": work,
            "ms": ours,
            "gflops": 2.0 * subjects[0].macs / ours[0] / 1e6,
            "against": commands.iter().zip(&theirs).map(|(c, ms)| json!({ "command": c, "ms": ms })).collect::<Vec<_>>(),
            "kernels": kernels,
        }));
    }
    for batch in [32, 64] {
        let graph = wide_graph();
        let memory = plan::Plan::memory_of(&graph, batch, Mode::Train).expect("memory");
        println!(
            "ResNet-56 step of {batch} images: {:.1} MB of activations and gradients",
            memory.activations as f64 / 1e6
        );
    }
    let report = json!({
        "device": device.info(),
        "threads": rayon::current_num_threads(),
        "product_gflops": ceilings.gflops,
        "elementwise_gbytes": ceilings.gbytes,
        "works": report,
    });
    if let Some(file) = options.json {
        std::fs::write(file, serde_json::to_string_pretty(&report).expect("JSON"))
            .expect("the file can be written");
    }
}

fn wide_graph() -> centripetal::graph::Graph {
    model("resnet56", CIFAR).graph
}
