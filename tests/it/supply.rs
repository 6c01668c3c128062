//! What is linked in: licences, sources and duplicates of all dependencies on all platforms. The lists are those of
//! `.deny.toml`, by which cargo-deny checks the same and the advisories.

use crate::rules::{files, read, root};
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// What is built beside the workspace: the fuzz targets and the tool that makes the page's module.
const BESIDE: [&str; 2] = ["tests/fuzz/Cargo.toml", "web/bind/Cargo.toml"];

/// The packages in the lock file beside `manifest` as cargo describes them.
fn packages(manifest: &str) -> Vec<serde_json::Value> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .args(["metadata", "--format-version", "1", "--locked", "--manifest-path", manifest])
        .current_dir(root());
    let output = cargo.output().unwrap_or_else(|error| panic!("cargo: {error}"));
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("cargo metadata: {error}"));
    metadata["packages"].as_array().unwrap_or_else(|| panic!("no packages")).clone()
}

/// The quoted words between `start` and the next `]` of `.deny.toml`; of a table's row, those at `crate`.
fn listed(start: &str) -> Vec<String> {
    let text = read(&root().join(".deny.toml"));
    let list = text.split_once(start).and_then(|(_, rest)| rest.split_once("\n]").or(rest.split_once(']')));
    let Some((list, _)) = list else { panic!("no {start} in .deny.toml") };
    let list = list.split_once(']').map_or(list, |(list, _)| list);
    let quoted = |line: &str| line.split('"').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
    if list.contains("crate = ") {
        return list.lines().filter_map(|line| quoted(line).into_iter().next()).collect();
    }
    quoted(list)
}

/// Whether the SPDX expression `text` can be satisfied by `allowed` alone.
fn satisfied(text: &str, allowed: &[String]) -> bool {
    fn all(words: &mut std::iter::Peekable<std::vec::IntoIter<String>>, allowed: &[String]) -> bool {
        let mut any = false;
        loop {
            // AND binds closer than OR.
            let mut both = true;
            loop {
                let word = words.next().unwrap_or_default();
                let mut known = if word == "(" { all(words, allowed) } else { allowed.contains(&word) };
                if words.next_if(|word| word == "WITH").is_some() {
                    // An exception allows more, but nobody has looked at it.
                    words.next();
                    known = false;
                }
                both &= known;
                if words.next_if(|word| word == "AND").is_none() {
                    break;
                }
            }
            any |= both;
            if words.next_if(|word| word == "OR").is_none() {
                words.next_if(|word| word == ")");
                return any;
            }
        }
    }
    let spaced = text.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<String> = spaced.split_whitespace().map(str::to_owned).collect();
    all(&mut words.into_iter().peekable(), allowed)
}

#[test]
fn dependencies_have_known_licences_and_come_from_one_registry() {
    let allowed = listed("\nallow = [");
    assert!(allowed.contains(&"MIT".to_owned()), "{allowed:?}");
    for (text, expected) in [
        ("MIT OR GPL-3.0", true),
        ("MIT AND GPL-3.0", false),
        ("(GPL-3.0 OR MIT) AND Zlib", true),
        ("GPL-3.0/LGPL-2.1", false),
        ("Apache-2.0 WITH LLVM-exception", false),
        ("", false),
    ] {
        assert_eq!(satisfied(text, &allowed), expected, "{text:?}");
    }
    let ours = packages("Cargo.toml");
    assert!(ours.len() > 50, "{} packages", ours.len());
    let beside = BESIDE.map(packages);
    assert!(beside.iter().all(|packages| packages.len() > 10));
    // That of LLVM, of which libFuzzer is a part; permissive too, and shipped with nothing.
    let fuzzing = [&allowed[..], &["NCSA".to_owned()]].concat();
    for package in beside.iter().flatten().chain(&ours) {
        let licence = package["license"].as_str().unwrap_or_default();
        let allowed = if package["name"] == "libfuzzer-sys" { &fuzzing } else { &allowed };
        assert!(satisfied(licence, allowed), "{}: licence {licence:?}", package["name"]);
        let source = package["source"].as_str().unwrap_or("here");
        let known = ["here", "registry+https://github.com/rust-lang/crates.io-index"];
        assert!(known.contains(&source), "{}: from {source}", package["name"]);
    }
}

#[test]
fn unsafe_code_of_ours_is_one_call() {
    let has = |file: &str, text: &str| assert!(read(&root().join(file)).contains(text), "{file}: no {text}");
    has("Cargo.toml", "[workspace.lints.rust]\nunsafe_code = \"deny\"");
    for manifest in BESIDE {
        has(manifest, "[lints.rust]\nunsafe_code = \"forbid\"");
    }
    for manifest in ["Cargo.toml", "native/Cargo.toml", "web/Cargo.toml", "web/lessons/module/Cargo.toml"] {
        has(manifest, "[lints]\nworkspace = true");
    }
    for crate_root in ["src/lib.rs", "web/src/lib.rs", "web/lessons/module/src/lib.rs"] {
        has(crate_root, "\n#![forbid(unsafe_code)]\n");
    }
    // The rest denies it too, but for one call of wgpu: the word stands nowhere else.
    let mut ours = files(root());
    ours.retain(|file| file.extension().is_some_and(|extension| extension == "rs"));
    assert!(ours.len() > 100, "{} files", ours.len());
    let word = ["un", "safe"].concat();
    let uses: Vec<String> = ours
        .iter()
        .flat_map(|file| {
            let lines = read(file);
            let code = |line: &str| line.split("//").next().unwrap_or_default().trim().to_owned();
            let found = lines.lines().map(code).filter(|line| line.contains(&word)).collect::<Vec<_>>();
            found
                .into_iter()
                .map(|line| format!("{}: {line}", file.strip_prefix(root()).unwrap_or(file).display()))
        })
        .filter(|line| !line.contains("#![forbid(") && !line.contains("'unsafe-inline'"))
        // The two tests that look for the word.
        .filter(|line| {
            !["tests/it/supply.rs: ", "tests/it/rules.rs: "].iter().any(|file| line.starts_with(file))
        })
        .collect();
    let expected = [
        "native/src/pipelines.rs: #[allow(unsafe_code, reason = \"wgpu trusts its caller that the bytes are those which it once gave\")]",
        "native/src/pipelines.rs: unsafe { gpu.create_pipeline_cache(&descriptor) }",
    ];
    assert_eq!(uses, expected);
}

#[test]
fn no_crate_is_there_twice_but_for_those_listed() {
    let mut versions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for package in packages("Cargo.toml") {
        let text = |name: &str| package[name].as_str().unwrap_or_default().to_owned();
        versions.entry(text("name")).or_default().insert(text("version"));
    }
    let doubled: Vec<&String> =
        versions.iter().filter(|(_, versions)| versions.len() > 1).map(|(name, _)| name).collect();
    let mut skipped: Vec<String> = listed("\nskip = [");
    skipped.iter_mut().for_each(|entry| entry.truncate(entry.find('@').unwrap_or(entry.len())));
    assert_eq!(doubled, skipped.iter().collect::<Vec<_>>(), "twice in Cargo.lock; skipped in .deny.toml");
}
