//! Requests to stop: SIGTERM, Ctrl-C, the end of the terminal, or the end of standard input if that option is set.

use std::future::poll_fn;
use std::io::{self, Read};
use std::task::Poll;
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use tokio::signal::unix::{Signal, SignalKind, signal};
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

/// The signals that ask a program to stop. SIGHUP, which says that the terminal or the login has ended, is not one of them where whoever
/// started the program had it ignored, as `nohup` does.
pub fn stop_signals() -> Vec<i32> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mut signals = vec![SIGTERM, SIGINT];
    signals.extend((!ignores(&status, SIGHUP)).then_some(SIGHUP));
    signals
}

/// Whether a process with this status, as /proc has it, ignores a signal.
fn ignores(status: &str, signal: i32) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

/// Listens for [`stop_signals`].
#[derive(Debug)]
pub struct StopSignals(Vec<Signal>);

impl StopSignals {
    /// From now on these signals no longer end the process by themselves. Call it inside a tokio runtime.
    ///
    /// # Errors
    /// When the system refuses signal handlers.
    pub fn listen() -> io::Result<Self> {
        let listen = |number| signal(SignalKind::from_raw(number));
        stop_signals().into_iter().map(listen).collect::<io::Result<_>>().map(Self)
    }

    /// Waits for the next one.
    pub async fn next(&mut self) {
        poll_fn(|context| {
            let arrived = self.0.iter_mut().any(|signal| signal.poll_recv(context).is_ready());
            if arrived { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

/// Listens for requests to stop: the first asks to stop gracefully, the second at once. The end of standard input counts as a first one if
/// `stdin_too`. Call it inside a tokio runtime.
///
/// # Errors
/// When the system refuses signal handlers or a thread.
pub fn stop_requests(stdin_too: bool) -> Result<watch::Receiver<Stop>, AgentError> {
    let refused = |error| AgentError::System("cannot listen for signals", error);
    let mut signals = StopSignals::listen().map_err(refused)?;
    let (sender, receiver) = watch::channel(Stop::No);
    if stdin_too {
        let sender = sender.clone();
        // A thread of its own: tokio would wait for its reader of standard input when the program ends.
        let started = std::thread::Builder::new().name("stdin".to_owned()).spawn(move || {
            let mut ignored = [0_u8; 64];
            let mut input = io::stdin().lock();
            while input.read(&mut ignored).is_ok_and(|count| count > 0) {}
            raise(&sender, Stop::Gracefully);
        });
        started.map_err(|error| AgentError::System("cannot watch standard input", error))?;
    }
    tokio::spawn(async move {
        let mut first: Option<Instant> = None;
        loop {
            signals.next().await;
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
    fn a_signal_is_ignored_where_the_kernel_says_so() {
        let nohup =
            "Name:\tsortie\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000000001\nSigCgt:\t00000001\n";
        assert!(ignores(nohup, SIGHUP) && !ignores(nohup, SIGTERM));
        assert!(!ignores("SigIgn:\t0000000000001000\n", SIGHUP) && !ignores("", SIGHUP));
    }

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
