//! Backbone, dropout and a fresh last layer (docs/protocol.md, "Model").

use sortie_core::finetune::Finetune;
use sortie_core::random::{Purpose, stream, uniform_f32, uniform_f64};
use tch::{Device, Kind, TchError, Tensor, no_grad};

use crate::model::{Backbone, NamedTensor, Pass};

/// PyTorch's defaults of BatchNorm1d.
const BATCH_NORM_MOMENTUM: f64 = 0.1;
const BATCH_NORM_EPSILON: f64 = 1e-5;
/// Blocks that linear fine-tuning mixes.
pub(super) const BLOCKS: i64 = 3;

/// A network that is fine-tuned: `head(dropout(body(x)))`.
pub struct Network {
    backbone: Box<dyn Backbone>,
    mixture: Option<Mixture>,
    /// Whether the backbone's BatchNorm statistics move.
    live: bool,
    head_weight: Tensor,
    head_bias: Tensor,
}

/// What linear fine-tuning puts on a frozen backbone: `sum v_i * normalised(phi_i)`, element by element (paper, section 4.3).
///
/// The normalisation is a BatchNorm1d without weight and bias: by the batch in training, by running statistics in evaluation.
struct Mixture {
    /// [3, width].
    weights: Tensor,
    /// [3 * width].
    mean: Tensor,
    variance: Tensor,
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
        finetune: Finetune,
        seed: u64,
        classes: usize,
        device: Device,
    ) -> Result<Self, TchError> {
        let blocks = if finetune == Finetune::Linear {
            // The smallest picture tells how wide the blocks are.
            let picture = Tensor::f_zeros([1, 3, 64, 64], (Kind::Float, device))?;
            Some(no_grad(|| backbone.block_features(&picture))?.ok_or_else(no_blocks)?.size()[2])
        } else {
            None
        };
        let (weight, bias) = initial_head(seed, blocks.unwrap_or(backbone.width()), classes);
        let mut network = Self::new(backbone, &weight, &bias, device)?;
        network.live = finetune == Finetune::Scratch;
        if let Some(width) = blocks {
            let weights = Tensor::f_from_slice(&initial_mixture(seed, width))?.f_to_device(device)?;
            let weights = weights.f_view([BLOCKS, width])?.f_set_requires_grad(true)?;
            let statistics = ([BLOCKS * width], (Kind::Float, device));
            let (mean, variance) =
                (Tensor::f_zeros(statistics.0, statistics.1)?, Tensor::f_ones(statistics.0, statistics.1)?);
            network.mixture = Some(Mixture { weights, mean, variance });
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
        let features = match mask {
            Some(mask) => features.f_mul(mask)?,
            None => features,
        };
        features.f_linear(&self.head_weight, Some(&self.head_bias))
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
            Some(mixture) => vec![
                named("mixture.running_mean", &mixture.mean),
                named("mixture.running_var", &mixture.variance),
            ],
            None if self.live => self.backbone.buffers(),
            None => Vec::new(),
        }
    }

    /// Everything that training leaves as it is, so that kept weights are a network of their own.
    pub fn frozen_tensors(&self) -> Vec<NamedTensor> {
        match &self.mixture {
            Some(_) => self.backbone.parameters().into_iter().chain(self.backbone.buffers()).collect(),
            None if self.live => Vec::new(),
            None => self.backbone.buffers(),
        }
    }
}

impl Mixture {
    /// Features [n, 3 * width] to the representation [n, width].
    fn forward(&self, features: &Tensor, pass: Pass) -> Result<Tensor, TchError> {
        let none = None::<&Tensor>;
        let training = pass == Pass::Train;
        let (momentum, epsilon) = (BATCH_NORM_MOMENTUM, BATCH_NORM_EPSILON);
        let normalised = features.f_batch_norm(
            none,
            none,
            Some(&self.mean),
            Some(&self.variance),
            training,
            momentum,
            epsilon,
            false,
        )?;
        let (n, width) = (features.size()[0], self.weights.size()[1]);
        normalised.f_view([n, BLOCKS, width])?.f_mul(&self.weights)?.f_sum_dim_intlist(
            [1].as_slice(),
            false,
            None,
        )
    }
}

fn no_blocks() -> TchError {
    TchError::Shape("the backbone has no three equally wide blocks at its end".to_owned())
}

fn named(name: &str, tensor: &Tensor) -> NamedTensor {
    NamedTensor { name: name.to_owned(), tensor: tensor.shallow_clone() }
}

/// PyTorch's default initialisation of `Linear`: weight (row by row) and bias uniform within 1/sqrt(width).
pub fn initial_head(seed: u64, width: i64, classes: usize) -> (Vec<f32>, Vec<f32>) {
    let mut rng = stream(seed, Purpose::HeadInitialisation, 0, 0, 0);
    let bound = 1.0 / (width as f64).sqrt();
    let mut draw =
        |count: usize| (0..count).map(|_| (bound * (2.0 * uniform_f64(&mut rng) - 1.0)) as f32).collect();
    let weight = draw(classes * width as usize);
    (weight, draw(classes))
}

/// The mixture's weights, drawn from N(0, 1) (Box-Muller), block by block.
fn initial_mixture(seed: u64, width: i64) -> Vec<f32> {
    let mut rng = stream(seed, Purpose::HeadInitialisation, 0, 0, 1);
    let mut normal = || {
        let radius = (-2.0 * (1.0 - uniform_f64(&mut rng)).ln()).sqrt();
        (radius * (std::f64::consts::TAU * uniform_f64(&mut rng)).cos()) as f32
    };
    (0..BLOCKS * width).map(|_| normal()).collect()
}

/// The inverted dropout mask of a step, row by row: 0 with probability `rate`, else 1 / (1 - rate). None at rate 0.
pub fn dropout_mask(seed: u64, step: u64, rate: f64, elements: usize) -> Option<Vec<f32>> {
    if rate == 0.0 {
        return None;
    }
    let mut rng = stream(seed, Purpose::Dropout, 0, step, 0);
    let kept = (1.0 / (1.0 - rate)) as f32;
    Some((0..elements).map(|_| if f64::from(uniform_f32(&mut rng)) < rate { 0.0 } else { kept }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mask_keeps_the_mean_and_depends_on_the_step() {
        assert_eq!(dropout_mask(1, 0, 0.0, 10), None);
        let mask = dropout_mask(1, 0, 0.9, 50_000).unwrap();
        let mean = mask.iter().map(|&value| f64::from(value)).sum::<f64>() / 50_000.0;
        assert!((0.95..1.05).contains(&mean), "{mean}");
        assert!(mask.iter().all(|&value| value == 0.0 || (value - 10.0).abs() < 1e-4));
        assert_ne!(Some(mask), dropout_mask(1, 1, 0.9, 50_000));
    }

    #[test]
    fn the_head_is_pytorchs_default_and_moves_with_the_seed() {
        let (weight, bias) = initial_head(3, 1_280, 7);
        let bound = 1.0 / 1_280_f32.sqrt();
        assert_eq!((weight.len(), bias.len()), (7 * 1_280, 7));
        assert!(weight.iter().chain(&bias).all(|value| value.abs() <= bound));
        let deviation = (weight.iter().map(|value| value * value).sum::<f32>() / weight.len() as f32).sqrt();
        assert!((deviation / bound - 1.0 / 3_f32.sqrt()).abs() < 0.02, "{deviation}");
        assert_ne!(initial_head(3, 1_280, 7), initial_head(4, 1_280, 7));
    }

    #[test]
    fn the_mixture_starts_from_a_normal_distribution() {
        let values = initial_mixture(1, 20_000);
        let mean = values.iter().sum::<f32>() / values.len() as f32;
        let variance = values.iter().map(|value| value * value).sum::<f32>() / values.len() as f32;
        assert!(mean.abs() < 0.02 && (variance - 1.0).abs() < 0.02, "{mean} {variance}");
    }
}
