//! Linear fine-tuning: a trained mixture of the outputs of the last three blocks.

use sortie_core::random::{Purpose, stream, uniform_f64};
use tch::{Device, Kind, TchError, Tensor};

use crate::model::Pass;

/// PyTorch's defaults of BatchNorm1d.
const BATCH_NORM_MOMENTUM: f64 = 0.1;
const BATCH_NORM_EPSILON: f64 = 1e-5;
/// Blocks that linear fine-tuning mixes.
pub(crate) const BLOCKS: i64 = 3;

/// The layer that linear fine-tuning puts on a frozen backbone: `sum v_i * normalised(phi_i)`, element by element (paper, section 4.3).
///
/// The normalisation is a BatchNorm1d without weight and bias: by the batch in training, by running statistics in evaluation.
pub(super) struct BlockMixture {
    /// [3, width].
    pub(super) weights: Tensor,
    /// [3 * width].
    pub(super) mean: Tensor,
    pub(super) variance: Tensor,
}

impl BlockMixture {
    /// The layer of a backbone with blocks of this width, initialised from a trial's seed.
    pub(super) fn fresh(seed: u64, width: i64, device: Device) -> Result<Self, TchError> {
        let weights = Tensor::f_from_slice(&initial_mixture(seed, width))?.f_to_device(device)?;
        let weights = weights.f_view([BLOCKS, width])?.f_set_requires_grad(true)?;
        let statistics = ([BLOCKS * width], (Kind::Float, device));
        let (mean, variance) =
            (Tensor::f_zeros(statistics.0, statistics.1)?, Tensor::f_ones(statistics.0, statistics.1)?);
        Ok(Self { weights, mean, variance })
    }

    /// Features [n, 3 * width] to the representation [n, width].
    pub(super) fn forward(&self, features: &Tensor, pass: Pass) -> Result<Tensor, TchError> {
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

    #[test]
    fn the_mixture_starts_from_a_normal_distribution() {
        let values = initial_mixture(1, 20_000);
        let mean = values.iter().sum::<f32>() / values.len() as f32;
        let variance = values.iter().map(|value| value * value).sum::<f32>() / values.len() as f32;
        assert!(mean.abs() < 0.02 && (variance - 1.0).abs() < 0.02, "{mean} {variance}");
    }
}
