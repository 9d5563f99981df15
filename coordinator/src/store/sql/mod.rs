//! The only SQL of the project. [`statements`] has every statement, once for both databases; [`engine`] hides their drivers.

mod access;
mod backup;
#[cfg(test)]
mod checks;
mod copy;
mod database;
mod engine;
mod file_guard;
mod inserts;
mod left_files;
mod migrations;
mod open;
mod pins;
mod postgres;
mod queries;
mod reads;
mod removal;
mod restore;
mod rows;
#[cfg(test)]
mod session_checks;
mod sessions;
mod sqlite;
mod statements;
mod time;
mod transaction;
mod writes;

pub(super) use open::open;
#[cfg(feature = "fuzzing")]
pub use queries::GuardedFile;
pub use queries::{QUERY_WORD, run_query};
pub(super) use restore::{Filled, fill};
pub use sqlite::DEFAULT_URL;
