//! The programs of PostgreSQL on this machine, and how they are called.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use super::account::Account;
use crate::{processes, programs};

/// Ends the server when its standard input closes, and removes the data. After a line on its input, this process ends the server.
pub(super) const WATCHDOG: &str = include_str!("watchdog.sh");
/// The database's superuser. There is no password: the server listens to this machine only.
pub(super) const USER: &str = "sortie";

/// One version's programs.
#[derive(Debug)]
pub(super) struct Installation {
    folder: PathBuf,
    account: Option<Account>,
}

impl Installation {
    pub(super) fn find() -> Result<Self> {
        let initdb = programs::find_server("initdb");
        let initdb = initdb.context(
            "there is no PostgreSQL server on this machine; get one with: apt-get install postgresql",
        )?;
        // The entry in PATH may be a link; the other programs lie beside its target.
        let initdb = initdb.canonicalize().with_context(|| format!("cannot follow {}", initdb.display()))?;
        let folder = initdb.parent().with_context(|| format!("{} lies nowhere", initdb.display()))?;
        for program in ["postgres", "createdb"] {
            ensure!(
                folder.join(program).is_file(),
                "{} has an initdb, but no {program}; install the whole of PostgreSQL",
                folder.display()
            );
        }
        Ok(Self { folder: folder.to_owned(), account: Account::needed()? })
    }

    /// Makes `data` in the folder, which is the server's from now on. Nothing is synced: an empty database need not survive a crash.
    pub(super) fn make_data(&self, folder: &Path) -> Result<()> {
        self.own(folder)?;
        let mut initdb = self.command("initdb");
        initdb
            .args([
                "--no-sync",
                "--auth=trust",
                "--encoding=UTF8",
                "--locale=C",
                "--username",
                USER,
                "--pgdata",
            ])
            .arg(folder.join("data"));
        self.as_server(&mut initdb, folder);
        run(initdb)
    }

    /// Makes a folder or file the server's.
    pub(super) fn own(&self, path: &Path) -> Result<()> {
        self.account.map_or(Ok(()), |account| account.own(path))
    }

    /// The server on that port, as a child of its watchdog, which prints `server PID` first.
    pub(super) fn server(&self, folder: &Path, port: u16, settings: &[String]) -> Command {
        let mut command = clean(Command::new("sh"));
        command
            .args(["-c", WATCHDOG, "sh"])
            .arg(folder)
            .arg(self.folder.join("postgres"))
            .arg("-D")
            .arg(folder.join("data"));
        let sockets = format!("unix_socket_directories={}", folder.display());
        let port = format!("port={port}");
        // Durable, because tests check that; otherwise as small as tests need.
        for setting in [
            "listen_addresses=127.0.0.1",
            &port,
            &sockets,
            "fsync=on",
            "synchronous_commit=on",
            "full_page_writes=on",
        ] {
            command.args(["-c", setting]);
        }
        for setting in
            ["shared_buffers=32MB", "max_connections=100", "max_wal_senders=0", "wal_level=minimal"]
        {
            command.args(["-c", setting]);
        }
        // The last one of a name counts.
        for setting in settings {
            command.args(["-c", setting]);
        }
        self.as_server(&mut command, folder);
        command
    }

    /// A client program, as this user.
    pub(super) fn client(&self, program: &str, port: u16) -> Command {
        let mut command = self.command(program);
        command.args([
            "--host",
            "127.0.0.1",
            "--port",
            &port.to_string(),
            "--username",
            USER,
            "--no-password",
        ]);
        command
    }

    fn command(&self, program: &str) -> Command {
        let mut command = clean(Command::new(self.folder.join(program)));
        command.stdin(Stdio::null());
        command
    }

    fn as_server(&self, command: &mut Command, folder: &Path) {
        // The server's account may not be able to read this working directory.
        command.current_dir(folder);
        if let Some(account) = self.account {
            account.apply(command);
        }
    }
}

/// Runs a program to its end. Its output is shown only if it fails.
pub(super) fn run(mut command: Command) -> Result<()> {
    let name =
        Path::new(command.get_program()).file_name().unwrap_or_default().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("cannot start {name}"))?;
    if !output.status.success() {
        bail!(
            "{name} failed ({}): {}",
            output.status,
            processes::last_line(&String::from_utf8_lossy(&output.stderr))
        );
    }
    Ok(())
}

/// Removes variables that could change the result.
fn clean(mut command: Command) -> Command {
    for (variable, _) in env::vars_os().filter(|(variable, _)| variable.to_string_lossy().starts_with("PG")) {
        command.env_remove(variable);
    }
    command.env("LC_ALL", "C");
    command
}
