//! The URL of a database: read once, strictly, and never shown with its password.

mod parameters;
mod server;
mod url;

pub(in crate::store) use server::ServerUrl;
pub(in crate::store) use url::Place;
pub use url::{BadDatabaseUrl, DatabaseUrl};
