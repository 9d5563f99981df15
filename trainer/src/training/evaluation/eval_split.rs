//! Names one split of one domain.

use sortie_core::metrics::SplitName;
use sortie_core::trial::DatasetSpec;

/// One split of one domain. The order is that of domains, then of splits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct EvalSplit {
    /// Index of the domain in the dataset.
    pub(crate) domain: usize,
    /// The split of that domain.
    pub(crate) split: SplitName,
}

impl EvalSplit {
    /// The name of its logits in a file: `<domain>/<split>`.
    pub(crate) fn logits_name(self, dataset: &DatasetSpec) -> String {
        format!("{}/{}", dataset.domains[self.domain], self.split)
    }
}
