//! A flood from a host that is no part of it, while workers run trials.

use std::thread::JoinHandle;

use anyhow::{Context, Result, anyhow, ensure};
use sortie_testkit::processes::Process;

use super::hosts::{HEAD, Host, PORT};
use crate::coordinator::peak_memory_mib;

/// How long each kind of flood lasts.
const SECONDS: &str = "20";
/// What the coordinator may need, and how long a worker may wait for its answer in 99 of 100 cases.
const MEMORY_MAX_MIB: f64 = 200.0;
const LEASE_MAX_MS: f64 = 100.0;

/// The kinds of floods, and how often each must have been done to be one.
const FLOODS: [(&str, f64); 4] =
    [("idle", 1_000.0), ("slow", 100.0), ("handshakes", 500.0), ("halves", 100.0)];

/// Runs each kind of flood.
///
/// # Errors
/// When a worker waits too long meanwhile, or the coordinator needs too much.
pub fn run(coordinator: &Process, flooder: &Host, worker: &Host, access: &str) -> Result<()> {
    let mut faults = Vec::new();
    for (kind, least) in FLOODS {
        let flooding = peer(flooder, kind, access);
        let probing = peer(worker, "probe", access);
        let (done, waited) = (result(flooding)?, result(probing)?);
        let memory = peak_memory_mib(coordinator.pid())?;
        println!("{kind}: {done:.0} times; lease p99 {waited} ms; {memory:.0} MiB at most");
        if done < least {
            faults.push(format!("{kind}: done {done:.0} times only; {least} is no flood"));
        }
        if waited > LEASE_MAX_MS {
            faults.push(format!("{kind}: a lease takes {waited} ms; at most {LEASE_MAX_MS}"));
        }
        if memory > MEMORY_MAX_MIB {
            faults.push(format!("{kind}: {memory:.0} MiB; at most {MEMORY_MAX_MIB}"));
        }
    }
    ensure!(faults.is_empty(), "{}", faults.join("; "));
    Ok(())
}

/// What `network-peer` prints on a host.
fn peer(host: &Host, kind: &str, access: &str) -> JoinHandle<Result<f64>> {
    let address = format!("{HEAD}:{PORT}");
    let mut command =
        host.ours("sortie-lab", &["network-peer", kind, "--address", &address, "--seconds", SECONDS]);
    command.env("SORTIE_PEER_ACCESS", access);
    let kind = kind.to_owned();
    std::thread::spawn(move || {
        let output = command.output().context("cannot run sortie-lab")?;
        let (said, error) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        said.trim().parse().with_context(|| format!("{kind}: {said}{error}"))
    })
}

fn result(running: JoinHandle<Result<f64>>) -> Result<f64> {
    running.join().map_err(|_| anyhow!("a peer ended in a panic"))?
}
