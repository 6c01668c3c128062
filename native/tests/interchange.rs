//! The command with networks of other tools: what files are, where their parts lie, and what travels with a network.

use std::fs;
use std::process::{Command, Stdio};

use centripetal::Shape;
use centripetal::formats::state_dict;
use centripetal::model::{Model, TensorData, Tensors};
use centripetal::models::{self, ModelConfig};
use serde_json::{Value, json};
use tempfile::TempDir;

const SMALL: &[&str] =
    &["--data", "synthetic", "--train-limit", "120", "--test-limit", "50", "--batch", "20"];

/// Exit code, stdout and stderr.
fn run(dir: &TempDir, words: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_centripetal"));
    command.current_dir(dir.path()).args(words).args(["--device", "cpu"]).stdin(Stdio::null());
    command.env("XDG_RUNTIME_DIR", dir.path()).env("XDG_CACHE_HOME", dir.path().join("cache"));
    let output = command.output().expect("starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    let (out, err) = (text(output.stdout), text(output.stderr));
    assert!(!err.contains("panicked"), "{err}");
    (output.status.code(), out, err)
}

#[track_caller]
fn ok(dir: &TempDir, words: &[&str]) -> (String, String) {
    let (code, out, err) = run(dir, words);
    assert_eq!(code, Some(0), "{words:?}: {err}");
    (out, err)
}

#[track_caller]
fn json(dir: &TempDir, words: &[&str]) -> Value {
    let (out, _) = ok(dir, &[words, &["--json"]].concat());
    serde_json::from_str(&out).unwrap_or_else(|error| panic!("one document: {error}: {out}"))
}

#[track_caller]
fn fails(dir: &TempDir, words: &[&str], parts: &[&str]) -> String {
    let (code, _, err) = run(dir, words);
    assert_eq!(code, Some(1), "{words:?}: {err}");
    for part in parts {
        assert!(err.contains(part), "{part} in {err}");
    }
    err
}

fn write(dir: &TempDir, path: &str, content: &[u8]) {
    let path = dir.path().join(path);
    fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    fs::write(path, content).expect("writes");
}

fn read(dir: &TempDir, path: &str) -> Vec<u8> {
    fs::read(dir.path().join(path)).expect("reads")
}

#[test]
fn statistics_and_class_names_travel_with_a_network() {
    let dir = TempDir::new().expect("a folder");
    let trained = json(&dir, &[&["train", "lenet", "--epochs", "1", "--out", "run"], SMALL].concat());
    let base = "run/base.safetensors";
    for (option, file) in
        [("--onnx", "a.onnx"), ("--onnx", "b.onnx"), ("--safetensors", "a.st"), ("--safetensors", "b.st")]
    {
        let (out, _) = ok(&dir, &["export", base, option, file]);
        assert!(out.contains("float32 [batch, 3, ") && out.contains("with mean [0.5, 0.5, 0.5]"), "{out}");
    }
    assert_eq!(read(&dir, "a.onnx"), read(&dir, "b.onnx"), "the same checkpoint, the same bytes");
    assert_eq!(read(&dir, "a.st"), read(&dir, "b.st"), "the same checkpoint, the same bytes");
    let evaluate = |checkpoint: &str| {
        json(&dir, &["eval", checkpoint, "--data", "synthetic", "--test-limit", "50", "--batch", "20"])
    };
    let known = evaluate(base);
    assert_eq!(known["accuracy"], trained["base_accuracy"]);
    let import = |words: &[&str], out: &str| json(&dir, &[&["import"], words, &["--out", out]].concat());
    let (names, _) = ok(&dir, &["info", base]);
    assert!(names.contains("images: (pixel / 255 - mean)") && names.contains("classes: "), "{names}");
    let classes = json(&dir, &["info", base])["checkpoint"]["provenance"]["classes"].clone();
    assert!(classes.as_array().is_some_and(|classes| !classes.is_empty()));
    for (words, out) in [(&["a.onnx"][..], "from-onnx"), (&["a.st", "--model", "lenet"], "from-state-dict")] {
        let imported = import(words, out);
        assert_eq!(imported["normalization"], json!({"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}));
        assert_eq!(imported["normalization_source"], "described");
        assert_eq!(imported["class_names"], classes);
        let again = evaluate(&format!("{out}/base.safetensors"));
        for what in ["accuracy", "correct"] {
            assert_eq!(again[what], known[what], "{words:?}");
        }
        let given = ["--mean", "0,0,0", "--std", "1,1,1", "--force"];
        let given = import(&[words, &given].concat(), out);
        assert_eq!(given["normalization_source"], "given");
        assert_eq!(given["normalization"]["std"], json!([1.0, 1.0, 1.0]));
    }
}

#[test]
fn what_a_file_is_its_content_says() {
    let dir = TempDir::new().expect("a folder");
    ok(&dir, &[&["train", "lenet", "--epochs", "1", "--out", "run"], SMALL].concat());
    ok(&dir, &["export", "run/base.safetensors", "--onnx", "a.onnx", "--safetensors", "a.safetensors"]);
    fs::rename(dir.path().join("a.onnx"), dir.path().join("network.bin")).expect("renames");
    fs::rename(dir.path().join("a.safetensors"), dir.path().join("weights.onnx")).expect("renames");
    ok(&dir, &["import", "network.bin", "--out", "network"]);
    ok(&dir, &["import", "weights.onnx", "--model", "lenet", "--out", "weights"]);
    fails(&dir, &["import", "weights.onnx", "--out", "x"], &["a safetensors file, and no --model"]);
    fails(&dir, &["import", "run/base.safetensors", "--out", "x"], &["a checkpoint, which needs no import"]);
    for (file, content, parts) in [
        ("a.pth", &b"PK\x03\x04\0\0archive/data.pkl"[..], ["PyTorch's own format", "torch.onnx.export"]),
        ("b.onnx", b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", ["PyTorch's own format", "save_file"]),
        ("c.h5", b"\x89HDF\r\n\x1a\n\0\0", ["HDF5", "keras"]),
        ("d.tflite", b"\x1c\0\0\0TFL3\0\0", ["TensorFlow Lite", "tf2onnx"]),
        ("e.onnx", b"version https://git-lfs.github.com/spec/v1\noid", ["Git LFS", "git lfs pull"]),
        ("f.safetensors", b"<!DOCTYPE html>\n<html>", ["a web page", "Download"]),
        ("g.onnx", b"", ["no bytes at all", "again"]),
        ("h.pth", b"something else", ["another format", "ONNX"]),
    ] {
        write(&dir, file, content);
        let model = if file.ends_with(".pth") { &["--model", "lenet"][..] } else { &[] };
        fails(&dir, &[&["import", file, "--out", "x"], model].concat(), &parts);
    }
    assert!(!dir.path().join("x").exists());
}

/// An ONNX file whose only weights are in the file `location`; its outputs are `y` and the map before it.
fn onnx_with_weights_in(location: &str) -> Vec<u8> {
    let varint = |length: usize| {
        if length < 128 { vec![length as u8] } else { vec![length as u8 | 128, (length >> 7) as u8] }
    };
    let bytes = |field: u8, content: &[u8]| [&[field << 3 | 2], &varint(content.len())[..], content].concat();
    let text = |field: u8, content: &str| bytes(field, content.as_bytes());
    let int = |field: u8, value: u8| vec![field << 3, value];
    let node = |op: &str, from: &[&str], to: &str| {
        let inputs: Vec<u8> = from.iter().flat_map(|name| text(1, name)).collect();
        bytes(1, &[inputs, text(2, to), text(4, op)].concat())
    };
    let entry = bytes(13, &[text(1, "location"), text(2, location)].concat());
    let dims: Vec<u8> = [2, 1, 1, 1].iter().flat_map(|&side| int(1, side)).collect();
    let tensor = [dims, int(2, 1), text(8, "w"), entry, vec![14 << 3, 1]].concat();
    let shape: Vec<u8> = [1, 1, 4, 4].iter().flat_map(|&side| bytes(1, &int(1, side))).collect();
    let kind = bytes(1, &[int(1, 1), bytes(2, &shape)].concat());
    let graph = [
        node("Conv", &["x", "w"], "z"),
        node("GlobalAveragePool", &["z"], "y"),
        bytes(5, &tensor),
        bytes(11, &[text(1, "x"), bytes(2, &kind)].concat()),
        bytes(12, &text(1, "y")),
        bytes(12, &text(1, "z")),
    ];
    [int(1, 8), bytes(7, &graph.concat()), bytes(8, &[text(1, ""), int(2, 17)].concat())].concat()
}

#[test]
fn a_missing_file_of_weights_is_named_with_where_it_was_looked_for() {
    let dir = TempDir::new().expect("a folder");
    write(&dir, "net/model.onnx", &onnx_with_weights_in("model.onnx.data"));
    let error = fails(
        &dir,
        &["import", "net/model.onnx", "--out", "x"],
        &["net/model.onnx.data", "keeps its numbers", "looked for in ", "copy or download both"],
    );
    assert!(!error.contains("operators"), "{error}");
    write(&dir, "net/model.onnx.data", &[0; 4]);
    let error = fails(&dir, &["import", "net/model.onnx", "--out", "x"], &["of which 4 are there"]);
    assert!(!error.contains("operators"), "{error}");
    write(&dir, "net/model.onnx.data", &[0; 8]);
    let (_, notes) = ok(&dir, &["import", "net/model.onnx", "--out", "x"]);
    assert!(notes.contains("[\"y\", \"z\"]") && notes.contains("--output NAME"), "{notes}");
    fails(&dir, &["import", "net/model.onnx", "--output", "no", "--out", "x"], &["\"no\"", "--output"]);
    fails(&dir, &["import", "net/model.onnx", "--output", "z", "--out", "x"], &["one number a class"]);
}

#[test]
fn weights_beside_an_onnx_file_are_read_from_its_folder_alone() {
    let dir = TempDir::new().expect("a folder");
    write(&dir, "secret.bin", &[0; 8]);
    write(&dir, "net/weights.bin", &[0; 8]);
    write(&dir, "net/good.onnx", &onnx_with_weights_in("weights.bin"));
    write(&dir, "net/up.onnx", &onnx_with_weights_in("../secret.bin"));
    write(&dir, "net/gone.onnx", &onnx_with_weights_in("gone.bin"));
    ok(&dir, &["import", "net/good.onnx", "--out", "good"]);
    fails(&dir, &["import", "net/up.onnx", "--out", "x"], &["../secret.bin", "not in the folder"]);
    fails(&dir, &["import", "net/gone.onnx", "--out", "x"], &["gone.bin"]);
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("../secret.bin", dir.path().join("net/link.bin")).expect("a link");
        write(&dir, "net/link.onnx", &onnx_with_weights_in("link.bin"));
        fails(&dir, &["import", "net/link.onnx", "--out", "x"], &["a link that leads out of its folder"]);
    }
}

#[cfg(unix)]
#[test]
fn links_of_a_cache_are_followed_and_links_to_elsewhere_are_not() {
    let dir = TempDir::new().expect("a folder");
    let link = |to: &str, at: &str| {
        let at = dir.path().join(at);
        fs::create_dir_all(at.parent().expect("a folder")).expect("a folder");
        std::os::unix::fs::symlink(to, at).expect("a link");
    };
    let import = |file: &str| run(&dir, &["import", file, "--out", "out", "--force"]);
    let taken = |file: &str| assert_eq!(import(file).0, Some(0), "{file}: {}", import(file).2);
    let refused = |file: &str, part: &str| {
        let (code, _, err) = import(file);
        assert!(code == Some(1) && err.contains(part), "{file}: {err}");
    };
    let network = onnx_with_weights_in("weights.bin");
    let out_of_it = "a link that leads out of its folder";
    write(&dir, "outside/secret.bin", &[0; 8]);
    write(&dir, "outside/model.onnx", &network);

    // A Hugging Face cache: both are links into the folder of blobs, also from a folder within the snapshot.
    write(&dir, "hub/models--a--b/blobs/0a", &network);
    write(&dir, "hub/models--a--b/blobs/0b", &[0; 8]);
    link("../../blobs/0a", "hub/models--a--b/snapshots/main/model.onnx");
    link("../../blobs/0b", "hub/models--a--b/snapshots/main/weights.bin");
    link("../../../blobs/0a", "hub/models--a--b/snapshots/main/onnx/model.onnx");
    link("../../../blobs/0b", "hub/models--a--b/snapshots/main/onnx/weights.bin");
    taken("hub/models--a--b/snapshots/main/model.onnx");
    taken("hub/models--a--b/snapshots/main/onnx/model.onnx");
    // A link to the file itself, whose numbers are beside it.
    write(&dir, "store/model.onnx", &network);
    write(&dir, "store/weights.bin", &[0; 8]);
    link("../store/model.onnx", "links/model.onnx");
    taken("links/model.onnx");

    // Numbers elsewhere: by a link, by a chain of links, and where the network is a link too.
    write(&dir, "plain/model.onnx", &network);
    link("../outside/secret.bin", "plain/weights.bin");
    refused("plain/model.onnx", out_of_it);
    link("../outside/model.onnx", "both/model.onnx");
    link("../outside/secret.bin", "both/weights.bin");
    refused("both/model.onnx", out_of_it);
    for (name, to) in [("c", "../../../../outside/secret.bin"), ("d", "../../blobs/0c")] {
        let folder = format!("hub/models--{name}");
        write(&dir, &format!("{folder}/blobs/0a"), &network);
        link("../../../outside/secret.bin", &format!("{folder}/blobs/0c"));
        link("../../blobs/0a", &format!("{folder}/snapshots/main/model.onnx"));
        link(to, &format!("{folder}/snapshots/main/weights.bin"));
        refused(&format!("{folder}/snapshots/main/model.onnx"), out_of_it);
    }
    // Blobs without snapshots are any folder, and those of another cache are not this one's.
    link("../hub/models--a--b/blobs/0a", "other/model.onnx");
    link("../hub/models--a--b/blobs/0b", "other/weights.bin");
    refused("other/model.onnx", out_of_it);
    link("../outside/nowhere.bin", "gone/weights.bin");
    write(&dir, "gone/model.onnx", &network);
    refused("gone/model.onnx", "a link to what is not there");
}

/// The tensors of a zoo model with random weights, their names behind `prefix`.
fn weights(name: &str, config: &ModelConfig, prefix: &str) -> Tensors {
    let model = Model::random(models::build(name, config).expect("a zoo model"), 1);
    model.tensors.into_iter().map(|(key, tensor)| (format!("{prefix}{key}"), tensor)).collect()
}

fn save(dir: &TempDir, path: &str, tensors: &Tensors) {
    write(dir, path, &state_dict::write(tensors, None).expect("writes"));
}

#[test]
fn images_are_those_of_the_first_filters_and_of_the_usual_size() {
    let dir = TempDir::new().expect("a folder");
    for (name, width, channels, side) in [
        ("mobilenet_v1", "0.1", 3, 224),
        ("mobilenet_v2", "0.05", 3, 224),
        ("mobilenet_v2", "0.05", 1, 224),
        ("resnet20", "0.25", 3, 32),
        ("lenet", "1", 1, 28),
        // The linear layer says which.
        ("lenet", "1", 3, 32),
    ] {
        let width_of = width.parse().expect("a number");
        let config = ModelConfig { width: width_of, ..ModelConfig::new(Shape::new(channels, side, side), 5) };
        save(&dir, "w.safetensors", &weights(name, &config, ""));
        let words = [
            "import",
            "w.safetensors",
            "--model",
            name,
            "--width",
            width,
            "--shortcut",
            "b",
            "--out",
            "out",
            "--force",
        ];
        let imported = json(&dir, &words);
        assert_eq!(imported["input"], json!([channels, side, side]), "{name}");
        assert_eq!(imported["classes"], 5, "{name}");
        let (_, notes) = ok(&dir, &words);
        let told = format!("images of {} are assumed", Shape::new(channels, side, side));
        assert!(notes.contains(&told) && notes.contains("--input"), "{name}: {notes}");
    }
    let sized =
        ["import", "w.safetensors", "--model", "lenet", "--input", "3x32x32", "--out", "out", "--force"];
    let (_, notes) = ok(&dir, &sized);
    assert!(!notes.contains("assumed"), "{notes}");
}

#[test]
fn prefixes_are_left_out_and_named() {
    let dir = TempDir::new().expect("a folder");
    let config = ModelConfig::new(Shape::new(1, 28, 28), 5);
    let import = ["import", "w.safetensors", "--model", "lenet", "--out", "out", "--force"];
    for prefix in ["module.", "_orig_mod.", "module._orig_mod.", "model.backbone.", "encoder.", "net."] {
        save(&dir, "w.safetensors", &weights("lenet", &config, prefix));
        let (_, notes) = ok(&dir, &import);
        assert!(notes.contains(&format!("{prefix:?} in front of the tensors' names")), "{notes}");
    }
    let mut headless = weights("lenet", &config, "backbone.");
    let head = headless.remove("backbone.fc.weight").expect("a head");
    headless.insert("head.weight".to_owned(), head);
    save(&dir, "w.safetensors", &headless);
    fails(
        &dir,
        &[&import[..], &["--classes", "5"]].concat(),
        &["\"backbone.\"", "fc.weight is missing", "head.weight"],
    );
    // Yes-or-no answers of one number are no classes.
    let mut single = weights("lenet", &config, "");
    single.insert("fc.weight".to_owned(), TensorData { dims: vec![1, 784], data: vec![0.5; 784] });
    single.insert("fc.bias".to_owned(), TensorData { dims: vec![1], data: vec![0.5] });
    save(&dir, "w.safetensors", &single);
    fails(&dir, &import, &["at least two classes", "yes-or-no", "softmax of [0, z]"]);
}
