//! What is done to the workers' jobs while they run.

/// A disturbance of a running task of the array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Disturbance {
    /// `scontrol requeue`.
    Requeue,
    /// The signal that Slurm sends before the time limit; the script must requeue the job.
    Warn,
}

/// The number of succeeded trials after which a task is disturbed, the disturbance, and the task. The last task is not disturbed.
pub(super) const DISTURBANCES: [(u32, Disturbance, u32); 3] =
    [(6, Disturbance::Requeue, 1), (12, Disturbance::Warn, 2), (18, Disturbance::Requeue, 3)];
