//! Learning-rate schedules, by step and not by epoch, so that a resumed run continues where it was.
//!
//! `lr(t) = base_lr * warmup(t) * decay(t)` at step t = 0, 1, ..., total_steps - 1, with
//!
//! - `warmup(t) = min(1, (t + 1) / warmup_steps)`: `LinearLR(start_factor=1/w, total_iters=w-1)`;
//! - constant: `decay(t) = 1`;
//! - step: `decay(t) = gamma ^ (number of milestones <= t)`: `MultiStepLR`;
//! - cosine: `base_lr * decay(t) = final_lr + (base_lr - final_lr) * (1 + cos(pi * p)) / 2`,
//!   `p = (t - warmup_steps) / (total_steps - warmup_steps)`: `CosineAnnealingLR` begun after the warm-up.

use std::f64::consts::PI;

use serde::Serialize;
use serde_json::Value;

use crate::error::{Error, ErrorKind, Result};
use crate::from_json;
use crate::json::{self, FromJson, Read};

/// A learning rate for every step of a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Schedule {
    /// The rate after warm-up and before decay.
    pub base_lr: f64,
    /// Steps of the whole run, warm-up included.
    pub total_steps: u64,
    /// Steps over which the rate rises linearly to `base_lr`; 0 for none.
    pub warmup_steps: u64,
    /// How the rate falls.
    pub decay: Decay,
}

from_json!(Schedule { base_lr, total_steps, warmup_steps, decay });

/// How a learning rate falls.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decay {
    /// Not at all.
    Constant,
    /// By the factor `gamma` at every milestone.
    Step {
        /// Steps, ascending, counted from the start of the run; one that is there twice drops twice.
        milestones: Vec<u64>,
        /// The factor, over 0 and at most 1.
        gamma: f64,
    },
    /// Along half a cosine that reaches `final_lr` at `total_steps`.
    Cosine {
        /// The rate at the end, at most `base_lr`.
        final_lr: f64,
    },
}

impl FromJson for Decay {
    fn from_json(value: &Value) -> Read<Self> {
        match json::variant(value)? {
            ("constant", Value::Null) => Ok(Decay::Constant),
            ("step", held) => {
                let fields = json::object(held)?;
                Ok(Decay::Step {
                    milestones: json::field(fields, "milestones", None)?,
                    gamma: json::field(fields, "gamma", None)?,
                })
            }
            ("cosine", held) => {
                Ok(Decay::Cosine { final_lr: json::field(json::object(held)?, "final_lr", None)? })
            }
            _ => Err(json::unlike(value, "constant, step or cosine")),
        }
    }
}

from_json!(@serde Decay);

impl Schedule {
    /// The learning rate of step `step` (the first is 0). Past the end a cosine stays at its final rate.
    pub fn lr(&self, step: u64) -> f64 {
        let warmup =
            if step < self.warmup_steps { (step + 1) as f64 / self.warmup_steps as f64 } else { 1.0 };
        let decayed = match &self.decay {
            Decay::Constant => self.base_lr,
            Decay::Step { milestones, gamma } => {
                let passed = milestones.partition_point(|&milestone| milestone <= step);
                self.base_lr * gamma.powf(passed as f64)
            }
            Decay::Cosine { final_lr } => {
                let length = self.total_steps.saturating_sub(self.warmup_steps).max(1);
                let progress = (step.saturating_sub(self.warmup_steps) as f64 / length as f64).min(1.0);
                final_lr + (self.base_lr - final_lr) * 0.5 * (1.0 + (PI * progress).cos())
            }
        };
        warmup * decayed
    }

    /// The same course over `total_steps` steps: warm-up and milestones keep their place in the run.
    #[must_use]
    pub fn stretched(&self, total_steps: u64) -> Schedule {
        let place = |step: u64| {
            let place = u128::from(step) * u128::from(total_steps) / u128::from(self.total_steps.max(1));
            u64::try_from(place).unwrap_or(u64::MAX)
        };
        let decay = match &self.decay {
            Decay::Step { milestones, gamma } => {
                let milestones = milestones.iter().map(|&step| place(step)).collect();
                Decay::Step { milestones, gamma: *gamma }
            }
            other => other.clone(),
        };
        Schedule { base_lr: self.base_lr, total_steps, warmup_steps: place(self.warmup_steps), decay }
    }

    /// Checks that the numbers can be a schedule.
    ///
    /// # Errors
    /// [`ErrorKind::Argument`] for a rate that is not finite and over 0, no steps, a warm-up longer than the run,
    /// milestones that descend, a gamma outside (0, 1] or a final rate outside [0, base_lr].
    pub fn validate(&self) -> Result<()> {
        let invalid = |what: &str, expected: String, found: String| {
            Err(Error::new(ErrorKind::Argument, format!("setting up the learning rate: {what}"))
                .expected(expected)
                .found(found))
        };
        if !(self.base_lr.is_finite() && self.base_lr > 0.0) {
            return invalid("base rate", "a number over 0".into(), self.base_lr.to_string());
        }
        if self.total_steps == 0 {
            return invalid("length", "at least one step".into(), "0".into());
        }
        if self.warmup_steps > self.total_steps {
            let expected = format!("at most the run's {} steps", self.total_steps);
            return invalid("warm-up", expected, self.warmup_steps.to_string());
        }
        match &self.decay {
            Decay::Constant => Ok(()),
            Decay::Step { milestones, .. } if !milestones.is_sorted() => {
                invalid("milestones", "ascending steps".into(), format!("{milestones:?}"))
            }
            Decay::Step { gamma, .. } if !(*gamma > 0.0 && *gamma <= 1.0) => {
                invalid("gamma", "a factor over 0 and at most 1".into(), gamma.to_string())
            }
            Decay::Cosine { final_lr } if !(0.0..=self.base_lr).contains(final_lr) => {
                let expected = format!("a number from 0 to the base rate {}", self.base_lr);
                invalid("final rate", expected, final_lr.to_string())
            }
            Decay::Step { .. } | Decay::Cosine { .. } => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(decay: Decay) -> Schedule {
        Schedule { base_lr: 0.1, total_steps: 100, warmup_steps: 0, decay }
    }

    fn assert_lrs(schedule: &Schedule, expected: &[(u64, f64)]) {
        schedule.validate().unwrap();
        for &(step, lr) in expected {
            assert!((schedule.lr(step) - lr).abs() < 1e-15, "{step}: {} {lr}", schedule.lr(step));
        }
    }

    #[test]
    fn constant_with_warm_up_reaches_the_base_rate_on_its_last_step() {
        let schedule = Schedule { warmup_steps: 4, ..schedule(Decay::Constant) };
        assert_lrs(&schedule, &[(0, 0.025), (1, 0.05), (3, 0.1), (4, 0.1), (99, 0.1)]);
    }

    #[test]
    fn steps_drop_at_their_milestones() {
        let steps = schedule(Decay::Step { milestones: vec![50, 75], gamma: 0.1 });
        assert_lrs(&steps, &[(0, 0.1), (49, 0.1), (50, 0.01), (74, 0.01), (75, 0.001), (1000, 0.001)]);
    }

    #[test]
    fn cosine_is_pytorchs() {
        // torch.optim.lr_scheduler.CosineAnnealingLR(SGD(lr=0.1), T_max=100, eta_min=0.01), closed form.
        let cosine = schedule(Decay::Cosine { final_lr: 0.01 });
        let quarter = 0.01 + 0.09 * (1.0 + 0.5_f64.sqrt()) / 2.0;
        assert_lrs(&cosine, &[(0, 0.1), (25, quarter), (50, 0.055), (100, 0.01), (500, 0.01)]);
        let warm = Schedule { warmup_steps: 20, ..cosine };
        assert_lrs(&warm, &[(0, 0.005), (19, 0.1), (20, 0.1), (60, 0.055), (100, 0.01)]);
        let only_warm_up = Schedule { warmup_steps: 100, ..warm };
        assert_lrs(&only_warm_up, &[(49, 0.05), (99, 0.1)]);
    }

    #[test]
    fn stretching_keeps_the_course() {
        let steps = schedule(Decay::Step { milestones: vec![50, 75, 76], gamma: 0.1 });
        let steps = Schedule { warmup_steps: 10, ..steps };
        let long = steps.stretched(300);
        assert_eq!((long.total_steps, long.warmup_steps), (300, 30));
        assert_eq!(long.decay, Decay::Step { milestones: vec![150, 225, 228], gamma: 0.1 });
        let short = steps.stretched(10);
        assert_eq!(short.decay, Decay::Step { milestones: vec![5, 7, 7], gamma: 0.1 });
        assert_lrs(&short, &[(4, 0.1), (6, 0.01), (7, 0.0001)]);
    }

    #[test]
    fn numbers_that_are_no_schedule_are_refused() {
        let base = schedule(Decay::Constant);
        let bad = [
            Schedule { base_lr: 0.0, ..base.clone() },
            Schedule { base_lr: f64::NAN, ..base.clone() },
            Schedule { base_lr: f64::INFINITY, ..base.clone() },
            Schedule { total_steps: 0, ..base.clone() },
            Schedule { warmup_steps: 101, ..base },
            schedule(Decay::Step { milestones: vec![6, 5], gamma: 0.1 }),
            schedule(Decay::Step { milestones: vec![5], gamma: 0.0 }),
            schedule(Decay::Step { milestones: vec![5], gamma: f64::NAN }),
            schedule(Decay::Cosine { final_lr: 0.2 }),
            schedule(Decay::Cosine { final_lr: -0.1 }),
            schedule(Decay::Cosine { final_lr: f64::NAN }),
        ];
        for schedule in bad {
            let error = schedule.validate().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Argument, "{schedule:?}");
        }
    }

    #[test]
    fn serialised_and_read_back() {
        let steps = schedule(Decay::Step { milestones: vec![50], gamma: 0.1 });
        let json = serde_json::to_string(&steps).unwrap();
        assert_eq!(serde_json::from_str::<Schedule>(&json).unwrap(), steps);
    }
}
