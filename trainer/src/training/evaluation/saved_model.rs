//! Networks that trials left, and how well one does on a folder of images.

use std::collections::HashMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sortie_core::finetune::{Backbone, Finetune, FinetuneSpec, Precision};
use sortie_core::metrics::Method;
use sortie_core::trial::DatasetSpec;
use tch::{Device, Tensor, no_grad};

use super::checkpoint::{self, Checkpoint};
use super::inputs::EVALUATION_BATCH;
use super::{Network, Normaliser, Parameters};
use crate::error::TrialError;
use crate::model::{self, LoadRequest, NamedTensor, Pass};
use sortie_data::{BilinearResizer, DatasetFolder, Images, Quiet};

/// The key of [`Kept`] among a safetensors file's metadata.
pub(super) const KEPT_KEY: &str = "sortie-weights";

/// What a file of kept weights says of itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kept {
    /// The trial that left it.
    pub spec: FinetuneSpec,
    /// Which model of its trajectory.
    pub method: Method,
    /// After the update of which step.
    pub step: u64,
}

/// A network that is ready to be evaluated.
pub struct ReadyNetwork {
    network: Network,
    normaliser: Normaliser,
    /// How many logits it gives.
    pub classes: usize,
    /// What the trial that left it was; none for a pretrained network.
    pub kept: Option<Kept>,
}

impl ReadyNetwork {
    /// A pretrained network with its own classifier.
    ///
    /// # Errors
    /// [`TrialError::BadData`] when its weights are not there or hold no classifier.
    pub fn pretrained(backbone: Backbone, cache: &Path, device: Device) -> Result<Self, TrialError> {
        let (weights, precision) = (backbone.as_str(), Precision::Fp32);
        let loaded = model::load(&LoadRequest { cache, backbone, weights, seed: 0, device, precision })?;
        let (weight, bias) = loaded
            .head
            .ok_or_else(|| TrialError::BadConfig(format!("the weights of {backbone} hold no classifier")))?;
        let classes = bias.size1()? as usize;
        let normaliser = Normaliser {
            device,
            pixels: i64::from(backbone.pixels()),
            normalisation: loaded.backbone.normalisation(),
        };
        let [weight, bias] = [weight, bias].map(|tensor| Vec::<f32>::try_from(tensor.flatten(0, -1)));
        let network = Network::new(loaded.backbone, &weight?, &bias?, device)?;
        Ok(Self { network, normaliser, classes, kept: None })
    }

    /// The network of a file of kept weights, or of a checkpoint.
    ///
    /// # Errors
    /// [`TrialError::BadData`] naming the file when it is neither, or damaged.
    pub fn read(path: &Path, cache: &Path, device: Device) -> Result<Self, TrialError> {
        let bad = |reason: String| TrialError::bad_data(path, reason);
        let bytes = std::fs::read(path).map_err(|error| bad(error.to_string()))?;
        if let Some(kept) = checkpoint::metadata(&bytes, KEPT_KEY).map_err(bad)? {
            let kept: Kept = serde_json::from_str(&kept)
                .map_err(|error| bad(format!("its header is damaged: {error}")))?;
            let mut tensors = checkpoint::read(&bytes).map_err(bad)?;
            // Every tensor comes from the file: what the network begins with does not matter.
            let (network, normaliser) = fresh(&kept.spec, "", cache, device)?;
            let all = network
                .body_parameters()
                .into_iter()
                .chain(network.head_parameters())
                .chain(network.live_buffers());
            fill(all.chain(network.frozen_tensors()), &mut tensors).map_err(bad)?;
            let classes = kept.spec.settings.dataset.classes.len();
            return Ok(Self { network, normaliser, classes, kept: Some(kept) });
        }
        let mut checkpoint = Checkpoint::from_bytes(&bytes).map_err(bad)?;
        let spec = checkpoint.header.spec.clone();
        let (network, normaliser) = fresh(&spec, &spec.settings.weights, cache, device)?;
        let parameters = Parameters::gather(network.body_parameters(), network.head_parameters())?;
        if checkpoint.header.layout != parameters.description() {
            return Err(bad("its parameters lie in another order than this build's".to_owned()));
        }
        let values = checkpoint.take_values(&parameters).map_err(bad)?;
        no_grad(|| parameters.values().shallow_clone().f_copy_(&values))?;
        let mut buffers = checkpoint.take_buffers();
        fill(network.live_buffers().into_iter(), &mut buffers).map_err(bad)?;
        let classes = spec.settings.dataset.classes.len();
        let kept = Kept { spec, method: Method::Plain, step: checkpoint.header.step };
        Ok(Self { network, normaliser, classes, kept: Some(kept) })
    }

    /// The logits [n, classes] of every image of some domains, under the evaluation transform, and the images' classes, domain by domain.
    ///
    /// # Errors
    /// [`TrialError::BadData`] naming what is wrong with the dataset.
    pub fn logits(
        &self,
        root: &Path,
        dataset: &DatasetSpec,
        domains: &[usize],
        cache: &Path,
    ) -> Result<Vec<DomainLogits>, TrialError> {
        let images = Images::open(DatasetFolder::scan(root, dataset)?, cache, None, &Quiet)?;
        let side = self.normaliser.pixels as u32;
        let mut resizer = BilinearResizer::default();
        let mut found = Vec::new();
        for &domain in domains {
            let n = images.len(domain);
            let mut parts = Vec::new();
            for from in (0..n).step_by(EVALUATION_BATCH) {
                let mut bytes = Vec::new();
                for index in from..n.min(from + EVALUATION_BATCH) {
                    bytes.extend_from_slice(&super::inputs::resize(
                        &mut resizer,
                        &images,
                        domain,
                        index,
                        side,
                    )?);
                }
                let inputs = self.normaliser.plain_input(&bytes)?;
                parts.push(
                    no_grad(|| self.network.logits(&inputs, None, Pass::Evaluate))?
                        .f_to_device(Device::Cpu)?,
                );
            }
            let labels = (0..n).map(|index| images.label(domain, index)).collect();
            let logits = Vec::<f32>::try_from(
                Tensor::f_cat(&parts, 0)?.f_to_kind(tch::Kind::Float)?.f_flatten(0, -1)?,
            )?;
            found.push(DomainLogits { domain, logits, labels });
        }
        Ok(found)
    }
}

/// What a network says of the images of a domain.
#[derive(Clone, Debug, PartialEq)]
pub struct DomainLogits {
    /// Index of the domain in the dataset.
    pub domain: usize,
    /// [n, classes], row by row, in the order of sorted class and file.
    pub logits: Vec<f32>,
    /// Of each image, in the same order.
    pub labels: Vec<usize>,
}

/// The network of a specification, its weights those of this name, or random.
fn fresh(
    spec: &FinetuneSpec,
    weights: &str,
    cache: &Path,
    device: Device,
) -> Result<(Network, Normaliser), TrialError> {
    let settings = &spec.settings;
    let request = LoadRequest {
        cache,
        backbone: settings.backbone,
        weights,
        seed: spec.point.seed,
        device,
        precision: settings.precision,
    };
    let loaded = model::load(&request)?;
    let normaliser = Normaliser {
        device,
        pixels: i64::from(settings.pixels),
        normalisation: loaded.backbone.normalisation(),
    };
    let finetune: Finetune = settings.finetune;
    let network =
        Network::fresh(loaded.backbone, finetune, spec.point.seed, settings.dataset.classes.len(), device)?;
    Ok((network, normaliser))
}

/// Copies tensors into a network's own, by name and shape.
pub(super) fn fill(
    own: impl Iterator<Item = NamedTensor>,
    tensors: &mut HashMap<String, Tensor>,
) -> Result<(), String> {
    for NamedTensor { name, mut tensor } in own {
        let value = tensors.remove(&name).ok_or_else(|| format!("it lacks the tensor {name}"))?;
        if value.size() != tensor.size() {
            return Err(format!("tensor {name} is {:?} where {:?} belongs", value.size(), tensor.size()));
        }
        no_grad(|| tensor.f_copy_(&value)).map_err(|error| error.to_string())?;
    }
    Ok(())
}
