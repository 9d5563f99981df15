//! Queries that users write themselves. They may read the views of docs/sql.md and change nothing, and that is not decided by looking at
//! their text: the database that would answer one compiles it first, and reports what it would touch. Each has a connection of its own, so
//! that nothing of it stays and no other request waits for it; on SQLite, where the database is a library, also a process of its own, which
//! cannot take more than its share of the machine.

mod answer_file;
#[cfg(feature = "fuzzing")]
mod fuzzing;
mod postgres;
mod process;
mod program;
mod refusals;
mod service;
mod sqlite;

#[cfg(feature = "fuzzing")]
pub use fuzzing::GuardedFile;
pub use program::{QUERY_WORD, run_query};
pub(super) use service::Queries;
