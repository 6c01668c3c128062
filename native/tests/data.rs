//! What people bring as data: damaged, turned and odd pictures, classes that lack, and what is printed about it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use image::{GrayImage, Luma, Rgb, RgbImage};
use serde_json::Value;
use tempfile::TempDir;

struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

/// Runs the command as on a server: without a display.
fn run(dir: &TempDir, words: &[&str]) -> Ran {
    let output = Command::new(env!("CARGO_BIN_EXE_centripetal"))
        .current_dir(dir.path())
        .args(words)
        .stdin(Stdio::null())
        .env_remove("XDG_RUNTIME_DIR")
        .env("XDG_CACHE_HOME", dir.path().join("cache"))
        .output()
        .expect("starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    let ran = Ran { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) };
    assert!(!ran.err.contains("panicked") && !ran.err.contains("a fault in centripetal"), "{}", ran.err);
    ran
}

fn on_cpu(dir: &TempDir, words: &[&str]) -> Ran {
    run(dir, &[words, &["--device", "cpu"]].concat())
}

/// A picture of 8 x 8 pixels that a network can tell from others of other numbers.
fn picture(path: &Path, number: u8) {
    fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    RgbImage::from_fn(8, 8, |x, y| Rgb([number, x as u8 * 30, y as u8 * 30])).save(path).expect("a picture");
}

/// Two classes: `many` training images of the first, `few` of the second, and two test images of the first.
fn folder(many: u8, few: u8) -> (TempDir, PathBuf) {
    let dir = TempDir::new().expect("a folder");
    let data = dir.path().join("data");
    (0..many).for_each(|n| picture(&data.join(format!("train/ants/{n}.png")), n));
    (0..few).for_each(|n| picture(&data.join(format!("train/bees/{n}.png")), 255 - n));
    (0..2).for_each(|n| picture(&data.join(format!("val/ants/{n}.png")), n));
    (dir, data)
}

const TRAIN: &[&str] = &["train", "lenet", "--epochs", "1", "--batch", "4", "--out", "run"];

fn train<'a>(data: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [TRAIN, &["--data", data], more].concat()
}

#[test]
fn damaged_pictures_end_every_command_with_their_names() {
    let (dir, data) = folder(8, 8);
    let data = data.display().to_string();
    let spec = format!("folder:{data}");
    assert_eq!(on_cpu(&dir, &train(&spec, &[])).code, Some(0));
    let jpeg: &[u8] = include_bytes!("../../tests/pictures/baseline-420.jpg");
    for split in ["train", "val"] {
        let bad = format!("{data}/{split}/ants/cut.jpg");
        for part in [0, 1, jpeg.len() / 2, jpeg.len() - 2] {
            fs::write(&bad, &jpeg[..part]).expect("a file");
            let fresh = [&train(&spec, &[])[..], &["--force"]].concat();
            let eval = ["eval", "run/base.safetensors", "--data", &spec];
            let prune =
                ["prune", "run/base.safetensors", "--data", &spec, "--epochs", "1", "--out", "pruned"];
            for words in [&fresh[..], &eval, &prune] {
                let ran = on_cpu(&dir, words);
                assert_eq!(ran.code, Some(1), "{words:?}: {}", ran.err);
                assert!(ran.err.contains(&format!("error: reading the image {bad}: ")), "{}", ran.err);
            }
        }
        fs::remove_file(bad).expect("a file");
    }
}

#[test]
fn classes_that_spoil_a_training_are_warned_of() {
    let warned = |many, few| {
        let (dir, data) = folder(many, few);
        let ran = on_cpu(&dir, &train(&format!("folder:{}", data.display()), &[]));
        assert_eq!(ran.code, Some(0), "{}", ran.err);
        let place = |text: &str| ran.err.find(text);
        if let (Some(warning), Some(device)) = (place("warning: "), place("device: ")) {
            assert!(warning < device, "before training: {}", ran.err);
        }
        ran.err
    };
    let even = warned(6, 6);
    assert!(even.contains("warning: the class bees has training images but no test images"), "{even}");
    assert!(!even.contains("to 1"), "{even}");
    let uneven = warned(20, 2);
    assert!(uneven.contains("ants has 20 training images and bees has 2, 10 to 1"), "{uneven}");
    assert!(!warned(19, 2).contains("to 1"));
    let alone = warned(6, 0);
    assert!(alone.contains("warning: all 6 training images are of one class, ants"), "{alone}");
}

#[test]
fn eval_states_every_class() {
    let (dir, data) = folder(12, 12);
    (0..3).for_each(|n| picture(&data.join(format!("val/bees/{n}.png")), 255 - n));
    let spec = format!("folder:{}", data.display());
    assert_eq!(on_cpu(&dir, &train(&spec, &["--lr", "0.01"])).code, Some(0));
    let ran = on_cpu(&dir, &["eval", "run/base.safetensors", "--data", &spec]);
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    let rows: Vec<Vec<&str>> = ran.out.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[2], ["class", "accuracy", "right", "images"], "{}", ran.out);
    assert_eq!(
        (rows[3][0], rows[3].last(), rows[4][0], rows[4].last()),
        ("ants", Some(&"2"), "bees", Some(&"3"))
    );
    let json = on_cpu(&dir, &["eval", "run/base.safetensors", "--data", &spec, "--json"]);
    let document: Value = serde_json::from_str(&json.out).expect("one document");
    let of = |key: &str| -> Vec<u64> {
        let classes = document["classes"].as_array().expect("classes");
        classes.iter().map(|class| class[key].as_u64().expect("a count")).collect()
    };
    assert_eq!(of("samples"), [2, 3]);
    assert_eq!(of("correct").iter().sum::<u64>(), document["correct"].as_u64().expect("a count"));
    for (class, row) in document["confusion"].as_array().expect("rows").iter().enumerate() {
        let row: Vec<u64> =
            row.as_array().expect("a row").iter().map(|count| count.as_u64().expect("a count")).collect();
        // Two classes, and a column for logits that are no numbers.
        assert_eq!(
            (row.len(), row.iter().sum::<u64>(), row[class]),
            (3, of("samples")[class], of("correct")[class])
        );
        let accuracy = document["classes"][class]["accuracy"].as_f64().expect("a part");
        assert!((accuracy - row[class] as f64 / of("samples")[class] as f64).abs() < 1e-12);
    }
}

#[test]
fn unknown_data_is_wrong_usage_and_missing_data_is_not() {
    let dir = TempDir::new().expect("a folder");
    for spec in ["nosuch", "nosuch:DIR", "", "mnist", "folder", "folder@0:DIR", "folder@x:DIR", "embedded:x"]
    {
        for words in
            [&["train", "lenet"][..], &["eval", "f"], &["prune", "f"], &["compare", "f", "--out", "o"]]
        {
            let ran = on_cpu(&dir, &[words, &["--data", spec]].concat());
            assert_eq!(ran.code, Some(2), "{words:?} {spec}: {}", ran.err);
            assert!(ran.err.contains("--data <DATA>"), "{}", ran.err);
        }
    }
    for spec in ["mnist:nowhere", "cifar10:nowhere", "folder:nowhere", "folder@32:nowhere"] {
        let ran = on_cpu(&dir, &["train", "lenet", "--data", spec]);
        assert_eq!(ran.code, Some(1), "{spec}: {}", ran.err);
    }
}

#[test]
fn quiet_means_nothing_but_errors() {
    // With much to say: warnings, notes of the folder, the device, progress and a result.
    let (dir, data) = folder(20, 2);
    fs::write(data.join("train/ants/note.txt"), "no picture").expect("a file");
    let spec = format!("folder@8:{}", data.display());
    let prune =
        ["prune", "run/base.safetensors", "--epochs", "1", "--batch", "4", "--out", "pruned", "--force"];
    let prune = [&prune[..], &["--data", &spec, "--strength", "0.01", "--snap"]].concat();
    let commands: [&[&str]; 4] = [
        &train(&spec, &[]),
        &prune,
        &["export", "run/base.safetensors", "--onnx", "run/net.onnx"],
        &["report", "run"],
    ];
    for words in commands {
        let ran = on_cpu(&dir, &[words, &["-q"]].concat());
        assert_eq!((ran.code, &*ran.out, &*ran.err), (Some(0), "", ""), "{words:?}");
    }
    // What a command is asked for is no note.
    let eval: &[&str] = &["eval", "run/base.safetensors", "--data", &spec];
    for (words, answer) in [(eval, "accuracy "), (&["info", "run/base.safetensors"], "MACs")] {
        let ran = on_cpu(&dir, &[words, &["-q"]].concat());
        assert!(
            ran.code == Some(0) && ran.err.is_empty() && ran.out.contains(answer),
            "{} {}",
            ran.out,
            ran.err
        );
    }
    let ran = on_cpu(&dir, &["eval", "run/base.safetensors", "--data", &spec, "-q", "--json"]);
    assert!(ran.err.is_empty() && serde_json::from_str::<Value>(&ran.out).is_ok(), "{} {}", ran.out, ran.err);
    let ran = on_cpu(&dir, &["eval", "nowhere", "--data", &spec, "-q"]);
    assert!(ran.code == Some(1) && ran.out.is_empty() && ran.err.lines().count() == 1, "{}", ran.err);
    if std::env::var_os("CENTRIPETAL_SKIP_GPU").is_none() {
        // Nor do drivers say a word that reads like ours.
        let ran = run(&dir, &["eval", "run/base.safetensors", "--data", &spec, "-q", "--device", "gpu"]);
        assert!(
            ran.code == Some(0) && ran.err.is_empty() && ran.out.starts_with("accuracy "),
            "{} {}",
            ran.out,
            ran.err
        );
        let ran = run(&dir, &["eval", "run/base.safetensors", "--data", &spec, "--device", "gpu"]);
        assert!(!ran.err.contains("XDG_RUNTIME_DIR") && ran.err.contains("device: "), "{}", ran.err);
    }
}

#[test]
fn images_too_small_for_a_network_are_told_the_size_that_is_not() {
    let dir = TempDir::new().expect("a folder");
    let at = |path: &str| dir.path().join("data").join(path);
    for path in ["train/a/1.png", "train/b/1.png", "val/a/1.png"] {
        fs::create_dir_all(at(path).parent().expect("a folder")).expect("a folder");
        GrayImage::from_pixel(3, 3, Luma([7])).save(at(path)).expect("a picture");
    }
    let data = format!("folder:{}", at("").display());
    for network in ["lenet", "vgg16", "vgg16_bn"] {
        let ran = on_cpu(&dir, &["train", network, "--data", &data, "--batch", "1", "--epochs", "1"]);
        assert_eq!(ran.code, Some(1), "{}", ran.err);
        let side =
            ran.err.split("expected images of at least ").nth(1).and_then(|rest| rest.split(' ').next());
        let side: usize = side.and_then(|side| side.parse().ok()).unwrap_or_else(|| panic!("{}", ran.err));
        assert!(
            ran.err.contains(&format!(
                "found 3 x 3. Images of a folder are resized by --data folder@{side}:DIR"
            ))
        );
        // That side works, and one less does not.
        let info =
            |side: usize| on_cpu(&dir, &["info", network, "--input", &format!("1x{side}x{side}")]).code;
        assert_eq!((info(side), info(side - 1)), (Some(0), Some(1)), "{network} {side}");
    }
}
