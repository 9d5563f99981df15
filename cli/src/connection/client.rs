//! Requests to the coordinator.

use anyhow::Context;
use sortie_access::Link;
use sortie_analysis::{Collector, Question};
use sortie_core::access::Role;
use sortie_core::job::StateName;
use sortie_core::record::{Detail, TrialRecord};
use sortie_core::spec::SweepSpec;
use sortie_core::trial::{SpecHash, Work};
use sortie_proto::v1::sweep_service_client::SweepServiceClient;
use sortie_proto::{WireError, v1};
use tonic::{Code, Streaming};

use super::error::Answer;
use super::{ClientError, Connection};

/// A coordinator that answered the handshake.
pub struct Client(SweepServiceClient<Link>);

impl Client {
    /// Connects, and checks the version by the handshake.
    ///
    /// # Errors
    /// The URL is wrong, nothing answers there, or versions differ.
    pub async fn connect(connection: &Connection) -> Answer<Self> {
        match Self::try_connect(connection).await {
            // A coordinator that is ending breaks a connection like this, and so does any other server. A second try shows which
            // it is.
            Err(ClientError::NotSortie { .. } | ClientError::ConnectionLost) => {
                Self::try_connect(connection).await
            }
            answer => answer,
        }
    }

    async fn try_connect(connection: &Connection) -> Answer<Self> {
        let target = connection.target(Role::Operator)?;
        let link = target.connect().await?;
        let mut service =
            SweepServiceClient::new(link).max_decoding_message_size(sortie_proto::MESSAGE_BYTES_MAX);
        let hello = v1::HandshakeRequest { version: Some(v1::Version::ours("sortie")) };
        let answer = service.handshake(hello).await.map_err(|status| match status.code() {
            Code::FailedPrecondition | Code::Unavailable | Code::Unauthenticated | Code::PermissionDenied => {
                ClientError::from(status)
            }
            _ => ClientError::NotSortie { url: target.shown(), message: status.message().to_owned() },
        })?;
        v1::Version::check(answer.into_inner().version.as_ref())
            .map_err(|error| ClientError::Refused(error.to_string()))?;
        Ok(Self(service))
    }

    /// Stores a sweep; streams the progress.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn submit(&mut self, request: v1::SubmitRequest) -> Answer<Streaming<v1::SubmitProgress>> {
        Ok(self.0.submit(request).await?.into_inner())
    }

    /// What storing a sweep would change.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn preview(&mut self, request: v1::SubmitRequest) -> Answer<v1::PreviewResponse> {
        Ok(self.0.preview(request).await?.into_inner())
    }

    /// Adds seeds to a sweep until it has so many; streams the progress.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn extend(&mut self, sweep: &str, seeds: u64) -> Answer<Streaming<v1::SubmitProgress>> {
        Ok(self.0.extend(v1::ExtendRequest { sweep: sweep.to_owned(), seeds }).await?.into_inner())
    }

    /// The specification of a sweep.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn describe(&mut self, sweep: &str) -> Answer<SweepSpec> {
        let spec = self.0.describe(v1::DescribeRequest { sweep: sweep.to_owned() }).await?.into_inner().spec;
        serde_json::from_str(&spec)
            .map_err(|error| WireError::Value { field: "spec", reason: error.to_string() }.into())
    }

    /// The sweep of this name, or else the trial, with its sweep.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn sweep_or_trial(
        &mut self,
        name: &str,
    ) -> anyhow::Result<(String, SweepSpec, Option<SpecHash>)> {
        let described = if name.contains('/') { None } else { Some(self.describe(name).await) };
        match described {
            Some(Ok(spec)) => Ok((name.to_owned(), spec, None)),
            Some(Err(error)) if !matches!(error, ClientError::Refused(_)) => Err(error.into()),
            refused => {
                let history = match self.explain(name).await {
                    Ok(history) => history,
                    // An unknown name is reported as that of a sweep.
                    Err(error) => return Err(refused.and_then(Result::err).unwrap_or(error).into()),
                };
                let trial = history.trial.context("the coordinator does not say which trial it is")?;
                let spec = self.describe(&history.sweep).await?;
                Ok((history.sweep, spec, Some(trial.trial_id.parse()?)))
            }
        }
    }

    /// What would keep a sweep file's trials from running now, and what is held against machines for such trials, one line each.
    ///
    /// # Errors
    /// [`ClientError`]; also for a coordinator that does not know this request.
    pub async fn outlook(&mut self, text: String, discovered: Option<v1::Dataset>) -> Answer<Vec<String>> {
        let request = v1::OutlookRequest { text, discovered };
        let v1::OutlookResponse { waits_for, faults } = self.0.outlook(request).await?.into_inner();
        let waits = (!waits_for.is_empty()).then(|| format!("no worker may run its trials now: {waits_for}"));
        Ok(waits.into_iter().chain(faults).collect())
    }

    /// The progress of a sweep; of all sweeps that are not archived if none is named.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn status(&mut self, sweep: Option<&str>) -> Answer<Vec<v1::SweepStatus>> {
        let request = v1::StatusRequest { sweep: sweep.unwrap_or_default().to_owned(), archived: false };
        Ok(self.0.status(request).await?.into_inner().sweeps)
    }

    /// The progress of all sweeps, archived ones too.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn status_of_all(&mut self) -> Answer<Vec<v1::SweepStatus>> {
        let request = v1::StatusRequest { archived: true, ..v1::StatusRequest::default() };
        Ok(self.0.status(request).await?.into_inner().sweeps)
    }

    /// Deletes a sweep, or asks what would be gone; an error says why it may not be deleted.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn delete(&mut self, sweep: &str, only_ask: bool) -> Answer<v1::DeleteResponse> {
        Ok(self.0.delete(v1::DeleteRequest { sweep: sweep.to_owned(), only_ask }).await?.into_inner())
    }

    /// Pauses, resumes, cancels, retries, archives or renames. Returns how many trials that changed.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn control(&mut self, request: v1::ControlRequest) -> Answer<u64> {
        Ok(self.0.control(request).await?.into_inner().trials)
    }

    /// The trials of a sweep, one by one.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn trials(&mut self, sweep: &str, state: Option<StateName>) -> Answer<Streaming<v1::Trial>> {
        let request =
            v1::TrialsRequest { sweep: sweep.to_owned(), state: state.map_or(0, v1::TrialState::number) };
        Ok(self.0.trials(request).await?.into_inner())
    }

    /// The history of a trial.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn explain(&mut self, trial: &str) -> Answer<v1::ExplainResponse> {
        Ok(self.0.explain(v1::ExplainRequest { trial: trial.to_owned() }).await?.into_inner())
    }

    /// What an attempt at a trial printed; the newest if none is named.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn logs(&mut self, trial: &str, token: Option<i64>) -> Answer<Streaming<v1::LogsChunk>> {
        let request = v1::LogsRequest { trial: trial.to_owned(), token: token.unwrap_or_default() };
        Ok(self.0.logs(request).await?.into_inner())
    }

    /// The artifacts of a trial.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn artifacts(&mut self, trial: &str) -> Answer<v1::ArtifactsResponse> {
        Ok(self.0.artifacts(v1::ArtifactsRequest { trial: trial.to_owned() }).await?.into_inner())
    }

    /// Submits a trial twice more: uninterrupted, and killed and resumed.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn verify(&mut self, request: v1::VerifyRequest) -> Answer<v1::VerifyResponse> {
        Ok(self.0.verify(request).await?.into_inner())
    }

    /// Compares the two runs.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn certify(&mut self, request: v1::CertifyRequest) -> Answer<v1::Certificate> {
        Ok(self.0.certify(request).await?.into_inner())
    }

    /// The workers; with `all`, also those that left.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn workers(&mut self, all: bool) -> Answer<Vec<v1::Worker>> {
        Ok(self.0.workers(v1::WorkersRequest { all }).await?.into_inner().workers)
    }

    /// Ends the quarantines of a machine. Gives how many there were.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn release(&mut self, machine: &str) -> Answer<u64> {
        let request = v1::ReleaseRequest { machine: machine.to_owned() };
        Ok(self.0.release(request).await?.into_inner().quarantines)
    }

    /// Makes a digest of a dataset or of weights the one that counts.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn pin(&mut self, request: v1::PinRequest) -> Answer<v1::PinResponse> {
        Ok(self.0.pin(request).await?.into_inner())
    }

    /// Forgets the digests of a dataset or of weights.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn unpin(&mut self, request: v1::UnpinRequest) -> Answer<v1::UnpinResponse> {
        Ok(self.0.unpin(request).await?.into_inner())
    }

    /// The answer to a query in SQL: its columns, and then its rows.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn query(&mut self, sql: &str) -> Answer<Streaming<v1::QueryChunk>> {
        Ok(self.0.query(v1::QueryRequest { sql: sql.to_owned() }).await?.into_inner())
    }

    /// The bytes of a backup, one portion after the other.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn backup(&mut self) -> Answer<Streaming<v1::BackupChunk>> {
        Ok(self.0.backup(v1::BackupRequest {}).await?.into_inner())
    }

    /// What a sweep's trials run, and all of them with their evaluations.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn records(&mut self, sweep: &str, detail: Detail) -> Answer<(Work, Vec<TrialRecord>)> {
        let (work, mut stream) = self.stream_records(sweep, detail).await?;
        let mut records = Vec::new();
        while let Some(record) = stream.next().await? {
            records.push(record);
        }
        Ok((work, records))
    }

    /// Collects a sweep's values for a question. One trial after the other is read.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn collect(&mut self, sweep: &str, question: &Question) -> Answer<Collector> {
        let (work, mut records) = self.stream_records(sweep, question.metrics.detail()).await?;
        let mut collector = Collector::new(sweep, &work, question);
        while let Some(record) = records.next().await? {
            collector.push(&record);
        }
        Ok(collector)
    }

    /// What a sweep's trials run, and then one trial after the other, in the order of the grid.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn stream_records(&mut self, sweep: &str, detail: Detail) -> Answer<(Work, Records)> {
        let request = v1::ResultsRequest { sweep: sweep.to_owned(), detail: detail.as_str().to_owned() };
        let mut chunks = self.0.results(request).await?.into_inner();
        let v1::ResultsChunk { work, trials } = chunks.message().await?.ok_or(ClientError::NoWork)?;
        let work = work.ok_or(ClientError::NoWork)?.try_into()?;
        Ok((work, Records { chunks, arrived: trials.into_iter() }))
    }
}

/// A stream of trials; one message of them at a time is in memory.
pub struct Records {
    chunks: Streaming<v1::ResultsChunk>,
    arrived: std::vec::IntoIter<v1::TrialResult>,
}

impl Records {
    /// The next trial; none after the last.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn next(&mut self) -> Answer<Option<TrialRecord>> {
        loop {
            if let Some(trial) = self.arrived.next() {
                return Ok(Some(trial.try_into()?));
            }
            let Some(chunk) = self.chunks.message().await? else { return Ok(None) };
            self.arrived = chunk.trials.into_iter();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that accepts so many connections and answers none as a coordinator does.
    async fn connect_to(connections: usize, says: &'static [u8]) -> ClientError {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let coordinator = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            for _ in 0..connections {
                let (mut stream, _) = listener.accept().await.unwrap();
                tokio::io::AsyncWriteExt::write_all(&mut stream, says).await.unwrap();
            }
        });
        let mut connection = Connection::default().at(coordinator);
        connection.insecure = true;
        Client::connect(&connection).await.err().unwrap()
    }

    #[tokio::test]
    async fn a_coordinator_that_dies_meanwhile_is_no_stranger() {
        let died = connect_to(1, b"").await;
        assert!(
            died.is_transient()
                && died.to_string().starts_with("cannot reach the coordinator at http://127.0.0.1:"),
            "{died}"
        );
        let stranger = connect_to(9, b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        assert!(matches!(stranger, ClientError::NotSortie { .. }), "{stranger}");
    }
}
