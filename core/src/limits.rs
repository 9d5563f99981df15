//! How long an attempt may take, and how often it is retried. No part of any trial's identity.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::trial::Work;

/// How long Sortie's own trainer may make no step, no evaluation and no preparation step, in minutes, unless a sweep says otherwise.
const STALL_MINUTES: f64 = 60.0;

/// How long an attempt may take, and how often a program that crashes is tried again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Of one attempt, in hours.
    pub hours: Option<f64>,
    /// Without progress, in minutes. For a command, any output is progress.
    pub stall_minutes: Option<f64>,
    /// How often a command that ended with an error is tried again; once if none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retries: Option<u32>,
}

impl Limits {
    /// The largest number of either, in its unit.
    pub const MAX: f64 = 100_000.0;
    /// The largest number of retries.
    pub const RETRIES_MAX: u32 = 100;

    /// How long an attempt may take; as long as it likes if none.
    pub fn attempt(&self) -> Option<Duration> {
        seconds(self.hours? * 3_600.0)
    }

    /// How long an attempt at this work may make no progress; as long as it likes if none: what a command prints is its own affair.
    pub fn stall(&self, work: &Work) -> Option<Duration> {
        let minutes = match (self.stall_minutes, work) {
            (Some(minutes), _) => minutes,
            (None, Work::Finetune(_)) => STALL_MINUTES,
            (None, Work::Command(_)) => return None,
        };
        seconds(minutes * 60.0)
    }
}

fn seconds(seconds: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(seconds).ok()
}
