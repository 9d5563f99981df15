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
