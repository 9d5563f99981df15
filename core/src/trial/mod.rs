//! One trial: everything that decides its numbers, and the identity made of exactly that.

mod id;
mod identity;
mod point;
mod specification;
#[cfg(test)]
pub(crate) mod tests;

pub use id::{BadTrialId, TrialId};
pub use identity::Identifier;
pub use point::Point;
pub use specification::{DatasetSpec, PROTOCOL_VERSION, TrialSpec, Work};
