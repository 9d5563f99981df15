//! Made-up numbers of a training run: a pure function of the trial, the step, the domain and the split.

use sortie_core::metrics::SplitName;

/// The learning curves of one trial.
///
/// Only sums, products and quotients are used, which round alike on every machine: the same trial reports the same bits everywhere.
pub struct Curve {
    trial: String,
    steps: u64,
    dropout: f64,
}

impl Curve {
    /// The curves of a trial whose last step has the index `steps`. A dropout rate outside of [0, 1] counts as the nearer end.
    pub fn new(trial: String, steps: u64, dropout: f64) -> Self {
        let dropout = if dropout.is_nan() { 0.0 } else { dropout.clamp(0.0, 1.0) };
        Self { trial, steps, dropout }
    }

    /// How much has been learned after the update of this step: above 0, 1 at the last step, quickly at first.
    fn learned(&self, step: u64) -> f64 {
        let part = (step + 1) as f64 / (self.steps + 1) as f64;
        1.3 * part / (part + 0.3)
    }

    /// The mean loss of the step's batch.
    pub fn training_loss(&self, step: u64) -> f64 {
        2.0 - 1.8 * self.learned(step) + 0.1 * unit(&[&self.trial, &step.to_string(), "loss"])
    }

    /// Images, correct ones and mean loss on a split of a domain after the update of a step.
    pub fn evaluation(&self, step: u64, domain: &str, split: SplitName, held_out: bool) -> (u64, u64, f64) {
        let images = 1_000 + (500.0 * unit(&[domain, "images"])) as u64;
        let of_in = images * 4 / 5;
        let n = if split == SplitName::In { of_in } else { images - of_in };
        let learned = self.learned(step);
        let noise = unit(&[&self.trial, &step.to_string(), domain, split.as_str()]);
        // Some domains are harder than others, held-out ones more so.
        let ease = unit(&[domain, "ease"]) - 0.5;
        let accuracy = if held_out {
            0.2 + (0.4 + 0.08 * self.dropout + 0.1 * ease) * learned
        } else {
            0.25 + (0.68 - 0.02 * self.dropout + 0.02 * ease) * learned
        } + 0.02 * (noise - 0.5);
        let correct = ((accuracy * n as f64).round() as u64).min(n);
        (n, correct, 3.0 * (1.0 - accuracy) + 0.1 * noise)
    }
}

/// A number in [0, 1) that depends on all of these words and on nothing else.
pub fn unit(words: &[&str]) -> f64 {
    let mut hasher = blake3::Hasher::new();
    for word in words {
        // With its length before it, so that "ab", "c" is not "a", "bc".
        hasher.update(&(word.len() as u64).to_le_bytes()).update(word.as_bytes());
    }
    let mut first = [0_u8; 8];
    first.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    (u64::from_le_bytes(first) >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_pinned() {
        // They are compared across machines and versions: a change here is one that users see.
        let curve = Curve::new("94f9de813446924ef6b1cf831eaa3ef4".into(), 20, 0.5);
        assert_eq!(curve.training_loss(3), 1.1583245486863538);
        assert_eq!(curve.evaluation(20, "a", SplitName::Out, true), (220, 132, 1.2439283194957984));
    }

    #[test]
    fn accuracies_rise_and_stay_below_those_of_known_domains() {
        let accuracy = |curve: &Curve, step, domain: &str, split, held_out| {
            let (n, correct, loss) = curve.evaluation(step, domain, split, held_out);
            assert!(correct <= n && loss.is_finite() && loss > 0.0);
            correct as f64 / n as f64
        };
        for (trial, steps) in [("one", 1), ("two", 20), ("three", 100_000)] {
            for domain in ["a", "b", "sketch", "art_painting"] {
                let curve = Curve::new(trial.into(), steps, 0.9);
                for step in [0, steps / 2, steps] {
                    let ood = accuracy(&curve, step, domain, SplitName::In, true);
                    assert!(
                        ["a", "b", "c"]
                            .iter()
                            .all(|other| ood < accuracy(&curve, step, other, SplitName::Out, false))
                    );
                }
                let ood = |curve: &Curve, step| accuracy(curve, step, domain, SplitName::In, true);
                assert!(ood(&curve, 0) < ood(&curve, steps));
                assert!(curve.training_loss(steps) < curve.training_loss(0));
                assert!(
                    ood(&Curve::new(trial.into(), steps, 0.0), steps) < ood(&curve, steps),
                    "dropout helps"
                );
            }
        }
    }

    #[test]
    fn a_rate_that_is_none_harms_nothing() {
        for (rate, as_if) in [(f64::NAN, 0.0), (-3.0, 0.0), (7.0, 1.0)] {
            let of = |rate| Curve::new("t".into(), 9, rate).evaluation(9, "a", SplitName::In, true);
            assert_eq!(of(rate), of(as_if));
        }
    }
}
