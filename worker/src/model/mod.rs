//! Pretrained networks. A new backbone is one file that implements [`Backbone`] and one line in [`load`].

mod efficientnet_lite;
pub mod legacy_pth;
mod state;

use std::path::{Path, PathBuf};

use sortie_core::finetune;
use tch::{Device, TchError, Tensor};

pub use efficientnet_lite::EfficientNetLite;
pub use state::StateDict;

use crate::error::TrialError;

/// A tensor of a network under the name that its weights file gives it. Clones share the storage, so an update through one is seen by
/// all.
#[derive(Debug)]
pub struct NamedTensor {
    /// The name in the weights file, such as `_blocks.3._bn1.weight`.
    pub name: String,
    /// The tensor itself.
    pub tensor: Tensor,
}

/// How a network wants its input: `(x - mean) / deviation` per colour channel, x in [0, 1].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Normalisation {
    /// Subtracted, per channel (red, green, blue).
    pub mean: [f64; 3],
    /// Divided by, per channel.
    pub deviation: [f64; 3],
}

/// What a pass through a network is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// An update follows.
    Train,
    /// Nothing changes.
    Evaluate,
}

/// A network without its last layer: Phi(x) of docs/protocol.md ("Model").
pub trait Backbone {
    /// Length of the penultimate representation.
    fn width(&self) -> i64;

    /// How the network wants its input.
    fn normalisation(&self) -> Normalisation;

    /// The penultimate representation [n, width] of normalised images [n, 3, height, width], both in single precision, differentiable
    /// with respect to [`Backbone::parameters`]. BatchNorm uses its frozen statistics in training too, unless the network was made from
    /// scratch: then [`Pass::Train`] uses the batch's and moves the running ones, which are among [`Backbone::buffers`].
    ///
    /// # Errors
    /// What libtorch reports, out of memory above all.
    fn features(&self, images: &Tensor, pass: Pass) -> Result<Tensor, TchError>;

    /// The average-pooled outputs of the last three equally wide blocks, the last one first: [3, n, width of those blocks], in single
    /// precision (docs/protocol.md, "Model": linear fine-tuning). None if the network has no such blocks.
    ///
    /// # Errors
    /// What libtorch reports, out of memory above all.
    fn block_features(&self, images: &Tensor) -> Result<Option<Tensor>, TchError>;

    /// What training changes, in a fixed order, sharing storage with the network.
    fn parameters(&self) -> Vec<NamedTensor>;

    /// What training never changes: the BatchNorm statistics, in a fixed order.
    fn buffers(&self) -> Vec<NamedTensor>;
}

/// A loaded network and what it was loaded from.
pub struct Pretrained {
    /// The network on its device.
    pub backbone: Box<dyn Backbone>,
    /// BLAKE3 over names, shapes and bytes of all its initial tensors, in hexadecimal digits.
    pub weights_digest: String,
}

/// The file below the cache folder that holds the weights of a backbone.
pub fn weights_path(cache: &Path, backbone: finetune::Backbone) -> PathBuf {
    cache.join("weights").join(format!("{backbone}.pth"))
}

/// Loads a pretrained network from the cache folder onto a device.
///
/// # Errors
/// [`TrialError::BadData`] naming the file when it is missing or does not hold this network.
pub fn load(cache: &Path, backbone: finetune::Backbone, device: Device) -> Result<Pretrained, TrialError> {
    let path = weights_path(cache, backbone);
    if !path.is_file() {
        return Err(TrialError::bad_data(&path, "the pretrained weights are not there; `cargo xtask setup` fetches them"));
    }
    let mut state = legacy_pth::read(&path)?;
    let weights_digest = state.digest()?;
    let backbone: Box<dyn Backbone> = match backbone {
        finetune::Backbone::EfficientNetLite0 => Box::new(EfficientNetLite::lite0(&mut state, device)?),
        other => return Err(TrialError::BadConfig(format!("{other} is not there yet"))),
    };
    Ok(Pretrained { backbone, weights_digest })
}
