//! `sortie restore`: a database made of a backup.

use std::path::PathBuf;

use anyhow::Result;
use sortie_coordinator::store::{OpenOptions, Restored, restore};

use crate::hidden::Hidden;
use crate::{output, storage};

/// Make a database of a backup that `sortie backup` wrote.
///
/// The database must be new or without sweeps, and no coordinator may serve it. Trials that ran when the backup was made wait again. Workers
/// that still run trials of the old database are refused what they report of them, and take trials of the restored one.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The backup.
    file: PathBuf,
    /// The database to make: a SQLite file on a disk of this machine, or a Postgres server.
    #[arg(long, env = "SORTIE_DB", value_name = "FILE | sqlite://FILE | postgres://...")]
    db: Hidden,
    /// Allow a SQLite file on a network disk, as for `sortie serve`.
    #[arg(long)]
    db_on_network_disk: bool,
}

/// Restores the backup.
///
/// # Errors
/// One line: the backup or the database cannot be used.
pub async fn run(arguments: &Arguments) -> Result<()> {
    let options = OpenOptions { network_disk: arguments.db_on_network_disk, ..OpenOptions::default() };
    let database = storage::database(&arguments.db)?;
    let Restored { sweeps, trials, interrupted } = restore(&arguments.file, &database, &options).await?;
    output::text(&format!(
        "restored {database}: {sweeps} sweeps with {trials} trials; {interrupted} that were running wait again"
    ))
}
