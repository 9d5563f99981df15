//! A coordinator in the test's own process: hands out what it is given and remembers what it hears.

use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sortie_core::job::Outcome;
use sortie_proto::v1;
use sortie_proto::v1::worker_service_server::{WorkerService, WorkerServiceServer};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

/// What a worker said and what was acknowledged; refusals are not remembered.
#[derive(Clone, Debug, PartialEq)]
pub enum Heard {
    Register(v1::RegisterRequest),
    Lease(v1::LeaseRequest),
    Heartbeat(Vec<(i64, u64)>),
    Report(i64, v1::Batch),
    Complete(i64, Option<v1::Batch>, Outcome),
    Leave,
}

#[derive(Debug, Default)]
pub struct Script {
    /// Answered by every handshake, if set.
    pub refuse_register: Option<Status>,
    /// Claimed by every handshake, if set.
    pub api_version: Option<u32>,
    /// So many reports are stored but answered UNAVAILABLE, as if the answer were lost.
    pub reports_lost: u32,
    /// Every report is refused as malformed.
    pub refuse_reports: bool,
    /// The ends of trials are acknowledged late, when heartbeats have been told that the trials are not held any more.
    pub slow_completes: bool,
    /// Said with every answer to a request for trials.
    pub set_aside: String,
    /// URL and mark of the artifact store that every handshake offers.
    pub store: (String, String),
    /// Tokens that no longer hold their trial.
    pub stale: BTreeSet<i64>,
    /// What an attempt does before its first step, by the last heartbeat.
    pub preparation: Option<v1::Preparation>,
    queue: VecDeque<v1::Lease>,
    running: BTreeSet<i64>,
    heard: Vec<Heard>,
    next_token: i64,
    /// Of the database, in every handshake. What names another one is refused.
    pub incarnation: i64,
}

#[derive(Clone, Debug, Default)]
struct Service {
    script: Arc<Mutex<Script>>,
    changed: Arc<Notify>,
}

/// A coordinator that can be stopped and started again with all it knows, on one address.
pub struct Fake {
    service: Service,
    pub address: SocketAddr,
    /// Of its own, for only the end of a runtime breaks connections as the end of a process does.
    runtime: Option<tokio::runtime::Runtime>,
}

impl Fake {
    pub async fn start() -> Self {
        let mut fake = Self::stopped().await;
        fake.resume().await;
        fake
    }

    /// One that does not listen yet, although it has an address.
    pub async fn stopped() -> Self {
        let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        Self { service: Service::default(), address, runtime: None }
    }

    pub async fn resume(&mut self) {
        // The port was free a moment ago; whoever has it now, if anybody, is another test's short-lived client.
        let listener = eventually("a listener", || std::net::TcpListener::bind(self.address).ok()).await;
        listener.set_nonblocking(true).unwrap();
        let service = WorkerServiceServer::new(self.service.clone());
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.spawn(async move {
            let incoming = TcpListenerStream::new(TcpListener::from_std(listener).unwrap());
            tonic::transport::Server::builder()
                .add_service(service)
                .serve_with_incoming(incoming)
                .await
                .unwrap();
        });
        self.runtime = Some(runtime);
    }

    /// Goes away as a killed process does: connections break, nothing is answered any more.
    pub fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn script<T>(&self, change: impl FnOnce(&mut Script) -> T) -> T {
        change(&mut self.service.script.lock().unwrap())
    }

    /// Queues a trial; gives its token.
    pub fn queue(&self, spec: &sortie_core::trial::TrialSpec) -> i64 {
        self.queue_as(spec, &spec.hash().to_string())
    }

    pub fn queue_as(&self, spec: &sortie_core::trial::TrialSpec, trial_id: &str) -> i64 {
        self.queue_lease(v1::Lease {
            trial_id: trial_id.to_owned(),
            spec: Some(spec.into()),
            ..v1::Lease::default()
        })
    }

    /// Queues a lease under a token of its own, which it gives.
    pub fn queue_lease(&self, lease: v1::Lease) -> i64 {
        let token = self.script(|script| {
            script.next_token += 1;
            let token = script.next_token;
            let first = if lease.first == 0 { token } else { lease.first };
            script.queue.push_back(v1::Lease { token, first, sweep: "test".to_owned(), ..lease });
            token
        });
        self.service.changed.notify_waiters();
        token
    }

    /// Whether a worker has this trial.
    pub fn is_running(&self, token: i64) -> bool {
        self.script(|script| script.running.contains(&token))
    }

    pub fn heard(&self) -> Vec<Heard> {
        self.script(|script| script.heard.clone())
    }

    /// How an attempt ended, if it did.
    pub fn outcome(&self, token: i64) -> Option<Outcome> {
        let outcomes = self.heard().into_iter().filter_map(|heard| match heard {
            Heard::Complete(of, _, outcome) if of == token => Some(outcome),
            _ => None,
        });
        let outcomes: Vec<Outcome> = outcomes.collect();
        assert!(outcomes.len() < 2, "{outcomes:?}");
        outcomes.into_iter().next()
    }

    pub async fn wait_for_outcome(&self, token: i64) -> Outcome {
        eventually("an outcome", || self.outcome(token)).await
    }

    /// Every batch of an attempt that was stored, its last one included, in the order of their arrival.
    pub fn batches(&self, token: i64) -> Vec<v1::Batch> {
        let batches = self.heard().into_iter().filter_map(|heard| match heard {
            Heard::Report(of, batch) if of == token => Some(batch),
            Heard::Complete(of, batch, _) if of == token => batch,
            _ => None,
        });
        batches.collect()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Polls, for the things under test happen in other processes; gives up after half a minute.
pub async fn eventually<T>(what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    for _ in 0..1500 {
        if let Some(found) = check() {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{what} did not come");
}

impl Service {
    fn script(&self) -> std::sync::MutexGuard<'_, Script> {
        self.script.lock().unwrap()
    }
}

#[tonic::async_trait]
impl WorkerService for Service {
    async fn register(
        &self,
        request: Request<v1::RegisterRequest>,
    ) -> Result<Response<v1::RegisterResponse>, Status> {
        let mut script = self.script();
        if let Some(status) = &script.refuse_register {
            return Err(status.clone());
        }
        script.heard.push(Heard::Register(request.into_inner()));
        let mut version = v1::Version::ours("fake coordinator");
        version.api_version = script.api_version.unwrap_or(version.api_version);
        Ok(Response::new(v1::RegisterResponse {
            version: Some(version),
            heartbeat_ms: 100,
            lease_ms: 400,
            store: script.store.0.clone(),
            store_mark: script.store.1.clone(),
            incarnation: script.incarnation,
        }))
    }

    async fn lease(&self, request: Request<v1::LeaseRequest>) -> Result<Response<v1::LeaseResponse>, Status> {
        let request = request.into_inner();
        self.script().check_worker(request.incarnation)?;
        self.script().heard.push(Heard::Lease(request.clone()));
        let deadline = tokio::time::Instant::now() + Duration::from_millis(request.wait_ms);
        loop {
            let changed = self.changed.notified();
            {
                let mut script = self.script();
                let count = script.queue.len().min(request.count_max as usize);
                let leases: Vec<v1::Lease> = script.queue.drain(..count).collect();
                script.running.extend(leases.iter().map(|lease| lease.token));
                let idle = script.queue.is_empty() && script.running.is_empty();
                if !leases.is_empty()
                    || (idle && request.return_when_idle)
                    || tokio::time::Instant::now() >= deadline
                {
                    return Ok(Response::new(v1::LeaseResponse {
                        leases,
                        idle,
                        quarantined: script.set_aside.clone(),
                        unfit: String::new(),
                        look_for: Vec::new(),
                    }));
                }
            }
            let _ = tokio::time::timeout_at(deadline, changed).await;
        }
    }

    async fn heartbeat(
        &self,
        request: Request<v1::HeartbeatRequest>,
    ) -> Result<Response<v1::HeartbeatResponse>, Status> {
        let v1::HeartbeatRequest { attempts, incarnation, .. } = request.into_inner();
        let mut script = self.script();
        script.check_worker(incarnation)?;
        script.preparation = attempts.iter().find_map(|attempt| attempt.preparation.clone());
        let attempts: Vec<(i64, u64)> =
            attempts.iter().map(|attempt| (attempt.token, attempt.step)).collect();
        let lost =
            attempts.iter().map(|(token, _)| *token).filter(|token| script.stale.contains(token)).collect();
        script.heard.push(Heard::Heartbeat(attempts));
        Ok(Response::new(v1::HeartbeatResponse { lost }))
    }

    async fn leave(&self, _: Request<v1::LeaveRequest>) -> Result<Response<v1::LeaveResponse>, Status> {
        self.script().heard.push(Heard::Leave);
        Ok(Response::new(v1::LeaveResponse {}))
    }

    async fn report(
        &self,
        request: Request<v1::ReportRequest>,
    ) -> Result<Response<v1::ReportResponse>, Status> {
        let v1::ReportRequest { token, batch, incarnation, .. } = request.into_inner();
        let mut script = self.script();
        if script.stale.contains(&token) || incarnation != script.incarnation {
            return Err(Status::aborted("stale"));
        }
        if script.refuse_reports {
            return Err(Status::invalid_argument("this batch is odd"));
        }
        script.store(token, batch.unwrap());
        if script.reports_lost > 0 {
            script.reports_lost -= 1;
            return Err(Status::unavailable("busy"));
        }
        Ok(Response::new(v1::ReportResponse {}))
    }

    async fn complete(
        &self,
        request: Request<v1::CompleteRequest>,
    ) -> Result<Response<v1::CompleteResponse>, Status> {
        let v1::CompleteRequest { token, batch, outcome, incarnation, .. } = request.into_inner();
        let slow = {
            let mut script = self.script();
            if script.stale.contains(&token) || incarnation != script.incarnation {
                return Err(Status::aborted("stale"));
            }
            script.running.remove(&token);
            script.heard.push(Heard::Complete(token, batch, outcome.unwrap().try_into().unwrap()));
            if script.slow_completes {
                script.stale.insert(token);
            }
            script.slow_completes
        };
        if slow {
            tokio::time::sleep(Duration::from_millis(350)).await;
        }
        self.changed.notify_waiters();
        Ok(Response::new(v1::CompleteResponse {}))
    }
}

impl Script {
    /// Issues tokens once more after this one, and knows no attempt that runs: as a database that was restored from a backup.
    pub fn forget(&mut self, token: i64) {
        self.next_token = token;
        self.running.clear();
        self.queue.clear();
    }

    fn check_worker(&self, incarnation: i64) -> Result<(), Status> {
        if incarnation == self.incarnation { Ok(()) } else { Err(Status::not_found("another incarnation")) }
    }

    /// Idempotent by (token, sequence), as the contract has it; the same number with other content is a defect.
    fn store(&mut self, token: i64, batch: v1::Batch) {
        for heard in &self.heard {
            if let Heard::Report(of, stored) = heard
                && (*of, stored.sequence) == (token, batch.sequence)
            {
                assert_eq!(*stored, batch, "a sequence number was used twice");
                return;
            }
        }
        self.heard.push(Heard::Report(token, batch));
    }
}
