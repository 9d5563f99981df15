//! DomainBed's records, selection methods and tables, to the character (docs/protocol.md, "DomainBed"). `trials` makes runs of Sortie's
//! own trials, `read` and `write` handle run folders, `select` chooses as DomainBed's methods do, `tables` prints what its collector
//! prints.

mod numpy;
mod read;
mod registry;
mod run;
mod select;
mod tables;
mod trials;
mod write;

pub use read::{Folders, ReadError, read};
pub use registry::domain_names;
pub use run::{MISSING, Record, Run};
pub use select::SelectionMethod;
pub use tables::tables;
pub use trials::{IMPORTED, left_out, runs, unshown};
pub use write::write;
