//! What users' tools say.

use std::sync::Arc;

use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use sortie_core::job::StateName;
use sortie_core::names::UnknownName;
use sortie_core::spec::SweepSpec;
use sortie_core::trial::DatasetSpec;
use sortie_proto::v1;
use tonic::{Request, Response, Status};

use super::{Coordinator, SOFTWARE, check_version, invalid, refused};
use crate::store::{StoreError, SweepStatus, TrialLine};

/// Trials with their evaluations in one message: far below the message limit even at hundreds of evaluations a trial.
const CHUNK_TRIALS: usize = 50;

pub(super) struct SweepApi(pub(super) Arc<Coordinator>);

type Answer<T> = BoxStream<'static, Result<T, Status>>;

#[tonic::async_trait]
impl v1::sweep_service_server::SweepService for SweepApi {
    type TrialsStream = Answer<v1::Trial>;
    type ResultsStream = Answer<v1::ResultsChunk>;

    async fn handshake(&self, request: Request<v1::HandshakeRequest>) -> Result<Response<v1::HandshakeResponse>, Status> {
        check_version(request.into_inner().version.as_ref())?;
        Ok(Response::new(v1::HandshakeResponse { version: Some(v1::Version::ours(SOFTWARE)) }))
    }

    async fn submit(&self, request: Request<v1::SubmitRequest>) -> Result<Response<v1::SubmitResponse>, Status> {
        let v1::SubmitRequest { text, discovered } = request.into_inner();
        let discovered: Option<DatasetSpec> = discovered.map(TryInto::try_into).transpose().map_err(invalid)?;
        let spec = SweepSpec::parse(&text, discovered.as_ref()).map_err(|error| refused(error.into()))?;
        let submitted = self.0.store.submit(&spec, self.0.clock.now()).await.map_err(refused)?;
        tracing::info!(sweep = %submitted.sweep, planned = submitted.planned, added = submitted.added, "sweep submitted");
        self.0.changed.notify_waiters();
        Ok(Response::new(v1::SubmitResponse { sweep: submitted.sweep, planned: submitted.planned, added: submitted.added }))
    }

    async fn status(&self, request: Request<v1::StatusRequest>) -> Result<Response<v1::StatusResponse>, Status> {
        let name = request.into_inner().sweep;
        let status = self.0.store.status(Some(name.as_str()).filter(|name| !name.is_empty())).await.map_err(refused)?;
        Ok(Response::new(v1::StatusResponse { sweeps: status.into_iter().map(status_wire).collect() }))
    }

    async fn trials(&self, request: Request<v1::TrialsRequest>) -> Result<Response<Self::TrialsStream>, Status> {
        let v1::TrialsRequest { sweep, state } = request.into_inner();
        let state: Option<StateName> =
            Some(state).filter(|state| !state.is_empty()).map(|state| state.parse()).transpose().map_err(unknown)?;
        let steps = self.0.store.sweep(&sweep).await.map_err(refused)?.settings.steps;
        let coordinator = Arc::clone(&self.0);
        let pages = stream::try_unfold(Some(0), move |from| {
            let (coordinator, sweep) = (Arc::clone(&coordinator), sweep.clone());
            async move {
                let Some(from) = from else { return Ok::<_, StoreError>(None) };
                let page = coordinator.store.trials(&sweep, state, from).await?;
                let lines: Vec<_> = page.rows.into_iter().map(|line| Ok(trial_wire(line, steps))).collect();
                Ok(Some((stream::iter(lines), page.next)))
            }
        });
        Ok(Response::new(pages.try_flatten().map_err(refused).boxed()))
    }

    async fn results(&self, request: Request<v1::ResultsRequest>) -> Result<Response<Self::ResultsStream>, Status> {
        let sweep = request.into_inner().sweep;
        let spec = self.0.store.sweep(&sweep).await.map_err(refused)?;
        let first = v1::ResultsChunk { settings: Some((&spec.settings).into()), trials: Vec::new() };
        let coordinator = Arc::clone(&self.0);
        let pages = stream::try_unfold(Some(0), move |from| {
            let (coordinator, sweep) = (Arc::clone(&coordinator), sweep.clone());
            async move {
                let Some(from) = from else { return Ok::<_, StoreError>(None) };
                let page = coordinator.store.records(&sweep, from).await?;
                let chunk = |records: &[_]| v1::ResultsChunk { settings: None, trials: records.iter().map(Into::into).collect() };
                let chunks: Vec<_> = page.rows.chunks(CHUNK_TRIALS).map(|records| Ok(chunk(records))).collect();
                Ok(Some((stream::iter(chunks), page.next)))
            }
        });
        let rest = pages.try_flatten().map_err(refused);
        Ok(Response::new(stream::once(async { Ok(first) }).chain(rest).boxed()))
    }
}

fn unknown(error: UnknownName) -> Status {
    Status::invalid_argument(error.to_string())
}

fn status_wire(status: SweepStatus) -> v1::SweepStatus {
    let SweepStatus { sweep, queued, leased, succeeded, diverged, failed, steps_done, steps_planned, running_ms, finished_attempts } =
        status;
    let planned = queued + leased + succeeded + diverged + failed;
    v1::SweepStatus {
        sweep,
        planned,
        queued,
        leased,
        succeeded,
        diverged,
        failed,
        steps_done,
        steps_planned,
        running_ms,
        finished_attempts,
    }
}

fn trial_wire(line: TrialLine, steps: u64) -> v1::Trial {
    let TrialLine { trial_id, point, state, attempts, step, worker, error } = line;
    v1::Trial {
        trial_id: trial_id.to_string(),
        point: Some((&point).into()),
        state: state.to_string(),
        attempts,
        step,
        steps,
        worker,
        error,
    }
}
