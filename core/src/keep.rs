//! The artifacts that are kept of a trial. No part of any trial's identity.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::artifact::{Artifact, ArtifactKind};
use crate::finetune::Methods;
use crate::named;

/// Which weights are kept, one set for each method that the trial evaluates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum KeepWeights {
    /// None, once the trial has succeeded.
    #[default]
    None,
    /// Those after the last step.
    Final,
    /// Those of the step with the best i.i.d. accuracy, the earliest of equals.
    Selected,
    /// Both.
    Both,
}
named!(KeepWeights, "choice of weights", { None => "none", Final => "final", Selected => "selected", Both => "both" });

impl KeepWeights {
    /// Whether the weights after the last step are kept.
    pub fn last(self) -> bool {
        matches!(self, Self::Final | Self::Both)
    }

    /// Whether the weights of the selected step are kept.
    pub fn selected(self) -> bool {
        matches!(self, Self::Selected | Self::Both)
    }
}

/// `[keep]` of a sweep file.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Keep {
    /// Which weights.
    pub weights: KeepWeights,
    /// Whether the logits of the last evaluation are kept: `out` of the training domains, `in` and `out` of the held-out ones.
    pub logits: bool,
    /// The shortest time between two checkpoints, in minutes.
    #[serde(default = "checkpoint_minutes")]
    pub checkpoint_minutes: f64,
}

impl Keep {
    /// The shortest time between two checkpoints, unless a sweep says otherwise.
    pub const CHECKPOINT_MINUTES: f64 = 0.5;
    /// The shortest and the longest that a sweep may say.
    pub const CHECKPOINT_MINUTES_ALLOWED: RangeInclusive<f64> = 0.1..=1_440.0;

    /// The shortest time between two checkpoints.
    pub fn checkpoint_interval(self) -> Duration {
        // Every allowed number is a duration.
        Duration::try_from_secs_f64(self.checkpoint_minutes * 60.0).unwrap_or(Duration::MAX)
    }

    /// The same, with the weights after the last step.
    pub fn with_final_weights(self) -> Self {
        let weights = if self.weights.selected() { KeepWeights::Both } else { KeepWeights::Final };
        Self { weights, ..self }
    }
}

impl Default for Keep {
    fn default() -> Self {
        Self { weights: KeepWeights::None, logits: true, checkpoint_minutes: checkpoint_minutes() }
    }
}

fn checkpoint_minutes() -> f64 {
    Keep::CHECKPOINT_MINUTES
}

/// What a result must have to be one for its sweep: the files that `[keep]` asks for and those that its combinations are made of, and what
/// is evaluated beside the plain weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// The average and the ensemble of the trajectory.
    pub methods: Methods,
    /// Final weights.
    pub weights: bool,
    /// Weights of the selected step.
    pub selected: bool,
    /// Final logits.
    pub logits: bool,
    /// Final logits, unless the attempt reported none at all: what was imported, for example, has none, and runs not again for them.
    pub reported_logits: bool,
}

/// What a result lacks of what it must have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lacks {
    /// The average of the trajectory's weights, as it is asked for.
    pub average: bool,
    /// The ensemble over the trajectory, as it is asked for.
    pub ensemble: bool,
    /// Final weights.
    pub weights: bool,
    /// Weights of the selected step.
    pub selected: bool,
    /// Final logits.
    pub logits: bool,
}

/// What an attempt left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeftFiles {
    /// Final weights.
    pub weights: bool,
    /// Weights of the selected step.
    pub selected: bool,
    /// Final logits.
    pub logits: bool,
    /// It reported the digest of logits, and kept them not.
    pub logits_left_out: bool,
}

impl LeftFiles {
    /// Of an attempt with these artifacts.
    pub fn of<'a>(artifacts: impl IntoIterator<Item = &'a Artifact>) -> Self {
        let mut left = Self::default();
        for artifact in artifacts {
            match (artifact.kind, !artifact.key.is_empty()) {
                (ArtifactKind::FinalWeights, kept) => left.weights |= kept,
                (ArtifactKind::SelectedWeights, kept) => left.selected |= kept,
                (ArtifactKind::FinalLogits, true) => left.logits = true,
                (ArtifactKind::FinalLogits, false) => left.logits_left_out = true,
                (ArtifactKind::Checkpoint, _) => {}
            }
        }
        left
    }
}

impl Needs {
    /// What an attempt lacks that left these files and evaluated these methods.
    pub fn lacks(self, left: LeftFiles, made: Methods) -> Lacks {
        let LeftFiles { weights, selected, logits, logits_left_out } = left;
        let Methods { average, ensemble } = self.methods;
        Lacks {
            average: average.is_some() && average != made.average,
            ensemble: ensemble.is_some() && ensemble != made.ensemble,
            weights: self.weights && !weights,
            selected: self.selected && !selected,
            logits: self.logits && !logits || self.reported_logits && logits_left_out,
        }
    }
}

impl Lacks {
    /// Whether anything is lacking.
    pub fn any(self) -> bool {
        self != Self::default()
    }
}

/// In the words of messages, such as `final weights and logits`.
impl fmt::Display for Lacks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { average, ensemble, weights, selected, logits } = *self;
        let kinds = [average, ensemble, weights, selected, logits].into_iter().zip(LackingTrials::KINDS);
        let kinds: Vec<&str> = kinds.filter_map(|(lacks, kind)| lacks.then_some(kind)).collect();
        f.write_str(&kinds.join(" and "))
    }
}

/// How many trials have results that lack something, and run again therefore.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LackingTrials {
    /// How many there are.
    pub trials: u64,
    /// Of those, how many lack the average.
    pub average: u64,
    /// How many lack the ensemble.
    pub ensemble: u64,
    /// How many lack final weights.
    pub weights: u64,
    /// How many lack the weights of the selected step.
    pub selected: u64,
    /// How many lack final logits.
    pub logits: u64,
}

impl LackingTrials {
    /// In the order of its members.
    const KINDS: [&'static str; 5] = [
        "the average of the weights",
        "the ensemble over steps",
        "final weights",
        "selected weights",
        "logits",
    ];

    /// Counts a trial.
    pub fn count(&mut self, lacks: Lacks) {
        let Lacks { average, ensemble, weights, selected, logits } = lacks;
        self.trials += u64::from(lacks.any());
        self.average += u64::from(average);
        self.ensemble += u64::from(ensemble);
        self.weights += u64::from(weights);
        self.selected += u64::from(selected);
        self.logits += u64::from(logits);
    }

    /// Counts these, too.
    pub fn add(&mut self, others: Self) {
        let Self { trials, average, ensemble, weights, selected, logits } = others;
        self.trials += trials;
        self.average += average;
        self.ensemble += ensemble;
        self.weights += weights;
        self.selected += selected;
        self.logits += logits;
    }
}

/// `12 trials lack final weights`, or `12 trials lack final weights (9), logits (5)`; empty if none lacks anything.
impl fmt::Display for LackingTrials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { trials, average, ensemble, weights, selected, logits } = *self;
        let kinds = [average, ensemble, weights, selected, logits].into_iter().zip(Self::KINDS);
        let kinds: Vec<(u64, &str)> = kinds.filter(|(count, _)| *count > 0).collect();
        let (subject, verb) = if trials == 1 { ("trial", "lacks") } else { ("trials", "lack") };
        match kinds.as_slice() {
            [] => Ok(()),
            [(count, kind)] if *count == trials => write!(f, "{trials} {subject} {verb} {kind}"),
            kinds => {
                let kinds: Vec<String> =
                    kinds.iter().map(|(count, kind)| format!("{kind} ({count})")).collect();
                write!(f, "{trials} {subject} {verb} {}", kinds.join(", "))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finetune::{Average, AverageEvery, Ensemble};
    use crate::metrics::Method;

    #[test]
    fn a_result_lacks_what_is_asked_for_and_not_kept() {
        let file = |kind, key: &str| Artifact {
            kind,
            method: Method::Plain,
            step: 3,
            key: key.to_owned(),
            digest: String::new(),
            bytes: 0,
        };
        let methods = Methods::default();
        let all = Needs { methods, weights: true, selected: true, logits: true, reported_logits: true };
        let lacks = |weights, selected, logits| Lacks { weights, selected, logits, ..Lacks::default() };
        let of = |files: &[Artifact]| LeftFiles::of(files);
        assert_eq!(all.lacks(of(&[]), methods), lacks(true, true, true));
        let digests = [file(ArtifactKind::FinalWeights, ""), file(ArtifactKind::FinalLogits, "")];
        assert_eq!(all.lacks(of(&digests), methods), lacks(true, true, true));
        let kept = [
            file(ArtifactKind::FinalWeights, "w"),
            file(ArtifactKind::SelectedWeights, "s"),
            file(ArtifactKind::FinalLogits, "l"),
        ];
        assert!(!all.lacks(of(&kept), methods).any());
        assert_eq!(Needs::default().lacks(of(&[]), methods), Lacks::default());
        // What reported no logits at all may have none.
        let logits = Needs { reported_logits: true, ..Needs::default() };
        assert!(!logits.lacks(of(&[]), methods).any() && !logits.lacks(of(&kept), methods).any());
        assert_eq!(logits.lacks(of(&digests), methods).to_string(), "logits");
        assert_eq!(lacks(true, true, false).to_string(), "final weights and selected weights");
    }

    #[test]
    fn a_result_with_more_methods_is_one_for_a_sweep_that_asks_for_less() {
        let average = |from| Some(Average { from, every: AverageEvery::Evaluation });
        let ensemble = |from| Some(Ensemble { from });
        let lacks = |asked: Methods, made| {
            let needs = Needs { methods: asked, ..Needs::default() };
            needs.lacks(LeftFiles::default(), made).to_string()
        };
        let both = Methods { average: average(3), ensemble: ensemble(4) };
        assert_eq!(lacks(Methods::default(), both), "");
        assert_eq!(lacks(Methods { average: average(3), ensemble: None }, both), "");
        assert_eq!(lacks(both, Methods::default()), "the average of the weights and the ensemble over steps");
        assert_eq!(lacks(both, Methods { average: average(2), ..both }), "the average of the weights");
        assert_eq!(lacks(both, Methods { ensemble: ensemble(3), ..both }), "the ensemble over steps");
        for text in ["3/evaluation", "300/7"] {
            assert_eq!(text.parse::<Average>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn lacking_trials_are_one_line() {
        let mut lacking = LackingTrials::default();
        assert_eq!(lacking.to_string(), "");
        let weights = Lacks { weights: true, ..Lacks::default() };
        lacking.count(weights);
        lacking.count(Lacks::default());
        assert_eq!(lacking.to_string(), "1 trial lacks final weights");
        lacking.add(lacking);
        assert_eq!(lacking.to_string(), "2 trials lack final weights");
        lacking.count(Lacks { logits: true, ..weights });
        assert_eq!(lacking.to_string(), "3 trials lack final weights (3), logits (1)");
    }
}
