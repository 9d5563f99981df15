//! Requests of workers.

use std::sync::Arc;
use std::time::Duration;

use sortie_access::{Token, TokenDigest};
use sortie_core::job::Outcome;
use sortie_core::keys::AttemptToken;
use sortie_core::lease::Completion;
use sortie_core::names::UnknownName;
use sortie_core::requirements::Abilities;
use sortie_proto::{WireError, v1};
use tonic::{Request, Response, Status};
use tracing::Instrument as _;

use super::coordinator::{Coordinator, SOFTWARE};
use super::refusal::{
    NAME_BYTES_MAX, check_attempt, check_length, check_version, check_worker, invalid, refused,
};
use crate::store::{Claim, Claimed, Worker};

/// The longest that a request for trials waits.
const WAIT_MAX: Duration = Duration::from_secs(30);
const LEASES_MAX: u32 = 64;
const TAGS_MAX: usize = 64;
const DEVICES_MAX: usize = 64;
/// Attempts of one heartbeat: a hundred times what a machine with eight devices runs.
const HEARTBEAT_ATTEMPTS_MAX: usize = 4_096;

pub(super) struct WorkerApi(pub(super) Arc<Coordinator>);

#[tonic::async_trait]
impl v1::worker_service_server::WorkerService for WorkerApi {
    #[tracing::instrument(skip_all, fields(worker = %request.get_ref().worker_id))]
    async fn register(
        &self,
        request: Request<v1::RegisterRequest>,
    ) -> Result<Response<v1::RegisterResponse>, Status> {
        let worker = worker_of(request.into_inner())?;
        self.0.store.register(&worker).await.map_err(refused)?;
        tracing::info!(host = %worker.host, pid = worker.pid, devices = ?worker.devices, "worker registered");
        let lease = self.0.store.settings().lease;
        let (store, store_mark) =
            self.0.artifacts.clone().map(|offer| (offer.url, offer.mark)).unwrap_or_default();
        Ok(Response::new(v1::RegisterResponse {
            version: Some(v1::Version::ours(SOFTWARE)),
            // Three heartbeats can be lost before a lease is.
            heartbeat_ms: millis(lease / 4),
            lease_ms: millis(lease),
            store,
            store_mark,
            incarnation: self.0.store.incarnation().0,
        }))
    }

    #[tracing::instrument(level = "debug", skip_all, fields(worker = %request.get_ref().worker_id))]
    async fn lease(&self, request: Request<v1::LeaseRequest>) -> Result<Response<v1::LeaseResponse>, Status> {
        let request = request.into_inner();
        let v1::LeaseRequest {
            worker_id,
            count_max,
            wait_ms,
            sweep,
            return_when_idle,
            findings,
            incarnation,
            secret,
        } = request;
        check_worker(&worker_id, incarnation, self.0.store.incarnation())?;
        check_length("sweep", &sweep, NAME_BYTES_MAX)?;
        let sweep = Some(sweep).filter(|name| !name.is_empty());
        let findings = findings.map(TryInto::try_into).transpose().map_err(invalid)?;
        let count_max = count_max.clamp(1, LEASES_MAX);
        let claim = Claim {
            worker_id,
            secret: TokenDigest::of(&secret),
            count_max,
            sweep,
            return_when_idle,
            findings,
        };
        let wait = Duration::from_millis(wait_ms).min(WAIT_MAX);
        let mut stopping = self.0.stopping.clone();
        tokio::select! {
            claimed = self.0.store.claim(claim, wait) => Ok(Response::new(lease_response(&claimed.map_err(refused)?))),
            _ = stopping.wait_for(|&stopping| stopping) => Err(Status::unavailable("the coordinator is stopping")),
        }
    }

    async fn heartbeat(
        &self,
        request: Request<v1::HeartbeatRequest>,
    ) -> Result<Response<v1::HeartbeatResponse>, Status> {
        let v1::HeartbeatRequest { worker_id, attempts, incarnation, secret } = request.into_inner();
        check_worker(&worker_id, incarnation, self.0.store.incarnation())?;
        if attempts.len() > HEARTBEAT_ATTEMPTS_MAX {
            let reason = format!("{} of them; at most {HEARTBEAT_ATTEMPTS_MAX}", attempts.len());
            return Err(invalid(WireError::Value { field: "attempts", reason }));
        }
        let attempts = attempts.into_iter().map(Into::into).collect();
        let secret = TokenDigest::of(&secret);
        let stored = async { self.0.store.heartbeat(secret, &worker_id, attempts).await.map_err(refused) };
        let lost = stored.instrument(tracing::debug_span!("heartbeat", worker = %worker_id)).await?;
        // Outside of the span, which the default level leaves out: a warning names its worker itself.
        for token in &lost {
            tracing::warn!(%token, worker = %worker_id, "a stale attempt is refused and stops");
        }
        Ok(Response::new(v1::HeartbeatResponse { lost: lost.into_iter().map(|token| token.0).collect() }))
    }

    #[tracing::instrument(level = "debug", skip_all, fields(token = %AttemptToken(request.get_ref().token)))]
    async fn report(
        &self,
        request: Request<v1::ReportRequest>,
    ) -> Result<Response<v1::ReportResponse>, Status> {
        let v1::ReportRequest { token, batch, incarnation, secret } = request.into_inner();
        let token = check_attempt(token, incarnation, self.0.store.incarnation())?;
        let batch = batch.ok_or(WireError::Missing("batch")).and_then(TryInto::try_into).map_err(invalid)?;
        self.0.store.report(TokenDigest::of(&secret), token, batch).await.map_err(refused)?;
        Ok(Response::new(v1::ReportResponse {}))
    }

    async fn complete(
        &self,
        request: Request<v1::CompleteRequest>,
    ) -> Result<Response<v1::CompleteResponse>, Status> {
        let request = request.into_inner();
        check_attempt(request.token, request.incarnation, self.0.store.incarnation())?;
        let secret = TokenDigest::of(&request.secret);
        let completion: Completion = request.try_into().map_err(invalid)?;
        let (token, outcome) = (completion.token, completion.outcome.clone());
        let stored = async { self.0.store.complete(secret, completion).await.map_err(refused) };
        stored.instrument(tracing::debug_span!("complete", %token)).await?;
        // Outside of the span, which the default level leaves out: a warning names its attempt itself.
        match &outcome {
            Outcome::Succeeded => tracing::debug!(%token, "attempt succeeded"),
            Outcome::Diverged { step } => tracing::warn!(%token, step, "attempt diverged"),
            Outcome::Failed { class, message } => {
                tracing::warn!(%token, %class, reason = %message, "attempt failed")
            }
        }
        Ok(Response::new(v1::CompleteResponse {}))
    }

    #[tracing::instrument(skip_all, fields(worker = %request.get_ref().worker_id))]
    async fn leave(&self, request: Request<v1::LeaveRequest>) -> Result<Response<v1::LeaveResponse>, Status> {
        let v1::LeaveRequest { worker_id, incarnation, secret } = request.into_inner();
        check_worker(&worker_id, incarnation, self.0.store.incarnation())?;
        self.0.store.leave(TokenDigest::of(&secret), &worker_id).await.map_err(refused)?;
        tracing::info!("worker left");
        Ok(Response::new(v1::LeaveResponse {}))
    }
}

fn worker_of(request: v1::RegisterRequest) -> Result<Worker, Status> {
    let v1::RegisterRequest {
        version,
        worker_id,
        host,
        pid,
        devices,
        slots,
        mut tags,
        gpu_memory_gib,
        allow_commands,
        checkpoints,
        machine,
        secret,
    } = request;
    check_version(version.as_ref())?;
    let software = version.map(|version| version.software).unwrap_or_default();
    let wrong = |field, reason: String| invalid(WireError::Value { field, reason });
    let names = [
        ("worker_id", &worker_id, 1),
        ("machine", &machine, 1),
        ("host", &host, 0),
        ("software", &software, 0),
    ];
    for (field, name, least) in names {
        if !(least..=NAME_BYTES_MAX).contains(&name.len()) || name.contains(char::is_control) {
            let bytes = name.len();
            let allowed = format!("must have {least} to {NAME_BYTES_MAX}, and no control characters");
            return Err(wrong(field, format!("{bytes} bytes; {allowed}")));
        }
    }
    let is_odd = |name: &String| name.len() > NAME_BYTES_MAX || name.contains(char::is_control);
    if devices.len() > DEVICES_MAX || devices.iter().any(is_odd) {
        return Err(wrong(
            "devices",
            format!("at most {DEVICES_MAX} devices of at most {NAME_BYTES_MAX} bytes"),
        ));
    }
    if tags.len() > TAGS_MAX || tags.iter().any(|tag| tag.is_empty() || tag.len() > 100) {
        return Err(wrong("tags", format!("at most {TAGS_MAX} tags of 1 to 100 bytes")));
    }
    if !gpu_memory_gib.is_finite() || gpu_memory_gib < 0.0 {
        return Err(wrong("gpu_memory_gib", format!("{gpu_memory_gib}; must be at least 0")));
    }
    if secret.parse::<Token>().is_err() {
        return Err(wrong("secret", "it is none that a worker makes".to_owned()));
    }
    let secret = TokenDigest::of(&secret);
    let wrong_place = |error: UnknownName| wrong("checkpoints", error.to_string());
    let checkpoints = Some(checkpoints).filter(|place| !place.is_empty());
    let checkpoints = checkpoints.map(|place| place.parse()).transpose().map_err(wrong_place)?;
    tags.sort();
    let abilities = Abilities { tags, gpu_memory_gib, commands: allow_commands };
    Ok(Worker { id: worker_id, host, machine, pid, devices, slots, abilities, software, checkpoints, secret })
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn lease_response(claimed: &Claimed) -> v1::LeaseResponse {
    for lease in &claimed.leases {
        tracing::debug!(token = %lease.token, trial = %lease.spec_hash.short(), sweep = %lease.sweep, attempt = lease.attempt, "trial assigned");
    }
    let leases = claimed.leases.iter().map(Into::into);
    let (quarantined, unfit) = (claimed.quarantined.clone(), claimed.unfit.clone());
    let look_for = claimed.look_for.iter().cloned().map(Into::into);
    v1::LeaseResponse {
        leases: leases.collect(),
        idle: claimed.idle,
        quarantined,
        unfit,
        look_for: look_for.collect(),
    }
}

#[cfg(test)]
mod tests {
    use v1::worker_service_server::WorkerService as _;

    use super::*;
    use crate::store::{Settings, Store};

    #[test]
    fn names_that_lists_could_not_show_are_refused() {
        let fits = || v1::RegisterRequest {
            version: Some(v1::Version::ours("test")),
            worker_id: "w".to_owned(),
            machine: "m".to_owned(),
            host: "h".repeat(NAME_BYTES_MAX),
            devices: vec!["cpu".to_owned(); DEVICES_MAX],
            secret: Token::new().unwrap().reveal().to_owned(),
            ..Default::default()
        };
        assert!(worker_of(fits()).is_ok());
        let long = || "h".repeat(NAME_BYTES_MAX + 1);
        let version = v1::Version::ours(&long());
        for (request, said) in [
            (v1::RegisterRequest { host: long(), ..fits() }, "host: 201 bytes; must have 0 to 200"),
            (
                v1::RegisterRequest { worker_id: String::new(), ..fits() },
                "worker_id: 0 bytes; must have 1 to 200",
            ),
            (v1::RegisterRequest { machine: long(), ..fits() }, "machine: 201 bytes"),
            (
                v1::RegisterRequest { machine: "a\nb".into(), ..fits() },
                "machine: 3 bytes; must have 1 to 200, and no control",
            ),
            (v1::RegisterRequest { version: Some(version), ..fits() }, "software: 207 bytes"),
            (
                v1::RegisterRequest { devices: vec![String::new(); DEVICES_MAX + 1], ..fits() },
                "at most 64 devices",
            ),
            (v1::RegisterRequest { devices: vec![long()], ..fits() }, "at most 64 devices"),
            (v1::RegisterRequest { secret: "mine".to_owned(), ..fits() }, "secret: it is none"),
        ] {
            let error = worker_of(request).unwrap_err();
            assert!(error.message().contains(said), "{said}: {error}");
        }
    }

    #[tokio::test]
    async fn what_is_longer_than_any_honest_request_is_refused_by_name() {
        let store = Arc::new(Store::without_writer(Settings::new(Duration::from_secs(10))));
        let incarnation = store.incarnation().0;
        let (_stop, stopping) = tokio::sync::watch::channel(false);
        let api =
            WorkerApi(Arc::new(Coordinator { store, artifacts: None, callers: Arc::default(), stopping }));
        let (worker_id, long) = ("w".to_owned(), "w".repeat(NAME_BYTES_MAX + 1));
        let attempts = vec![v1::Progress::default(); HEARTBEAT_ATTEMPTS_MAX + 1];
        let heartbeat = v1::HeartbeatRequest {
            worker_id: worker_id.clone(),
            attempts,
            incarnation,
            secret: String::new(),
        };
        let lease = v1::LeaseRequest { worker_id, sweep: long.clone(), incarnation, ..Default::default() };
        let leave = v1::LeaveRequest { worker_id: long, incarnation, secret: String::new() };
        let said = [
            api.heartbeat(Request::new(heartbeat)).await.unwrap_err(),
            api.lease(Request::new(lease)).await.unwrap_err(),
            api.leave(Request::new(leave)).await.unwrap_err(),
        ];
        assert_eq!(
            said.map(|refused| refused.message().to_owned()),
            [
                "field attempts: 4097 of them; at most 4096",
                "field sweep: 201 bytes; allowed: at most 200",
                "field worker_id: 201 bytes; allowed: at most 200"
            ]
        );
    }
}
