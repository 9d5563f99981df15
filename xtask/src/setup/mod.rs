//! `cargo xtask setup`: libtorch, pretrained weights and demo data, downloaded once into the shared cache.
//!
//! Every step is safe to repeat: what is whole is kept, what is missing or damaged is made again in a
//! staging folder and moved into place in one piece.

mod cache;
mod digest;
mod emoji;
mod fetch;
mod libtorch;
mod manifest;
mod node;
mod npm;
pub mod packages;
mod pins;
mod progress;
pub mod python_package;
mod python_torch;
mod run;
mod tools;
mod unpack;
mod version;
mod weights;

pub use cache::{cache_dir, repository};
pub use run::{SetupOptions, run};
