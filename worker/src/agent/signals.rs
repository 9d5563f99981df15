//! Requests to stop: SIGTERM, Ctrl-C, or the end of standard input where a supervisor asked for that.

use std::io::Read;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::config::AgentError;

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

/// Listens for requests to stop: the first asks for grace, the second for haste. The end of standard input counts as a first one where
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
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            let next = if *sender.borrow() == Stop::No { Stop::Gracefully } else { Stop::Now };
            raise(&sender, next);
        }
    });
    Ok(receiver)
}

fn raise(sender: &watch::Sender<Stop>, to: Stop) {
    sender.send_if_modified(|stop| {
        let raised = to > *stop;
        *stop = to.max(*stop);
        raised
    });
}
