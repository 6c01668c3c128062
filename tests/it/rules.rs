//! Rules of the repository that no compiler checks.

use std::fs;
use std::path::{Path, PathBuf};

/// Largest file, in bytes: the repository stays quick to clone.
const MAX_BYTES: u64 = 1_000_000;

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub(crate) fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every file under `folder`, but for what is built or hidden.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    for entry in entries {
        let path = entry.unwrap_or_else(|error| panic!("{}: {error}", folder.display())).path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let built = ["target", "node_modules", "dist", "package", "pkg", "test-results"];
        if name.starts_with('.') || built.contains(&&*name) {
            continue;
        }
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn with_extension<'a>(files: &'a [PathBuf], extension: &str) -> impl Iterator<Item = &'a PathBuf> {
    files.iter().filter(move |path| path.extension().is_some_and(|found| found == extension))
}

/// The lines of a source without its tests and without comments, numbered from 1.
fn code(source: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = (1..).zip(source.lines()).take_while(|(_, line)| !line.starts_with("#[cfg(test)]"));
    lines.filter(|(_, line)| !line.trim_start().starts_with("//"))
}

#[test]
fn the_library_does_no_input_or_output() {
    let banned = ["std::fs", "std::net", "println!", "eprintln!", "print!(", "unsafe ", "std::process"];
    for path in with_extension(&files(&root().join("src")), "rs") {
        for (number, line) in code(&read(path)) {
            for word in banned {
                assert!(!line.contains(word), "{}:{number}: {word} in the library: {line}", path.display());
            }
        }
    }
}

#[test]
fn every_operator_is_listed() {
    let list = read(&root().join("src/ops/mod.rs"));
    for path in files(&root().join("src/ops")) {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        assert!(
            stem == "mod" || list.contains(&format!("pub mod {stem};")),
            "{stem} is not in src/ops/mod.rs"
        );
    }
}

#[test]
fn every_kernel_is_listed() {
    let mut declared = 0;
    for path in with_extension(&files(&root().join("src")), "rs") {
        for (number, line) in code(&read(path)) {
            let Some((name, _)) =
                line.strip_prefix("pub static ").and_then(|rest| rest.split_once(": Kernel = "))
            else {
                continue;
            };
            declared += 1;
            let listed = centripetal::ops::KERNELS.iter().any(|kernel| kernel.name == name.to_lowercase());
            assert!(listed, "{}:{number}: {name} is not in ops::KERNELS", path.display());
        }
    }
    assert_eq!(declared, centripetal::ops::KERNELS.len(), "kernels listed");
}

#[test]
fn no_file_is_large() {
    let data = root().join("src/data/embedded");
    for path in files(root()) {
        let bytes = fs::metadata(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).len();
        assert!(bytes <= MAX_BYTES || path.starts_with(&data), "{}: {bytes} bytes", path.display());
    }
}

#[test]
fn only_the_device_and_the_page_know_their_target() {
    for path in with_extension(&files(&root().join("src")), "rs") {
        let here = path.starts_with(root().join("src/device"));
        for (number, line) in code(&read(path)) {
            assert!(here || !line.contains("target_arch"), "{}:{number}: {line}", path.display());
        }
    }
}

#[test]
fn only_the_web_crate_knows_the_browser() {
    for manifest in ["Cargo.toml", "native/Cargo.toml"] {
        let text = read(&root().join(manifest));
        for word in ["wasm-bindgen", "js-sys", "web-sys"] {
            assert!(!text.contains(word), "{manifest}: {word}");
        }
    }
}

#[test]
fn the_page_knows_every_model_of_the_zoo() {
    let names: Vec<String> = centripetal::models::NAMES.iter().map(|name| format!("'{name}'")).collect();
    let line = format!("export const MODELS = [{}] as const;", names.join(", "));
    assert!(
        read(&root().join("web/client/session.ts")).contains(&line),
        "web/client/session.ts needs: {line}"
    );
}
