//! Why attempts fail, and when a failed one is followed by another.

use std::time::Duration;

use crate::named;

/// Why an attempt ended without a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorClass {
    /// Something that may not fail the next time.
    Transient,
    /// The worker was asked to stop and gave the trial back.
    Preempted,
    /// The lease expired: the worker died, hung, or lost its network.
    Lost,
    /// The device's or the machine's memory was not enough.
    OutOfMemory,
    /// The specification cannot run anywhere.
    BadConfig,
    /// The data cannot be understood.
    BadData,
    /// This machine lacks something that others may have: a library, a program, a path, room on a disk, a permission.
    Machine,
    /// One of this machine's devices does not work any more.
    Device,
    /// The attempt made no progress for longer than its sweep allows.
    Stalled,
    /// A sweep's own program ended by itself with an error.
    Crashed,
}
named!(ErrorClass, "error class", {
    Transient => "transient",
    Preempted => "preempted",
    Lost => "lost",
    OutOfMemory => "out-of-memory",
    BadConfig => "bad-config",
    BadData => "bad-data",
    Machine => "machine",
    Device => "device",
    Stalled => "stalled",
    Crashed => "crashed",
});

/// Where the cause of a failure lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// In the trial: it is the same everywhere.
    Trial,
    /// In the machine, for the trial's kind of work. It costs the trial nothing.
    Machine,
    /// In the machine's devices. It costs the trial nothing.
    Device,
    /// In the trial on this device: a larger one may run it.
    TrialOnDevice,
    /// Unknown: it counts against both.
    Unknown,
    /// Nowhere: nothing is wrong with either.
    Nobody,
}

/// When a failed attempt is followed by another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// How many attempts may end like this before the trial fails; none if such attempts do not count.
    pub attempts_max: Option<u32>,
    /// The wait before the second attempt; it doubles with every further failure of the class.
    pub first_delay: Duration,
}

/// No failed trial waits nominally longer than this.
const DELAY_MAX: Duration = Duration::from_secs(600);
/// No failed trial waits longer than this.
pub const WAIT_MAX: Duration = Duration::from_secs(900);

impl ErrorClass {
    /// What the class does to a trial.
    pub fn policy(self) -> RetryPolicy {
        let policy =
            |attempts_max, seconds| RetryPolicy { attempts_max, first_delay: Duration::from_secs(seconds) };
        match self {
            Self::Preempted => policy(None, 0),
            // A trial that crashes its workers must end at some time; lost machines must not end it.
            Self::Lost => policy(Some(100), 0),
            Self::Transient => policy(Some(3), 2),
            // Other processes may have freed memory by then.
            Self::OutOfMemory => policy(Some(3), 20),
            Self::BadConfig => policy(Some(1), 0),
            // Once more, on another machine if there is one.
            Self::BadData | Self::Stalled | Self::Crashed => policy(Some(2), 0),
            Self::Machine | Self::Device => policy(None, 0),
        }
    }

    /// What the class does to a trial whose sweep may say how often programs that crash are tried again.
    pub fn policy_with(self, retries: Option<u32>) -> RetryPolicy {
        match (self, retries) {
            (Self::Crashed, Some(retries)) => {
                RetryPolicy { attempts_max: Some(retries.saturating_add(1)), ..self.policy() }
            }
            _ => self.policy(),
        }
    }

    /// Where the cause of an attempt's end like this lies.
    pub fn blame(self) -> Blame {
        match self {
            Self::BadConfig => Blame::Trial,
            Self::Machine => Blame::Machine,
            Self::Device => Blame::Device,
            Self::OutOfMemory => Blame::TrialOnDevice,
            Self::Transient | Self::BadData | Self::Stalled | Self::Crashed => Blame::Unknown,
            Self::Preempted | Self::Lost => Blame::Nobody,
        }
    }
}

impl RetryPolicy {
    /// Whether a trial that failed so often before ends with another failure of the class.
    pub fn exhausted(self, failures: u32) -> bool {
        self.attempts_max.is_some_and(|max| failures.saturating_add(1) >= max)
    }

    /// The wait after this many earlier failures, between half and one and a half times its nominal length: trials that failed together
    /// are not retried together. `jitter` is any number.
    pub fn delay(self, failures: u32, jitter: u64) -> Duration {
        let nominal =
            self.first_delay.saturating_mul(1_u32.checked_shl(failures.min(16)).unwrap_or(1)).min(DELAY_MAX);
        nominal.mul_f64(0.5 + (jitter % 1_000) as f64 / 1_000.0)
    }
}
