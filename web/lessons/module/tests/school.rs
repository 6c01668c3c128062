//! Every call of the lessons, natively, and the numbers that the lessons' text states.

use centripetal::device::Device;
use centripetal_lessons::{Reply, School};
use serde_json::{Value, json};
use std::path::Path;

fn clock() -> f64 {
    static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    START.get_or_init(std::time::Instant::now).elapsed().as_secs_f64()
}

fn school() -> School {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..");
    let read = |path: &str| std::fs::read(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    let names = ["train-images", "train-labels", "t10k-images", "t10k-labels"];
    let names = names.map(|name| format!("{name}-idx{}-ubyte.gz", if name.ends_with("images") { 3 } else { 1 }));
    let files: Vec<Vec<u8>> =
        names.iter().map(|name| read(&format!("src/data/embedded/{name}"))).collect();
    let mut school = School::new(Device::cpu("a test"), clock);
    let [base, wide] = ["base", "wide"].map(|name| read(&format!("web/lessons/data/{name}.safetensors")));
    school.load(&base, &wide, &names, &files).expect("the base loads");
    school
}

fn call(school: &mut School, name: &str, arguments: Value, arrays: Vec<Vec<f32>>) -> Reply {
    pollster::block_on(school.call(name, &arguments, arrays)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn value(school: &mut School, name: &str, arguments: Value) -> Value {
    call(school, name, arguments, Vec::new()).value
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

fn main_numbers() {}

#[test]
fn everything_answers() {
    main_numbers();
    let school = &mut school();
    let shown = |name: &str, value: &Value| println!("{name}: {}", &value.to_string().chars().take(900).collect::<String>());
    let v = value(school, "gradient", json!({ "h": 0.01 }));
    shown("gradient", &v);
    let v = value(school, "variance", json!({ "mean": 1000.0, "spread": 1.0, "count": 4096 }));
    shown("variance", &v);
    let points = json!({ "points": 12, "clusters": 3, "momentum": 0.9, "nesterov": false, "seed": 1, "kmeans": true });
    value(school, "plane.reset", points);
    let v = value(
        school,
        "plane.step",
        json!({ "steps": 60, "lr": 0.05, "momentum": 0.9, "strength": 0.5, "decay": 0.0, "curvature": 1.0 }),
    );
    println!("plane measured {} forecast {} chi {}", v["measured"], v["forecast"], v["chi"]);
    let v = value(school, "plane.forecast", json!({ "lr": 0.05, "momentum": 0.9, "strength": 0.5, "decay": 0.0, "steps": 200, "nesterov": false }));
    shown("forecast", &v);
    let v = value(school, "layers", json!({}));
    shown("layers", &v);
    for method in ["kmeans", "even", "imbalanced"] {
        let v = value(school, "cluster", json!({ "layer": "conv2", "method": method, "keep": 8, "seed": 0 }));
        shown(method, &v);
    }
    for (tensor, delta) in [("bn1.weight", 0.0), ("conv1.weight", 0.1), ("bn1.weight", 0.1), ("bn1.bias", 0.1), ("bn1.running_mean", 0.1), ("bn1.running_var", 0.1)] {
        let v = value(school, "surgery", json!({ "tensor": tensor, "delta": delta }));
        shown(tensor, &v);
    }
    for model in ["lenet", "resnet20", "resnet20 a", "densenet40", "mobilenet_v2"] {
        let v = value(school, "couplings", json!({ "model": model }));
        println!("{model}: {} nodes, {} groups {}", v["nodes"].as_array().expect("list").len(), v["groups"].as_array().expect("list").len(), v["macs"]);
    }
    shown("alone", &value(school, "cut-alone", json!({ "model": "resnet20", "node": "layer1.0.conv2" })));
    shown("alone", &value(school, "cut-alone", json!({ "model": "resnet20", "node": "conv1" })));
    let v = value(school, "couplings", json!({ "model": "resnet20" }));
    shown("groups", &v["groups"]);
    shown("together", &value(school, "cut-together", json!({ "model": "resnet20", "group": 1 })));
    let layers = value(school, "layers", json!({}));
    for group in layers.as_array().expect("list") {
        for keep in [1, 4, 7] {
            for method in ["merge", "l1"] {
                let v = value(school, "sensitivity", json!({ "group": group["group"], "keep": keep, "method": method }));
                println!("{} {keep} {method} {}", group["name"], v);
            }
        }
    }
    for keep in ["3/4", "1/2", "1/4"] {
        shown(keep, &value(school, "scale", json!({ "keep": keep, "batch": 32 })));
    }
    for lasso in [0.05, 0.3, 1.0] {
    let start = clock();
    value(school, "duel.start", json!({ "steps": 400, "lr": 0.03, "lasso": lasso, "keep": "1/2" }));
    for _ in 0..8 {
        let v = value(school, "duel.step", json!({ "steps": 50 }));
        shown("duel", &v["history"].as_array().expect("list").last().expect("one").clone());
    }
    shown("cut", &value(school, "duel.cut", json!({})));
    println!("{} s", clock() - start);
    }
    assert!(number(&json!(1.0)) > 0.0);
}
