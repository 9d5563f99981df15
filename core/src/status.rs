//! How sweeps and workers stand, as users see them, and what users do. The states of trials are in [`crate::job`].

use crate::named;

/// How a sweep stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SweepState {
    /// Its trials are still being stored; those that are may run.
    Expanding,
    /// Its trials run as workers become free.
    Open,
    /// No trial starts until a user resumes it.
    Paused,
    /// A user cancelled it.
    Cancelled,
    /// A user put it away: lists leave it out, and no trial starts until a user takes it back.
    Archived,
    /// Another build planned it, and this one runs none of it.
    Outdated,
}
named!(SweepState, "sweep state", {
    Expanding => "expanding",
    Open => "open",
    Paused => "paused",
    Cancelled => "cancelled",
    Archived => "archived",
    Outdated => "outdated",
});

/// How a worker stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WorkerState {
    /// It runs trials.
    Working,
    /// It waits for trials.
    Idle,
    /// It was not heard from for several leases.
    Silent,
    /// It gets no trials, since its attempts kept failing.
    Quarantined,
    /// It reported its end.
    Left,
}
named!(WorkerState, "worker state", {
    Working => "working",
    Idle => "idle",
    Silent => "silent",
    Quarantined => "quarantined",
    Left => "left",
});

/// What a user does to a sweep or to some of its trials.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UserAction {
    /// No trial starts any more.
    Pause,
    /// Trials start again.
    Resume,
    /// Trials are called off.
    Cancel,
    /// Trials that ended without a result run again.
    Retry,
    /// The sweep gets another priority.
    Priority,
    /// The sweep gets another name.
    Rename,
    /// The sweep is put away.
    Archive,
    /// It is taken back.
    Unarchive,
}
named!(UserAction, "action", {
    Pause => "pause",
    Resume => "resume",
    Cancel => "cancel",
    Retry => "retry",
    Priority => "priority",
    Rename => "rename",
    Archive => "archive",
    Unarchive => "unarchive",
});
