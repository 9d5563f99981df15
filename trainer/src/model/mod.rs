//! Pretrained networks. A new backbone is one file that implements [`Backbone`] and one line in `architecture`.
//!
//! `convolution` is what most of them are made of; `source` hands them their tensors, from a `state` dictionary that `weights_file` has
//! read (`pickle` for PyTorch's own formats), or from random numbers; `registry` knows where weights come from and `fetch` gets them.

mod convolution;
mod efficientnet_lite;
mod fetch;
mod mnist_cnn;
mod pickle;
pub mod registry;
mod resnet;
mod source;
mod state;
mod vit;
mod weights_file;

use std::path::Path;

use sortie_core::finetune::{self, Precision};
use tch::{Device, TchError, Tensor};

#[cfg(test)]
pub(crate) use convolution::same_padding;
pub use fetch::{FetchError, FetchRequest, Fetched, fetch};
pub use source::{Classifier, Source};
pub use state::StateDict;
pub use weights_file::{find as find_weights, read as read_weights};

use crate::error::TrialError;

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

/// How a network wants its input: `(x - mean) / deviation` per colour channel, x in [0, 1].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Normalisation {
    /// Subtracted, per channel (red, green, blue).
    pub mean: [f64; 3],
    /// Divided by, per channel.
    pub deviation: [f64; 3],
}

impl Normalisation {
    /// Mean and deviation of ImageNet's training images, as torchvision's weights want it.
    pub const IMAGENET: Self = Self { mean: [0.485, 0.456, 0.406], deviation: [0.229, 0.224, 0.225] };
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

    /// What no gradient reaches: the BatchNorm statistics, in a fixed order, sharing storage with the network.
    fn buffers(&self) -> Vec<NamedTensor>;
}

/// What is known about an architecture without its weights.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Facts {
    /// Length of the penultimate representation.
    pub width: i64,
    /// How the network wants its input.
    pub normalisation: Normalisation,
    /// The module that is the last layer in weights files; none if there are none.
    pub classifier: Option<&'static str>,
}

/// An architecture.
enum Family {
    ResNet(resnet::Depth),
    Vit(vit::Size),
    EfficientNetLite(efficientnet_lite::Scaling),
    MnistCnn,
}

fn architecture(backbone: finetune::Backbone) -> Family {
    match backbone {
        finetune::Backbone::ResNet18 => Family::ResNet(resnet::RESNET18),
        finetune::Backbone::ResNet50V1 | finetune::Backbone::ResNet50V2 => Family::ResNet(resnet::RESNET50),
        finetune::Backbone::ResNet101 => Family::ResNet(resnet::RESNET101),
        finetune::Backbone::ResNet152 => Family::ResNet(resnet::RESNET152),
        finetune::Backbone::VitB16 => Family::Vit(vit::VIT_B),
        finetune::Backbone::VitL16 => Family::Vit(vit::VIT_L),
        finetune::Backbone::EfficientNetLite0 => Family::EfficientNetLite(efficientnet_lite::LITE0),
        finetune::Backbone::EfficientNetLite1 => Family::EfficientNetLite(efficientnet_lite::LITE1),
        finetune::Backbone::EfficientNetLite2 => Family::EfficientNetLite(efficientnet_lite::LITE2),
        finetune::Backbone::MnistCnn => Family::MnistCnn,
    }
}

/// What is known about a backbone without its weights.
pub fn facts(backbone: finetune::Backbone) -> Facts {
    match architecture(backbone) {
        Family::ResNet(depth) => depth.facts(),
        Family::Vit(size) => size.facts(),
        Family::EfficientNetLite(_) => efficientnet_lite::FACTS,
        Family::MnistCnn => mnist_cnn::FACTS,
    }
}

/// What is to be loaded, from where to where.
#[derive(Clone, Copy, Debug)]
pub struct LoadRequest<'a> {
    /// The cache folder, which has the weights in `weights/`.
    pub cache: &'a Path,
    /// The architecture.
    pub backbone: finetune::Backbone,
    /// Name of the weights file without its ending; empty for random values.
    pub weights: &'a str,
    /// Seed of the random values.
    pub seed: u64,
    /// Where the network shall lie.
    pub device: Device,
    /// Number format of its products; its tensors are in single precision.
    pub precision: Precision,
}

/// A loaded network and what it was loaded from.
pub struct Pretrained {
    /// The network on its device.
    pub backbone: Box<dyn Backbone>,
    /// The classifier that the weights file holds besides, on the CPU: what pretraining ended with.
    pub head: Option<Classifier>,
    /// BLAKE3 over names, shapes and bytes of all tensors in the weights file, in hexadecimal digits; empty for random values.
    pub weights_digest: String,
}

/// Loads a network from the cache folder, or makes one of random values.
///
/// # Errors
/// [`TrialError::BadData`] naming the file when it is missing or does not hold this network; [`TrialError::BadConfig`] when the name
/// cannot be a file's.
pub fn load(request: &LoadRequest) -> Result<Pretrained, TrialError> {
    let &LoadRequest { cache, backbone, weights, seed, device, precision } = request;
    let (source, weights_digest) = if weights.is_empty() {
        (Source::scratch(seed, device, precision), String::new())
    } else {
        let state = weights_file::read(&weights_file::find(cache, weights, backbone)?)?;
        let digest = state.digest()?;
        (Source::file(state, device, precision), digest)
    };
    let (backbone, head) = assemble(backbone, source, i64::from(backbone.pixels()))?;
    Ok(Pretrained { backbone, head, weights_digest })
}

/// A network of random values that otherwise behaves as a pretrained one, its statistics frozen: for measurements where no weights are.
///
/// # Errors
/// What libtorch reports.
pub fn made_up(request: &LoadRequest) -> Result<Pretrained, TrialError> {
    let (fresh, _) = assemble(
        request.backbone,
        Source::scratch(request.seed, Device::Cpu, request.precision),
        i64::from(request.backbone.pixels()),
    )?;
    let tensors = fresh
        .parameters()
        .into_iter()
        .chain(fresh.buffers())
        .map(|named| (named.name, named.tensor.detach()));
    let state = StateDict::new(Path::new("made up"), tensors)?;
    let source = Source::file(state, request.device, request.precision);
    let (backbone, head) = assemble(request.backbone, source, i64::from(request.backbone.pixels()))?;
    Ok(Pretrained { backbone, head, weights_digest: "made up".to_owned() })
}

/// Builds a network of these tensors, for images of so many pixels a side (which matters to vision transformers only), and the
/// classifier behind it where the source has one.
///
/// # Errors
/// [`TrialError::BadData`] when a tensor is missing, of another shape, or does not belong there.
pub fn assemble(
    backbone: finetune::Backbone,
    mut source: Source,
    pixels: i64,
) -> Result<(Box<dyn Backbone>, Option<Classifier>), TrialError> {
    let network: Box<dyn Backbone> = match architecture(backbone) {
        Family::ResNet(depth) => Box::new(resnet::ResNet::load(&mut source, depth)?),
        Family::Vit(size) => Box::new(vit::Vit::load(&mut source, size, pixels)?),
        Family::EfficientNetLite(scaling) => {
            Box::new(efficientnet_lite::EfficientNetLite::load(&mut source, scaling)?)
        }
        Family::MnistCnn => Box::new(mnist_cnn::MnistCnn::load(&mut source)?),
    };
    let Facts { width, classifier, .. } = facts(backbone);
    Ok((network, source.finish(classifier, width)?))
}
