//! A connection to the coordinator.

use std::error::Error as _;
use std::time::Duration;

use sortie_core::record::{Detail, TrialRecord};
use sortie_core::spec::SweepSpec;
use sortie_core::trial::Work;
use sortie_proto::endpoint::{BadEndpoint, coordinator_uri};
use sortie_proto::v1::sweep_service_client::SweepServiceClient;
use sortie_proto::v1::worker_service_client::WorkerServiceClient;
use sortie_proto::{WireError, v1};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status, Streaming};

use crate::connection::Connection;

const CONNECT_SECONDS_MAX: u64 = 5;
/// Trials that an import takes at a time: far fewer than it completes within a lease.
const IMPORT_LEASES: u32 = 64;

/// The first pause before a request is repeated, doubled every further time, and the longest one.
const PAUSE_FIRST: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// A coordinator that answered the handshake.
pub struct Client(SweepServiceClient<Channel>);

/// Why there is no answer, in one line.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The URL cannot be used.
    #[error(transparent)]
    Endpoint(#[from] BadEndpoint),
    /// Nothing answers; a later try may succeed.
    #[error(
        "cannot reach the coordinator at {0}: start one with `sortie serve`, or name another with --coordinator"
    )]
    Unreachable(String),
    /// The connection broke in the middle; a later try may succeed.
    #[error("the coordinator stopped answering")]
    ConnectionLost,
    /// The coordinator cannot answer yet; a later try may succeed.
    #[error("{0}")]
    Unavailable(String),
    /// The server is no Sortie coordinator.
    #[error("the server at {url} is not a Sortie coordinator: {message}")]
    NotSortie {
        /// Its URL.
        url: String,
        /// Its message.
        message: String,
    },
    /// The coordinator refuses for good.
    #[error("{0}")]
    Refused(String),
    /// The answer breaks the contract.
    #[error("cannot read the coordinator's answer: {0}")]
    Wire(#[from] WireError),
    /// The answer lacks what the trials run.
    #[error("cannot read the coordinator's answer: it does not say what the sweep runs")]
    NoWork,
}

impl ClientError {
    /// Whether the same request may succeed later.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::ConnectionLost | Self::Unavailable(_))
    }
}

impl From<Status> for ClientError {
    fn from(status: Status) -> Self {
        // A status of the coordinator has no source; one that the transport makes when a connection breaks has one.
        match status.code() {
            _ if status.source().is_some() => Self::ConnectionLost,
            Code::Unavailable => Self::Unavailable(status.message().to_owned()),
            _ => Self::Refused(status.message().to_owned()),
        }
    }
}

type Answer<T> = Result<T, ClientError>;

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
        let url = &connection.coordinator;
        let channel = channel(connection).await?;
        let mut service =
            SweepServiceClient::new(channel).max_decoding_message_size(sortie_proto::MESSAGE_BYTES_MAX);
        let hello = v1::HandshakeRequest { version: Some(v1::Version::ours("sortie")) };
        let answer = service.handshake(hello).await.map_err(|status| match status.code() {
            Code::FailedPrecondition | Code::Unavailable => ClientError::from(status),
            _ => ClientError::NotSortie { url: url.clone(), message: status.message().to_owned() },
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

    /// The progress of a sweep; of all sweeps if none is named.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn status(&mut self, sweep: Option<&str>) -> Answer<Vec<v1::SweepStatus>> {
        let request = v1::StatusRequest { sweep: sweep.unwrap_or_default().to_owned() };
        Ok(self.0.status(request).await?.into_inner().sweeps)
    }

    /// Pauses, resumes, cancels or retries. Returns how many trials that changed.
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
    pub async fn trials(&mut self, sweep: &str, state: &str) -> Answer<Streaming<v1::Trial>> {
        let request = v1::TrialsRequest { sweep: sweep.to_owned(), state: state.to_owned() };
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
    pub async fn logs(&mut self, trial: &str, token: Option<i64>) -> Answer<v1::LogsResponse> {
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

    /// The answer to a query in SQL: its columns, and then its rows.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn query(&mut self, sql: &str) -> Answer<Streaming<v1::QueryChunk>> {
        Ok(self.0.query(v1::QueryRequest { sql: sql.to_owned() }).await?.into_inner())
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

async fn channel(connection: &Connection) -> Answer<Channel> {
    let url = &connection.coordinator;
    let endpoint = Endpoint::from(coordinator_uri(url, connection.insecure)?);
    let endpoint = endpoint.connect_timeout(Duration::from_secs(CONNECT_SECONDS_MAX)).tcp_nodelay(true);
    endpoint.connect().await.map_err(|_| ClientError::Unreachable(url.clone()))
}

/// Delivers results of other programs. To the coordinator it is a worker that completes trials and runs none.
pub struct ImportWorker {
    service: WorkerServiceClient<Channel>,
    worker_id: String,
}

impl ImportWorker {
    /// Registers with a tag that no worker has.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn connect(connection: &Connection, tag: &str) -> Answer<Self> {
        let mut service = WorkerServiceClient::new(channel(connection).await?);
        let pid = std::process::id();
        let worker_id = format!("{tag}-{pid}");
        let request = v1::RegisterRequest {
            version: Some(v1::Version::ours("sortie")),
            worker_id: worker_id.clone(),
            host: "import".to_owned(),
            pid,
            slots: IMPORT_LEASES,
            tags: vec![tag.to_owned()],
            allow_commands: true,
            ..v1::RegisterRequest::default()
        };
        service.register(request).await?;
        Ok(Self { service, worker_id })
    }

    /// The next trials of a sweep; none when there are no more.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn lease(&mut self, sweep: &str) -> Answer<Vec<v1::Lease>> {
        loop {
            let (worker_id, sweep) = (self.worker_id.clone(), sweep.to_owned());
            let request = v1::LeaseRequest {
                worker_id,
                count_max: IMPORT_LEASES,
                wait_ms: 1_000,
                sweep,
                return_when_idle: true,
            };
            let answer = self.service.lease(request).await?.into_inner();
            if answer.idle || !answer.leases.is_empty() {
                return Ok(answer.leases);
            }
        }
    }

    /// Ends a trial with its results.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn complete(&mut self, request: v1::CompleteRequest) -> Answer<()> {
        self.service.complete(request).await?;
        Ok(())
    }

    /// Deregisters.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn leave(&mut self) -> Answer<()> {
        self.service.leave(v1::LeaveRequest { worker_id: self.worker_id.clone() }).await?;
        Ok(())
    }
}

/// A client that reconnects when the coordinator restarts, for commands that run as long as a sweep.
pub struct RetryingClient<'a> {
    connection: &'a Connection,
    client: Client,
}

impl<'a> RetryingClient<'a> {
    /// Connects. This first call does not retry, since an unreachable coordinator probably means a wrong URL.
    ///
    /// # Errors
    /// As [`Client::connect`].
    pub async fn connect(connection: &'a Connection) -> Answer<Self> {
        Ok(Self { connection, client: Client::connect(connection).await? })
    }

    /// The progress of sweeps. Retries until there is an answer; `outage` is called after each failure.
    ///
    /// # Errors
    /// [`ClientError`], never a transient one.
    pub async fn status(
        &mut self,
        sweep: Option<&str>,
        mut outage: impl FnMut(&ClientError),
    ) -> Answer<Vec<v1::SweepStatus>> {
        let mut pause = PAUSE_FIRST;
        loop {
            let error = match self.client.status(sweep).await {
                Err(error) if error.is_transient() => error,
                answer => return answer,
            };
            outage(&error);
            tokio::time::sleep(pause).await;
            pause = (2 * pause).min(PAUSE_MAX);
            // Another build may answer now, so the handshake is repeated.
            match Client::connect(self.connection).await {
                Ok(client) => self.client = client,
                Err(error) if error.is_transient() => {}
                Err(error) => return Err(error),
            }
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
        let connection = Connection { coordinator, insecure: false };
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

    #[test]
    fn only_what_may_pass_is_asked_again() {
        let broken = Status::from_error("the wire is cut".into());
        assert!(matches!(ClientError::from(broken), ClientError::ConnectionLost));
        let starting = ClientError::from(Status::unavailable("starting"));
        assert!(starting.is_transient() && starting.to_string() == "starting");
        let refused = ClientError::from(Status::not_found("no sweep is called x"));
        assert!(!refused.is_transient() && refused.to_string() == "no sweep is called x");
    }
}
