//! The artifacts that are kept of a trial. No part of any trial's identity.

use serde::{Deserialize, Serialize};

use crate::named;

/// Which weights are kept, one set for each method that the trial evaluates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum KeepWeights {
    /// None, once the trial has succeeded.
    #[default]
    None,
    /// Those after the last step.
    Final,
    /// Those of the step with the best i.i.d. accuracy, the earliest of equals.
    Selected,
    /// Both.
    Both,
}
named!(KeepWeights, "choice of weights", { None => "none", Final => "final", Selected => "selected", Both => "both" });

impl KeepWeights {
    /// Whether the weights after the last step are kept.
    pub fn last(self) -> bool {
        matches!(self, Self::Final | Self::Both)
    }

    /// Whether the weights of the selected step are kept.
    pub fn selected(self) -> bool {
        matches!(self, Self::Selected | Self::Both)
    }
}

/// `[keep]` of a sweep file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Keep {
    /// Which weights.
    pub weights: KeepWeights,
    /// Whether the logits of the last evaluation are kept: `out` of the training domains, `in` and `out` of the held-out ones.
    pub logits: bool,
}

impl Keep {
    /// The same, with the weights after the last step.
    pub fn with_final_weights(self) -> Self {
        let weights = if self.weights.selected() { KeepWeights::Both } else { KeepWeights::Final };
        Self { weights, ..self }
    }
}

impl Default for Keep {
    fn default() -> Self {
        Self { weights: KeepWeights::None, logits: true }
    }
}
