//! Builds a network from a weights file or by random initialisation. A new architecture gets one line in `family` and one in `build`.

use std::collections::HashMap;
use std::path::Path;

use sortie_core::finetune::{Backbone as Architecture, BatchNorm, Precision};
use tch::Device;

use super::matching::{Match, MatchedTensor, Naming, TensorName, Wanted};
use super::weights_file::WeightsFile;
use super::{
    ArchitectureInfo, Backbone, Classifier, NamedTensor, Source, StateDict, efficientnet_lite, mnist_cnn,
    resnet, vit, weights_file,
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

/// What other tools call a network's tensors. timm's names of ResNets are torchvision's.
fn namings(backbone: Architecture) -> &'static [Naming] {
    match family(backbone) {
        Family::Vit(_) => &vit::NAMINGS,
        Family::ResNet(_) | Family::EfficientNetLite(_) | Family::MnistCnn => &[],
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
    /// Of a network with random values; that of a file is frozen.
    pub batch_norm: BatchNorm,
}

/// A loaded network, and the digest of its weights.
pub struct Pretrained {
    /// The network on its device.
    pub backbone: Box<dyn Backbone>,
    /// The classifier of the pretraining task, on the CPU, where the weights file holds one.
    pub head: Option<Classifier>,
    /// BLAKE3 over names, shapes and bytes of what is read of the weights file, in hexadecimal digits; empty for random values. Names are
    /// the file's, without what stands before all of them.
    pub weights_digest: String,
}

/// Loads a network from the cache folder, or makes one by random initialisation.
///
/// # Errors
/// [`TrialError::BadData`] naming the file when it is missing or does not hold this network; [`TrialError::BadConfig`] when the name
/// cannot be a file's.
pub fn load(request: &LoadRequest) -> Result<Pretrained, TrialError> {
    let &LoadRequest { cache, backbone, weights, seed, device, precision, batch_norm } = request;
    let (source, weights_digest) = if weights.is_empty() {
        (Source::scratch(seed, device, precision, batch_norm), String::new())
    } else {
        let path = weights_file::find(cache, weights, backbone)?;
        let FileWeights { state, digest, found } = read(&path, backbone)?;
        if found.is_remarkable() {
            // The log of the trial has it.
            eprintln!("weights {}: {}", path.display(), found.describe());
        }
        (Source::file(state, device, precision), digest)
    };
    let (backbone, head) = assemble(backbone, source, i64::from(backbone.pixels()))?;
    Ok(Pretrained { backbone, head, weights_digest })
}

/// A network's tensors out of a weights file.
pub(super) struct FileWeights {
    /// Under the network's own names.
    pub(super) state: StateDict,
    digest: String,
    /// Where in the file they were.
    pub(super) found: Match,
}

/// Reads a network's tensors from a weights file, whatever stands before their names, and nothing else.
///
/// # Errors
/// [`TrialError::BadData`] naming the file and what was unexpected in it.
pub(super) fn read(path: &Path, backbone: Architecture) -> Result<FileWeights, TrialError> {
    let mut file = WeightsFile::open(path)?;
    let own = outline(backbone)?;
    let found =
        find_tensors(backbone, &own, file.names()).map_err(|reason| TrialError::bad_data(path, reason))?;
    let sizes: HashMap<&str, &[i64]> =
        own.iter().map(|(name, size)| (name.as_str(), size.as_slice())).collect();
    let mut tensors = Vec::with_capacity(found.tensors.len());
    for MatchedTensor { index, in_file, own } in &found.tensors {
        tensors.push((in_file.clone(), file.read(*index, sizes.get(own.as_str()).copied())?));
    }
    let state = StateDict::new(path, tensors)?;
    let digest = state.digest()?;
    let names = found.tensors.iter().map(|tensor| (tensor.in_file.as_str(), tensor.own.as_str()));
    Ok(FileWeights { state: state.renamed(names)?, digest, found })
}

/// Makes a network by random initialisation that otherwise behaves as a pretrained one: its BatchNorm statistics are frozen. Measurements
/// use it where no weights are available.
///
/// # Errors
/// What libtorch reports.
pub fn load_random(request: &LoadRequest) -> Result<Pretrained, TrialError> {
    let &LoadRequest { backbone, seed, device, precision, .. } = request;
    let source = Source::scratch(seed, device, precision, BatchNorm::Frozen);
    let (backbone, head) = assemble(backbone, source, i64::from(backbone.pixels()))?;
    Ok(Pretrained { backbone, head, weights_digest: "random initialisation".to_owned() })
}

/// The names and sizes of a network's tensors.
fn outline(backbone: Architecture) -> Result<Vec<(String, Vec<i64>)>, TrialError> {
    let network = build(backbone, &mut Source::outline(), i64::from(backbone.pixels()))?;
    let tensors = network.parameters().into_iter().chain(network.buffers());
    Ok(tensors.map(|NamedTensor { name, tensor }| (name, tensor.size())).collect())
}

/// Finds a network's tensors, of which `own` are the names, among those of a file.
fn find_tensors(
    backbone: Architecture,
    own: &[(String, Vec<i64>)],
    file: &[TensorName],
) -> Result<Match, String> {
    let names: Vec<String> = own.iter().map(|(name, _)| name.clone()).collect();
    let classifier = facts(backbone).classifier;
    Match::find(&Wanted { names: &names, classifier, namings: namings(backbone) }, file)
}

/// Builds a network of these tensors, for images of so many pixels a side (which matters to vision transformers only), and the
/// classifier behind it where the source has one.
///
/// # Errors
/// [`TrialError::BadData`] when a tensor is missing or of another shape.
pub fn assemble(
    backbone: Architecture,
    mut source: Source,
    pixels: i64,
) -> Result<(Box<dyn Backbone>, Option<Classifier>), TrialError> {
    let network = build(backbone, &mut source, pixels)?;
    let ArchitectureInfo { width, classifier, .. } = facts(backbone);
    Ok((network, source.finish(classifier, width)))
}

fn build(backbone: Architecture, source: &mut Source, pixels: i64) -> Result<Box<dyn Backbone>, TrialError> {
    Ok(match family(backbone) {
        Family::ResNet(depth) => Box::new(resnet::ResNet::load(source, depth)?),
        Family::Vit(size) => Box::new(vit::Vit::load(source, size, pixels)?),
        Family::EfficientNetLite(scaling) => {
            Box::new(efficientnet_lite::EfficientNetLite::load(source, scaling)?)
        }
        Family::MnistCnn => Box::new(mnist_cnn::MnistCnn::load(source)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(backbone: Architecture, prefix: &str, names: &[String]) -> Result<Match, String> {
        let name = |name: &String| TensorName { name: format!("{prefix}{name}"), nest: 0 };
        find_tensors(backbone, &outline(backbone).unwrap(), &names.iter().map(name).collect::<Vec<_>>())
    }

    /// `weight` and `bias` of each module.
    fn affine(modules: &[String]) -> Vec<String> {
        modules.iter().flat_map(|module| ["weight", "bias"].map(|part| format!("{module}.{part}"))).collect()
    }

    /// What timm's vit_base_patch16_224 calls its tensors.
    fn timms_vit() -> Vec<String> {
        let mut modules = vec!["patch_embed.proj".to_owned()];
        for block in 0..12 {
            for part in ["norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2"] {
                modules.push(format!("blocks.{block}.{part}"));
            }
        }
        modules.extend(["norm", "head"].map(str::to_owned));
        [["cls_token", "pos_embed"].map(str::to_owned).to_vec(), affine(&modules)].concat()
    }

    #[test]
    fn timms_names_of_a_vit_are_ours() {
        for prefix in ["", "module.model."] {
            let found = found(Architecture::VitB16, prefix, &timms_vit()).unwrap();
            assert_eq!((found.prefix.as_str(), found.tensors.len()), (prefix, 152));
            assert!(
                found.describe().starts_with("150 tensors, ") && found.describe().ends_with("timm's names")
            );
            let own = |in_file: &str| {
                found.tensors.iter().find(|tensor| tensor.in_file == in_file).unwrap().own.clone()
            };
            for (theirs, ours) in [
                ("cls_token", "class_token"),
                ("pos_embed", "encoder.pos_embedding"),
                ("patch_embed.proj.bias", "conv_proj.bias"),
                ("blocks.11.norm1.weight", "encoder.layers.encoder_layer_11.ln_1.weight"),
                ("blocks.1.attn.qkv.weight", "encoder.layers.encoder_layer_1.self_attention.in_proj_weight"),
                ("blocks.1.attn.qkv.bias", "encoder.layers.encoder_layer_1.self_attention.in_proj_bias"),
                (
                    "blocks.0.attn.proj.weight",
                    "encoder.layers.encoder_layer_0.self_attention.out_proj.weight",
                ),
                ("blocks.0.norm2.bias", "encoder.layers.encoder_layer_0.ln_2.bias"),
                ("blocks.0.mlp.fc1.weight", "encoder.layers.encoder_layer_0.mlp.0.weight"),
                ("blocks.0.mlp.fc2.weight", "encoder.layers.encoder_layer_0.mlp.3.weight"),
                ("norm.weight", "encoder.ln.weight"),
                ("head.weight", "heads.head.weight"),
            ] {
                assert_eq!(own(theirs), ours);
            }
        }
        // A network without that last norm is another one.
        let mut other = timms_vit();
        other.retain(|name| !name.starts_with("norm."));
        other.push("fc_norm.weight".to_owned());
        assert_eq!(
            found(Architecture::VitB16, "", &other).unwrap_err(),
            "missing: 2 of the network's 150 tensors (encoder.ln.weight, encoder.ln.bias); left over: 1 (fc_norm.weight); names without a prefix fit best"
        );
    }

    #[test]
    fn torchvisions_first_names_of_a_vit_are_ours() {
        let own: Vec<String> =
            outline(Architecture::VitL16).unwrap().into_iter().map(|(name, _)| name).collect();
        let first: Vec<String> = own
            .iter()
            .map(|name| name.replace(".mlp.0.", ".mlp.linear_1.").replace(".mlp.3.", ".mlp.linear_2."))
            .collect();
        assert_ne!(own, first);
        let found = found(Architecture::VitL16, "", &first).unwrap();
        assert_eq!(found.tensors.iter().map(|tensor| tensor.own.clone()).collect::<Vec<_>>(), own);
        assert!(!found.is_remarkable());
    }

    /// timm's resnet50 and torchvision's have the same names.
    #[test]
    fn timms_names_of_a_resnet_are_ours() {
        let mut convolutions = vec![("conv1".to_owned(), "bn1".to_owned())];
        for (layer, blocks) in [(1, 3), (2, 4), (3, 6), (4, 3)] {
            for block in 0..blocks {
                let part = |part: &str| format!("layer{layer}.{block}.{part}");
                convolutions.extend((1..=3).map(|n| (part(&format!("conv{n}")), part(&format!("bn{n}")))));
                if block == 0 {
                    convolutions.push((part("downsample.0"), part("downsample.1")));
                }
            }
        }
        let mut names = affine(&["fc".to_owned()]);
        for (convolution, norm) in convolutions {
            names.push(format!("{convolution}.weight"));
            let parts = ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"];
            names.extend(parts.map(|part| format!("{norm}.{part}")));
        }
        let whole = found(Architecture::ResNet50V2, "backbone.", &names).unwrap();
        assert_eq!(
            (whole.tensors.len(), whole.describe().as_str()),
            (320, "265 tensors, prefix \"backbone.\"")
        );
        // A longer network of the family has all of these names and more.
        names.push("layer3.6.conv1.weight".to_owned());
        let reason = found(Architecture::ResNet50V2, "", &names).unwrap_err();
        assert!(
            reason.starts_with(
                "missing: 0 of the network's 265 tensors; left over: 1 (layer3.6.conv1.weight);"
            ),
            "{reason}"
        );
    }

    #[test]
    fn an_outline_has_the_sizes_of_the_network() {
        let fresh = build(
            Architecture::MnistCnn,
            &mut Source::scratch(1, Device::Cpu, Precision::Fp32, BatchNorm::Live),
            28,
        )
        .unwrap();
        let sizes: Vec<_> =
            fresh.parameters().into_iter().map(|named| (named.name, named.tensor.size())).collect();
        assert_eq!(outline(Architecture::MnistCnn).unwrap(), sizes);
    }
}
