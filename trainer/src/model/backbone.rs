//! What every network without its last layer offers.

use tch::{TchError, Tensor};

/// A tensor of a network under the name that its weights file gives it.
#[derive(Debug)]
pub struct NamedTensor {
    /// The name in the weights file, such as `_blocks.3._bn1.weight`.
    pub name: String,
    /// The tensor itself.
    pub tensor: Tensor,
}

impl NamedTensor {
    /// Another handle to the same storage, so that an update through one is seen by all.
    pub fn share(&self) -> Self {
        Self { name: self.name.clone(), tensor: self.tensor.shallow_clone() }
    }
}

/// The normalisation of a network's input: `(x - mean) / deviation` per colour channel, x in [0, 1].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Normalisation {
    /// Subtracted, per channel (red, green, blue).
    pub mean: [f64; 3],
    /// Divided by, per channel.
    pub deviation: [f64; 3],
}

impl Normalisation {
    /// Mean and deviation of ImageNet's training images, as torchvision's weights need it.
    pub const IMAGENET: Self = Self { mean: [0.485, 0.456, 0.406], deviation: [0.229, 0.224, 0.225] };
}

/// What is known about an architecture without its weights.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ArchitectureInfo {
    /// Length of the penultimate representation.
    pub width: i64,
    /// How the network wants its input.
    pub normalisation: Normalisation,
    /// The module that is the last layer in weights files; none if there are none.
    pub classifier: Option<&'static str>,
}

/// The purpose of a pass through a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// Training: an update follows.
    Train,
    /// Evaluation: nothing changes.
    Evaluate,
}

/// A network without its last layer: Phi(x) of docs/protocol.md ("Model").
pub trait Backbone {
    /// Length of the penultimate representation.
    fn width(&self) -> i64;

    /// The normalisation of the network's input.
    fn normalisation(&self) -> Normalisation;

    /// The penultimate representation [n, width] of normalised images [n, 3, height, width], both in single precision, differentiable
    /// with respect to [`Backbone::parameters`]. BatchNorm uses its frozen statistics in training too, unless the network was made from
    /// scratch: then [`Pass::Train`] uses the batch's and moves the running ones, which are among [`Backbone::buffers`].
    ///
    /// # Errors
    /// What libtorch reports, out of memory above all.
    fn features(&self, images: &Tensor, pass: Pass) -> Result<Tensor, TchError>;

    /// The width of the last three equally wide blocks; none if the network has no such blocks.
    fn block_width(&self) -> Option<i64>;

    /// The average-pooled outputs of those blocks, the last one first: [3, n, their width], in single precision (docs/protocol.md, "Model":
    /// linear fine-tuning). None if the network has no such blocks.
    ///
    /// # Errors
    /// What libtorch reports, out of memory above all.
    fn block_features(&self, images: &Tensor) -> Result<Option<Tensor>, TchError>;

    /// The trained tensors, in a fixed order. They share storage with the network.
    fn parameters(&self) -> Vec<NamedTensor>;

    /// The tensors without gradients, that is the BatchNorm statistics, in a fixed order. They share storage with the network.
    fn buffers(&self) -> Vec<NamedTensor>;
}
