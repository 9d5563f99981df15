//! The flags of the machine that a worker uses, and an agent on it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use sortie_artifacts::AllowedStore;
use sortie_core::access::Role;
use sortie_core::pipe::Probe;
use sortie_worker::launcher::{self, DeviceSelection, Launcher, SlotCount, SlotPlan};
use sortie_worker::{AgentConfig, AgentError};

use crate::connection::Connection;
use crate::folders;
use crate::trainer::Libtorch;

/// The time that must be left before `--until` for a trial of unknown duration.
const TIME_FOR_UNKNOWN: Duration = Duration::from_secs(60);
/// From the request to stop to the end of trials that do not stop by themselves, unless `--grace` says otherwise.
const GRACE: Duration = Duration::from_secs(5);

/// Options of the machine that a worker uses.
#[derive(Args, Clone, Debug)]
pub struct Machine {
    /// Folder of pretrained weights, datasets and logs of trials [default: sortie/ in the XDG cache folder]
    #[arg(long, value_name = "DIR", env = "SORTIE_CACHE")]
    pub cache: Option<PathBuf>,
    /// Where to train: all (every GPU that is visible, else the CPU), cpu, or cuda:0,1
    #[arg(long, value_name = "DEVICES", env = "SORTIE_DEVICES", default_value = "all")]
    pub devices: DeviceSelection,
    #[command(flatten)]
    pub libtorch: Libtorch,
    /// Trials at the same time: a number, distributed over the devices, or auto: on each GPU as many as its memory holds and the
    /// processors feed (docs/guide.md), and one on the CPU
    #[arg(long, value_name = "N | auto", env = "SORTIE_SLOTS", default_value = "auto")]
    pub slots: SlotCount,
    /// CPU threads of each trial [default: the processors divided by the slots; with --slots auto by the devices]
    #[arg(long, value_name = "N", env = "SORTIE_THREADS", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
    /// The name under which the coordinator holds faults of this machine against it [default: the host's name; machines are told apart by
    /// the id of the system's start and by what their workers were started with]
    #[arg(long = "machine", value_name = "NAME", env = "SORTIE_MACHINE", value_parser = machine_name)]
    pub name: Option<String>,
    /// An artifact store that this machine may use though it is no folder, if the coordinator names it: s3 for all of S3, or a place such
    /// as s3://BUCKET/PREFIX with all below it. May be repeated. With others the worker ends: its AWS_* keys would go there
    #[arg(long, value_name = "KIND | PLACE", env = "SORTIE_STORE_ALLOW", value_delimiter = ',')]
    pub store_allow: Vec<AllowedStore>,
}

/// A name that fits a table's column.
fn machine_name(text: &str) -> Result<String, String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if text.is_empty() || text.len() > 100 || !text.chars().all(fits) {
        return Err("must be 1 to 100 letters, digits, '.', '_' and '-'".to_owned());
    }
    Ok(text.to_owned())
}

impl Machine {
    /// An agent on this machine that takes any trial. `visible` is the value of CUDA_VISIBLE_DEVICES.
    ///
    /// # Errors
    /// One line that says what is wrong, or missing on this machine.
    pub fn agent(
        &self,
        data: Option<&PathBuf>,
        connection: &Connection,
        allow_commands: bool,
        visible: Option<&OsStr>,
    ) -> Result<AgentConfig, AgentError> {
        let usage = |error: anyhow::Error| AgentError::Usage(format!("{error:#}"));
        let coordinator = connection.target(Role::Worker)?;
        let cache = folders::cache(self.cache.as_ref()).map_err(usage)?;
        let data = folders::absolute(&data.cloned().unwrap_or_else(|| cache.join("data"))).map_err(usage)?;
        let launcher = self.libtorch.launcher(folders::trainer().map_err(usage)?, &cache).map_err(usage)?;
        let (gpus, probe) = self.gpus(allow_commands, &launcher, visible)?;
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let plan = launcher::plan(&self.devices, &gpus, self.slots, processors);
        let plan = plan.map_err(AgentError::Devices)?;
        // How many trials share a device must not decide their numbers, and so not their threads.
        let shares = if plan.by_memory { plan.devices() } else { plan.slots.len() };
        let threads = self.threads.map_or_else(|| (processors / shares).max(1), usize::from);
        let SlotPlan { slots, by_memory } = plan;
        Ok(AgentConfig {
            coordinator,
            data,
            cache,
            threads,
            gpu_memory_gib: probe.map_or(0.0, |probe| launcher::smallest_gpu_gib(&slots, &probe)),
            slots,
            by_memory,
            sweep: None,
            exit_when_idle: false,
            launcher: Arc::new(launcher),
            observer: Arc::default(),
            command_guard: allow_commands.then(folders::own_program),
            allowed_stores: self.store_allow.clone(),
            machine: self.name.clone(),
            tags: Vec::new(),
            find_dataset: |root, name| sortie_data::find(root, name).map_err(|error| error.to_string()),
            grace: GRACE,
            time_left: None,
            time_for_unknown: TIME_FOR_UNKNOWN,
        })
    }

    /// The GPUs that trials may use. A worker that trains needs a working trainer at its start; one for the CPU that may run commands looks
    /// for it when the first trial needs it.
    fn gpus(
        &self,
        allow_commands: bool,
        launcher: &Launcher,
        visible: Option<&OsStr>,
    ) -> Result<(Vec<String>, Option<Probe>), AgentError> {
        let cpu_only = self.devices == DeviceSelection::Cpu;
        if cpu_only && allow_commands {
            return Ok((Vec::new(), None));
        }
        let trainer = match launcher.find() {
            Ok(trainer) => trainer,
            Err(error) if allow_commands => {
                tracing::warn!(%error, "this worker runs commands only");
                return Ok((launcher::gpus_without_libtorch(visible, Path::new("/dev")), None));
            }
            Err(error) => return Err(error.into()),
        };
        let (build, folder, source) =
            (&trainer.probe.trainer.libtorch, trainer.libraries.display(), &trainer.source);
        tracing::info!(%build, %folder, found_by = %source, "libtorch");
        if cpu_only {
            return Ok((Vec::new(), None));
        }
        let gpus = launcher::usable_gpus(&trainer.probe, visible);
        let gpus =
            gpus.map_err(|reason| AgentError::Machine(format!("{reason}; --devices cpu trains on the CPU")))?;
        if let (true, Some(value)) = (gpus.is_empty(), visible.filter(|value| !value.is_empty())) {
            tracing::warn!(
                ?value,
                "CUDA sees no GPU by this value of CUDA_VISIBLE_DEVICES: this worker trains on the CPU"
            );
        }
        Ok((gpus, Some(trainer.probe)))
    }
}
