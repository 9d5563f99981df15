//! A coordinator that answers from a script, and the program that asks it.

use sortie_testkit::programs::isolated;
use std::net::SocketAddr;
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::Value;
use sortie_core::spec::SweepSpec;
use sortie_proto::v1;
use sortie_proto::v1::sweep_service_server::{SweepService, SweepServiceServer};
use tokio::runtime::Runtime;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

type Stream<T> = tokio_stream::Iter<std::vec::IntoIter<Result<T, Status>>>;

/// What the coordinator answers, and what it was asked.
#[derive(Clone, Default)]
pub struct Script {
    pub progress: Vec<v1::SubmitProgress>,
    pub preview: v1::PreviewResponse,
    pub status: v1::SweepStatus,
    pub outlook: v1::OutlookResponse,
    pub trials: Vec<v1::Trial>,
    pub story: v1::ExplainResponse,
    pub logs: v1::LogsChunk,
    pub workers: Vec<v1::Worker>,
    pub artifacts: v1::ArtifactsResponse,
    pub certificate: v1::Certificate,
    pub results: Vec<v1::ResultsChunk>,
    pub backup: Vec<String>,
    /// The backup ends in an error after these.
    pub backup_breaks: bool,
    /// A sweep as JSON; empty for a small one.
    pub spec: String,
    /// Actions find no trial to change.
    pub changes_nothing: bool,
    pub asked: Arc<Mutex<Vec<String>>>,
}

impl Script {
    fn note(&self, request: &impl std::fmt::Debug) {
        self.asked.lock().unwrap().push(format!("{request:?}"));
    }
}

/// A sweep of a command as JSON.
fn small_sweep() -> String {
    let text = "name = 's'\n[run]\ncommand = ['true']\n[grid]\nseeds = 3\n";
    serde_json::to_string(&SweepSpec::parse(text, None).unwrap()).unwrap()
}

fn stream<T>(items: &[T]) -> Response<Stream<T>>
where
    T: Clone,
{
    Response::new(tokio_stream::iter(items.iter().cloned().map(Ok).collect::<Vec<_>>()))
}

#[tonic::async_trait]
impl SweepService for Script {
    type SubmitStream = Stream<v1::SubmitProgress>;
    type ExtendStream = Stream<v1::SubmitProgress>;
    type TrialsStream = Stream<v1::Trial>;
    type ResultsStream = Stream<v1::ResultsChunk>;
    type QueryStream = Stream<v1::QueryChunk>;
    type LogsStream = Stream<v1::LogsChunk>;
    type BackupStream = Stream<v1::BackupChunk>;

    async fn handshake(
        &self,
        _: Request<v1::HandshakeRequest>,
    ) -> Result<Response<v1::HandshakeResponse>, Status> {
        Ok(Response::new(v1::HandshakeResponse { version: Some(v1::Version::ours("script")) }))
    }

    async fn submit(
        &self,
        request: Request<v1::SubmitRequest>,
    ) -> Result<Response<Self::SubmitStream>, Status> {
        let v1::SubmitRequest { no_reuse, reuse_anyway, priority, .. } = request.into_inner();
        if reuse_anyway {
            self.note(&"reuse anyway");
        }
        self.note(&(no_reuse, priority));
        Ok(stream(&self.progress))
    }

    async fn outlook(&self, _: Request<v1::OutlookRequest>) -> Result<Response<v1::OutlookResponse>, Status> {
        Ok(Response::new(self.outlook.clone()))
    }

    async fn preview(&self, _: Request<v1::SubmitRequest>) -> Result<Response<v1::PreviewResponse>, Status> {
        Ok(Response::new(self.preview.clone()))
    }

    async fn extend(
        &self,
        request: Request<v1::ExtendRequest>,
    ) -> Result<Response<Self::ExtendStream>, Status> {
        let v1::ExtendRequest { sweep, seeds } = request.into_inner();
        self.note(&(sweep, seeds));
        Ok(stream(&self.progress))
    }

    async fn describe(
        &self,
        _: Request<v1::DescribeRequest>,
    ) -> Result<Response<v1::DescribeResponse>, Status> {
        let spec = if self.spec.is_empty() { small_sweep() } else { self.spec.clone() };
        Ok(Response::new(v1::DescribeResponse { spec }))
    }

    async fn status(
        &self,
        request: Request<v1::StatusRequest>,
    ) -> Result<Response<v1::StatusResponse>, Status> {
        let v1::StatusRequest { sweep, archived } = request.into_inner();
        if archived {
            self.note(&"all")
        } else {
            self.note(&sweep)
        }
        if sweep == "nope" {
            return Err(Status::not_found("no sweep is called \"nope\"; there is s"));
        }
        Ok(Response::new(v1::StatusResponse { sweeps: vec![self.status.clone()] }))
    }

    async fn control(
        &self,
        request: Request<v1::ControlRequest>,
    ) -> Result<Response<v1::ControlResponse>, Status> {
        let request = request.into_inner();
        let v1::ControlRequest { sweep, r#where, priority, name, .. } = &request;
        if name.is_empty() {
            self.note(&(sweep, request.action(), r#where, request.state(), priority));
        } else {
            self.note(&(sweep, request.action(), name));
        }
        Ok(Response::new(v1::ControlResponse { trials: if self.changes_nothing { 0 } else { 3 } }))
    }

    async fn delete(
        &self,
        request: Request<v1::DeleteRequest>,
    ) -> Result<Response<v1::DeleteResponse>, Status> {
        let v1::DeleteRequest { sweep, only_ask } = request.into_inner();
        self.note(&(sweep, only_ask));
        let store = "file:///store".to_owned();
        Ok(Response::new(v1::DeleteResponse { trials: 4, succeeded: 3, files: 2, bytes: 2_048, store }))
    }

    async fn trials(
        &self,
        request: Request<v1::TrialsRequest>,
    ) -> Result<Response<Self::TrialsStream>, Status> {
        self.note(&request.into_inner().state());
        Ok(stream(&self.trials))
    }

    async fn explain(
        &self,
        request: Request<v1::ExplainRequest>,
    ) -> Result<Response<v1::ExplainResponse>, Status> {
        self.note(&request.into_inner().trial);
        Ok(Response::new(self.story.clone()))
    }

    async fn logs(&self, request: Request<v1::LogsRequest>) -> Result<Response<Self::LogsStream>, Status> {
        let v1::LogsRequest { trial, token } = request.into_inner();
        self.note(&(trial, token));
        let v1::LogsChunk { token, worker, text } = self.logs.clone();
        let first = v1::LogsChunk { token, worker, text: Vec::new() };
        // As a real one, which sends text in parts.
        let rest = text.chunks(3).map(|text| v1::LogsChunk { text: text.to_vec(), ..Default::default() });
        let chunks: Vec<_> = std::iter::once(first).chain(rest).map(Ok).collect();
        Ok(Response::new(tokio_stream::iter(chunks)))
    }

    async fn workers(
        &self,
        request: Request<v1::WorkersRequest>,
    ) -> Result<Response<v1::WorkersResponse>, Status> {
        self.note(&request.into_inner().all);
        Ok(Response::new(v1::WorkersResponse { workers: self.workers.clone() }))
    }

    async fn release(
        &self,
        request: Request<v1::ReleaseRequest>,
    ) -> Result<Response<v1::ReleaseResponse>, Status> {
        self.note(&request.into_inner().machine);
        Ok(Response::new(v1::ReleaseResponse { quarantines: 1 }))
    }

    async fn pin(&self, request: Request<v1::PinRequest>) -> Result<Response<v1::PinResponse>, Status> {
        let v1::PinRequest { name, kind, digest } = request.into_inner();
        self.note(&(name, &kind, &digest));
        let machines = vec!["gpu4-7f3a90c2".to_owned()];
        Ok(Response::new(v1::PinResponse {
            kind: "dataset".into(),
            digest: digest + "0a",
            machines,
            trials: 3,
        }))
    }

    async fn unpin(&self, request: Request<v1::UnpinRequest>) -> Result<Response<v1::UnpinResponse>, Status> {
        let v1::UnpinRequest { name, kind } = request.into_inner();
        self.note(&(name, &kind));
        let digests = ["0a", "0b"].map(str::to_owned).to_vec();
        Ok(Response::new(v1::UnpinResponse { kind: "weights".into(), digests }))
    }

    async fn artifacts(
        &self,
        request: Request<v1::ArtifactsRequest>,
    ) -> Result<Response<v1::ArtifactsResponse>, Status> {
        self.note(&request.into_inner().trial);
        Ok(Response::new(self.artifacts.clone()))
    }

    async fn verify(
        &self,
        request: Request<v1::VerifyRequest>,
    ) -> Result<Response<v1::VerifyResponse>, Status> {
        let v1::VerifyRequest { trial, kill_at, steps } = request.into_inner();
        self.note(&(trial, kill_at, steps));
        let sweeps = ["verify-94f9de81-1-a", "verify-94f9de81-1-b"].map(str::to_owned).to_vec();
        Ok(Response::new(v1::VerifyResponse {
            sweeps,
            worker_id: "w".into(),
            worker: "gpu4:4711".into(),
            steps: 15,
        }))
    }

    async fn certify(
        &self,
        request: Request<v1::CertifyRequest>,
    ) -> Result<Response<v1::Certificate>, Status> {
        let v1::CertifyRequest { trial, sweeps } = request.into_inner();
        self.note(&(trial, sweeps));
        Ok(Response::new(self.certificate.clone()))
    }

    async fn results(&self, _: Request<v1::ResultsRequest>) -> Result<Response<Self::ResultsStream>, Status> {
        Ok(stream(&self.results))
    }

    async fn query(&self, _: Request<v1::QueryRequest>) -> Result<Response<Self::QueryStream>, Status> {
        Ok(stream(&[]))
    }

    async fn backup(&self, _: Request<v1::BackupRequest>) -> Result<Response<Self::BackupStream>, Status> {
        let chunks = self.backup.iter().map(|data| Ok(v1::BackupChunk { data: data.clone().into_bytes() }));
        let end = self.backup_breaks.then(|| Err(Status::unavailable("the disk is full")));
        Ok(Response::new(tokio_stream::iter(chunks.chain(end).collect::<Vec<_>>())))
    }
}

/// A coordinator that ends when it is dropped, with all its connections.
pub struct Coordinator {
    pub address: SocketAddr,
    script: Script,
    _runtime: Runtime,
}

impl Coordinator {
    pub fn start(script: Script) -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap(), script)
    }

    pub fn start_at(address: SocketAddr, script: Script) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind(address)).unwrap();
        let address = listener.local_addr().unwrap();
        let server = tonic::transport::Server::builder().add_service(SweepServiceServer::new(script.clone()));
        runtime.spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        Self { address, script, _runtime: runtime }
    }

    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = isolated(env!("CARGO_BIN_EXE_sortie"));
        command
            .env_clear()
            .env("SORTIE_INSECURE", "1")
            .args(["--coordinator", &format!("http://{}", self.address)])
            .args(words)
            .stdin(Stdio::null());
        command
    }

    pub fn run(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }

    /// What it prints, if all is well.
    pub fn says(&self, words: &[&str]) -> String {
        let output = self.run(words);
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    pub fn json(&self, words: &[&str]) -> Value {
        let text = self.says(&[words, &["--json"]].concat());
        assert_eq!(text.lines().count(), 1, "{words:?}: {text}");
        serde_json::from_str(&text).unwrap()
    }

    /// The one line of a refusal.
    pub fn refuses(&self, words: &[&str], code: i32) -> String {
        let output = self.run(words);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), output.stdout.len()), (Some(code), 0), "{words:?}: {error}");
        assert!(code == 2 || error.lines().count() == 1, "{words:?}: {error}");
        error
    }

    pub fn asked(&self) -> Vec<String> {
        self.script.asked.lock().unwrap().clone()
    }
}
