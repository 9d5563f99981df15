//! `sortie logs`: the output of an attempt.

use anyhow::{Context, Result, ensure};
use serde_json::json;
use sortie_proto::v1::LogsChunk;

use crate::attempts::Attempts;
use crate::connection::{Client, ClientError, Connection};
use crate::output;

/// Print the output of an attempt at a trial, byte for byte, as much of it as its worker kept.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The trial: the first digits of its id, or SWEEP/DIGITS.
    trial: String,
    /// The attempt, as `sortie explain` numbers them; the newest if none is given.
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    attempt: Option<u32>,
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
    let mut client = Client::connect(connection).await?;
    let attempts = Attempts::of(&client.explain(trial).await?.events);
    ensure!(attempts.count() > 0, "no attempt at trial {trial} has started yet");
    let named = attempt.map(|number| {
        let unknown = || format!("trial {trial} has no attempt {number}: there were {}", attempts.count());
        attempts.token(usize::try_from(number).unwrap_or(usize::MAX)).with_context(unknown)
    });
    let mut chunks = client.logs(trial, named.transpose()?).await?;
    let LogsChunk { token, worker, .. } =
        chunks.message().await.map_err(ClientError::from)?.unwrap_or_default();
    let attempt = attempts.number(token);
    if *json {
        let mut text = Vec::new();
        while let Some(chunk) = chunks.message().await.map_err(ClientError::from)? {
            text.extend(chunk.text);
        }
        let text = String::from_utf8_lossy(&text);
        return output::json(
            &json!({ "trial": trial, "attempt": attempt, "token": token, "worker": worker, "text": text }),
        );
    }
    let mut is_empty = true;
    while let Some(chunk) = chunks.message().await.map_err(ClientError::from)? {
        is_empty &= chunk.text.is_empty();
        output::bytes(&chunk.text)?;
    }
    if is_empty {
        let which =
            attempt.map_or_else(|| "the newest attempt".to_owned(), |number| format!("attempt {number}"));
        output::note(&format!("{which} at trial {trial} printed nothing"));
    }
    Ok(())
}
