//! Hands a network its tensors, from a weights file or by random initialisation.

use std::f64::consts::TAU;

use rand_chacha::ChaCha8Rng;
use sortie_core::finetune::{BatchNorm, Precision};
use sortie_core::random::{Purpose, stream, uniform_f64};
use tch::{Device, Kind, TchError, Tensor};

use super::{NamedTensor, StateDict};
use crate::error::TrialError;

/// The distribution of a tensor's values in random initialisation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Initial {
    /// The same everywhere.
    Constant(f64),
    /// Uniform within this bound on both sides of zero.
    Uniform(f64),
    /// Normal around zero with this deviation.
    Normal(f64),
}

/// The last layer of a pretrained network: weight `[classes, width]` and bias `[classes]`.
pub type Classifier = (Tensor, Tensor);

/// Hands a network its tensors one by one, on their device and ready for training.
pub struct Source {
    origin: Origin,
    device: Device,
    compute: Kind,
}

enum Origin {
    File(StateDict),
    /// The seed, and how many tensors were asked for so far.
    Scratch {
        seed: u64,
        position: u64,
        batch_norm: BatchNorm,
    },
    /// Tensors of the right sizes that take no room.
    Outline,
}

impl Source {
    /// The tensors of a weights file.
    pub fn file(state: StateDict, device: Device, precision: Precision) -> Self {
        Self { origin: Origin::File(state), device, compute: compute_kind(precision) }
    }

    /// Random initialisation. The numbers of a tensor come from the counter (seed, backbone initialisation, position among the tensors that
    /// the network asks for), so that they depend on nothing else.
    pub fn scratch(seed: u64, device: Device, precision: Precision, batch_norm: BatchNorm) -> Self {
        let origin = Origin::Scratch { seed, position: 0, batch_norm };
        Self { origin, device, compute: compute_kind(precision) }
    }

    /// Tensors of the right sizes without values of their own, for what wants to know the names and sizes only.
    pub(super) fn outline() -> Self {
        Self { origin: Origin::Outline, device: Device::Cpu, compute: Kind::Float }
    }

    /// Which statistics the network's BatchNorm layers use in training. Those of a file are frozen.
    pub(super) fn batch_norm(&self) -> BatchNorm {
        match self.origin {
            Origin::File(_) => BatchNorm::Frozen,
            Origin::Scratch { batch_norm, .. } => batch_norm,
            // Nothing is computed from tensors that take no room.
            Origin::Outline => BatchNorm::Live,
        }
    }

    /// The number format of products.
    pub(super) fn compute(&self) -> Kind {
        self.compute
    }

    /// A tensor that training changes.
    pub(super) fn parameter(
        &mut self,
        name: String,
        shape: &[i64],
        initial: Initial,
    ) -> Result<NamedTensor, TrialError> {
        let NamedTensor { name, tensor } = self.buffer(name, shape, initial)?;
        Ok(NamedTensor { name, tensor: tensor.f_set_requires_grad(true)? })
    }

    /// A tensor that no gradient reaches. Kernels of convolutions lie channels last, as their inputs do.
    pub(super) fn buffer(
        &mut self,
        name: String,
        shape: &[i64],
        initial: Initial,
    ) -> Result<NamedTensor, TrialError> {
        let tensor = match &mut self.origin {
            Origin::File(state) => state.take(&name, shape)?,
            Origin::Scratch { seed, position, .. } => {
                let mut rng = stream(*seed, Purpose::BackboneInitialisation, 0, 0, *position);
                *position += 1;
                initial.draw(shape, &mut rng)?
            }
            Origin::Outline => {
                let tensor = Tensor::f_zeros([1], (Kind::Float, Device::Cpu))?.f_expand(shape, false)?;
                return Ok(NamedTensor { name, tensor });
            }
        };
        let tensor = tensor.f_to_device(self.device)?;
        let tensor = if shape.len() == 4 { channels_last(&tensor)? } else { tensor };
        Ok(NamedTensor { name, tensor })
    }

    /// The pretrained classifier, if there is one, once the network has all its tensors.
    pub(super) fn finish(self, classifier: Option<&str>, width: i64) -> Option<Classifier> {
        let Origin::File(mut state) = self.origin else { return None };
        state.take_classifier(classifier?, width)
    }
}

/// TF32 is a setting of the GPU's libraries (`sortie_worker::launcher`). Its tensors are in single precision.
fn compute_kind(precision: Precision) -> Kind {
    if precision == Precision::Bf16 { Kind::BFloat16 } else { Kind::Float }
}

/// The same [n, channels, height, width] tensor with its channels adjacent in memory; tch has no name for that layout.
pub(super) fn channels_last(tensor: &Tensor) -> Result<Tensor, TchError> {
    tensor.f_permute([0, 2, 3, 1])?.f_contiguous()?.f_permute([0, 3, 1, 2])
}

impl Initial {
    fn draw(self, shape: &[i64], rng: &mut ChaCha8Rng) -> Result<Tensor, TchError> {
        let count = shape.iter().product::<i64>() as usize;
        let values: Vec<f32> = match self {
            Self::Constant(value) => vec![value as f32; count],
            Self::Uniform(bound) => {
                (0..count).map(|_| (bound * (2.0 * uniform_f64(rng) - 1.0)) as f32).collect()
            }
            Self::Normal(deviation) => normal(count, deviation, rng),
        };
        Tensor::f_from_slice(&values)?.f_view(shape)
    }
}

/// Box and Muller's transform: both numbers of every pair are used.
fn normal(count: usize, deviation: f64, rng: &mut ChaCha8Rng) -> Vec<f32> {
    let mut values = Vec::with_capacity(count + 1);
    while values.len() < count {
        // 1 - u lies in (0, 1], where the logarithm is finite.
        let radius = deviation * (-2.0 * (1.0 - uniform_f64(rng)).ln()).sqrt();
        let (sine, cosine) = (TAU * uniform_f64(rng)).sin_cos();
        values.extend([(radius * cosine) as f32, (radius * sine) as f32]);
    }
    values.truncate(count);
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normal_numbers_have_their_moments() {
        let mut rng = stream(1, Purpose::BackboneInitialisation, 0, 0, 0);
        let values = normal(100_001, 2.0, &mut rng);
        assert_eq!(values.len(), 100_001);
        let moment = |power: i32| {
            values.iter().map(|&value| f64::from(value / 2.0).powi(power)).sum::<f64>() / values.len() as f64
        };
        for (power, expected, tolerance) in [(1, 0.0, 0.01), (2, 1.0, 0.02), (3, 0.0, 0.05), (4, 3.0, 0.1)] {
            assert!((moment(power) - expected).abs() < tolerance, "moment {power}: {}", moment(power));
        }
    }

    #[test]
    fn a_tensor_depends_on_the_seed_and_on_its_place() {
        let tensor = |seed, skipped| {
            let mut source = Source::scratch(seed, Device::Cpu, Precision::Fp32, BatchNorm::Live);
            for _ in 0..skipped {
                source.buffer("before".into(), &[3], Initial::Constant(0.0)).unwrap();
            }
            source.parameter("w".into(), &[4, 2, 3, 3], Initial::Uniform(0.1)).unwrap().tensor
        };
        assert_eq!(tensor(5, 1), tensor(5, 1));
        assert_ne!(tensor(5, 1), tensor(6, 1));
        assert_ne!(tensor(5, 1), tensor(5, 2));
        assert!(tensor(5, 0).requires_grad());
    }
}
