//! What the coordinator knows of sweeps, trials and workers, as commands list it: rows of JSON objects (`Serialize`) and text for people.

mod access;
mod artifacts;
mod certificate;
mod history;
mod query;
mod style;
mod sweeps;
mod trials;
mod workers;

pub use access::{AuditList, AuditRow, TokenList, TokenRow};
pub use artifacts::{ArtifactList, ArtifactRow};
pub use certificate::Certificate;
pub use history::{HistoryEvent, TrialHistory};
pub use query::{QueryFormat, QueryValue, QueryWriter};
pub use sweeps::{SweepList, SweepRow};
pub use trials::{TrialList, TrialRow};
pub use workers::{WorkerList, WorkerRow};
