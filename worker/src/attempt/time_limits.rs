//! Ends attempts that hang: a heartbeat proves that the agent lives, not that the trial does.

use std::time::Duration;

use sortie_core::lease::Lease;
use sortie_core::pipe::Event;
use tokio::time::Instant;

use crate::process::child::Message;

/// The limits of an attempt, and when it last made progress.
#[derive(Debug)]
pub(crate) struct TimeLimits {
    attempt: Option<Duration>,
    stall: Option<Duration>,
    begun: Instant,
    progress: Instant,
    /// The last step, or what was prepared and how far: only a change of it is progress.
    place: Option<Place>,
}

#[derive(Debug, PartialEq)]
enum Place {
    Step(u64),
    Preparation(String, u64),
}

impl TimeLimits {
    pub(crate) fn of(lease: &Lease) -> Self {
        let (attempt, stall) = (lease.limits.attempt(), lease.limits.stall(&lease.spec.work));
        let now = Instant::now();
        Self { attempt, stall, begun: now, progress: now, place: None }
    }

    /// The process has just started.
    pub(crate) fn begin(&mut self) {
        (self.begun, self.progress) = (Instant::now(), Instant::now());
    }

    /// The process could not go on for a reason that is not its own.
    pub(crate) fn pause(&mut self) {
        self.progress = Instant::now();
    }

    /// Takes note of what the process said, and hands it on.
    pub(crate) fn saw(&mut self, message: Message) -> Message {
        let place = match &message {
            Message::Event(Event::Progress(progress)) => Some(Place::Step(progress.step)),
            Message::Event(Event::Preparation(preparation)) => {
                Some(Place::Preparation(preparation.what.clone(), preparation.done))
            }
            Message::Event(_) | Message::Printed(_) | Message::Broken(_) | Message::Ended(..) => None,
        };
        if place.is_none() || place != self.place {
            self.progress = Instant::now();
        }
        self.place = place.or(self.place.take());
        message
    }

    /// Why the attempt must end now, if it must.
    pub(crate) fn exceeded(&self) -> Option<String> {
        if let Some(limit) = self.stall.filter(|limit| self.progress.elapsed() >= *limit) {
            return Some(format!("it made no progress for {}", words(limit)));
        }
        let limit = self.attempt.filter(|limit| self.begun.elapsed() >= *limit)?;
        Some(format!("it ran for {}, which is its limit", words(limit)))
    }
}

fn words(limit: Duration) -> String {
    let seconds = limit.as_secs_f64();
    match seconds {
        _ if seconds >= 7_200.0 => format!("{} hours", round(seconds / 3_600.0)),
        _ if seconds >= 120.0 => format!("{} minutes", round(seconds / 60.0)),
        _ => format!("{} seconds", round(seconds)),
    }
}

fn round(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}
