//! The connection to the coordinator: one channel, every call with a time limit, every error classified by what the agent does about it.

use std::error::Error as _;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use sortie_access::{Link, Target};
use sortie_core::job::Outcome;
use sortie_core::keys::{AttemptToken, Incarnation};
use sortie_core::lease::AttemptHeartbeat;
use sortie_proto::v1;
use sortie_proto::v1::worker_service_client::WorkerServiceClient;
use tokio::sync::watch;
use tonic::{Code, Response, Status};

use crate::registry::AttemptKey;

/// For calls that the coordinator answers at once. A call that timed out may still have been served; every call can be repeated.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// How soon the loss of the coordinator's machine is noticed.
const KEEPALIVE: Duration = Duration::from_secs(10);

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CallError {
    /// The token's attempt no longer holds its trial.
    Stale,
    /// Not reached, not ready, or too slow: try again.
    Unavailable(String),
    /// Trying again would not help.
    Refused(String),
    /// The two builds have different API versions.
    Version(String),
}

/// Classifies a status by what the agent does about it.
fn sort(status: &Status) -> CallError {
    match status.code() {
        Code::Aborted => CallError::Stale,
        Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::PermissionDenied
        | Code::Unauthenticated
        | Code::DataLoss => CallError::Refused(first_line(status.message())),
        // A broken connection shows as any of the rest.
        _ => CallError::Unavailable(root_cause(status)),
    }
}

fn root_cause(status: &Status) -> String {
    let mut cause = status.source();
    let mut text = None;
    while let Some(error) = cause {
        text = Some(error.to_string());
        cause = error.source();
    }
    let message = first_line(status.message());
    match text.map(|text| first_line(&text)) {
        Some(text) if !message.contains(&text) => format!("{message}: {text}"),
        _ => message,
    }
}

fn first_line(text: &str) -> String {
    text.lines().next().filter(|line| !line.is_empty()).unwrap_or("no reason was given").to_owned()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reachability {
    Unknown,
    Reached,
    Lost,
}

/// This worker's connection.
#[derive(Debug)]
pub(crate) struct Session {
    client: WorkerServiceClient<Link>,
    target: Target,
    registration: v1::RegisterRequest,
    url: String,
    /// With which incarnation of the database this worker is registered, if it is with the coordinator that runs now, as far as is known.
    /// Locked while registering, so that one call registers.
    registered: tokio::sync::Mutex<Option<Incarnation>>,
    reachability: Mutex<Reachability>,
    heartbeat: watch::Sender<Option<Duration>>,
    store_info: watch::Sender<Option<StoreInfo>>,
    /// Where this worker's artifacts go: "shared" or "local"; empty until that is known.
    checkpoints: Mutex<&'static str>,
}

/// The artifact store of a coordinator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoreInfo {
    /// Its URL; empty if there is none.
    pub(crate) url: String,
    /// The content of its mark.
    pub(crate) mark: String,
}

impl Session {
    /// A session that connects with its first call, and again whenever the connection is lost. Call it inside a tokio runtime.
    pub(crate) fn new(coordinator: &Target, registration: v1::RegisterRequest) -> Self {
        let url = coordinator.shown();
        let client = WorkerServiceClient::new(coordinator.lazy(KEEPALIVE))
            .max_decoding_message_size(sortie_proto::MESSAGE_BYTES_MAX);
        let (registered, reachability) = (tokio::sync::Mutex::new(None), Mutex::new(Reachability::Unknown));
        let (heartbeat, store_info) = (watch::Sender::new(None), watch::Sender::new(None));
        Self {
            client,
            target: coordinator.clone(),
            registration,
            url,
            registered,
            reachability,
            heartbeat,
            store_info,
            checkpoints: Mutex::new(""),
        }
    }

    /// The coordinator's address.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// This worker's id.
    pub(crate) fn worker_id(&self) -> &str {
        &self.registration.worker_id
    }

    /// By which the coordinator knows that a request is this worker's.
    fn secret(&self) -> String {
        self.registration.secret.clone()
    }

    /// The interval of heartbeats. Waits until the coordinator has sent it.
    pub(crate) async fn heartbeat_interval(&self) -> Duration {
        let mut said = self.heartbeat.subscribe();
        let interval = said.wait_for(Option::is_some).await.ok().and_then(|interval| *interval);
        // The session holds the sender, so there is always one.
        interval.unwrap_or(CALL_TIMEOUT)
    }

    /// The coordinator's artifact store, and every change of it.
    pub(crate) fn store_info(&self) -> watch::Receiver<Option<StoreInfo>> {
        self.store_info.subscribe()
    }

    /// Reports where this worker's artifacts go, now and with every later registration.
    pub(crate) async fn report_destination(&self, place: &'static str) {
        *self.checkpoints.lock().unwrap_or_else(PoisonError::into_inner) = place;
        let mut client = self.client.clone();
        // If this fails, the next registration reports it.
        let _ = self.call(CALL_TIMEOUT, client.register(self.registration())).await;
    }

    fn registration(&self) -> v1::RegisterRequest {
        let checkpoints = *self.checkpoints.lock().unwrap_or_else(PoisonError::into_inner);
        v1::RegisterRequest { checkpoints: checkpoints.to_owned(), ..self.registration.clone() }
    }

    /// Registers the worker with a coordinator that may have been restarted since. Gives the incarnation of its database.
    pub(crate) async fn ensure_registered(&self) -> Result<Incarnation, CallError> {
        let mut registered = self.registered.lock().await;
        if let Some(incarnation) = *registered {
            return Ok(incarnation);
        }
        let mut client = self.client.clone();
        let answer = self.call(CALL_TIMEOUT, client.register(self.registration())).await.map_err(
            |error| match error {
                // The handshake's refusal of another version.
                CallError::Refused(reason) => CallError::Version(reason),
                other => other,
            },
        )?;
        v1::Version::check(answer.version.as_ref()).map_err(|error| CallError::Version(error.to_string()))?;
        let interval = Duration::from_millis(answer.heartbeat_ms)
            .clamp(Duration::from_millis(50), Duration::from_secs(60));
        self.heartbeat.send_replace(Some(interval));
        let store_info = Some(StoreInfo { url: answer.store, mark: answer.store_mark });
        self.store_info.send_if_modified(|known| {
            let differs = *known != store_info;
            *known = store_info;
            differs
        });
        let incarnation = Incarnation(answer.incarnation);
        *registered = Some(incarnation);
        tracing::info!(coordinator = %self.url, worker = %self.worker_id(), "registered");
        Ok(incarnation)
    }

    /// This worker may not be registered: the next call except reports registers it first.
    pub(crate) async fn forget_registration(&self) {
        *self.registered.lock().await = None;
    }

    /// Takes queued trials; waits up to `wait` for one. Gives the incarnation that they belong to, too.
    #[tracing::instrument(name = "claiming", level = "debug", skip_all, fields(count = request.count_max))]
    pub(crate) async fn lease(
        &self,
        mut request: v1::LeaseRequest,
        wait: Duration,
    ) -> Result<(v1::LeaseResponse, Incarnation), CallError> {
        let incarnation = self.ensure_registered().await?;
        request.incarnation = incarnation.0;
        request.worker_id = self.worker_id().to_owned();
        request.secret = self.secret();
        request.wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        let mut client = self.client.clone();
        let answer = self.call(wait + CALL_TIMEOUT, client.lease(request)).await;
        self.note_loss(answer).await.map(|answer| (answer, incarnation))
    }

    /// Reports that attempts of an incarnation are alive. Returns those that no longer hold their trial.
    pub(crate) async fn heartbeat(
        &self,
        incarnation: Incarnation,
        attempts: Vec<AttemptHeartbeat>,
        limit: Duration,
    ) -> Result<Vec<AttemptToken>, CallError> {
        let (worker_id, attempts) =
            (self.worker_id().to_owned(), attempts.into_iter().map(Into::into).collect());
        let request =
            v1::HeartbeatRequest { worker_id, attempts, incarnation: incarnation.0, secret: self.secret() };
        let mut client = self.client.clone();
        let answer = self.call(limit, client.heartbeat(request)).await;
        let lost = self.note_loss(answer).await?.lost;
        Ok(lost.into_iter().map(AttemptToken).collect())
    }

    /// Delivers reports.
    pub(crate) async fn report(&self, attempt: AttemptKey, batch: v1::Batch) -> Result<(), CallError> {
        let AttemptKey { incarnation: Incarnation(incarnation), token: AttemptToken(token) } = attempt;
        let mut client = self.client.clone();
        let request = v1::ReportRequest { token, batch: Some(batch), incarnation, secret: self.secret() };
        let answer = self.call(CALL_TIMEOUT, client.report(request)).await;
        self.note_loss(answer).await.map(|_| ())
    }

    /// Ends an attempt.
    pub(crate) async fn complete(
        &self,
        attempt: AttemptKey,
        batch: Option<v1::Batch>,
        outcome: &Outcome,
    ) -> Result<(), CallError> {
        let AttemptKey { incarnation: Incarnation(incarnation), token: AttemptToken(token) } = attempt;
        let (outcome, secret) = (Some(outcome.into()), self.secret());
        let request = v1::CompleteRequest { token, batch, outcome, incarnation, secret };
        let mut client = self.client.clone();
        let answer = self.call(CALL_TIMEOUT, client.complete(request)).await;
        self.note_loss(answer).await.map(|_| ())
    }

    /// Reports that this worker ends and holds no trial, if it is registered and the coordinator answers within `limit`.
    pub(crate) async fn leave(&self, limit: Duration) {
        // Locked while registering: then this worker is not registered yet.
        let registered = self.registered.try_lock().ok().and_then(|registered| *registered);
        let Some(Incarnation(incarnation)) = registered else { return };
        let mut client = self.client.clone();
        let request =
            v1::LeaveRequest { worker_id: self.worker_id().to_owned(), incarnation, secret: self.secret() };
        // If this fails, the coordinator notices the missing heartbeats.
        let _ = self.call(limit, client.leave(request)).await;
    }

    async fn note_loss<T>(&self, answer: Result<T, CallError>) -> Result<T, CallError> {
        // After an outage the coordinator may be another process, in which this worker is not registered.
        if matches!(answer, Err(CallError::Unavailable(_))) {
            self.forget_registration().await;
        }
        answer
    }

    async fn call<T>(
        &self,
        limit: Duration,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, CallError> {
        let had = self.target.tokens_had();
        let answer = match tokio::time::timeout(limit, call).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            // The token may have been rotated: then the access file has its successor.
            Ok(Err(status)) if status.code() == Code::Unauthenticated && self.target.has_newer(had) => {
                Err(CallError::Unavailable("the access file has a new token".to_owned()))
            }
            Ok(Err(status)) => Err(sort(&status)),
            Err(_) => Err(CallError::Unavailable(format!("no answer within {} s", limit.as_secs_f64()))),
        };
        self.log_reachability(answer.as_ref().err());
        answer
    }

    /// Logs the loss of the coordinator and its return, each once.
    fn log_reachability(&self, error: Option<&CallError>) {
        let mut reachability = self.reachability.lock().unwrap_or_else(PoisonError::into_inner);
        match error {
            Some(CallError::Unavailable(reason)) => {
                if *reachability != Reachability::Lost {
                    tracing::warn!(coordinator = %self.url, %reason, "cannot reach the coordinator; trying again until it answers");
                }
                *reachability = Reachability::Lost;
            }
            _ => {
                if *reachability == Reachability::Lost {
                    tracing::info!(coordinator = %self.url, "the coordinator answers");
                }
                *reachability = Reachability::Reached;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_connection_never_refuses_and_a_refusal_is_never_repeated() {
        for code in [
            Code::Unavailable,
            Code::Unknown,
            Code::Internal,
            Code::Cancelled,
            Code::DeadlineExceeded,
            Code::ResourceExhausted,
        ] {
            assert!(matches!(sort(&Status::new(code, "x")), CallError::Unavailable(_)), "{code:?}");
        }
        for code in [Code::InvalidArgument, Code::NotFound, Code::FailedPrecondition, Code::Unimplemented] {
            assert_eq!(
                sort(&Status::new(code, "one\ntwo")),
                CallError::Refused("one".to_owned()),
                "{code:?}"
            );
        }
        assert_eq!(sort(&Status::aborted("gone")), CallError::Stale);
    }
}
