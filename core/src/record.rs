//! What the store returns about a trial and its attempts.

use serde::{Deserialize, Serialize};

use crate::code::Code;
use crate::job::StateName;
use crate::metrics::Evaluation;
use crate::named;
use crate::trial::{Point, SpecHash};

/// A trial with the evaluations of its accepted attempt.
#[derive(Clone, Debug, PartialEq)]
pub struct TrialRecord {
    /// Its identity.
    pub id: SpecHash,
    /// Its place in the grid.
    pub point: Point,
    /// Its state.
    pub state: StateName,
    /// Evaluations on training domains, by the names of their methods, then by step, domain and split; empty unless the trial succeeded.
    pub validation: Vec<Evaluation>,
    /// The same on held-out domains.
    pub held_out: Vec<Evaluation>,
}

/// How much of a trial's evaluations is returned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Detail {
    /// None of them: which trials there are.
    Points,
    /// All but their losses, as tables need them.
    Scores,
    /// Everything.
    #[default]
    All,
}
named!(Detail, "detail", { Points => "points", Scores => "scores", All => "all" });

/// What an attempt ran on and with. Not part of the trial's identity: equal fingerprints and equal specifications give equal numbers,
/// byte for byte.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fingerprint {
    /// Name and version of the program that ran the attempt.
    pub software: String,
    /// Version of libtorch.
    pub libtorch: String,
    /// The device, with the processor's model name where the system names it.
    pub device: String,
    /// CPU threads that libtorch uses.
    pub threads: u32,
    /// BLAKE3 over relative paths and contents of the dataset's images.
    pub dataset_digest: String,
    /// BLAKE3 over names and bytes of the pretrained weights.
    pub weights_digest: String,
    /// What ran. The worker adds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<Box<Code>>,
    /// Images of a training step that are computed at a time, where `micro_batch = "auto"` made them fewer than all: memory was not enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub micro_batch: Option<u32>,
}
