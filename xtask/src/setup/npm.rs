//! How npm is called.

use std::path::PathBuf;
use std::process::Command;

use sortie_testkit::programs::find;

/// How npm is called: as a program of its own, or as a script that a program of Node runs.
#[derive(Debug, PartialEq, Eq)]
pub struct Npm {
    /// npm, or Node.
    pub program: PathBuf,
    /// The script, if the program is Node.
    pub script: Option<PathBuf>,
}

impl Npm {
    /// A call of npm without arguments.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.script);
        command
    }
}

/// The npm of this machine, if it has one together with its node.
pub fn of_machine() -> Option<Npm> {
    find("node")?;
    Some(Npm { program: find("npm")?, script: None })
}
