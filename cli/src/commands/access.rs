//! `sortie access`: the files by which programs reach a coordinator.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sortie_access::{AccessFile, DEFAULT_COORDINATOR, Identity, Place, State};
use sortie_core::access::Role;

use crate::{folders, output};

/// The files by which programs reach a coordinator: where it is, what proves it, and a token.
///
/// `sortie serve` writes them into sortie/access/ in the XDG state folder (~/.local/state), one for each role. Every program of the same user
/// looks there, so that nothing has to be typed on one machine or on a shared home folder.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Print the access file of a role, for another machine or user.
    Show(ShowArguments),
    /// Print the identity of this user's coordinators, for another machine whose coordinator shares the database. It is secret as a whole.
    Export,
    /// Store an access file, or an identity that `export` printed, where this user's programs look.
    Import(ImportArguments),
}

/// Which file to print.
#[derive(Debug, clap::Args)]
pub struct ShowArguments {
    /// What its token allows: operator (everything), worker (to run trials), reader (to look).
    #[arg(long, value_name = "ROLE", default_value = "operator")]
    role: Role,
    /// That of this user's own coordinators at the default address, also where an imported file stands in its place.
    #[arg(long)]
    own: bool,
    /// Print it in one line, as SORTIE_ACCESS takes it.
    #[arg(long)]
    one_line: bool,
}

/// What to store.
#[derive(Debug, clap::Args)]
pub struct ImportArguments {
    /// The file; standard input without one.
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
}

/// Shows or stores access.
///
/// # Errors
/// One line: there is no such file, or it is none.
pub fn run(command: &Command) -> Result<()> {
    let state = folders::access();
    match command {
        Command::Show(ShowArguments { role, own, one_line }) => {
            let stored = AccessFile::read(&state.access(*role));
            let file = match own.then(|| own_identity(&state)).transpose()? {
                None => stored?,
                Some(identity) => match stored {
                    Ok(stored) if identity.made(&stored) => stored,
                    _ => identity.access(*role, vec![DEFAULT_COORDINATOR.parse::<Place>()?.address]),
                },
            };
            output::text(if *one_line { file.line() } else { file.text() }.trim_end())
        }
        Command::Export => output::text(own_identity(&state)?.text().trim_end()),
        Command::Import(ImportArguments { file }) => {
            let text = read(file.as_deref())?;
            let place =
                file.as_ref().map_or_else(|| "standard input".to_owned(), |file| file.display().to_string());
            // Only an identity has a key.
            if text.contains("PRIVATE KEY") {
                state.import_identity(&Identity::parse(&text, &place)?)?;
                output::note(&format!("stored {}", state.identity_file().display()));
            } else {
                let stored = state.import_access(&AccessFile::parse(&text, &place)?)?;
                output::note(&format!("stored {}", stored.display()));
            }
            Ok(())
        }
    }
}

fn own_identity(state: &State) -> Result<Identity> {
    let file = state.identity_file();
    let missing = || format!("there is no identity in {}: `sortie serve` makes it", file.display());
    state.identity()?.with_context(missing)
}

fn read(file: Option<&Path>) -> Result<String> {
    match file {
        Some(path) => {
            std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
        }
        None => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).context("cannot read standard input")?;
            Ok(text)
        }
    }
}
