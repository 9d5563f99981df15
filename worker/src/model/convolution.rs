//! A convolution and the BatchNorm behind it: what all convolutional networks here are made of.

use tch::{Device, Kind, TchError, Tensor};

use super::source::{Initial, Source};
use super::{NamedTensor, Pass, kernels};
use crate::error::TrialError;

/// How far a batch's statistics move the running ones, as in PyTorch's constructor.
const MOMENTUM: f64 = 0.1;

/// Where zeros are added around the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Padding {
    /// Half of the kernel on each side.
    Symmetric,
    /// TensorFlow's "same": as many as make the output `ceil(size / stride)`, the odd one behind.
    Same,
}

/// The shape of a convolution with a square kernel.
#[derive(Clone, Copy, Debug)]
pub(super) struct Geometry {
    pub(super) inputs: i64,
    pub(super) outputs: i64,
    pub(super) kernel: i64,
    pub(super) stride: i64,
    /// Each of so many parts of the channels is filtered by itself.
    pub(super) groups: i64,
    pub(super) padding: Padding,
}

/// A convolution without bias and the BatchNorm behind it.
///
/// With frozen statistics BatchNorm is an affine map per channel, so it is folded into the convolution at each use:
/// `w * gamma / sigma`, bias `beta - mean * gamma / sigma`. That is exact and differentiable, and saves two passes over every
/// activation and the memory that they hold. With live ones it is folded only where nothing is trained.
pub(super) struct Convolution {
    weight: NamedTensor,
    gamma: NamedTensor,
    beta: NamedTensor,
    mean: NamedTensor,
    variance: NamedTensor,
    epsilon: f64,
    /// What frozen statistics come down to; none when they are live.
    frozen: Option<Statistics>,
    geometry: Geometry,
    compute: Kind,
}

impl Convolution {
    /// Asks for the tensors of a convolution and of the BatchNorm behind it. From scratch, kernels are normal with variance
    /// 2 / (outputs * kernel^2), "fan out", and BatchNorm is the identity, as in torchvision's constructors.
    pub(super) fn load(source: &mut Source, convolution: &str, norm: &str, epsilon: f64, geometry: Geometry) -> Result<Self, TrialError> {
        let Geometry { inputs, outputs, kernel, groups, .. } = geometry;
        let deviation = (2.0 / (outputs * kernel * kernel) as f64).sqrt();
        let shape = [outputs, inputs / groups, kernel, kernel];
        let weight = source.parameter(format!("{convolution}.weight"), &shape, Initial::Normal(deviation))?;
        let gamma = source.parameter(format!("{norm}.weight"), &[outputs], Initial::Constant(1.0))?;
        let beta = source.parameter(format!("{norm}.bias"), &[outputs], Initial::Constant(0.0))?;
        let mean = source.buffer(format!("{norm}.running_mean"), &[outputs], Initial::Constant(0.0))?;
        let variance = source.buffer(format!("{norm}.running_var"), &[outputs], Initial::Constant(1.0))?;
        let frozen = if source.is_scratch() { None } else { Some(Statistics::new(&mean.tensor, &variance.tensor, epsilon)?) };
        Ok(Self { weight, gamma, beta, mean, variance, epsilon, frozen, geometry, compute: source.compute() })
    }

    /// The normalised output, in the number format of products, which `x` must have.
    pub(super) fn forward(&self, x: &Tensor, pass: Pass) -> Result<Tensor, TchError> {
        if self.frozen.is_none() && pass == Pass::Train {
            let weight = self.weight.tensor.f_to_kind(self.compute)?;
            let output = self.convolve(x, &weight, None)?;
            let [gamma, beta, mean, variance] = [&self.gamma, &self.beta, &self.mean, &self.variance].map(|named| &named.tensor);
            return output.f_batch_norm(Some(gamma), Some(beta), Some(mean), Some(variance), true, MOMENTUM, self.epsilon, true);
        }
        let current;
        let Statistics { inverse_deviation, shift } = match &self.frozen {
            Some(frozen) => frozen,
            None => {
                current = Statistics::new(&self.mean.tensor, &self.variance.tensor, self.epsilon)?;
                &current
            }
        };
        let scale = self.gamma.tensor.f_mul(inverse_deviation)?.f_view([-1, 1, 1, 1])?;
        let weight = self.weight.tensor.f_mul(&scale)?;
        let bias = self.beta.tensor.f_addcmul(&self.gamma.tensor, shift)?;
        // Folded in single precision, then rounded once.
        self.convolve(x, &weight.f_to_kind(self.compute)?, Some(&bias.f_to_kind(self.compute)?))
    }

    fn convolve(&self, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor, TchError> {
        let Geometry { kernel, stride, groups, padding, .. } = self.geometry;
        if padding == Padding::Symmetric {
            return x.f_conv2d(weight, bias, [stride; 2], [kernel / 2; 2], [1, 1], groups);
        }
        let (_, _, height, width) = x.size4()?;
        let (top, bottom) = same_padding(height, kernel, stride);
        let (left, right) = same_padding(width, kernel, stride);
        if let Some(bias) = bias
            && groups == x.size()[1]
            && x.device() == Device::Cpu
        {
            // In bf16 oneDNN's gradients of these are slower by far than in single precision.
            let [x, weight, bias] = [x, weight, bias].map(|tensor| tensor.f_to_kind(Kind::Float));
            return kernels::depthwise(&x?, &weight?, &bias?, stride, [top, bottom, left, right])?.f_to_kind(self.compute);
        }
        if top == bottom && left == right {
            return x.f_conv2d(weight, bias, [stride; 2], [top, left], [1, 1], groups);
        }
        let padded = x.f_constant_pad_nd([left, right, top, bottom])?;
        padded.f_conv2d(weight, bias, [stride; 2], [0, 0], [1, 1], groups)
    }

    /// What training changes.
    pub(super) fn parameters(&self) -> [NamedTensor; 3] {
        [self.weight.share(), self.gamma.share(), self.beta.share()]
    }

    /// The running statistics.
    pub(super) fn buffers(&self) -> [NamedTensor; 2] {
        [self.mean.share(), self.variance.share()]
    }
}

/// A channel's statistics as factors of gamma.
struct Statistics {
    /// 1 / sigma, with sigma = sqrt(variance + epsilon).
    inverse_deviation: Tensor,
    /// -mean / sigma.
    shift: Tensor,
}

impl Statistics {
    fn new(mean: &Tensor, variance: &Tensor, epsilon: f64) -> Result<Self, TchError> {
        let inverse_deviation = variance.f_add_scalar(epsilon)?.f_rsqrt()?;
        let shift = mean.f_mul(&inverse_deviation)?.f_neg()?;
        Ok(Self { inverse_deviation, shift })
    }
}

/// TensorFlow's "same" padding before and after one dimension: output `ceil(size / stride)`, the odd pixel behind.
pub(super) fn same_padding(size: i64, kernel: i64, stride: i64) -> (i64, i64) {
    let outputs = (size + stride - 1) / stride;
    let total = ((outputs - 1) * stride + kernel - size).max(0);
    (total / 2, total - total / 2)
}

/// Images [n, 3, height, width] as convolutions want them: channels last and in the number format of products.
pub(super) fn prepared(images: &Tensor, compute: Kind) -> Result<Tensor, TchError> {
    super::source::channels_last(images)?.f_to_kind(compute)
}

/// The average over height and width, [n, channels], in single precision.
pub(super) fn pooled(x: &Tensor) -> Result<Tensor, TchError> {
    x.f_mean_dim([2, 3].as_slice(), false, Kind::Float)
}

#[cfg(test)]
mod tests {
    use super::same_padding;

    #[test]
    fn same_padding_is_tensorflows() {
        assert_eq!(same_padding(64, 3, 1), (1, 1));
        assert_eq!(same_padding(64, 3, 2), (0, 1));
        assert_eq!(same_padding(97, 3, 2), (1, 1));
        assert_eq!(same_padding(56, 5, 2), (1, 2));
        assert_eq!(same_padding(7, 1, 1), (0, 0));
        assert_eq!(same_padding(1, 3, 2), (1, 1));
    }
}
