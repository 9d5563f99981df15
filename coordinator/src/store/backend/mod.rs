//! The interface between decisions and databases: the two traits, the rows that they read, the changes that they write, and what every
//! database makes of its rows in the same way.

mod changes;
#[cfg(test)]
mod optimistic_lock_tests;
mod rows;
pub(crate) mod sweep_counts;
mod traits;
pub(crate) mod trial_history;

pub(crate) use changes::{Changes, Move, NewAttempt, NewTrial};
pub(crate) use rows::{
    AttemptRow, AttemptState, Contradiction, FilesQuestion, LackingTrial, LogExtent, OpenSweep, Progress,
    Reported, ReportedData, ReusingSweep, Sizes, StoredSweepState, SweepRow, TrialRow, WaitingCombination,
    WaitingTrial, WorkerRow, given,
};
pub(crate) use traits::{
    Access, AccessReads, Attempts, Backend, Inputs, Release, Removal, Sweeps, Transaction, Trials, VERIFIES,
    Workers,
};
