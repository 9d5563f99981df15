//! What goes over the wire, as tshark sees it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use sortie_testkit::processes::{Process, Signal};
use sortie_testkit::wait;

use super::hosts::Host;

/// How long tshark may take to start and to end.
const LIMIT: Duration = Duration::from_secs(60);

/// Everything on the coordinator's port, from now on.
#[derive(Debug)]
pub struct Capture {
    process: Process,
    file: PathBuf,
}

impl Capture {
    /// Listens on a host's bridge.
    ///
    /// # Errors
    /// When tshark does not.
    pub fn start(host: &Host, port: &str) -> Result<Self> {
        let file = host.home.join("wire.pcapng");
        let mut command = host.command("tshark");
        command.args(["-q", "-i", "bridge", "-f", &format!("tcp port {port}"), "-w"]).arg(&file);
        let process = Process::start("tshark", &mut command, &host.home.join("tshark.log"))?;
        let listens = || process.written().contains("Capturing on");
        ensure!(wait::until(LIMIT, listens), "tshark does not start: {}", process.written());
        Ok(Self { process, file })
    }

    /// Ends it, and checks that all of it is TLS and none of these words is to be read.
    ///
    /// # Errors
    /// When something is.
    pub fn check(self, secrets: &[&str]) -> Result<()> {
        self.process.signal(Signal::INT)?;
        self.process.wait_for_end(LIMIT)?;
        let (encrypted, other) =
            (count(&self.file, "tls")?, count(&self.file, "http || http2 || grpc || data")?);
        let unreadable = count(
            &self.file,
            "tcp.len > 0 && !tls && !tcp.segment && !tcp.reassembled_in && !tcp.analysis.retransmission",
        )?;
        ensure!(encrypted > 100, "only {encrypted} packets are TLS");
        ensure!(other == 0 && unreadable == 0, "{other} packets are readable, {unreadable} are no TLS");
        let bytes = std::fs::read(&self.file).context("cannot read what was captured")?;
        for secret in secrets {
            let is_there = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            ensure!(!is_there, "{secret:?} went over the wire");
        }
        println!("{encrypted} packets of TLS, {} bytes, none readable", bytes.len());
        Ok(())
    }
}

/// Packets that tshark's filter shows.
fn count(file: &Path, filter: &str) -> Result<usize> {
    let mut command = Command::new("tshark");
    command.arg("-r").arg(file).args(["-Y", filter, "-T", "fields", "-e", "frame.number"]);
    let output = command.output().context("cannot run tshark")?;
    ensure!(output.status.success(), "tshark: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(String::from_utf8_lossy(&output.stdout).lines().count())
}
