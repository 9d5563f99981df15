//! What a trial leaves in the artifact store, and how an attempt goes on where another stopped.

use serde::{Deserialize, Serialize};

use crate::job::Token;
use crate::metrics::Method;
use crate::named;

/// What a file in the artifact store is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ArtifactKind {
    /// Everything that another attempt needs to go on after `step`, its reports so far included.
    Checkpoint,
    /// Weights after the last step.
    FinalWeights,
    /// Weights of the step with the best i.i.d. accuracy.
    SelectedWeights,
    /// Logits of the last evaluation.
    FinalLogits,
}
named!(ArtifactKind, "kind of artifact", {
    Checkpoint => "checkpoint",
    FinalWeights => "final-weights",
    SelectedWeights => "selected-weights",
    FinalLogits => "final-logits",
});

/// One file that an attempt wrote, or would have: a digest is told of final weights and logits even where nothing keeps them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Artifact {
    /// What it is.
    pub kind: ArtifactKind,
    /// Of which model of the trajectory; `plain` for checkpoints, which hold all.
    pub method: Method,
    /// After the update of which step.
    pub step: u64,
    /// Its place below the artifact store's root, with forward slashes; empty if it was not kept.
    pub key: String,
    /// BLAKE3 of its content, in hexadecimal digits.
    pub digest: String,
    /// Its length, in bytes.
    pub bytes: u64,
}

/// A checkpoint that a later attempt may go on from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckpointRef {
    /// The attempt that wrote it.
    pub token: Token,
    /// The step after whose update it was written.
    pub step: u64,
    /// Its place below the artifact store's root.
    pub key: String,
    /// BLAKE3 of its content, in hexadecimal digits.
    pub digest: String,
}

/// Where an attempt took up the work of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resumed {
    /// The attempt that wrote the checkpoint.
    pub token: Token,
    /// The last step that it made.
    pub step: u64,
    /// Whether device, threads and libtorch are those of the earlier attempt, so that the result is the uninterrupted one's to the byte.
    pub exact: bool,
}
