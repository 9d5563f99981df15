//! A convolution and the BatchNorm behind it, the building block of all convolutional networks here.

use std::collections::HashMap;

use tch::{Device, Kind, TchError, Tensor};

use super::NamedTensor;
use super::source::{Initial, Source};
use crate::error::TrialError;
use crate::libtorch;

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
pub(super) struct Convolution {
    pub(super) weight: NamedTensor,
    pub(super) gamma: NamedTensor,
    pub(super) beta: NamedTensor,
    pub(super) mean: NamedTensor,
    pub(super) variance: NamedTensor,
    pub(super) epsilon: f64,
    geometry: Geometry,
    pub(super) compute: Kind,
}

impl Convolution {
    /// Asks for the tensors of a convolution and of the BatchNorm behind it. From scratch, kernels are normal with variance
    /// 2 / (outputs * kernel^2), "fan out", and BatchNorm is the identity, as in torchvision's constructors.
    pub(super) fn load(
        source: &mut Source,
        convolution: &str,
        norm: &str,
        epsilon: f64,
        geometry: Geometry,
    ) -> Result<Self, TrialError> {
        let Geometry { inputs, outputs, kernel, groups, .. } = geometry;
        let deviation = (2.0 / (outputs * kernel * kernel) as f64).sqrt();
        let shape = [outputs, inputs / groups, kernel, kernel];
        let weight = source.parameter(format!("{convolution}.weight"), &shape, Initial::Normal(deviation))?;
        let gamma = source.parameter(format!("{norm}.weight"), &[outputs], Initial::Constant(1.0))?;
        let beta = source.parameter(format!("{norm}.bias"), &[outputs], Initial::Constant(0.0))?;
        let mean = source.buffer(format!("{norm}.running_mean"), &[outputs], Initial::Constant(0.0))?;
        let variance = source.buffer(format!("{norm}.running_var"), &[outputs], Initial::Constant(1.0))?;
        Ok(Self { weight, gamma, beta, mean, variance, epsilon, geometry, compute: source.compute() })
    }

    /// The normalised output, in the number format of products, which `x` must have; `folded` must be the network's for this pass.
    pub(super) fn forward(&self, x: &Tensor, folded: &FoldedConvolutions) -> Result<Tensor, TchError> {
        if let Some((weight, bias)) = folded.get(self) {
            return self.convolve(x, weight, Some(bias));
        }
        let weight = self.weight.tensor.f_to_kind(self.compute)?;
        let output = self.convolve(x, &weight, None)?;
        let [gamma, beta, mean, variance] =
            [&self.gamma, &self.beta, &self.mean, &self.variance].map(|named| &named.tensor);
        output.f_batch_norm(
            Some(gamma),
            Some(beta),
            Some(mean),
            Some(variance),
            true,
            MOMENTUM,
            self.epsilon,
            true,
        )
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
            return libtorch::depthwise(&x?, &weight?, &bias?, stride, [top, bottom, left, right])?
                .f_to_kind(self.compute);
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

/// Kernels and biases that hold their BatchNorms, for one pass; empty where a BatchNorm uses the statistics of the batch.
#[derive(Default)]
pub(super) struct FoldedConvolutions(HashMap<*const Convolution, (Tensor, Tensor)>);

impl FoldedConvolutions {
    /// The kernel and the bias of each convolution.
    pub(super) fn new<'a>(folded: impl Iterator<Item = (&'a Convolution, (Tensor, Tensor))>) -> Self {
        Self(folded.map(|(convolution, tensors)| (std::ptr::from_ref(convolution), tensors)).collect())
    }

    fn get(&self, convolution: &Convolution) -> Option<&(Tensor, Tensor)> {
        self.0.get(&std::ptr::from_ref(convolution))
    }
}

/// TensorFlow's "same" padding before and after one dimension: output `ceil(size / stride)`, the odd pixel behind.
pub(crate) fn same_padding(size: i64, kernel: i64, stride: i64) -> (i64, i64) {
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
