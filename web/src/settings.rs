//! What a page sets: the TypeScript interface `Settings`.

use centripetal::from_json;
use centripetal::json::{self, FromJson, Read};
use centripetal::optim::{Decay, Schedule, SgdConfig};
use centripetal::prune::width::{Ratio, Rounding, WidthRule};
use centripetal::prune::{ClusterPlan, Clustering, Pace};
use centripetal::{Error, ErrorKind, Result};
use serde::Serialize;
use serde_json::Value;

/// Steps of a schedule that has no end.
const ENDLESS: u64 = u32::MAX as u64;

/// Longest C-SGD run: a forecast simulates every step.
const LONGEST_COLLAPSE: u64 = 1_000_000;

/// Settings of a session.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Settings {
    pub(crate) model: String,
    pub(crate) width: f64,
    pub(crate) batch: usize,
    pub(crate) seed: u64,
    pub(crate) lr: f64,
    pub(crate) keep: String,
    pub(crate) strength: Strength,
    pub(crate) collapse_steps: u64,
    pub(crate) momentum: f64,
    pub(crate) weight_decay: f64,
    pub(crate) clustering: Kind,
}

/// The names of all settings.
const NAMES: &[&str] = &[
    "model",
    "width",
    "batch",
    "seed",
    "lr",
    "keep",
    "strength",
    "collapseSteps",
    "momentum",
    "weightDecay",
    "clustering",
];

impl FromJson for Settings {
    fn from_json(value: &Value) -> Read<Self> {
        let fields = json::object(value)?;
        if let Some(unknown) = fields.keys().find(|name| !NAMES.contains(&name.as_str())) {
            return Err(format!("no setting is called {unknown}; there are {}", NAMES.join(", ")));
        }
        Ok(Settings {
            model: json::field(fields, "model", None)?,
            width: json::field(fields, "width", None)?,
            batch: json::field(fields, "batch", None)?,
            seed: json::field(fields, "seed", None)?,
            lr: json::field(fields, "lr", None)?,
            keep: json::field(fields, "keep", None)?,
            strength: json::field(fields, "strength", None)?,
            collapse_steps: json::field(fields, "collapseSteps", None)?,
            momentum: json::field(fields, "momentum", None)?,
            weight_decay: json::field(fields, "weightDecay", None)?,
            clustering: json::field(fields, "clustering", None)?,
        })
    }
}

/// The centripetal strength asked for.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(untagged)]
pub(crate) enum Strength {
    Fixed(f64),
    Word(Auto),
}

impl FromJson for Strength {
    fn from_json(value: &Value) -> Read<Self> {
        match value.as_f64() {
            Some(strength) => Ok(Strength::Fixed(strength)),
            None => Auto::from_json(value)
                .map(Strength::Word)
                .map_err(|_| json::unlike(value, "auto or a number")),
        }
    }
}

/// The word `auto`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Auto {
    Auto,
}

from_json!(enum Auto { Auto: "auto" });

/// How clusters are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    KMeans,
    Even,
    Imbalanced,
}

from_json!(enum Kind { KMeans: "kmeans", Even: "even", Imbalanced: "imbalanced" });

impl Settings {
    /// Reads the JSON of a whole or of changes to `current`.
    ///
    /// # Errors
    /// [`ErrorKind::Argument`] for names and values that settings cannot have.
    pub(crate) fn read(json: &str, current: Option<&Settings>) -> Result<Settings> {
        let error = || Error::new(ErrorKind::Argument, "reading the settings");
        let changes: Value =
            serde_json::from_str(json).map_err(|cause| error().expected("JSON").found(cause))?;
        let mut whole = match current {
            Some(current) => {
                serde_json::to_value(current).map_err(|cause| error().expected("settings").found(cause))?
            }
            None => Value::Object(serde_json::Map::new()),
        };
        if let (Value::Object(whole), Value::Object(changes)) = (&mut whole, changes) {
            whole.extend(changes);
        }
        let settings = Settings::from_json(&whole)
            .map_err(|cause| error().expected("the settings of a session").found(cause))?;
        settings.check()?;
        Ok(settings)
    }

    fn check(&self) -> Result<()> {
        let invalid = |what: &str, expected: &str, found: String| {
            Err(Error::new(ErrorKind::Argument, format!("setting {what}")).expected(expected).found(found))
        };
        if !(self.lr.is_finite() && self.lr > 0.0) {
            return invalid("the learning rate", "a number over 0", self.lr.to_string());
        }
        if self.batch == 0 {
            return invalid("the batch", "at least 1", "0".into());
        }
        if !(0.0..1.0).contains(&self.momentum) {
            return invalid("the momentum", "a number from 0 to below 1", self.momentum.to_string());
        }
        if !(self.weight_decay.is_finite() && self.weight_decay >= 0.0) {
            return invalid("the weight decay", "a number of at least 0", self.weight_decay.to_string());
        }
        if !(1..=LONGEST_COLLAPSE).contains(&self.collapse_steps) {
            let expected = format!("1 to {LONGEST_COLLAPSE} steps");
            return invalid("the length of C-SGD", &expected, self.collapse_steps.to_string());
        }
        if let Strength::Fixed(strength) = self.strength
            && !(strength.is_finite() && strength >= 0.0)
        {
            return invalid("the strength", "auto or a number of at least 0", strength.to_string());
        }
        Ratio::parse("keep", &self.keep)?;
        Ok(())
    }

    pub(crate) fn sgd(&self) -> SgdConfig {
        SgdConfig { momentum: self.momentum, weight_decay: self.weight_decay, ..SgdConfig::default() }
    }

    /// The learning rate until it is set again.
    pub(crate) fn schedule(&self) -> Schedule {
        self.schedule_of(ENDLESS)
    }

    /// The learning rate over `steps` steps.
    pub(crate) fn schedule_of(&self, steps: u64) -> Schedule {
        Schedule { base_lr: self.lr, total_steps: steps, warmup_steps: 0, decay: Decay::Constant }
    }

    pub(crate) fn cluster_plan(&self) -> Result<ClusterPlan> {
        Ok(ClusterPlan {
            widths: WidthRule::All(Ratio::parse("keep", &self.keep)?),
            rounding: Rounding::Floor,
            round_to: 1,
            clustering: match self.clustering {
                Kind::KMeans => Clustering::default(),
                Kind::Even => Clustering::Even,
                Kind::Imbalanced => Clustering::Imbalanced,
            },
            pace: Pace::Pacesetter,
            frozen: Vec::new(),
            seed: self.seed,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = r#"{"model": "lenet", "width": 1, "batch": 32, "seed": 0, "lr": 0.05, "keep": "5/8",
        "strength": "auto", "collapseSteps": 300, "momentum": 0.9, "weightDecay": 0.0005, "clustering": "kmeans"}"#;

    #[test]
    fn read_whole_or_as_changes() {
        let settings = Settings::read(WHOLE, None).unwrap();
        assert_eq!((settings.clustering, settings.collapse_steps), (Kind::KMeans, 300));
        let changed = Settings::read(r#"{"strength": 0.5, "lr": 0.1}"#, Some(&settings)).unwrap();
        assert_eq!((changed.strength, changed.lr), (Strength::Fixed(0.5), 0.1));
        assert_eq!(Settings { strength: settings.strength, lr: 0.05, ..changed }, settings);
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        let settings = Settings::read(WHOLE, None).unwrap();
        for (change, word) in [
            (r#"{"lr": 0}"#, "learning rate"),
            (r#"{"lr": null}"#, "settings"),
            (r#"{"batch": 0}"#, "batch"),
            (r#"{"keep": "9/8"}"#, "keep"),
            (r#"{"strength": -1}"#, "strength"),
            (r#"{"collapseSteps": 0}"#, "C-SGD"),
            (r#"{"colour": 1}"#, "colour"),
            ("no JSON", "JSON"),
        ] {
            let error = Settings::read(change, Some(&settings)).unwrap_err();
            assert!(
                error.kind() == ErrorKind::Argument && error.to_string().contains(word),
                "{change}: {error}"
            );
        }
    }
}
