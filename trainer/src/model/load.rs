//! Builds a network from a weights file or by random initialisation. A new architecture gets one line in `family`.

use std::path::Path;

use sortie_core::finetune::{Backbone as Architecture, Precision};
use tch::Device;

use super::{
    ArchitectureInfo, Backbone, Classifier, Source, StateDict, efficientnet_lite, mnist_cnn, resnet, vit,
    weights_file,
};
use crate::error::TrialError;

/// An architecture.
enum Family {
    ResNet(resnet::Depth),
    Vit(vit::Size),
    EfficientNetLite(efficientnet_lite::Scaling),
    MnistCnn,
}

fn family(backbone: Architecture) -> Family {
    match backbone {
        Architecture::ResNet18 => Family::ResNet(resnet::RESNET18),
        Architecture::ResNet50V1 | Architecture::ResNet50V2 => Family::ResNet(resnet::RESNET50),
        Architecture::ResNet101 => Family::ResNet(resnet::RESNET101),
        Architecture::ResNet152 => Family::ResNet(resnet::RESNET152),
        Architecture::VitB16 => Family::Vit(vit::VIT_B),
        Architecture::VitL16 => Family::Vit(vit::VIT_L),
        Architecture::EfficientNetLite0 => Family::EfficientNetLite(efficientnet_lite::LITE0),
        Architecture::EfficientNetLite1 => Family::EfficientNetLite(efficientnet_lite::LITE1),
        Architecture::EfficientNetLite2 => Family::EfficientNetLite(efficientnet_lite::LITE2),
        Architecture::MnistCnn => Family::MnistCnn,
    }
}

/// What is known about a backbone without its weights.
pub fn facts(backbone: Architecture) -> ArchitectureInfo {
    match family(backbone) {
        Family::ResNet(depth) => depth.facts(),
        Family::Vit(size) => size.facts(),
        Family::EfficientNetLite(_) => efficientnet_lite::FACTS,
        Family::MnistCnn => mnist_cnn::FACTS,
    }
}

/// Which network to load, from where, and onto which device.
#[derive(Clone, Copy, Debug)]
pub struct LoadRequest<'a> {
    /// The cache folder, which has the weights in `weights/`.
    pub cache: &'a Path,
    /// The architecture.
    pub backbone: Architecture,
    /// Name of the weights file without its ending; empty for random values.
    pub weights: &'a str,
    /// Seed of the random values.
    pub seed: u64,
    /// The device of the network.
    pub device: Device,
    /// Number format of its products; its tensors are in single precision.
    pub precision: Precision,
}

/// A loaded network, and the digest of its weights.
pub struct Pretrained {
    /// The network on its device.
    pub backbone: Box<dyn Backbone>,
    /// The classifier of the pretraining task, on the CPU, where the weights file holds one.
    pub head: Option<Classifier>,
    /// BLAKE3 over names, shapes and bytes of all tensors in the weights file, in hexadecimal digits; empty for random values.
    pub weights_digest: String,
}

/// Loads a network from the cache folder, or makes one by random initialisation.
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

/// Makes a network by random initialisation that otherwise behaves as a pretrained one: its BatchNorm statistics are frozen. Measurements
/// use it where no weights are available.
///
/// # Errors
/// What libtorch reports.
pub fn load_random(request: &LoadRequest) -> Result<Pretrained, TrialError> {
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
    let state = StateDict::new(Path::new("random initialisation"), tensors)?;
    let source = Source::file(state, request.device, request.precision);
    let (backbone, head) = assemble(request.backbone, source, i64::from(request.backbone.pixels()))?;
    Ok(Pretrained { backbone, head, weights_digest: "random initialisation".to_owned() })
}

/// Builds a network of these tensors, for images of so many pixels a side (which matters to vision transformers only), and the
/// classifier behind it where the source has one.
///
/// # Errors
/// [`TrialError::BadData`] when a tensor is missing, of another shape, or does not belong there.
pub fn assemble(
    backbone: Architecture,
    mut source: Source,
    pixels: i64,
) -> Result<(Box<dyn Backbone>, Option<Classifier>), TrialError> {
    let network: Box<dyn Backbone> = match family(backbone) {
        Family::ResNet(depth) => Box::new(resnet::ResNet::load(&mut source, depth)?),
        Family::Vit(size) => Box::new(vit::Vit::load(&mut source, size, pixels)?),
        Family::EfficientNetLite(scaling) => {
            Box::new(efficientnet_lite::EfficientNetLite::load(&mut source, scaling)?)
        }
        Family::MnistCnn => Box::new(mnist_cnn::MnistCnn::load(&mut source)?),
    };
    let ArchitectureInfo { width, classifier, .. } = facts(backbone);
    Ok((network, source.finish(classifier, width)?))
}
