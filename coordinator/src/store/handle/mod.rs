//! The handle that callers hold: opening, what workers and users ask for, who may, and `sortie verify`.

mod access;
mod backup;
mod pins;
mod reads;
mod store;
mod users;
mod verification;
mod workers;

pub use backup::Backup;
pub use pins::{Pinned, Unpinned};
pub use store::Store;
pub use verification::{Certificate, Verified};
