//! Starts trainers: trials, and what users ask for by `sortie evaluate`, `bench` and `weights`.

mod environment;

pub use environment::environment;
