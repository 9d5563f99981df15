//! The coordinator's database, and all that decides what is written to it. Decisions are made in [`sortie_core::job`]; one task applies
//! them in transactions that many requests share, and every write names the state and token that its decision was made on. All SQL
//! that ships is in `sql/` and `migrations/`. In reading order: `types` and `error`, `handle` (what callers hold), `writer` (the one task that writes),
//! `attempts` (reports and ends), `claims` (assigning trials), `admin` (what users do), `backend` (the interface below all decisions),
//! `sql` (both real databases), `memory` (the model), `simulation` (tests of everything above on the model).

mod access;
mod admin;
mod attempts;
mod backend;
mod claims;
mod database_url;
mod error;
mod handle;
mod memory;
mod query;
mod query_limits;
mod query_wire;
mod request;
mod restore;
mod settings;
#[cfg(test)]
mod simulation;
mod sql;
mod types;
mod writer;

pub use access::{AccessToken, AuditEntry, Deed, NewToken, TokenState};
pub use database_url::{BadDatabaseUrl, DatabaseUrl};
pub use error::StoreError;
pub use handle::{Backup, Certificate, Pinned, Store, Unpinned, Verified};
pub use memory::Memory;
pub use query::{QueryRow, QueryValue, Rows, VIEWS};
pub use query_limits::{
    QUERIES_MAX, QUERY_BYTES_MAX, QUERY_COLUMNS_MAX, QUERY_MEMORY_MAX, QUERY_ROW_BYTES_MAX,
    QUERY_TEMPORARY_BYTES_MAX, QUERY_TIME_MAX,
};
pub(crate) use query_wire::row_wire;
pub use restore::{Restored, restore};
pub use settings::{Limits, OpenOptions, Settings};
#[cfg(feature = "fuzzing")]
pub use sql::GuardedFile;
pub use sql::{DEFAULT_URL, QUERY_WORD, run_query};
pub use types::*;
