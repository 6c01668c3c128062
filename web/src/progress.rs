//! The contraction of a run whose learning rate and strength the visitor changes as it goes.

use centripetal::Result;
use centripetal::graph::Graph;
use centripetal::optim::forecast::{
    AUTO_TARGET, Contraction, LOSSLESS, Slowest, TooShort, Verdict, assess, auto_strength,
};
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
    pub(crate) fn new(settings: &Settings, graph: &Graph) -> Outlook {
        let contraction = Contraction::of_network(graph, None, &settings.sgd());
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
    /// Where none does, `current` stays.
    ///
    /// # Errors
    /// [`centripetal::ErrorKind::Argument`] for settings that no run can have, and where no strength suffices and there is
    /// no `current`.
    pub(crate) fn strength(&self, settings: &Settings, current: Option<f64>) -> Result<f64> {
        if let Strength::Fixed(strength) = settings.strength {
            return Ok(strength);
        }
        let left = settings.collapse_steps.saturating_sub(self.done);
        if let Some(current) = current.filter(|_| left == 0 || self.log() <= -AUTO_TARGET) {
            return Ok(current);
        }
        let schedule = settings.schedule_of(left.max(1));
        match (auto_strength(&self.contraction, &schedule, AUTO_TARGET), current) {
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
        let end = future.log_shrink();
        let (verdict, sentence) = if self.contraction.is_lossless() {
            ("enough", "The filters of every cluster have become identical.".to_owned())
        } else if left == 0 {
            let missing = LOSSLESS + self.log();
            let sentence = if missing <= 0.0 {
                "The filters of every cluster are identical, but the running statistics of batch norm still remember the steps in \
                 which they were not: go on for longer."
                    .to_owned()
            } else {
                let short = power(missing);
                format!("The time is over, and differences are {short} times too large: go on for longer.")
            };
            ("too-short", sentence)
        } else {
            match assess(&self.contraction, &settings.schedule_of(left), strength, LOSSLESS)?.1 {
                Verdict::Enough => (
                    "enough",
                    format!(
                        "After {total} steps differences will be {} times smaller: filters of a cluster will be identical.",
                        power(-end)
                    ),
                ),
                Verdict::Insufficient { needed } => (
                    "insufficient",
                    format!(
                        "With strength {strength:.3} differences will be only {} times smaller, and {} times are \
                         needed: the cut will lose something. Strength {needed:.3} would do.",
                        power(-end),
                        power(LOSSLESS)
                    ),
                ),
                Verdict::TooShort(TooShort { steps, slowest, .. }) => {
                    let what = match slowest {
                        Slowest::Filters => "No strength makes filters identical",
                        Slowest::Statistics => {
                            "The running statistics of batch norm cannot forget how filters differed"
                        }
                    };
                    ("too-short", format!("{what} in the {left} steps left; about {steps} are needed."))
                }
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

/// `e^nats` in words: 18 is "66 million".
fn power(nats: f64) -> String {
    const NAMES: [&str; 5] = ["", " thousand", " million", " billion", " trillion"];
    let thousands = ((nats / 1000f64.ln()) as usize).min(NAMES.len() - 1);
    let figure = (nats - thousands as f64 * 1000f64.ln()).exp();
    match figure {
        ..10.0 if thousands == 0 => format!("{figure:.1}"),
        ..999.5 => format!("{figure:.0}{}", NAMES[thousands]),
        _ => format!("over a thousand{}", NAMES[thousands]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn powers_are_said_in_words() {
        for (nats, words) in [
            (0.2, "1.2"),
            (0.0, "1.0"),
            (-0.1, "0.9"),
            (4.0, "55"),
            (LOSSLESS, "9 million"),
            (AUTO_TARGET, "66 million"),
            (40.0, "over a thousand trillion"),
        ] {
            assert_eq!(power(nats), words);
        }
    }
}
