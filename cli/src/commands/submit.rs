//! `sortie submit`: store a sweep, or resume it.

use anyhow::Result;
use serde_json::json;

use super::plan::SweepArguments;
use crate::client::Client;
use crate::{Connection, output};

/// Store a sweep. Submitting again is resuming; a larger grid adds only the difference.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    sweep: SweepArguments,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Submits and says what that did.
///
/// # Errors
/// One line: the file is not right, or the coordinator refuses it.
pub async fn run(arguments: &Arguments, connection: &Connection) -> Result<()> {
    let request = arguments.sweep.read()?.into_request();
    let submitted = Client::connect(connection).await?.submit(request).await?;
    let (sweep, planned, added) = (&submitted.sweep, submitted.planned, submitted.added);
    if arguments.json {
        return output::json(&json!({ "sweep": sweep, "planned": planned, "added": added }));
    }
    output::text(&match (planned, added) {
        (planned, 0) => format!("sweep {sweep}: all {planned} trials were there already"),
        (planned, added) if planned == added => format!("sweep {sweep}: {added} trials submitted"),
        (planned, added) => format!("sweep {sweep}: {added} trials added, {planned} in all"),
    })
}
