//! Backbone, dropout and a fresh last layer (docs/protocol.md, "Model").

use sortie_core::random::{Purpose, stream, uniform_f32, uniform_f64};
use tch::{Device, TchError, Tensor};

use crate::model::{Backbone, NamedTensor, Pass};

/// A network that is fine-tuned: `head(dropout(features(x)))`.
pub struct Network {
    backbone: Box<dyn Backbone>,
    head_weight: Tensor,
    head_bias: Tensor,
}

impl Network {
    /// Puts a last layer with these values (weight row by row, bias) on a backbone.
    ///
    /// # Errors
    /// What libtorch reports.
    pub fn new(backbone: Box<dyn Backbone>, weight: &[f32], bias: &[f32], device: Device) -> Result<Self, TchError> {
        let on_device = |values: &[f32]| Tensor::f_from_slice(values)?.f_to_device(device);
        let head_weight = on_device(weight)?.f_view([bias.len() as i64, backbone.width()])?.f_set_requires_grad(true)?;
        let head_bias = on_device(bias)?.f_set_requires_grad(true)?;
        Ok(Self { backbone, head_weight, head_bias })
    }

    /// The logits [n, classes] of network inputs; the representation is multiplied by `mask` [n, width] where one is given.
    ///
    /// # Errors
    /// What libtorch reports, out of memory above all.
    pub fn logits(&self, inputs: &Tensor, mask: Option<&Tensor>) -> Result<Tensor, TchError> {
        let features = self.backbone.features(inputs, if mask.is_some() { Pass::Train } else { Pass::Evaluate })?;
        let features = match mask {
            Some(mask) => features.f_mul(mask)?,
            None => features,
        };
        features.f_linear(&self.head_weight, Some(&self.head_bias))
    }

    /// Length of the penultimate representation.
    pub fn width(&self) -> i64 {
        self.backbone.width()
    }

    /// The backbone's trained tensors.
    pub fn backbone_parameters(&self) -> Vec<NamedTensor> {
        self.backbone.parameters()
    }

    /// The last layer's trained tensors.
    pub fn head_parameters(&self) -> Vec<NamedTensor> {
        let named = |name: &str, tensor: &Tensor| NamedTensor { name: name.to_owned(), tensor: tensor.shallow_clone() };
        vec![named("head.weight", &self.head_weight), named("head.bias", &self.head_bias)]
    }
}

/// PyTorch's default initialisation of `Linear`: weight (row by row) and bias uniform within 1/sqrt(width).
pub fn initial_head(seed: u64, width: i64, classes: usize) -> (Vec<f32>, Vec<f32>) {
    let mut rng = stream(seed, Purpose::HeadInitialisation, 0, 0, 0);
    let bound = 1.0 / (width as f64).sqrt();
    let mut draw = |count: usize| (0..count).map(|_| (bound * (2.0 * uniform_f64(&mut rng) - 1.0)) as f32).collect();
    let weight = draw(classes * width as usize);
    (weight, draw(classes))
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
        assert_ne!(weight, initial_head(4, 1_280, 7).0);
    }
}
