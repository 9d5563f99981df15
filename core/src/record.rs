//! What the store tells about a trial, as answers are made from it.

use crate::job::StateName;
use crate::metrics::Evaluation;
use crate::trial::{Point, TrialId};

/// A trial with the evaluations of its accepted attempt.
#[derive(Clone, Debug, PartialEq)]
pub struct TrialRecord {
    /// Its identity.
    pub id: TrialId,
    /// Its place in the grid.
    pub point: Point,
    /// Where it stands.
    pub state: StateName,
    /// Evaluations on training domains; empty unless the trial succeeded.
    pub validation: Vec<Evaluation>,
    /// Evaluations on held-out domains; empty unless the trial succeeded.
    pub held_out: Vec<Evaluation>,
}
