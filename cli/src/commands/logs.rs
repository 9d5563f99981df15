//! `sortie logs`: what an attempt printed.

use anyhow::{Result, ensure};
use serde_json::json;
use sortie_proto::v1::LogsResponse;

use crate::client::Client;
use crate::{Connection, output};

/// Print what an attempt at a trial wrote, byte for byte, as much of it as its worker kept.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The trial: the first digits of its id, or SWEEP/DIGITS.
    trial: String,
    /// The attempt, as `sortie explain` numbers them; the newest if none is given.
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(i64).range(1..))]
    attempt: Option<i64>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Prints the output.
///
/// # Errors
/// One line: the coordinator refuses, or there was no attempt yet.
pub async fn run(arguments: &Arguments, connection: &Connection) -> Result<()> {
    let Arguments { trial, attempt, json } = arguments;
    let LogsResponse { token, worker, text } = Client::connect(connection).await?.logs(trial, *attempt).await?;
    ensure!(token > 0, "no attempt at trial {trial} has started yet");
    if *json {
        return output::json(&json!({ "trial": trial, "attempt": token, "worker": worker, "text": String::from_utf8_lossy(&text) }));
    }
    output::bytes(&text)
}
