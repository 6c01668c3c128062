//! GPUs that go away in the middle of a run.

use tempfile::TempDir;

use super::kills::{command, done, same, told};
use super::table::Row;
use centripetal::rng::Rng;
use serde_json::Value;

/// Steps of the run.
const STEPS: usize = 18;

/// Loses the device at a random step: the run stops and is resumed on a new one, and must end in the bits of a run that
/// nothing happened to; or it goes on on the CPU, and must end as accurate as that.
pub(crate) fn lost(tries: usize) -> Vec<Row> {
    const RESUMED: &str = "GPU lost (destroyed), run resumed on a new one";
    const MOVED: &str = "GPU lost (destroyed), run goes on on the CPU";
    const BETWEEN: &str = "GPU lost (destroyed) before a cut, run goes on on the CPU";
    if std::env::var("CENTRIPETAL_SKIP_GPU").is_ok_and(|value| value == "1") {
        return [RESUMED, MOVED, BETWEEN].map(|fault| Row::skipped(fault, "CENTRIPETAL_SKIP_GPU=1")).into();
    }
    let dir = TempDir::new().expect("a folder");
    let run = |out: &str, more: &[&str]| {
        let words =
            ["train", "lenet", "--data", "synthetic", "--train-limit", "120", "--test-limit", "50", "--json"];
        let device: &[&str] = if more.contains(&"--device") { &[] } else { &["--device", "gpu"] };
        let words = [&words[..], &["--batch", "20", "--epochs", "3", "--out", out], device, more];
        command(dir.path(), &words.concat()).output().expect("starts")
    };
    let loss = |stdout: &[u8]| -> Result<f64, String> {
        let report: Value = serde_json::from_slice(stdout).map_err(|error| error.to_string())?;
        report["base_loss"].as_f64().ok_or_else(|| format!("no loss in {report}"))
    };
    let whole = run("whole", &[]);
    done(&whole).expect("an undisturbed run ends well");
    let whole = loss(&whole.stdout).expect("a report");
    let close = |stdout: &[u8]| {
        let found = loss(stdout)?;
        let apart = (found - whole).abs() / whole.max(1.0);
        if apart < 2e-2 { Ok(()) } else { Err(format!("loss {found} instead of {whole}")) }
    };
    let mut between = Row::new(BETWEEN);
    let base = run("base", &["--device", "cpu"]);
    between.count(done(&base).and_then(|()| {
        let words =
            ["prune", "base/base.safetensors", "--method", "group-lasso", "--finetune", "1", "--epochs", "1"];
        let data = ["--data", "synthetic", "--train-limit", "120", "--test-limit", "50", "--batch", "20"];
        let loss = [
            "--device",
            "gpu",
            "--rehearse-device-loss",
            "4",
            "--on-device-loss",
            "cpu",
            "--json",
            "--out",
            "cut",
        ];
        let output = command(dir.path(), &[&words[..], &data, &loss].concat()).output().expect("starts");
        done(&output)?;
        let report: Value = serde_json::from_slice(&output.stdout).map_err(|error| error.to_string())?;
        if report["device"]["kind"] == "cpu" { Ok(()) } else { Err(format!("ended on {}", report["device"])) }
    }));
    let mut rng = Rng::new(3);
    let (mut resumed, mut moved) = (Row::new(RESUMED), Row::new(MOVED));
    for index in 0..tries {
        let step = (1 + rng.below(STEPS)).to_string();
        let out = format!("lost-{index}");
        let rehearse = ["--checkpoint-minutes", "0", "--rehearse-device-loss", &step];
        let lost = run(&out, &rehearse);
        resumed.count(told(&lost, "destroyed").and_then(|()| {
            let again = run(&out, &["--resume"]);
            done(&again)
                .and_then(|()| same(&dir.path().join("whole"), &dir.path().join(&out), &["base.safetensors"]))
        }));
        let other = format!("moved-{index}");
        let saved = run(&other, &[&rehearse[..], &["--on-device-loss", "cpu"]].concat());
        moved.count(done(&saved).and_then(|()| close(&saved.stdout)));
    }
    vec![resumed, moved, between]
}
