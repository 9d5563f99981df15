//! Digests of datasets and weights: a name means one content for good.

use sortie_core::keys::AttemptToken;

use super::unit_of_work::UnitOfWork;
use crate::store::backend::AttemptRow;
use crate::store::request::Request;

impl UnitOfWork {
    /// Names whose digests these requests bring.
    pub(crate) fn names_to_compare(&self, requests: &[Request]) -> Vec<(&'static str, String)> {
        let mut names = Vec::new();
        for (token, batch) in requests.iter().filter_map(Request::reported) {
            let Some(row) = self.attempts.get(&token) else { continue };
            let reported = batch.and_then(|batch| batch.fingerprint.as_ref());
            let reported = reported.is_some_and(|reported| {
                !reported.dataset_digest.is_empty() || !reported.weights_digest.is_empty()
            });
            if reported || row.dataset_digest.is_some() || row.weights_digest.is_some() {
                names.extend(self.names(row));
            }
        }
        names.sort_unstable();
        names.dedup();
        names
    }

    pub(crate) fn note_pin(&mut self, kind: &'static str, name: String, digest: Option<String>) {
        if let Some(digest) = digest {
            self.pins.insert((kind, name), digest);
        }
    }

    fn names(&self, row: &AttemptRow) -> Vec<(&'static str, String)> {
        let Ok(work) = self.work(row) else { return Vec::new() };
        let dataset = work.dataset().map(|name| ("dataset", name.to_owned()));
        dataset.into_iter().chain(work.weights().map(|name| ("weights", name.to_owned()))).collect()
    }

    /// Compares the attempt's digests with those that the names are pinned to; pins what is not pinned yet if `pin` is set. Returns
    /// what is wrong, in one line.
    pub(super) fn pinned_mismatch(&mut self, token: AttemptToken, pin: bool) -> Option<String> {
        let row = self.attempts.get(&token)?.clone();
        for (kind, name) in self.names(&row) {
            let digest = if kind == "dataset" { &row.dataset_digest } else { &row.weights_digest };
            // An attempt that ended before it read its data has no digests, and nothing to compare.
            let Some(digest) = digest else { continue };
            match self.pins.get(&(kind, name.clone())) {
                Some(pinned) if pinned != digest => {
                    return Some(format!(
                        "the {kind} of {name} on this worker has digest {digest}, but earlier results were made with {pinned}"
                    ));
                }
                None if pin => {
                    self.pins.insert((kind, name.clone()), digest.clone());
                    self.changes.pins.push((kind, name, digest.clone()));
                }
                _ => {}
            }
        }
        None
    }
}
