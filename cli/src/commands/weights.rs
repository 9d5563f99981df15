//! `sortie weights`: lists pretrained weights and fetches them into the cache folder.

use std::path::PathBuf;

use anyhow::Result;
use sortie_core::finetune::Backbone;
use sortie_core::pipe::{FetchWeightsRequest, Request};

use crate::hidden::Hidden;
use crate::{folders, trainer};

/// List pretrained weights, or fetch some into the cache folder.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    command: Command,
    /// Folder of pretrained weights, datasets and logs of trials [default: sortie/ in the XDG cache folder].
    #[arg(long, value_name = "DIR", env = "SORTIE_CACHE", global = true)]
    cache: Option<PathBuf>,
    #[command(flatten)]
    libtorch: trainer::Libtorch,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Put pretrained weights into the cache folder: download torchvision's, or copy or convert a file.
    Fetch(FetchArguments),
    /// List the networks, and whether their weights are in the cache folder.
    List,
}

#[derive(Debug, clap::Args)]
struct FetchArguments {
    /// The network, as a sweep names it.
    #[arg(value_name = "BACKBONE")]
    backbone: Backbone,
    /// A .safetensors file or one of PyTorch's (.pth, .pth.tar, .pt, .ckpt, .pkl, .bin), or its http(s) address [default: where
    /// torchvision publishes it].
    #[arg(long, value_name = "FILE|URL")]
    from: Option<Hidden>,
    /// First 8 or more digits of the file's SHA-256 [default: those in its name, as torchvision's files have them].
    #[arg(long, value_name = "HEX")]
    sha256: Option<String>,
    /// The name by which a sweep asks for these weights [default: the network's].
    #[arg(long)]
    name: Option<String>,
}

/// Replaces this process by the trainer, which does it; returns only if it cannot be started.
///
/// # Errors
/// One line that says what is wrong.
pub fn run(arguments: &Arguments) -> Result<()> {
    let cache = folders::cache(arguments.cache.as_ref())?;
    let request = match &arguments.command {
        Command::List => Request::ListWeights(cache),
        Command::Fetch(FetchArguments { backbone, from, sha256, name }) => {
            Request::FetchWeights(FetchWeightsRequest {
                cache,
                backbone: *backbone,
                from: from.as_ref().map(|from| from.reveal().to_owned()),
                sha256: sha256.clone(),
                name: name.clone(),
            })
        }
    };
    trainer::replace_process(&request, &arguments.libtorch, folders::cache(arguments.cache.as_ref())?)
}
