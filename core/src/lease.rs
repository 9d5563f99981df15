//! What passes between coordinator and worker about one attempt: the lease that begins it, the batches of its reports, and its end.

use crate::artifact::{Artifact, CheckpointRef, Resumed};
use crate::combine::Member;
use crate::job::Outcome;
use crate::keep::Keep;
use crate::keys::AttemptToken;
use crate::limits::Limits;
use crate::metrics::{Evaluation, TrainingLoss};
use crate::pipe::Preparation;
use crate::record::Fingerprint;
use crate::trial::{SpecHash, TrialSpec};

/// A trial that is assigned to a worker, under a token.
#[derive(Clone, Debug, PartialEq)]
pub struct Lease {
    /// Names the attempt.
    pub token: AttemptToken,
    /// Which attempt at the trial it is: 1 for the first.
    pub attempt: u32,
    /// The first attempt at the trial, perhaps this one: names what the trial's attempts share on a worker's disk.
    pub first: AttemptToken,
    /// The trial.
    pub spec_hash: SpecHash,
    /// The sweep's name.
    pub sweep: String,
    /// What to run.
    pub spec: TrialSpec,
    /// What earlier attempts left to go on from, the best first.
    pub checkpoints: Vec<CheckpointRef>,
    /// What is left of it besides its metrics.
    pub keep: Keep,
    /// How long the attempt may take.
    pub limits: Limits,
    /// The step after whose update the first attempt kills itself, if it is to.
    pub kill_at: Option<u64>,
    /// Of a combination: what it is made of, in the order of its specification.
    pub members: Vec<Member>,
}

/// What a worker's heartbeat says of one attempt: it is alive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptHeartbeat {
    /// The attempt.
    pub token: AttemptToken,
    /// The last step whose update is made.
    pub step: u64,
    /// What it does before its first step, and how far that is; none once it trains.
    pub preparation: Option<Preparation>,
}

impl AttemptHeartbeat {
    /// An attempt that has made this step.
    pub fn at(token: AttemptToken, step: u64) -> Self {
        Self { token, step, preparation: None }
    }
}

/// Reports of one attempt.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// 1, 2, 3, ... within the attempt.
    pub sequence: u64,
    /// In the first batch: what the attempt runs on.
    pub fingerprint: Option<Fingerprint>,
    /// Evaluations.
    pub evaluations: Vec<Evaluation>,
    /// Losses.
    pub losses: Vec<TrainingLoss>,
    /// What the attempt printed.
    pub log: Vec<u8>,
    /// Files that it left in the artifact store.
    pub artifacts: Vec<Artifact>,
    /// In the first batch: where it took up another attempt's work.
    pub resumed: Option<Resumed>,
    /// What people should know of its output, a line each.
    pub notes: Vec<String>,
}

/// The end of an attempt, with its last reports.
#[derive(Clone, Debug, PartialEq)]
pub struct Completion {
    /// The attempt.
    pub token: AttemptToken,
    /// Its last reports.
    pub batch: Option<Batch>,
    /// How it ended.
    pub outcome: Outcome,
}
