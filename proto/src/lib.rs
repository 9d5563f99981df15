//! The protocol between coordinator, workers and tools: generated code and the conversions between wire and [`sortie_core`] types.
//! The comments in `sortie/v1/*.proto` are the contract.

mod convert;
mod fingerprint;
mod keep;
mod lease;
mod peer;
mod prerequisite;
#[cfg(test)]
mod round_trip;
mod states;
mod version;

pub use convert::WireError;
pub use version::{API_VERSION, MESSAGE_BYTES_MAX, TRIALS_NAMED_MAX};

/// Version 1 of the protocol.
#[expect(
    missing_docs,
    clippy::allow_attributes,
    clippy::large_enum_variant,
    clippy::too_many_lines,
    unused_qualifications,
    reason = "generated; the .proto files document it"
)]
pub mod v1 {
    tonic::include_proto!("sortie.v1");
}
