//! What this worker runs, as the heartbeat and the orders to stop need it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sortie_core::job::Token;
use tokio::sync::watch;

/// What an attempt is told from outside. Later ones outrank earlier ones and are never taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Order {
    /// Train.
    Run,
    /// End the process and hand the trial back.
    HandBack,
    /// Kill the process and say nothing more: the lease is lost, or nobody waits.
    Abandon,
}

/// An attempt's own end of its entry.
#[derive(Debug)]
pub(super) struct Entry {
    /// The last step whose update is made; told with each heartbeat.
    pub(super) step: Arc<AtomicU64>,
    /// What to do.
    pub(super) orders: watch::Receiver<Order>,
}

#[derive(Debug)]
struct Handle {
    step: Arc<AtomicU64>,
    orders: watch::Sender<Order>,
}

/// Every attempt that is not over.
#[derive(Debug, Default)]
pub(super) struct Registry {
    attempts: Mutex<BTreeMap<Token, Handle>>,
}

impl Registry {
    /// Takes an attempt up.
    pub(super) fn add(&self, token: Token) -> Entry {
        let step = Arc::new(AtomicU64::new(0));
        let (sender, orders) = watch::channel(Order::Run);
        self.lock().insert(token, Handle { step: Arc::clone(&step), orders: sender });
        Entry { step, orders }
    }

    /// Forgets an attempt that is over.
    pub(super) fn remove(&self, token: Token) {
        self.lock().remove(&token);
    }

    /// Every attempt and its step.
    pub(super) fn progress(&self) -> Vec<(Token, u64)> {
        self.lock().iter().map(|(token, handle)| (*token, handle.step.load(Ordering::Relaxed))).collect()
    }

    /// Gives one attempt an order; false if there is none of this token.
    pub(super) fn order(&self, token: Token, order: Order) -> bool {
        let attempts = self.lock();
        let Some(handle) = attempts.get(&token) else {
            return false;
        };
        raise(&handle.orders, order);
        true
    }

    /// Gives all attempts an order.
    pub(super) fn order_all(&self, order: Order) {
        for handle in self.lock().values() {
            raise(&handle.orders, order);
        }
    }

    /// A panic of another holder cannot leave the map half changed: every change is one call.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Token, Handle>> {
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
        let (one, two) = (registry.add(Token(1)), registry.add(Token(2)));
        one.step.store(7, Ordering::Relaxed);
        assert_eq!(registry.progress(), [(Token(1), 7), (Token(2), 0)]);
        assert!(registry.order(Token(1), Order::Abandon));
        registry.order_all(Order::HandBack);
        assert_eq!((*one.orders.borrow(), *two.orders.borrow()), (Order::Abandon, Order::HandBack));
        registry.remove(Token(1));
        assert!(!registry.order(Token(1), Order::Abandon));
    }
}
