//! The events and the artifacts of a trial, computed alike for every database.

use sortie_core::artifact::{ArtifactKind, Resumed};
use sortie_core::job::{ErrorClass, State, StateName};
use sortie_core::keys::AttemptToken;

use super::AttemptState;
use crate::store::types::{StoredArtifact, TrialArtifacts, TrialEvent, TrialLine};

/// An attempt as its trial's history shows it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Attempt {
    pub(crate) token: AttemptToken,
    pub(crate) started_ms: i64,
    pub(crate) ended_ms: Option<i64>,
    pub(crate) state: AttemptState,
    pub(crate) class: Option<ErrorClass>,
    pub(crate) message: Option<String>,
    pub(crate) step: u64,
    pub(crate) preparation: Option<String>,
    pub(crate) device: Option<String>,
    /// What it ran, in one line.
    pub(crate) code: Option<String>,
    pub(crate) worker: String,
    pub(crate) resumed: Option<Resumed>,
    /// Sortie's own trainer ran it, which can go on from checkpoints.
    pub(crate) trains: bool,
}

/// What happened in the attempts at one trial, which come by token: for people they are attempt 1, 2, 3, ...
pub(crate) fn events_of(attempts: Vec<Attempt>) -> Vec<TrialEvent> {
    let tokens: Vec<AttemptToken> = attempts.iter().map(|attempt| attempt.token).collect();
    attempts.into_iter().flat_map(|attempt| attempt.events(&tokens)).collect()
}

impl Attempt {
    /// Its beginning, where it took up another's work, and its end if there was one.
    fn events(self, tokens: &[AttemptToken]) -> Vec<TrialEvent> {
        let token = Some(self.token);
        let mut detail = format!("on {}", self.worker);
        let code = self.code.map(|code| format!("ran {code}"));
        for more in [self.device, code, self.preparation].into_iter().flatten() {
            detail.push_str(&format!(", {more}"));
        }
        let mut events =
            vec![TrialEvent { at_ms: self.started_ms, token, what: "started".to_owned(), detail }];
        if let Some(Resumed { token: from, step, exact }) = self.resumed {
            let exactly =
                if exact { "" } else { ", not exactly: on another device, number of threads or libtorch" };
            let number = tokens.iter().position(|token| *token == from);
            let earlier =
                number.map_or("an earlier attempt".to_owned(), |index| format!("attempt {}", index + 1));
            let detail = format!("after step {step} of {earlier}{exactly}");
            events.push(TrialEvent { at_ms: self.started_ms, token, what: "resumed".to_owned(), detail });
        } else if self.trains && self.step > 0 && tokens.first() != Some(&self.token) {
            let detail = "from step 0: there was no checkpoint that it could read".to_owned();
            events.push(TrialEvent { at_ms: self.started_ms, token, what: "restarted".to_owned(), detail });
        }
        if let Some(at_ms) = self.ended_ms {
            let mut detail = format!("at step {}", self.step);
            let what = match self.class {
                Some(class @ (ErrorClass::Lost | ErrorClass::Preempted)) => class.to_string(),
                Some(class) => {
                    detail.push_str(&format!(", {class}"));
                    self.state.to_string()
                }
                None => self.state.to_string(),
            };
            if let Some(message) = self.message.filter(|message| !message.is_empty()) {
                detail.push_str(&format!(": {message}"));
            }
            events.push(TrialEvent { at_ms, token, what, detail });
        }
        events
    }
}

/// What is left of a trial: its checkpoints are deleted once it has an end of its own, and only the attempt that counts left a result.
pub(crate) fn artifacts(line: TrialLine, state: State, mut artifacts: Vec<StoredArtifact>) -> TrialArtifacts {
    if matches!(line.state, StateName::Succeeded | StateName::Diverged) {
        artifacts.retain(|kept| {
            Some(kept.token) == state.token() && kept.artifact.kind != ArtifactKind::Checkpoint
        });
    }
    TrialArtifacts { spec_hash: line.spec_hash, state: line.state, artifacts }
}
