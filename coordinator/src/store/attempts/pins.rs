//! Digests of datasets and weights: what a name means is what two machines have under it, or what a user says.

use sortie_core::inputs::{Input, InputKind, Pins, Verdict, shown};
use sortie_core::job::{Blame, ErrorClass, Outcome};
use sortie_core::keys::AttemptToken;

use super::unit_of_work::{MachineOutcome, UnitOfWork};
use crate::store::backend::AttemptRow;
use crate::store::request::Request;

impl UnitOfWork {
    /// Inputs whose digests these requests bring.
    pub(crate) fn inputs_to_compare(&self, requests: &[Request]) -> Vec<Input> {
        let mut inputs = Vec::new();
        for (token, batch) in requests.iter().filter_map(Request::reported) {
            let Some(row) = self.attempts.get(&token) else { continue };
            let reported = batch.and_then(|batch| batch.fingerprint.as_ref());
            let reported = reported.is_some_and(|reported| {
                !reported.dataset_digest.is_empty() || !reported.weights_digest.is_empty()
            });
            if reported || row.dataset_digest.is_some() || row.weights_digest.is_some() {
                inputs.extend(self.inputs(row));
            }
        }
        inputs.sort_unstable();
        inputs.dedup();
        inputs
    }

    pub(crate) fn note_pins(&mut self, pins: Vec<(Input, Pins)>) {
        self.pins.extend(pins);
    }

    fn inputs(&self, row: &AttemptRow) -> Vec<Input> {
        self.work(row).map(|work| Input::of(&work)).unwrap_or_default()
    }

    /// Compares the attempt's digests with those of other machines. Returns how the attempt ends by that, if it does.
    pub(super) fn compare_digests(&mut self, token: AttemptToken, has_result: bool) -> Option<Outcome> {
        let row = self.attempts.get(&token)?.clone();
        let mut fitting = Vec::new();
        for input in self.inputs(&row) {
            let digest = match input.kind {
                InputKind::Dataset => row.dataset_digest.clone(),
                InputKind::Weights => row.weights_digest.clone(),
            };
            // An attempt that ended before it read its data has no digests, and nothing to compare.
            let Some(digest) = digest else { continue };
            let mut pins = self.pins.get(&input).cloned().unwrap_or_default();
            let verdict = pins.report(&row.machine, &digest);
            self.resolved |= matches!(&verdict, Verdict::Fits { odd } if !odd.is_empty());
            let end = self.end_by(&row, &input, &digest, verdict, &pins);
            self.change_pins(&input, pins);
            if end.is_some() {
                return end;
            }
            fitting.push((input, digest));
        }
        for (input, digest) in fitting.into_iter().filter(|_| has_result) {
            let mut pins = self.pins.get(&input).cloned().unwrap_or_default();
            pins.note_result(&digest);
            self.change_pins(&input, pins);
        }
        None
    }

    /// How an attempt ends by the verdict about one of its digests, if it does.
    fn end_by(
        &mut self,
        row: &AttemptRow,
        input: &Input,
        digest: &str,
        verdict: Verdict,
        pins: &Pins,
    ) -> Option<Outcome> {
        let of = format!("the {} of {}", input.kind, input.name);
        let (class, message) = match verdict {
            Verdict::Fits { odd } => {
                for machine in odd {
                    let message = format!(
                        "{of} is another on this machine than on two others, which have digest {}",
                        shown(digest)
                    );
                    let failure = Some((Blame::Machine, message));
                    let (sweep, kinds) = (row.sweep, vec![input.work_kind()]);
                    self.machine_outcomes.push(MachineOutcome { machine, sweep, kinds, failure });
                }
                return None;
            }
            Verdict::Odd { pinned } => {
                let name = &input.name;
                let advice = format!("`sortie pin {name} DIGEST` says that another one is right");
                (
                    ErrorClass::Machine,
                    format!("{of} on this worker has digest {digest}, but {pinned} is pinned; {advice}"),
                )
            }
            Verdict::Changed { earlier } => (
                ErrorClass::Machine,
                format!(
                    "{of} on this worker has digest {digest}, but earlier results were made with {earlier}"
                ),
            ),
            Verdict::Disputed => {
                let dispute =
                    pins.dispute(input).unwrap_or_else(|| format!("machines disagree about {input}"));
                return Some(Outcome::Failed { class: ErrorClass::Preempted, message: dispute });
            }
        };
        self.odd.insert(row.token, input.work_kind());
        Some(Outcome::Failed { class, message })
    }

    fn change_pins(&mut self, input: &Input, pins: Pins) {
        let before = self.pins.get(input).cloned().unwrap_or_default();
        if before == pins {
            return;
        }
        let (_, after) = self.changes.pins.entry(input.clone()).or_insert_with(|| (before, Pins::default()));
        after.clone_from(&pins);
        self.pins.insert(input.clone(), pins);
    }
}
