//! Linear fine-tuning: a trained mixture of the outputs of the last three blocks.

use sortie_core::finetune::BlockNorm;
use sortie_core::random::{Purpose, stream, uniform_f64};
use tch::{Device, Kind, TchError, Tensor};

use crate::model::Pass;

/// PyTorch's defaults of BatchNorm1d.
const BATCH_NORM_MOMENTUM: f64 = 0.1;
const BATCH_NORM_EPSILON: f64 = 1e-5;
/// Blocks that linear fine-tuning mixes.
pub(crate) const BLOCKS: i64 = 3;

/// The layer that linear fine-tuning puts on a frozen backbone: `sum v_i * phi_i`, element by element (paper, section 4.3).
pub(super) struct BlockMixture {
    /// [3, width].
    pub(super) weights: Tensor,
    normalisation: Option<Statistics>,
}

/// The running statistics of a BatchNorm1d without weight and bias over the blocks' outputs, [3 * width]. Training normalises by the batch,
/// evaluation by these.
pub(super) struct Statistics {
    pub(super) mean: Tensor,
    pub(super) variance: Tensor,
}

impl BlockMixture {
    /// The layer of a backbone with blocks of this width, initialised from a trial's seed.
    pub(super) fn fresh(
        block_norm: BlockNorm,
        seed: u64,
        width: i64,
        device: Device,
    ) -> Result<Self, TchError> {
        let weights = Tensor::f_from_slice(&initial_mixture(seed, width))?.f_to_device(device)?;
        let weights = weights.f_view([BLOCKS, width])?.f_set_requires_grad(true)?;
        let normalisation = match block_norm {
            BlockNorm::None => None,
            BlockNorm::Batch => Some(Statistics {
                mean: Tensor::f_zeros([BLOCKS * width], (Kind::Float, device))?,
                variance: Tensor::f_ones([BLOCKS * width], (Kind::Float, device))?,
            }),
        };
        Ok(Self { weights, normalisation })
    }

    /// What training moves besides the weights, where the blocks are normalised.
    pub(super) fn statistics(&self) -> Option<&Statistics> {
        self.normalisation.as_ref()
    }

    /// Features [n, 3 * width] to the representation [n, width].
    pub(super) fn forward(&self, features: &Tensor, pass: Pass) -> Result<Tensor, TchError> {
        let blocks = match &self.normalisation {
            None => features.shallow_clone(),
            Some(Statistics { mean, variance }) => features.f_batch_norm(
                None::<&Tensor>,
                None::<&Tensor>,
                Some(mean),
                Some(variance),
                pass == Pass::Train,
                BATCH_NORM_MOMENTUM,
                BATCH_NORM_EPSILON,
                false,
            )?,
        };
        let (n, width) = (features.size()[0], self.weights.size()[1]);
        let weighted = blocks.f_view([n, BLOCKS, width])?.f_mul(&self.weights)?;
        weighted.f_sum_dim_intlist([1].as_slice(), false, None)
    }
}

pub(super) fn no_blocks() -> TchError {
    TchError::Shape("the backbone has no three equally wide blocks at its end".to_owned())
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A training step on features [4, 6] of two classes, v and last layer given: loss and gradient of v as torch 2.11.0 computes them.
    /// The third column is the representation of the first two rows in evaluation after that step.
    const EXPECTED: [(BlockNorm, f64, [f32; 6], [f32; 4]); 2] = [
        (
            BlockNorm::None,
            4.387_636,
            [0.411_544, -0.359_161, 1.956_31, -0.369_715, 0.479_243, 0.179_643],
            [7.628_606, 8.429_679, -1.166_89, -2.867_852],
        ),
        (
            BlockNorm::Batch,
            2.803_967,
            [0.196_013, -0.249_294, 1.306_62, -0.264_850, 0.345_966, 0.168_778],
            [6.695_526, 7.516_582, -1.372_999, -3.012_073],
        ),
    ];

    #[test]
    fn blocks_are_mixed_as_pytorch_does_with_and_without_batch_norm() {
        let wave = |shape: &[i64], phase: f64| {
            let positions = Tensor::arange(shape.iter().product::<i64>(), (Kind::Double, Device::Cpu));
            ((positions * 0.7 + phase).sin() * 2.0 + 0.5).to_kind(Kind::Float).view(shape)
        };
        let (features, head) = (wave(&[4, 6], 0.1), wave(&[2, 2], 0.3));
        let labels = Tensor::from_slice(&[0_i64, 1, 1, 0]);
        for (block_norm, loss, gradient, evaluated) in EXPECTED {
            let mixture = BlockMixture::fresh(block_norm, 0, 2, Device::Cpu).unwrap();
            let weights = mixture.weights.shallow_clone();
            tch::no_grad(|| weights.shallow_clone().copy_(&wave(&[3, 2], 0.2)));
            let logits = mixture.forward(&features, Pass::Train).unwrap().matmul(&head.tr());
            let found = logits.cross_entropy_for_logits(&labels);
            assert!((found.double_value(&[]) - loss).abs() < 1e-6, "{block_norm}: {found:?}");
            let found = Tensor::run_backward(&[&found], &[&weights], false, false).remove(0);
            assert!(close(&found, &gradient), "{block_norm}: {found:?}");
            // After the running statistics have moved once, where there are any.
            let found = mixture.forward(&features.narrow(0, 0, 2), Pass::Evaluate).unwrap();
            assert!(close(&found, &evaluated), "{block_norm}: {found:?}");
            assert_eq!(mixture.statistics().is_some(), block_norm == BlockNorm::Batch);
        }
    }

    fn close(found: &Tensor, expected: &[f32]) -> bool {
        let found = Vec::<f32>::try_from(found.detach().flatten(0, -1)).unwrap();
        found.len() == expected.len() && found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 2e-5)
    }

    #[test]
    fn the_mixture_starts_from_a_normal_distribution() {
        let values = initial_mixture(1, 20_000);
        let mean = values.iter().sum::<f32>() / values.len() as f32;
        let variance = values.iter().map(|value| value * value).sum::<f32>() / values.len() as f32;
        assert!(mean.abs() < 0.02 && (variance - 1.0).abs() < 0.02, "{mean} {variance}");
    }
}
