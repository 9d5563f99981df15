//! What is kept of trials, and which trials lack it.

use sortie_core::keep::{Keep, LackingTrials};

use crate::convert::parse;
use crate::{WireError, v1};

impl From<LackingTrials> for v1::LackingTrials {
    fn from(lacking: LackingTrials) -> Self {
        let LackingTrials { trials, average, ensemble, weights, selected, logits } = lacking;
        Self { trials, final_weights: weights, selected_weights: selected, logits, average, ensemble }
    }
}

impl From<v1::LackingTrials> for LackingTrials {
    fn from(wire: v1::LackingTrials) -> Self {
        let v1::LackingTrials { trials, final_weights, selected_weights, logits, average, ensemble } = wire;
        Self { trials, average, ensemble, weights: final_weights, selected: selected_weights, logits }
    }
}

impl From<Keep> for v1::Keep {
    fn from(Keep { weights, logits, checkpoint_minutes }: Keep) -> Self {
        Self { weights: weights.to_string(), logits, checkpoint_minutes: Some(checkpoint_minutes) }
    }
}

impl TryFrom<v1::Keep> for Keep {
    type Error = WireError;

    fn try_from(v1::Keep { weights, logits, checkpoint_minutes }: v1::Keep) -> Result<Self, WireError> {
        let checkpoint_minutes = checkpoint_minutes.unwrap_or(Self::CHECKPOINT_MINUTES);
        Ok(Self { weights: parse("keep.weights", &weights)?, logits, checkpoint_minutes })
    }
}
