//! A coordinator that may open few files, and many silent connections.
#![expect(clippy::unwrap_used, reason = "a test ends at the first thing that goes wrong")]

use sortie_testkit::programs::isolated;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::TcpStream;
use std::process::{Child, Output, Stdio};
use std::thread::sleep;
use std::time::Duration;

/// More than the coordinator may open files.
const SILENT: usize = 400;
/// The number of its open files, soft and hard.
const FILES: &str = "128";

/// A coordinator that is killed at the test's end.
struct Coordinator {
    child: Child,
    url: String,
}

impl Coordinator {
    fn start(database: &str) -> Self {
        let program = env!("CARGO_BIN_EXE_sortie");
        let script = format!("ulimit -n {FILES}; exec {program} serve --listen 127.0.0.1:0 --db {database}");
        let mut command = isolated("sh");
        let mut child =
            command.args(["-c", &script]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let url = line.trim().strip_prefix("listening on ").unwrap().to_owned();
        Self { child, url }
    }

    fn status(&self) -> Output {
        let mut command = isolated(env!("CARGO_BIN_EXE_sortie"));
        command.args(["--coordinator", &self.url, "status"]).stdin(Stdio::null()).output().unwrap()
    }

    /// Its processor time, in hundredths of a second.
    fn ticks(&self) -> u64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        [11, 12].iter().map(|&field| fields[field].parse::<u64>().unwrap()).sum()
    }
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn silent_connections_keep_no_client_away_and_cost_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let coordinator = Coordinator::start(&format!("sqlite://{}/s.db", folder.path().display()));
    let (_, address) = coordinator.url.split_once("://").unwrap();
    let silent: Vec<TcpStream> = (0..SILENT).map(|_| TcpStream::connect(address).unwrap()).collect();
    for _ in 0..3 {
        let output = coordinator.status();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let before = coordinator.ticks();
    sleep(Duration::from_secs(2));
    // One that asks again and again for a connection that it may not have takes all of the two seconds.
    assert!(coordinator.ticks() - before < 100, "it spins");
    drop(silent);
}
