//! What workers say.

use std::sync::Arc;
use std::time::Duration;

use sortie_core::job::{Outcome, Token};
use sortie_proto::{WireError, v1};
use tonic::{Request, Response, Status};

use super::{Coordinator, SOFTWARE, check_version, invalid, refused};
use crate::store::{Batch, Claim, Claimed, Worker};

/// The longest that a request for trials waits.
const WAIT_MAX: Duration = Duration::from_secs(30);
const LEASES_MAX: u32 = 64;
/// A waiting request looks at the queue this often even if nobody tells it to.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

pub(super) struct WorkerApi(pub(super) Arc<Coordinator>);

#[tonic::async_trait]
impl v1::worker_service_server::WorkerService for WorkerApi {
    async fn register(&self, request: Request<v1::RegisterRequest>) -> Result<Response<v1::RegisterResponse>, Status> {
        let v1::RegisterRequest { version, worker_id, host, pid, devices } = request.into_inner();
        check_version(version.as_ref())?;
        let software = version.map(|version| version.software).unwrap_or_default();
        if worker_id.is_empty() || worker_id.len() > 200 {
            return Err(invalid(WireError::Value { field: "worker_id", reason: "must have 1 to 200 bytes".to_owned() }));
        }
        let worker = Worker { id: worker_id, host, pid, devices, software };
        self.0.store.register(&worker, self.0.clock.now()).await.map_err(refused)?;
        tracing::info!(worker = %worker.id, host = %worker.host, pid = worker.pid, devices = ?worker.devices, "worker registered");
        let lease = self.0.store.lease();
        Ok(Response::new(v1::RegisterResponse {
            version: Some(v1::Version::ours(SOFTWARE)),
            // Three heartbeats can be lost before a lease is.
            heartbeat_ms: millis(lease / 4),
            lease_ms: millis(lease),
        }))
    }

    async fn lease(&self, request: Request<v1::LeaseRequest>) -> Result<Response<v1::LeaseResponse>, Status> {
        let v1::LeaseRequest { worker_id, count_max, wait_ms, sweep, return_when_idle } = request.into_inner();
        let sweep = Some(sweep.as_str()).filter(|name| !name.is_empty());
        let claim = Claim { worker_id: &worker_id, count_max: count_max.clamp(1, LEASES_MAX), sweep };
        let deadline = tokio::time::Instant::now() + Duration::from_millis(wait_ms).min(WAIT_MAX);
        let mut stopping = self.0.stopping.clone();
        loop {
            // Listening starts before looking, so that nothing which happens in between is missed.
            let changed = self.0.changed.notified();
            let claimed = self.0.store.claim(&claim, self.0.clock.now()).await.map_err(refused)?;
            let look_again = deadline.min(tokio::time::Instant::now() + LOOK_INTERVAL);
            if !claimed.leases.is_empty() || (claimed.idle && return_when_idle) || tokio::time::Instant::now() >= deadline {
                return Ok(Response::new(lease_response(&claimed, &worker_id)));
            }
            tokio::select! {
                () = changed => {}
                () = tokio::time::sleep_until(look_again) => {}
                _ = stopping.wait_for(|&stopping| stopping) => return Err(Status::unavailable("the coordinator is stopping")),
            }
        }
    }

    async fn heartbeat(&self, request: Request<v1::HeartbeatRequest>) -> Result<Response<v1::HeartbeatResponse>, Status> {
        let attempts: Vec<_> = request.into_inner().attempts.iter().map(|attempt| (Token(attempt.token), attempt.step)).collect();
        let lost = self.0.store.heartbeat(&attempts, self.0.clock.now()).await.map_err(refused)?;
        for token in &lost {
            tracing::warn!(%token, "a stale attempt was told to stop");
        }
        Ok(Response::new(v1::HeartbeatResponse { lost: lost.into_iter().map(|token| token.0).collect() }))
    }

    async fn report(&self, request: Request<v1::ReportRequest>) -> Result<Response<v1::ReportResponse>, Status> {
        let v1::ReportRequest { token, batch } = request.into_inner();
        let batch = batch.ok_or(WireError::Missing("batch")).and_then(batch_of).map_err(invalid)?;
        self.0.store.report(Token(token), &batch, self.0.clock.now()).await.map_err(refused)?;
        Ok(Response::new(v1::ReportResponse {}))
    }

    async fn complete(&self, request: Request<v1::CompleteRequest>) -> Result<Response<v1::CompleteResponse>, Status> {
        let v1::CompleteRequest { token, batch, outcome } = request.into_inner();
        let token = Token(token);
        let batch = batch.map(batch_of).transpose().map_err(invalid)?;
        let outcome: Outcome = outcome.ok_or(WireError::Missing("outcome")).and_then(TryInto::try_into).map_err(invalid)?;
        self.0.store.complete(token, batch.as_ref(), &outcome, self.0.clock.now()).await.map_err(refused)?;
        match &outcome {
            Outcome::Succeeded => tracing::info!(%token, "attempt succeeded"),
            Outcome::Diverged { step } => tracing::warn!(%token, step, "attempt diverged"),
            Outcome::Failed { class, message } => tracing::warn!(%token, %class, message, "attempt failed"),
        }
        // A trial may be queued again, or the last one may have ended.
        self.0.changed.notify_waiters();
        Ok(Response::new(v1::CompleteResponse {}))
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn lease_response(claimed: &Claimed, worker_id: &str) -> v1::LeaseResponse {
    for lease in &claimed.leases {
        tracing::info!(token = %lease.token, trial = %lease.trial_id.short(), sweep = %lease.sweep, worker = %worker_id, "trial leased");
    }
    let leases = claimed.leases.iter().map(|lease| v1::Lease {
        token: lease.token.0,
        trial_id: lease.trial_id.to_string(),
        sweep: lease.sweep.clone(),
        spec: Some((&lease.spec).into()),
    });
    v1::LeaseResponse { leases: leases.collect(), idle: claimed.idle }
}

fn batch_of(wire: v1::Batch) -> Result<Batch, WireError> {
    let v1::Batch { sequence, fingerprint, evaluations, losses } = wire;
    if sequence == 0 || i64::try_from(sequence).is_err() {
        return Err(WireError::Value { field: "batch.sequence", reason: format!("{sequence}; numbers start at 1") });
    }
    let fingerprint = fingerprint.map(Into::into);
    let losses: Vec<sortie_core::metrics::TrainingLoss> = losses.into_iter().map(Into::into).collect();
    if losses.iter().any(|loss| loss.loss.is_nan()) {
        return Err(WireError::Value { field: "batch.losses", reason: "NaN; a run whose loss is no number has diverged".to_owned() });
    }
    let evaluations = evaluations.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?;
    Ok(Batch { sequence, fingerprint, evaluations, losses })
}
