//! What the program `sortie-trainer` does besides trials, one file for each request.

pub mod bench;
pub mod evaluate;
pub mod probe;
pub mod weights;
