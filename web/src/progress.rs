//! The contraction of a run whose learning rate and strength the visitor changes as it goes.

use centripetal::Result;
use centripetal::optim::forecast::{AUTO_TARGET, Contraction, LOSSLESS, Verdict, assess, auto_strength};
use serde_json::Value;

use crate::js::record;
use crate::settings::{Settings, Strength};

/// Intervals of a curve.
const POINTS: u64 = 200;

/// What C-SGD has done and will do to the differences inside clusters, whatever the data.
#[derive(Debug, Clone)]
pub(crate) struct Outlook {
    contraction: Contraction,
    /// `(steps since C-SGD began, log)` so far.
    past: Vec<(u64, f64)>,
    done: u64,
}

impl Outlook {
    pub(crate) fn new(settings: &Settings) -> Outlook {
        let contraction = Contraction::new(settings.momentum, settings.sgd().direction);
        Outlook { contraction, past: vec![(0, 0.0)], done: 0 }
    }

    pub(crate) fn step(&mut self, settings: &Settings, strength: f64) {
        self.contraction.step(settings.lr, strength);
        self.done += 1;
        if self.done.is_multiple_of(settings.collapse_steps.div_ceil(POINTS)) {
            self.past.push((self.done, self.log()));
        }
    }

    /// Natural logarithm of what is left of a difference.
    pub(crate) fn log(&self) -> f64 {
        self.contraction.log_shrink()
    }

    /// The strength to go on with: the one that is set, or the smallest that makes up what is missing in the steps left.
    /// Where none does, `current` stays, or the strongest that is safe if there is none yet.
    ///
    /// # Errors
    /// [`centripetal::ErrorKind::Argument`] for settings that no run can have.
    pub(crate) fn strength(&self, settings: &Settings, current: Option<f64>) -> Result<f64> {
        if let Strength::Fixed(strength) = settings.strength {
            return Ok(strength);
        }
        let left = settings.collapse_steps.saturating_sub(self.done);
        let missing = AUTO_TARGET + self.log();
        if let Some(current) = current.filter(|_| left == 0 || missing <= 0.0) {
            return Ok(current);
        }
        let sgd = settings.sgd();
        let schedule = settings.schedule_of(left.max(1));
        match (auto_strength(&schedule, sgd.momentum, sgd.direction, 0.0, missing), current) {
            (Ok(strength), _) => Ok(strength),
            (Err(_), Some(current)) => Ok(current),
            (Err(error), None) => Err(error),
        }
    }

    /// The TypeScript interface `Forecast`: the course so far, and on with `strength`.
    ///
    /// # Errors
    /// As [`Outlook::strength`].
    pub(crate) fn forecast(&self, settings: &Settings, strength: f64) -> Result<Value> {
        let total = settings.collapse_steps;
        let stride = total.div_ceil(POINTS);
        let mut future = self.contraction.clone();
        let mut curve = self.past.clone();
        for step in self.done + 1..=total {
            future.step(settings.lr, strength);
            if step.is_multiple_of(stride) || step == total {
                curve.push((step, future.log_shrink()));
            }
        }
        let left = total.saturating_sub(self.done);
        let missing = LOSSLESS + self.log();
        let end = future.log_shrink();
        let enough = || {
            let sentence = format!(
                "After {total} steps differences will be e^{:.1} times smaller: filters of a cluster will be identical.",
                -end
            );
            ("enough", sentence)
        };
        let (verdict, sentence) = if left == 0 || missing <= 0.0 {
            if missing <= 0.0 {
                ("enough", "The filters of every cluster have become identical.".to_owned())
            } else {
                ("too-short", format!("The run is over and {missing:.1} nats short: train longer."))
            }
        } else {
            let sgd = settings.sgd();
            let schedule = settings.schedule_of(left);
            let (_, verdict) = assess(&schedule, sgd.momentum, sgd.direction, strength, 0.0, missing)?;
            match verdict {
                Verdict::Enough => enough(),
                _ if end <= -LOSSLESS && !matches!(verdict, Verdict::Unstable { .. }) => enough(),
                Verdict::Insufficient { needed } => (
                    "insufficient",
                    format!(
                        "With strength {strength:.3} differences shrink by e^{:.1} only, e^{LOSSLESS} is needed: the \
                         cut will lose something. Strength {needed:.3} would do.",
                        -end
                    ),
                ),
                Verdict::TooShort { steps } => (
                    "too-short",
                    format!(
                        "No strength makes filters identical in the {left} steps left; about {steps} are needed."
                    ),
                ),
                Verdict::Unstable { limit } => (
                    "unstable",
                    format!(
                        "With strength {strength:.3} differences grow at this learning rate; stay below {limit:.3}."
                    ),
                ),
            }
        };
        Ok(
            record! { "curve": curve.iter().map(|&(step, log)| Value::from([step as f64, log])).collect::<Value>(), "strength": strength, "verdict": verdict, "sentence": sentence },
        )
    }
}
