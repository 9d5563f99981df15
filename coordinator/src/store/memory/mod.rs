//! The model: what a database must do, in the plainest terms. Tests run the same contract against it and the real ones, and simulations
//! run the whole coordinator on it.

mod access;
mod pins;
mod reads;
mod removal;
mod sweeps;
mod tables;
mod transaction;

pub use tables::Memory;
