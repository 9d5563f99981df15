//! One file a command.

pub mod artifacts;
pub mod control;
pub mod diff;
pub mod explain;
pub mod export;
pub mod extend;
pub mod figure;
pub mod import;
pub mod logs;
pub mod plan;
pub mod presets;
pub mod report;
pub mod results;
pub mod serve;
pub mod sql;
pub mod status;
pub mod submit;
pub mod synthetic;
pub mod trials;
pub mod verify;
pub mod wait;
pub mod workers;
