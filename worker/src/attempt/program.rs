//! What an attempt at a command prepares before its process starts: the folder of the program's checkpoints.

use std::time::Duration;

use sortie_core::command::CommandSettings;
use sortie_core::job::Outcome;
use sortie_core::keys::Incarnation;
use sortie_core::lease::Lease;

use crate::attempt::artifacts::ArtifactDestination;
use crate::attempt::checkpoints::{CheckpointKeeper, TrialFolder, restore};
use crate::attempt::code;
use crate::attempt::ending;
use crate::config::AgentConfig;
use crate::process::launch::ProgramFolder;
use crate::process::metric_lines::Earlier;
use crate::process::metrics_record;
use crate::registry::AttemptKey;

/// How long storing the last checkpoints may take, where nothing else limits it.
pub(crate) const STORE_LIMIT: Duration = Duration::from_secs(15 * 60);
/// How much longer than the grace it may take when the worker stops.
pub(crate) const STORE_GRACE: Duration = Duration::from_millis(300);

/// Opens the folder of the trial's checkpoints and puts the newest of them there.
///
/// # Errors
/// The outcome of an attempt that cannot have it.
#[tracing::instrument(name = "restoring", level = "debug", skip_all)]
pub(crate) async fn prepare(
    config: &AgentConfig,
    settings: &CommandSettings,
    lease: &Lease,
    incarnation: Incarnation,
    destination: Option<&ArtifactDestination>,
) -> Result<(CheckpointKeeper, ProgramFolder), Outcome> {
    let first = AttemptKey { incarnation, token: lease.first };
    let folder = match TrialFolder::open(&config.cache, lease.spec_hash, first).await {
        Ok(folder) => folder,
        Err(reason) => {
            tracing::warn!(%reason, "this attempt gets a folder of its own");
            let own = TrialFolder::of_attempt(&config.cache, lease.spec_hash, first, lease.token).await;
            own.map_err(ending::transient)?
        }
    };
    let store = destination.map(ArtifactDestination::store);
    let restored = restore(&folder, store, &lease.checkpoints, lease.token).await.map_err(ending::machine)?;
    let (files, metrics, unread) = (folder.files(), folder.metrics(), folder.unread());
    let earlier = match restored.from {
        Some(attempt) => {
            let added = metrics_record::add_unread(&metrics, &unread, settings);
            added.map_err(|error| ending::machine(format!("{}: {error}", unread.display())))?;
            tracing::info!(%attempt, folder = %files.display(), "the program finds the checkpoints of an earlier attempt");
            Some(Earlier { attempt, events: metrics_record::read(&metrics) })
        }
        None => None,
    };
    // The command runs in the worker's own working directory.
    let code = code::find(&settings.command, &std::env::current_dir().unwrap_or_default()).await;
    let keeper = CheckpointKeeper::new(folder, destination.cloned(), lease.spec_hash, lease.token, restored);
    Ok((keeper, ProgramFolder { files, metrics, unread, earlier, code }))
}
