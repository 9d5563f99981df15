//! Reports how far the work is that comes before the first step.

use std::sync::{Mutex, PoisonError};

use sortie_core::pipe::Preparation;
use sortie_data::Progress;

use super::TrialSink;

/// A report for each of so many parts of the work.
const PARTS: u64 = 100;

/// Passes the progress of a dataset's preparation on to a trial's receiver, from whichever thread makes it.
pub struct PreparationReporter<'a> {
    inner: Mutex<Inner<'a>>,
}

struct Inner<'a> {
    sink: &'a mut dyn TrialSink,
    now: Preparation,
}

impl<'a> PreparationReporter<'a> {
    /// Reports to this receiver.
    pub fn new(sink: &'a mut dyn TrialSink) -> Self {
        let now = Preparation { what: String::new(), done: 0, total: 0 };
        Self { inner: Mutex::new(Inner { sink, now }) }
    }
}

impl Progress for PreparationReporter<'_> {
    fn begin(&self, what: &str, images: u64) {
        // A panic of another holder leaves counters that are at worst too low.
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.now = Preparation { what: what.to_owned(), done: 0, total: images };
        inner.report();
    }

    fn advance(&self, images: u64) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let parts = |done: u64, total: u64| done * PARTS / total.max(1);
        let before = parts(inner.now.done, inner.now.total);
        inner.now.done += images;
        if parts(inner.now.done, inner.now.total) > before {
            inner.report();
        }
    }
}

impl Inner<'_> {
    fn report(&mut self) {
        // If nobody listens any more, the first result that cannot be delivered ends the trial.
        let _ = self.sink.preparing(&self.now);
    }
}
