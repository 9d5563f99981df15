//! The handle that callers hold: opening, what workers and users ask for, and `sortie verify`.

mod reads;
mod store;
mod users;
mod verification;
mod workers;

pub use store::Store;
pub use verification::{Certificate, Verified};
