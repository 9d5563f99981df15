//! Logits of evaluation batches.

use tch::{TchError, Tensor, no_grad};

use super::super::Network;
use super::super::inputs::EVALUATION_BATCH;
use crate::model::Pass;

/// The logits of an evaluation batch.
///
/// On a GPU, a batch that is smaller than others is padded with copies of its first image. A GPU's libraries prepare for each new batch
/// size, which takes longer than the additional images do.
pub(crate) fn evaluation_logits(network: &Network, inputs: &Tensor) -> Result<Tensor, TchError> {
    let mut size = inputs.size();
    let n = size[0];
    no_grad(|| {
        if n >= EVALUATION_BATCH as i64 || !inputs.device().is_cuda() {
            return network.logits(inputs, None, Pass::Evaluate);
        }
        size[0] = EVALUATION_BATCH as i64 - n;
        let padding = inputs.f_narrow(0, 0, 1)?.f_expand(size, false)?;
        let whole = Tensor::f_cat(&[inputs.shallow_clone(), padding], 0)?;
        network.logits(&whole, None, Pass::Evaluate)?.f_narrow(0, 0, n)
    })
}
