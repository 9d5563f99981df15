//! Accuracy and loss on one split of one domain (docs/protocol.md, "Evaluation").

use tch::{Kind, Tensor, no_grad};

use super::{Network, Normaliser, Sample};
use crate::error::TrialError;

/// Images per evaluation batch, as in the reference code; the last one may be smaller, no image is dropped.
const BATCH: usize = 128;

/// Counts over the images of a split.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Counts {
    pub(super) n: u64,
    pub(super) correct: u64,
    /// Mean cross entropy, in nats.
    pub(super) loss: f64,
}

/// Evaluates the network on `n` samples, made one by one so that only a batch is in memory at a time.
pub(super) fn evaluate<'a>(
    network: &Network,
    normaliser: &Normaliser,
    n: usize,
    sample: impl Fn(usize) -> Result<(Sample<'a>, i64), TrialError>,
) -> Result<Counts, TrialError> {
    let (mut correct, mut loss) = (0, 0.0);
    for start in (0..n).step_by(BATCH) {
        let (mut samples, mut labels) = (Vec::new(), Vec::new());
        for position in start..n.min(start + BATCH) {
            let (image, label) = sample(position)?;
            samples.push(image);
            labels.push(label);
        }
        let (batch_correct, batch_loss) = no_grad(|| evaluate_batch(network, normaliser, &samples, &labels))?;
        correct += batch_correct;
        loss += batch_loss;
    }
    Ok(Counts { n: n as u64, correct, loss: loss / n as f64 })
}

fn evaluate_batch(network: &Network, normaliser: &Normaliser, samples: &[Sample], labels: &[i64]) -> Result<(u64, f64), TrialError> {
    let logits = network.logits(&normaliser.input(samples)?, None)?;
    let labels = Tensor::f_from_slice(labels)?.f_to_device(normaliser.device)?;
    let correct = logits.f_argmax(1, false)?.f_eq_tensor(&labels)?.f_sum(Kind::Int64)?.f_int64_value(&[])?;
    // In double precision, so that the sum over a large split loses nothing.
    let log_probabilities = logits.f_to_kind(Kind::Double)?.f_log_softmax(1, Kind::Double)?;
    let chosen = log_probabilities.f_gather(1, &labels.f_unsqueeze(1)?, false)?;
    let loss = -chosen.f_sum(Kind::Double)?.f_double_value(&[])?;
    Ok((correct as u64, loss))
}
