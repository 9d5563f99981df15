//! What the logs of a real coordinator and its worker say about one trial.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};

use serde_json::Value;

use crate::worker::{Worker, command};

/// The trial of seed 0 succeeds, that of seed 1 fails.
const SWEEP: &str = r#"
name = "followed"
[run]
command = ["/bin/sh", "-c", '''echo '{{"step":0,"domain":"oil","split":"in","n":10,"correct":4}}'; exit $((78 * {seed}))''']
[grid]
held_out = ["oil"]
seeds = 2
"#;

/// A real coordinator that logs everything. Killed when dropped.
struct Coordinator(Child);

impl Coordinator {
    /// Starts it, and gives its address.
    fn start(folder: &Path) -> (Self, String) {
        let mut command = command();
        command.args(["serve", "--listen", "127.0.0.1:0", "--log-format", "json", "--db"]);
        command.arg(folder.join("sortie.db")).env("SORTIE_LOG", "debug");
        let log = fs::File::create(folder.join("coordinator")).unwrap();
        let mut child = command.stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        (Self(child), line.trim().strip_prefix("listening on ").unwrap().to_owned())
    }
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The values of a field of a line and of its spans.
fn values<'a>(line: &'a Value, field: &str) -> Vec<&'a Value> {
    let spans = line["spans"].as_array().into_iter().flatten();
    spans.chain([&line["fields"]]).filter_map(|fields| fields.get(field)).collect()
}

/// The messages of all lines that carry this value.
fn messages<'a>(lines: &'a [Value], field: &str, value: &Value) -> Vec<&'a str> {
    let carry = lines.iter().filter(|line| values(line, field).contains(&value));
    carry.map(|line| line["fields"]["message"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_trial_can_be_followed_through_both_logs() {
    let folder = tempfile::tempdir().unwrap();
    let (_coordinator, url) = Coordinator::start(folder.path());
    let file = folder.path().join("followed.toml");
    fs::write(&file, SWEEP).unwrap();
    let sortie = |words: &[&str]| {
        let mut command = command();
        command.args(["--coordinator", &url]).args(words).stdout(Stdio::piped());
        let output = command.output().unwrap();
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    sortie(&["submit", file.to_str().unwrap(), "--json"]);
    // The worker logs at the default level, the coordinator at the one that tells of assignments.
    let arguments = ["--allow-commands", "--exit-when-idle", "--log-format", "json"];
    let mut worker = Worker::start(folder.path(), &url, &arguments);
    assert_eq!(worker.ended().await.code(), Some(0), "{}", worker.stderr());
    let at_coordinator = lines(&fs::read_to_string(folder.path().join("coordinator")).unwrap());
    let at_worker = lines(&worker.stderr());
    let trials = sortie(&["trials", "followed", "--json"])["trials"].clone();
    for trial in trials.as_array().unwrap() {
        let id = Value::from(&trial["trial"].as_str().unwrap()[..8]);
        let (at_trial, at_attempt) = match trial["state"].as_str().unwrap() {
            "failed" => ("trial failed", "attempt failed"),
            _ => ("trial succeeded", "attempt succeeded"),
        };
        assert_eq!(messages(&at_coordinator, "trial", &id), ["trial assigned"]);
        assert_eq!(messages(&at_worker, "trial", &id), ["trial started", at_trial]);
        // From then on the coordinator names the attempt by its token.
        let assigned = at_coordinator.iter().find(|line| values(line, "trial").contains(&&id)).unwrap();
        let token = values(assigned, "token")[0];
        assert_eq!(messages(&at_coordinator, "token", token), ["trial assigned", at_attempt]);
        assert_eq!(messages(&at_worker, "token", token), ["trial started", at_trial]);
        let at_start = at_worker.iter().find(|line| values(line, "token").contains(&token)).unwrap();
        assert_eq!(values(at_start, "attempt"), [1]);
    }
    let states: std::collections::BTreeSet<_> =
        trials.as_array().unwrap().iter().map(|trial| trial["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["failed", "succeeded"].into());
    for line in at_coordinator.iter().chain(&at_worker) {
        for field in ["trial", "sweep", "token", "worker"] {
            assert!(values(line, field).len() <= 1, "{field} is there twice: {line}");
        }
    }
}
