//! The files of a trial.

use serde::Serialize;
use sortie_core::job::StateName;

use super::style;

/// A file of a trial, or what is known of one that was not kept.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ArtifactRow {
    /// The token of the attempt that wrote it.
    pub attempt: i64,
    /// What it is, such as `final-weights`.
    pub kind: String,
    /// The weights that it is about.
    pub method: String,
    /// The step after which it was written.
    pub step: u64,
    /// Its path below the store's root; none if it was not kept.
    pub key: Option<String>,
    /// The digest of its content.
    pub digest: String,
    /// Its size.
    pub bytes: u64,
    /// Its URL; none if it was not kept, or is on a worker's own disk.
    pub url: Option<String>,
    /// The machine on whose own disk it is, if it is not in the store.
    pub host: Option<String>,
}

/// The files of one trial.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ArtifactList {
    /// The trial's id.
    pub trial: String,
    /// The trial's state.
    pub state: StateName,
    /// The files.
    pub artifacts: Vec<ArtifactRow>,
}

impl ArtifactList {
    /// A table with one line for each file.
    pub fn text(&self) -> String {
        let mut table = style::table(["attempt", "kind", "method", "step", "bytes", "digest", "where"]);
        for artifact in &self.artifacts {
            // Digests in full, because users compare them.
            table.add_row([
                artifact.attempt.to_string(),
                artifact.kind.clone(),
                artifact.method.clone(),
                artifact.step.to_string(),
                artifact.bytes.to_string(),
                artifact.digest.clone(),
                artifact.place(),
            ]);
        }
        table.trim_fmt()
    }
}

impl ArtifactRow {
    fn place(&self) -> String {
        match self {
            Self { url: Some(url), .. } => url.clone(),
            Self { key: Some(key), host: Some(host), .. } => {
                format!("{key} below CACHE/artifacts on {host}")
            }
            Self { key: Some(key), .. } => key.clone(),
            _ => "not kept".to_owned(),
        }
    }
}
