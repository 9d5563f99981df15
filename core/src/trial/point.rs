//! Where a trial lies in its sweep's grid.

use serde::{Deserialize, Serialize};

use crate::parameters::Parameters;

/// Where a trial lies in its sweep's grid: what results are grouped by.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Point {
    /// The domains that training never sees, sorted; one, or two for leave-one-domain-out pairs; none only for commands.
    pub held_out: Vec<String>,
    /// The other axes of the grid.
    pub parameters: Parameters,
    /// Seed of initialisation, batches, augmentation and dropout.
    pub seed: u64,
    /// Seed of the `in`/`out` split (DomainBed's trial_seed).
    pub split_seed: u64,
}

impl Point {
    /// The held-out domains as tables and filters write them: `sketch`, or `photo+sketch` for a pair.
    pub fn held_out_label(&self) -> String {
        self.held_out.join("+")
    }

    /// Whether training never sees this domain.
    pub fn is_held_out(&self, domain: &str) -> bool {
        self.held_out.iter().any(|held_out| held_out == domain)
    }
}
