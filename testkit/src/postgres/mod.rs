//! A PostgreSQL server for a test: started on a free port, killed as by a power cut, and restarted with its data. Several may run side by
//! side. None outlives the process that started it, however that ends. A pooler, PgBouncer, can stand in front of one.

mod account;
mod installation;
mod pooler;
mod server;

pub use pooler::{PgBouncer, PoolMode};
pub use server::Postgres;
