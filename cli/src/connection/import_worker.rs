//! A worker that delivers results of other programs.

use sortie_access::{Link, Token};
use sortie_core::access::Role;
use sortie_proto::v1;
use sortie_proto::v1::worker_service_client::WorkerServiceClient;

use super::Connection;
use super::error::Answer;

/// Trials that an import takes at a time: far fewer than it completes within a lease.
const IMPORT_LEASES: u32 = 64;

/// Delivers results of other programs. To the coordinator it is a worker that completes trials and runs none.
pub struct ImportWorker {
    service: WorkerServiceClient<Link>,
    worker_id: String,
    secret: String,
    /// Of the coordinator's database.
    incarnation: i64,
}

impl ImportWorker {
    /// Registers with a tag that no worker has.
    ///
    /// # Errors
    /// [`super::ClientError`].
    pub async fn connect(connection: &Connection, tag: &str) -> Answer<Self> {
        let mut service = WorkerServiceClient::new(connection.target(Role::Operator)?.connect().await?);
        let pid = std::process::id();
        let (worker_id, secret) = (format!("{tag}-{pid}"), Token::new()?.reveal().to_owned());
        let request = v1::RegisterRequest {
            version: Some(v1::Version::ours("sortie")),
            worker_id: worker_id.clone(),
            host: "import".to_owned(),
            machine: worker_id.clone(),
            pid,
            slots: IMPORT_LEASES,
            tags: vec![tag.to_owned()],
            allow_commands: true,
            secret: secret.clone(),
            ..v1::RegisterRequest::default()
        };
        let incarnation = service.register(request).await?.into_inner().incarnation;
        Ok(Self { service, worker_id, secret, incarnation })
    }

    /// The next trials of a sweep; none when there are no more.
    ///
    /// # Errors
    /// [`super::ClientError`].
    pub async fn lease(&mut self, sweep: &str) -> Answer<Vec<v1::Lease>> {
        loop {
            let (worker_id, sweep) = (self.worker_id.clone(), sweep.to_owned());
            let request = v1::LeaseRequest {
                worker_id,
                count_max: IMPORT_LEASES,
                wait_ms: 1_000,
                sweep,
                return_when_idle: true,
                // It trains nothing, and needs nothing for the trials that it takes.
                findings: None,
                incarnation: self.incarnation,
                secret: self.secret.clone(),
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
    /// [`super::ClientError`].
    pub async fn complete(&mut self, request: v1::CompleteRequest) -> Answer<()> {
        let (incarnation, secret) = (self.incarnation, self.secret.clone());
        self.service.complete(v1::CompleteRequest { incarnation, secret, ..request }).await?;
        Ok(())
    }

    /// Deregisters.
    ///
    /// # Errors
    /// [`super::ClientError`].
    pub async fn leave(&mut self) -> Answer<()> {
        self.service
            .leave(v1::LeaveRequest {
                worker_id: self.worker_id.clone(),
                incarnation: self.incarnation,
                secret: self.secret.clone(),
            })
            .await?;
        Ok(())
    }
}
