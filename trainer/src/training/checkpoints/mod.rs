//! The files that a trial writes into the artifact store: `manager` decides when and what, and resumes a trial. `restore` copies a
//! trial's state into a checkpoint and back, `checkpoint_file` and `safetensors_file` are the format, `artifact_writer` writes on a
//! thread of its own, and `artifact_folder` is the trial's part of the store.

mod artifact_folder;
mod artifact_writer;
mod checkpoint_file;
mod manager;
mod restore;
mod safetensors_file;

pub(super) use artifact_folder::ArtifactFolder;
pub(super) use checkpoint_file::Checkpoint;
#[cfg(feature = "fuzzing")]
pub(crate) use checkpoint_file::check_checkpoint;
pub(super) use manager::CheckpointManager;
pub(super) use restore::spec_hash;
pub(super) use safetensors_file::{fill, metadata, read_tensors};
