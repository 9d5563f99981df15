//! The attempts of this worker, for heartbeats and for orders to stop.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sortie_core::keys::{AttemptToken, Incarnation};
use sortie_core::lease::AttemptHeartbeat;
use sortie_core::pipe::Preparation;
use tokio::sync::watch;

/// Names an attempt for good: its token, and the incarnation of the database that issued it. After the database was restored from a backup, a
/// token may mean another attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct AttemptKey {
    pub(crate) incarnation: Incarnation,
    pub(crate) token: AttemptToken,
}

/// An order to an attempt. Later variants outrank earlier ones, and an order is never revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Order {
    /// Train.
    Run,
    /// End the process and hand the trial back.
    HandBack,
    /// Kill the process and report nothing more: the lease is lost, or the agent ends at once.
    Abandon,
}

/// How far an attempt is.
#[derive(Debug, Default)]
pub(crate) struct AttemptProgress {
    step: AtomicU64,
    preparation: Mutex<Option<Preparation>>,
}

impl AttemptProgress {
    /// It prepares its first step.
    pub(crate) fn prepares(&self, preparation: Preparation) {
        *self.preparation() = Some(preparation);
    }

    /// The update of this step is made.
    pub(crate) fn made(&self, step: u64) {
        *self.preparation() = None;
        self.step.store(step, Ordering::Relaxed);
    }

    /// A panic of another holder cannot leave it half changed: every change is one assignment.
    fn preparation(&self) -> MutexGuard<'_, Option<Preparation>> {
        self.preparation.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn alive(&self, token: AttemptToken) -> AttemptHeartbeat {
        AttemptHeartbeat {
            token,
            step: self.step.load(Ordering::Relaxed),
            preparation: self.preparation().clone(),
        }
    }
}

/// The attempt's side of its entry.
#[derive(Debug)]
pub(crate) struct Entry {
    /// The attempt.
    pub(crate) key: AttemptKey,
    /// How far it is; sent with each heartbeat.
    pub(crate) place: Arc<AttemptProgress>,
    /// What to do.
    pub(crate) orders: watch::Receiver<Order>,
    /// Set when the process has ended and the end is being reported.
    pub(crate) ending: Arc<AtomicBool>,
}

#[derive(Debug)]
struct Handle {
    place: Arc<AttemptProgress>,
    orders: watch::Sender<Order>,
    ending: Arc<AtomicBool>,
}

/// The phase of an attempt that gets an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AttemptPhase {
    /// Its process runs.
    Running,
    /// Its end is being reported.
    Ending,
    /// There is no such attempt.
    Unknown,
}

/// Every attempt that is not over.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    attempts: Mutex<BTreeMap<AttemptKey, Handle>>,
}

impl Registry {
    /// Adds an attempt.
    pub(crate) fn add(&self, key: AttemptKey) -> Entry {
        let place = Arc::new(AttemptProgress::default());
        let (sender, orders) = watch::channel(Order::Run);
        let ending = Arc::new(AtomicBool::new(false));
        self.lock()
            .insert(key, Handle { place: Arc::clone(&place), orders: sender, ending: Arc::clone(&ending) });
        Entry { key, place, orders, ending }
    }

    /// Removes an attempt that is over.
    pub(crate) fn remove(&self, key: AttemptKey) {
        self.lock().remove(&key);
    }

    /// Every attempt of an incarnation, and how far it is.
    pub(crate) fn progress(&self, incarnation: Incarnation) -> Vec<AttemptHeartbeat> {
        let attempts = self.lock();
        let ours = attempts.iter().filter(|(key, _)| key.incarnation == incarnation);
        ours.map(|(key, handle)| handle.place.alive(key.token)).collect()
    }

    /// The attempts of other incarnations.
    pub(crate) fn foreign(&self, incarnation: Incarnation) -> Vec<AttemptKey> {
        self.lock().keys().filter(|key| key.incarnation != incarnation).copied().collect()
    }

    /// Gives one attempt an order.
    pub(crate) fn order(&self, key: AttemptKey, order: Order) -> AttemptPhase {
        let attempts = self.lock();
        let Some(handle) = attempts.get(&key) else {
            return AttemptPhase::Unknown;
        };
        raise(&handle.orders, order);
        if handle.ending.load(Ordering::Relaxed) { AttemptPhase::Ending } else { AttemptPhase::Running }
    }

    /// Gives all attempts an order.
    pub(crate) fn order_all(&self, order: Order) {
        for handle in self.lock().values() {
            raise(&handle.orders, order);
        }
    }

    /// A panic of another holder cannot leave the map half changed: every change is one call.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<AttemptKey, Handle>> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn raise(orders: &watch::Sender<Order>, order: Order) {
    orders.send_if_modified(|current| {
        let raised = order > *current;
        *current = order.max(*current);
        raised
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_never_taken_back() {
        let registry = Registry::default();
        let key = |incarnation, token| AttemptKey {
            incarnation: Incarnation(incarnation),
            token: AttemptToken(token),
        };
        let (one, two) = (registry.add(key(5, 1)), registry.add(key(5, 2)));
        let decoding = || Preparation { what: "decoding".to_owned(), done: 3, total: 9 };
        one.place.prepares(decoding());
        one.place.made(7);
        two.place.prepares(decoding());
        let alive =
            |token, step, preparation| AttemptHeartbeat { token: AttemptToken(token), step, preparation };
        let _other = registry.add(key(6, 2));
        assert_eq!(registry.progress(Incarnation(5)), [alive(1, 7, None), alive(2, 0, Some(decoding()))]);
        assert_eq!(registry.progress(Incarnation(6)), [alive(2, 0, None)]);
        assert_eq!(registry.foreign(Incarnation(6)), [key(5, 1), key(5, 2)]);
        assert_eq!(registry.order(key(5, 1), Order::Abandon), AttemptPhase::Running);
        two.ending.store(true, Ordering::Relaxed);
        assert_eq!(registry.order(key(5, 2), Order::Run), AttemptPhase::Ending);
        registry.order_all(Order::HandBack);
        assert_eq!((*one.orders.borrow(), *two.orders.borrow()), (Order::Abandon, Order::HandBack));
        registry.remove(key(5, 1));
        assert_eq!(registry.order(key(5, 1), Order::Abandon), AttemptPhase::Unknown);
    }
}
