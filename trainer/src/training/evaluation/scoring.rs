//! Accuracy and loss from logits (docs/protocol.md, "Evaluation").

use sortie_core::metrics::Score;
use tch::{Kind, Tensor, no_grad};

use crate::error::TrialError;

/// The score and the mean cross entropy, in nats, of logits [n, classes] for labels [n].
pub(crate) fn evaluate(logits: &Tensor, labels: &Tensor) -> Result<(Score, f64), TrialError> {
    no_grad(|| {
        let n = labels.size1()?;
        let correct =
            logits.f_argmax(1, false)?.f_eq_tensor(labels)?.f_sum(Kind::Int64)?.f_int64_value(&[])?;
        // In double precision, so that the sum over a large split is exact enough.
        let log_probabilities = logits.f_to_kind(Kind::Double)?.f_log_softmax(1, Kind::Double)?;
        let chosen = log_probabilities.f_gather(1, &labels.f_unsqueeze(1)?, false)?;
        let loss = -chosen.f_sum(Kind::Double)?.f_double_value(&[])?;
        Ok((Score::Counts { n: n as u64, correct: correct as u64 }, loss / n as f64))
    })
}
