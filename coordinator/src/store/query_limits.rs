//! The limits of users' own queries.

use std::time::Duration;

/// The longest query.
pub const QUERY_BYTES_MAX: usize = 64 << 10;
/// The longest row of an answer.
pub const QUERY_ROW_BYTES_MAX: usize = 1 << 20;
/// The most columns of an answer: all views side by side have fewer.
pub const QUERY_COLUMNS_MAX: usize = 128;
/// How long a query may take, with the time that its reader takes for the rows: as long as it reads, the database keeps what it reads.
pub const QUERY_TIME_MAX: Duration = Duration::from_secs(60);
/// Queries that may run at a time.
pub const QUERIES_MAX: usize = 2;
/// Memory that a query may take on SQLite, beyond what its process has before it begins: the widest row fits whose values are all as long as
/// they may be, and SQLite keeps what is longer than its cache in files.
pub const QUERY_MEMORY_MAX: u64 = 256 << 20;
/// Temporary space that a query may take: sorts of some millions of rows, on a disk that others need, too.
pub const QUERY_TEMPORARY_BYTES_MAX: u64 = 1 << 30;
/// Files that it may have there on SQLite, which has one or two for each sort that does not fit into its cache. The system limits the length
/// of each, so each may have its share.
pub(super) const QUERY_TEMPORARY_FILES_MAX: u64 = 4;
