//! Speed on a GPU adapter, hardware or software: whole training steps and each kernel in them, against the adapter's own
//! ceilings (the best matrix product of several kernels, and a copy) and against a peer.
//!
//! `cargo bench --bench gpu [-- OPTIONS] [WORK ...]`, where WORK is any of `lenet` (batch 64), `resnet20`, `resnet56`
//! (batch 32) and `csgd` (its step against that of SGD, ResNet-56); `lenet` and `resnet20` if none is named.
//!
//! - `--device CHOICE`: `gpu` (if not said) or `gpu:N`.
//! - `--batch N`: images in a batch.
//! - `--rounds N`: interleaved rounds, 5 if not said. Every figure is a median over rounds.
//! - `--autotune on|off`: measure the kernel variants first (on if not said), or take the defaults.
//! - `--against WORK=COMMAND` runs COMMAND between our own runs of WORK: any program whose last line is JSON with
//!   `med_ms`, the median time of a step.
//! - `--json FILE`: writes what was printed as JSON.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use centripetal::Shape;
use centripetal::data::Batch;
use centripetal::device::{
    Args, CommandList, Device, DeviceChoice, Dispatch, Kernel, Params, Shader, params_of, read, write,
};
use centripetal::graph::Coupling;
use centripetal::model::Model;
use centripetal::models::{self, ModelConfig};
use centripetal::ops::add::{ACCUMULATE, AccumulateParams};
use centripetal::ops::conv2d::Conv2dParams;
use centripetal::ops::linear::{LINEAR_FORWARD, LinearParams};
use centripetal::optim::{Decay, Schedule, SgdConfig};
use centripetal::params;
use centripetal::plan::{Arenas, Keep, Mode, Plan};
use centripetal::prune::width::{Ratio, Rounding, WidthRule};
use centripetal::prune::{ClusterPlan, Clustering, Clusters, Pace};
use centripetal::rng::Rng;
use centripetal::train::{Centripetal, TrainConfig, Trainer};
use pollster::block_on;
use serde_json::{Value, json};

/// Side of the matrices whose product is the ceiling.
const SIDE: u32 = 512;

/// Words of the copy.
const COPY: u32 = 1 << 22;

/// Seconds that one measurement in a round takes at least.
const ROUND: f64 = 0.5;

params! {
    /// Uniform of the matrix products.
    struct ProductParams {
        /// Rows of a.
        m: u32,
        /// Columns of b.
        n: u32,
        /// Columns of a.
        k: u32,
    }
}

static PRODUCT: Kernel = Kernel {
    name: "product",
    params: ProductParams::FIELDS,
    bindings: &[read("a"), read("b"), write("y")],
    shaders: &[
        Shader {
            name: "product_registers",
            wgsl: include_str!("shaders/product_registers.wgsl"),
            workgroups: |params| {
                let d = params_of::<ProductParams>(params);
                u64::from(d.m / 8) * u64::from(d.n / 8) / 64
            },
        },
        Shader {
            name: "product_tiled",
            wgsl: include_str!("shaders/product_tiled.wgsl"),
            workgroups: |params| {
                let d = params_of::<ProductParams>(params);
                u64::from(d.m / 64) * u64::from(d.n / 64)
            },
        },
    ],
    twin: product,
    fast: None,
};

fn product(args: Args<'_>) {
    let (d, [a, b], [y]) = args.unpack::<ProductParams, 2, 1>();
    let [n, k] = [d.n, d.k].map(|size| size as usize);
    for (i, y) in y.iter_mut().enumerate() {
        *y = (0..k).map(|e| a[i / n * k + e] * b[e * n + i % n]).sum();
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Seconds of one call, the median of those that fit into a round.
fn time(mut run: impl FnMut()) -> f64 {
    let start = Instant::now();
    let mut times = Vec::new();
    while times.len() < 3 || start.elapsed().as_secs_f64() < ROUND {
        let start = Instant::now();
        run();
        times.push(start.elapsed().as_secs_f64());
    }
    median(times)
}

fn finish(device: &Device, list: &CommandList) {
    device.run(&[list]);
    block_on(device.finish()).expect("the device works");
}

fn random(device: &Device, words: u32) -> centripetal::device::BufferSlice {
    let mut rng = Rng::new(u64::from(words));
    let numbers: Vec<f32> = (0..words).map(|_| 2.0 * rng.uniform() - 1.0).collect();
    let slice = device.buffer("operand", words as usize).expect("memory").all();
    device.write(&slice, &numbers);
    slice
}

/// What the adapter can do: its kernels with floating-point operations or bytes of one run.
struct Ceilings {
    products: Vec<(&'static str, CommandList)>,
    copy: CommandList,
}

impl Ceilings {
    fn new(device: &Device) -> Ceilings {
        let list = |kernel: &'static Kernel, variant: usize, params: Vec<u8>, words: &[u32]| {
            let bindings = words.iter().map(|&words| random(device, words)).collect();
            let dispatch = Dispatch { kernel, variant, params, bindings, label: "ceiling".into() };
            device.record(vec![dispatch]).expect("a kernel")
        };
        let square = SIDE * SIDE;
        let params = ProductParams { m: SIDE, n: SIDE, k: SIDE };
        let mut products = Vec::new();
        for (variant, shader) in PRODUCT.shaders.iter().enumerate() {
            let params = bytemuck::bytes_of(&params).to_vec();
            products.push((shader.name, list(&PRODUCT, variant, params, &[square; 3])));
        }
        let params = LinearParams { n: SIDE, c: SIDE, k: SIDE, has_bias: 0, accumulate: 0, first: 0 };
        for (variant, shader) in LINEAR_FORWARD.shaders.iter().enumerate() {
            let params = bytemuck::bytes_of(&params).to_vec();
            products.push((shader.name, list(&LINEAR_FORWARD, variant, params, &[square; 4])));
        }
        let params = AccumulateParams { len: COPY, accumulate: 0 };
        let copy = list(&ACCUMULATE, 0, bytemuck::bytes_of(&params).to_vec(), &[COPY; 2]);
        Ceilings { products, copy }
    }

    /// GFLOP/s of each product, GB/s of the copy.
    fn measure(&self, device: &Device) -> (Vec<f64>, f64) {
        let flops = 2.0 * f64::from(SIDE).powi(3);
        let product = |(_, list): &(&str, CommandList)| flops / 1e9 / time(|| finish(device, list));
        let products = self.products.iter().map(product).collect();
        (products, 8.0 * f64::from(COPY) / 1e9 / time(|| finish(device, &self.copy)))
    }
}

fn model(name: &str, input: Shape) -> Model {
    Model::random(models::build(name, &ModelConfig::new(input, 10)).expect("a zoo model"), 1)
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

/// A training step that can be run.
struct Step {
    trainer: Trainer,
    batch: Batch,
    flops: f64,
}

impl Step {
    fn new(device: &Arc<Device>, model: &Model, batch: usize, centripetal: Option<Centripetal>) -> Step {
        let input = model.graph.input;
        let config = TrainConfig {
            batch,
            schedule: Schedule {
                base_lr: 0.01,
                total_steps: 1 << 40,
                warmup_steps: 0,
                decay: Decay::Constant,
            },
            sgd: SgdConfig::default(),
            centripetal,
            sparsity: None,
        };
        let mut rng = Rng::stream(1, &[2]);
        Step {
            trainer: Trainer::new(device.clone(), model.clone(), config).expect("a trainer"),
            batch: Batch {
                images: (0..batch * input.len()).map(|_| rng.normal()).collect(),
                labels: (0..batch as u32).map(|i| i % 10).collect(),
                samples: batch,
            },
            flops: 6.0 * batch as f64 * model.graph.macs().expect("macs") as f64,
        }
    }

    /// One step with its loss read back.
    fn run(&mut self) {
        self.trainer.step(&self.batch);
        black_box(block_on(self.trainer.metrics()).expect("metrics"));
    }
}

/// Seconds, operations, bytes and calls of a kernel in one step.
#[derive(Default)]
struct Share {
    seconds: f64,
    flops: f64,
    bytes: f64,
    calls: usize,
}

fn flops(dispatch: &Dispatch) -> f64 {
    match dispatch.kernel.name {
        "conv2d_forward" | "conv2d_input_gradient" | "conv2d_weight_gradient" => {
            let d = params_of::<Conv2dParams>(&dispatch.params);
            2.0 * f64::from(d.n * d.p * d.q) * d.weights() as f64
        }
        "linear_forward" | "linear_input_gradient" | "linear_weight_gradient" => {
            let d = params_of::<LinearParams>(&dispatch.params);
            2.0 * f64::from(d.n) * f64::from(d.c) * f64::from(d.k)
        }
        _ => 0.0,
    }
}

/// Every kernel of a step by its variant. Calls of one shape are timed once.
fn shares(device: &Device, model: &Model, batch: usize) -> Vec<(String, Share)> {
    let arenas = Arenas::new(device, &model.graph, &model.tensors).expect("arenas");
    let plan =
        Plan::compile(device, &model.graph, &arenas, batch, Mode::Train, Keep::Logits).expect("a plan");
    let mut timed: BTreeMap<(&str, Vec<u8>), f64> = BTreeMap::new();
    let mut shares: BTreeMap<&str, Share> = BTreeMap::new();
    for dispatch in plan.commands().dispatches() {
        let shader = dispatch.kernel.shaders[dispatch.variant].name;
        let seconds = *timed.entry((shader, dispatch.params.clone())).or_insert_with(|| {
            let once = device.record(vec![dispatch.clone()]).expect("a dispatch");
            finish(device, &once);
            let start = Instant::now();
            finish(device, &once);
            // Enough calls in a submission that its own cost does not count.
            let calls = (0.02 / start.elapsed().as_secs_f64()).ceil().clamp(1.0, 50.0);
            let many = device.record(vec![dispatch.clone(); calls as usize]).expect("dispatches");
            let times = (0..5).map(|_| {
                let start = Instant::now();
                finish(device, &many);
                start.elapsed().as_secs_f64() / calls
            });
            median(times.collect())
        });
        let share = shares.entry(shader).or_default();
        share.seconds += seconds;
        share.flops += flops(dispatch);
        share.bytes += dispatch.bindings.iter().map(|slice| 4.0 * slice.words() as f64).sum::<f64>();
        share.calls += 1;
    }
    let mut shares: Vec<_> = shares.into_iter().map(|(name, share)| (name.to_owned(), share)).collect();
    shares.sort_by(|a, b| f64::total_cmp(&b.1.seconds, &a.1.seconds));
    shares
}

/// What the peer's last line says.
fn peer(command: &str) -> f64 {
    let output = std::process::Command::new("sh").args(["-c", command]).output().expect("sh runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let last: Option<Value> = text.lines().last().and_then(|line| serde_json::from_str(line).ok());
    last.as_ref().and_then(|line| line["med_ms"].as_f64()).unwrap_or(f64::NAN)
}

struct Options {
    device: DeviceChoice,
    batch: Option<usize>,
    rounds: usize,
    tune: bool,
    against: BTreeMap<String, String>,
    json: Option<String>,
    works: Vec<String>,
}

fn options() -> Options {
    let mut options = Options {
        device: DeviceChoice::Gpu,
        batch: None,
        rounds: 5,
        tune: true,
        against: BTreeMap::new(),
        json: None,
        works: Vec::new(),
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().unwrap_or_else(|| panic!("{word} needs a value"));
        match word.as_str() {
            "--device" => options.device = value().parse().expect("a device"),
            "--batch" => options.batch = Some(value().parse().expect("a number")),
            "--rounds" => options.rounds = value().parse().expect("a number"),
            "--autotune" => options.tune = value() == "on",
            "--json" => options.json = Some(value()),
            "--against" => {
                let value = value();
                let (work, command) = value.split_once('=').expect("WORK=COMMAND");
                options.against.insert(work.to_owned(), command.to_owned());
            }
            "--bench" => {}
            _ => options.works.push(word),
        }
    }
    if options.works.is_empty() {
        options.works = ["lenet", "resnet20"].map(str::to_owned).to_vec();
    }
    options
}

const CIFAR: Shape = Shape { c: 3, h: 32, w: 32 };

fn main() {
    let options = options();
    let device = Arc::new(block_on(Device::open(options.device)).expect("a device"));
    let info = device.info();
    println!("{} ({}, {})", info.name, info.backend, info.driver);
    let ceilings = Ceilings::new(&device);
    let (products, copy) = ceilings.measure(&device);
    println!("\nceilings: matrix product of {SIDE} cubed, GFLOP/s; copy, GB/s");
    for ((name, _), rate) in ceilings.products.iter().zip(&products) {
        println!("{name:<42} {rate:9.2}");
    }
    println!("{:<42} {copy:9.2}", "copy");
    let names: Vec<&str> = ceilings.products.iter().map(|(name, _)| *name).collect();
    let mut document = json!({
        "device": info,
        "products": names.iter().zip(&products).map(|(name, rate)| json!([name, rate])).collect::<Vec<_>>(),
        "copy_gb_s": copy,
        "works": [],
    });
    for work in &options.works {
        let result = match work.as_str() {
            "csgd" => csgd(&options, &device),
            _ => training(&options, &device, &ceilings, work),
        };
        if let Some(works) = document["works"].as_array_mut() {
            works.push(result);
        }
    }
    document["variants"] = json!(device.tuning().choices);
    if let Some(path) = &options.json {
        std::fs::write(path, format!("{document:#}\n")).expect("the file can be written");
    }
}

fn tune(options: &Options, device: &Device, model: &Model, batch: usize) {
    if options.tune {
        let start = Instant::now();
        let clock = || start.elapsed().as_secs_f64();
        let classes = block_on(Plan::tune(device, &model.graph, batch, Mode::Train, &clock)).expect("tunes");
        println!("\nmeasured the variants of {classes} shapes in {:.1} s", clock());
    }
}

fn training(options: &Options, device: &Arc<Device>, ceilings: &Ceilings, work: &str) -> Value {
    let (input, batch) = match work {
        "lenet" => (Shape { c: 1, h: 28, w: 28 }, 64),
        _ => (CIFAR, 32),
    };
    let batch = options.batch.unwrap_or(batch);
    let model = model(work, input);
    tune(options, device, &model, batch);
    let start = Instant::now();
    let mut step = Step::new(device, &model, batch, None);
    step.run();
    let first = start.elapsed().as_secs_f64();
    let (mut seconds, mut rates, mut ratios, mut theirs, mut against) =
        (vec![], vec![], vec![], vec![], vec![]);
    for _ in 0..options.rounds {
        let (products, _) = ceilings.measure(device);
        let best = products.into_iter().fold(0.0, f64::max);
        let ours = time(|| step.run());
        seconds.push(ours);
        rates.push(step.flops / 1e9 / ours);
        ratios.push(step.flops / 1e9 / ours / best);
        if let Some(command) = options.against.get(work) {
            let milliseconds = peer(command);
            theirs.push(milliseconds);
            against.push(ours * 1e3 / milliseconds);
        }
    }
    let [seconds, rate, ratio] = [seconds, rates, ratios].map(median);
    println!(
        "\n{work}, training step of {batch} images: {:.2} ms, {rate:.2} GFLOP/s, {ratio:.2} of the best product; first \
         step with all it needs {first:.2} s",
        seconds * 1e3
    );
    if !against.is_empty() {
        println!("  peer {:.2} ms; ours over theirs {:.3}", median(theirs.clone()), median(against.clone()));
    }
    let shares = shares(device, &model, batch);
    let total: f64 = shares.iter().map(|(_, share)| share.seconds).sum();
    println!("  {:<42} {:>5} {:>9} {:>6} {:>8} {:>7}", "kernel", "calls", "ms", "%", "GFLOP/s", "GB/s");
    let mut kernels = Vec::new();
    for (name, share) in shares {
        let Share { seconds, flops, bytes, calls } = share;
        let percent = seconds / total * 100.0;
        let [rate, bandwidth] = [flops, bytes].map(|amount| amount / 1e9 / seconds);
        println!(
            "  {name:<42} {calls:>5} {:>9.3} {percent:>6.1} {rate:>8.2} {bandwidth:>7.2}",
            seconds * 1e3
        );
        kernels.push(json!({
            "kernel": name, "calls": calls, "ms": seconds * 1e3, "percent": percent, "gflop_s": rate, "gb_s": bandwidth,
        }));
    }
    json!({
        "work": work, "batch": batch, "step_ms": seconds * 1e3, "gflop_s": rate, "of_best_product": ratio,
        "first_step_s": first, "peer_ms": theirs, "over_peer": against, "kernels": kernels,
    })
}

fn csgd(options: &Options, device: &Arc<Device>) -> Value {
    let batch = options.batch.unwrap_or(32);
    let model = model("resnet56", CIFAR);
    tune(options, device, &model, batch);
    let centripetal = Centripetal { clusters: clusters(&model), strength: 3e-3 };
    let mut plain = Step::new(device, &model, batch, None);
    let mut pulled = Step::new(device, &model, batch, Some(centripetal));
    plain.run();
    pulled.run();
    let mut ratios = Vec::new();
    for _ in 0..options.rounds {
        // Turn about, step by step: what slows the machine slows both.
        let (mut both, start) = ([Vec::new(), Vec::new()], Instant::now());
        while both[0].len() < 3 || start.elapsed().as_secs_f64() < 4.0 * ROUND {
            for (times, step) in both.iter_mut().zip([&mut plain, &mut pulled]) {
                let start = Instant::now();
                step.run();
                times.push(start.elapsed().as_secs_f64());
            }
        }
        let [plain, pulled] = both.map(median);
        ratios.push(pulled / plain);
    }
    let ratio = median(ratios.clone());
    println!("\nresnet56, batch {batch}: C-SGD step over SGD step {ratio:.4}");
    json!({"work": "csgd", "batch": batch, "csgd_over_sgd": ratio, "rounds": ratios})
}
