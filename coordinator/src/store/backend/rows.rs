//! Rows as decisions read them.

use sortie_access::TokenDigest;
use sortie_core::artifact::{Artifact, Resumed};
use sortie_core::job::{ErrorClass, State, Timestamp};
use sortie_core::keep::{Lacks, Needs};
use sortie_core::keys::{AttemptToken, SweepKey, TrialKey, WorkerKey};
use sortie_core::machine;
use sortie_core::metrics::{Evaluation, Method, TrainingLoss};
use sortie_core::parameters::Parameters;
use sortie_core::requirements::Abilities;
use sortie_core::spec::SweepSpec;
use sortie_core::status::SweepState;
use sortie_core::trial::{Point, SpecHash};

use crate::store::StoreError;
use crate::store::types::Reuse;

/// A sweep as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SweepRow {
    pub(crate) id: SweepKey,
    pub(crate) spec: SweepSpec,
    pub(crate) revision: i64,
    pub(crate) state: StoredSweepState,
    /// Lists leave it out, and none of its trials starts.
    pub(crate) archived: bool,
    pub(crate) priority: i64,
    pub(crate) reuse: Reuse,
    pub(crate) planned: u64,
    pub(crate) expanded: u64,
    pub(crate) base: i64,
}

/// What a user made of a sweep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StoredSweepState {
    Open,
    Paused,
    Cancelled,
    /// Nobody finds it any more, and its rows are being removed.
    Deleted,
}
sortie_core::named!(StoredSweepState, "sweep state", {
    Open => "open",
    Paused => "paused",
    Cancelled => "cancelled",
    Deleted => "deleted",
});

impl SweepRow {
    /// What a result must have to be one for this sweep.
    pub(crate) fn needs(&self) -> Needs {
        match self.reuse {
            Reuse::Anyway => self.spec.needs(),
            Reuse::Never | Reuse::Complete => self.spec.needs_and_keeps(),
        }
    }

    /// The methods of which its trials have numbers. A reused result may have more; a command reports what it reports.
    pub(crate) fn methods(&self) -> impl Iterator<Item = Method> {
        let asked = self.spec.work.methods();
        let all = Method::ALL.iter().copied();
        all.filter(move |method| asked.is_none_or(|asked| asked.has(*method)))
    }

    /// Refuses a sweep that takes no submission before a user opens it.
    pub(crate) fn check_open(&self) -> Result<(), StoreError> {
        match self.state {
            _ if self.archived => Err(StoreError::Archived(self.spec.name.clone())),
            StoredSweepState::Cancelled => Err(StoreError::Cancelled(self.spec.name.clone())),
            StoredSweepState::Open | StoredSweepState::Paused | StoredSweepState::Deleted => Ok(()),
        }
    }

    /// The state as users see it.
    pub(crate) fn shown_state(&self) -> SweepState {
        match self.state {
            _ if self.archived => SweepState::Archived,
            StoredSweepState::Open if self.expanded < self.planned => SweepState::Expanding,
            StoredSweepState::Open => SweepState::Open,
            StoredSweepState::Paused => SweepState::Paused,
            StoredSweepState::Cancelled | StoredSweepState::Deleted => SweepState::Cancelled,
        }
    }
}

/// How many sweeps a database has, and how many trials they plan.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sizes {
    pub(crate) sweeps: u64,
    pub(crate) trials: u64,
}

/// A sweep that may have trials to assign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OpenSweep {
    pub(crate) id: SweepKey,
    pub(crate) name: String,
    pub(crate) revision: i64,
    pub(crate) priority: i64,
    pub(crate) running: u64,
    /// Waiting trials that may be assigned now.
    pub(crate) waiting: u64,
    /// Whether any trial waits, perhaps after a failure, or is still to be added.
    pub(crate) unfinished: bool,
    /// Whether machines may disagree about any input, of whichever sweep: the rare case, in which the digests of inputs are read.
    pub(crate) disputes: bool,
}

/// A sweep that has results of another one's attempts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ReusingSweep {
    pub(crate) name: String,
    /// How many of its trials have such a result.
    pub(crate) trials: u64,
    /// How many of those are members of its combinations.
    pub(crate) members: u64,
}

/// A trial that may be assigned.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct WaitingTrial {
    pub(crate) id: TrialKey,
    pub(crate) spec_hash: SpecHash,
    pub(crate) point: Point,
    pub(crate) state: State,
    /// The token of the same trial's result in another sweep.
    pub(crate) existing: Option<AttemptToken>,
    /// How many attempts there were.
    pub(crate) attempts: u32,
    /// The first of them.
    pub(crate) first: Option<AttemptToken>,
}

/// A combination that waits no longer: all members have a result, or some member ended without one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WaitingCombination {
    pub(crate) id: TrialKey,
    pub(crate) members: u64,
    pub(crate) succeeded: u64,
    /// Ended without a result.
    pub(crate) lost: u64,
    /// One of those, as `PREFIX STATE`.
    pub(crate) loser: String,
}

/// A worker as decisions need it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct WorkerRow {
    pub(crate) id: WorkerKey,
    pub(crate) name: String,
    /// Of its secret.
    pub(crate) secret: TokenDigest,
    pub(crate) abilities: Abilities,
    pub(crate) seen: Timestamp,
    pub(crate) machine: String,
    /// Whether anything is held against its machine.
    pub(crate) suspect: bool,
}

impl WorkerRow {
    /// As the fitness of machines is decided.
    pub(crate) fn candidate(&self) -> machine::Candidate<'_> {
        machine::Candidate { worker: &self.name, machine: &self.machine, abilities: &self.abilities }
    }
}

/// A trial as a user's actions need it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TrialRow {
    pub(crate) id: TrialKey,
    pub(crate) position: i64,
    pub(crate) point: Point,
    pub(crate) state: State,
}

/// A question about trials of a sweep that is to be stored: whose results lack files.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FilesQuestion<'a> {
    /// None for a sweep that is not stored yet.
    pub(crate) sweep: Option<SweepKey>,
    pub(crate) trials: &'a [SpecHash],
    pub(crate) needs: Needs,
    /// Whether results of other sweeps count for it.
    pub(crate) elsewhere: bool,
}

/// A trial whose result lacks files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LackingTrial {
    /// The trial of the sweep itself that has the result, and the attempt that gave it; none if only other sweeps have it.
    pub(crate) own: Option<(TrialKey, AttemptToken)>,
    pub(crate) lacks: Lacks,
}

/// How an attempt stands, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AttemptState {
    Running,
    Succeeded,
    Diverged,
    Failed,
    Cancelled,
}
sortie_core::named!(AttemptState, "attempt state", {
    Running => "running",
    Succeeded => "succeeded",
    Diverged => "diverged",
    Failed => "failed",
    Cancelled => "cancelled",
});

/// What may change about an attempt.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Progress {
    pub(crate) state: AttemptState,
    pub(crate) class: Option<ErrorClass>,
    /// Of one that failed or diverged.
    pub(crate) message: Option<String>,
    pub(crate) ended: Option<Timestamp>,
    pub(crate) sequence: u64,
    pub(crate) step: u64,
    /// What it does before its first step, for people.
    pub(crate) preparation: Option<String>,
    pub(crate) log: LogExtent,
    pub(crate) reported: Reported,
}

/// How much an attempt has reported in all, repeats included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reported {
    /// Eight named numbers count as one more.
    pub(crate) evaluations: u64,
    pub(crate) losses: u64,
    pub(crate) artifacts: u64,
    pub(crate) notes: u64,
}

/// How much an attempt has printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LogExtent {
    /// Bytes that were stored.
    pub(crate) bytes: u64,
    /// The last batch of the beginning, which is kept; none as long as everything is kept.
    pub(crate) cut: Option<u64>,
}

/// An attempt with its trial.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct AttemptRow {
    pub(crate) token: AttemptToken,
    /// Of its worker's secret.
    pub(crate) secret: TokenDigest,
    /// Its worker's machine.
    pub(crate) machine: String,
    /// Whether anything is held against that.
    pub(crate) suspect: bool,
    pub(crate) trial: TrialKey,
    pub(crate) sweep: SweepKey,
    pub(crate) held_out: String,
    pub(crate) parameters: Parameters,
    pub(crate) state: State,
    pub(crate) progress: Progress,
    pub(crate) dataset_digest: Option<String>,
    pub(crate) weights_digest: Option<String>,
    /// Whether the trial had an attempt before this one.
    pub(crate) repeated: bool,
}

/// Two attempts that should have reported the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Contradiction {
    pub(crate) trial: TrialKey,
    pub(crate) token: AttemptToken,
    pub(crate) earlier: AttemptToken,
    /// Which attempt at the trial the earlier one was: 1 for the first.
    pub(crate) earlier_number: u64,
    /// The first step at which they differ.
    pub(crate) step: u64,
    /// How many evaluations differ.
    pub(crate) rows: u64,
}

impl Progress {
    /// That of an attempt that has just begun.
    pub(crate) const BEGUN: Self = Self {
        state: AttemptState::Running,
        class: None,
        message: None,
        ended: None,
        sequence: 0,
        step: 0,
        preparation: None,
        log: LogExtent { bytes: 0, cut: None },
        reported: Reported { evaluations: 0, losses: 0, artifacts: 0, notes: 0 },
    };
}

/// What an attempt reported.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ReportedData {
    pub(crate) evaluations: Vec<Evaluation>,
    pub(crate) losses: Vec<TrainingLoss>,
    pub(crate) artifacts: Vec<Artifact>,
    pub(crate) resumed: Option<Resumed>,
    /// Its host and process.
    pub(crate) worker: String,
}

/// A text that reports leave empty where there is none.
pub(crate) fn given(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}
