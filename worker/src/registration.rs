//! The data that a worker registers with.

use std::collections::BTreeSet;

use sortie_access::{AccessError, Token};
use sortie_proto::v1;

use crate::config::AgentConfig;
use crate::machine::identity::machine_id;

/// The registration of this worker, under an id and with a secret of its own.
///
/// # Errors
/// The system gives no random bytes.
pub(crate) fn registration(config: &AgentConfig) -> Result<v1::RegisterRequest, AccessError> {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let pid = std::process::id();
    // Hosts may share a name, and containers a process id. The id is random; no result depends on it.
    let unique = std::fs::read_to_string("/proc/sys/kernel/random/uuid").unwrap_or_default();
    let unique: String = unique.chars().filter(char::is_ascii_hexdigit).take(12).collect();
    let devices: BTreeSet<&str> = config.slots.iter().map(|slot| slot.device.as_str()).collect();
    Ok(v1::RegisterRequest {
        version: Some(v1::Version::ours("sortie worker")),
        worker_id: format!("{host}-{pid}-{unique}"),
        machine: machine_id(config, &host),
        host,
        pid,
        devices: devices.into_iter().map(str::to_owned).collect(),
        slots: u32::try_from(config.slots.len()).unwrap_or(u32::MAX),
        tags: config.tags.clone(),
        gpu_memory_gib: config.gpu_memory_gib,
        allow_commands: config.command_guard.is_some(),
        // The agent sets it, once it has tried whether the store is writable.
        checkpoints: String::new(),
        secret: Token::new()?.reveal().to_owned(),
    })
}
