//! What one transaction changes, each row with the state that the decision was made on.

use std::collections::BTreeMap;

use sortie_core::artifact::{Artifact, Resumed};
use sortie_core::finetune::Methods;
use sortie_core::inputs::{Input, Pins};
use sortie_core::job::{State, Timestamp};
use sortie_core::keys::{AttemptToken, TrialKey, WorkerKey};
use sortie_core::machine::{Fault, WorkKind};
use sortie_core::metrics::{Evaluation, TrainingLoss};
use sortie_core::record::Fingerprint;
use sortie_core::trial::{Point, SpecHash};

use super::rows::Progress;
use crate::store::request::WorkerName;
use crate::store::types::TrialEvent;

/// A trial to be added.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct NewTrial {
    pub(crate) spec_hash: SpecHash,
    pub(crate) position: i64,
    pub(crate) point: Point,
    /// Of a combination: trials of the same sweep that are stored already, or before it in the same call.
    pub(crate) members: Vec<SpecHash>,
}

/// A trial's move: from the state that the decision was made on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Move {
    pub(crate) from: State,
    pub(crate) to: State,
    /// Attempts so far no longer count against the trial.
    pub(crate) forgive: bool,
}

/// A new attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NewAttempt {
    pub(crate) token: AttemptToken,
    pub(crate) trial: TrialKey,
    pub(crate) worker: WorkerKey,
    pub(crate) started: Timestamp,
    /// What it evaluates beside the plain weights.
    pub(crate) methods: Methods,
}

/// Everything that one transaction changes about trials, attempts and workers.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Changes {
    pub(crate) new_attempts: Vec<NewAttempt>,
    /// By trial.
    pub(crate) moves: BTreeMap<TrialKey, Move>,
    /// By attempt: as it was read, and as it is now.
    pub(crate) progress: BTreeMap<AttemptToken, (Progress, Progress)>,
    pub(crate) fingerprints: Vec<(AttemptToken, Fingerprint)>,
    pub(crate) validation: Vec<(AttemptToken, Evaluation)>,
    pub(crate) held_out: Vec<(AttemptToken, Evaluation)>,
    pub(crate) losses: Vec<(AttemptToken, TrainingLoss)>,
    pub(crate) artifacts: Vec<(AttemptToken, Artifact)>,
    pub(crate) resumed: BTreeMap<AttemptToken, Resumed>,
    /// With the number of the batch that brought it.
    pub(crate) logs: Vec<(AttemptToken, u64, Vec<u8>)>,
    /// Output that is not kept any more: that of the batches after the first number, up to the second.
    pub(crate) left_out: Vec<(AttemptToken, u64, u64)>,
    /// With the trial.
    pub(crate) events: Vec<(TrialKey, TrialEvent)>,
    /// The digests of inputs: as they were read, and as they are now.
    pub(crate) pins: BTreeMap<Input, (Pins, Pins)>,
    /// What is held against machines from now on; none if nothing is any more.
    pub(crate) faults: BTreeMap<(String, WorkKind), Option<Fault>>,
    /// Workers that gave a sign of life, by name, and when.
    pub(crate) seen: BTreeMap<WorkerName, Timestamp>,
    /// Workers that reported their end, by name, and when.
    pub(crate) left: BTreeMap<WorkerName, Timestamp>,
}

impl Changes {
    /// Whether there is nothing to write.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
