//! `devices`: adapters, which one is taken, and whether their kernels are right.

use centripetal::Result;
use centripetal::device::{Device, DeviceChoice, DeviceInfo, adapters};
use pollster::block_on;
use serde_json::json;

use super::Scene;
use crate::progress::{describe, table};

pub(super) fn run(scene: &Scene) -> Result<()> {
    let adapters = block_on(adapters());
    let taken = block_on(Device::open(scene.choice))?;
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
    scene.console.result(&text, &json!({"adapters": listed, "device": taken.info()}))
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
