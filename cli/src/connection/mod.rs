//! The connection to the coordinator: its flags, its requests, and the reasons why there is no answer.

mod access_client;
mod client;
mod error;
mod flags;
mod import_worker;
mod retrying_client;
mod run_facts;

pub use access_client::AccessClient;
pub use client::Client;
pub use error::ClientError;
pub use flags::Connection;
pub use import_worker::ImportWorker;
pub use retrying_client::RetryingClient;
