//! Waiting for the end of a sweep.

use anyhow::{Context, Result};
use sortie_proto::v1::SweepStatus;

use super::poll::{Watcher, poll};
use super::progress::{is_over, line};
use crate::connection::{ClientError, RetryingClient};
use crate::output;

/// How many answers in a row must say that nobody can run what waits, before that is believed: a worker may be just starting.
const STUCK_ANSWERS: u32 = 10;

/// Waits until a sweep is over, or until nobody can run what is left of it; `last_state` gets the last state that is known, or why the coordinator does not answer.
///
/// # Errors
/// One line: the coordinator refuses, or does not know the sweep.
pub async fn until_over(
    client: &mut RetryingClient<'_>,
    sweep: &str,
    last_state: &mut String,
) -> Result<SweepStatus> {
    poll(client, Some(sweep), &mut Waiter { sweep, last_state, noted: false, stuck: 0 }).await
}

struct Waiter<'a> {
    sweep: &'a str,
    last_state: &'a mut String,
    /// Whether the outage was noted.
    noted: bool,
    /// How many answers in a row said that nobody can run what is left.
    stuck: u32,
}

impl Watcher for Waiter<'_> {
    type End = SweepStatus;

    fn see(&mut self, sweeps: Vec<SweepStatus>) -> Result<Option<SweepStatus>> {
        self.noted = false;
        let sweep = self.sweep;
        let status = sweeps.into_iter().next();
        let status =
            status.with_context(|| format!("the coordinator's answer does not contain sweep {sweep}"))?;
        self.stuck = if status.stuck { self.stuck + 1 } else { 0 };
        if is_over(&status) || self.stuck >= STUCK_ANSWERS {
            return Ok(Some(status));
        }
        *self.last_state = format!("sweep {sweep} has {}", line(&status, None));
        Ok(None)
    }

    fn outage(&mut self, error: ClientError) -> Result<(), ClientError> {
        // So that an outage does not look like slow trials.
        if !std::mem::replace(&mut self.noted, true) {
            output::note(&format!("{error}; asking again"));
        }
        *self.last_state = error.to_string();
        Ok(())
    }
}
