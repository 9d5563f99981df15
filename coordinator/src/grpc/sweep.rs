//! Requests of users' tools.

use std::sync::Arc;

use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use sortie_core::job::StateName;
use sortie_core::names::UnknownName;
use sortie_core::record::{Detail, TrialRecord};
use sortie_core::status::UserAction;
use sortie_proto::v1;
use tokio::sync::mpsc;
use tonic::{Request, Response, Status};

use super::coordinator::{Coordinator, SOFTWARE};
use super::progress::progress_stream;
use super::refusal::{check_version, invalid, refused};
use super::request::{named_trials, read_filter, read_submission, read_sweep};
use super::wire::{
    artifacts_wire, certificate_wire, history_wire, preview_wire, status_wire, trial_wire, worker_wire,
};
use super::{logs, pins};
use crate::store::{
    Deed, PageRequest, QUERY_TIME_MAX, StoreError, SweepAction, SweepContents, TrialAction, Verified,
    row_wire,
};

/// Evaluations that are read at a time, about: few enough for flat memory, many enough that asking costs little.
const READ_EVALUATIONS: usize = 10_000;
/// Trials that are read before anybody knows how many evaluations they have, and at most.
const READ_TRIALS: usize = 10;
const READ_TRIALS_MAX: usize = 2_000;
/// Trials in one message, and the evaluations after which it takes no further trial: far below the message limit.
const CHUNK_TRIALS: usize = 50;
const CHUNK_EVALUATIONS: usize = 10_000;

pub(super) struct SweepApi(pub(super) Arc<Coordinator>);

type Answer<T> = BoxStream<'static, Result<T, Status>>;

#[tonic::async_trait]
impl v1::sweep_service_server::SweepService for SweepApi {
    type SubmitStream = Answer<v1::SubmitProgress>;
    type ExtendStream = Answer<v1::SubmitProgress>;
    type TrialsStream = Answer<v1::Trial>;
    type ResultsStream = Answer<v1::ResultsChunk>;
    type QueryStream = Answer<v1::QueryChunk>;
    type LogsStream = Answer<v1::LogsChunk>;
    type BackupStream = Answer<v1::BackupChunk>;

    async fn handshake(
        &self,
        request: Request<v1::HandshakeRequest>,
    ) -> Result<Response<v1::HandshakeResponse>, Status> {
        check_version(request.into_inner().version.as_ref())?;
        Ok(Response::new(v1::HandshakeResponse { version: Some(v1::Version::ours(SOFTWARE)) }))
    }

    async fn submit(
        &self,
        request: Request<v1::SubmitRequest>,
    ) -> Result<Response<Self::SubmitStream>, Status> {
        let store = self.0.store_for(&request);
        let (spec, options) = read_submission(request.into_inner())?;
        let progress = store.submit(&spec, options).await.map_err(refused)?;
        tracing::info!(sweep = %spec.name, planned = progress.borrow().planned, "sweep submitted");
        Ok(Response::new(progress_stream(progress).boxed()))
    }

    async fn outlook(
        &self,
        request: Request<v1::OutlookRequest>,
    ) -> Result<Response<v1::OutlookResponse>, Status> {
        let v1::OutlookRequest { text, discovered } = request.into_inner();
        let spec = read_sweep(&text, discovered)?;
        let outlook = self.0.store.outlook(&spec).await.map_err(refused)?;
        let waits_for = outlook.held_up.map(|held_up| held_up.reason).unwrap_or_default();
        // A quarantine that keeps all trials waiting is said there.
        let faults = outlook.faults.into_iter().filter(|fault| !waits_for.contains(fault)).collect();
        Ok(Response::new(v1::OutlookResponse { waits_for, faults }))
    }

    async fn preview(
        &self,
        request: Request<v1::SubmitRequest>,
    ) -> Result<Response<v1::PreviewResponse>, Status> {
        let (spec, options) = read_submission(request.into_inner())?;
        let preview = self.0.store.preview(&spec, options).await.map_err(refused)?;
        Ok(Response::new(preview_wire(spec.name, preview)))
    }

    async fn extend(
        &self,
        request: Request<v1::ExtendRequest>,
    ) -> Result<Response<Self::ExtendStream>, Status> {
        let store = self.0.store_for(&request);
        let v1::ExtendRequest { sweep, seeds } = request.into_inner();
        let progress = store.extend(&sweep, seeds).await.map_err(refused)?;
        tracing::info!(sweep, seeds, planned = progress.borrow().planned, "sweep extended");
        Ok(Response::new(progress_stream(progress).boxed()))
    }

    async fn describe(
        &self,
        request: Request<v1::DescribeRequest>,
    ) -> Result<Response<v1::DescribeResponse>, Status> {
        let spec = self.0.store.spec(&request.into_inner().sweep).await.map_err(refused)?;
        let spec = serde_json::to_string(&spec).map_err(|error| Status::internal(error.to_string()))?;
        Ok(Response::new(v1::DescribeResponse { spec }))
    }

    async fn status(
        &self,
        request: Request<v1::StatusRequest>,
    ) -> Result<Response<v1::StatusResponse>, Status> {
        let v1::StatusRequest { sweep, archived } = request.into_inner();
        let status = match Some(sweep.as_str()).filter(|sweep| !sweep.is_empty()) {
            None if archived => self.0.store.status_of_all().await,
            sweep => self.0.store.status(sweep).await,
        };
        let status = status.map_err(refused)?;
        Ok(Response::new(v1::StatusResponse { sweeps: status.into_iter().map(status_wire).collect() }))
    }

    async fn control(
        &self,
        request: Request<v1::ControlRequest>,
    ) -> Result<Response<v1::ControlResponse>, Status> {
        let store = self.0.store_for(&request);
        let v1::ControlRequest { sweep, action, r#where, state, priority, trials, name } =
            request.into_inner();
        let filter = read_filter(&r#where)?;
        let state = v1::TrialState::read_if_any("state", state).map_err(invalid)?;
        let named = named_trials(&trials)?;
        let action = v1::ControlAction::read("action", action).map_err(invalid)?;
        // On a task of its own: a caller that goes away must not leave it half done.
        let meant = sweep.clone();
        let done = tokio::spawn(async move {
            let act = |action| store.act(&meant, action);
            let on_trials = async |action| match named.as_slice() {
                [] => store.act_on_trials(&meant, action, &filter, state).await,
                named => store.act_on_named(&meant, action, named).await,
            };
            match action {
                UserAction::Pause => act(SweepAction::Pause).await,
                UserAction::Resume => act(SweepAction::Resume).await,
                UserAction::Priority => act(SweepAction::Priority(priority)).await,
                UserAction::Rename => act(SweepAction::Rename(name)).await,
                UserAction::Archive => act(SweepAction::Archive).await,
                UserAction::Unarchive => act(SweepAction::Unarchive).await,
                UserAction::Cancel => on_trials(TrialAction::Cancel).await,
                UserAction::Retry => on_trials(TrialAction::Retry).await,
            }
        });
        let trials = done.await.unwrap_or(Err(StoreError::Stopping));
        let trials = trials.map_err(refused)?;
        tracing::info!(%sweep, %action, trials, "a user acted");
        Ok(Response::new(v1::ControlResponse { trials }))
    }

    async fn delete(
        &self,
        request: Request<v1::DeleteRequest>,
    ) -> Result<Response<v1::DeleteResponse>, Status> {
        let store = self.0.store_for(&request);
        let v1::DeleteRequest { sweep, only_ask } = request.into_inner();
        let SweepContents { trials, succeeded, files, bytes } =
            store.delete(&sweep, only_ask).await.map_err(refused)?;
        if !only_ask {
            tracing::info!(%sweep, trials, succeeded, files, bytes, "a user deleted a sweep; its files stay");
        }
        let store = self.0.artifacts.as_ref().map(|offer| offer.url.clone()).unwrap_or_default();
        Ok(Response::new(v1::DeleteResponse { trials, succeeded, files, bytes, store }))
    }

    async fn trials(
        &self,
        request: Request<v1::TrialsRequest>,
    ) -> Result<Response<Self::TrialsStream>, Status> {
        let v1::TrialsRequest { sweep, state } = request.into_inner();
        let state = v1::TrialState::read_if_any("state", state).map_err(invalid)?;
        let work = self.0.store.work(&sweep).await.map_err(refused)?;
        let coordinator = Arc::clone(&self.0);
        let pages = stream::try_unfold(Some(0), move |from| {
            let (coordinator, sweep, work) = (Arc::clone(&coordinator), sweep.clone(), work.clone());
            async move {
                let Some(from) = from else { return Ok::<_, StoreError>(None) };
                let page = coordinator.store.trials(&sweep, state, from).await?;
                let lines: Vec<_> = page.rows.into_iter().map(|line| Ok(trial_wire(line, &work))).collect();
                Ok(Some((stream::iter(lines), page.next)))
            }
        });
        Ok(Response::new(pages.try_flatten().map_err(refused).boxed()))
    }

    async fn explain(
        &self,
        request: Request<v1::ExplainRequest>,
    ) -> Result<Response<v1::ExplainResponse>, Status> {
        let history = self.0.store.history(&request.into_inner().trial).await.map_err(refused)?;
        let spec = self.0.store.spec(&history.sweep).await.map_err(refused)?;
        let state = history.line.state;
        let waits = matches!(state, StateName::Blocked | StateName::Queued | StateName::Running);
        let members =
            || (state == StateName::Blocked).then(|| "until all its members have a result".to_owned());
        let mut note = spec.outdated().filter(|_| waits).or_else(members).unwrap_or_default();
        if note.is_empty() && state == StateName::Queued {
            let outlook = self.0.store.outlook(&spec).await.map_err(refused)?;
            note = outlook.held_up.map(|held_up| held_up.reason).unwrap_or_default();
        }
        let lacks = self.0.store.lacks(&history, &spec).await.map_err(refused)?;
        Ok(Response::new(history_wire(history, &spec.work, note, lacks)))
    }

    async fn artifacts(
        &self,
        request: Request<v1::ArtifactsRequest>,
    ) -> Result<Response<v1::ArtifactsResponse>, Status> {
        let kept = self.0.store.artifacts(&request.into_inner().trial).await.map_err(refused)?;
        Ok(Response::new(artifacts_wire(kept, self.0.artifacts.as_ref())))
    }

    async fn verify(
        &self,
        request: Request<v1::VerifyRequest>,
    ) -> Result<Response<v1::VerifyResponse>, Status> {
        let store = self.0.store_for(&request);
        let v1::VerifyRequest { trial, kill_at, steps } = request.into_inner();
        let Verified { sweeps, worker_id, worker, steps } =
            store.verify(&trial, kill_at, steps).await.map_err(refused)?;
        tracing::info!(%trial, kill_at, steps, worker = %worker_id, sweeps = %sweeps.join(", "), "a verification submitted");
        Ok(Response::new(v1::VerifyResponse { sweeps: sweeps.into(), worker_id, worker, steps }))
    }

    async fn certify(
        &self,
        request: Request<v1::CertifyRequest>,
    ) -> Result<Response<v1::Certificate>, Status> {
        let v1::CertifyRequest { trial, sweeps } = request.into_inner();
        let pair = sweeps.try_into().map_err(|_| Status::invalid_argument("field sweeps: must name two"))?;
        let certificate = self.0.store.certify(&trial, &pair).await.map_err(refused)?;
        tracing::info!(%trial, identical = certificate.difference.is_none(), sweeps = %pair.join(", "), "a trial verified");
        Ok(Response::new(certificate_wire(certificate)))
    }

    async fn logs(&self, request: Request<v1::LogsRequest>) -> Result<Response<Self::LogsStream>, Status> {
        logs::stream(Arc::clone(&self.0), request.into_inner()).await.map(Response::new)
    }

    async fn workers(
        &self,
        request: Request<v1::WorkersRequest>,
    ) -> Result<Response<v1::WorkersResponse>, Status> {
        let workers = self.0.store.workers(request.into_inner().all).await.map_err(refused)?;
        let silent_after = self.0.store.settings().silent_after();
        Ok(Response::new(v1::WorkersResponse {
            workers: workers.into_iter().map(|line| worker_wire(line, silent_after)).collect(),
        }))
    }

    async fn release(
        &self,
        request: Request<v1::ReleaseRequest>,
    ) -> Result<Response<v1::ReleaseResponse>, Status> {
        let store = self.0.store_for(&request);
        let machine = request.into_inner().machine;
        let quarantines = store.release(&machine).await.map_err(refused)?;
        tracing::info!(%machine, quarantines, "a user released a machine");
        Ok(Response::new(v1::ReleaseResponse { quarantines }))
    }

    async fn pin(&self, request: Request<v1::PinRequest>) -> Result<Response<v1::PinResponse>, Status> {
        pins::pin(&self.0.store_for(&request), request.into_inner()).await.map(Response::new)
    }

    async fn unpin(&self, request: Request<v1::UnpinRequest>) -> Result<Response<v1::UnpinResponse>, Status> {
        pins::unpin(&self.0.store_for(&request), request.into_inner()).await.map(Response::new)
    }

    async fn results(
        &self,
        request: Request<v1::ResultsRequest>,
    ) -> Result<Response<Self::ResultsStream>, Status> {
        let v1::ResultsRequest { sweep, detail } = request.into_inner();
        let unknown = |error: UnknownName| Status::invalid_argument(error.to_string());
        let detail = if detail.is_empty() { Detail::All } else { detail.parse().map_err(unknown)? };
        let work = self.0.store.work(&sweep).await.map_err(refused)?;
        let first = v1::ResultsChunk { work: Some((&work).into()), trials: Vec::new() };
        // The next page is read while this one is sent.
        let (sender, mut pages) = mpsc::channel(1);
        let reading = read_records(Arc::clone(&self.0), sweep, detail, sender);
        tokio::spawn(reading);
        let pages = stream::poll_fn(move |context| pages.poll_recv(context));
        let rest = pages
            .map_ok(|records: Vec<TrialRecord>| stream::iter(chunks(records)))
            .try_flatten()
            .map_err(refused);
        Ok(Response::new(stream::once(async { Ok(first) }).chain(rest).boxed()))
    }

    async fn query(&self, request: Request<v1::QueryRequest>) -> Result<Response<Self::QueryStream>, Status> {
        let rows = self.0.store.query(&request.into_inner().sql, QUERY_TIME_MAX).await.map_err(refused)?;
        let first = v1::QueryChunk { columns: rows.columns().to_vec(), rows: Vec::new() };
        let rest = stream::try_unfold(rows, |mut rows| async move {
            let Some(chunk) = rows.next().await.transpose()? else { return Ok::<_, StoreError>(None) };
            Ok(Some((
                v1::QueryChunk { columns: Vec::new(), rows: chunk.into_iter().map(row_wire).collect() },
                rows,
            )))
        });
        Ok(Response::new(stream::once(async { Ok(first) }).chain(rest.map_err(refused)).boxed()))
    }

    async fn backup(
        &self,
        request: Request<v1::BackupRequest>,
    ) -> Result<Response<Self::BackupStream>, Status> {
        let deed = Deed::new("backup", None, String::new());
        self.0.store_for(&request).note_deed(deed).await.map_err(refused)?;
        let backup = self.0.store.backup().await.map_err(refused)?;
        tracing::info!("a user makes a backup");
        let chunks = stream::try_unfold(backup, |mut backup| async move {
            let chunk = backup.next().await?;
            Ok::<_, StoreError>(chunk.map(|data| (v1::BackupChunk { data }, backup)))
        });
        Ok(Response::new(chunks.map_err(refused).boxed()))
    }
}

/// Reads a sweep's records page by page for as long as somebody takes them. How many trials make a page follows from how many evaluations
/// they have.
async fn read_records(
    coordinator: Arc<Coordinator>,
    sweep: String,
    detail: Detail,
    sender: mpsc::Sender<Result<Vec<TrialRecord>, StoreError>>,
) {
    let mut portion = PageRequest { from: 0, trials_max: READ_TRIALS, detail };
    loop {
        let page = coordinator.store.records(&sweep, portion).await;
        let next = page.as_ref().ok().and_then(|page| page.next);
        if let Ok(page) = &page {
            let evaluations: usize = page.rows.iter().map(evaluations).sum();
            portion.trials_max =
                (page.rows.len() * READ_EVALUATIONS / evaluations.max(1)).clamp(1, READ_TRIALS_MAX);
        }
        if sender.send(page.map(|page| page.rows)).await.is_err() {
            return;
        }
        let Some(next) = next else { return };
        portion.from = next;
    }
}

/// Records as messages, each converted when it is asked for.
fn chunks(records: Vec<TrialRecord>) -> impl Iterator<Item = Result<v1::ResultsChunk, StoreError>> {
    let mut records = records.into_iter();
    std::iter::from_fn(move || {
        let (mut trials, mut taken) = (Vec::new(), 0);
        while trials.len() < CHUNK_TRIALS && taken < CHUNK_EVALUATIONS {
            let Some(record) = records.next() else { break };
            taken += evaluations(&record);
            trials.push(record.into());
        }
        (!trials.is_empty()).then_some(Ok(v1::ResultsChunk { work: None, trials }))
    })
}

/// How many a trial has.
fn evaluations(record: &TrialRecord) -> usize {
    // Eight named numbers weigh about as much as an evaluation without any.
    record.validation.iter().chain(&record.held_out).map(|row| 1 + row.metrics.len() / 8).sum()
}

#[cfg(test)]
mod tests {
    use sortie_core::spec::SweepSpec;
    use v1::sweep_service_server::SweepService as _;

    use std::time::Duration;

    use tokio::sync::watch;

    use super::*;
    use crate::clock::MonotonicClock;

    use crate::store::{Memory, Settings, Store, SubmitOptions, Submitted};

    /// More trials than two transactions cancel.
    const SWEEP: &str = "name = 'large'\n[run]\ncommand = ['run']\n[grid]\nseeds = 2500\n";

    #[test]
    fn messages_are_bounded_by_trials_and_by_evaluations() {
        use sortie_core::metrics::{Evaluation, Method, Score, SplitName};
        use sortie_core::parameters::Parameters;
        use sortie_core::trial::Point;
        let record = |rows: usize| {
            let (method, score, split) = (Method::Plain, Score::Counts { n: 1, correct: 1 }, SplitName::Out);
            let row = |step| Evaluation {
                method,
                step,
                domain: "a".to_owned(),
                split,
                score: Some(score),
                loss: None,
                metrics: Default::default(),
                seconds: None,
            };
            let point = Point { held_out: Vec::new(), parameters: Parameters::new(), seed: 0, split_seed: 0 };
            let id = "94f9de813446924ef6b1cf831eaa3ef4".parse().unwrap();
            TrialRecord {
                id,
                point,
                state: StateName::Succeeded,
                validation: (0..).map(row).take(rows).collect(),
                held_out: Vec::new(),
            }
        };
        let sizes = |rows: &[usize]| -> Vec<usize> {
            let records = rows.iter().map(|&rows| record(rows)).collect();
            chunks(records).map(|chunk| chunk.unwrap().trials.len()).collect()
        };
        assert_eq!(sizes(&[1; 120]), [50, 50, 20]);
        assert_eq!(sizes(&[4_000, 4_000, 4_000, 30_000, 1]), [3, 1, 1]);
        assert!(sizes(&[]).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn cancelling_goes_on_without_its_caller() {
        let (memory, settings) = (Memory::default(), Settings::new(Duration::from_secs(10)));
        let store = Arc::new(
            Store::in_memory(
                &memory,
                settings,
                Arc::new(MonotonicClock::start(sortie_core::job::Timestamp(0))),
            )
            .await
            .unwrap(),
        );
        let mut progress =
            store.submit(&SweepSpec::parse(SWEEP, None).unwrap(), SubmitOptions::default()).await.unwrap();
        progress.wait_for(Submitted::is_done).await.unwrap();
        let (_stop, stopping) = watch::channel(false);
        let api = SweepApi(Arc::new(Coordinator {
            store: Arc::clone(&store),
            artifacts: None,
            callers: Arc::default(),
            stopping,
        }));
        let request = v1::ControlRequest {
            sweep: "large".into(),
            action: v1::ControlAction::Cancel.into(),
            ..Default::default()
        };
        let mut asked = api.control(Request::new(request));
        let asking = std::future::poll_fn(|cx| std::task::Poll::Ready(asked.as_mut().poll(cx).is_pending()));
        assert!(asking.await);
        // It has sent its request, and nothing is done yet.
        drop(asked);
        tokio::time::sleep(Duration::from_secs(1)).await;
        let status = store.status(Some("large")).await.unwrap().remove(0);
        assert_eq!((status.cancelled, status.queued), (2_500, 0));
    }

    #[test]
    fn too_many_trials_and_ids_that_are_none_are_refused_by_name() {
        let id = "94f9de813446924ef6b1cf831eaa3ef4".to_owned();
        assert_eq!(named_trials(&vec![id.clone(); 1_000]).unwrap().len(), 1_000);
        let error = named_trials(&vec![id; 1_001]).unwrap_err();
        assert_eq!(error.message(), "trials has 1001 ids; allowed: at most 1000");
        let error = named_trials(&["94f9".to_owned()]).unwrap_err();
        assert_eq!(error.message(), "trials: \"94f9\" is not a trial id; it must be 32 hexadecimal digits");
    }
}
