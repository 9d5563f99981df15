//! The reports of an attempt in numbered batches: a batch keeps its number and its content until it is acknowledged, however often it is
//! sent.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;

use sortie_core::metrics::{Evaluation, TrainingLoss};
use sortie_proto::v1;

use crate::attempt::spool::Spool;

/// Rows of one batch at most: far below the limit of a message, and a transaction that is short.
pub(crate) const ROWS_PER_BATCH: usize = 256;
/// Rows that wait in memory, some 400 KiB; more of them go to disk.
const ROWS_IN_MEMORY_MAX: usize = 4_096;
/// Rows that wait in memory before the attempt is held back, where the disk takes no more.
const ROWS_HELD_MAX: usize = 2 * ROWS_IN_MEMORY_MAX;

#[derive(Clone, Debug)]
enum Row {
    Fingerprint(v1::Fingerprint),
    Loss(v1::TrainingLoss),
    Evaluation(v1::Evaluation),
    Artifact(v1::Artifact),
    Resumed(v1::Resumed),
}

/// Reports of one attempt that are not acknowledged, the oldest first: the batch that was sent, those on disk, one that the disk did not
/// take, and rows that are in no batch yet.
#[derive(Debug)]
pub(crate) struct Outbox {
    sent: Option<v1::Batch>,
    spool: Spool,
    sealed: Option<v1::Batch>,
    waiting: VecDeque<Row>,
    /// The attempt's output: head and tail only, so its size is limited.
    log: Vec<u8>,
    /// What people should know of it.
    notes: Vec<String>,
    next_sequence: u64,
    warned: bool,
}

impl Outbox {
    /// An empty outbox; the first batch will be number 1. The file is used when the coordinator cannot be reached for long.
    pub(crate) fn new(file: PathBuf) -> Self {
        let (waiting, log, notes, spool) = (VecDeque::new(), Vec::new(), Vec::new(), Spool::new(file));
        Self { sent: None, spool, sealed: None, waiting, log, notes, next_sequence: 1, warned: false }
    }

    /// What the attempt runs on.
    pub(crate) fn fingerprint(&mut self, fingerprint: v1::Fingerprint) {
        self.waiting.push_back(Row::Fingerprint(fingerprint));
    }

    /// Training losses.
    pub(crate) fn losses(&mut self, losses: Vec<TrainingLoss>) {
        self.waiting.extend(losses.into_iter().map(|loss| Row::Loss(loss.into())));
        self.spill();
    }

    /// Evaluations.
    pub(crate) fn evaluations(&mut self, evaluations: &[Evaluation]) {
        self.waiting.extend(evaluations.iter().map(|evaluation| Row::Evaluation(evaluation.into())));
        self.spill();
    }

    /// A file that the attempt left in the artifact store.
    pub(crate) fn artifact(&mut self, artifact: v1::Artifact) {
        self.waiting.push_back(Row::Artifact(artifact));
        self.spill();
    }

    /// Whether files may be among what is not acknowledged.
    pub(crate) fn may_hold_artifacts(&self) -> bool {
        !self.spool.is_empty()
            || self.sealed.is_some()
            || self.sent.as_ref().is_some_and(|batch| !batch.artifacts.is_empty())
            || self.waiting.iter().any(|row| matches!(row, Row::Artifact(_)))
    }

    /// The checkpoint that the attempt resumed from.
    pub(crate) fn resumed(&mut self, resumed: v1::Resumed) {
        self.waiting.push_back(Row::Resumed(resumed));
    }

    /// What the attempt printed.
    pub(crate) fn log(&mut self, bytes: &[u8]) {
        self.log.extend_from_slice(bytes);
    }

    /// What people should know of the attempt's output.
    pub(crate) fn notes(&mut self, notes: Vec<String>) {
        self.notes.extend(notes);
    }

    /// Whether a whole batch waits, besides the one that was sent.
    pub(crate) fn has_a_batch(&self) -> bool {
        !self.spool.is_empty() || self.sealed.is_some() || self.waiting.len() >= ROWS_PER_BATCH
    }

    /// Whether what waits is more than the end of the attempt can carry.
    pub(crate) fn is_more_than_a_batch(&self) -> bool {
        !self.spool.is_empty() || self.sealed.is_some() || self.waiting.len() > ROWS_PER_BATCH
    }

    /// Whether the attempt must wait before it reports more: memory and disk are full.
    pub(crate) fn is_full(&self) -> bool {
        self.waiting.len() >= ROWS_HELD_MAX
    }

    /// Moves to disk what is too much for memory. If the disk refuses, the next call tries again.
    pub(crate) fn spill(&mut self) {
        while self.waiting.len() > ROWS_IN_MEMORY_MAX {
            if self.sealed.is_none() {
                self.sealed = Some(self.seal());
            }
            let Some(batch) = &self.sealed else { return };
            match self.spool.push(batch) {
                Ok(()) => self.sealed = None,
                Err(error) => {
                    if !std::mem::replace(&mut self.warned, true) {
                        tracing::warn!(%error, "cannot keep reports on disk while the coordinator is away; the trial waits when memory is full too");
                    }
                    return;
                }
            }
        }
    }

    /// The batch to send now: the one that is not acknowledged, else the next; none if there is nothing to report.
    ///
    /// # Errors
    /// When a batch on disk cannot be read: reports are missing, and the attempt must end.
    pub(crate) fn batch(&mut self) -> io::Result<Option<v1::Batch>> {
        if self.sent.is_none() {
            self.sent = match self.spool.pop()?.or_else(|| self.sealed.take()) {
                None if self.waiting.is_empty() && self.log.is_empty() && self.notes.is_empty() => None,
                None => Some(self.seal()),
                next => next,
            };
        }
        Ok(self.sent.clone())
    }

    /// The batch that was sent last is stored.
    pub(crate) fn acknowledged(&mut self) {
        self.sent = None;
    }

    /// Drops what was not acknowledged: the coordinator would refuse it.
    pub(crate) fn clear(&mut self) {
        self.waiting.clear();
        self.log.clear();
        self.notes.clear();
        self.spool.clear();
        (self.sent, self.sealed) = (None, None);
    }

    /// The next rows under the next number.
    fn seal(&mut self) -> v1::Batch {
        let (log, notes) = (std::mem::take(&mut self.log), std::mem::take(&mut self.notes));
        let mut batch = v1::Batch { sequence: self.next_sequence, log, notes, ..v1::Batch::default() };
        let count = self.waiting.len().min(ROWS_PER_BATCH);
        for row in self.waiting.drain(..count) {
            match row {
                Row::Fingerprint(fingerprint) => batch.fingerprint = Some(fingerprint),
                Row::Loss(loss) => batch.losses.push(loss),
                Row::Evaluation(evaluation) => batch.evaluations.push(evaluation),
                Row::Artifact(artifact) => batch.artifacts.push(artifact),
                Row::Resumed(resumed) => batch.resumed = Some(resumed),
            }
        }
        self.next_sequence += 1;
        batch
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn losses(steps: std::ops::Range<u64>) -> Vec<TrainingLoss> {
        steps.map(|step| TrainingLoss { step, loss: 0.5, seconds: None }).collect()
    }

    fn outbox(folder: &tempfile::TempDir) -> Outbox {
        Outbox::new(folder.path().join("1.reports"))
    }

    #[test]
    fn a_number_never_gets_other_content() {
        let folder = tempfile::tempdir().unwrap();
        let mut outbox = outbox(&folder);
        assert_eq!(outbox.batch().unwrap(), None);
        outbox.fingerprint(v1::Fingerprint::default());
        outbox.losses(losses(0..2));
        outbox.log(b"one");
        let first = outbox.batch().unwrap().unwrap();
        assert_eq!(
            (first.sequence, first.fingerprint.is_some(), first.losses.len(), first.log.as_slice()),
            (1, true, 2, &b"one"[..])
        );
        outbox.losses(losses(2..3));
        outbox.log(b"two");
        assert_eq!(outbox.batch().unwrap(), Some(first));
        outbox.acknowledged();
        let second = outbox.batch().unwrap().unwrap();
        assert_eq!(
            (second.sequence, second.fingerprint, second.losses.len(), second.log.as_slice()),
            (2, None, 1, &b"two"[..])
        );
        outbox.acknowledged();
        outbox.log(b"three");
        assert_eq!(outbox.batch().unwrap().map(|batch| batch.log), Some(b"three".to_vec()));
        outbox.acknowledged();
        outbox.notes(vec!["four".to_owned()]);
        let last = outbox.batch().unwrap().map(|batch| (batch.sequence, batch.notes));
        assert_eq!(last, Some((4, vec!["four".to_owned()])));
    }

    #[test]
    fn artifacts_are_held_until_they_are_acknowledged() {
        let folder = tempfile::tempdir().unwrap();
        let mut outbox = outbox(&folder);
        outbox.losses(losses(0..2));
        assert!(!outbox.may_hold_artifacts());
        outbox.artifact(v1::Artifact::default());
        assert!(outbox.may_hold_artifacts());
        outbox.batch().unwrap();
        assert!(outbox.may_hold_artifacts(), "sent is not acknowledged");
        outbox.acknowledged();
        assert!(!outbox.may_hold_artifacts());
        outbox.artifact(v1::Artifact::default());
        outbox.losses(losses(0..50_000));
        assert!(outbox.may_hold_artifacts(), "on disk");
    }

    #[test]
    fn it_holds_the_attempt_back_only_where_the_disk_refuses_and_loses_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let mut roomy = outbox(&folder);
        roomy.losses(losses(0..50_000));
        assert!(
            !roomy.is_full()
                && roomy.waiting.len() <= ROWS_IN_MEMORY_MAX
                && folder.path().join("1.reports").exists()
        );
        roomy.clear();
        assert_eq!((roomy.batch().unwrap(), folder.path().join("1.reports").exists()), (None, false));

        let mut cramped = Outbox::new(folder.path().join("gone/1.reports"));
        let mut told = 0;
        while !cramped.is_full() {
            cramped.losses(losses(told..told + 16));
            told += 16;
        }
        // The disk has room again.
        std::fs::create_dir(folder.path().join("gone")).unwrap();
        cramped.spill();
        assert!(!cramped.is_full());
        let mut arrived = Vec::new();
        while let Some(batch) = cramped.batch().unwrap() {
            assert_eq!(batch.sequence, 1 + arrived.len() as u64 / ROWS_PER_BATCH as u64);
            arrived.extend(batch.losses.iter().map(|loss| loss.step));
            cramped.acknowledged();
        }
        assert_eq!(arrived, (0..told).collect::<Vec<_>>());
    }

    proptest! {
        /// However reporting, sending and acknowledging interleave: every row arrives once, in order, in batches numbered 1, 2, 3, ...
        #[test]
        fn rows_arrive_once_and_in_order(moves in proptest::collection::vec((0..3_u8, 0..1_500_u64), 1..30)) {
            let folder = tempfile::tempdir().unwrap();
            let (mut outbox, mut told, mut arrived, mut sequence) = (outbox(&folder), 0, Vec::new(), 0);
            let mut deliver = |outbox: &mut Outbox| {
                let Some(batch) = outbox.batch().unwrap() else { return false };
                sequence += 1;
                assert_eq!(batch.sequence, sequence);
                assert!(batch.losses.len() <= ROWS_PER_BATCH);
                arrived.extend(batch.losses.iter().map(|loss| loss.step));
                outbox.acknowledged();
                true
            };
            for (kind, count) in moves {
                match kind {
                    0 => { outbox.losses(losses(told..told + count)); told += count; }
                    1 => { outbox.batch().unwrap(); }
                    _ => { deliver(&mut outbox); }
                }
            }
            while deliver(&mut outbox) {}
            prop_assert_eq!(arrived, (0..told).collect::<Vec<_>>());
        }
    }
}
