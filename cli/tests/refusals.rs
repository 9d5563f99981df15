//! Bad input: one clear line each, a non-zero exit, nothing stored.
#![expect(clippy::unwrap_used, reason = "a test ends at the first thing that goes wrong")]

use sortie_testkit::programs::isolated;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Output, Stdio};

const GOOD: &str = "name = \"s\"\n[data]\ndataset = \"PACS\"\n[model]\nbackbone = \"efficientnet-lite0\"\n[train]\nsteps = 3\n[grid]\n\
                    dropout = [0.0, 0.5]\nlr = 1e-3\nweight_decay = 1e-4\n";

/// A coordinator that is killed at the test's end.
struct Coordinator {
    child: Child,
    url: String,
}

impl Coordinator {
    fn start(folder: &Path) -> Self {
        let mut command = isolated(env!("CARGO_BIN_EXE_sortie"));
        command
            .args(["serve", "--listen", "127.0.0.1:0", "--db"])
            .arg(format!("sqlite://{}/sortie.db", folder.display()));
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let url = line.trim().strip_prefix("listening on ").unwrap().to_owned();
        Self { child, url }
    }
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn sortie(words: &[&str]) -> Output {
    let mut command = isolated(env!("CARGO_BIN_EXE_sortie"));
    for variable in ["SORTIE_COORDINATOR", "SORTIE_DB", "SORTIE_LISTEN", "SORTIE_DATA", "SORTIE_STORE"] {
        command.env_remove(variable);
    }
    command.args(words).stdin(Stdio::null()).output().unwrap()
}

fn refused(words: &[&str], code: i32, parts: &[&str]) {
    let output = sortie(words);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{words:?}: {error}");
    assert!(output.stdout.is_empty(), "{words:?}");
    if code == 1 {
        assert_eq!(error.lines().count(), 1, "{words:?}: {error}");
    }
    assert!(!error.contains("panicked"), "{words:?}: {error}");
    for part in parts {
        assert!(error.contains(part), "{words:?}: {error} lacks {part}");
    }
}

#[test]
fn a_bad_sweep_is_refused_and_nothing_is_stored() {
    let folder = tempfile::tempdir().unwrap();
    let coordinator = Coordinator::start(folder.path());
    let file = folder.path().join("sweep.toml");
    let path = file.to_str().unwrap();
    for (old, new, parts) in [
        (
            "lr = 1e-3",
            "learning_rate = 1e-3",
            ["grid.learning_rate is not an axis", "fine-tuning has dropout, lr, weight_decay"],
        ),
        ("[0.0, 0.5]", "[]", ["grid.dropout", "at least one"]),
        ("0.5]", "1.0]", ["grid.dropout = 1.0", "below 1"]),
        ("0.5]", "-0.1]", ["grid.dropout = -0.1", "at least 0"]),
        ("lr = 1e-3", "lr = 0", ["grid.lr = 0.0", "above 0"]),
        ("lr = 1e-3", "lr = nan", ["line 10", "finite"]),
        ("efficientnet-lite0", "resnet9", ["resnet9", "efficientnet-lite0"]),
        ("lr = 1e-3", "held_out = [\"moon\"]\nlr = 1e-3", ["moon", "sketch"]),
        ("[grid]", "[grid", ["sweep.toml", "line"]),
    ] {
        fs::write(&file, GOOD.replace(old, new)).unwrap();
        refused(&["--coordinator", &coordinator.url, "submit", path], 1, &parts);
        refused(&["plan", path], 1, &parts);
    }
    fs::write(&file, GOOD).unwrap();
    refused(&["--coordinator", &coordinator.url, "submit", "missing.toml"], 1, &["missing.toml"]);
    refused(
        &["--coordinator", &coordinator.url, "submit", path, "--data", "/missing"],
        1,
        &["/missing/PACS"],
    );
    let status = sortie(&["--coordinator", &coordinator.url, "status", "--json"]);
    assert_eq!(String::from_utf8(status.stdout).unwrap().trim(), r#"{"sweeps":[]}"#);
}

#[test]
fn what_a_coordinator_cannot_use_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let running = Coordinator::start(folder.path());
    let port = running.url.strip_prefix("https://").unwrap();
    let database = |name: &str| format!("sqlite://{}/{name}", folder.path().display());
    refused(
        &["serve", "--listen", "127.0.0.1:0", "--db", &database("no/such.db")],
        1,
        &["no/such.db", "writable"],
    );
    refused(
        &["serve", "--listen", "127.0.0.1:0", "--db", &database("sortie.db")],
        1,
        &["another coordinator"],
    );
    refused(&["serve", "--listen", "127.0.0.1:0", "--db", "mysql://x"], 1, &["mysql://", "sqlite://"]);
    refused(&["serve", "--listen", port, "--db", &database("b.db")], 1, &[port, "in use"]);
    refused(&["serve", "--listen", "nonsense"], 2, &["nonsense"]);
    assert!(!folder.path().join("b.db").exists());
    let store = |place: &str| {
        refused(
            &["serve", "--listen", "127.0.0.1:0", "--db", &database("c.db"), "--store", place],
            1,
            &[place, "--store"],
        );
    };
    fs::write(folder.path().join("file"), "").unwrap();
    store("ftp://x/y");
    store(folder.path().join("file").to_str().unwrap());
}

#[test]
fn the_artifact_store_is_marked_once() {
    let folder = tempfile::tempdir().unwrap();
    let mark = || fs::read_to_string(folder.path().join("artifacts/sortie-store")).unwrap();
    drop(Coordinator::start(folder.path()));
    let first = mark();
    assert!(first.trim().len() >= 32, "{first:?}");
    drop(Coordinator::start(folder.path()));
    assert_eq!(mark(), first);
    let other = tempfile::tempdir().unwrap();
    drop(Coordinator::start(other.path()));
    assert_ne!(fs::read_to_string(other.path().join("artifacts/sortie-store")).unwrap(), first);
}

#[test]
fn wrong_questions_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let coordinator = Coordinator::start(folder.path());
    let url = coordinator.url.as_str();
    refused(&["--coordinator", "https://127.0.0.1:9", "status"], 1, &["https://127.0.0.1:9", "sortie serve"]);
    refused(&["--coordinator", "http://10.0.0.1:9", "status"], 1, &["--insecure"]);
    refused(&["--coordinator", "ftp://x", "status"], 1, &["ftp://x"]);
    for command in [
        &["status", "nope"][..],
        &["wait", "nope"],
        &["pause", "nope"],
        &["cancel", "nope"],
        &["trials", "nope"],
        &["results", "nope"],
        &["explain", "nope/0f"],
        &["logs", "nope/0f"],
        &["figure", "nope", "--kind", "rates", "-o", "x.svg"],
        &["report", "nope", "-o", "x.html"],
    ] {
        refused(&[&["--coordinator", url], command].concat(), 1, &["nope", "none was submitted"]);
    }
    refused(
        &["--coordinator", url, "results", "nope", "--select", "best"],
        2,
        &["best", "iid, loo, oracle, last"],
    );
    refused(&["--coordinator", url, "trials", "nope", "--where", "speed"], 2, &["speed", "AXIS=VALUE"]);
    refused(
        &["--coordinator", url, "trials", "nope", "--state", "asleep"],
        2,
        &["asleep", "queued, running"],
    );
    refused(
        &["--coordinator", url, "figure", "nope", "--kind", "rates", "-o", "x.gif"],
        1,
        &["x.gif", ".svg"],
    );
    refused(
        &["figure", "s", "--kind", "pie", "-o", "x.svg"],
        2,
        &["pie", "scatter, rates, curves, box, grid"],
    );
    refused(
        &["figure", "s", "--kind", "scatter", "--method", "plain,sum", "-o", "x.svg"],
        2,
        &["sum", "plain, average, ensemble"],
    );
    refused(
        &["figure", "s", "--kind", "rates", "--width", "41", "-o", "x.pdf"],
        2,
        &["41", "single (8.25 cm), double (17.1 cm) or a number of centimetres from 6 to 40"],
    );
    refused(&["results", "s", "--paired", "a=1", "a=2", "--by", "lr"], 2, &["--paired", "--by"]);
    refused(&["fly"], 2, &["fly"]);
}
