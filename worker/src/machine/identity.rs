//! The machine that a worker runs on, as the coordinator holds faults against it: what workers share that were started alike on one host.

use std::path::Path;

use crate::config::AgentConfig;

/// Variables that decide which programs, libraries and devices a trial finds.
const VARIABLES: [&str; 9] = [
    "PATH",
    "LD_LIBRARY_PATH",
    "PYTHONPATH",
    "VIRTUAL_ENV",
    "CONDA_PREFIX",
    "CUDA_VISIBLE_DEVICES",
    "NVIDIA_VISIBLE_DEVICES",
    "SORTIE_LIBTORCH",
    "SORTIE_TRAINER",
];
/// Where Linux says which start of the system this is.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The id of the machine: the host's name and a digest of the boot id (or of the name that the user gave instead) and of what this worker
/// was started with. Workers that were started alike have the same, restarted or not; one that starts with what was missing has another.
pub(crate) fn machine_id(config: &AgentConfig, host: &str) -> String {
    let boot_id = || std::fs::read_to_string(BOOT_ID).unwrap_or_default();
    let place = config.machine.clone().unwrap_or_else(boot_id);
    let mut digest = blake3::Hasher::new();
    let mut add = |name: &str, value: &[u8]| {
        digest.update(&(name.len() as u64).to_le_bytes()).update(name.as_bytes());
        digest.update(&(value.len() as u64).to_le_bytes()).update(value);
    };
    add("place", place.trim().as_bytes());
    add("user", rustix::process::geteuid().as_raw().to_string().as_bytes());
    add("folder", bytes(&std::env::current_dir().unwrap_or_default()));
    add("data", bytes(&config.data));
    add("cache", bytes(&config.cache));
    add("commands", if config.command_guard.is_some() { b"1" } else { b"0" });
    for slot in &config.slots {
        add("device", format!("{} {}", slot.device, slot.visible).as_bytes());
    }
    for name in VARIABLES {
        add(name, std::env::var_os(name).unwrap_or_default().as_encoded_bytes());
    }
    let digest = digest.finalize().to_hex();
    format!("{}-{}", config.machine.as_deref().unwrap_or(host), &digest[..8])
}

fn bytes(path: &Path) -> &[u8] {
    path.as_os_str().as_encoded_bytes()
}
