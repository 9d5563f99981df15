//! Digests by which `sortie verify` compares two attempts, to the byte.

use std::fmt::Write as _;

use crate::artifact::{Artifact, ArtifactKind};
use crate::metrics::{Evaluation, Score, TrainingLoss};

/// One hash over everything that an attempt computed besides its metrics: its final weights and logits, of every method. None if it reported
/// of none.
pub fn weights_digest(artifacts: &[Artifact]) -> Option<String> {
    let reported = artifacts
        .iter()
        .filter(|artifact| matches!(artifact.kind, ArtifactKind::FinalWeights | ArtifactKind::FinalLogits));
    let mut digests: Vec<&str> = reported.map(|artifact| artifact.digest.as_str()).collect();
    digests.sort_unstable();
    (!digests.is_empty()).then(|| blake3::hash(digests.join("\n").as_bytes()).to_hex().to_string())
}

/// One hash over everything that an attempt reported, whatever the order: every evaluation and every training loss, to the last bit, but not when.
pub fn metrics_digest(evaluations: &[Evaluation], losses: &[TrainingLoss]) -> String {
    let mut lines: Vec<String> = evaluations.iter().map(evaluation_line).collect();
    lines.extend(
        losses.iter().map(|TrainingLoss { step, loss, .. }| format!("loss {step} {:016x}", loss.to_bits())),
    );
    lines.sort_unstable();
    blake3::hash(lines.join("\n").as_bytes()).to_hex().to_string()
}

fn evaluation_line(evaluation: &Evaluation) -> String {
    let Evaluation { method, step, domain, split, score, loss, metrics, seconds: _ } = evaluation;
    let mut line = format!("evaluation {method} {step} {domain:?} {split} ");
    // Writing to a string never fails.
    let _ = match score {
        Some(Score::Counts { n, correct }) => write!(line, "{n} {correct}"),
        Some(Score::Value { value, n }) => write!(line, "{n} {:016x}", value.to_bits()),
        None => write!(line, "-"),
    };
    if let Some(loss) = loss {
        let _ = write!(line, " {:016x}", loss.to_bits());
    }
    for (name, value) in metrics {
        let _ = write!(line, " {name}={:016x}", value.to_bits());
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{Method, SplitName};

    fn evaluation(step: u64, correct: u64) -> Evaluation {
        let score = Score::Counts { n: 9, correct };
        Evaluation {
            method: Method::Plain,
            step,
            domain: "ink".into(),
            split: SplitName::Out,
            score: Some(score),
            loss: Some(0.5),
            metrics: [("f1".to_owned(), 0.25)].into(),
            seconds: None,
        }
    }

    #[test]
    fn metrics_are_the_same_in_any_order_and_differ_by_one_bit() {
        let losses = [
            TrainingLoss { step: 0, loss: 0.3, seconds: None },
            TrainingLoss { step: 1, loss: 0.2, seconds: None },
        ];
        let rows = [evaluation(0, 3), evaluation(1, 4)];
        let one = metrics_digest(&rows, &losses);
        let turned = |mut list: Vec<Evaluation>| {
            list.reverse();
            list
        };
        assert_eq!(one, metrics_digest(&turned(rows.to_vec()), &[losses[1], losses[0]]));
        let next = f64::from_bits(0.3_f64.to_bits() + 1);
        assert_ne!(
            one,
            metrics_digest(&rows, &[TrainingLoss { step: 0, loss: next, seconds: None }, losses[1]])
        );
        assert_ne!(one, metrics_digest(&[evaluation(0, 3), evaluation(1, 5)], &losses));
        assert_ne!(one, metrics_digest(&rows[..1], &losses));
        let other = Evaluation { metrics: [("f1".to_owned(), 0.5)].into(), ..evaluation(1, 4) };
        assert_ne!(one, metrics_digest(&[evaluation(0, 3), other], &losses));
        assert_ne!(
            one,
            metrics_digest(&[rows[0].clone(), Evaluation { loss: None, ..rows[1].clone() }], &losses)
        );
    }

    #[test]
    fn only_final_weights_and_logits_count() {
        let artifact = |kind, digest: &str| Artifact {
            kind,
            method: Method::Plain,
            step: 3,
            key: String::new(),
            digest: digest.into(),
            bytes: 1,
        };
        let [weights, logits] =
            [artifact(ArtifactKind::FinalWeights, "aa"), artifact(ArtifactKind::FinalLogits, "bb")];
        let checkpoint = artifact(ArtifactKind::Checkpoint, "cc");
        assert_eq!(weights_digest(std::slice::from_ref(&checkpoint)), None);
        let both = weights_digest(&[weights.clone(), logits.clone(), checkpoint]);
        assert_eq!(both, weights_digest(&[logits.clone(), weights.clone()]));
        assert_ne!(both, weights_digest(&[weights]));
        assert!(weights_digest(&[logits]).is_some());
    }
}
