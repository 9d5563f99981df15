//! EfficientNet-Lite: EfficientNet without squeeze-excite, with ReLU6, stem and head not scaled.
//!
//! Names, padding and constants are those of the network's original weights: TensorFlow's "same" padding, BatchNorm with eps 1e-3,
//! input (x - 127) / 128 for x in 0..=255.

use tch::{Device, TchError, Tensor};

use super::{Backbone, NamedTensor, Normalisation, Pass, StateDict};
use crate::error::TrialError;

const BATCH_NORM_EPSILON: f64 = 1e-3;
const STEM_CHANNELS: i64 = 32;
const HEAD_CHANNELS: i64 = 1_280;

/// A run of equal blocks.
struct Stage {
    repeats: usize,
    kernel: i64,
    /// Of the first block; the others have 1.
    stride: i64,
    expansion: i64,
    channels: i64,
}

const fn stage(repeats: usize, kernel: i64, stride: i64, expansion: i64, channels: i64) -> Stage {
    Stage { repeats, kernel, stride, expansion, channels }
}

const LITE0: [Stage; 7] = [
    stage(1, 3, 1, 1, 16),
    stage(2, 3, 2, 6, 24),
    stage(2, 5, 2, 6, 40),
    stage(3, 3, 2, 6, 80),
    stage(3, 5, 1, 6, 112),
    stage(4, 5, 2, 6, 192),
    stage(1, 3, 1, 6, 320),
];

/// An EfficientNet-Lite without its classifier.
pub struct EfficientNetLite {
    stem: Convolution,
    blocks: Vec<Block>,
    head: Convolution,
}

impl EfficientNetLite {
    /// Takes the tensors of EfficientNet-Lite0 out of a state dictionary and puts them on a device.
    ///
    /// # Errors
    /// [`TrialError::BadData`] when a tensor is missing, of another shape, or unexpected.
    pub fn lite0(state: &mut StateDict, device: Device) -> Result<Self, TrialError> {
        let network = Self::assemble(&LITE0, state, device)?;
        state.finish(|name| name.starts_with("_fc.") || name.ends_with(".num_batches_tracked"))?;
        Ok(network)
    }

    fn assemble(stages: &[Stage], state: &mut StateDict, device: Device) -> Result<Self, TrialError> {
        let mut loader = Loader { state, device };
        let stem = loader.convolution("_conv_stem", "_bn0", Shape::dense(3, STEM_CHANNELS, 3, 2))?;
        let mut blocks = Vec::new();
        let mut channels = STEM_CHANNELS;
        for stage in stages {
            for repeat in 0..stage.repeats {
                let stride = if repeat == 0 { stage.stride } else { 1 };
                blocks.push(Block::load(&mut loader, blocks.len(), channels, stage, stride)?);
                channels = stage.channels;
            }
        }
        let head = loader.convolution("_conv_head", "_bn1", Shape::dense(channels, HEAD_CHANNELS, 1, 1))?;
        Ok(Self { stem, blocks, head })
    }

    fn convolutions(&self) -> impl Iterator<Item = &Convolution> {
        let blocks = self.blocks.iter().flat_map(Block::convolutions);
        std::iter::once(&self.stem).chain(blocks).chain(std::iter::once(&self.head))
    }
}

impl Backbone for EfficientNetLite {
    fn width(&self) -> i64 {
        HEAD_CHANNELS
    }

    fn normalisation(&self) -> Normalisation {
        Normalisation { mean: [127.0 / 255.0; 3], deviation: [128.0 / 255.0; 3] }
    }

    fn block_features(&self, _: &Tensor) -> Result<Option<Tensor>, TchError> {
        Ok(None)
    }

    fn features(&self, images: &Tensor, _: Pass) -> Result<Tensor, TchError> {
        let mut x = self.stem.forward(images)?.f_relu6_()?;
        for block in &self.blocks {
            x = block.forward(x)?;
        }
        let x = self.head.forward(&x)?.f_relu6_()?;
        x.f_mean_dim([2, 3].as_slice(), false, None)
    }

    fn parameters(&self) -> Vec<NamedTensor> {
        self.convolutions().flat_map(Convolution::parameters).collect()
    }

    fn buffers(&self) -> Vec<NamedTensor> {
        self.convolutions().flat_map(Convolution::buffers).collect()
    }
}

/// Inverted residual: expand, filter each channel, project; the input is added where shapes agree.
struct Block {
    expand: Option<Convolution>,
    depthwise: Convolution,
    project: Convolution,
    residual: bool,
}

impl Block {
    fn load(loader: &mut Loader, index: usize, channels: i64, stage: &Stage, stride: i64) -> Result<Self, TrialError> {
        let name = |part: &str| format!("_blocks.{index}.{part}");
        let inner = channels * stage.expansion;
        let expand = if stage.expansion == 1 {
            None
        } else {
            Some(loader.convolution(&name("_expand_conv"), &name("_bn0"), Shape::dense(channels, inner, 1, 1))?)
        };
        let shape = Shape { inputs: 1, outputs: inner, kernel: stage.kernel, stride, groups: inner };
        let depthwise = loader.convolution(&name("_depthwise_conv"), &name("_bn1"), shape)?;
        let project = loader.convolution(&name("_project_conv"), &name("_bn2"), Shape::dense(inner, stage.channels, 1, 1))?;
        Ok(Self { expand, depthwise, project, residual: stride == 1 && channels == stage.channels })
    }

    fn forward(&self, input: Tensor) -> Result<Tensor, TchError> {
        let expanded = match &self.expand {
            Some(expand) => &expand.forward(&input)?.f_relu6_()?,
            None => &input,
        };
        let filtered = self.depthwise.forward(expanded)?.f_relu6_()?;
        let mut output = self.project.forward(&filtered)?;
        if self.residual { output.f_add_(&input) } else { Ok(output) }
    }

    fn convolutions(&self) -> impl Iterator<Item = &Convolution> {
        self.expand.iter().chain([&self.depthwise, &self.project])
    }
}

struct Shape {
    inputs: i64,
    outputs: i64,
    kernel: i64,
    stride: i64,
    groups: i64,
}

impl Shape {
    fn dense(inputs: i64, outputs: i64, kernel: i64, stride: i64) -> Self {
        Self { inputs, outputs, kernel, stride, groups: 1 }
    }
}

/// A convolution without bias and the frozen BatchNorm behind it.
///
/// With frozen statistics BatchNorm is an affine map per channel, so it is folded into the convolution at each use:
/// `w * gamma / sigma`, bias `beta - mean * gamma / sigma`. That is exact and differentiable, and saves two passes over every
/// activation and the memory that they hold.
struct Convolution {
    convolution_name: String,
    norm_name: String,
    weight: Tensor,
    gamma: Tensor,
    beta: Tensor,
    mean: Tensor,
    variance: Tensor,
    /// 1 / sqrt(variance + eps).
    inverse_deviation: Tensor,
    kernel: i64,
    stride: i64,
    groups: i64,
}

impl Convolution {
    fn forward(&self, x: &Tensor) -> Result<Tensor, TchError> {
        let scale = self.gamma.f_mul(&self.inverse_deviation)?;
        let weight = self.weight.f_mul(&scale.f_view([-1, 1, 1, 1])?)?;
        let bias = self.beta.f_sub(&self.mean.f_mul(&scale)?)?;
        let (_, _, height, width) = x.size4()?;
        let (top, bottom) = same_padding(height, self.kernel, self.stride);
        let (left, right) = same_padding(width, self.kernel, self.stride);
        let strides = [self.stride; 2];
        if top == bottom && left == right {
            return x.f_conv2d(&weight, Some(&bias), strides, [top, left], [1, 1], self.groups);
        }
        let padded = x.f_constant_pad_nd([left, right, top, bottom])?;
        padded.f_conv2d(&weight, Some(&bias), strides, [0, 0], [1, 1], self.groups)
    }

    fn parameters(&self) -> [NamedTensor; 3] {
        [
            named(&self.convolution_name, "weight", &self.weight),
            named(&self.norm_name, "weight", &self.gamma),
            named(&self.norm_name, "bias", &self.beta),
        ]
    }

    fn buffers(&self) -> [NamedTensor; 2] {
        [named(&self.norm_name, "running_mean", &self.mean), named(&self.norm_name, "running_var", &self.variance)]
    }
}

fn named(module: &str, part: &str, tensor: &Tensor) -> NamedTensor {
    NamedTensor { name: format!("{module}.{part}"), tensor: tensor.shallow_clone() }
}

/// TensorFlow's "same" padding before and after one dimension: output `ceil(size / stride)`, the odd pixel behind.
fn same_padding(size: i64, kernel: i64, stride: i64) -> (i64, i64) {
    let outputs = (size + stride - 1) / stride;
    let total = ((outputs - 1) * stride + kernel - size).max(0);
    (total / 2, total - total / 2)
}

struct Loader<'a> {
    state: &'a mut StateDict,
    device: Device,
}

impl Loader<'_> {
    fn convolution(&mut self, convolution: &str, norm: &str, shape: Shape) -> Result<Convolution, TrialError> {
        let Shape { inputs, outputs, kernel, stride, groups } = shape;
        let weight = self.take(&format!("{convolution}.weight"), &[outputs, inputs, kernel, kernel])?;
        let [gamma, beta, mean, variance] = [
            self.take(&format!("{norm}.weight"), &[outputs])?,
            self.take(&format!("{norm}.bias"), &[outputs])?,
            self.take(&format!("{norm}.running_mean"), &[outputs])?,
            self.take(&format!("{norm}.running_var"), &[outputs])?,
        ];
        let inverse_deviation = variance.f_add_scalar(BATCH_NORM_EPSILON)?.f_rsqrt()?;
        Ok(Convolution {
            convolution_name: convolution.to_owned(),
            norm_name: norm.to_owned(),
            weight: weight.f_set_requires_grad(true)?,
            gamma: gamma.f_set_requires_grad(true)?,
            beta: beta.f_set_requires_grad(true)?,
            mean,
            variance,
            inverse_deviation,
            kernel,
            stride,
            groups,
        })
    }

    fn take(&mut self, name: &str, shape: &[i64]) -> Result<Tensor, TrialError> {
        Ok(self.state.take(name, shape)?.f_to_device(self.device)?)
    }
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
