//! What callers give to the store and get from it.

use std::time::Duration;

use sortie_access::TokenDigest;
use sortie_core::artifact::Artifact;
use sortie_core::job::{StateName, Timestamp};
use sortie_core::keep::LackingTrials;
use sortie_core::keys::AttemptToken;
use sortie_core::lease::Lease;
use sortie_core::machine::{self, Fault, HeldUp, Standing};
use sortie_core::prerequisite::{Findings, Prerequisite};
use sortie_core::record::Detail;
use sortie_core::requirements::Abilities;
use sortie_core::spec::Resubmission;
use sortie_core::status::SweepState;
use sortie_core::trial::{Point, SpecHash};

/// A worker process.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Worker {
    /// Unique for the process's lifetime.
    pub id: String,
    /// The name of its host.
    pub host: String,
    /// What it shares with workers that were started alike on the same host.
    pub machine: String,
    /// The agent's process id there.
    pub pid: u32,
    /// Its devices.
    pub devices: Vec<String>,
    /// Trials that it runs at the same time.
    pub slots: u32,
    /// What it can do.
    pub abilities: Abilities,
    /// Its build.
    pub software: String,
    /// Where its artifacts go, once it has found out.
    pub checkpoints: Option<ArtifactLocation>,
    /// Of the secret that the process made for itself: by it later requests show that they are its own.
    pub secret: TokenDigest,
}

/// Where a worker's artifacts go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArtifactLocation {
    /// To the artifact store, which any worker that shares it reads.
    Shared,
    /// To the worker's own disk.
    Local,
}
sortie_core::named!(ArtifactLocation, "place of checkpoints", { Shared => "shared", Local => "local" });

/// What a worker asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claim {
    /// Who asks.
    pub worker_id: String,
    /// Of its secret.
    pub secret: TokenDigest,
    /// At most this many trials.
    pub count_max: u32,
    /// Only trials of this sweep.
    pub sweep: Option<String>,
    /// Whether to answer at once when nothing is left that this claim could get.
    pub return_when_idle: bool,
    /// What the worker found of what it was asked to look for; none if it needs nothing for the trials that it takes.
    pub findings: Option<Findings>,
}

/// What a claim gave.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Claimed {
    /// Trials, perhaps none.
    pub leases: Vec<Lease>,
    /// Whether nothing is queued or running that this claim could get before a user acts.
    pub idle: bool,
    /// Why the worker gets none of the trials that wait; empty unless its machine is quarantined for all that it may run.
    pub quarantined: String,
    /// What keeps the worker from trials that wait; empty if nothing does, and if it got some.
    pub unfit: String,
    /// What trials that wait need, and the worker has not looked for yet.
    pub look_for: Vec<Prerequisite>,
}

/// Which results that are there already count for a sweep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reuse {
    /// Its own, if they left the files that it keeps: no other sweep's.
    Never,
    /// Those of the same trials in any sweep that left the files which this one keeps. Its own trials without them run again.
    Complete,
    /// Those of the same trials in any sweep, whatever files they left, as long as its combinations have what they are made of.
    Anyway,
}
sortie_core::named!(Reuse, "way to reuse results", { Never => "never", Complete => "complete", Anyway => "anyway" });

/// How a submission is to be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubmitOptions {
    /// Which results that are there already count.
    pub reuse: Reuse,
    /// The sweep's priority; none leaves a stored one as it is, and is 0 for a new sweep.
    pub priority: Option<i64>,
}

impl Default for SubmitOptions {
    fn default() -> Self {
        Self { reuse: Reuse::Complete, priority: None }
    }
}

/// What a submission would change.
#[derive(Clone, Debug, PartialEq)]
pub enum Preview {
    /// There is no such sweep yet.
    New {
        /// Trials of its grid.
        trials: u64,
        /// Combinations over them.
        combinations: u64,
        /// Of the trials, those whose results in other sweeps lack files.
        lacking: LackingTrials,
    },
    /// It is stored.
    Stored {
        /// What changes.
        resubmission: Resubmission,
        /// Its trials whose results lack files, here or in other sweeps.
        lacking: LackingTrials,
    },
}

/// How far a submission is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Submitted {
    /// The sweep's name.
    pub sweep: String,
    /// Trials of its grid.
    pub planned: u64,
    /// How many of them have been looked at.
    pub expanded: u64,
    /// Trials that this submission added so far.
    pub added: u64,
    /// How many of those had succeeded in another sweep.
    pub reused: u64,
    /// Trials whose results lack files that the sweep keeps: they run again.
    pub lacking: LackingTrials,
    /// A user called the sweep off meanwhile.
    pub cancelled: bool,
}

impl Submitted {
    /// Whether every trial of the grid is stored.
    pub fn is_done(&self) -> bool {
        self.expanded >= self.planned
    }
}

/// What a user does to a sweep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SweepAction {
    /// No trial starts any more; those that run go on.
    Pause,
    /// Trials start again. A cancelled sweep gets its cancelled trials back.
    Resume,
    /// Higher ones are served first.
    Priority(i64),
    /// It gets this name.
    Rename(String),
    /// Lists leave it out, and no trial starts any more; those that run go on.
    Archive,
    /// The opposite.
    Unarchive,
}

/// What is stored of a sweep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SweepContents {
    /// Its trials.
    pub trials: u64,
    /// How many of them have a result.
    pub succeeded: u64,
    /// Files that its attempts left, here or on disks of workers.
    pub files: u64,
    /// The size of those.
    pub bytes: u64,
}

/// What a user does to trials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrialAction {
    /// Call off what is not over.
    Cancel,
    /// Run again what ended without a result.
    Retry,
    /// Undo the cancellation of a sweep: its cancelled trials wait again, and then the sweep is open.
    Resume,
}

/// How far a sweep is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SweepStatus {
    /// The sweep's name.
    pub sweep: String,
    /// How it stands.
    pub state: SweepState,
    /// Higher ones are served first.
    pub priority: i64,
    /// Trials of its grid.
    pub planned: u64,
    /// Trials in each state.
    pub blocked: u64,
    /// See `blocked`.
    pub queued: u64,
    /// Whether every queued one waits after a failure.
    pub delayed: bool,
    /// See `blocked`.
    pub running: u64,
    /// Of the running: trials before their first step.
    pub preparing: u64,
    /// What one of those does, for people.
    pub preparation: Option<String>,
    /// See `blocked`.
    pub succeeded: u64,
    /// See `blocked`.
    pub diverged: u64,
    /// See `blocked`.
    pub failed: u64,
    /// See `blocked`.
    pub cancelled: u64,
    /// Of the succeeded: results of the same trials in other sweeps.
    pub reused: u64,
    /// Steps of finished trials and of those that run now.
    pub steps_done: u64,
    /// Steps of all trials.
    pub steps_planned: u64,
    /// Milliseconds that succeeded attempts took in all.
    pub running_ms: u64,
    /// How many those are.
    pub finished_attempts: u64,
    /// Why its queued trials do not run, where no worker may run them.
    pub held_up: Option<HeldUp>,
}

impl SweepStatus {
    /// That of a sweep without trials.
    pub fn empty(sweep: String, state: SweepState) -> Self {
        Self {
            sweep,
            state,
            priority: 0,
            planned: 0,
            blocked: 0,
            queued: 0,
            delayed: false,
            running: 0,
            preparing: 0,
            preparation: None,
            succeeded: 0,
            diverged: 0,
            failed: 0,
            cancelled: 0,
            reused: 0,
            steps_done: 0,
            steps_planned: 0,
            running_ms: 0,
            finished_attempts: 0,
            held_up: None,
        }
    }
}

/// One line of a list of trials.
#[derive(Clone, Debug, PartialEq)]
pub struct TrialLine {
    /// The trial.
    pub spec_hash: SpecHash,
    /// Its place in the grid.
    pub point: Point,
    /// Where it stands.
    pub state: StateName,
    /// How many attempts were made.
    pub attempts: u32,
    /// The last step that its newest attempt reported.
    pub step: u64,
    /// Where its newest attempt runs or ran; empty before the first.
    pub worker: String,
    /// `class: message` of its newest failed attempt; empty if none failed.
    pub error: String,
    /// The sweep whose attempt gave this trial's result, if it is another. Attempts, step and worker are that sweep's.
    pub reused_from: Option<String>,
}

/// The history of one trial.
#[derive(Clone, Debug, PartialEq)]
pub struct TrialHistory {
    /// Its sweep.
    pub sweep: String,
    /// Where it stands.
    pub line: TrialLine,
    /// The attempt that counts or runs.
    pub token: Option<AttemptToken>,
    /// Until when it waits after a failure.
    pub not_before: Option<Timestamp>,
    /// When this was read, by the same clock.
    pub read_at: Timestamp,
    /// Of a combination, in order: `PREFIX STATE` of each trial that it is made of.
    pub members: Vec<String>,
    /// What happened, the oldest first; of a trial that reuses another sweep's result, there too.
    pub events: Vec<TrialEvent>,
}

impl TrialHistory {
    /// How long ago an event was.
    pub fn ago(&self, event: &TrialEvent) -> Duration {
        self.read_at.since(Timestamp(event.at_ms))
    }

    /// How long it still waits after a failure.
    pub fn waits(&self) -> Duration {
        self.not_before.map_or(Duration::ZERO, |earliest| earliest.since(self.read_at))
    }
}

/// An event in the life of a trial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrialEvent {
    /// When, in milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// The attempt, if one was concerned.
    pub token: Option<AttemptToken>,
    /// One word.
    pub what: String,
    /// One line.
    pub detail: String,
}

/// A trial's files.
#[derive(Clone, Debug, PartialEq)]
pub struct TrialArtifacts {
    /// The trial.
    pub spec_hash: SpecHash,
    /// Where it stands.
    pub state: StateName,
    /// By attempt, kind, method and step.
    pub artifacts: Vec<StoredArtifact>,
}

/// A file, and on whose disk it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredArtifact {
    /// The attempt that wrote it.
    pub token: AttemptToken,
    /// What it is.
    pub artifact: Artifact,
    /// The machine of its worker.
    pub host: String,
    /// Where that worker's artifacts go.
    pub place: Option<ArtifactLocation>,
}

/// How many batches of output are read at a time, of at most 256 KiB each: an answer holds no more of a log in memory.
pub(crate) const LOG_PART_BATCHES: u64 = 16;

/// What an attempt printed, but for the text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Log {
    /// The attempt; none if the trial never ran.
    pub token: Option<AttemptToken>,
    /// Where it ran.
    pub worker: String,
    /// The last batch of the beginning, if what follows it was left out.
    pub cut: Option<u64>,
    /// How many bytes were left out.
    pub left_out: u64,
}

/// A part of what an attempt printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogPart {
    /// The text.
    pub text: Vec<u8>,
    /// Its last batch: the next part is after that.
    pub last: u64,
}

/// A worker as users see it.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkerLine {
    /// The worker.
    pub worker: Worker,
    /// Its last sign of life.
    pub seen: Timestamp,
    /// When this was read, by the same clock.
    pub read_at: Timestamp,
    /// Whether it reported its end.
    pub left: bool,
    /// What is held against its machine.
    pub faults: Vec<Fault>,
    /// SWEEP/PREFIX of what it runs.
    pub trials: Vec<String>,
}

impl WorkerLine {
    /// How long ago its last sign of life was.
    pub fn silent_for(&self) -> Duration {
        self.read_at.since(self.seen)
    }

    /// The kinds of work for which its machine is quarantined.
    pub fn quarantines(&self) -> impl Iterator<Item = &Fault> {
        self.faults.iter().filter(|fault| fault.standing(self.read_at) == Standing::Quarantined)
    }

    /// As the fitness of machines is decided.
    pub fn candidate(&self) -> machine::Candidate<'_> {
        let Worker { id, machine, abilities, .. } = &self.worker;
        machine::Candidate { worker: id, machine, abilities }
    }
}

/// Whether trials would run, as far as workers and machines decide it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outlook {
    /// Why they would not; none if some worker may run them.
    pub held_up: Option<HeldUp>,
    /// What is held against the machines of live workers for such trials, and what combinations lack, one line each.
    pub faults: Vec<String>,
}

/// Which part of a sweep's records is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageRequest {
    /// Where it starts, as [`Page::next`] gave it; 0 for the first.
    pub from: i64,
    /// At most so many trials, at least one.
    pub trials_max: usize,
    /// How much of each.
    pub detail: Detail,
}

impl PageRequest {
    /// Trials of a page whose size nobody chose.
    pub const TRIALS: usize = 500;
}

impl From<i64> for PageRequest {
    /// Everything of the trials from there on.
    fn from(from: i64) -> Self {
        Self { from, trials_max: Self::TRIALS, detail: Detail::All }
    }
}

/// A part of a long answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Page<T> {
    /// In order.
    pub rows: Vec<T>,
    /// Where the next page starts; none after the last.
    pub next: Option<i64>,
}
