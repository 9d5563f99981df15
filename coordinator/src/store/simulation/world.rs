//! Workers that crash, a network that loses, delays, repeats and reorders, a coordinator and a database that come and go.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sortie_access::TokenDigest;
use sortie_core::filter::Filter;
use sortie_core::job::{ErrorClass, Outcome, Timestamp};
use sortie_core::keys::AttemptToken;
use sortie_core::lease::{AttemptHeartbeat, Completion, Lease};
use tokio::sync::Notify;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep};

use super::dice::SimulationRng;
use super::faulty::{Faults, FaultyBackend};
use super::journal::{Journal, RequestStart, batch};
use crate::clock::Clock;
use crate::store::memory::Memory;
use crate::store::types::{Claim, Claimed, SweepAction, TrialAction, Worker};
use crate::store::{Settings, Store, StoreError};

pub(super) const LEASE: Duration = Duration::from_secs(10);
const LEASE_MS: u64 = 10_000;
/// The longest that the network keeps a message.
pub(super) const DELAY_MAX: Duration = Duration::from_secs(25);
/// How long a worker waits for an answer.
const TIMEOUT: Duration = Duration::from_secs(25);

/// The time that tokio's paused clock makes.
#[derive(Debug)]
pub(super) struct SimulatedClock(Instant);

impl Clock for SimulatedClock {
    fn now(&self) -> Timestamp {
        Timestamp(1_000_000).plus(self.0.elapsed())
    }
}

/// A coordinator that runs.
struct Coordinator {
    store: Arc<Store>,
    reaper: JoinHandle<()>,
    dead: Arc<AtomicBool>,
}

pub(super) struct Simulation {
    dice: RefCell<SimulationRng>,
    model: Memory,
    disk: Arc<Mutex<Memory>>,
    pub(super) faults: Arc<Mutex<Faults>>,
    pub(super) clock: Arc<SimulatedClock>,
    coordinator: RefCell<Option<Coordinator>>,
    /// Whoever waits for an answer when it crashes waits no more.
    crashes: Notify,
    /// Until when a worker's network is cut.
    cuts: RefCell<BTreeMap<usize, Instant>>,
    /// Nothing fails any more.
    healed: Cell<bool>,
    pub(super) journal: RefCell<Journal>,
}

/// What a worker asks.
#[derive(Clone, Debug)]
enum Call {
    Register(Worker),
    Claim(Claim, Duration),
    Heartbeat(String, Vec<AttemptToken>),
    Report(AttemptToken, u64),
    Complete(AttemptToken),
}

/// What it hears, if it hears anything.
enum CallResult {
    Done,
    Claimed(Claimed),
    Lost(Vec<AttemptToken>),
    Refused,
}

impl Simulation {
    pub(super) fn new(seed: u64, ignores_tokens: bool) -> Rc<Self> {
        let mut dice = SimulationRng::new(seed);
        let faults = SimulationRng::new(dice.below(u64::MAX));
        let faults = Faults {
            dice: faults,
            refused: 0,
            unacknowledged: 0,
            ignores_tokens,
            adds_nothing: false,
            hangs: false,
        };
        let clock = Arc::new(SimulatedClock(Instant::now()));
        Rc::new(Self {
            dice: RefCell::new(dice),
            model: Memory::default().with_clock(Arc::clone(&clock) as Arc<_>),
            disk: Arc::default(),
            faults: Arc::new(Mutex::new(faults)),
            clock,
            coordinator: RefCell::new(None),
            crashes: Notify::new(),
            cuts: RefCell::default(),
            healed: Cell::new(false),
            journal: RefCell::new(Journal::new(LEASE)),
        })
    }

    fn below(&self, bound: u64) -> u64 {
        self.dice.borrow_mut().below(bound)
    }

    fn percent(&self, chance: u64) -> bool {
        self.dice.borrow_mut().percent(chance)
    }

    fn millis(&self, max: u64) -> Duration {
        self.dice.borrow_mut().millis(max)
    }

    pub(super) fn store(&self) -> Option<Arc<Store>> {
        self.coordinator.borrow().as_ref().map(|coordinator| Arc::clone(&coordinator.store))
    }

    /// Starts a coordinator on what the last one left.
    pub(super) async fn start(&self) {
        let (faults, disk, dead) =
            (Arc::clone(&self.faults), Arc::clone(&self.disk), Arc::new(AtomicBool::new(false)));
        let backend =
            Arc::new(FaultyBackend { inner: self.model.clone(), disk, faults, dead: Arc::clone(&dead) });
        let store = loop {
            match Store::on(Arc::clone(&backend) as Arc<_>, Settings::new(LEASE)).await {
                Ok(store) => break Arc::new(store),
                Err(_) => sleep(Duration::from_millis(100)).await,
            }
        };
        let reaper = tokio::spawn(crate::reaper::run(Arc::clone(&store)));
        *self.coordinator.borrow_mut() = Some(Coordinator { store, reaper, dead });
    }

    /// Ends the coordinator. A power cut also takes what was not flushed to the disk.
    async fn crash(&self, power_cut: bool) {
        if let Some(Coordinator { reaper, dead, .. }) = self.coordinator.borrow_mut().take() {
            reaper.abort();
            dead.store(true, Ordering::Relaxed);
        }
        self.crashes.notify_waiters();
        if power_cut {
            // Whoever waits for an answer hears none.
            tokio::task::yield_now().await;
            let disk = self.disk.lock().unwrap().clone();
            self.model.fall_back_to(&disk).await;
            self.journal.borrow_mut().power_was_cut();
        }
    }

    pub(super) async fn heal(&self) {
        self.healed.set(true);
        self.cuts.borrow_mut().clear();
        {
            let mut faults = self.faults.lock().unwrap();
            (faults.refused, faults.unacknowledged) = (0, 0);
        }
        if self.store().is_none() {
            self.start().await;
        }
    }

    fn loses(&self, worker: usize) -> bool {
        let cut = self.cuts.borrow().get(&worker).is_some_and(|until| *until > Instant::now());
        !self.healed.get() && (cut || self.percent(4))
    }

    /// Mostly short; now and then long enough for others to overtake, and for a lease to end.
    fn delay(&self) -> Duration {
        if self.healed.get() || self.percent(60) {
            return Duration::from_millis(1);
        }
        if self.percent(4) { self.long_delay() } else { self.millis(400) }
    }

    fn long_delay(&self) -> Duration {
        DELAY_MAX.mul_f64(self.below(1_000) as f64 / 1_000.0)
    }

    /// One request, there and back. None: the worker heard nothing, whatever happened.
    async fn call(self: &Rc<Self>, worker: usize, call: Call) -> Option<CallResult> {
        let there_and_back = async {
            sleep(self.delay()).await;
            if self.loses(worker) {
                return std::future::pending().await;
            }
            if !self.healed.get() && self.percent(5) {
                // The network has a copy, and delivers it some time.
                let (world, call, delay) = (Rc::clone(self), call.clone(), self.long_delay());
                tokio::task::spawn_local(async move {
                    sleep(delay).await;
                    world.deliver(call).await;
                });
            }
            let heard = self.deliver(call.clone()).await;
            sleep(self.delay()).await;
            if self.loses(worker) { std::future::pending().await } else { heard }
        };
        tokio::time::timeout(TIMEOUT, there_and_back).await.ok().flatten()
    }

    /// A request arrives at the coordinator, which may be down, or go down meanwhile.
    async fn deliver(&self, call: Call) -> Option<CallResult> {
        let store = self.store()?;
        let crashed = self.crashes.notified();
        let left = self.journal.borrow_mut().departs(self.clock.now());
        if let Call::Complete(token) = &call {
            self.journal.borrow_mut().says_its_end(*token, left);
        }
        let answer = tokio::select! {
            biased;
            () = crashed => None,
            answer = self.ask(&store, &call, left) => answer,
        };
        drop(store);
        answer
    }

    async fn ask(&self, store: &Store, call: &Call, left: RequestStart) -> Option<CallResult> {
        let heard = |answer: Result<CallResult, StoreError>| match answer {
            Ok(heard) => Some(heard),
            Err(StoreError::Database(_) | StoreError::NoAnswer(_) | StoreError::Stopping) => None,
            Err(StoreError::UnknownToken(token)) => {
                self.journal.borrow_mut().unknown(token, self.clock.now());
                Some(CallResult::Refused)
            }
            Err(StoreError::Refused(_)) => {
                if let Call::Complete(token) = call {
                    self.journal.borrow_mut().refused(*token);
                }
                Some(CallResult::Refused)
            }
            Err(StoreError::Gap { token, got, .. }) => {
                self.journal.borrow_mut().missed(token, got, self.clock.now());
                Some(CallResult::Refused)
            }
            // After a power cut, a worker whose registration was acknowledged is still known.
            Err(error) => panic!("{call:?}: {error}"),
        };
        let answer = match call {
            Call::Register(worker) => store.register(worker).await.map(|()| CallResult::Done),
            Call::Claim(claim, wait) => store.claim(claim.clone(), *wait).await.map(CallResult::Claimed),
            Call::Heartbeat(worker, tokens) => store
                .heartbeat(
                    TokenDigest::default(),
                    worker,
                    tokens.iter().map(|token| AttemptHeartbeat::at(*token, 1)).collect(),
                )
                .await
                .map(CallResult::Lost),
            Call::Report(token, sequence) => store
                .report(TokenDigest::default(), *token, batch(*token, *sequence))
                .await
                .map(|()| CallResult::Done),
            Call::Complete(token) => {
                let (outcome, batches) = self.journal.borrow().plan(*token);
                let completion = Completion { token: *token, batch: Some(batch(*token, batches)), outcome };
                store.complete(TokenDigest::default(), completion).await.map(|()| CallResult::Done)
            }
        };
        let heard = heard(answer)?;
        self.write_down(call, &heard, left);
        Some(heard)
    }

    fn write_down(&self, call: &Call, heard: &CallResult, left: RequestStart) {
        let at = self.clock.now();
        let mut journal = self.journal.borrow_mut();
        match (call, heard) {
            (Call::Claim(..), CallResult::Claimed(claimed)) => {
                for lease in &claimed.leases {
                    let (outcome, batches) = self.plan();
                    journal.lease(lease, left, at, outcome, batches);
                }
            }
            (Call::Heartbeat(_, tokens), CallResult::Lost(lost)) => {
                tokens
                    .iter()
                    .filter(|token| !lost.contains(token))
                    .for_each(|token| journal.alive(*token, left, at));
            }
            (Call::Report(token, sequence), CallResult::Done) => {
                journal.reported(*token, *sequence, left, at)
            }
            (Call::Complete(token), CallResult::Done) => journal.ended(*token, left, at),
            _ => {}
        }
    }

    fn plan(&self) -> (Outcome, u64) {
        let failed = |class| Outcome::Failed { class, message: String::new() };
        let outcome = match self.below(20) {
            0 => Outcome::Diverged { step: 1 },
            1 => failed(ErrorClass::Transient),
            2 => failed(ErrorClass::OutOfMemory),
            3 | 4 => failed(ErrorClass::Preempted),
            5 => failed(ErrorClass::Machine),
            _ => Outcome::Succeeded,
        };
        (outcome, 1 + self.below(4))
    }

    /// A worker process after the other, for good.
    pub(super) async fn agent(self: Rc<Self>, worker: usize) {
        for life in 0_u64.. {
            let id = format!("w{worker}-{life}");
            let span =
                if self.healed.get() { Duration::from_secs(1 << 30) } else { self.millis(12 * LEASE_MS) };
            // Its attempts die with it, between any two of their steps.
            let crashed = tokio::time::timeout(span, self.life(worker, &id)).await;
            drop(crashed);
            sleep(self.millis(LEASE_MS)).await;
        }
    }

    async fn life(self: &Rc<Self>, worker: usize, id: &str) {
        let process = Worker {
            id: id.to_owned(),
            host: id.to_owned(),
            machine: format!("m{worker}"),
            ..Worker::default()
        };
        while self.call(worker, Call::Register(process.clone())).await.is_none() {
            sleep(Duration::from_secs(1)).await;
        }
        let running: Rc<RefCell<BTreeMap<AttemptToken, bool>>> = Rc::default();
        let mut tasks = JoinSet::new();
        tasks.spawn_local(Rc::clone(self).heartbeats(worker, id.to_owned(), Rc::clone(&running)));
        loop {
            let claim = Claim {
                worker_id: id.to_owned(),
                count_max: 1 + u32::from(self.percent(50)),
                ..Claim::default()
            };
            let wait = self.millis(20_000);
            let Some(CallResult::Claimed(claimed)) = self.call(worker, Call::Claim(claim, wait)).await else {
                sleep(Duration::from_secs(1)).await;
                continue;
            };
            for lease in claimed.leases {
                running.borrow_mut().insert(lease.token, true);
                tasks.spawn_local(Rc::clone(self).attempt(worker, lease, Rc::clone(&running)));
            }
            while running.borrow().len() > 2 {
                sleep(Duration::from_secs(1)).await;
            }
        }
    }

    async fn heartbeats(
        self: Rc<Self>,
        worker: usize,
        id: String,
        running: Rc<RefCell<BTreeMap<AttemptToken, bool>>>,
    ) {
        loop {
            sleep(LEASE / 4).await;
            let tokens: Vec<AttemptToken> = running.borrow().keys().copied().collect();
            if let Some(CallResult::Lost(lost)) = self.call(worker, Call::Heartbeat(id.clone(), tokens)).await
            {
                running
                    .borrow_mut()
                    .iter_mut()
                    .for_each(|(token, goes_on)| *goes_on &= !lost.contains(token));
            }
        }
    }

    /// An attempt repeats each report until it is acknowledged, and stops when it is refused as stale.
    async fn attempt(
        self: Rc<Self>,
        worker: usize,
        lease: Lease,
        running: Rc<RefCell<BTreeMap<AttemptToken, bool>>>,
    ) {
        let token = lease.token;
        let (_, batches) = self.journal.borrow().plan(token);
        for sequence in 1..=batches {
            sleep(self.millis(4_000)).await;
            let call =
                if sequence == batches { Call::Complete(token) } else { Call::Report(token, sequence) };
            // An attempt that a heartbeat reported as stale may not have received the answer.
            while running.borrow().get(&token) == Some(&true) || self.percent(20) {
                match self.call(worker, call.clone()).await {
                    Some(CallResult::Refused) => drop(running.borrow_mut().insert(token, false)),
                    Some(_) => break,
                    None => sleep(Duration::from_millis(500)).await,
                }
            }
        }
        running.borrow_mut().remove(&token);
    }

    /// What goes wrong, again and again.
    pub(super) async fn trouble(self: Rc<Self>, workers: usize) {
        loop {
            // Now and then before a new coordinator has done anything but assign trials.
            let pause = if self.percent(40) { self.millis(100) } else { self.millis(6_000) };
            sleep(pause).await;
            if self.healed.get() {
                return;
            }
            match self.below(8) {
                0 | 1 => {
                    self.crash(self.percent(50)).await;
                    sleep(self.millis(2 * LEASE_MS)).await;
                    self.start().await;
                }
                2 | 3 => {
                    let until = Instant::now() + self.millis(4 * LEASE_MS);
                    let worker = self.below(workers as u64) as usize;
                    self.cuts.borrow_mut().insert(worker, until);
                }
                4 => {
                    self.faults.lock().unwrap().refused = 100;
                    sleep(self.millis(LEASE_MS)).await;
                    self.faults.lock().unwrap().refused = 5;
                }
                5 => {
                    let chance = self.below(20);
                    self.faults.lock().unwrap().unacknowledged = chance;
                }
                _ => self.user().await,
            }
        }
    }

    /// A user who changes his mind. What he does may fail: then he does not insist.
    async fn user(&self) {
        let Some(store) = self.store() else { return };
        if self.percent(50) {
            drop(store.act("simulated", SweepAction::Pause).await);
            sleep(self.millis(LEASE_MS)).await;
            drop(store.act("simulated", SweepAction::Resume).await);
        } else {
            self.journal.borrow_mut().cancels = true;
            let filter = Filter::parse(["held_out=photo", "dropout=0.5"][self.below(2) as usize]).unwrap();
            drop(store.act_on_trials("simulated", TrialAction::Cancel, &filter, None).await);
            sleep(self.millis(LEASE_MS)).await;
            drop(store.act_on_trials("simulated", TrialAction::Retry, &filter, None).await);
        }
    }
}
