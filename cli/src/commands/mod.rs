//! One file a command.

pub mod figure;
pub mod plan;
pub mod results;
pub mod serve;
pub mod status;
pub mod submit;
pub mod trials;
