//! `sortie artifacts`: the files of a trial.

use anyhow::{Context, Result};
use serde::Serialize;
use sortie_proto::v1::{ArtifactsResponse, StoredArtifact};

use crate::client::Client;
use crate::connection::Connection;
use crate::output;

/// List the files of a trial: its checkpoints while it runs, weights and logits when it has ended, and the digests of what was not kept.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The trial: the first digits of its id, or SWEEP/DIGITS.
    trial: String,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Output {
    trial: String,
    state: String,
    artifacts: Vec<ArtifactOutput>,
}

#[derive(Serialize)]
struct ArtifactOutput {
    attempt: i64,
    kind: String,
    method: String,
    step: u64,
    /// Its path below the store's root; none if it was not kept.
    key: Option<String>,
    digest: String,
    bytes: u64,
    /// Its URL; none if it was not kept, or is on a worker's own disk.
    url: Option<String>,
    /// The machine on whose own disk it is, if it is not in the store.
    host: Option<String>,
}

/// Prints the list.
///
/// # Errors
/// One line: the coordinator refuses.
pub async fn run(arguments: &Arguments, connection: &Connection) -> Result<()> {
    let ArtifactsResponse { trial_id, state, artifacts } =
        Client::connect(connection).await?.artifacts(&arguments.trial).await?;
    let artifacts: Vec<ArtifactOutput> = artifacts.into_iter().map(artifact).collect::<Result<_>>()?;
    if arguments.json {
        return output::json(&Output { trial: trial_id, state, artifacts });
    }
    if artifacts.is_empty() {
        return output::text(&format!("trial {trial_id} is {state} and has left nothing"));
    }
    output::text(&table(&artifacts))
}

fn artifact(kept: StoredArtifact) -> Result<ArtifactOutput> {
    let StoredArtifact { token, artifact, url, host } = kept;
    let artifact = artifact.context("the coordinator's answer has an artifact without a description")?;
    let non_empty = |text: String| Some(text).filter(|text| !text.is_empty());
    Ok(ArtifactOutput {
        attempt: token,
        kind: artifact.kind,
        method: artifact.method,
        step: artifact.step,
        key: non_empty(artifact.key),
        digest: artifact.digest,
        bytes: artifact.bytes,
        url: non_empty(url),
        host: non_empty(host),
    })
}

fn table(artifacts: &[ArtifactOutput]) -> String {
    let mut table = output::table(["attempt", "kind", "method", "step", "bytes", "digest", "where"]);
    for artifact in artifacts {
        let place = match artifact {
            ArtifactOutput { url: Some(url), .. } => url.clone(),
            ArtifactOutput { key: Some(key), host: Some(host), .. } => {
                format!("{key} below CACHE/artifacts on {host}")
            }
            ArtifactOutput { key: Some(key), .. } => key.clone(),
            _ => "not kept".to_owned(),
        };
        // Digests in full, because users compare them.
        table.add_row([
            artifact.attempt.to_string(),
            artifact.kind.clone(),
            artifact.method.clone(),
            artifact.step.to_string(),
            artifact.bytes.to_string(),
            artifact.digest.clone(),
            place,
        ]);
    }
    table.trim_fmt()
}
