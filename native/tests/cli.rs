//! The command from end to end: results, files, exit codes and messages.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use centripetal::formats::Checkpoint;
use centripetal::ops::Op;
use serde_json::Value;
use tempfile::TempDir;

const SMALL: &[&str] =
    &["--data", "synthetic", "--train-limit", "120", "--test-limit", "50", "--batch", "20"];

struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

fn command(dir: &TempDir, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_centripetal"));
    command.current_dir(dir.path()).args(words).stdin(Stdio::null());
    // Software Vulkan drivers complain on stderr where this is not set.
    command.env("XDG_RUNTIME_DIR", dir.path());
    // No test may leave anything in the user's own cache, nor find anything there.
    command.env("XDG_CACHE_HOME", dir.path().join("cache"));
    command
}

fn ran(output: Output) -> Ran {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    let ran = Ran { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) };
    for sign in ["panicked", "RUST_BACKTRACE", "a fault in centripetal"] {
        assert!(!ran.err.contains(sign), "{}", ran.err);
    }
    ran
}

fn run(dir: &TempDir, words: &[&str]) -> Ran {
    ran(command(dir, words).args(["--device", "cpu"]).output().expect("starts"))
}

fn ok(dir: &TempDir, words: &[&str]) -> Ran {
    let ran = run(dir, words);
    assert_eq!(ran.code, Some(0), "{words:?}: {}", ran.err);
    ran
}

fn json(dir: &TempDir, words: &[&str]) -> Value {
    let ran = ok(dir, &[words, &["--json"]].concat());
    serde_json::from_str(&ran.out).unwrap_or_else(|error| panic!("one document: {error}: {}", ran.out))
}

/// Fails with exit code 1 and one line that begins with `error: ` and holds all of `parts`.
fn fails(dir: &TempDir, words: &[&str], parts: &[&str]) {
    check_failure(&run(dir, words), parts);
}

fn check_failure(ran: &Ran, parts: &[&str]) {
    assert_eq!(ran.code, Some(1), "{}{}", ran.out, ran.err);
    let lines: Vec<&str> = ran.err.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(lines.len(), 1, "{}", ran.err);
    for part in parts {
        assert!(lines[0].contains(part), "{part:?} in {}", lines[0]);
    }
    assert_eq!(ran.out, "", "nothing on stdout");
}

fn train(dir: &TempDir, out: &str) -> Value {
    json(dir, &[&["train", "lenet", "--epochs", "2", "--out", out], SMALL].concat())
}

fn read(dir: &TempDir, path: &str) -> Vec<u8> {
    fs::read(dir.path().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn report(dir: &TempDir, out: &str) -> Value {
    serde_json::from_slice(&read(dir, &format!("{out}/report.json"))).expect("JSON")
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).expect("lists").flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn train_prune_eval_report_agree() {
    let dir = TempDir::new().expect("a folder");
    let trained = train(&dir, "run");
    assert_eq!(trained, report(&dir, "run"), "stdout is the report");
    let evaluated =
        json(&dir, &["eval", "run/base.safetensors", "--data", "synthetic", "--test-limit", "50"]);
    assert_eq!(evaluated["accuracy"], trained["base_accuracy"]);
    assert_eq!(evaluated["samples"], 50);
    assert!(evaluated["loss"].is_number() && evaluated["device"]["reason"].is_string(), "{evaluated}");

    let prune =
        [&["prune", "run/base.safetensors", "--keep", "5/8", "--epochs", "90", "--lr", "0.02"], SMALL]
            .concat();
    let pruned = json(&dir, &prune);
    assert_eq!(pruned, report(&dir, "run"));
    assert_eq!(pruned["argmax_agreement"], pruned["samples"]);
    assert_eq!(pruned["samples"], 50);
    assert_eq!(pruned["wide_accuracy"], pruned["slim_accuracy"]);
    assert_eq!(pruned["base_accuracy"], trained["base_accuracy"]);
    assert!(pruned["max_abs_logit_diff"].as_f64().is_some_and(|most| most < 1e-4), "{pruned}");
    for (before, after) in
        [("macs_before", "macs_after"), ("params_before", "params_after"), ("bytes_before", "bytes_after")]
    {
        assert!(pruned[before].as_u64() > pruned[after].as_u64(), "{before}");
    }
    for name in ["latency_before_ms", "latency_after_ms", "seed", "strength"] {
        assert!(pruned[name].is_number(), "{name}");
    }
    assert_eq!(pruned["layers"][0]["name"], "conv1");
    assert_eq!(
        (&pruned["layers"][0]["width_before"], &pruned["layers"][0]["width_after"]),
        (&8.into(), &5.into())
    );
    for (file, accuracy) in [("wide", "wide_accuracy"), ("slim", "slim_accuracy")] {
        let file = format!("run/{file}.safetensors");
        let evaluated = json(&dir, &["eval", &file, "--data", "synthetic", "--test-limit", "50"]);
        assert_eq!(evaluated["accuracy"], pruned[accuracy]);
    }
    assert!(read(&dir, "run/filters.png").starts_with(b"\x89PNG"));

    let lines: Vec<Value> = String::from_utf8(read(&dir, "run/metrics.jsonl"))
        .expect("text")
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let of = |phase: &str| lines.iter().filter(|line| line["phase"] == phase).count();
    assert_eq!(of("train") + of("csgd"), lines.len());
    let last = lines.last().expect("lines");
    assert_eq!((&last["step"], &last["epoch"]), (&540.into(), &90.0.into()));
    assert!(last["deviation"].as_f64().is_some_and(|chi| chi < 1e-7), "{last}");
    assert!(last["deviation_layers"]["conv2.weight"].is_number() && last["test_accuracy"].is_number());

    ok(&dir, &["report", "run"]);
    let page = String::from_utf8(read(&dir, "run/report.html")).expect("text");
    assert!(page.contains("<html") && page.contains("conv1"));
    let info = json(&dir, &["info", "run/slim.safetensors", "--batch", "8", "--couplings"]);
    assert_eq!(info["macs"], pruned["macs_after"]);
    assert!(info["memory"]["training"].is_number());
}

#[test]
fn weights_go_out_and_come_back() {
    let dir = TempDir::new().expect("a folder");
    let trained = train(&dir, "run");
    ok(&dir, &["export", "run/base.safetensors", "--safetensors", "weights.safetensors"]);
    fails(
        &dir,
        &["export", "run/base.safetensors", "--safetensors", "weights.safetensors"],
        &["weights.safetensors", "--force"],
    );
    let shape = json(&dir, &["info", "run/base.safetensors"])["input"].clone();
    let shape = [0, 1, 2].map(|i| shape[i].to_string()).join("x");
    let classes = trained["classes"].as_array().map(Vec::len).expect("classes");
    let import =
        ["import", "weights.safetensors", "--model", "lenet", "--input", &shape, "--out", "imported"];
    let statistics = ["--mean", "0.5,0.5,0.5", "--std", "0.25,0.25,0.25"];
    let statistics =
        if shape.starts_with('3') { &statistics[..] } else { &["--mean", "0.5", "--std", "0.25"] };
    let imported = json(&dir, &[&import[..], statistics].concat());
    assert_eq!(imported["classes"], classes);
    let evaluated = json(
        &dir,
        &["eval", "imported/base.safetensors", "--data", "synthetic", "--test-limit", "50", "--batch", "20"],
    );
    assert_eq!(evaluated["accuracy"], trained["base_accuracy"]);
    assert_eq!(evaluated["loss"], trained["base_loss"]);
    fails(&dir, &[&import[..], statistics].concat(), &["imported/settings.json", "--force"]);
    fails(
        &dir,
        &["import", "weights.safetensors", "--model", "resnet20", "--out", "other"],
        &["weights.safetensors", "resnet20", "is missing", "--model"],
    );
    assert!(!dir.path().join("other").exists());

    let mut bytes = read(&dir, "imported/base.safetensors");
    let end = bytes.len();
    for (name, value) in [("NaN", f32::NAN), ("inf", f32::INFINITY)] {
        bytes[end - 4..].copy_from_slice(&value.to_le_bytes());
        let file = format!("{name}.safetensors");
        fs::write(dir.path().join(&file), &bytes).expect("writes");
        fails(&dir, &["eval", &file, "--data", "synthetic"], &["finite numbers", name]);
    }
}

fn start(dir: &TempDir, words: &[&str]) -> Child {
    let mut command = command(dir, words);
    command.args(["--device", "cpu"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("starts")
}

#[cfg(unix)]
fn signal(child: &Child, name: &str) {
    let status =
        Command::new("kill").args(["-s", name, &child.id().to_string()]).status().expect("kill runs");
    assert!(status.success());
}

fn wait_for(path: &Path, child: &mut Child) {
    let started = Instant::now();
    while !path.exists() {
        assert!(started.elapsed() < Duration::from_secs(120), "{} does not appear", path.display());
        assert!(child.try_wait().expect("waits").is_none(), "the run ended before {}", path.display());
        sleep(Duration::from_millis(5));
    }
}

#[cfg(unix)]
#[test]
fn interrupted_and_killed_runs_resume_to_the_same_bits() {
    let dir = TempDir::new().expect("a folder");
    let options: &[&str] = &[
        "--data",
        "synthetic",
        "--train-limit",
        "1000",
        "--test-limit",
        "50",
        "--batch",
        "20",
        "--epochs",
        "6",
    ];
    let words = |out| [&["train", "lenet", "--out", out], options].concat();
    ok(&dir, &words("whole"));
    let whole = read(&dir, "whole/base.safetensors");
    for (name, code) in [("INT", Some(130)), ("TERM", Some(130)), ("KILL", None)] {
        let mut child = start(&dir, &words(name));
        wait_for(&dir.path().join(name).join("base.safetensors"), &mut child);
        signal(&child, name);
        let stopped = ran(child.wait_with_output().expect("ends"));
        assert_eq!(stopped.code, code, "{name}: {}", stopped.err);
        if code.is_some() {
            assert!(stopped.out.contains("base.safetensors is written") && stopped.out.contains("--resume"));
        }
        assert_ne!(read(&dir, &format!("{name}/base.safetensors")), whole, "{name} came before the end");
        fails(&dir, &words(name), &["settings.json", "--resume", "--force"]);
        ok(&dir, &[&words(name)[..], &["--resume"]].concat());
        assert!(read(&dir, &format!("{name}/base.safetensors")) == whole, "{name}: other bits");
        assert_eq!(report(&dir, name)["base_accuracy"], report(&dir, "whole")["base_accuracy"]);
    }

    let prune = |out| {
        [&["prune", "whole/base.safetensors", "--strength", "0.1", "--snap", "--out", out], options].concat()
    };
    ok(&dir, &prune("pruned"));
    let mut child = start(&dir, &prune("halted"));
    wait_for(&dir.path().join("halted/wide.safetensors"), &mut child);
    signal(&child, "INT");
    assert_eq!(ran(child.wait_with_output().expect("ends")).code, Some(130));
    ok(&dir, &[&prune("halted")[..], &["--resume"]].concat());
    for file in ["wide.safetensors", "slim.safetensors"] {
        assert!(read(&dir, &format!("pruned/{file}")) == read(&dir, &format!("halted/{file}")), "{file}");
    }

    let resume = |words: Vec<&str>, more: &[&str], parts: &[&str]| {
        let before = read(&dir, "INT/base.safetensors");
        fails(&dir, &[&words[..], &["--resume"], more].concat(), parts);
        assert!(read(&dir, "INT/base.safetensors") == before, "nothing is overwritten");
    };
    resume(words("INT"), &["--lr", "0.5"], &["--lr", "0.05", "0.5"]);
    resume(words("INT"), &["--seed", "3"], &["--seed"]);
    resume(words("INT"), &["--width", "2"], &["--width", "not given", "2"]);
    let other = [&["train", "resnet20", "--out", "INT"], options].concat();
    resume(other, &[], &["lenet", "resnet20"]);
    resume([&["train", "lenet", "--out", "INT"], SMALL].concat(), &[], &["as in the run so far"]);
    train(&dir, "other");
    fails(
        &dir,
        &[
            &[
                "prune",
                "other/base.safetensors",
                "--strength",
                "0.1",
                "--snap",
                "--out",
                "halted",
                "--resume",
            ],
            options,
        ]
        .concat(),
        &["FILE as in the run so far", "checksum"],
    );
}

#[cfg(unix)]
#[test]
fn a_second_interruption_ends_at_once_and_leaves_the_last_checkpoint() {
    let dir = TempDir::new().expect("a folder");
    // Steps of seconds, so that the second one comes while the first is waiting for its step.
    let options = ["--data", "synthetic", "--train-limit", "2000", "--test-limit", "50", "--batch", "1000"];
    let words = [&["train", "resnet20", "--epochs", "2", "--out", "run"], &options[..]].concat();
    let mut child = start(&dir, &words);
    wait_for(&dir.path().join("run/base.safetensors"), &mut child);
    let before = read(&dir, "run/base.safetensors");
    sleep(Duration::from_millis(300));
    signal(&child, "INT");
    sleep(Duration::from_millis(200));
    signal(&child, "INT");
    let asked = Instant::now();
    let stopped = ran(child.wait_with_output().expect("ends"));
    assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
    assert_eq!(stopped.code, Some(130), "{}", stopped.err);
    assert!(stopped.err.contains("once more ends at once"), "{}", stopped.err);
    assert!(!stopped.out.contains("is written"), "{}", stopped.out);
    assert!(read(&dir, "run/base.safetensors") == before, "the last checkpoint is as it was");
    ok(&dir, &["eval", "run/base.safetensors", "--data", "synthetic", "--test-limit", "50"]);
    assert_eq!(names(&dir.path().join("run")), ["base.safetensors", "metrics.jsonl", "settings.json"]);
}

#[test]
fn a_batch_that_is_too_large_for_a_gpu_is_answered_with_one_that_is_not() {
    if skips_gpu() {
        return;
    }
    let dir = TempDir::new().expect("a folder");
    let words =
        ["train", "lenet", "--data", "synthetic", "--batch", "5000", "--epochs", "1", "--device", "gpu"];
    let words = [&words[..], &["--autotune", "off", "--out", "run"]].concat();
    let told = ran(command(&dir, &words).output().expect("starts"));
    check_failure(&told, &["MB in one buffer", "Take --batch ", "instead of", "--device cpu"]);
    let batch = told.err.split("Take --batch ").nth(1).and_then(|rest| rest.split(',').next());
    let batch: usize = batch.and_then(|batch| batch.parse().ok()).expect("a number");
    assert!([2500, 1250, 625].contains(&batch), "{batch}");
}

#[test]
fn a_run_takes_away_neither_its_input_nor_what_belongs_to_its_base() {
    let dir = TempDir::new().expect("a folder");
    train(&dir, "run");
    let base = read(&dir, "run/base.safetensors");
    let again = |words: &[&'static str]| [words, SMALL].concat();
    fails(
        &dir,
        &again(&["train", "run/base.safetensors", "--force", "--out", "run"]),
        &["training from ", "run/base.safetensors", "--out"],
    );
    fails(
        &dir,
        &["import", "run/base.safetensors", "--model", "lenet", "--force", "--out", "run"],
        &["importing ", "run/base.safetensors", "--out"],
    );
    assert!(read(&dir, "run/base.safetensors") == base);

    // An interrupted prune keeps the report of the base training, and a finished one holds it.
    let prune = ["prune", "run/base.safetensors", "--keep", "1/2", "--strength", "0.1", "--snap"];
    let long = [&prune[..], &["--data", "synthetic", "--train-limit", "1000", "--test-limit", "50"]].concat();
    let long = [&long[..], &["--batch", "20", "--epochs", "6"]].concat();
    let mut child = start(&dir, &long);
    wait_for(&dir.path().join("run/wide.safetensors"), &mut child);
    signal(&child, "INT");
    assert_eq!(ran(child.wait_with_output().expect("ends")).code, Some(130));
    assert_eq!(report(&dir, "run")["phase"], "train");
    ok(&dir, &[&long[..], &["--resume"]].concat());
    assert_eq!(report(&dir, "run")["training"]["phase"], "train");

    // Another base in that folder brings none of it along.
    ok(&dir, &again(&["train", "lenet", "--epochs", "1", "--seed", "7", "--out", "other"]));
    ok(
        &dir,
        &again(&[
            "prune",
            "other/base.safetensors",
            "--strength",
            "0.1",
            "--snap",
            "--force",
            "--out",
            "run",
        ]),
    );
    let lines = String::from_utf8(read(&dir, "run/metrics.jsonl")).expect("text");
    assert!(report(&dir, "run")["training"].is_null() && !lines.contains("\"train\""), "{lines}");

    // Other images of the same name, and other classes.
    let images = |shade: u8| [vec![1; 1], vec![shade; 3072]].concat().repeat(64);
    fs::write(dir.path().join("a.bin"), images(1)).expect("writes");
    fs::write(dir.path().join("b.bin"), images(2)).expect("writes");
    let cifar = |data: &'static str| {
        ["train", "lenet", "--data", data, "--epochs", "1", "--batch", "32", "--out", "cifar"]
    };
    ok(&dir, &cifar("cifar10:a.bin"));
    fails(
        &dir,
        &[&cifar("cifar10:b.bin")[..], &["--resume"]].concat(),
        &["as in the run so far", "images", "checksum"],
    );
    // The test images alone are enough for eval.
    fs::create_dir(dir.path().join("tests")).expect("makes a folder");
    fs::write(dir.path().join("tests/test_batch.bin"), images(3)).expect("writes");
    let eval = ok(&dir, &["eval", "run/slim.safetensors", "--data", "cifar10:tests"]);
    assert!(eval.err.contains("whose class 0 is") && eval.err.contains("\"airplane\""), "{}", eval.err);

    fs::write(dir.path().join("widths.txt"), "conv1 3\n").expect("writes");
    fails(
        &dir,
        &again(&[
            "prune",
            "other/base.safetensors",
            "--widths",
            "widths.txt",
            "--freeze",
            "conv1",
            "--out",
            "x",
        ]),
        &["conv1", "frozen"],
    );
}

#[test]
fn snapping_makes_any_cut_exact_and_widths_come_from_a_file() {
    let dir = TempDir::new().expect("a folder");
    train(&dir, "run");
    let prune = [&["prune", "run/base.safetensors", "--epochs", "1", "--strength", "0.01"], SMALL].concat();
    // A pull that is too weak is refused before training, by what it lacks; a snap makes the cut exact all the same.
    fails(
        &dir,
        &[&prune[..], &["--keep", "1/2", "--out", "refused"]].concat(),
        &["checking --strength 0.01 before training", "steps", "--epochs", "--snap"],
    );
    assert!(!dir.path().join("refused").exists(), "nothing is written");
    let prune = [&prune[..], &["--snap"]].concat();
    let weak = run(&dir, &[&prune[..], &["--keep", "1/2", "--out", "snapped"]].concat());
    assert_eq!(weak.code, Some(0), "{}", weak.err);
    let warning =
        weak.err.lines().find(|line| line.starts_with("warning: ")).expect("a warning before training");
    assert!(warning.contains("will not make filters equal") && warning.contains("--epochs"), "{warning}");
    let snapped = report(&dir, "snapped");
    assert_eq!(snapped["argmax_agreement"], snapped["samples"]);
    assert!(snapped["certificate"]["snap"].is_object());
    // So it is with a schedule for which there is no strength: the best is taken.
    let short = [&["prune", "run/base.safetensors", "--epochs", "1", "--keep", "1/2"], SMALL].concat();
    fails(&dir, &[&short[..], &["--out", "auto"]].concat(), &["--strength auto", "--epochs", "--snap"]);
    let best = ok(&dir, &[&short[..], &["--snap", "--out", "auto"]].concat());
    assert!(best.err.contains("will not make filters equal"), "{}", best.err);
    assert!(report(&dir, "auto")["strength"].as_f64().expect("a number") > 0.0);

    // The number of epochs that is named is enough, also with a warm-up and milestones, which are epochs of their own.
    let course = ["--schedule", "step", "--milestones", "2,30", "--warmup", "0.5", "--out", "told"];
    let told = run(&dir, &[&short[..], &course].concat());
    let named = told.err.split("--epochs ").nth(1).and_then(|rest| rest.split(' ').next());
    let named: usize = named.and_then(|named| named.parse().ok()).unwrap_or_else(|| panic!("{}", told.err));
    let named = named.to_string();
    let course = [&["--epochs", &named][..], &course].concat();
    let short: Vec<&str> = short.iter().copied().filter(|word| !["--epochs", "1"].contains(word)).collect();
    ok(&dir, &[&short[..], &course].concat());
    assert_eq!(report(&dir, "told")["lossless"], true);

    // Statistics that never move stay as different as they are.
    let mut checkpoint =
        Checkpoint::from_bytes("base", &read(&dir, "run/base.safetensors")).expect("a checkpoint");
    for node in &mut checkpoint.model.graph.nodes {
        if let Op::BatchNorm2d(norm) = &mut node.op {
            norm.momentum = 0.0;
        }
    }
    fs::write(dir.path().join("still.safetensors"), checkpoint.to_bytes().expect("bytes")).expect("writes");
    let still = [&["prune", "still.safetensors", "--epochs", "60", "--out", "still"], SMALL].concat();
    fails(&dir, &still, &["momentum 0 in bn1", "--snap"]);
    ok(&dir, &[&still[..], &["--snap"]].concat());
    assert_eq!(report(&dir, "still")["argmax_agreement"], report(&dir, "still")["samples"]);
    assert_eq!(report(&dir, "still")["lossless"], false, "what the snap changed counts");

    fs::write(dir.path().join("widths.txt"), "conv1 3\nconv2 1/2 # of 16\n").expect("writes");
    let widths = json(&dir, &[&prune[..], &["--widths", "widths.txt", "--out", "widths"]].concat());
    let after = |name: &str| {
        let layers = widths["layers"].as_array().expect("layers");
        layers.iter().find(|layer| layer["name"] == name).map(|layer| layer["width_after"].clone())
    };
    assert_eq!((after("conv1"), after("conv2")), (Some(3.into()), Some(8.into())));
    let frozen = json(&dir, &[&prune[..], &["--freeze", "conv1", "--out", "frozen"]].concat());
    assert_eq!(frozen["layers"][0]["width_after"], frozen["layers"][0]["width_before"]);

    for (content, part) in [("conv1 100", "100"), ("conv9 1", "conv9"), ("conv1", "line 1"), ("conv1 0", "0")]
    {
        fs::write(dir.path().join("widths.txt"), content).expect("writes");
        fails(&dir, &[&prune[..], &["--widths", "widths.txt", "--out", "bad"]].concat(), &[part]);
    }
    fails(&dir, &[&prune[..], &["--freeze", "conv9", "--out", "bad"]].concat(), &["conv9"]);
    fails(&dir, &[&prune[..], &["--keep", "1", "--out", "bad"]].concat(), &["narrower"]);
    fails(&dir, &["prune", "snapped/slim.safetensors", "--data", "synthetic"], &["--out"]);
    assert!(!dir.path().join("bad").exists(), "nothing is made before the options are right");
}

#[test]
fn bad_data_is_told() {
    let dir = TempDir::new().expect("a folder");
    let idx = |name: &str, magic: u32, sizes: &[u32], content: &[u8]| {
        let words = std::iter::once(&magic).chain(sizes).flat_map(|word| word.to_be_bytes());
        fs::write(
            dir.path().join("idx").join(name),
            words.chain(content.iter().copied()).collect::<Vec<u8>>(),
        )
        .expect("writes");
    };
    fs::create_dir(dir.path().join("idx")).expect("makes a folder");
    let mnist = ["train", "lenet", "--data", "mnist:idx", "--out", "run"];
    fails(&dir, &mnist, &["train-images-idx3-ubyte", "an empty folder"]);
    for split in ["train", "t10k"] {
        idx(&format!("{split}-images-idx3-ubyte"), 2051, &[2, 8, 8], &[9; 128]);
        idx(&format!("{split}-labels-idx1-ubyte"), 2049, &[2], &[0, 1]);
    }
    ok(&dir, &[&mnist[..], &["--batch", "2", "--epochs", "1"]].concat());
    fs::remove_dir_all(dir.path().join("run")).expect("removes");
    fails(&dir, &mnist, &["a batch of at most 2", "64"]);
    idx("train-labels-idx1-ubyte", 2049, &[2], &[0, 200]);
    fails(&dir, &mnist, &["train-labels-idx1-ubyte", "200"]);
    idx("train-labels-idx1-ubyte", 2050, &[2], &[0, 1]);
    fails(&dir, &mnist, &["train-labels-idx1-ubyte", "2049"]);
    idx("train-labels-idx1-ubyte", 2049, &[2], &[0]);
    fails(&dir, &mnist, &["train-labels-idx1-ubyte"]);
    fails(&dir, &["train", "lenett", "--data", "synthetic"], &["lenet", "lenett, which is no file either"]);
    fails(&dir, &["train", "lenet", "--data", "synthetic", "--classes", "2"], &["at least 10", "2"]);
    fails(&dir, &["train", "lenet", "--data", "synthetic", "--train-limit", "999999"], &["999999"]);
    fails(&dir, &["train", "lenet", "--data", "synthetic", "--milestones", "3"], &["--schedule step"]);
    fails(&dir, &["train", "lenet", "--data", "synthetic", "--warmup", "99"], &["--warmup", "10 epochs"]);

    let folder = dir.path().join("pictures");
    for split in ["train", "val"] {
        fs::create_dir_all(folder.join(split).join("cat")).expect("makes folders");
        fs::write(folder.join(split).join("cat/broken.png"), b"no picture").expect("writes");
    }
    fails(&dir, &["train", "lenet", "--data", "folder:pictures", "--out", "run"], &["broken.png"]);
    assert!(!dir.path().join("run").exists(), "nothing is made for data that cannot be read");
}

#[test]
fn bad_files_are_told() {
    let dir = TempDir::new().expect("a folder");
    train(&dir, "run");
    let whole = read(&dir, "run/base.safetensors");
    let eval = |file: &str, parts: &[&str]| fails(&dir, &["eval", file, "--data", "synthetic"], parts);
    eval("none.safetensors", &["none.safetensors"]);
    eval("run", &["found a folder"]);
    for (name, bytes) in
        [("cut", &whole[..whole.len() / 2]), ("empty", &[][..]), ("text", b"hello, world".as_slice())]
    {
        let file = format!("{name}.safetensors");
        fs::write(dir.path().join(&file), bytes).expect("writes");
        eval(&file, &[&file, "a whole safetensors file"]);
    }
    ok(&dir, &["export", "run/base.safetensors", "--safetensors", "weights.safetensors"]);
    eval("weights.safetensors", &["centripetal import"]);
    fails(&dir, &["eval", "run/base.safetensors", "--data", "embedded"], &["base.safetensors", "1x28x28"]);
    fails(&dir, &["report", "nowhere"], &["nowhere", "report.json"]);
    assert!(read(&dir, "run/base.safetensors") == whole);
}

#[cfg(target_os = "linux")]
#[test]
fn folders_that_cannot_be_written_are_told_and_leave_nothing() {
    let dir = TempDir::new().expect("a folder");
    fs::write(dir.path().join("file"), "x").expect("writes");
    let words = |out| [&["train", "lenet", "--epochs", "1", "--out", out], SMALL].concat();
    fails(&dir, &words("file/inner"), &["file/inner", "a folder that can be written", "--out"]);
    fails(&dir, &words("/proc/centripetal"), &["/proc/centripetal", "a folder that can be written"]);

    // A limit on the size of files stands in for a full disk.
    let mut full = Command::new("sh");
    full.current_dir(dir.path()).args(["-c", "trap '' XFSZ; ulimit -f 8; exec \"$0\" \"$@\" --device cpu"]);
    full.arg(env!("CARGO_BIN_EXE_centripetal")).args(words("full")).env("XDG_RUNTIME_DIR", dir.path());
    check_failure(&ran(full.output().expect("starts")), &["writing full/base.safetensors"]);
    assert!(!dir.path().join("full").exists(), "of a run that could not begin nothing is left");

    ok(&dir, &words("run"));
    let before = read(&dir, "run/base.safetensors");
    fails(&dir, &words("run"), &["run/settings.json", "--force"]);
    assert!(read(&dir, "run/base.safetensors") == before);
    let demo = run(&dir, &["demo", "--out", "run"]);
    check_failure(&demo, &["an empty folder or that of an earlier demo"]);
}

#[test]
fn usage_is_checked_before_anything_else() {
    let dir = TempDir::new().expect("a folder");
    for words in [
        &["prune", "f", "--data", "embedded", "--keep", "9/8"][..],
        &["prune", "f", "--data", "embedded", "--keep", "0"],
        &["prune", "f", "--data", "embedded", "--keep", "1/2", "--widths", "w"],
        &["prune", "f", "--data", "embedded", "--method", "magic"],
        &["train", "lenet", "--data", "imagenet:x"],
        &["train", "lenet", "--data", "embedded", "--lr", "-0.1"],
        &["train", "lenet", "--data", "embedded", "--nonsense"],
        &["train", "lenet"],
        &["train", "lenet", "--data", "embedded", "--resume", "--force"],
        &["demo", "--epochs", "3"],
        &["eval", "f", "--data", "embedded", "--device", "tpu"],
        &["nonsense"],
    ] {
        let output = command(&dir, words).output().expect("starts");
        assert_eq!(output.status.code(), Some(2), "{words:?}");
        assert!(ran(output).err.starts_with("error: "), "{words:?}");
    }
    for words in [&["--help"][..], &["train", "--help"], &["prune", "--help"], &["--version"]] {
        assert_eq!(command(&dir, words).output().expect("starts").status.code(), Some(0), "{words:?}");
    }
    assert!(names(dir.path()).is_empty());
}

#[test]
fn a_run_that_diverges_stops_or_goes_back() {
    let dir = TempDir::new().expect("a folder");
    let wild = [&["train", "lenet", "--epochs", "3", "--lr", "1e8", "--out", "run"], SMALL].concat();
    fails(&dir, &wild, &["training, step", "NaN or infinity", "--lr"]);
    let kept = json(&dir, &["eval", "run/base.safetensors", "--data", "synthetic", "--test-limit", "50"]);
    assert!(kept["loss"].is_number(), "what is kept is sound: {kept}");

    let words =
        [&["train", "lenet", "--epochs", "8", "--lr", "40", "--force", "--out", "run"], SMALL].concat();
    let tamed = ok(&dir, &[&words[..], &["--on-nan", "rollback"]].concat());
    let warnings = tamed.err.lines().filter(|line| line.starts_with("warning: ")).count();
    assert!(tamed.err.contains("Going on after step") && warnings > 0, "{}", tamed.err);
    let report = report(&dir, "run");
    let slowed = 40.0 / f64::powi(2.0, warnings as i32);
    assert_eq!(report["config"]["schedule"]["base_lr"], slowed);
    // The finished run is known again by the options it began with.
    let resume: Vec<&str> = words.iter().copied().filter(|word| *word != "--force").collect();
    ok(&dir, &[&resume[..], &["--resume"]].concat());
}

#[test]
fn a_network_that_answers_nothing_is_no_success() {
    let dir = TempDir::new().expect("a folder");
    // The training loss stays finite, by the statistics of each batch; the running ones overflow.
    let few = ["--data", "synthetic", "--train-limit", "64", "--test-limit", "50", "--batch", "16"];
    let wild = [&["train", "resnet20", "--epochs", "1", "--lr", "1e3", "--out", "run"], &few[..]].concat();
    fails(&dir, &wild, &["testing the network after epoch 1", "a finite loss", "learning rate"]);
    let wild = [&wild[..], &["--force", "--on-nan", "rollback"]].concat();
    let tamed = ok(&dir, &wild);
    assert!(tamed.err.contains("Going on after step 0 with the learning rate 500"), "{}", tamed.err);

    train(&dir, "base");
    let bytes = read(&dir, "base/base.safetensors");
    let mut checkpoint = Checkpoint::from_bytes("base", &bytes).expect("a checkpoint");
    let gamma = checkpoint.model.tensors.get_mut("bn2.weight").expect("a gamma");
    gamma.data.fill(3e38);
    fs::write(dir.path().join("huge.safetensors"), checkpoint.to_bytes().expect("bytes")).expect("writes");
    fails(
        &dir,
        &[&["eval", "huge.safetensors"], &SMALL[..2]].concat(),
        &["evaluating huge", "a finite loss"],
    );
    let prune = [&["prune", "huge.safetensors", "--epochs", "60", "--out", "pruned"], SMALL].concat();
    fails(&dir, &prune, &["testing huge.safetensors before pruning", "a finite loss"]);
    let l1 = [&prune[..], &["--method", "l1"]].concat();
    fails(&dir, &l1, &["testing huge.safetensors before pruning", "a finite loss"]);
    for (option, file) in [("--onnx", "huge.onnx"), ("--safetensors", "weights.safetensors")] {
        fails(&dir, &["export", "huge.safetensors", option, file], &["exporting huge", "finite numbers"]);
        assert!(!dir.path().join(file).exists(), "{file}");
    }
}

#[test]
fn checkpoints_are_kept_on_request_and_runs_are_watched() {
    let dir = TempDir::new().expect("a folder");
    let words = ["train", "lenet", "--epochs", "4", "--keep-last", "2", "--keep-best", "--out", "run"];
    ok(&dir, &[&words[..], SMALL].concat());
    let kept = names(&dir.path().join("run/checkpoints"));
    assert_eq!(kept, ["base-best.safetensors", "base-epoch-0003.safetensors", "base-epoch-0004.safetensors"]);
    assert!(read(&dir, "run/checkpoints/base-epoch-0004.safetensors") == read(&dir, "run/base.safetensors"));
    let lines = String::from_utf8(read(&dir, "run/metrics.jsonl")).expect("text");
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let best = lines.iter().filter_map(|line| line["test_accuracy"].as_f64()).fold(0.0, f64::max);
    let file = "run/checkpoints/base-best.safetensors";
    let evaluated = json(&dir, &["eval", file, "--data", "synthetic", "--test-limit", "50"]);
    assert_eq!(evaluated["accuracy"], best);
    let looks = lines.iter().filter(|line| line["test_accuracy"].is_null() && !line["loss"].is_null());
    for line in looks {
        for name in ["gradient_norm", "update_ratio"] {
            assert!(line[name].as_f64().is_some_and(|value| value > 0.0 && value < 1e3), "{name}: {line}");
        }
    }
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let dir = TempDir::new().expect("a folder");
    for threads in ["1", "2", "3"] {
        let words =
            [&["train", "resnet20", "--width", "0.5", "--epochs", "1", "--out", threads], SMALL].concat();
        let train = command(&dir, &words).env("RAYON_NUM_THREADS", threads).output().expect("starts");
        assert_eq!(ran(train).code, Some(0));
        assert!(read(&dir, &format!("{threads}/base.safetensors")) == read(&dir, "1/base.safetensors"));
    }
}

#[test]
fn a_lost_gpu_is_told_or_replaced_by_the_cpu() {
    if skips_gpu() {
        return;
    }
    let dir = TempDir::new().expect("a folder");
    let words = |out| {
        let loss = ["--device", "gpu", "--rehearse-device-loss", "9", "--out", out];
        [&["train", "lenet", "--epochs", "3"], SMALL, &loss].concat()
    };
    let lost = ran(command(&dir, &words("lost")).output().expect("starts"));
    check_failure(&lost, &["running on the GPU", "destroyed"]);
    let kept = json(&dir, &["eval", "lost/base.safetensors", "--data", "synthetic", "--test-limit", "50"]);
    assert!(kept["loss"].is_number());
    let saved = [&words("saved")[..], &["--on-device-loss", "cpu", "--json"]].concat();
    let saved = ran(command(&dir, &saved).output().expect("starts"));
    assert_eq!(saved.code, Some(0), "{}", saved.err);
    assert!(saved.err.contains("Going on after step 6 on the CPU"), "{}", saved.err);
    let report: Value = serde_json::from_str(&saved.out).expect("JSON");
    assert_eq!(report["device"]["kind"], "cpu");
}

#[test]
fn what_a_driver_compiled_is_kept_and_a_damaged_file_costs_nothing() {
    if skips_gpu() {
        return;
    }
    let dir = TempDir::new().expect("a folder");
    let cache = dir.path().join("cache/centripetal");
    let train = |out: &str, more: &[&str]| {
        let words =
            [&["train", "lenet", "--epochs", "1", "--device", "gpu", "--out", out], SMALL, more].concat();
        let ran = ran(command(&dir, &words).output().expect("starts"));
        assert_eq!(ran.code, Some(0), "{}", ran.err);
        read(&dir, &format!("{out}/base.safetensors"))
    };
    train("untouched", &["--autotune", "off"]);
    assert!(!cache.exists());
    let first = train("first", &[]);
    let kept = || names(&cache).into_iter().find(|name| name.starts_with("pipelines-"));
    let Some(name) = kept() else {
        // Metal and DX12 drivers keep what they compiled by themselves.
        if cfg!(target_os = "linux") {
            panic!("no pipelines in {:?}", names(&cache));
        }
        println!("skipped: this backend has no pipeline cache");
        return;
    };
    let whole = fs::read(cache.join(&name)).expect("a file");
    assert!(first == train("second", &[]));
    for damaged in [&whole[..whole.len() / 2], &[&whole[..20], &[0xff; 40]].concat(), &[]] {
        fs::write(cache.join(&name), damaged).expect("writes");
        assert!(first == train("again", &["--force"]));
        assert_ne!(fs::read(cache.join(&name)).expect("a file"), damaged);
    }
}

/// Whether the checks that need a GPU are to be left out; says so.
fn skips_gpu() -> bool {
    let skips = std::env::var("CENTRIPETAL_SKIP_GPU").is_ok_and(|value| value == "1");
    if skips {
        println!("skipped: no GPU by CENTRIPETAL_SKIP_GPU=1");
    }
    skips
}

#[test]
fn two_runs_do_not_share_a_folder() {
    let dir = TempDir::new().expect("a folder");
    let long = ["--train-limit", "1000", "--test-limit", "50", "--batch", "20", "--epochs", "50"];
    let long = [&["train", "lenet", "--data", "synthetic", "--out", "run"], &long[..]].concat();
    let mut child = start(&dir, &long);
    wait_for(&dir.path().join("run/base.safetensors"), &mut child);
    fails(&dir, &[&long[..], &["--force"]].concat(), &["in use by another centripetal", "--out"]);
    signal(&child, "KILL");
    child.wait().expect("ends");
    fs::write(dir.path().join("run/.base.safetensors.1-1.tmp"), "half").expect("writes");
    ok(&dir, &[&["train", "lenet", "--epochs", "1", "--force", "--out", "run"], SMALL].concat());
    let left = ["base.safetensors", "metrics.jsonl", "report.json", "settings.json"];
    assert_eq!(names(&dir.path().join("run")), left);
}

#[test]
fn a_run_goes_on_with_its_own_options_and_network_alone() {
    let dir = TempDir::new().expect("a folder");
    train(&dir, "run");
    ok(&dir, &[&["train", "lenet", "--epochs", "1", "--seed", "7", "--out", "other"], SMALL].concat());
    let same = |path: &str, before: &[u8]| assert!(read(&dir, path) == before, "{path} is as it was");
    let words = |file: &'static str, out: &'static str, more: &[&'static str]| {
        [&["prune", file, "--out", out, "--resume"][..], SMALL, more].concat()
    };
    let (run, other) = ("run/base.safetensors", "other/base.safetensors");

    // Another method leaves a network of the same shape.
    let l1: &[&str] = &["--method", "l1", "--finetune", "1"];
    let first = json(&dir, &words(run, "l1", l1));
    let slim = read(&dir, "l1/slim.safetensors");
    let fpgm = ["--method", "fpgm", "--finetune", "1"];
    fails(&dir, &words(run, "l1", &fpgm), &["--method as in the run so far, l1", "fpgm"]);
    fails(&dir, &words(run, "l1", &[l1, &["--lr", "0.5"]].concat()), &["--lr", "0.03", "0.5"]);
    fails(&dir, &words(run, "l1", &[l1, &["--keep", "1/2"]].concat()), &["--keep as in the run so far"]);
    fails(&dir, &words(other, "l1", l1), &["FILE as in the run so far", "checksum"]);
    same("l1/slim.safetensors", &slim);
    let again = ok(&dir, &[&words(run, "l1", l1)[..], &["--json"]].concat());
    assert!(again.err.contains("l1/slim.safetensors is finished"), "{}", again.err);
    assert_eq!(serde_json::from_str::<Value>(&again.out).expect("JSON"), first);
    // As if it had been killed between its last two files.
    fs::remove_file(dir.path().join("l1/report.json")).expect("removes");
    let again = json(&dir, &words(run, "l1", l1));
    for figure in ["finetuned_accuracy", "finetuned_loss", "slim_loss", "macs_after"] {
        assert_eq!(again[figure], first[figure], "{figure}");
    }
    same("l1/slim.safetensors", &slim);

    // Steps and comparisons look at every run in them.
    let steps = |file, more: &[&'static str]| {
        words(file, "steps", &[&["--method", "l1", "--keep", "3/4,1/2"], more].concat())
    };
    ok(&dir, &steps(run, &[]));
    let base = read(&dir, "steps/base.safetensors");
    fails(&dir, &steps(other, &[]), &["FILE as in the run so far", "checksum"]);
    fails(&dir, &steps(run, &["--seed", "5"]), &["--seed as in the run so far, 0", "found 5"]);
    same("steps/base.safetensors", &base);
    let compare = |file: &'static str, more: &[&'static str]| {
        let words = ["compare", file, "--methods", "l1,squeeze", "--epochs", "1", "--out", "compared"];
        [&words[..], SMALL, &["--resume"], more].concat()
    };
    let sixty = ["--scratch-epochs", "60"];
    ok(&dir, &compare(run, &sixty));
    let table = read(&dir, "compared/compare.json");
    fails(&dir, &compare(other, &sixty), &["FILE as in the run so far", "checksum"]);
    fails(&dir, &compare(run, &["--lr", "0.5"]), &["--lr", "0.03", "0.5"]);
    fails(
        &dir,
        &compare(run, &["--scratch-epochs", "61"]),
        &["--scratch-epochs as in the run so far, 60", "found 61"],
    );
    let rows = |table: &[u8]| serde_json::from_slice::<Value>(table).expect("JSON")["rows"].clone();
    assert_eq!(rows(&read(&dir, "compared/compare.json")), rows(&table), "no row is lost");
}

#[test]
fn what_a_run_did_not_write_is_left_alone() {
    let dir = TempDir::new().expect("a folder");
    train(&dir, "run");
    let train = |out: &'static str| [&["train", "lenet", "--epochs", "1", "--out", out], SMALL].concat();
    let prune = |out: &'static str| {
        [&["prune", "run/base.safetensors", "--method", "l1", "--out", out], SMALL].concat()
    };
    for name in ["report.json", "report.html", "filters.png", "metrics.jsonl", "settings.json", "compare.csv"]
    {
        fs::create_dir(dir.path().join("full")).expect("makes");
        fs::write(dir.path().join("full").join(name), "mine").expect("writes");
        for words in [train("full"), prune("full")] {
            fails(&dir, &words, &[name, "a folder without another run", "--force"]);
            assert_eq!(names(&dir.path().join("full")), [name]);
            assert_eq!(read(&dir, &format!("full/{name}")), b"mine");
        }
        fs::remove_dir_all(dir.path().join("full")).expect("removes");
    }
    // Kept checkpoints are a run's too; --force takes those away and nothing else.
    ok(&dir, &[&train("kept")[..], &["--keep-last", "1", "--keep-best"]].concat());
    fs::remove_file(dir.path().join("kept/base.safetensors")).expect("removes");
    fails(&dir, &train("kept"), &["--force"]);
    fs::write(dir.path().join("kept/checkpoints/notes.txt"), "mine").expect("writes");
    fs::write(dir.path().join("kept/base-best.safetensors"), "mine").expect("writes");
    ok(&dir, &[&train("kept")[..], &["--force"]].concat());
    assert_eq!(names(&dir.path().join("kept/checkpoints")), ["notes.txt"]);
    assert_eq!(read(&dir, "kept/base-best.safetensors"), b"mine");
    // A run that cannot begin takes nothing of its base away.
    let before = names(&dir.path().join("run"));
    let settings = read(&dir, "run/settings.json");
    let wild =
        ["prune", "run/base.safetensors", "--lr", "1e8", "--strength", "1e9", "--snap", "--epochs", "1"];
    assert_eq!(run(&dir, &[&wild[..], SMALL].concat()).code, Some(1));
    let after = names(&dir.path().join("run"));
    assert!(before.iter().all(|name| after.contains(name)), "{before:?} {after:?}");
    assert_ne!(read(&dir, "run/settings.json"), settings, "the settings of both");
    assert!(String::from_utf8(settings).expect("text").contains("\"train\""));
}

#[test]
fn nothing_is_written_outside_what_was_named() {
    let dir = TempDir::new().expect("a folder");
    for folder in ["home", "temporary", "work"] {
        fs::create_dir(dir.path().join(folder)).expect("makes");
    }
    let run = |words: &[&str]| {
        let mut command = command(&dir, words);
        command.args(["--device", "cpu"]).current_dir(dir.path().join("work"));
        command.env("HOME", dir.path().join("home")).env("TMPDIR", dir.path().join("temporary"));
        let ran = ran(command.output().expect("starts"));
        assert_eq!(ran.code, Some(0), "{words:?}: {}", ran.err);
    };
    let work = || names(&dir.path().join("work"));
    run(&[&["train", "lenet", "--epochs", "1", "--keep-last", "1", "--out", "base"], SMALL].concat());
    assert_eq!(work(), ["base"]);
    let base = ["base/base.safetensors"];
    run(&[
        &["prune"],
        &base[..],
        &["--keep", "1/2", "--epochs", "1", "--strength", "0.1", "--snap", "--out", "pruned"],
        SMALL,
    ]
    .concat());
    assert_eq!(work(), ["base", "pruned"]);
    let tried = ["--methods", "l1,fpgm", "--keep", "1/2", "--epochs", "1", "--out", "compared"];
    run(&[&["compare"], &base[..], &tried[..], SMALL].concat());
    assert_eq!(work(), ["base", "compared", "pruned"]);
    run(&[&["eval"], &base[..], &["--data", "synthetic", "--test-limit", "50"]].concat());
    run(&["info", base[0], "--couplings"]);
    run(&["report", "pruned"]);
    run(&["devices"]);
    run(&["export", base[0], "--onnx", "base.onnx"]);
    assert_eq!(work(), ["base", "base.onnx", "compared", "pruned"]);
    for empty in ["home", "temporary"] {
        assert_eq!(names(&dir.path().join(empty)), [""; 0], "{empty}");
    }
    assert_eq!(names(dir.path()), ["home", "temporary", "work"]);
}

#[test]
fn a_gpu_that_is_not_there_is_told() {
    let dir = TempDir::new().expect("a folder");
    train(&dir, "run");
    let mut eval = command(&dir, &["eval", "run/base.safetensors", "--data", "synthetic", "--device", "gpu"]);
    eval.env("VK_DRIVER_FILES", "/nowhere").env("VK_ICD_FILENAMES", "/nowhere");
    if cfg!(target_os = "linux") {
        check_failure(&ran(eval.output().expect("starts")), &["opening a GPU", "--device cpu"]);
    }
    let cpu = run(&dir, &["eval", "run/base.safetensors", "--data", "synthetic"]);
    assert!(cpu.err.lines().any(|line| line.starts_with("device: CPU")), "{}", cpu.err);
}

#[test]
fn measured_kernels_are_kept_and_a_damaged_table_is_measured_again() {
    if std::env::var("CENTRIPETAL_SKIP_GPU").is_ok_and(|value| value == "1") {
        println!("skipped: a GPU check, since CENTRIPETAL_SKIP_GPU=1");
        return;
    }
    let dir = TempDir::new().expect("a folder");
    train(&dir, "run");
    let eval = |more: &[&str]| {
        let words =
            ["eval", "run/base.safetensors", "--data", "synthetic", "--test-limit", "8", "--device", "gpu"];
        let ran = ran(command(&dir, &[&words, more].concat()).output().expect("starts"));
        assert_eq!(ran.code, Some(0), "{}", ran.err);
        ran
    };
    let cache = dir.path().join("cache/centripetal");
    let off = eval(&["--autotune", "off"]);
    assert!(!off.err.contains("measured"), "{}", off.err);
    assert!(!cache.exists(), "--autotune off writes nothing");

    assert!(eval(&[]).err.contains("measured which kernels are fastest"));
    let mut files = names(&cache);
    files.retain(|file| !file.starts_with("pipelines-"));
    assert_eq!(files.len(), 1, "{files:?}");
    assert!(files[0].starts_with("tune-") && files[0].ends_with(".json"), "{files:?}");
    let path = cache.join(&files[0]);
    let table = fs::read(&path).expect("a table");
    let choices = serde_json::from_slice::<Value>(&table).expect("JSON")["choices"].clone();
    assert!(choices.as_object().is_some_and(|choices| !choices.is_empty()), "{choices}");
    let again = eval(&[]);
    assert!(!again.err.contains("measured"), "{}", again.err);
    assert_eq!(fs::read(&path).expect("a table"), table);

    for damaged in [b"{\"adapter\": ".as_slice(), b"", b"\xff\xfe"] {
        fs::write(&path, damaged).expect("writes");
        assert!(eval(&[]).err.contains("measured which kernels are fastest"));
        assert!(serde_json::from_slice::<Value>(&fs::read(&path).expect("a table")).is_ok());
    }
}

#[test]
fn onnx_goes_out_and_comes_back() {
    let dir = TempDir::new().expect("a folder");
    let trained = train(&dir, "run");
    let test = ["--data", "synthetic", "--test-limit", "50"];
    for (file, options) in [("plain.onnx", vec![]), ("folded.onnx", vec!["--fold-bn"])] {
        ok(&dir, &[&["export", "run/base.safetensors", "--onnx", file], &options[..]].concat());
        let out = format!("from-{file}");
        let imported = json(&dir, &["import", file, "--out", &out]);
        assert_eq!(imported["macs"], trained["macs"], "{file}");
        let evaluated = json(&dir, &[&["eval", &format!("{out}/base.safetensors")], &test[..]].concat());
        assert_eq!(evaluated["accuracy"], trained["base_accuracy"], "{file}");
    }
    ok(&dir, &["import", "folded.onnx", "--insert-bn", "--out", "inserted"]);
    let layers = json(&dir, &["info", "inserted/base.safetensors"])["layers"].clone();
    let norms =
        layers.as_array().expect("layers").iter().filter(|layer| layer["op"] == "BatchNorm2d").count();
    assert_eq!(norms, 2);
    fails(&dir, &["export", "run/base.safetensors", "--onnx", "plain.onnx"], &["plain.onnx", "--force"]);
    fails(&dir, &["import", "plain.onnx", "--model", "lenet", "--out", "x"], &["--model"]);
    fails(&dir, &["import", "run/base.safetensors", "--out", "x"], &[".onnx", "--model"]);
    fails(&dir, &["import", "plain.onnx", "--input", "3x9x9", "--out", "x"], &["is not 3x9x9"]);
    let half = read(&dir, "plain.onnx")[..5000].to_vec();
    fs::write(dir.path().join("half.onnx"), half).expect("writes");
    fails(&dir, &["import", "half.onnx", "--out", "x"], &["reading half.onnx", "truncated"]);
    assert!(!dir.path().join("x").exists());
}

/// A picture of `side` pixels whose colours follow from `number`.
fn picture(path: &Path, side: u32, number: u8) {
    fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    let colour = |x: u32, y: u32| {
        image::Rgb([number.wrapping_mul(40), (x * 3 + u32::from(number)) as u8, (y * x / 32) as u8])
    };
    image::RgbImage::from_fn(side, side + 20, colour).save(path).expect("an image");
}

#[test]
fn folders_of_photographs_are_cut_at_random_and_a_broken_one_is_named() {
    let dir = tempfile::tempdir().expect("a folder");
    for number in 0..8 {
        let class = if number % 2 == 0 { "cat" } else { "dog" };
        let format = if number < 4 { "png" } else { "jpg" };
        picture(
            &dir.path().join(format!("photos/train/{class}/{number}.{format}")),
            140 + 9 * u32::from(number),
            number,
        );
        picture(&dir.path().join(format!("photos/val/{class}/{number}.png")), 150, number);
    }
    let words =
        ["train", "lenet", "--width", "0.25", "--data", "folder@128:photos", "--epochs", "2", "--batch", "4"];
    let options = ["--lr", "0.01"];
    for out in ["one", "two"] {
        ok(&dir, &[&words[..], &options, &["--out", out]].concat());
    }
    assert!(read(&dir, "one/base.safetensors") == read(&dir, "two/base.safetensors"), "the same bits twice");
    assert_eq!(report(&dir, "one")["augment"]["smallest_crop"], 8);
    let lines = String::from_utf8(read(&dir, "one/metrics.jsonl")).expect("text");
    let waiting: Vec<f64> = lines
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).expect("JSON")["waiting"].as_f64())
        .collect();
    assert!(!waiting.is_empty() && waiting.iter().all(|part| (0.0..=1.0).contains(part)), "{waiting:?}");
    // Another way to vary them is another run.
    let again = [&words[..], &options, &["--out", "one", "--augment", "flip", "--resume"]].concat();
    fails(&dir, &again, &["--augment"]);
    fails(
        &dir,
        &["train", "lenet", "--data", "embedded", "--augment", "resized-crop", "--out", "no"],
        &["--augment resized-crop", "folder@224:DIR"],
    );
    // The files come class by class.
    let few = [&words[..], &options, &["--train-limit", "4", "--out", "few"]].concat();
    assert!(ok(&dir, &few).err.contains(
        "warning: --train-limit 4 takes the first images, which come class by class: 1 of 2 classes"
    ));
    let bad = dir.path().join("photos/train/dog/3.png");
    let whole = fs::read(&bad).expect("reads");
    fs::write(&bad, &whole[..whole.len() - 900]).expect("writes");
    let broken = [&words[..], &options, &["--out", "three"]].concat();
    fails(&dir, &broken, &["reading the image", "dog/3.png", "Repair or remove it"]);
}

#[test]
fn other_methods_delete_and_train_on() {
    let dir = TempDir::new().expect("a folder");
    let trained = train(&dir, "run");
    let prune = |method: &str, more: &[&str]| {
        let out = format!("by-{method}");
        let words = [
            "prune",
            "run/base.safetensors",
            "--method",
            method,
            "--keep",
            "1/2",
            "--epochs",
            "1",
            "--out",
            &out,
        ];
        json(&dir, &[&words[..], SMALL, more].concat())
    };
    let mut kept = Vec::new();
    for method in ["l1", "l2", "fpgm", "bn-scale", "taylor", "random", "group-lasso"] {
        let report = prune(method, &[]);
        assert_eq!(report["method"], method);
        assert_eq!(report["base_accuracy"], trained["base_accuracy"]);
        let out = format!("by-{method}/slim.safetensors");
        let evaluated = json(&dir, &["eval", &out, "--data", "synthetic", "--test-limit", "50"]);
        assert_eq!(evaluated["accuracy"], report["slim_accuracy"], "{method}");
        let trains = ["bn-scale", "group-lasso"].contains(&method);
        assert_eq!(dir.path().join(format!("by-{method}/wide.safetensors")).exists(), trains, "{method}");
        assert_eq!(report["wide_accuracy"] != trained["base_accuracy"], trains, "{method} trains first");
        kept.push(report["macs_after"].clone());
    }
    assert!(kept.iter().all(|macs| *macs == kept[0]), "the same widths: {kept:?}");
    let tuned = prune("l1", &["--finetune", "3", "--force"]);
    let evaluated =
        json(&dir, &["eval", "by-l1/slim.safetensors", "--data", "synthetic", "--test-limit", "50"]);
    assert_eq!(evaluated["accuracy"], tuned["finetuned_accuracy"]);
    assert_ne!(tuned["finetuned_loss"], tuned["slim_loss"]);
    let scratch = [
        "prune",
        "run/base.safetensors",
        "--from-scratch",
        "--keep",
        "1/2",
        "--epochs",
        "1",
        "--out",
        "scratch",
    ];
    let scratch = json(&dir, &[&scratch[..], SMALL].concat());
    assert_eq!((&scratch["method"], &scratch["macs_after"]), (&Value::from("scratch"), &kept[0]));
    let base = ["prune", "run/base.safetensors", "--out", "x"];
    fails(&dir, &[&base[..], SMALL, &["--finetune", "1"]].concat(), &["--finetune", "csgd"]);
    fails(&dir, &[&base[..], SMALL, &["--method", "l1", "--snap"]].concat(), &["--snap"]);
}

#[test]
fn gammas_are_found_before_convolutions_and_do_without_where_there_are_none() {
    let dir = TempDir::new().expect("a folder");
    for network in ["densenet40", "se_resnet18"] {
        let words = ["train", network, "--width", "0.25", "--epochs", "1", "--out", network];
        json(&dir, &[&words[..], SMALL].concat());
        let base = format!("{network}/base.safetensors");
        let out = format!("{network}-cut");
        let words = ["prune", &base, "--method", "bn-scale", "--keep", "1/2", "--epochs", "1", "--out", &out];
        let report = json(&dir, &[&words[..], SMALL].concat());
        assert!(report["macs_after"].as_u64() < report["macs_before"].as_u64(), "{network}: {report}");
    }
}

#[test]
fn cuts_in_steps_to_a_budget_and_to_a_loss() {
    let dir = TempDir::new().expect("a folder");
    train(&dir, "run");
    let l1 = [&["prune", "run/base.safetensors", "--method", "l1"], SMALL].concat();
    let steps = json(&dir, &[&l1[..], &["--keep", "3/4,1/2", "--finetune", "1", "--out", "steps"]].concat());
    assert_eq!(steps["steps"].as_array().map(Vec::len), Some(2));
    assert_eq!(read(&dir, "steps/slim.safetensors"), read(&dir, "steps/keep-1-2/slim.safetensors"));
    let at_once = json(&dir, &[&l1[..], &["--keep", "1/2", "--out", "once"]].concat());
    assert_eq!(steps["macs_after"], at_once["macs_after"], "parts of the base, not of the step before");
    assert_eq!(steps["macs_before"], at_once["macs_before"]);
    let again = json(
        &dir,
        &[&l1[..], &["--keep", "3/4,1/2", "--finetune", "1", "--out", "steps", "--resume"]].concat(),
    );
    assert_eq!(again["steps"], steps["steps"], "what is done is not done again");

    let budget = json(&dir, &[&l1[..], &["--target-macs", "0.5", "--out", "budget"]].concat());
    let part = budget["macs_after"].as_f64().expect("macs") / budget["macs_before"].as_f64().expect("macs");
    assert!(part <= 0.5 && part > 0.3, "{part}");

    let any = json(&dir, &[&l1[..], &["--max-accuracy-drop", "100", "--out", "any"]].concat());
    assert_eq!(any["steps"].as_array().map(Vec::len), Some(6));
    let strict = [&l1[..], &["--max-accuracy-drop", "0", "--keep", "1/8", "--out", "strict"]].concat();
    let strict = run(&dir, &strict);
    assert_eq!(strict.code, Some(1), "{}", strict.out);
    assert!(strict.err.contains("a step that loses at most 0 points, found "), "{}", strict.err);
    assert!(strict.err.contains(" after 1/8, ") && !strict.err.contains("the step before"), "{}", strict.err);
    fails(
        &dir,
        &[&l1[..], &["--max-accuracy-drop", "9", "--target-macs", "0.5", "--out", "x"]].concat(),
        &["--max-accuracy-drop", "--target-macs"],
    );
    let scratch = ["prune", "run/base.safetensors", "--from-scratch", "--keep", "3/4,1/2", "--out", "x"];
    fails(&dir, &[&scratch[..], SMALL].concat(), &["--from-scratch", "2 parts"]);
    let compare = ["compare", "run/base.safetensors", "--keep", "3/4,1/2", "--out", "x"];
    fails(&dir, &[&compare[..], SMALL].concat(), &["one part", "found 2 parts"]);
    fails(&dir, &[&l1[..], &["--keep", "1/2,3/4", "--out", "x"]].concat(), &["1/2", "13/16,11/16,5/8"]);
}

#[test]
fn squeezing_ends_at_the_normal_width_and_compare_writes_a_table() {
    let dir = TempDir::new().expect("a folder");
    let plain = train(&dir, "run");
    let squeeze = [
        "train",
        "lenet",
        "--width",
        "1.6",
        "--squeeze",
        "--epochs",
        "90",
        "--lr",
        "0.02",
        "--out",
        "squeezed",
    ];
    let squeezed = json(&dir, &[&squeeze[..], SMALL].concat());
    assert_eq!(squeezed["params_after"], plain["params"]);
    assert_eq!(squeezed["macs_after"], plain["macs"]);
    assert_eq!(squeezed["argmax_agreement"], squeezed["samples"]);
    let compare =
        ["compare", "run/base.safetensors", "--methods", "l1,scratch", "--epochs", "1", "--out", "compared"];
    let compare = [&compare[..], SMALL].concat();
    let compared = json(&dir, &compare);
    assert_eq!(compared["rows"].as_array().map(Vec::len), Some(2));
    assert_eq!(compared["rows"][0]["final_accuracy"], report(&dir, "compared/l1")["finetuned_accuracy"]);
    let table = String::from_utf8(read(&dir, "compared/compare.csv")).expect("text");
    assert!(table.starts_with("method,paper,") && table.lines().count() == 3, "{table}");
    let page = String::from_utf8(read(&dir, "compared/compare.html")).expect("text");
    assert!(page.contains("<svg") && page.contains("Li et al."), "{page}");
    fails(&dir, &compare, &["compared/settings.json", "--resume"]);
    assert_eq!(json(&dir, &[&compare[..], &["--resume"]].concat())["rows"], compared["rows"]);
}

/// Words and numbers of a line; a number has its unit cut off.
fn tokens(line: &str) -> Vec<(String, Option<f64>)> {
    let word = |word: &str| {
        let bare = word.trim_start_matches('-').trim_end_matches(['%', 'x', 's', ',', ';']).replace(',', "");
        match bare.parse::<f64>() {
            Ok(number) => (
                word.trim_start_matches(|c: char| c.is_ascii_digit() || "-.,e".contains(c)).to_owned(),
                Some(number),
            ),
            Err(_) => (word.to_owned(), None),
        }
    };
    line.split_whitespace().map(word).collect()
}

/// Whether `found` says what `stated` says: the same words, and numbers that are as near as another processor, whose sums
/// have other last bits, comes.
fn says_the_same(stated: &str, found: &str) -> bool {
    let (stated_tokens, found_tokens) = (tokens(stated), tokens(found));
    let near = |i: usize| {
        let (Some(a), Some(b)) = (stated_tokens[i].1, found_tokens[i].1) else {
            return stated_tokens[i].1 == found_tokens[i].1;
        };
        let time = stated_tokens.get(i + 1).is_some_and(|unit| unit.0 == "s");
        a == b
            || time
            || match stated_tokens[0].0.as_str() {
                // A network that is broken by its cut is so in another way each time.
                "accuracy" | "test" => (a - b).abs() <= if a < 80.0 { 10.0 } else { 2.0 },
                "loss" if a > 1.0 => b < 2.0 * a && a < 2.0 * b,
                "loss" => (a - b).abs() <= 0.1 * a,
                // What is exact must be exact: equal answers of all, and logits that agree but for rounding.
                "equal" if a < 1.0 => b < 4.0 * a,
                "equal" if a < 100.0 => b < 2.0 * a && a < 2.0 * b,
                "equal" if a < 1000.0 => (a - b).abs() <= 100.0,
                "ms" => true,
                _ => false,
            }
    };
    let words =
        |tokens: &[(String, Option<f64>)]| tokens.iter().map(|token| token.0.clone()).collect::<Vec<_>>();
    words(&stated_tokens) == words(&found_tokens) && (0..stated_tokens.len()).all(near)
}

#[test]
fn the_lab_of_the_page_for_teachers_prints_what_it_says() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let page = fs::read_to_string(root.join("web/lessons/teacher.html")).expect("the page");
    let lab = page.split("<h2>").find(|part| part.starts_with("Lab: ")).expect("the lab");
    let blocks = lab.split("<pre tabindex=\"0\">").skip(1);
    let blocks: Vec<String> = blocks
        .map(|block| {
            block.split("</pre>").next().unwrap_or_default().replace("&lt;", "<").replace("&amp;", "&")
        })
        .collect();
    let dir = TempDir::new().expect("a folder");
    let mut printed = String::new();
    let (mut commands, mut lines, mut accuracies) = (0, 0, Vec::new());
    for block in &blocks {
        if let Some(command_line) = block.strip_prefix("centripetal ") {
            let words: Vec<&str> =
                command_line.split('#').next().unwrap_or_default().split_whitespace().collect();
            let ran = ran(command(&dir, &words).output().expect("starts"));
            assert_eq!(ran.code, Some(0), "{words:?}: {}", ran.err);
            printed = ran.err + &ran.out;
            commands += 1;
        } else if commands > 0 {
            let mut left = printed.lines();
            for stated in block.lines().filter(|line| !line.trim().is_empty()) {
                assert!(
                    left.any(|found| says_the_same(stated, found)),
                    "{stated:?} is not, or not there, in\n{printed}"
                );
                lines += 1;
                if stated.starts_with("accuracy") {
                    accuracies
                        .push(tokens(stated).into_iter().filter_map(|token| token.1).collect::<Vec<_>>());
                }
            }
        }
    }
    assert!(commands == 6 && lines > 25, "{commands} commands, {lines} lines");
    // What the text makes of these numbers.
    let [csgd, _, l1] = &accuracies[..] else { panic!("{accuracies:?}") };
    for sentence in [
        format!("({:.2} to {:.2}; none.)", csgd[0], csgd[1]),
        format!("The cut itself costs {:.1} points here and none in step 3", l1[1] - l1[2]),
    ] {
        assert!(lab.contains(&sentence), "{sentence}");
    }
    assert!(lab.contains("ends a point higher") && (l1[3] - csgd[2] - 1.0).abs() < 0.5);
}
