//! The metrics of a trial: counts if there are any, so that accuracies can be added exactly, and named numbers.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::named;

/// Which model of the trajectory is evaluated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Method {
    /// The weights as they stand after the step.
    Plain,
    /// The running mean of the weights along the trajectory.
    Average,
    /// The sum of the logits along the trajectory.
    Ensemble,
}
named!(Method, "method", { Plain => "plain", Average => "average", Ensemble => "ensemble" });

/// Which part of a domain an evaluation reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SplitName {
    /// The 80% that training would draw from.
    In,
    /// The 20% that validation reads.
    Out,
}
named!(SplitName, "split", { In => "in", Out => "out" });

/// One evaluation of one model on one split of one domain, after the update of `step`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// The model that was evaluated.
    pub method: Method,
    /// The step after whose update it was evaluated ("step s" means after s + 1 updates).
    pub step: u64,
    /// The domain whose images were read.
    pub domain: String,
    /// The split of that domain.
    pub split: SplitName,
    /// The accuracy; none if it was not reported, which only commands leave out.
    pub score: Option<Score>,
    /// Mean cross entropy over the images, in nats; none if it was not reported.
    pub loss: Option<f64>,
    /// What else was measured, by name ([`is_metric_name`]): finite numbers.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metrics: BTreeMap<String, f64>,
    /// When it was measured: seconds since training began, or a command was started, without the time between attempts and without work that was
    /// lost; finite, at least 0. None where nobody measured it. It is not among the numbers that equal trials share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
}

/// At most so many named numbers has an evaluation.
pub const METRICS_MAX: usize = 64;
/// The longest name of a metric, in bytes.
const METRIC_NAME_BYTES_MAX: usize = 100;
/// What evaluations have besides named numbers; no metric has such a name.
const MEASURED: [&str; 2] = [ACCURACY, LOSS];
/// The key of the accuracy among the numbers of an evaluation.
pub const ACCURACY: &str = "accuracy";
/// The key of the cross entropy there.
pub const LOSS: &str = "loss";

/// Which names metrics may have, for messages ([`is_metric_name`]).
pub const METRIC_NAMES: &str =
    "up to 100 letters, digits and _.-/@, a letter first; not accuracy or loss, which need no entry";

/// Whether a metric may have this name: up to 100 letters, digits and `_.-/@`, of which the first is a letter; not `accuracy` or `loss`,
/// which evaluations have anyway.
pub fn is_metric_name(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || "_.-/@".contains(c);
    name.len() <= METRIC_NAME_BYTES_MAX
        && name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(fits)
        && !MEASURED.contains(&name)
}

/// Whether higher or lower values of a metric are better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Goal {
    /// Higher values.
    Max,
    /// Lower values.
    Min,
}
named!(Goal, "goal", { Max => "max", Min => "min" });

/// What a sweep file says of a named metric: an entry of `[metrics]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MetricSettings {
    /// Which values are better.
    pub goal: Goal,
    /// The unit that tables and figures show, such as `nats`; empty for none. Values in [`FRACTION`] are shown in per cent.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub unit: String,
}

/// The unit of numbers from 0 to 1 that are shown in per cent.
pub const FRACTION: &str = "fraction";

/// A number that evaluations have, by which steps and settings may be compared.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Metric {
    name: Cow<'static, str>,
    goal: Goal,
    unit: Cow<'static, str>,
}

impl Metric {
    /// The accuracy.
    pub const ACCURACY: Self =
        Self { name: Cow::Borrowed(ACCURACY), goal: Goal::Max, unit: Cow::Borrowed(FRACTION) };
    /// The mean cross entropy of an evaluation.
    pub const LOSS: Self = Self { name: Cow::Borrowed(LOSS), goal: Goal::Min, unit: Cow::Borrowed("") };

    /// A metric that a sweep file describes.
    pub fn named(name: &str, settings: &MetricSettings) -> Self {
        let MetricSettings { goal, unit } = settings;
        Self { name: Cow::Owned(name.to_owned()), goal: *goal, unit: Cow::Owned(unit.clone()) }
    }

    /// A metric of which no file says anything. Its values are shown as they are; its goal means nothing.
    pub fn undescribed(name: &str) -> Self {
        Self { name: Cow::Owned(name.to_owned()), goal: Goal::Max, unit: Cow::Borrowed("") }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Which values are better.
    pub fn goal(&self) -> Goal {
        self.goal
    }

    /// Its unit; empty for none.
    pub fn unit(&self) -> &str {
        &self.unit
    }

    /// Whether it is the accuracy.
    pub fn is_accuracy(&self) -> bool {
        self.name == ACCURACY
    }

    /// Its value in an evaluation; none if it was not reported.
    pub fn of(&self, evaluation: &Evaluation) -> Option<f64> {
        match &*self.name {
            ACCURACY => evaluation.accuracy(),
            LOSS => evaluation.loss,
            name => evaluation.metrics.get(name).copied(),
        }
    }

    /// A value as a score: the higher, the better.
    pub fn score(&self, value: f64) -> f64 {
        match self.goal {
            Goal::Max => value,
            Goal::Min => -value,
        }
    }
}

/// The result of a model on the images of one split of one domain.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Score {
    /// Counted images.
    Counts {
        /// How many images were read; at least 1.
        n: u64,
        /// How many of them were classified correctly; at most `n`.
        correct: u64,
    },
    /// A bare fraction, kept to the last bit: some programs and imported records have nothing else.
    Value {
        /// The accuracy; finite.
        value: f64,
        /// How many images were read; 0 if it is not known.
        n: u64,
    },
}

impl Score {
    /// The fraction of images classified correctly.
    pub fn accuracy(self) -> f64 {
        match self {
            Self::Counts { n, correct } => correct as f64 / n as f64,
            Self::Value { value, .. } => value,
        }
    }

    /// How many images were read; 0 if it is not known.
    pub fn n(self) -> u64 {
        match self {
            Self::Counts { n, .. } | Self::Value { n, .. } => n,
        }
    }

    /// What is wrong with it, if anything.
    pub fn fault(self) -> Option<String> {
        match self {
            Self::Counts { n, correct } if n == 0 || correct > n => {
                Some(format!("{correct} of {n} correct; allowed: at most n, n at least 1"))
            }
            Self::Value { value, .. } if !value.is_finite() => {
                Some(format!("value {value}; allowed: a finite number"))
            }
            _ => None,
        }
    }
}

impl Evaluation {
    /// The fraction of images classified correctly, if it was reported.
    pub fn accuracy(&self) -> Option<f64> {
        self.score.map(Score::accuracy)
    }

    /// What is wrong with it, if anything.
    pub fn fault(&self) -> Option<String> {
        if let Some(fault) = self.score.and_then(Score::fault) {
            return Some(fault);
        }
        if self.loss.is_some_and(f64::is_nan) {
            return Some("loss NaN; a run whose loss is no number has diverged".to_owned());
        }
        if let Some(fault) = self.seconds.and_then(fault_of_seconds) {
            return Some(fault);
        }
        if self.metrics.len() > METRICS_MAX {
            return Some(format!("{} named numbers; at most {METRICS_MAX} are allowed", self.metrics.len()));
        }
        let fault = |(name, value): (&String, &f64)| {
            if !is_metric_name(name) {
                return Some(format!("a metric {name:?}, which is no name of one"));
            }
            (!value.is_finite()).then(|| format!("{name} {value}; allowed: a finite number"))
        };
        self.metrics.iter().find_map(fault)
    }
}

/// The mean training loss of one step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainingLoss {
    /// The step whose batch it is.
    pub step: u64,
    /// Mean cross entropy over the batch, in nats.
    pub loss: f64,
    /// When the step was made: see [`Evaluation::seconds`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
}

impl TrainingLoss {
    /// What is wrong with it, if anything.
    pub fn fault(&self) -> Option<String> {
        if self.loss.is_nan() {
            return Some("loss NaN; a run whose loss is no number has diverged".to_owned());
        }
        self.seconds.and_then(fault_of_seconds)
    }
}

fn fault_of_seconds(seconds: f64) -> Option<String> {
    let allowed = seconds.is_finite() && seconds >= 0.0;
    (!allowed).then(|| format!("seconds {seconds}; allowed: a finite number, at least 0"))
}
