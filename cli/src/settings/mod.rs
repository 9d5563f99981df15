//! Settings: flags that have an environment variable. Flags, variables and files are read alike, for all commands.

mod files;
mod values;

pub use files::{TRIAL_PROGRAM, with_files};
pub use values::{name_variable, read_alike, variable, without_empty_variables};
