//! Reads the networks that trials saved, and evaluates them on a folder of images.

use std::path::Path;

use serde::{Deserialize, Serialize};
use sortie_core::finetune::{Backbone, BatchNorm, FinetuneSpec, Precision};
use sortie_core::metrics::Method;
use sortie_core::trial::DatasetSpec;
use tch::{Device, Tensor, no_grad};

use super::super::checkpoints::{Checkpoint, fill, metadata, read_tensors};
use super::super::inputs::{EVALUATION_BATCH, resize_image};
use super::super::{Network, Normaliser, Parameters};
use crate::error::TrialError;
use crate::model::{self, LoadRequest, Pass};
use sortie_data::{BilinearResizer, DatasetFolder, Images, NoProgress};

/// The key of [`SavedModel`] among a safetensors file's metadata.
pub(crate) const SAVED_MODEL_KEY: &str = "sortie-weights";

/// The description of a saved model in the metadata of its file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedModel {
    /// The trial that saved it.
    pub spec: FinetuneSpec,
    /// Which model of its trajectory.
    pub method: Method,
    /// After the update of which step.
    pub step: u64,
}

/// A network that is ready to be evaluated.
pub struct LoadedNetwork {
    network: Network,
    normaliser: Normaliser,
    /// How many logits it gives.
    pub classes: usize,
    /// The trial that saved it; none for a pretrained network.
    pub saved_model: Option<SavedModel>,
}

impl LoadedNetwork {
    /// A pretrained network with its own classifier.
    ///
    /// # Errors
    /// [`TrialError::BadData`] when its weights are not there or hold no classifier.
    pub fn pretrained(backbone: Backbone, cache: &Path, device: Device) -> Result<Self, TrialError> {
        let request = LoadRequest {
            cache,
            backbone,
            weights: backbone.as_str(),
            seed: 0,
            device,
            precision: Precision::Fp32,
            batch_norm: BatchNorm::Frozen,
        };
        let loaded = model::load(&request)?;
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
        Ok(Self { network, normaliser, classes, saved_model: None })
    }

    /// Reads the network of a saved model or of a checkpoint.
    ///
    /// # Errors
    /// [`TrialError::BadData`] naming the file when it is neither, or damaged.
    pub fn read(path: &Path, cache: &Path, device: Device) -> Result<Self, TrialError> {
        let bad = |reason: String| TrialError::bad_data(path, reason);
        let bytes = std::fs::read(path).map_err(|error| bad(error.to_string()))?;
        if let Some(text) = metadata(&bytes, SAVED_MODEL_KEY).map_err(bad)? {
            let saved_model: SavedModel = serde_json::from_str(&text)
                .map_err(|error| bad(format!("its header is damaged: {error}")))?;
            let mut tensors = read_tensors(&bytes).map_err(bad)?;
            // The file holds every tensor, so the initial values do not matter.
            let (network, normaliser) = fresh(&saved_model.spec, "", cache, device)?;
            let all = network
                .body_parameters()
                .into_iter()
                .chain(network.head_parameters())
                .chain(network.live_buffers());
            fill(all.chain(network.frozen_tensors()), &mut tensors).map_err(bad)?;
            let classes = saved_model.spec.settings.dataset.classes.len();
            return Ok(Self { network, normaliser, classes, saved_model: Some(saved_model) });
        }
        let neither = "no weights and no checkpoint of a trial, which would name its classes";
        let mut checkpoint =
            Checkpoint::from_bytes(&bytes).map_err(|reason| bad(format!("{neither}: {reason}")))?;
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
        let saved_model = SavedModel { spec, method: Method::Plain, step: checkpoint.header.step };
        Ok(Self { network, normaliser, classes, saved_model: Some(saved_model) })
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
        let images = Images::open(DatasetFolder::scan(root, dataset)?, cache, None, &NoProgress)?;
        let side = self.normaliser.pixels as u32;
        let mut resizer = BilinearResizer::default();
        let mut found = Vec::new();
        for &domain in domains {
            let n = images.len(domain);
            let mut batches = Vec::new();
            for from in (0..n).step_by(EVALUATION_BATCH) {
                let mut bytes = Vec::new();
                for index in from..n.min(from + EVALUATION_BATCH) {
                    bytes.extend_from_slice(&resize_image(&mut resizer, &images, domain, index, side)?);
                }
                let inputs = self.normaliser.plain_input(&bytes)?;
                batches.push(
                    no_grad(|| self.network.logits(&inputs, None, Pass::Evaluate))?
                        .f_to_device(Device::Cpu)?,
                );
            }
            let labels = (0..n).map(|index| images.label(domain, index)).collect();
            let logits = Vec::<f32>::try_from(
                Tensor::f_cat(&batches, 0)?.f_to_kind(tch::Kind::Float)?.f_flatten(0, -1)?,
            )?;
            found.push(DomainLogits { domain, logits, labels });
        }
        Ok(found)
    }
}

/// The logits of a network for the images of a domain.
#[derive(Clone, Debug, PartialEq)]
pub struct DomainLogits {
    /// Index of the domain in the dataset.
    pub domain: usize,
    /// [n, classes], row by row, in the order of sorted class and file.
    pub logits: Vec<f32>,
    /// Of each image, in the same order.
    pub labels: Vec<usize>,
}

/// The network of a specification, with the weights of this name or by random initialisation.
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
        // Statistics that a file still fills in must not be folded beforehand. Evaluation is the same with both.
        batch_norm: BatchNorm::Live,
    };
    let loaded = model::load(&request)?;
    let normaliser = Normaliser {
        device,
        pixels: i64::from(settings.pixels),
        normalisation: loaded.backbone.normalisation(),
    };
    let network = Network::fresh(loaded.backbone, settings, spec.point.seed, device)?;
    Ok((network, normaliser))
}
