//! A backbone, dropout and a fresh last layer (docs/protocol.md, "Model").

use sortie_core::finetune::{BatchNorm, Finetune, Settings};
use tch::{Device, TchError, Tensor, no_grad};

use super::block_mixture::{BLOCKS, BlockMixture, Statistics, no_blocks};
use super::dropout;
use super::head::initial_head;
use crate::libtorch;
use crate::model::{Backbone, NamedTensor, Pass};

/// A network that is fine-tuned: `head(dropout(body(x)))`.
pub struct Network {
    backbone: Box<dyn Backbone>,
    mixture: Option<BlockMixture>,
    /// Whether the backbone's BatchNorm statistics move.
    live: bool,
    head_weight: Tensor,
    head_bias: Tensor,
}

impl Network {
    /// Puts a last layer with these values (weight row by row, bias) on a backbone, all of which is trained with its statistics frozen.
    ///
    /// # Errors
    /// What libtorch reports.
    pub fn new(
        backbone: Box<dyn Backbone>,
        weight: &[f32],
        bias: &[f32],
        device: Device,
    ) -> Result<Self, TchError> {
        let on_device = |values: &[f32]| Tensor::f_from_slice(values)?.f_to_device(device);
        let width = (weight.len() / bias.len().max(1)) as i64;
        let head_weight = on_device(weight)?.f_view([bias.len() as i64, width])?.f_set_requires_grad(true)?;
        let head_bias = on_device(bias)?.f_set_requires_grad(true)?;
        Ok(Self { backbone, mixture: None, live: false, head_weight, head_bias })
    }

    /// The network of one kind of fine-tuning, its fresh layers initialised from a trial's seed.
    ///
    /// # Errors
    /// What libtorch reports; [`TchError::Shape`] for linear fine-tuning of a backbone without three equally wide blocks.
    pub fn fresh(
        backbone: Box<dyn Backbone>,
        settings: &Settings,
        seed: u64,
        device: Device,
    ) -> Result<Self, TchError> {
        let blocks = if settings.finetune == Finetune::Linear {
            Some(backbone.block_width().ok_or_else(no_blocks)?)
        } else {
            None
        };
        let classes = settings.dataset.classes.len();
        let (weight, bias) = initial_head(seed, blocks.unwrap_or(backbone.width()), classes);
        let mut network = Self::new(backbone, &weight, &bias, device)?;
        network.live = settings.batch_norm == BatchNorm::Live;
        if let Some(width) = blocks {
            network.mixture = Some(BlockMixture::fresh(settings.block_norm, seed, width, device)?);
        }
        Ok(network)
    }

    /// The logits [n, classes] of network inputs [n, 3, side, side], or for linear fine-tuning also of what [`Network::block_features`]
    /// gave; the representation is multiplied by `mask` [n, width] where one is given.
    ///
    /// # Errors
    /// What libtorch reports, out of memory above all.
    pub fn logits(&self, inputs: &Tensor, mask: Option<&Tensor>, pass: Pass) -> Result<Tensor, TchError> {
        let features = match &self.mixture {
            None => self.backbone.features(inputs, pass)?,
            Some(mixture) if inputs.dim() == 2 => mixture.forward(inputs, pass)?,
            Some(mixture) => mixture.forward(&self.block_features(inputs)?, pass)?,
        };
        let features = dropout::apply(features, mask)?;
        libtorch::exact_linear(&features, &self.head_weight, &self.head_bias)
    }

    /// The pooled outputs of the last three blocks, one behind the other: [n, 3 * width].
    ///
    /// # Errors
    /// What libtorch reports, out of memory above all.
    pub fn block_features(&self, images: &Tensor) -> Result<Tensor, TchError> {
        no_grad(|| {
            let blocks = self.backbone.block_features(images)?;
            let blocks = blocks.ok_or_else(no_blocks)?;
            let (_, n, width) = blocks.size3()?;
            blocks.f_permute([1, 0, 2])?.f_contiguous()?.f_view([n, BLOCKS * width])
        })
    }

    /// Length of the representation that dropout acts on.
    pub fn width(&self) -> i64 {
        self.head_weight.size()[1]
    }

    /// What is trained below the last layer.
    pub fn body_parameters(&self) -> Vec<NamedTensor> {
        match &self.mixture {
            Some(mixture) => vec![named("mixture.weight", &mixture.weights)],
            None => self.backbone.parameters(),
        }
    }

    /// The last layer's trained tensors.
    pub fn head_parameters(&self) -> Vec<NamedTensor> {
        vec![named("head.weight", &self.head_weight), named("head.bias", &self.head_bias)]
    }

    /// Statistics that training moves.
    pub fn live_buffers(&self) -> Vec<NamedTensor> {
        match &self.mixture {
            Some(mixture) => mixture
                .statistics()
                .map(|Statistics { mean, variance }| {
                    vec![named("mixture.running_mean", mean), named("mixture.running_var", variance)]
                })
                .unwrap_or_default(),
            None if self.live => self.backbone.buffers(),
            None => Vec::new(),
        }
    }

    /// Everything that training does not change. Saved weights include it, so that they are a complete network.
    pub fn frozen_tensors(&self) -> Vec<NamedTensor> {
        match &self.mixture {
            Some(_) => self.backbone.parameters().into_iter().chain(self.backbone.buffers()).collect(),
            None if self.live => Vec::new(),
            None => self.backbone.buffers(),
        }
    }
}

fn named(name: &str, tensor: &Tensor) -> NamedTensor {
    NamedTensor { name: name.to_owned(), tensor: tensor.shallow_clone() }
}
