//! Hosts of one machine: network namespaces on a bridge, each with a home folder of its own.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, ensure};
use sortie_testkit::processes::Process;

/// Where the coordinator is: the first address of the network, on the bridge.
pub const HEAD: &str = "10.77.0.1";
/// Its port.
pub const PORT: &str = "7070";

/// Namespaces, which end with this value.
#[derive(Debug)]
pub struct Network {
    hosts: Vec<Host>,
}

/// A host.
#[derive(Clone, Debug)]
pub struct Host {
    namespace: String,
    /// Its home folder, with its state, its logs and what it works on.
    pub home: PathBuf,
    programs: PathBuf,
}

impl Network {
    /// Makes hosts of these names below a folder; the first one is the bridge's.
    ///
    /// # Errors
    /// When this process may not, or a name is taken.
    pub fn make(folder: &Path, programs: &Path, names: &[&str]) -> Result<Self> {
        let mut network = Self { hosts: Vec::new() };
        for (index, name) in names.iter().enumerate() {
            let home = folder.join(name);
            fs::create_dir(&home).with_context(|| format!("cannot make {}", home.display()))?;
            let namespace = format!("sortie-{}-{name}", std::process::id());
            ip(&["netns", "add", &namespace])?;
            network.hosts.push(Host { namespace: namespace.clone(), home, programs: programs.to_owned() });
            ip(&["-n", &namespace, "link", "set", "lo", "up"])?;
            let head = network.hosts[0].namespace.clone();
            if index == 0 {
                ip(&["-n", &head, "link", "add", "bridge", "type", "bridge"])?;
                ip(&["-n", &head, "addr", "add", &format!("{HEAD}/24"), "dev", "bridge"])?;
                ip(&["-n", &head, "link", "set", "bridge", "up"])?;
                continue;
            }
            let (port, address) = (format!("port{index}"), format!("10.77.0.{}/24", index + 1));
            ip(&[
                "-n", &head, "link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns",
                &namespace,
            ])?;
            ip(&["-n", &head, "link", "set", &port, "master", "bridge", "up"])?;
            ip(&["-n", &namespace, "addr", "add", &address, "dev", "eth0"])?;
            ip(&["-n", &namespace, "link", "set", "eth0", "up"])?;
        }
        Ok(network)
    }

    /// The host of this place in the list of names.
    pub fn host(&self, index: usize) -> &Host {
        &self.hosts[index]
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for host in self.hosts.iter().rev() {
            if let Err(error) = ip(&["netns", "del", &host.namespace]) {
                eprintln!("{error:#}");
            }
        }
    }
}

fn ip(words: &[&str]) -> Result<()> {
    let output = Command::new("ip").args(words).output().context("cannot run ip")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ip {}: {}", words.join(" "), said.trim());
    Ok(())
}

impl Host {
    /// A program there, without anything of whoever runs this.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace]).arg(program);
        let path = std::env::var_os("PATH").unwrap_or_default();
        command.env_clear().env("PATH", path).env("HOME", &self.home).current_dir(&self.home);
        if let Some(libraries) = std::env::var_os("LD_LIBRARY_PATH") {
            command.env("LD_LIBRARY_PATH", libraries);
        }
        command.stdin(Stdio::null());
        command
    }

    /// A program of ours there.
    pub fn ours(&self, program: &str, words: &[&str]) -> Command {
        let mut command = self.command(self.programs.join(program));
        command.args(words);
        command
    }

    /// Starts a program of ours there; its output goes to a file in its home folder.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(&self, name: &str, words: &[&str]) -> Result<Process> {
        Process::start(name, &mut self.ours("sortie", words), &self.home.join(format!("{name}.log")))
    }

    /// What `sortie` prints there.
    ///
    /// # Errors
    /// When it fails.
    pub fn says(&self, words: &[&str]) -> Result<String> {
        let output = self.ours("sortie", words).output().context("cannot run sortie")?;
        ensure!(output.status.success(), "sortie {}: {}", words.join(" "), error_of(&output));
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Lets `sortie` fail there with one line that has these words.
    ///
    /// # Errors
    /// When it does not.
    pub fn refused(&self, words: &[&str], variables: &[(&str, &str)], part: &str) -> Result<()> {
        let mut command = self.ours("sortie", words);
        let output = command.envs(variables.iter().copied()).output().context("cannot run sortie")?;
        check_refusal(&words.join(" "), &output, part)
    }
}

/// Checks that a command failed with one line that has these words.
///
/// # Errors
/// When it did not.
pub fn check_refusal(what: &str, output: &Output, part: &str) -> Result<()> {
    let said = error_of(output);
    ensure!(!output.status.success(), "{what} is not refused");
    ensure!(
        said.contains(part) && said.lines().count() == 1,
        "{what} is refused by {said:?}, not by {part:?}"
    );
    println!("refused: {what}: {said}");
    Ok(())
}

fn error_of(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).trim().to_owned()
}
