//! Writes the inputs of corpus/ that no person types: calls in the order in which clients and workers make them, and access files.

use std::path::Path;

use prost::Message;
use sortie_access::Identity;
use sortie_coordinator::fuzzing::Model;
use sortie_core::access::Role;
use sortie_core::catalogue;
use sortie_core::finetune::{Backbone, FinetunePoint, FinetuneSpec, Settings};
use sortie_core::keep::Keep;
use sortie_core::keys::AttemptToken;
use sortie_core::pipe::Assignment;
use sortie_fuzz::Calls;
use sortie_proto::v1;

const SWEEPS: &str = "/sortie.v1.SweepService/";
const WORKERS: &str = "/sortie.v1.WorkerService/";
const COMMANDS: &str =
    "name = \"s\"\n[run]\ncommand = ['run', '{lr}']\n[grid]\nlr = [0.1, 0.2]\nheld_out = [\"photo\"]\n";
const TRAINING: &str = "name = \"t\"\n[data]\ndataset = \"PACS\"\n[model]\nbackbone = \"resnet18\"\n[train]\nsteps = 20\n[grid]\ndropout = [0.0, 0.5]\nlr = 1e-3\nweight_decay = 1e-4\nheld_out = [\"photo\"]\nseeds = 2\n[[combine]]\nname = \"pair\"\nkind = \"ensemble\"\nover = \"seed\"\n";

fn main() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    let runtime = runtime.expect("a runtime");
    for (name, text) in [("commands", COMMANDS), ("training", TRAINING)] {
        let calls = runtime.block_on(conversation(text));
        for end in [1, 4, calls.len() / 2, calls.len()] {
            write(&corpus.join("requests"), &format!("{name}-{end}"), &Calls::bytes(&calls[..end]));
        }
    }
    let users = users("s");
    for calls in users.chunks(4) {
        let submitted = [(call(SWEEPS, "Submit"), submit(COMMANDS))].into_iter().chain(calls.iter().cloned());
        let calls: Vec<(&str, Vec<u8>)> = submitted.collect();
        write(
            &corpus.join("requests"),
            calls[1].0.rsplit('/').next().unwrap_or_default(),
            &Calls::bytes(&calls),
        );
    }
    let assignment = serde_json::to_string(&assignment()).expect("text");
    write(&corpus.join("pipe"), "assignment", format!("a{assignment}").as_bytes());
    let identity = Identity::new().expect("an identity");
    let addresses =
        ["127.0.0.1:7070", "head:7070", "[::1]:7070"].map(|address| address.parse().expect("an address"));
    let file = identity.access(Role::Worker, addresses.to_vec());
    write(&corpus.join("access"), "identity", identity.text().as_bytes());
    write(&corpus.join("access"), "file", file.text().as_bytes());
    write(&corpus.join("access"), "line", file.line().as_bytes());
}

fn write(folder: &Path, name: &str, bytes: &[u8]) {
    std::fs::create_dir_all(folder).expect("a folder");
    std::fs::write(folder.join(name), bytes).expect("a file");
}

fn call(service: &str, method: &str) -> &'static str {
    let call = sortie_core::access::CALLS.iter().find(|call| call.method == method);
    let call = call.expect("a call of the protocol");
    assert!(service.contains(call.service));
    format!("/{}/{}", call.service, call.method).leak()
}

fn submit(text: &str) -> Vec<u8> {
    v1::SubmitRequest { text: text.to_owned(), ..Default::default() }.encode_to_vec()
}

/// A worker's.
fn secret() -> String {
    format!("sortie_{}", "5".repeat(64))
}

/// What a worker assigns to a trainer.
fn assignment() -> Assignment {
    let settings = Settings::reference(catalogue::find("PACS").expect("a dataset"), Backbone::ResNet18);
    let point = FinetunePoint {
        held_out: vec!["photo".to_owned()],
        dropout: 0.5,
        lr: 0.1 + 0.2,
        weight_decay: 1e-4,
        head_lr_factor: 1.0,
        seed: 0,
        split_seed: 0,
    };
    Assignment {
        spec: FinetuneSpec { settings, point },
        data: "/data".into(),
        cache: "/cache".into(),
        device: "cuda:0".to_owned(),
        threads: 2,
        store: Some("file:///artifacts".to_owned()),
        token: AttemptToken(7),
        attempt: 1,
        checkpoints: Vec::new(),
        keep: Keep::default(),
        kill_at: None,
        combination: None,
    }
}

/// What a worker and its user say until a trial has ended.
async fn conversation(text: &str) -> Vec<(&'static str, Vec<u8>)> {
    let mut model = Model::new().await.expect("a model");
    let mut calls = Vec::new();
    let register = v1::RegisterRequest {
        version: Some(v1::Version::ours("seeds")),
        worker_id: "w".into(),
        host: "host".into(),
        pid: 7,
        devices: vec!["cpu".into()],
        slots: 2,
        allow_commands: true,
        machine: "m".into(),
        secret: secret(),
        ..Default::default()
    };
    let registered = say(&mut model, &mut calls, call(WORKERS, "Register"), register.encode_to_vec()).await;
    let incarnation = v1::RegisterResponse::decode(registered.as_slice()).expect("an answer").incarnation;
    say(&mut model, &mut calls, call(SWEEPS, "Submit"), submit(text)).await;
    let findings = Some(v1::Findings {
        has: vec![
            v1::Prerequisite { what: Some(v1::prerequisite::What::Dataset("PACS".into())) },
            v1::Prerequisite { what: Some(v1::prerequisite::What::Program("run".into())) },
        ],
        lacks: Vec::new(),
    });
    let lease = v1::LeaseRequest {
        worker_id: "w".into(),
        count_max: 1,
        incarnation,
        findings,
        secret: secret(),
        ..Default::default()
    };
    let leased = say(&mut model, &mut calls, call(WORKERS, "Lease"), lease.encode_to_vec()).await;
    let leased = v1::LeaseResponse::decode(leased.as_slice()).expect("an answer");
    let token = leased.leases.first().expect("a lease").token;
    let progress = v1::Progress { token, step: 3, preparation: None };
    let heartbeat = v1::HeartbeatRequest {
        worker_id: "w".into(),
        attempts: vec![progress],
        incarnation,
        secret: secret(),
    };
    say(&mut model, &mut calls, call(WORKERS, "Heartbeat"), heartbeat.encode_to_vec()).await;
    let evaluation = v1::Evaluation {
        method: "plain".into(),
        step: 19,
        domain: "sketch".into(),
        split: "out".into(),
        n: Some(10),
        correct: 7,
        ..Default::default()
    };
    let artifact = v1::Artifact {
        kind: "final-weights".into(),
        method: "plain".into(),
        step: 19,
        key: "final-weights/x/plain-19".into(),
        digest: "0".repeat(64),
        bytes: 9,
    };
    let batch = v1::Batch {
        sequence: 1,
        fingerprint: Some(v1::Fingerprint {
            software: "seeds".into(),
            device: "cpu".into(),
            threads: 1,
            ..Default::default()
        }),
        evaluations: vec![evaluation],
        losses: vec![v1::TrainingLoss { step: 1, loss: 0.5, ..Default::default() }],
        log: b"a line\n".to_vec(),
        artifacts: vec![artifact],
        notes: vec!["a note".into()],
        ..Default::default()
    };
    let report = v1::ReportRequest { token, batch: Some(batch.clone()), incarnation, secret: secret() };
    say(&mut model, &mut calls, call(WORKERS, "Report"), report.encode_to_vec()).await;
    let outcome = Some(v1::complete_request::Outcome::Succeeded(v1::Succeeded {}));
    let batch = Some(v1::Batch { sequence: 1, log: b"end\n".to_vec(), ..Default::default() });
    let complete = v1::CompleteRequest { token, batch, outcome, incarnation, secret: secret() };
    say(&mut model, &mut calls, call(WORKERS, "Complete"), complete.encode_to_vec()).await;
    let leave = v1::LeaveRequest { worker_id: "w".into(), incarnation, secret: secret() };
    say(&mut model, &mut calls, call(WORKERS, "Leave"), leave.encode_to_vec()).await;
    let sweep = if text == COMMANDS { "s" } else { "t" };
    for (path, message) in users(sweep).into_iter().take(8) {
        say(&mut model, &mut calls, path, message).await;
    }
    calls
}

/// Makes a call and keeps it; gives the last message of the answer.
async fn say(
    model: &mut Model,
    calls: &mut Vec<(&'static str, Vec<u8>)>,
    path: &'static str,
    message: Vec<u8>,
) -> Vec<u8> {
    let (status, mut answers) = model.call(path, &message).await;
    println!("{path}: {status:?}");
    calls.push((path, message));
    answers.pop().unwrap_or_default()
}

/// What users ask of a sweep.
fn users(sweep: &str) -> Vec<(&'static str, Vec<u8>)> {
    let name = || sweep.to_owned();
    let control = |action: v1::ControlAction, condition: &str| {
        v1::ControlRequest {
            sweep: name(),
            action: action.into(),
            r#where: condition.into(),
            ..Default::default()
        }
        .encode_to_vec()
    };
    let named = v1::DescribeRequest { sweep: name() }.encode_to_vec();
    vec![
        (call(SWEEPS, "Status"), v1::StatusRequest { sweep: name(), archived: false }.encode_to_vec()),
        (call(SWEEPS, "Trials"), v1::TrialsRequest { sweep: name(), state: 0 }.encode_to_vec()),
        (
            call(SWEEPS, "Results"),
            v1::ResultsRequest { sweep: name(), detail: String::new() }.encode_to_vec(),
        ),
        (call(SWEEPS, "Describe"), named.clone()),
        (call(SWEEPS, "Workers"), v1::WorkersRequest::default().encode_to_vec()),
        (call(SWEEPS, "Explain"), v1::ExplainRequest { trial: name() }.encode_to_vec()),
        (call(SWEEPS, "Control"), control(v1::ControlAction::Cancel, "lr=0.1")),
        (call(SWEEPS, "Control"), control(v1::ControlAction::Retry, "")),
        (call(SWEEPS, "Extend"), v1::ExtendRequest { sweep: name(), seeds: 3 }.encode_to_vec()),
        (call(SWEEPS, "Control"), control(v1::ControlAction::Pause, "")),
        (call(SWEEPS, "Control"), control(v1::ControlAction::Resume, "")),
        (call(SWEEPS, "Preview"), submit(COMMANDS)),
        (
            call(SWEEPS, "Outlook"),
            v1::OutlookRequest { text: TRAINING.into(), discovered: None }.encode_to_vec(),
        ),
        (call(SWEEPS, "Logs"), v1::LogsRequest { trial: name(), ..Default::default() }.encode_to_vec()),
        (call(SWEEPS, "Artifacts"), named.clone()),
        (call(SWEEPS, "Verify"), named),
        (call(SWEEPS, "Delete"), v1::DeleteRequest { sweep: name(), only_ask: true }.encode_to_vec()),
        (call(SWEEPS, "Control"), control(v1::ControlAction::Archive, "")),
    ]
}
