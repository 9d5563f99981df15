//! What an attempt has to tell, numbered: a batch keeps its number and its content until it is acknowledged, however often it is said.

use std::collections::VecDeque;

use sortie_core::metrics::{Evaluation, TrainingLoss};
use sortie_proto::v1;

/// Rows of one batch at most: far below the limit of a message, and a transaction that is short.
pub(super) const ROWS_PER_BATCH: usize = 256;
/// Rows that wait at most, some 10 MiB: hundreds of trials of the usual length, so only a runaway one ever waits for its coordinator.
const ROWS_MAX: usize = 100_000;

#[derive(Clone, Debug)]
enum Row {
    Fingerprint(v1::Fingerprint),
    Loss(v1::TrainingLoss),
    Evaluation(v1::Evaluation),
}

/// Reports of one attempt that are not acknowledged.
#[derive(Debug)]
pub(super) struct Outbox {
    waiting: VecDeque<Row>,
    /// Sent, perhaps several times, and not acknowledged.
    sent: Option<v1::Batch>,
    next_sequence: u64,
}

impl Outbox {
    /// Nothing to tell; the first batch will be number 1.
    pub(super) fn new() -> Self {
        Self { waiting: VecDeque::new(), sent: None, next_sequence: 1 }
    }

    /// What the attempt runs on.
    pub(super) fn fingerprint(&mut self, fingerprint: v1::Fingerprint) {
        self.waiting.push_back(Row::Fingerprint(fingerprint));
    }

    /// Training losses.
    pub(super) fn losses(&mut self, losses: Vec<TrainingLoss>) {
        self.waiting.extend(losses.into_iter().map(|loss| Row::Loss(loss.into())));
    }

    /// Evaluations.
    pub(super) fn evaluations(&mut self, evaluations: &[Evaluation]) {
        self.waiting.extend(evaluations.iter().map(|evaluation| Row::Evaluation(evaluation.into())));
    }

    /// How many rows no batch holds yet.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Whether the attempt must wait before it tells more.
    pub(super) fn is_full(&self) -> bool {
        self.waiting.len() >= ROWS_MAX
    }

    /// The batch to say now: the one that is not acknowledged, else the next rows under the next number; none if there are none.
    pub(super) fn batch(&mut self) -> Option<v1::Batch> {
        if self.sent.is_none() && !self.waiting.is_empty() {
            let mut batch = v1::Batch { sequence: self.next_sequence, ..v1::Batch::default() };
            let count = self.waiting.len().min(ROWS_PER_BATCH);
            for row in self.waiting.drain(..count) {
                match row {
                    Row::Fingerprint(fingerprint) => batch.fingerprint = Some(fingerprint),
                    Row::Loss(loss) => batch.losses.push(loss),
                    Row::Evaluation(evaluation) => batch.evaluations.push(evaluation),
                }
            }
            self.next_sequence += 1;
            self.sent = Some(batch);
        }
        self.sent.clone()
    }

    /// The batch that was said last is stored.
    pub(super) fn acknowledged(&mut self) {
        self.sent = None;
    }

    /// Drops what was not told: the coordinator will not have it.
    pub(super) fn clear(&mut self) {
        self.waiting.clear();
        self.sent = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn losses(steps: std::ops::Range<u64>) -> Vec<TrainingLoss> {
        steps.map(|step| TrainingLoss { step, loss: 0.5 }).collect()
    }

    #[test]
    fn a_number_never_gets_other_content() {
        let mut outbox = Outbox::new();
        assert_eq!(outbox.batch(), None);
        outbox.fingerprint(v1::Fingerprint::default());
        outbox.losses(losses(0..2));
        let first = outbox.batch().unwrap();
        assert_eq!((first.sequence, first.fingerprint.is_some(), first.losses.len()), (1, true, 2));
        outbox.losses(losses(2..3));
        assert_eq!(outbox.batch().unwrap(), first);
        outbox.acknowledged();
        let second = outbox.batch().unwrap();
        assert_eq!((second.sequence, second.fingerprint, second.losses.len()), (2, None, 1));
    }

    #[test]
    fn it_is_full_some_day() {
        let mut outbox = Outbox::new();
        outbox.losses(losses(0..ROWS_MAX as u64 - 1));
        assert!(!outbox.is_full());
        outbox.losses(losses(0..1));
        assert!(outbox.is_full());
        outbox.clear();
        assert_eq!((outbox.is_full(), outbox.batch()), (false, None));
    }

    proptest! {
        /// However telling, saying and acknowledging interleave: every row arrives once, in order, in batches numbered 1, 2, 3, ...
        #[test]
        fn rows_arrive_once_and_in_order(moves in proptest::collection::vec((0..3_u8, 0..700_u64), 1..40)) {
            let (mut outbox, mut told, mut arrived, mut sequence) = (Outbox::new(), 0, Vec::new(), 0);
            let mut deliver = |outbox: &mut Outbox| {
                let Some(batch) = outbox.batch() else { return false };
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
                    1 => { outbox.batch(); }
                    _ => { deliver(&mut outbox); }
                }
            }
            while deliver(&mut outbox) {}
            prop_assert_eq!(arrived, (0..told).collect::<Vec<_>>());
        }
    }
}
