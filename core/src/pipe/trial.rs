//! The lines between a worker's agent and a trainer: one JSON object per line, at most [`LINE_BYTES_MAX`] bytes, unknown keys refused.
//!
//! Agent to trainer: one [`Assignment`], then nothing. Trainer to agent: [`Event`]s such as
//! ```text
//! {"handshake":{"build":"0.1.0-5d41402abc4b2a76","protocol_version":7,"libtorch":"2.11.0+cpu"}}
//! {"preparation":{"what":"decoding","done":300,"total":1244}}
//! {"fingerprint":{"software":"sortie-trainer 0.1.0","libtorch":"2.11.0","device":"cpu","threads":2,"dataset_digest":"..","weights_digest":".."}}
//! {"progress":{"step":0}}
//! {"memory":{"peak":4294967296,"held":4294967296,"free":20401094656,"total":25769803776}}
//! {"losses":[{"step":0,"loss":1.9}]}
//! {"evaluations":[{"method":"plain","step":0,"domain":"sketch","split":"in","score":{"counts":{"n":100,"correct":20}},"loss":1.8}]}
//! {"outcome":"succeeded"}   or {"outcome":{"diverged":{"step":7}}}   or {"outcome":{"failed":{"class":"bad-data","message":".."}}}
//! ```
//! The handshake is the first event, an outcome the last.

use std::fmt;
use std::path::PathBuf;

use crate::artifact::{Artifact, CheckpointRef, Resumed};
use crate::combine::{Combination, Member};
use crate::finetune::FinetuneSpec;
use crate::job::Outcome;
use crate::keep::Keep;
use crate::keys::AttemptToken;
use crate::metrics::{Evaluation, TrainingLoss};
use crate::packing::DeviceMemory;
use crate::record::Fingerprint;
use crate::trial::SpecHash;

use super::Handshake;
use serde::{Deserialize, Serialize};

/// The longest line that either side accepts. An assignment for DomainNet, 345 classes, has some 8 KiB.
pub const LINE_BYTES_MAX: usize = 1 << 20;

/// The work of a trial process, and its settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Assignment {
    /// The trial.
    pub spec: FinetuneSpec,
    /// The folder that holds the dataset's folder.
    pub data: PathBuf,
    /// The folder of weights and decoded datasets.
    pub cache: PathBuf,
    /// `cpu`, or `cuda:0`: the process sees no other GPU than its own.
    pub device: String,
    /// CPU threads.
    pub threads: usize,
    /// URL of the artifact store, such as `file:///home/me/sortie/artifacts`; nothing is checkpointed or kept if none.
    pub store: Option<String>,
    /// The attempt, which names the files that it writes.
    pub token: AttemptToken,
    /// Which attempt at the trial it is: 1 for the first.
    pub attempt: u32,
    /// Checkpoints of other attempts, the best first; any that is missing or damaged is passed over.
    pub checkpoints: Vec<CheckpointRef>,
    /// The artifacts that are kept of the trial.
    pub keep: Keep,
    /// Checkpoint three steps before this one and end by SIGKILL after its update, unless resumed: for `sortie verify`.
    pub kill_at: Option<u64>,
    /// What the trial combines instead of training, if it does.
    pub combination: Option<CombinationAssignment>,
}

/// A combination and the files of its members.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CombinationAssignment {
    /// The combination's own identity, which names its files.
    pub spec_hash: SpecHash,
    /// How.
    pub combination: Combination,
    /// The members' files, in the combination's order.
    pub members: Vec<Member>,
}

/// What a trial process reports to its agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    /// The build of the trainer; the first event.
    Handshake(Handshake),
    /// What the trial runs on.
    Fingerprint(Fingerprint),
    /// Training losses of one or more steps.
    Losses(Vec<TrainingLoss>),
    /// Evaluations after the update of one step.
    Evaluations(Vec<Evaluation>),
    /// The trial resumes from a checkpoint of another attempt; that attempt's reports up to there follow.
    Resumed(Resumed),
    /// A file that the trial wrote to the artifact store, or only its digest.
    Artifact(Artifact),
    /// The progress of the preparation before the first step.
    Preparation(Preparation),
    /// The last step whose update is made.
    Progress(Progress),
    /// How much memory of its GPU the trial needs so far: after an evaluation, if more than was said before.
    Memory(DeviceMemory),
    /// How the trial ended; the last event.
    Outcome(Outcome),
}

/// A trial's progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Progress {
    /// The last step whose update is made.
    pub step: u64,
}

/// Progress of what comes before the first step: decoding a dataset, computing features.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preparation {
    /// What is done, as a lower-case fragment such as `decoding`.
    pub what: String,
    /// Images that are done.
    pub done: u64,
    /// Images in all.
    pub total: u64,
}

impl fmt::Display for Preparation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, done, total } = self;
        write!(out, "{what}, {done} of {total} images")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::ErrorClass;
    use crate::metrics::{Method, Score, SplitName};

    fn line(event: &Event) -> String {
        serde_json::to_string(event).unwrap()
    }

    #[test]
    fn events_are_written_as_documented_and_read_back_exactly() {
        let score = Score::Counts { n: 7, correct: 2 };
        let (domain, loss) = ("ink".into(), Some(0.1 + 0.2));
        let evaluation = Evaluation {
            method: Method::Plain,
            step: 3,
            domain,
            split: SplitName::Out,
            score: Some(score),
            loss,
            metrics: Default::default(),
            seconds: None,
        };
        let failed = Outcome::Failed { class: ErrorClass::BadData, message: "x: \"gone\"\n".into() };
        let cases = [
            (Event::Progress(Progress { step: 3 }), r#"{"progress":{"step":3}}"#),
            (
                Event::Losses(vec![TrainingLoss { step: 1, loss: 5e-324, seconds: None }]),
                r#"{"losses":[{"step":1,"loss":5e-324}]}"#,
            ),
            (
                Event::Evaluations(vec![evaluation]),
                r#"{"evaluations":[{"method":"plain","step":3,"domain":"ink","split":"out","score":{"counts":{"n":7,"correct":2}},"loss":0.30000000000000004}]}"#,
            ),
            (
                Event::Memory(DeviceMemory { peak: 4, held: 3, free: 20, total: 24 }),
                r#"{"memory":{"peak":4,"held":3,"free":20,"total":24}}"#,
            ),
            (Event::Outcome(Outcome::Succeeded), r#"{"outcome":"succeeded"}"#),
            (Event::Outcome(Outcome::Diverged { step: 7 }), r#"{"outcome":{"diverged":{"step":7}}}"#),
            (
                Event::Outcome(failed),
                r#"{"outcome":{"failed":{"class":"bad-data","message":"x: \"gone\"\n"}}}"#,
            ),
        ];
        for (event, text) in cases {
            assert_eq!(line(&event), text);
            assert_eq!(serde_json::from_str::<Event>(text).unwrap(), event);
        }
    }

    #[test]
    fn what_is_not_in_the_schema_is_refused() {
        for bad in [
            r#"{"progress":{"step":3,"extra":1}}"#,
            r#"{"progress":{"step":-3}}"#,
            r#"{"outcome":"finished"}"#,
            r#"{"outcome":{"failed":{"class":"bad-luck","message":""}}}"#,
            r#"{"progress":{"step":3},"losses":[]}"#,
            "loading weights ...",
        ] {
            assert!(serde_json::from_str::<Event>(bad).is_err(), "{bad}");
        }
    }
}
