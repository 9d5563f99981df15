//! What the agent orders an attempt to do.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::registry::Order;

/// How much later than the process the agent may get the signal that ended both.
const SIGNAL_ECHO: Duration = Duration::from_millis(500);
/// How long an acknowledgement that is on its way may take once the attempt is to be abandoned.
const ACKNOWLEDGEMENT_GRACE: Duration = Duration::from_millis(500);

/// The next order. A registry that was dropped means that the agent ends.
pub(crate) async fn next(orders: &mut watch::Receiver<Order>) -> Order {
    match orders.changed().await {
        Ok(()) => *orders.borrow_and_update(),
        Err(_) => Order::Abandon,
    }
}

/// An order that was given about when the process ended. Batch systems signal every process of a job at once: a process that failed may have
/// got its signal just before its agent did.
pub(crate) async fn given_meanwhile(orders: &mut watch::Receiver<Order>) -> Option<Order> {
    let asked = timeout(SIGNAL_ECHO, orders.wait_for(|order| *order != Order::Run)).await;
    Some(asked.ok()?.as_deref().copied().unwrap_or(Order::Abandon))
}

/// Waits until the attempt is to be abandoned.
pub(crate) async fn abandoned(orders: &mut watch::Receiver<Order>) {
    // An error means that the registry was dropped, so the agent ends.
    let _ = orders.wait_for(|order| *order == Order::Abandon).await;
}

/// Waits until the attempt is to be abandoned, or was handed back so long ago.
pub(crate) async fn handed_back_for(orders: &mut watch::Receiver<Order>, grace: Duration) {
    let order = orders.wait_for(|order| *order != Order::Run).await.map(|order| *order);
    // An error means that the registry was dropped, so the agent ends.
    if order.is_ok() {
        let _ = timeout(grace, abandoned(orders)).await;
    }
}

/// Waits until the attempt is to be abandoned, and then some time in which an acknowledgement may arrive: a heartbeat that was sent before the end was acknowledged may be
/// answered that the lease is lost.
pub(crate) async fn abandoned_for_good(orders: &mut watch::Receiver<Order>) {
    abandoned(orders).await;
    sleep(ACKNOWLEDGEMENT_GRACE).await;
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_hand_back_ends_after_the_grace_and_an_abandonment_at_once() {
        let (given, mut orders) = watch::channel(Order::Run);
        let grace = Duration::from_secs(5);
        assert!(timeout(10 * grace, handed_back_for(&mut orders, grace)).await.is_err(), "it runs");
        let begun = Instant::now();
        given.send_replace(Order::HandBack);
        handed_back_for(&mut orders, grace).await;
        assert_eq!(begun.elapsed().as_secs(), 5);
        given.send_replace(Order::Abandon);
        handed_back_for(&mut orders, grace).await;
        assert_eq!(begun.elapsed().as_secs(), 5);
    }
}
