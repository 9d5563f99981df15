//! What is evaluated along a trajectory beside the plain weights.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::metrics::Method;

/// After which updates the weights enter the trajectory's average.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AverageEvery {
    /// After every so many steps, the first one included.
    Steps(u64),
    /// At evaluations only, as the paper's caption says.
    Evaluation,
}

impl fmt::Display for AverageEvery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Steps(steps) => write!(f, "{steps}"),
            Self::Evaluation => write!(f, "evaluation"),
        }
    }
}

/// The running mean of the weights along the trajectory (docs/protocol.md, "Evaluation").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Average {
    /// The first step whose weights count.
    pub from: u64,
    /// Which later ones count.
    pub every: AverageEvery,
}

/// The sum of the logits over the evaluations of the trajectory (docs/protocol.md, "Evaluation").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ensemble {
    /// Evaluations from this step on count.
    pub from: u64,
}

/// What a trial evaluates beside its plain weights. It changes none of their numbers, so it is no part of a trial's identity: a result
/// with more is one for a sweep that asks for less.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Methods {
    /// The average that it makes, if any.
    pub average: Option<Average>,
    /// The ensemble that it makes, if any.
    pub ensemble: Option<Ensemble>,
}

impl Methods {
    /// Whether this method is evaluated. The plain weights always are.
    pub fn has(self, method: Method) -> bool {
        match method {
            Method::Plain => true,
            Method::Average => self.average.is_some(),
            Method::Ensemble => self.ensemble.is_some(),
        }
    }
}

/// As databases store it: `300/1`, `300/evaluation`.
impl fmt::Display for Average {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, every } = self;
        write!(f, "{from}/{every}")
    }
}

impl FromStr for Average {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let read = || {
            let (from, every) = text.split_once('/')?;
            let every = match every {
                "evaluation" => AverageEvery::Evaluation,
                steps => AverageEvery::Steps(steps.parse().ok()?),
            };
            Some(Self { from: from.parse().ok()?, every })
        };
        read().ok_or_else(|| format!("{text:?} is no average"))
    }
}
