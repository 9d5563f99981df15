//! Requests to stop: SIGTERM, Ctrl-C, or the end of standard input if that option is set.

use std::io::Read;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::config::AgentError;

/// Signals that follow the first one sooner than this are the same request: `timeout` and batch systems signal a program and its group,
/// so that it gets each signal twice.
const ECHO: Duration = Duration::from_millis(500);

/// How urgently the agent is asked to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stop {
    /// Not at all.
    No,
    /// Hand the trials back, within a few seconds.
    Gracefully,
    /// At once.
    Now,
}

/// Listens for requests to stop: the first asks to stop gracefully, the second at once. The end of standard input counts as a first one if
/// `stdin_too`. Call it inside a tokio runtime.
///
/// # Errors
/// When the system refuses signal handlers or a thread.
pub fn stop_requests(stdin_too: bool) -> Result<watch::Receiver<Stop>, AgentError> {
    let refused = |error| AgentError::System("cannot listen for signals", error);
    let mut terminate = signal(SignalKind::terminate()).map_err(refused)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(refused)?;
    let (sender, receiver) = watch::channel(Stop::No);
    if stdin_too {
        let sender = sender.clone();
        // A thread of its own: tokio would wait for its reader of standard input when the program ends.
        let started = std::thread::Builder::new().name("stdin".to_owned()).spawn(move || {
            let mut ignored = [0_u8; 64];
            let mut input = std::io::stdin().lock();
            while input.read(&mut ignored).is_ok_and(|count| count > 0) {}
            raise(&sender, Stop::Gracefully);
        });
        started.map_err(|error| AgentError::System("cannot watch standard input", error))?;
    }
    tokio::spawn(async move {
        let mut first: Option<Instant> = None;
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            let since_first = first.map(|first| first.elapsed());
            first.get_or_insert_with(Instant::now);
            raise(&sender, asked_for(since_first));
        }
    });
    Ok(receiver)
}

/// The request of a signal that came so long after the first one.
fn asked_for(since_first: Option<Duration>) -> Stop {
    match since_first {
        Some(since_first) if since_first >= ECHO => Stop::Now,
        _ => Stop::Gracefully,
    }
}

fn raise(sender: &watch::Sender<Stop>, to: Stop) {
    sender.send_if_modified(|stop| {
        let raised = to > *stop;
        *stop = to.max(*stop);
        raised
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_echo_of_the_first_signal_is_no_second_request() {
        assert_eq!(asked_for(None), Stop::Gracefully);
        assert_eq!(asked_for(Some(Duration::from_millis(3))), Stop::Gracefully);
        assert_eq!(asked_for(Some(Duration::from_secs(1))), Stop::Now);
    }

    #[test]
    fn requests_are_never_taken_back() {
        let (sender, receiver) = watch::channel(Stop::No);
        for (asked, stands) in
            [(Stop::Gracefully, Stop::Gracefully), (Stop::Now, Stop::Now), (Stop::Gracefully, Stop::Now)]
        {
            raise(&sender, asked);
            assert_eq!(*receiver.borrow(), stands);
        }
    }
}
