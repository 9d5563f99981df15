//! The configuration of an agent, and why it may stop by itself.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sortie_access::{AccessError, Target};
use sortie_artifacts::AllowedStore;

use crate::launcher::{LaunchError, Launcher, Slot};
use crate::observation::Observer;

/// The configuration of an agent.
#[derive(Clone, Debug)]
pub struct AgentConfig {
    /// The coordinator, and what it must prove.
    pub coordinator: Target,
    /// The folder that holds the datasets' folders.
    pub data: PathBuf,
    /// The folder of weights, decoded datasets and logs of attempts.
    pub cache: PathBuf,
    /// One trial runs in each slot at a time; at least one.
    pub slots: Vec<Slot>,
    /// Whether trials share a device as far as its memory goes; otherwise all slots are used, whatever the trials need.
    pub by_memory: bool,
    /// CPU threads of each trial.
    pub threads: usize,
    /// Only trials of this sweep; of any if none.
    pub sweep: Option<String>,
    /// End when no trial is left that this worker could ever get.
    pub exit_when_idle: bool,
    /// What finds a trainer and its libtorch.
    pub launcher: Arc<Launcher>,
    /// The program whose `guard` subcommand runs a sweep's own commands; none where that is not allowed.
    pub command_guard: Option<PathBuf>,
    /// Artifact stores that are no folders and that this worker may use all the same, with the keys that it has.
    pub allowed_stores: Vec<AllowedStore>,
    /// The name that the user gave this machine, instead of the id of the system's start.
    pub machine: Option<String>,
    /// The tags that the user gave this worker.
    pub tags: Vec<String>,
    /// Memory of the smallest GPU in GiB; 0 without GPUs.
    pub gpu_memory_gib: f64,
    /// Looks for a dataset's folder below the data root, by its name; an error says in one line what is missing.
    pub find_dataset: fn(&Path, &str) -> Result<(), String>,
    /// From the request to stop to the end of what does not stop.
    pub grace: Duration,
    /// How long this worker may work; for ever if none.
    pub time_left: Option<Duration>,
    /// How much of that must be left for a trial of a sweep of which none has finished here.
    pub time_for_unknown: Duration,
    /// Where the agent publishes what it does.
    pub observer: Arc<Observer>,
}

/// Why an agent did not start, or stopped by itself. One line each.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The coordinator's address cannot be used.
    #[error(transparent)]
    Address(#[from] AccessError),
    /// Devices that are not there.
    #[error("--devices {0}")]
    Devices(String),
    /// There is no usable trainer or libtorch, or the trainer is of another build.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// The trainer's program was replaced by one of another build while this worker ran.
    #[error("{0}")]
    OtherBuild(String),
    /// None of its devices works any more.
    #[error("no device of this worker works any more: {0}")]
    DevicesLost(String),
    /// This machine lacks something that its devices need.
    #[error("{0}")]
    Machine(String),
    /// The coordinator names an artifact store that this worker may not use.
    #[error(
        "the coordinator keeps artifacts in {0}, which this worker may not use: its keys would go there. Allow it by --store-allow {0}"
    )]
    Store(String),
    /// The builds of worker and coordinator have different API versions.
    #[error("{0}")]
    Version(String),
    /// The coordinator sent a trial that this build does not understand.
    #[error("the coordinator sent a trial that this build cannot run: {0}; use builds of one version")]
    Incompatible(String),
    /// The coordinator did not answer, and no trial ran.
    #[error("cannot reach the coordinator at {url} for {seconds} s: {reason}")]
    Unreachable {
        /// Its address.
        url: String,
        /// For how long.
        seconds: u64,
        /// The last error.
        reason: String,
    },
    /// It was to end when nothing is left for it, and its machine is quarantined for what is left.
    #[error("trials wait, and none is for this machine: it is {0}")]
    HeldBack(String),
    /// Asked to stop twice.
    #[error(
        "stopped at once; trials that were running were not handed back and are free again when their leases expire"
    )]
    Interrupted,
    /// The folder that an agent writes to cannot be used.
    #[error("cannot use the cache folder {}: {reason}", path.display())]
    Cache {
        /// The folder.
        path: PathBuf,
        /// The system's error.
        reason: std::io::Error,
    },
    /// An option with a value that is not allowed.
    #[error("{0}")]
    Usage(String),
    /// A system call that an agent needs failed.
    #[error("{0}: {1}")]
    System(&'static str, #[source] std::io::Error),
}
