//! What a trial reports: counts, never bare fractions, so that accuracies can be added up exactly.

use serde::{Deserialize, Serialize};

use crate::named;

/// Which model of the trajectory an evaluation judges.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Method {
    /// The weights as they stand after the step.
    Plain,
}
named!(Method, "method", { Plain => "plain" });

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
    /// The model that was judged.
    pub method: Method,
    /// The step after whose update it was judged ("step s" means after s + 1 updates).
    pub step: u64,
    /// The domain whose images were read.
    pub domain: String,
    /// The split of that domain.
    pub split: SplitName,
    /// How many images were read; at least 1.
    pub n: u64,
    /// How many of them were classified correctly.
    pub correct: u64,
    /// Mean cross entropy over the images, in nats.
    pub loss: f64,
}

impl Evaluation {
    /// The fraction of images classified correctly.
    pub fn accuracy(&self) -> f64 {
        self.correct as f64 / self.n as f64
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
