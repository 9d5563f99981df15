//! The metrics of a trial: counts if there are any, so that accuracies can be added exactly, and named numbers.

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

/// Whether a metric may have this name: up to 100 letters, digits and `_.-/@`, of which the first is a letter; not `accuracy` or `loss`,
/// which evaluations have anyway.
pub fn is_metric_name(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || "_.-/@".contains(c);
    name.len() <= METRIC_NAME_BYTES_MAX
        && name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(fits)
        && !MEASURED.contains(&name)
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
}
