//! Tables and rows of a sweep that a real coordinator holds: whatever the way, the numbers are those that its worker told.
#![expect(clippy::unwrap_used, reason = "a test ends at the first thing that goes wrong")]

#[path = "support/link.rs"]
mod link;

use sortie_testkit::programs::{isolated, state_home};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Output, Stdio};

use link::link;
use serde_json::{Value, json};
use sortie_access::Token;
use sortie_proto::v1;
use sortie_proto::v1::complete_request::Outcome;
use sortie_proto::v1::worker_service_client::WorkerServiceClient;

const SWEEP: &str = "name = \"s\"\n[run]\ncommand = [\"true\"]\n[data]\ndataset = \"Mine\"\ndomains = [\"a\", \"b\", \"c\"]\n[grid]\nlr = [1e-3, 0.1]\n\
                     flavour = \"plain\"\nheld_out = \"each\"\nseeds = 2\n";

/// A coordinator, which ends with this or when our end of its input closes.
struct Coordinator {
    folder: tempfile::TempDir,
    child: Child,
    url: String,
}

impl Coordinator {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut command = isolated(env!("CARGO_BIN_EXE_sortie"));
        command.env_clear().env("XDG_STATE_HOME", state_home()).args([
            "serve",
            "--stop-on-stdin-close",
            "--listen",
            "127.0.0.1:0",
            "--db",
        ]);
        command.arg(format!("sqlite://{}", folder.path().join("sortie.db").display()));
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let url = line.trim().strip_prefix("listening on ").unwrap().to_owned();
        Self { folder, child, url }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn run(&self, words: &[&str]) -> Output {
        let mut command = isolated(env!("CARGO_BIN_EXE_sortie"));
        command
            .env_clear()
            .env("XDG_STATE_HOME", state_home())
            .args(["--coordinator", &self.url])
            .args(words)
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    fn says(&self, words: &[&str]) -> String {
        let output = self.run(words);
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn refuses(&self, words: &[&str]) -> String {
        let output = self.run(words);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{words:?}");
        String::from_utf8(output.stderr).unwrap()
    }

    /// Stores the sweep and runs it: every trial tells two steps, but for one that fails.
    fn fill(&self) {
        let file = self.path("s.toml");
        fs::write(&file, SWEEP).unwrap();
        self.says(&["submit", file.to_str().unwrap()]);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(work(&self.url));
    }
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A worker that makes its numbers up.
async fn work(url: &str) {
    let mut service = WorkerServiceClient::new(link(url).await);
    let (version, worker_id) = (Some(v1::Version::ours("test")), "w".to_owned());
    let secret = Token::new().unwrap().reveal().to_owned();
    let register = v1::RegisterRequest {
        secret: secret.clone(),
        version,
        machine: worker_id.clone(),
        worker_id: worker_id.clone(),
        allow_commands: true,
        slots: 64,
        ..Default::default()
    };
    let incarnation = service.register(register).await.unwrap().into_inner().incarnation;
    let request = v1::LeaseRequest {
        worker_id,
        count_max: 64,
        wait_ms: 1_000,
        incarnation,
        secret: secret.clone(),
        ..Default::default()
    };
    let leases = service.lease(request).await.unwrap().into_inner().leases;
    assert_eq!(leases.len(), 12);
    for lease in leases {
        let point = lease.spec.unwrap().point.unwrap();
        let mut batch = v1::Batch { sequence: 1, ..Default::default() };
        let failed = v1::Failed { error_class: "bad-config".into(), message: "torn".into() };
        let mut outcome = Outcome::Failed(failed);
        if point.held_out != ["c"] || point.seed == 0 {
            batch.evaluations = evaluations(&point);
            let loss = |step: u64| v1::TrainingLoss { step, loss: 0.1 + step as f64, seconds: Some(0.5) };
            batch.losses = (0..4).map(loss).collect();
            outcome = Outcome::Succeeded(v1::Succeeded {});
        }
        let (token, batch, outcome) = (lease.token, Some(batch), Some(outcome));
        service
            .complete(v1::CompleteRequest { token, batch, outcome, incarnation, secret: secret.clone() })
            .await
            .unwrap();
    }
}

/// Step 3 is the better one on the training domains. Held-out accuracies are bare fractions, which end in odd bits.
fn evaluations(point: &v1::Point) -> Vec<v1::Evaluation> {
    let mut rows = Vec::new();
    for step in [0, 3] {
        for domain in ["a", "b", "c"] {
            let held_out = point.held_out == [domain];
            let value = held_out.then(|| fraction(domain, step, point.seed));
            let correct = if held_out { 0 } else { 50 + step };
            for split in ["in", "out"] {
                let (method, domain, split) = ("plain".to_owned(), domain.to_owned(), split.to_owned());
                let loss = (split == "out").then_some(1.0 / 3.0);
                rows.push(v1::Evaluation {
                    method,
                    step,
                    domain,
                    split,
                    n: Some(100),
                    correct,
                    loss,
                    value,
                    ..v1::Evaluation::default()
                });
            }
        }
    }
    rows
}

fn fraction(domain: &str, step: u64, seed: u64) -> f64 {
    0.1 + 0.2 * f64::from(domain.as_bytes()[0] - b'a') + 0.01 * step as f64 + 0.003 * seed as f64
}

fn jsonl(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.retain(|name| name.contains("rows"));
    names.sort();
    names
}

#[test]
fn tables_and_rows_hold_what_the_worker_told() {
    let coordinator = Coordinator::start();
    coordinator.fill();
    let results: Value = serde_json::from_str(&coordinator.says(&["results", "s", "--json"])).unwrap();
    assert_eq!(
        (&results["planned"], &results["done"], &results["failed"]),
        (&12.into(), &10.into(), &2.into())
    );
    for (cell, domain) in results["cells"].as_array().unwrap().iter().zip(["a", "b", "c", "a", "b", "c"]) {
        let seeds: &[u64] = if domain == "c" { &[0] } else { &[0, 1] };
        let mean = seeds.iter().map(|&seed| fraction(domain, 3, seed)).sum::<f64>() / seeds.len() as f64;
        assert_eq!(
            (&cell["held_out"], &cell["ood"]["mean"], &cell["iid"]["mean"]),
            (&domain.into(), &mean.into(), &0.53.into())
        );
    }
    // Several tables and a comparison come from the same stream.
    let tables = coordinator.says(&["results", "s", "--select", "iid,last,oracle"]);
    assert_eq!(
        ["selection iid:", "selection last:", "selection oracle:"].map(|table| tables.matches(table).count()),
        [1, 1, 1],
        "{tables}"
    );
    assert!(coordinator.says(&["results", "s", "--paired", "lr=0.1", "lr=1e-3"]).contains("5 of 6 pairs"));

    let rows = jsonl(&coordinator.says(&["export", "s", "--format", "jsonl"]));
    let (told, empty): (Vec<&Value>, Vec<&Value>) = rows.iter().partition(|row| !row["step"].is_null());
    assert_eq!((told.len(), empty.len()), (10 * 12, 2));
    assert!(empty.iter().all(|row| row["state"] == "failed"
        && row["held_out"] == "c"
        && row["seed"] == 1
        && row["accuracy"].is_null()));
    for row in told {
        let (domain, step, seed) =
            (row["domain"].as_str().unwrap(), row["step"].as_u64().unwrap(), row["seed"].as_u64().unwrap());
        let held_out = row["held_out"] == domain;
        let accuracy = if held_out { fraction(domain, step, seed) } else { (50 + step) as f64 / 100.0 };
        let correct = if held_out { Value::Null } else { (50 + step).into() };
        let role = if held_out { "held-out" } else { "training" };
        let loss = if row["split"] == "out" { json!(1.0 / 3.0) } else { Value::Null };
        assert_eq!(
            [&row["accuracy"], &row["correct"], &row["n"], &row["loss"]],
            [&json!(accuracy), &correct, &json!(100), &loss],
            "{row}"
        );
        assert_eq!(
            (&row["role"], &row["flavour"], &row["method"]),
            (&role.into(), &"plain".into(), &"plain".into())
        );
    }
}

#[test]
fn files_are_complete_or_not_there() {
    let coordinator = Coordinator::start();
    coordinator.fill();
    let path = |name: &str| coordinator.path(name).to_str().unwrap().to_owned();
    let (csv, parquet, cells) = (path("rows.csv"), path("rows.parquet"), path("cell-rows.parquet"));
    let said = coordinator.says(&["export", "s", "--format", "csv", "-o", &csv, "--json"]);
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(
        said,
        json!({"sweep": "s", "output": csv, "evaluations": 120, "trials": 12, "without_evaluations": 2})
    );
    assert_eq!(fs::read_to_string(&csv).unwrap(), coordinator.says(&["export", "s", "--format", "csv"]));
    let said = coordinator.says(&["export", "s", "--format", "parquet", "-o", &parquet]);
    assert_eq!(said, format!("wrote 120 evaluations of 12 trials, 2 of them without any, to {parquet}\n"));
    coordinator.says(&["results", "s", "--format", "parquet", "-o", &cells]);
    // Two trials failed; the others told four losses each.
    let losses = coordinator.says(&["export", "s", "--format", "csv", "--losses"]);
    assert_eq!(losses.matches(",batch,training,,,,").count(), 40);
    assert!(losses.contains(",plain,3,,batch,training,,,,3.1,0.5\n"), "{losses}");
    let said = coordinator.says(&["export", "s", "--format", "csv", "--losses", "-o", &csv]);
    assert!(said.starts_with("wrote 120 evaluations and 40 training losses of 12 trials, "), "{said}");
    let page = path("report.html");
    coordinator.says(&["report", "s", "-o", &page]);
    assert!(fs::read_to_string(page).unwrap().contains("The training loss of the step's batch"));
    for path in [&parquet, &cells] {
        let bytes = fs::read(path).unwrap();
        assert!(bytes.starts_with(b"PAR1") && bytes.ends_with(b"PAR1"), "{path}");
    }
    let there = ["cell-rows.parquet", "rows.csv", "rows.parquet"];
    assert_eq!(names(coordinator.folder.path()), there);
    // What fails leaves what was there, and nothing else.
    let before = fs::read(&csv).unwrap();
    for (words, error) in [
        (&["export", "nope", "--format", "csv", "-o", &csv][..], "there is no sweep \"nope\""),
        (&["results", "s", "--by", "speed", "-o", &csv], "no axis \"speed\""),
        (&["export", "s", "--format", "parquet"], "parquet is binary: pass --output FILE"),
        (&["results", "s", "--format", "parquet"], "parquet is binary: pass --output FILE"),
        (
            &["results", "s", "--format", "parquet", "--select", "iid,last", "-o", &csv],
            "--select names 2 methods",
        ),
        (
            &["results", "s", "--format", "csv", "--paired", "lr=0.1", "lr=1e-3"],
            "--paired is printed as table or json, not as csv",
        ),
        (
            &["export", "s", "--format", "domainbed"],
            "--format domainbed writes a folder: name it with --output",
        ),
    ] {
        let said = coordinator.refuses(words);
        assert!(said.lines().count() == 1 && said.contains(error), "{words:?}: {said}");
    }
    assert_eq!(
        (fs::read(&csv).unwrap(), names(coordinator.folder.path())),
        (before, there.map(str::to_owned).to_vec())
    );
    assert_eq!(coordinator.run(&["export", "s", "--format", "csv", "--json"]).status.code(), Some(2));
}
