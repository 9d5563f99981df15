//! `sortie evaluate`: the accuracy of a network on a folder of images.

use std::path::PathBuf;

use anyhow::{Result, bail};
use sortie_core::finetune::Backbone;
use sortie_core::pipe::{EvaluateRequest, NetworkSource, Request};

use crate::{folders, trainer};

/// Measure the accuracy of a pretrained network, or of one that a trial saved, on a folder of images.
///
/// Weights and checkpoints of a trial name its classes: the folder's are matched with them by name. A class
/// that the network does not have is refused by name. A folder with some of its classes is evaluated on those; the output says how many
/// there are. A prediction is always the class of the largest of all outputs, not only of those that the folder has. Pretrained weights
/// name no classes: a folder with as many is taken in sorted order, and on any other there are logits only. The output says so.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Pretrained weights with their own classifier.
    #[arg(
        long,
        value_name = "BACKBONE",
        required_unless_present = "checkpoint",
        conflicts_with = "checkpoint"
    )]
    pretrained: Option<Backbone>,
    /// Weights or a checkpoint that a trial saved.
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,
    /// Folder that holds the dataset's folder.
    #[arg(long, value_name = "ROOT", env = "SORTIE_DATA")]
    data: PathBuf,
    /// The dataset.
    #[arg(long, value_name = "NAME")]
    dataset: String,
    /// Only this domain.
    #[arg(long, value_name = "DOMAIN")]
    domain: Option<String>,
    /// Write the logits, float32 [n, classes], in the order of sorted domain, class and file.
    #[arg(long, value_name = "FILE.npy")]
    logits: Option<PathBuf>,
    /// Where to compute: cpu, or cuda:0.
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    device: String,
    /// Folder of pretrained weights and caches [default: sortie/ in the XDG cache folder].
    #[arg(long, value_name = "DIR", env = "SORTIE_CACHE")]
    cache: Option<PathBuf>,
    #[command(flatten)]
    libtorch: trainer::Libtorch,
    /// Print one JSON object, with a confusion matrix for each domain.
    #[arg(long)]
    json: bool,
}

/// Replaces this process by the trainer, which prints; returns only if it cannot be started.
///
/// # Errors
/// One line that says what is wrong.
pub fn run(arguments: &Arguments) -> Result<()> {
    let network = match (&arguments.checkpoint, arguments.pretrained) {
        (Some(file), _) => NetworkSource::Checkpoint(file.clone()),
        (None, Some(backbone)) => NetworkSource::Pretrained(backbone),
        (None, None) => bail!("no network is given; allowed: --pretrained BACKBONE or --checkpoint FILE"),
    };
    let request = EvaluateRequest {
        network,
        data: arguments.data.clone(),
        dataset: arguments.dataset.clone(),
        domain: arguments.domain.clone(),
        logits: arguments.logits.clone(),
        device: arguments.device.clone(),
        cache: folders::cache(arguments.cache.as_ref())?,
        json: arguments.json,
    };
    let cache = request.cache.clone();
    trainer::replace_process(&Request::Evaluate(request), &arguments.libtorch, cache)
}
