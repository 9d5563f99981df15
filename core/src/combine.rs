//! Ensembles and averages over several trials: what `[[combine]]` of a sweep file plans, and which trials are the members of which
//! combination (paper, section 4.2: "across trajectories").
//!
//! A combination is a trial of its sweep, after all trials of the grid. Its point has the axes that its members share, the name of the
//! combination and the number of its members; its identity covers theirs.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::artifact::{Artifact, ArtifactKind};
use crate::filter::Filter;
use crate::metrics::Method;
use crate::named;
use crate::parameters::{Parameters, Scalar};
use crate::trial::{Point, SpecHash};

/// The axis that separates combinations of different names, and combinations from other trials.
pub const COMBINE: &str = "combine";
/// The axis of a combination's number of members.
pub const MEMBERS: &str = "members";
/// What a sweep file writes for as many members as there are.
pub const ALL: &str = "all";
/// The axis of the seeds, as combinations and filters name it.
pub const SEED: &str = "seed";

/// What is made of the members.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CombinationKind {
    /// The mean of their logits.
    Ensemble,
    /// One network with the mean of their weights.
    Average,
}
named!(CombinationKind, "kind of combination", { Ensemble => "ensemble", Average => "average" });

/// Which of the members are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Choice {
    /// All of them, with equal weight.
    Uniform,
    /// From the best by i.i.d. accuracy on, each whose addition does not lower the i.i.d. accuracy of the combination (greedy soup,
    /// Wortsman et al. 2022).
    Greedy,
}
named!(Choice, "choice of members", { Uniform => "uniform", Greedy => "greedy" });

/// One `[[combine]]` table, checked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Combine {
    /// Its value on the axis [`COMBINE`].
    pub name: String,
    /// What is made of the members.
    pub kind: CombinationKind,
    /// Which of them are used.
    pub choice: Choice,
    /// Which model of each member's trajectory.
    pub method: Method,
    /// The axes in which the members differ, with the values that these had when the combination was submitted: a grid that grows
    /// must not change what it is made of. All other axes are the combination's own.
    pub over: BTreeMap<String, Vec<Scalar>>,
    /// Whether the members differ in their seeds too. A grid's seeds only grow at their end, so the first members stay what they are.
    pub over_seeds: bool,
    /// Only trials that meet these conditions.
    pub filter: Option<Filter>,
    /// A combination for each of these numbers of members, of the first so many in the order of the grid.
    pub members: Vec<u64>,
    /// Whether one of all trials is asked for: a sweep that gets more seeds gets one over all of them, too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub all: bool,
}

/// What decides a combination's numbers besides the settings that it shares with its members.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Combination {
    /// What is made of the members.
    pub kind: CombinationKind,
    /// Which of them are used.
    pub choice: Choice,
    /// Which model of each member's trajectory.
    pub method: Method,
    /// In the order of the grid.
    pub members: Vec<SpecHash>,
}

/// The name of the combination whose parameters these are; none for those of a trial of the grid. A command may have an axis of one of
/// these names for something else.
pub fn combine_of(parameters: &Parameters) -> Option<&str> {
    match (parameters.get(COMBINE), parameters.get(MEMBERS)) {
        (Some(Scalar::Text(name)), Some(Scalar::Number(_))) => Some(name),
        _ => None,
    }
}

impl Point {
    /// The name of the combination that it belongs to; none for a trial of the grid.
    pub fn combine(&self) -> Option<&str> {
        combine_of(&self.parameters)
    }
}

/// A member, for the attempt that combines it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// The trial.
    pub spec_hash: SpecHash,
    /// Its final weights and logits that were kept, one of each at most, of the model that is combined.
    pub files: Vec<Artifact>,
    /// The machine on whose own disk they are; empty if they are in the shared store.
    pub host: String,
}

impl Member {
    /// Its file of this kind.
    pub fn file(&self, kind: ArtifactKind) -> Option<&Artifact> {
        self.files.iter().find(|file| file.kind == kind)
    }
}

/// Whether the members of a combination have their results.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// All of them have a result.
    Ready,
    /// Some run, or wait for a worker.
    Waits,
    /// Some ended without a result. The combination fails, because it is defined by all of them.
    Impossible,
}

impl Readiness {
    /// By the number of members, of those with a result, and of those that ended without one.
    pub fn of(members: u64, succeeded: u64, lost: u64) -> Self {
        match () {
            () if lost > 0 => Self::Impossible,
            () if succeeded == members && members > 0 => Self::Ready,
            () => Self::Waits,
        }
    }
}

/// In the words of a sweep file, in one line.
impl fmt::Display for Combine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name: _, kind, choice, method, over, over_seeds, filter, members, all: _ } = self;
        let mut axes: Vec<String> = Vec::new();
        for (name, values) in over {
            axes.push(format!(
                "{name} [{}]",
                values.iter().map(Scalar::to_string).collect::<Vec<_>>().join(", ")
            ));
        }
        axes.extend(over_seeds.then(|| SEED.to_owned()));
        write!(f, "{choice} {kind} of {members:?} trials, method {method}, over {}", axes.join(", "))?;
        filter.iter().try_for_each(|filter| write!(f, ", where {filter}"))
    }
}
