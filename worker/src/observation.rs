//! What an agent publishes for the program that runs it.

use std::sync::{Mutex, PoisonError};

use sortie_core::pipe::{Handshake, Preparation};
use tokio::sync::watch;

/// The part of an agent's state that the program may show.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observation {
    /// The preparation of a trial before its first step; none while all trials train.
    pub preparation: Option<Preparation>,
    /// Why the coordinator gives this worker no trials although some wait; empty if it does.
    pub held_back: String,
    /// How the last attempt failed; empty if none did.
    pub last_failure: String,
}

/// Where an agent writes its observations.
#[derive(Debug, Default)]
pub struct Observer {
    shown: watch::Sender<Observation>,
    /// A trainer of another build, in one line.
    other_build: Mutex<Option<String>>,
}

impl Observer {
    /// Receives every change from now on.
    pub fn subscribe(&self) -> watch::Receiver<Observation> {
        self.shown.subscribe()
    }

    pub(crate) fn prepares(&self, preparation: Option<Preparation>) {
        self.shown.send_if_modified(|shown| {
            let changed = shown.preparation != preparation;
            shown.preparation = preparation;
            changed
        });
    }

    pub(crate) fn held_back(&self, reason: &str) {
        self.shown.send_modify(|shown| reason.clone_into(&mut shown.held_back));
    }

    pub(crate) fn failed(&self, message: &str) {
        self.shown.send_modify(|shown| message.clone_into(&mut shown.last_failure));
    }

    /// Notes a trainer of another build, such as after an upgrade while the worker runs.
    pub(crate) fn found_other_build(&self, ours: &str, trainer: &Handshake) -> String {
        let theirs = &trainer.build;
        let line = format!(
            "the trainer is of build {theirs} now and this worker of build {ours}: start the worker again"
        );
        *self.other_build.lock().unwrap_or_else(PoisonError::into_inner) = Some(line.clone());
        line
    }

    pub(crate) fn other_build(&self) -> Option<String> {
        self.other_build.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
