//! The folder in which a program keeps its checkpoints: it outlives the attempts at its trial.

mod file_list;
mod folder;
mod keeper;
mod restore;

pub(crate) use folder::{TrialFolder, clear_old};
pub(crate) use keeper::CheckpointKeeper;
pub(crate) use restore::restore;
