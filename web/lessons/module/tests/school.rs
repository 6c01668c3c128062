//! Every call of the lessons, natively, and the numbers that the lessons' text states.
//!
//! A number is asserted twice: that the text has it ([`Lesson::states`]), and that the library computes it. Evaluations may
//! differ by a few of a thousand pictures between machines, whose vector units add in different orders, training by more.

use centripetal::device::Device;
use centripetal::graph::Coupling;
use centripetal::model::Model;
use centripetal::models::{self, ModelConfig};
use centripetal::prune::width::{Ratio, Rounding, WidthRule};
use centripetal::prune::{ClusterPlan, Clustering, Clusters, Pace, surgery};
use centripetal::{Result, Shape};
use centripetal_lessons::{Reply, School};
use serde_json::{Value, json};
use std::path::Path;

fn clock() -> f64 {
    static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    START.get_or_init(std::time::Instant::now).elapsed().as_secs_f64()
}

fn read(path: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..").join(path);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn school() -> School {
    let names = ["train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"];
    let names = names.map(|name| format!("{name}-ubyte.gz"));
    let files: Vec<Vec<u8>> = names.iter().map(|name| read(&format!("src/data/embedded/{name}"))).collect();
    let [base, wide] = ["base", "wide"].map(|name| read(&format!("web/lessons/data/{name}.safetensors")));
    let mut school = School::new(Device::cpu("a test"), clock);
    school.load(&base, &wide, &names, &files).expect("the networks and their data load");
    school
}

fn call(school: &mut School, name: &str, arguments: &Value, arrays: Vec<Vec<f32>>) -> Result<Reply> {
    pollster::block_on(school.call(name, arguments, arrays))
}

fn value(school: &mut School, name: &str, arguments: Value) -> Value {
    call(school, name, &arguments, Vec::new()).unwrap_or_else(|error| panic!("{name}: {error}")).value
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

fn near(found: &Value, stated: f64, tolerance: f64) {
    assert!((number(found) - stated).abs() <= tolerance, "{found}, but the text says {stated}");
}

struct Lesson(String);

impl Lesson {
    fn open(name: &str) -> Lesson {
        let text = String::from_utf8(read(&format!("web/lessons/{name}.html"))).expect("UTF-8");
        Lesson(text.split_whitespace().collect::<Vec<_>>().join(" "))
    }

    fn states(&self, sentence: &str) {
        assert!(self.0.contains(sentence), "the text no longer says \"{sentence}\"");
    }
}

#[test]
fn finite_differences_have_two_ends() {
    let (school, lesson) = (&mut school(), Lesson::open("02-backward"));
    let found = value(school, "gradient", json!({ "h": 0.02 }));
    for (a, b) in found["backward"]
        .as_array()
        .into_iter()
        .flatten()
        .zip(found["differences"].as_array().into_iter().flatten())
    {
        near(a, number(b), 1e-4);
    }
    let curve: Vec<(f64, f64)> = serde_json::from_value(found["curve"].clone()).expect("pairs");
    let at = |h: f64| curve.iter().find(|(x, _)| (x / h - 1.0).abs() < 0.01).expect("a point").1;
    lesson.states("ten times the step, a hundred times the error");
    assert!((50.0..200.0).contains(&(at(1.0) / at(0.1))), "{} {}", at(1.0), at(0.1));
    lesson.states("This error grows with \\( 1 / h \\)");
    assert!((3.0..30.0).contains(&(at(1e-5) / at(1e-4))), "{} {}", at(1e-5), at(1e-4));
    lesson.states("here near 0.02,");
    let best = curve.iter().min_by(|a, b| a.1.total_cmp(&b.1)).expect("points").0;
    assert!((0.01..0.04).contains(&best), "{best}");
    lesson.states("9,122 weights");
    lesson.states("18,244 times");
    assert_eq!(value(school, "scale", json!({ "keep": "1", "batch": 1 }))["paramsBefore"], 9122);
}

#[test]
fn a_convolution_has_the_size_that_the_formula_says() {
    let lesson = Lesson::open("01-convolution");
    lesson.states("With H = 6, R = 3 and nothing else, P is 4.");
    lesson.states("3 parts in 100,000");
    assert_eq!(centripetal::selftest::MAX_WORST, 3e-5);
    let conv = centripetal::ops::Conv2d::new(1, 1, [3, 3]);
    let shape = centripetal::ops::Operator::output_shape(&conv, &[Shape::new(1, 6, 6)]).expect("fits");
    assert_eq!((shape.h, shape.w), (4, 4));
}

#[test]
fn the_kernels_load_and_multiply_as_often_as_stated() {
    let lesson = Lesson::open("03-gpu");
    lesson.states("A dimension of the grid ends at 65,535 workgroups");
    assert_eq!(centripetal::device::MAX_WORKGROUPS, 65_535);
    let shader = |name: &str| String::from_utf8(read(&format!("shaders/{name}.wgsl"))).expect("UTF-8");
    lesson.states("8 filters × 8 pixels");
    lesson.states("16 variables of four numbers");
    let text = shader("conv2d_forward");
    let sums =
        text.lines().filter(|line| line.trim_start().starts_with("sum_") && line.contains("+=")).count();
    assert_eq!(sums * 4, 64);
    lesson.states("once for 16 filters");
    assert!(shader("conv2d_forward_tiled").contains("var<workgroup> filters: array<vec4<f32>, 64>"));
    lesson.states("the pixels as two vectors of four that lie 64 pixels apart");
    assert!(shader("conv2d_forward_tiled").contains("let pixel_b = pixel_a + 64u;"));
}

#[test]
fn one_pass_loses_the_variance() {
    let (school, lesson) = (&mut school(), Lesson::open("04-batch-norm"));
    lesson.states("At a mean of 1,000 the formula even gives a <em>negative</em> variance");
    let found = value(school, "variance", json!({ "mean": 1000.0, "spread": 1.0, "count": 4096 }));
    assert!(number(&found["onePass"]) < 0.0, "{found}");
    near(&found["twin"], number(&found["exact"]), 1e-5);
    lesson.states("with 4 numbers the two differ by a third");
    let few = value(school, "variance", json!({ "mean": 0.0, "spread": 1.0, "count": 4 }));
    near(&json!(number(&few["unbiased"]) / number(&few["twin"])), 4.0 / 3.0, 1e-5);
}

const PLANE: &str =
    r#"{ "points": 12, "clusters": 3, "seed": 1, "kmeans": true, "momentum": 0.9, "nesterov": false }"#;

fn plane(school: &mut School, momentum: f64, nesterov: bool, changes: Value) -> Value {
    let mut start: Value = serde_json::from_str(PLANE).expect("JSON");
    start["momentum"] = json!(momentum);
    start["nesterov"] = json!(nesterov);
    value(school, "plane.reset", start);
    let mut step = json!({ "lr": 0.05, "momentum": momentum, "strength": 0.3, "decay": 0.0, "curvature": 1.0, "steps": 1 });
    for (name, change) in changes.as_object().into_iter().flatten() {
        step[name.as_str()] = change.clone();
    }
    value(school, "plane.step", step)
}

#[test]
fn differences_shrink_as_forecast_and_as_the_formula_says() {
    let (school, lesson) = (&mut school(), Lesson::open("05-sgd"));
    lesson.states("measured and forecast lie on each other");
    for (momentum, nesterov) in [(0.0, false), (0.9, false), (0.9, true)] {
        let found = plane(school, momentum, nesterov, json!({ "strength": 0.04, "steps": 100 }));
        near(&found["measured"], number(&found["forecast"]), 0.01);
    }
    lesson.states("the measured curve dips at every crossing");
    let found = plane(school, 0.9, false, json!({ "strength": 0.3, "steps": 150 }));
    let history: Vec<(u64, f64, f64)> = serde_json::from_value(found["history"].clone()).expect("a list");
    assert!(history.iter().all(|(_, measured, forecast)| *measured <= forecast + 0.01));
    assert!(history.iter().any(|(_, measured, forecast)| *measured < forecast - 0.5));
    // d <- (1 - tau (eps + eta)) d, without momentum.
    let found = plane(school, 0.0, false, json!({ "strength": 0.5, "decay": 0.1, "lr": 0.2, "steps": 10 }));
    near(&found["measured"], 10.0 * (1.0 - 0.2 * 0.6f64).ln(), 1e-3);
    // With momentum about the sum of rates times (eps + eta) / (1 - mu).
    let found = plane(school, 0.9, false, json!({ "strength": 0.05, "lr": 0.01, "steps": 400 }));
    near(&found["measured"], -400.0 * 0.01 * 0.05 / 0.1, 0.2);
    lesson.states("the factor is \\( 1 - 0.5 \\cdot 2 = 0 \\), and one step is enough");
    let found = plane(school, 0.0, false, json!({ "strength": 2.0, "lr": 0.5 }));
    assert!(number(&found["measured"]) < -14.0, "{}", found["measured"]);
    lesson.states("Averaging alone is not enough");
    let found = plane(school, 0.9, false, json!({ "strength": 0.0, "steps": 200 }));
    near(&found["measured"], 0.0, 1e-4);
    lesson.states("it stops falling");
    let found = plane(school, 0.9, false, json!({ "steps": 600 }));
    assert!((-22.0..-14.0).contains(&number(&found["measured"])), "{}", found["measured"]);
    lesson.states("0.053 nats");
    assert!((0.9f64.ln() / -2.0 - 0.053).abs() < 5e-4);
    lesson.states("no strength makes them lose more");
    let schedule = |strength: f64| json!({ "lr": 0.5, "momentum": 0.9, "strength": strength, "decay": 0.0, "steps": 400, "nesterov": false });
    let swinging = value(school, "plane.forecast", schedule(2.0));
    assert!(number(&swinging["logShrink"]) > -400.0 * 0.054, "{swinging}");
    lesson.states("18 nats");
    assert_eq!(centripetal::optim::forecast::AUTO_TARGET, 18.0);
    lesson.states("one unit in the last digit");
    assert!(((-16.0f64).exp() / f64::from(f32::EPSILON) - 1.0).abs() < 0.1);
    let enough = value(
        school,
        "plane.forecast",
        json!({ "lr": 0.05, "momentum": 0.9, "strength": 0.3, "decay": 0.0, "steps": 400, "nesterov": false }),
    );
    let needed = number(&enough["needed"]);
    let met = value(
        school,
        "plane.forecast",
        json!({ "lr": 0.05, "momentum": 0.9, "strength": needed, "decay": 0.0, "steps": 400, "nesterov": false }),
    );
    assert!(number(&met["logShrink"]) <= -18.0, "{met}");
}

#[test]
fn clusters_of_conv2_are_as_far_apart_as_stated() {
    let (school, lesson) = (&mut school(), Lesson::open("06-clusters"));
    lesson.states("\\( \\chi \\) is 17.2 for k-means, 22.5 for even and 22.6 for imbalanced clusters");
    for (method, chi) in [("kmeans", 17.2), ("even", 22.5), ("imbalanced", 22.6)] {
        let found = value(
            school,
            "cluster",
            json!({ "layer": "conv2", "method": method, "keep": 8, "seed": 0, "curve": true }),
        );
        near(&found["chi"], chi, 0.051);
        near(&found["curve"][15], 0.0, 0.0);
        assert_eq!(found["survivors"][0], 0);
    }
    lesson.states("saves about a quarter of the way");
    lesson.states("gets 86.3 % of 1,000 others right");
    let layers = value(school, "layers", json!({}));
    let whole = json!({ "group": layers[0]["group"], "keep": 8, "method": "l1" });
    near(&value(school, "sensitivity", whole)["accuracy"], 0.863, 0.002);
    // Other beginnings of k-means: about as good.
    lesson.states("hardly better and hardly worse");
    for seed in 1..6 {
        let found = value(
            school,
            "cluster",
            json!({ "layer": "conv2", "method": "kmeans", "keep": 8, "seed": seed, "curve": false }),
        );
        near(&found["chi"], 17.2, 1.0);
    }
}

#[test]
fn a_cut_is_exact_until_one_number_differs() {
    let (school, lesson) = (&mut school(), Lesson::open("07-surgery"));
    let mut cut =
        |tensor: &str, delta: f64| value(school, "surgery", json!({ "tensor": tensor, "delta": delta }));
    let exact = cut("bn1.weight", 0.0);
    assert_eq!(exact["agreement"], 1000);
    lesson.states("the logits agree to about 0.00001");
    assert!(number(&exact["maxLogitDiff"]) < 3e-5, "{exact}");
    lesson.states("from 290,080 to 88,592, by 69.5 %; the parameters from 9,122 to 4,278");
    assert_eq!((&exact["macsBefore"], &exact["macsAfter"]), (&json!(290_080), &json!(88_592)));
    assert_eq!((&exact["paramsBefore"], &exact["paramsAfter"]), (&json!(9122), &json!(4278)));
    assert!((1.0 - 88_592.0 / 290_080.0 - 0.695f64).abs() < 5e-4);
    lesson.states("85.7 % of the test pictures right");
    near(&exact["accuracyAfter"], 0.857, 0.002);
    for sum in exact["sums"].as_array().into_iter().flatten() {
        let before: f64 = sum["before"].as_array().into_iter().flatten().map(number).sum();
        near(&sum["after"], before, 1e-6);
    }
    lesson.states("A difference of 0.1 in a single \\( \\gamma \\) changes 10 of 1,000 answers, in a \\( \\beta \\) 15, in a mean 25, in a variance 12");
    lesson.states("0.1 on all nine weights of a filter changes 49");
    for (tensor, changed) in [
        ("bn1.weight", 10.0),
        ("bn1.bias", 15.0),
        ("bn1.running_mean", 25.0),
        ("bn1.running_var", 12.0),
        ("conv1.weight", 49.0),
    ] {
        let found = cut(tensor, 0.1);
        near(&json!(1000.0 - number(&found["agreement"])), changed, 3.0);
    }
}

#[test]
fn channels_are_tied_as_the_text_says() {
    let (school, lesson) = (&mut school(), Lesson::open("08-couplings"));
    let mut group_of = |model: &str, node: &str| -> Value {
        let found = value(school, "couplings", json!({ "model": model }));
        let nodes = found["nodes"].as_array().expect("a list");
        let node = nodes.iter().find(|entry| entry["name"] == node).expect("the layer");
        found["groups"][node["groups"][0].as_u64().expect("a number") as usize].clone()
    };
    let count = |group: &Value| group["members"].as_array().expect("a list").len();
    lesson.states("through all of stage 1. Take <code>layer1.0.conv1</code>: three layers");
    let stage = group_of("resnet20", "conv1");
    assert!(
        stage["members"]
            .as_array()
            .expect("a list")
            .iter()
            .all(|name| !name.as_str().expect("a name").starts_with("layer2"))
    );
    assert!(stage["followers"].as_array().expect("a list").contains(&json!("layer1.2.conv2")), "{stage}");
    assert_eq!(count(&group_of("resnet20", "layer1.0.conv1")), 3);
    assert!(group_of("resnet20", "linear")["frozen"].is_string());
    lesson.states("they run through all three stages");
    let run = group_of("resnet20 a", "conv1");
    for stage in ["layer1.", "layer2.", "layer3."] {
        assert!(
            run["members"]
                .as_array()
                .expect("a list")
                .iter()
                .any(|name| name.as_str().expect("a name").starts_with(stage)),
            "{run}"
        );
    }
    lesson.states("each channel becomes 49 numbers");
    let lenet = models::build("lenet", &ModelConfig::new(Shape::new(1, 28, 28), 10)).expect("builds");
    let pooled = lenet.shapes().expect("shapes")[lenet.find("pool2").expect("a layer")];
    assert_eq!(pooled.h * pooled.w, 49);
    let school = &mut self::school();
    for node in ["conv1", "layer1.0.conv1", "layer2.0.conv2"] {
        let alone = value(school, "cut-alone", json!({ "model": "resnet20", "node": node }));
        assert_eq!(alone["done"], false, "{node}");
    }
    let together = value(school, "cut-together", json!({ "model": "resnet20", "group": 1 }));
    assert_eq!(together["done"], true);
    assert!(number(&together["macsAfter"]) < number(&together["macsBefore"]));
    assert_eq!(value(school, "cut-together", json!({ "model": "resnet20", "group": 0 }))["done"], false);
    lesson.states("is channel \\( i + 8 \\) of the second");
    lesson.states("is channel \\( i + 16 \\) of the third");
    let graph = models::build(
        "resnet20",
        &ModelConfig { shortcut: models::Shortcut::A, ..ModelConfig::new(Shape::new(3, 32, 32), 10) },
    );
    let graph = graph.expect("builds");
    let coupling = Coupling::derive(&graph, &[]).expect("derives");
    let group =
        coupling.groups.iter().find(|group| group.pacesetter == graph.find("conv1")).expect("its group");
    for (name, channels) in [("layer2.2.conv2", 8..24), ("layer3.2.conv2", 24..40)] {
        let node = graph.find(name).expect("a layer");
        let member = group.members.iter().find(|member| member.node == node).expect("it is tied");
        assert_eq!(member.channels, channels.collect::<Vec<_>>());
    }
}

#[test]
fn zeroing_and_identity_end_as_the_table_says() {
    let (school, lesson) = (&mut school(), Lesson::open("09-zero-or-identical"));
    lesson.states("from 24 to below \\( 10^{-12} \\); what lasso leaves falls from 24 to about 9");
    lesson.states("The zeroed one loses more than 20 points");
    lesson.states("The strong one is more than 3 points worse before anything is cut");
    for strength in [0.05, 1.0] {
        let start = value(
            school,
            "duel.start",
            json!({ "steps": 400, "lr": 0.03, "lasso": strength, "keep": "1/2" }),
        );
        near(&start["history"][0]["chi"], 24.0, 0.5);
        near(&start["history"][0]["residue"], 24.0, 0.5);
        let end = value(school, "duel.step", json!({ "steps": 400 }));
        let last = end["history"].as_array().expect("a list").last().expect("an entry").clone();
        assert!(number(&last["chi"]) < 1e-12, "{last}");
        let cut = value(school, "duel.cut", json!({}));
        let (identity, zero) = (&cut["identity"], &cut["zero"]);
        assert_eq!(identity["agreement"], 1000);
        assert_eq!(identity["before"], identity["after"]);
        assert!(number(&zero["agreement"]) < 1000.0, "{cut}");
        if strength == 0.05 {
            near(&last["residue"], 9.0, 0.5);
            assert!(number(&zero["before"]) > 0.8, "{cut}");
            assert!(number(&zero["before"]) - number(&zero["after"]) > 0.2, "{cut}");
        } else {
            assert!(number(&identity["before"]) - number(&zero["before"]) > 0.03, "{cut}");
        }
    }
}

#[test]
fn merging_what_still_differs_is_worse_than_deleting() {
    let (school, lesson) = (&mut school(), Lesson::open("10-how-far"));
    lesson.states("With 7 of 8 filters of <code>conv1</code>, deleting the smallest keeps 85.9 %, merging the two nearest 72.0 %");
    let layers = value(school, "layers", json!({}));
    for (method, accuracy) in [("l1", 0.859), ("merge", 0.72)] {
        let found =
            value(school, "sensitivity", json!({ "group": layers[0]["group"], "keep": 7, "method": method }));
        near(&found["accuracy"], accuracy, 0.003);
    }
    lesson.states("at 1/2 has 69.5 % fewer");
    lesson.states("3.3 times fewer multiply-adds");
    let half = value(school, "scale", json!({ "keep": "1/2", "batch": 50 }));
    near(&json!(number(&half["macsBefore"]) / number(&half["macsAfter"])), 3.3, 0.05);
    assert!(number(&half["msAfter"]) > 0.0 && number(&half["msBefore"]) > 0.0, "{half}");
    lesson.states("that is 39 %; ResNet-56 with all layers at 5/8 has 60.9 % fewer multiply-adds");
    let graph = models::build("resnet56", &ModelConfig::new(Shape::new(3, 32, 32), 10)).expect("builds");
    let model = Model::random(graph, 0);
    let coupling = Coupling::derive(&model.graph, &[]).expect("derives");
    let plan = ClusterPlan {
        widths: WidthRule::All(Ratio::new(5, 8).expect("a part")),
        rounding: Rounding::Floor,
        round_to: 1,
        clustering: Clustering::Even,
        pace: Pace::Pacesetter,
        frozen: Vec::new(),
        seed: 0,
    };
    let clusters = Clusters::find(&model, &coupling, &plan).expect("clusters");
    let slim = surgery::cut(&model, &clusters).expect("cuts");
    let part = slim.graph.macs().expect("counts") as f64 / model.graph.macs().expect("counts") as f64;
    assert!((1.0 - part - 0.609).abs() < 5e-4, "{part}");
}

#[test]
fn calls_that_cannot_be_are_answered_with_a_sentence() {
    let school = &mut school();
    for (name, arguments) in [
        ("nothing", json!({})),
        ("kernel", json!({ "kernel": "nothing" })),
        ("twin", json!({ "kernel": "relu_forward", "params": {}, "writes": [] })),
        ("judge", json!({ "kernel": "relu_forward", "case": 999 })),
        ("cluster", json!({ "layer": "conv2", "method": "kmeans", "keep": 99, "seed": 0, "curve": false })),
        ("surgery", json!({ "tensor": "nothing", "delta": 0 })),
        ("plane.step", json!({})),
        ("duel.cut", json!({})),
        ("couplings", json!({ "model": "nothing" })),
    ] {
        let error = call(school, name, &arguments, Vec::new()).expect_err(name).to_string();
        assert!(error.contains("expected") && error.contains("found"), "{error}");
    }
}

#[test]
fn the_judge_finds_the_first_number_that_differs() {
    let school = &mut school();
    let cases = call(school, "cases", &json!({ "kernel": "conv2d_forward" }), Vec::new()).expect("cases");
    let first = &cases.value[0];
    let at = number(&first["inputs"]) as usize;
    let inputs = cases.arrays[..at].to_vec();
    let words: Vec<u32> = serde_json::from_value(first["words"].clone()).expect("words");
    let table = value(school, "kernel", json!({ "kernel": "conv2d_forward" }));
    let params: serde_json::Map<String, Value> = table["fields"]
        .as_array()
        .expect("a list")
        .iter()
        .zip(words)
        .map(|(field, word)| (field["name"].as_str().expect("a name").to_owned(), json!(word)))
        .collect();
    let len = cases.arrays[at].len();
    let arguments = json!({ "kernel": "conv2d_forward", "params": params, "writes": [len] });
    let mut outputs = call(school, "twin", &arguments, inputs).expect("the twin").arrays;
    let judge = |school: &mut School, outputs: &[Vec<f32>]| {
        let arguments = json!({ "kernel": "conv2d_forward", "case": 0 });
        call(school, "judge", &arguments, outputs.to_vec()).expect("a judgement").value
    };
    assert_eq!(judge(school, &outputs)["passed"], true);
    outputs[0][5] += 1.0;
    let judged = judge(school, &outputs);
    assert_eq!((&judged["passed"], &judged["first"]["index"]), (&json!(false), &json!(5)), "{judged}");
    assert!(
        judged["first"]["place"].as_str().is_some_and(|place| place.starts_with("n 0, k 0, p ")),
        "{judged}"
    );
    outputs[0][2] = f32::NAN;
    assert_eq!(judge(school, &outputs)["first"]["index"], 2);
}
