//! Benchmarks, fault injection and deployment checks with real processes and real databases: what takes too long for tests. `cargo xtask
//! bench`, `chaos` and `acceptance` build and run it.

pub mod acceptance;
pub mod chaos;
mod clock;
pub mod cluster;
pub mod coordinator;
pub mod cycle_cost;
mod disk;
pub mod dispatch;
pub mod environment;
pub mod idle;
mod load_clients;
pub mod programs;
mod reference_sql;
pub mod results;
mod sql_baseline;
mod statistics;
pub mod train;
pub mod turnaround;
