//! A connection to the coordinator.

use anyhow::{Context, Result, anyhow};
use sortie_core::record::TrialRecord;
use sortie_core::trial::Settings;
use sortie_proto::endpoint::coordinator_uri;
use sortie_proto::v1;
use sortie_proto::v1::sweep_service_client::SweepServiceClient;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use crate::Connection;

const CONNECT_SECONDS_MAX: u64 = 5;

/// A coordinator that answered the handshake.
pub struct Client(SweepServiceClient<Channel>);

impl Client {
    /// Connects and shakes hands.
    ///
    /// # Errors
    /// One line: the URL is wrong, nobody answers there, or versions differ.
    pub async fn connect(connection: &Connection) -> Result<Self> {
        let uri = coordinator_uri(&connection.coordinator, connection.insecure)?;
        let endpoint = Endpoint::from(uri).connect_timeout(std::time::Duration::from_secs(CONNECT_SECONDS_MAX)).tcp_nodelay(true);
        let channel = endpoint.connect().await.map_err(|_| unreachable(&connection.coordinator))?;
        let mut service = SweepServiceClient::new(channel).max_decoding_message_size(sortie_proto::MESSAGE_BYTES_MAX);
        let hello = v1::HandshakeRequest { version: Some(v1::Version::ours("sortie")) };
        let answer = service.handshake(hello).await.map_err(|status| match status.code() {
            Code::FailedPrecondition => anyhow!("{}", status.message()),
            _ => anyhow!("what answers at {} is no Sortie coordinator: {}", connection.coordinator, status.message()),
        })?;
        v1::Version::check(answer.into_inner().version.as_ref())?;
        Ok(Self(service))
    }

    /// Stores a sweep.
    ///
    /// # Errors
    /// The coordinator's refusal, one line.
    pub async fn submit(&mut self, request: v1::SubmitRequest) -> Result<v1::SubmitResponse> {
        Ok(self.0.submit(request).await.map_err(refusal)?.into_inner())
    }

    /// How far sweeps are; all of them if none is named.
    ///
    /// # Errors
    /// The coordinator's refusal, one line.
    pub async fn status(&mut self, sweep: Option<&str>) -> Result<Vec<v1::SweepStatus>> {
        let request = v1::StatusRequest { sweep: sweep.unwrap_or_default().to_owned() };
        Ok(self.0.status(request).await.map_err(refusal)?.into_inner().sweeps)
    }

    /// The trials of a sweep, one by one.
    ///
    /// # Errors
    /// The coordinator's refusal, one line.
    pub async fn trials(&mut self, sweep: &str, state: &str) -> Result<tonic::Streaming<v1::Trial>> {
        let request = v1::TrialsRequest { sweep: sweep.to_owned(), state: state.to_owned() };
        Ok(self.0.trials(request).await.map_err(refusal)?.into_inner())
    }

    /// A sweep's settings and all its trials with their evaluations.
    ///
    /// # Errors
    /// The coordinator's refusal, one line.
    pub async fn records(&mut self, sweep: &str) -> Result<(Settings, Vec<TrialRecord>)> {
        let request = v1::ResultsRequest { sweep: sweep.to_owned() };
        let mut chunks = self.0.results(request).await.map_err(refusal)?.into_inner();
        let (mut settings, mut records) = (None, Vec::new());
        while let Some(chunk) = chunks.message().await.map_err(refusal)? {
            if let Some(first) = chunk.settings {
                settings = Some(first.try_into()?);
            }
            for trial in chunk.trials {
                records.push(trial.try_into()?);
            }
        }
        Ok((settings.context("the coordinator's answer has no settings")?, records))
    }
}

/// What the coordinator said, without the transport's words around it.
pub fn refusal(status: Status) -> anyhow::Error {
    match status.code() {
        Code::Unavailable | Code::Unknown if status.message().is_empty() || status.message().contains("transport error") => {
            anyhow!("the coordinator stopped answering")
        }
        _ => anyhow!("{}", status.message()),
    }
}

fn unreachable(url: &str) -> anyhow::Error {
    anyhow!("no coordinator answers at {url}: start one with `sortie serve`, or name another with --coordinator")
}
