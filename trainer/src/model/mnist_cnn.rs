//! DomainBed's small CNN for digits (docs/protocol.md, "Data protocol"): four 3x3 convolutions with ReLU, then GroupNorm, and the mean.

use tch::{Kind, TchError, Tensor};

use super::convolution::{pooled, prepared};
use super::source::{Initial, Source};
use super::{ArchitectureInfo, Backbone, NamedTensor, Normalisation, Pass};
use crate::error::TrialError;

const GROUPS: i64 = 8;
const GROUP_NORM_EPSILON: f64 = 1e-5;
/// Inputs, outputs and stride of each convolution.
const LAYERS: [[i64; 3]; 4] = [[3, 64, 1], [64, 128, 2], [128, 128, 1], [128, 128, 1]];

/// What is known about it. Digits stay in [0, 1].
pub(super) const FACTS: ArchitectureInfo = ArchitectureInfo {
    width: 128,
    normalisation: Normalisation { mean: [0.0; 3], deviation: [1.0; 3] },
    classifier: None,
};

/// The network; it takes any size of at least one pixel.
pub(super) struct MnistCnn {
    layers: Vec<Layer>,
    compute: Kind,
}

struct Layer {
    weight: NamedTensor,
    bias: NamedTensor,
    gamma: NamedTensor,
    beta: NamedTensor,
    stride: i64,
}

impl MnistCnn {
    /// Asks for the tensors of the network. From scratch, kernels and biases are uniform within 1 / sqrt(inputs * 9), PyTorch's default.
    ///
    /// # Errors
    /// [`TrialError::BadData`] when a tensor is missing or of another shape.
    pub(super) fn load(source: &mut Source) -> Result<Self, TrialError> {
        let mut layers = Vec::new();
        for (index, [inputs, outputs, stride]) in LAYERS.into_iter().enumerate() {
            let uniform = Initial::Uniform((1.0 / (inputs * 9) as f64).sqrt());
            // Convolutions count from one, their norms from zero.
            let (convolution, norm) = (format!("conv{}", index + 1), format!("bn{index}"));
            layers.push(Layer {
                weight: source.parameter(
                    format!("{convolution}.weight"),
                    &[outputs, inputs, 3, 3],
                    uniform,
                )?,
                bias: source.parameter(format!("{convolution}.bias"), &[outputs], uniform)?,
                gamma: source.parameter(format!("{norm}.weight"), &[outputs], Initial::Constant(1.0))?,
                beta: source.parameter(format!("{norm}.bias"), &[outputs], Initial::Constant(0.0))?,
                stride,
            });
        }
        Ok(Self { layers, compute: source.compute() })
    }
}

impl Layer {
    fn forward(&self, x: &Tensor, compute: Kind) -> Result<Tensor, TchError> {
        let (weight, bias) = (self.weight.tensor.f_to_kind(compute)?, self.bias.tensor.f_to_kind(compute)?);
        let mut x = x.f_conv2d(&weight, Some(&bias), [self.stride; 2], [1, 1], [1, 1], 1)?;
        let x = x.f_relu_()?.f_to_kind(Kind::Float)?;
        x.f_group_norm(GROUPS, Some(&self.gamma.tensor), Some(&self.beta.tensor), GROUP_NORM_EPSILON, true)?
            .f_to_kind(compute)
    }
}

impl Backbone for MnistCnn {
    fn width(&self) -> i64 {
        FACTS.width
    }

    fn normalisation(&self) -> Normalisation {
        FACTS.normalisation
    }

    fn features(&self, images: &Tensor, _: Pass) -> Result<Tensor, TchError> {
        let mut x = prepared(images, self.compute)?;
        for layer in &self.layers {
            x = layer.forward(&x, self.compute)?;
        }
        pooled(&x)
    }

    fn block_width(&self) -> Option<i64> {
        None
    }

    fn block_features(&self, _: &Tensor) -> Result<Option<Tensor>, TchError> {
        Ok(None)
    }

    fn parameters(&self) -> Vec<NamedTensor> {
        let tensors =
            self.layers.iter().flat_map(|layer| [&layer.weight, &layer.bias, &layer.gamma, &layer.beta]);
        tensors.map(NamedTensor::share).collect()
    }

    fn buffers(&self) -> Vec<NamedTensor> {
        Vec::new()
    }
}
