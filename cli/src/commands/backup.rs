//! `sortie backup`: the coordinator's database in one file.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use sortie_files::NewFile;

use crate::connection::{Client, ClientError, Connection};
use crate::output;

/// Write the coordinator's whole database, as it is at one moment, into one file, while trials go on.
///
/// `sortie restore` makes a database of the file, on SQLite or on Postgres, whichever it was made of. The file appears under its name when
/// it is complete and on the disk; one that is there already is replaced then. Checkpoints and weights are not in it: they are in the artifact store.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The file to write.
    file: PathBuf,
}

/// Writes the backup.
///
/// # Errors
/// One line: the coordinator refuses, or the file cannot be written.
pub async fn run(arguments: &Arguments, connection: &Connection) -> Result<()> {
    let path = &arguments.file;
    let cannot = || format!("cannot write {}", path.display());
    // A rename would replace a device or a link, too.
    let there = path.symlink_metadata();
    ensure!(
        there.as_ref().map_or(true, |there| there.is_file()),
        "{}: it is there already, and is no file",
        cannot()
    );
    let mut file = NewFile::create(path).with_context(cannot)?;
    let mut client = Client::connect(connection).await?;
    let mut chunks = client.backup().await?;
    while let Some(chunk) = chunks.message().await.map_err(ClientError::from)? {
        file.write_all(&chunk.data).with_context(cannot)?;
    }
    file.finish_on_disk().with_context(cannot)?;
    output::text(&format!("wrote {}", path.display()))
}
