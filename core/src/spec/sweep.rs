//! A checked sweep.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::axis::Axis;
use super::imported::Imported;
use crate::combine::Combine;
use crate::keep::Keep;
use crate::limits::Limits;
use crate::metrics::{ACCURACY, LOSS, Metric, MetricSettings};
use crate::random_search::RandomSearch;
use crate::requirements::Requirements;
use crate::selection::Selection;
use crate::trial::{PROTOCOL_VERSION, Work};

/// A sweep file, checked: every trial that it plans can run as far as the file alone can tell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SweepSpec {
    /// The name by which commands know the sweep.
    pub name: String,
    /// The version of the numbers under which its trials were named: [`crate::trial::PROTOCOL_VERSION`] of the build that stored it. A
    /// build of another version would compute other numbers, so it runs none of them.
    pub protocol: u32,
    /// The selection methods whose trials the sweep plans.
    pub select: Vec<Selection>,
    /// What all its trials share.
    pub work: Work,
    /// Which workers may run them. No part of any trial's identity.
    pub require: Requirements,
    /// The artifacts that are kept of them. No part of any trial's identity.
    pub keep: Keep,
    /// Which values of named metrics are better, and their units. No part of any trial's identity.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metrics: BTreeMap<String, MetricSettings>,
    /// How long their attempts may take. No part of any trial's identity.
    #[serde(default)]
    pub limits: Limits,
    /// What differs between them.
    pub grid: Grid,
    /// Settings that were drawn at random, each of which goes with every place in the grid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub random: Option<RandomSearch>,
    /// Ensembles and averages over them, which are trials too.
    #[serde(default)]
    pub combine: Vec<Combine>,
    /// For `sortie verify`: the first attempt at each trial kills itself after the update of this step.
    pub kill_at: Option<u64>,
    /// What an import read and no trial holds.
    #[serde(default, skip_serializing_if = "Imported::is_empty")]
    pub imported: Imported,
}

/// The axes of a sweep.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grid {
    /// Every axis but the replicates below, by name.
    pub axes: BTreeMap<String, Axis>,
    /// Held-out domains, one trial each; empty only for commands that hold out none.
    pub held_out: Vec<String>,
    /// Seeds of initialisation, batches, augmentation and dropout.
    pub seeds: Vec<u64>,
    /// Seeds of the `in`/`out` split.
    pub splits: Vec<u64>,
}

impl SweepSpec {
    /// The metric of this name.
    ///
    /// # Errors
    /// One line for a name of which the sweep file says nothing: without a goal, no value is better than another.
    pub fn metric(&self, name: &str) -> Result<Metric, String> {
        match (name, self.metrics.get(name)) {
            (ACCURACY, _) => Ok(Metric::ACCURACY),
            (LOSS, _) => Ok(Metric::LOSS),
            (_, Some(settings)) => Ok(Metric::named(name, settings)),
            _ => {
                let known: Vec<&str> =
                    [ACCURACY, LOSS].into_iter().chain(self.metrics.keys().map(String::as_str)).collect();
                let is_bare = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
                let key = if name.chars().all(is_bare) { name.to_owned() } else { format!("{name:?}") };
                Err(format!(
                    "metric {name:?}: sweep {} does not say which of its values are better; allowed: {}. If its command reports {name}, add `[metrics] {key} = {{ goal = \"max\" }}` (or \"min\") to its file and submit it again",
                    self.name,
                    known.join(", ")
                ))
            }
        }
    }

    /// Why this build does not run the trials that are left, in one line; none if it does.
    pub fn outdated(&self) -> Option<String> {
        let (name, theirs) = (&self.name, self.protocol);
        (theirs != PROTOCOL_VERSION).then(|| {
            format!(
                "sweep {name} was planned under version {theirs} of the numbers and this build makes version {PROTOCOL_VERSION}: submit it again under another name"
            )
        })
    }
}
