//! The dataset of a trial.

use serde::{Deserialize, Serialize};

use super::layout::Layout;
use crate::named;

/// A dataset of a trial: by name, never by path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatasetSpec {
    /// The folder below a worker's data root.
    pub name: String,
    /// Names of the domains, sorted, at least two.
    pub domains: Vec<String>,
    /// Names of the classes, sorted, at least two.
    pub classes: Vec<String>,
    /// What the `in`/`out` split divides.
    pub split_by: SplitBy,
    /// Where the images of a class of a domain lie below the dataset's folder.
    #[serde(default, skip_serializing_if = "Layout::is_default")]
    pub layout: Layout,
    /// Whether a domain may lack a class.
    #[serde(default, skip_serializing_if = "MissingClasses::is_refuse")]
    pub missing_classes: MissingClasses,
}

impl DatasetSpec {
    /// The index of a domain in sorted order, which seeds its split and its batches.
    pub fn domain_index(&self, domain: &str) -> Option<usize> {
        self.domains.iter().position(|candidate| candidate == domain)
    }
}

/// What the `in`/`out` split divides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SplitBy {
    /// Single images, each domain by itself (DomainBed's way).
    Image,
    /// File stems, one permutation for all domains: all styles of an object are in the same part of the split.
    Stem,
}
named!(SplitBy, "split unit", { Image => "image", Stem => "stem" });

/// What to do about a class that has no image in some domain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum MissingClasses {
    /// The dataset is refused: a class that is missing is mostly a folder that was not copied.
    #[default]
    Refuse,
    /// The domain has the other classes only.
    Allow,
}
named!(MissingClasses, "rule for missing classes", { Refuse => "refuse", Allow => "allow" });

impl MissingClasses {
    /// Whether it is the usual rule, of which nothing has to be said.
    pub fn is_refuse(&self) -> bool {
        *self == Self::Refuse
    }

    /// What every table, figure and report says of the dataset; nothing under the usual rule.
    pub fn note(self) -> Option<&'static str> {
        match self {
            Self::Refuse => None,
            Self::Allow => Some("a domain may lack classes that others have (missing_classes = \"allow\")"),
        }
    }
}
