//! Starts trainers: for trials, and for what users ask by `sortie evaluate`, `bench` and `weights`.
//!
//! Reading order: `candidates` lists the folders that may hold a libtorch, `probe` runs a trainer with one of them, `find`
//! takes the first that answers, `devices` chooses GPUs from the answer, `environment` holds the variables of a trainer.

mod candidates;
mod devices;
mod environment;
mod find;
mod probe;

pub use devices::{
    DeviceSelection, Slot, SlotCount, SlotPlan, gpus_without_libtorch, plan, smallest_gpu_gib, usable_gpus,
};
pub use environment::environment;
pub(crate) use find::find_in_background;
pub use find::{LaunchError, Launcher, Trainer};
