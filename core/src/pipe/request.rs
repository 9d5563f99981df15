//! Requests of users to a trainer. `sortie` reads their flags; the trainer gets one JSON object as an argument.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::finetune::{Backbone, Precision};

/// One run of the trainer program that is no trial.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// Measure a network's accuracy on a folder of images.
    Evaluate(EvaluateRequest),
    /// Measure how fast a network trains or evaluates.
    Bench(BenchRequest),
    /// List the networks, and whether their weights are in this cache folder.
    ListWeights(PathBuf),
    /// Put pretrained weights into the cache folder.
    FetchWeights(FetchWeightsRequest),
}

/// Where an evaluated network comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NetworkSource {
    /// Pretrained weights with their own classifier.
    Pretrained(Backbone),
    /// Weights or a checkpoint that a trial saved.
    Checkpoint(PathBuf),
}

/// What `sortie evaluate` asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvaluateRequest {
    /// The network.
    pub network: NetworkSource,
    /// The folder that holds the dataset's folder.
    pub data: PathBuf,
    /// The dataset's name.
    pub dataset: String,
    /// Only this domain; all of them if none.
    pub domain: Option<String>,
    /// Where the logits go, float32 [n, classes] in NumPy's format, in the order of sorted domain, class and file.
    pub logits: Option<PathBuf>,
    /// `cpu`, or `cuda:N` among the GPUs that the process sees.
    pub device: String,
    /// The folder of weights and decoded datasets.
    pub cache: PathBuf,
    /// Print one JSON object instead of text.
    pub json: bool,
}

/// Which part of a trial is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BenchWork {
    /// Training steps.
    Train,
    /// Evaluations.
    Evaluate,
}

/// What `sortie bench train` and `sortie bench evaluate` ask for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BenchRequest {
    /// What is measured.
    pub work: BenchWork,
    /// The network.
    pub backbone: Backbone,
    /// The folder that holds the dataset's folder.
    pub data: PathBuf,
    /// The dataset's name.
    pub dataset: String,
    /// The domain that is not trained on; the last one if none.
    pub held_out: Option<String>,
    /// Number format of the arithmetic.
    pub precision: Precision,
    /// Side of the network input; what the network was made for if none.
    pub pixels: Option<u32>,
    /// Images of each training domain in a training batch.
    pub batch_per_domain: u32,
    /// Whether images get the random training transform.
    pub augment: bool,
    /// How long to measure.
    pub seconds: u32,
    /// `cpu`, or `cuda:N` among the GPUs that the process sees.
    pub device: String,
    /// CPU threads.
    pub threads: usize,
    /// The folder of weights and decoded datasets.
    pub cache: PathBuf,
    /// Print one JSON object instead of text.
    pub json: bool,
}

/// What `sortie weights fetch` asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FetchWeightsRequest {
    /// The folder below which weights lie.
    pub cache: PathBuf,
    /// The network, as a sweep names it.
    pub backbone: Backbone,
    /// A file or its http(s) address; where torchvision publishes it if none.
    pub from: Option<String>,
    /// First 8 or more digits of the file's SHA-256; those in its name if none.
    pub sha256: Option<String>,
    /// The name by which a sweep asks for these weights; the network's if none.
    pub name: Option<String>,
}
