//! `sortie sql` against a coordinator that runs, on a database with a few results.
#![expect(clippy::unwrap_used, reason = "a test ends at the first thing that goes wrong")]

use sortie_testkit::programs::{isolated, state_home};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use sortie_access::TokenDigest;
use sortie_coordinator::store::{
    Claim, OpenOptions, QUERY_TEMPORARY_BYTES_MAX, Settings, Store, SubmitOptions, Submitted, Worker,
};
use sortie_core::job::Outcome;
use sortie_core::lease::{Batch, Completion};
use sortie_core::metrics::{Evaluation, Method, Score, SplitName};
use sortie_core::spec::SweepSpec;

const SWEEP: &str = "name = \"s\"\n[run]\ncommand = [\"run\"]\n[grid]\ndropout = [0.1, 0.9]\nheld_out = [\"photo\"]\nseeds = 2\n";

/// Stores a sweep of four trials, three of them with results.
async fn fill(url: &str) {
    let settings = Settings::new(Duration::from_secs(60));
    let store = Store::open(&url.parse().unwrap(), &OpenOptions::default(), settings).await.unwrap();
    let mut able = Worker { id: "w".into(), host: "host".into(), pid: 7, slots: 1, ..Worker::default() };
    able.abilities.commands = true;
    store.register(&able).await.unwrap();
    let mut progress =
        store.submit(&SweepSpec::parse(SWEEP, None).unwrap(), SubmitOptions::default()).await.unwrap();
    progress.wait_for(Submitted::is_done).await.unwrap();
    let claim = Claim { worker_id: "w".into(), count_max: 3, ..Claim::default() };
    for (index, lease) in store.claim(claim, Duration::ZERO).await.unwrap().leases.into_iter().enumerate() {
        let told = |domain: &str, step, split, value| {
            let score = Score::Value { value, n: 0 };
            Evaluation {
                method: Method::Plain,
                step,
                domain: domain.into(),
                split,
                score: Some(score),
                loss: None,
                metrics: Default::default(),
                seconds: None,
            }
        };
        let ood = 0.1 + 0.2 * index as f64;
        let evaluations = vec![
            told("art", 0, SplitName::Out, 0.5),
            told("photo", 0, SplitName::In, ood),
            told("art", 9, SplitName::Out, 0.25),
        ];
        let batch = Some(Batch { sequence: 1, evaluations, ..Batch::default() });
        let completion = Completion { token: lease.token, batch, outcome: Outcome::Succeeded };
        store.complete(TokenDigest::default(), completion).await.unwrap();
    }
    store.close().await;
}

/// A coordinator that is killed at the test's end.
struct Coordinator {
    child: Child,
    url: String,
}

impl Coordinator {
    fn start(folder: &Path) -> Self {
        let database = format!("sqlite://{}/sortie.db", folder.display());
        tokio::runtime::Runtime::new().unwrap().block_on(fill(&database));
        let mut command = isolated(env!("CARGO_BIN_EXE_sortie"));
        command
            .args(["serve", "--listen", "127.0.0.1:0", "--db", &database])
            .env_clear()
            .env("XDG_STATE_HOME", state_home());
        let mut child =
            command.current_dir(folder).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let url = line.trim().strip_prefix("listening on ").unwrap().to_owned();
        Self { child, url }
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = isolated(env!("CARGO_BIN_EXE_sortie"));
        command
            .env_clear()
            .env("XDG_STATE_HOME", state_home())
            .args(["--coordinator", &self.url, "sql"])
            .args(words)
            .stdin(Stdio::null());
        command
    }

    fn run(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }

    fn says(&self, words: &[&str]) -> String {
        let output = self.run(words);
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn refuses(&self, sql: &str) -> String {
        let output = self.run(&[sql]);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(
            (output.status.code(), output.stdout.len(), error.lines().count()),
            (Some(1), 0, 1),
            "{sql}: {error}"
        );
        error
    }
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn questions_are_answered_in_every_format() {
    let folder = tempfile::tempdir().unwrap();
    let coordinator = Coordinator::start(folder.path());
    let sql = "select dropout, seed, step, iid, ood_in, ood_out, 'a,b' as \"x y\", 1 as n, 2 as n from v_selected \
               where selection = 'iid' order by dropout, seed limit 2";
    assert_eq!(
        coordinator.says(&[sql, "--format", "csv"]),
        "dropout,seed,step,iid,ood_in,ood_out,x y,n,n\n0.1,0,0,0.5,0.1,,\"a,b\",1,2\n0.1,1,0,0.5,0.5,,\"a,b\",1,2\n"
    );
    let answer: Value = serde_json::from_str(&coordinator.says(&[sql, "--json"])).unwrap();
    assert_eq!(
        answer["columns"],
        json!(["dropout", "seed", "step", "iid", "ood_in", "ood_out", "x y", "n", "n_2"])
    );
    let row = json!({"dropout": 0.1, "seed": 0, "step": 0, "iid": 0.5, "ood_in": 0.1, "ood_out": null, "x y": "a,b", "n": 1, "n_2": 2});
    assert_eq!((answer["rows"].as_array().unwrap().len(), &answer["rows"][0]), (2, &row));
    let states = "select state, count(*) as trials from v_trials group by state order by state";
    assert_eq!(coordinator.says(&[states]), " state      trials\n queued     1\n succeeded  3\n");
    assert_eq!(
        coordinator.says(&[states, "--format", "markdown"]),
        "| state | trials |\n| --- | --- |\n| queued | 1 |\n| succeeded | 3 |\n"
    );
    let many =
        "with recursive n (i) as (select 1 union all select i + 1 from n where i < 20000) select i from n";
    assert_eq!(coordinator.says(&[many, "--format", "csv"]).lines().count(), 20_001);
}

#[test]
fn the_examples_of_the_documentation_run() {
    let folder = tempfile::tempdir().unwrap();
    let coordinator = Coordinator::start(folder.path());
    let text = include_str!("../../docs/sql.md");
    let examples: Vec<&str> =
        text.split("```sql\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert_eq!(examples.len(), 3);
    for example in examples {
        let answer = coordinator.says(&[&example.replace("pacs-dropout", "s"), "--json"]);
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert!(!answer["rows"].as_array().unwrap().is_empty(), "{example}");
    }
    // The table by hand is the table.
    let by_hand =
        text.split("```sql\n").nth(3).unwrap().split("```").next().unwrap().replace("pacs-dropout", "s");
    let by_hand: Value = serde_json::from_str(&coordinator.says(&[&by_hand, "--json"])).unwrap();
    let mut command = isolated(env!("CARGO_BIN_EXE_sortie"));
    let output = command
        .env_clear()
        .env("XDG_STATE_HOME", state_home())
        .args(["--coordinator", &coordinator.url, "results", "s", "--json"])
        .output()
        .unwrap();
    let table: Value = serde_json::from_slice(&output.stdout).unwrap();
    for (row, cell) in by_hand["rows"].as_array().unwrap().iter().zip(table["cells"].as_array().unwrap()) {
        let close =
            |name: &str| (row[name].as_f64().unwrap() - cell[name]["mean"].as_f64().unwrap()).abs() < 1e-12;
        assert!(
            close("iid") && close("ood") && row["dropout"] == cell["dropout"] && row["n"] == cell["done"],
            "{row} {cell}"
        );
    }
}

#[test]
fn what_may_not_be_asked_is_refused_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let coordinator = Coordinator::start(folder.path());
    let only = "error: only v_trials, v_evaluations, v_metrics, v_curves and v_selected may be read, not sqlite_master\n";
    assert_eq!(coordinator.refuses("select * from sqlite_master"), only);
    let trials = "error: the database refuses the query: no such table: trials (only v_trials, v_evaluations, v_metrics, v_curves and v_selected may be read; \
                  docs/sql.md describes them)\n";
    assert_eq!(coordinator.refuses("select * from trials"), trials);
    for sql in [
        "drop table trials",
        "select * from v_trials; drop table trials",
        "pragma user_version",
        "select droput from v_trials",
        "nonsense",
        "",
    ] {
        coordinator.refuses(sql);
    }
    // A failure in the middle of an answer; what came before it was printed.
    let broken = coordinator
        .run(&["select abs(i) from (select 1 as i union all select -9223372036854775808) limit 2", "--json"]);
    assert_eq!(
        (broken.status.code(), String::from_utf8(broken.stderr).unwrap().lines().count()),
        (Some(1), 1)
    );
    let unknown = coordinator.run(&["select 1", "--format", "xml"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(String::from_utf8(unknown.stderr).unwrap().contains("table, csv, json, markdown"));
    assert_eq!(coordinator.says(&["select count(*) as n from v_trials", "--format", "csv"]), "n\n4\n");
}

/// A number of `/proc/PID/status`, such as `VmHWM`, in KiB.
fn status(pid: u32, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

/// The processes that a process has started, whichever of its threads did.
fn children(pid: u32) -> Vec<u32> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok());
    lists
        .flat_map(|list| list.split_whitespace().map(|pid| pid.parse().unwrap()).collect::<Vec<_>>())
        .collect()
}

/// The bytes of a process's files that have no name any more.
fn nameless_bytes(pid: u32) -> u64 {
    let files = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let nameless = files.filter(|file| {
        std::fs::read_link(file.path()).is_ok_and(|name| name.to_string_lossy().ends_with("(deleted)"))
    });
    nameless.filter_map(|file| Some(std::fs::metadata(file.path()).ok()?.len())).sum()
}

#[test]
fn a_query_takes_its_share_of_space_and_memory_and_the_coordinator_none_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let coordinator = Coordinator::start(folder.path());
    let pid = coordinator.child.id();
    coordinator.says(&["select 1"]);
    let before = status(pid, "VmRSS");
    let sorted = "with recursive n (i) as (select 1 union all select i + 1 from n where i < 100000) \
                  select hex(zeroblob(30000)) || i as t from n order by t desc";
    let done = std::sync::atomic::AtomicBool::new(false);
    let (line, bytes_max) = std::thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let mut bytes_max = 0;
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                bytes_max = children(pid).into_iter().map(nameless_bytes).sum::<u64>().max(bytes_max);
                std::thread::sleep(Duration::from_millis(2));
            }
            bytes_max
        });
        let line = coordinator.refuses(sorted);
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        (line, watch.join().unwrap())
    });
    let too_much_space = "error: the query needs more temporary space than the 1024 MiB that it may take, or than there is: \
                          ask for less at a time, such as one sweep or one method\n";
    assert_eq!(line, too_much_space);
    assert!((1..=QUERY_TEMPORARY_BYTES_MAX).contains(&bytes_max), "{bytes_max} bytes");
    let texts = |from: usize| {
        (from..from + 126).map(|n| format!("hex(zeroblob({n}))")).collect::<Vec<_>>().join(", ")
    };
    let long =
        format!("select length(max({}, max({}, max({}))))", texts(500_000), texts(501_000), texts(502_000));
    let too_much_memory = "error: the query needs more than 256 MiB of memory: ask for less at a time, such as one sweep or one method\n";
    assert_eq!(coordinator.refuses(&long), too_much_memory);
    let grown = status(pid, "VmHWM") - before;
    assert!(grown < 16 << 10, "the coordinator's memory grew by {grown} KiB");
    // What stays within both goes through.
    assert_eq!(
        coordinator.says(&["select length(hex(zeroblob(500000))) as n", "--format", "csv"]),
        "n\n1000000\n"
    );
}

#[test]
fn no_query_outlives_its_coordinator() {
    let folder = tempfile::tempdir().unwrap();
    let mut coordinator = Coordinator::start(folder.path());
    let endless = "with recursive n (i) as (select 1 union all select i + 1 from n) select count(*) from n";
    let mut client =
        coordinator.command(&[endless]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let wait = |is_so: &dyn Fn() -> bool| {
        let mut polls = 0;
        while !is_so() {
            polls += 1;
            assert!(polls < 12_000, "nothing happened for far too long");
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    wait(&|| !children(coordinator.child.id()).is_empty());
    let query = children(coordinator.child.id()).remove(0);
    coordinator.child.kill().unwrap();
    coordinator.child.wait().unwrap();
    wait(&|| !Path::new(&format!("/proc/{query}/exe")).exists());
    client.kill().unwrap();
    client.wait().unwrap();
}

#[test]
fn whoever_stops_reading_stops_the_query() {
    let folder = tempfile::tempdir().unwrap();
    let coordinator = Coordinator::start(folder.path());
    let endless = "with recursive n (i) as (select 1 union all select i + 1 from n) select i from n";
    // More in turn than may run at a time.
    for _ in 0..4 {
        let mut child = coordinator
            .command(&[endless, "--format", "csv"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut start = [0; 1_000];
        let mut stdout = child.stdout.take().unwrap();
        while stdout.read_exact(&mut start).is_err() {
            // The places of those before are free a moment after they are gone.
            child.wait().unwrap();
            child = coordinator
                .command(&[endless, "--format", "csv"])
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            stdout = child.stdout.take().unwrap();
        }
        drop(stdout);
        assert!(child.wait().unwrap().success(), "a reader that closed early is no failure");
    }
}
