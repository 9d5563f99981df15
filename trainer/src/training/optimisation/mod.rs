//! Updates of the trained tensors: `parameters` holds them in one buffer, `optimiser` changes it.

mod optimiser;
mod parameters;

pub use optimiser::{Optimiser, Update};
pub use parameters::Parameters;
