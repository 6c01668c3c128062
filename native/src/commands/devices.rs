//! `devices`: adapters, which one is taken, and whether their kernels are right.

use centripetal::device::{Device, DeviceChoice, DeviceInfo, Tuning, adapters};
use centripetal::selftest::{self, KernelCheck, Verdict};
use centripetal::{Error, ErrorKind, Result};
use pollster::block_on;
use serde_json::{Value, json};

use super::Scene;
use crate::driver_words::hushed;
use crate::progress::{describe, table};
use crate::tuning;

pub(super) fn run(scene: &Scene) -> Result<()> {
    let adapters = hushed(|| block_on(adapters()));
    let taken = hushed(|| block_on(Device::open(scene.choice)))?;
    let mut text = if adapters.is_empty() {
        "no adapters: no GPU and no software Vulkan driver is installed\n".to_owned()
    } else {
        table(&rows(&adapters))
    };
    let choice = match scene.choice {
        DeviceChoice::Auto => "--device auto takes",
        _ => "taken:",
    };
    text += &format!("\n{choice} {}\n", describe(taken.info()));

    // The CPU and every adapter are tested, or the one that was asked for.
    let mut devices = Vec::new();
    match scene.choice {
        DeviceChoice::Auto => {
            devices.push(("cpu".to_owned(), DeviceChoice::Cpu));
            devices.extend((0..adapters.len()).map(|n| (format!("gpu:{n}"), DeviceChoice::GpuIndex(n))));
        }
        choice => devices.push((taken.info().name.clone(), choice)),
    }
    let mut tests = Vec::new();
    let mut failed = Vec::new();
    for (name, choice) in devices {
        scene.console.note(&format!("testing every kernel on {name}"));
        let tested = hushed(|| block_on(Device::open(choice))).and_then(|device| {
            tuning::load(&device);
            block_on(selftest::run(&device)).map(|checks| (checks, device.tuning()))
        });
        match tested {
            Ok((checks, tuning)) => {
                text += &format!("\n{name}: {}\n{}", verdict(&checks), check_table(&checks));
                text += &choices(&tuning);
                if !passed(&checks) {
                    failed.push(name.clone());
                }
                tests.push(json!({
                    "device": name, "passed": passed(&checks), "kernels": checks, "variants": tuning.choices,
                }));
            }
            Err(error) => {
                text += &format!("\n{name}: could not be tested: {error}\n");
                tests.push(json!({"device": name, "passed": false, "error": error.to_string()}));
                failed.push(name);
            }
        }
    }
    let listed: Vec<_> = adapters
        .iter()
        .enumerate()
        .map(|(number, info)| {
            json!({
                "number": number,
                "device": format!("gpu:{number}"),
                "name": info.name,
                "backend": info.backend,
                "driver": info.driver,
                "kind": info.kind,
            })
        })
        .collect();
    let document: Value = json!({"adapters": listed, "device": taken.info(), "selftest": tests});
    scene.console.answer(&text, &document)?;
    if failed.is_empty() {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Device, "testing the kernels")
        .expected("every device to compute what the reference does")
        .found(format!("failures on {}", failed.join(", ")))
        .next("Do not train there; use another --device, or another driver"))
}

/// The variants measured on a device, if there are any.
fn choices(tuning: &Tuning) -> String {
    if tuning.choices.is_empty() {
        return String::new();
    }
    let rows = tuning.choices.iter().map(|(class, shader)| vec![class.clone(), shader.clone()]);
    let header = ["measured for", "fastest variant"].map(str::to_owned).to_vec();
    format!("\n{}", table(&std::iter::once(header).chain(rows).collect::<Vec<_>>()))
}

fn passed(checks: &[KernelCheck]) -> bool {
    checks.iter().all(|check| check.verdict == Verdict::Passed)
}

fn verdict(checks: &[KernelCheck]) -> String {
    let good = checks.iter().filter(|check| check.verdict == Verdict::Passed).count();
    let cases: usize = checks.iter().map(|check| check.cases).sum();
    format!("{good} of {} kernels agree with their reference, over {cases} cases", checks.len())
}

fn check_table(checks: &[KernelCheck]) -> String {
    let header = ["kernel", "shader", "cases", "ULP", "NMSE", "worst", ""];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    for check in checks {
        let verdict = match check.verdict {
            Verdict::Passed => "ok",
            Verdict::Failed => "FAILED",
        };
        rows.push(vec![
            check.kernel.to_owned(),
            check.shader.to_owned(),
            check.cases.to_string(),
            check.max_ulp.to_string(),
            format!("{:.1e}", check.nmse),
            format!("{:.1e}", check.worst),
            verdict.to_owned(),
        ]);
    }
    table(&rows)
}

fn rows(adapters: &[DeviceInfo]) -> Vec<Vec<String>> {
    let mut rows = vec![["device", "name", "backend", "driver", "kind"].map(str::to_owned).to_vec()];
    for (number, info) in adapters.iter().enumerate() {
        let kind = serde_json::to_value(info.kind).ok();
        rows.push(vec![
            format!("gpu:{number}"),
            info.name.clone(),
            info.backend.clone(),
            info.driver.clone(),
            kind.as_ref().and_then(|kind| kind.as_str()).unwrap_or_default().to_owned(),
        ]);
    }
    rows
}
