//! DomainBed's records, selection methods and tables, to the character (docs/protocol.md, "DomainBed"). `trials` makes runs of Sortie's
//! own trials, `import` sweeps of other programs' runs and of those that Sortie `exported`; `read` (a line: `parse`) and `write` handle
//! run folders, `select` chooses as DomainBed's methods do, `tables` prints what its collector prints.

mod exported;
mod import;
mod numpy;
mod parse;
mod read;
mod registry;
mod run;
mod select;
mod tables;
mod together;
mod trials;
mod write;

pub use import::{ImportError, ImportedSweep};
pub use read::{Folders, ReadError, read};
pub use registry::name_of;
pub use run::{MISSING, Origin, Record, Run};
pub use select::SelectionMethod;
pub use tables::{latex, tables};
pub use together::{MixedRuns, together};
pub use trials::{IMPORTED, left_out, runs, skipped, unshown};
pub use write::write;
