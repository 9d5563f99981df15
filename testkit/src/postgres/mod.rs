//! A PostgreSQL server of one's own: started in a moment on a free port, killed as by a power cut, and brought back with what it had
//! promised to keep. Several may run side by side. None outlives the process that started it, however that ends.

mod account;
mod installation;
mod server;

pub use server::Postgres;
