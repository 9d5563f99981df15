//! Folds BatchNorms into the convolutions before them.

use sortie_core::finetune::BatchNorm;
use tch::{TchError, Tensor};

use super::Pass;
use super::convolution::{Convolution, FoldedConvolutions};
use crate::libtorch;

/// The BatchNorms of a network, folded into its convolutions at each pass.
///
/// With frozen statistics a BatchNorm is an affine map per channel, so it can be a part of the convolution before it:
/// `w * gamma / sigma`, bias `beta - mean * gamma / sigma`. That is exact and differentiable, and saves two passes over every
/// activation and the memory that they hold. With live ones it is done only where nothing is trained.
pub(super) struct BatchNormFolding {
    /// The frozen statistics; none when they are live.
    frozen: Option<BatchNormStatistics>,
}

impl BatchNormFolding {
    /// The BatchNorms behind a network's convolutions.
    ///
    /// # Errors
    /// What libtorch reports.
    pub(super) fn new<'a>(
        convolutions: impl Iterator<Item = &'a Convolution>,
        batch_norm: BatchNorm,
    ) -> Result<Self, TchError> {
        Ok(match batch_norm {
            BatchNorm::Live => Self { frozen: None },
            BatchNorm::Frozen => Self { frozen: Some(BatchNormStatistics::new(convolutions)?) },
        })
    }

    /// Folds the BatchNorms into the same convolutions, in the same order.
    ///
    /// # Errors
    /// What libtorch reports, out of memory above all.
    pub(super) fn fold<'a>(
        &self,
        convolutions: impl Iterator<Item = &'a Convolution>,
        pass: Pass,
    ) -> Result<FoldedConvolutions, TchError> {
        let convolutions: Vec<_> = convolutions.collect();
        let current;
        let BatchNormStatistics { inverse_deviation, shift } = match &self.frozen {
            Some(frozen) => frozen,
            None if pass == Pass::Train => return Ok(FoldedConvolutions::default()),
            None => {
                current = BatchNormStatistics::new(convolutions.iter().copied())?;
                &current
            }
        };
        let Some(compute) = convolutions.first().map(|convolution| convolution.compute) else {
            return Ok(FoldedConvolutions::default());
        };
        let tensors = |part: fn(&Convolution) -> &Tensor| {
            convolutions.iter().map(|convolution| part(convolution)).collect::<Vec<_>>()
        };
        let parts =
            [tensors(|c| &c.weight.tensor), tensors(|c| &c.gamma.tensor), tensors(|c| &c.beta.tensor)];
        let folded = libtorch::fold([&parts[0], &parts[1], &parts[2]], inverse_deviation, shift, compute)?;
        Ok(FoldedConvolutions::new(convolutions.into_iter().zip(folded)))
    }
}

/// The statistics of all channels, one convolution behind the other, as factors of gamma.
struct BatchNormStatistics {
    /// 1 / sigma, with sigma = sqrt(variance + epsilon).
    inverse_deviation: Tensor,
    /// -mean / sigma.
    shift: Tensor,
}

impl BatchNormStatistics {
    fn new<'a>(convolutions: impl Iterator<Item = &'a Convolution>) -> Result<Self, TchError> {
        let (mut inverse_deviations, mut shifts) = (Vec::new(), Vec::new());
        for Convolution { mean, variance, epsilon, .. } in convolutions {
            let inverse_deviation = variance.tensor.f_add_scalar(*epsilon)?.f_rsqrt()?;
            shifts.push(mean.tensor.f_mul(&inverse_deviation)?.f_neg()?);
            inverse_deviations.push(inverse_deviation);
        }
        Ok(Self {
            inverse_deviation: Tensor::f_cat(&inverse_deviations, 0)?,
            shift: Tensor::f_cat(&shifts, 0)?,
        })
    }
}
