//! Which connections may exist. A connection that has not made a request yet gives way to a new one when there are too many.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::time::Instant;

use super::Limits;
use super::limits::{HANDSHAKE_INTERVAL, HANDSHAKE_WAIT_MAX, HANDSHAKES_AT_ONCE, PACES_MAX, REFUSED_MAX};

/// The connections of a listener.
#[derive(Debug)]
pub(super) struct Admission(Mutex<Table>);

#[derive(Debug)]
struct Table {
    connections_max: usize,
    per_address_max: usize,
    next: u64,
    /// In the order in which they came.
    connections: BTreeMap<u64, Entry>,
    /// Those that have made no request yet.
    silent: BTreeSet<u64>,
    of_address: HashMap<IpAddr, usize>,
    /// When the handshakes of an address would have all begun if they had kept their pace.
    paces: HashMap<IpAddr, Instant>,
}

#[derive(Debug)]
struct Entry {
    address: IpAddr,
    evicted: Arc<Notify>,
}

/// A connection that may exist, until this is dropped.
#[derive(Debug)]
pub(super) struct Admitted {
    admission: Arc<Admission>,
    id: u64,
    evicted: Arc<Notify>,
    /// When it may begin its handshake.
    turn: Instant,
    /// Its requests that were refused for want of a token.
    refused: AtomicU32,
}

impl Admission {
    pub(super) fn new(limits: &Limits) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Table {
            connections_max: limits.connections,
            per_address_max: limits.connections_per_address,
            next: 0,
            connections: BTreeMap::new(),
            silent: BTreeSet::new(),
            of_address: HashMap::new(),
            paces: HashMap::new(),
        })))
    }

    /// Admits a connection; none if there are too many, and all of those that count have made a request.
    pub(super) fn admit(self: &Arc<Self>, address: IpAddr) -> Option<Admitted> {
        let mut table = self.table();
        let of_address = table.of_address.get(&address).copied().unwrap_or_default();
        if !address.is_loopback() && of_address >= table.per_address_max && !table.evict(Some(address)) {
            return None;
        }
        if table.connections.len() >= table.connections_max && !table.evict(None) {
            return None;
        }
        let (id, evicted) = (table.next, Arc::new(Notify::new()));
        table.next += 1;
        table.connections.insert(id, Entry { address, evicted: Arc::clone(&evicted) });
        table.silent.insert(id);
        *table.of_address.entry(address).or_default() += 1;
        let turn = table.turn(address);
        Some(Admitted { admission: Arc::clone(self), id, evicted, turn, refused: AtomicU32::new(0) })
    }

    /// Ends the oldest connection that has made no request, if there is one.
    pub(super) fn evict_oldest(&self) {
        self.table().evict(None);
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// When a connection of this address may begin its handshake: at once, unless there were many of late.
    fn turn(&mut self, address: IpAddr) -> Instant {
        let now = Instant::now();
        if address.is_loopback() {
            return now;
        }
        if self.paces.len() >= PACES_MAX {
            self.paces.retain(|_, pace| *pace > now);
        }
        let pace = self.paces.entry(address).or_insert(now);
        let turn = pace.checked_sub(HANDSHAKE_INTERVAL * HANDSHAKES_AT_ONCE).unwrap_or(now).max(now);
        // However many came, those that come when it is over wait no longer than a connection may.
        *pace = ((*pace).max(now) + HANDSHAKE_INTERVAL).min(now + HANDSHAKE_WAIT_MAX);
        turn
    }

    /// Ends the oldest silent connection, of one address if one is named. False if there is none.
    fn evict(&mut self, address: Option<IpAddr>) -> bool {
        let is_candidate = |id: &&u64| {
            address
                .is_none_or(|address| self.connections.get(id).is_some_and(|entry| entry.address == address))
        };
        let Some(id) = self.silent.iter().find(is_candidate).copied() else { return false };
        if let Some(entry) = self.remove(id) {
            entry.evicted.notify_one();
        }
        true
    }

    fn remove(&mut self, id: u64) -> Option<Entry> {
        self.silent.remove(&id);
        let entry = self.connections.remove(&id)?;
        if let Some(count) = self.of_address.get_mut(&entry.address) {
            *count -= 1;
            if *count == 0 {
                self.of_address.remove(&entry.address);
            }
        }
        Some(entry)
    }
}

impl Admitted {
    /// Notes that the connection has made a request: from now on it gives way to none.
    pub(super) fn has_spoken(&self) {
        self.admission.table().silent.remove(&self.id);
    }

    /// Waits until it may begin its handshake.
    pub(super) async fn wait_for_turn(&self) {
        tokio::time::sleep_until(self.turn).await;
    }

    /// Notes that a request of it had no token. One that had many and none that was answered has to go.
    pub(super) fn refuse(&self) {
        if self.refused.fetch_add(1, Ordering::Relaxed) + 1 >= REFUSED_MAX {
            self.evicted.notify_one();
        }
    }

    /// Whether it has made no request yet.
    pub(super) fn is_silent(&self) -> bool {
        let table = self.admission.table();
        // One that was evicted is gone, and silent for ever.
        table.silent.contains(&self.id) || !table.connections.contains_key(&self.id)
    }

    /// Returns when the connection has to give way.
    pub(super) async fn evicted(&self) {
        self.evicted.notified().await;
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.admission.table().remove(self.id);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const NEAR: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn admission(connections: usize, connections_per_address: usize) -> Arc<Admission> {
        let (first_request, request_body) = (Duration::from_secs(1), Duration::from_secs(1));
        Admission::new(&Limits {
            connections,
            connections_per_address,
            first_request,
            request_body,
            body_bytes: 1,
        })
    }

    fn far(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    #[tokio::test]
    async fn the_oldest_silent_connection_gives_way_and_one_that_has_spoken_never_does() {
        let admission = admission(2, 9);
        let first = admission.admit(NEAR).unwrap();
        first.has_spoken();
        let second = admission.admit(NEAR).unwrap();
        let third = admission.admit(NEAR).unwrap();
        second.evicted().await;
        assert!(second.is_silent() && !first.is_silent());
        // What was evicted counts no more, and its end changes nothing.
        drop(second);
        third.has_spoken();
        assert!(admission.admit(NEAR).is_none());
        drop(first);
        assert!(admission.admit(NEAR).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn many_handshakes_of_one_address_wait_for_their_turn_and_others_do_not() {
        let admission = admission(10_000, 10_000);
        let begun = Instant::now();
        let waits = |address: IpAddr| admission.admit(address).unwrap().turn - begun;
        for _ in 0..=HANDSHAKES_AT_ONCE {
            assert_eq!(waits(far(1)), Duration::ZERO);
        }
        for later in 1..10 {
            assert_eq!(waits(far(1)), later * HANDSHAKE_INTERVAL);
        }
        assert_eq!((waits(far(2)), waits(NEAR)), (Duration::ZERO, Duration::ZERO));
        for _ in 0..10_000 {
            assert!(waits(far(1)) <= HANDSHAKE_WAIT_MAX);
        }
        // When the flood is over, so is the waiting.
        tokio::time::advance(HANDSHAKE_WAIT_MAX).await;
        assert_eq!(waits(far(1)), HANDSHAKE_WAIT_MAX);
    }

    #[tokio::test]
    async fn who_never_shows_a_token_has_to_go() {
        let admission = admission(9, 9);
        let connection = admission.admit(NEAR).unwrap();
        (0..REFUSED_MAX).for_each(|_| connection.refuse());
        connection.evicted().await;
        assert!(connection.is_silent());
    }

    #[tokio::test]
    async fn one_address_has_its_own_limit_and_loopback_none() {
        let admission = admission(100, 2);
        let admit = |address| {
            let admitted = admission.admit(address);
            admitted.iter().for_each(Admitted::has_spoken);
            admitted
        };
        let held = [admit(far(1)).unwrap(), admit(far(1)).unwrap()];
        assert!(admit(far(1)).is_none());
        let others: Vec<_> = [far(2), far(2), NEAR, NEAR, NEAR].map(|address| admit(address).unwrap()).into();
        assert!(admit(far(2)).is_none());
        drop(held);
        assert!(admit(far(1)).is_some());
        drop(others);
        assert!(admission.table().of_address.is_empty() && admission.table().connections.is_empty());
    }

    #[tokio::test]
    async fn a_silent_connection_of_another_address_does_not_help() {
        let admission = admission(100, 1);
        let (other, own) = (admission.admit(far(1)).unwrap(), admission.admit(far(2)).unwrap());
        own.has_spoken();
        assert!(admission.admit(far(2)).is_none() && other.is_silent());
    }
}
