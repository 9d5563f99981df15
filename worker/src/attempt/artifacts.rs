//! Where this worker's checkpoints and artifacts go: to the coordinator's artifact store if this worker reaches it, else to its own disk.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sortie_artifacts::{AllowedStore, ArtifactStore, folder_url};
use sortie_core::keys::AttemptToken;
use sortie_core::trial::SpecHash;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::config::AgentError;
use crate::connection::session::{Session, StoreInfo};

/// How long a store may take to answer a request.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// Checkpoints on this worker's own disk that no attempt resumed from are deleted at this age.
const CHECKPOINT_AGE_MAX: Duration = Duration::from_secs(14 * 24 * 3_600);

/// Where artifacts go.
#[derive(Clone, Debug)]
pub(crate) struct ArtifactDestination {
    store: ArtifactStore,
    /// Whether it is the coordinator's store, which other workers reach.
    is_shared: bool,
}

impl ArtifactDestination {
    /// A store; whether other workers reach it.
    pub(crate) fn new(store: ArtifactStore, is_shared: bool) -> Self {
        Self { store, is_shared }
    }

    /// The store's URL.
    pub(crate) fn url(&self) -> &str {
        self.store.url()
    }

    /// The store.
    pub(crate) fn store(&self) -> &ArtifactStore {
        &self.store
    }

    /// Whether other workers reach it.
    pub(crate) fn is_shared(&self) -> bool {
        self.is_shared
    }

    /// Deletes the checkpoints of these attempts at a trial that has ended. The same trial may run in another sweep at the same time:
    /// checkpoints of other attempts stay.
    pub(crate) async fn clear_checkpoints(
        &self,
        trial: SpecHash,
        tokens: impl Iterator<Item = AttemptToken>,
    ) {
        let prefixes: Vec<String> = tokens.map(|token| format!("{token}-")).collect();
        let folder = format!("checkpoints/{trial}");
        match timeout(ANSWER_LIMIT, self.store.delete_in(&folder, &prefixes)).await {
            Ok(Ok(count)) => tracing::debug!(count, "checkpoints deleted"),
            Ok(Err(error)) => tracing::warn!(%error, "checkpoints of a trial that has ended stay"),
            Err(_) => {
                tracing::warn!(store = %self.url(), "checkpoints of a trial that has ended stay: no answer")
            }
        }
    }
}

/// Where artifacts go, once the agent has tried the coordinator's store.
#[derive(Clone, Debug)]
pub(crate) struct DestinationWatch(watch::Sender<Option<Option<ArtifactDestination>>>);

impl Default for DestinationWatch {
    fn default() -> Self {
        Self(watch::Sender::new(None))
    }
}

impl DestinationWatch {
    /// Where artifacts go; none if no store can be written. Waits until that is known.
    pub(crate) async fn found(&self) -> Option<ArtifactDestination> {
        let mut found = self.0.subscribe();
        // `self` holds the sender, so there is always one.
        found.wait_for(Option::is_some).await.ok().and_then(|place| place.clone()).flatten()
    }
}

/// Tries the coordinator's store whenever it names one, and reports to it where artifacts go. Returns when it names one that this worker may
/// not use: whoever started both should know, instead of finding files on some machine's disk later.
pub(crate) async fn run(
    session: Arc<Session>,
    destination: DestinationWatch,
    own: PathBuf,
    allowed: Vec<AllowedStore>,
) -> AgentError {
    let old = own.join("checkpoints");
    // It may take long on a slow disk, and no trial needs it.
    tokio::task::spawn_blocking(move || clear_old(&old));
    let mut store_info = session.store_info();
    loop {
        let Some(offer) = store_info.borrow_and_update().clone() else {
            wait(&mut store_info).await;
            continue;
        };
        // What is no URL of a store is refused when it is opened.
        if !offer.url.is_empty() && !AllowedStore::permit(&allowed, &offer.url).unwrap_or(true) {
            return AgentError::Store(offer.url);
        }
        let (found, name) = match shared(&offer, session.worker_id()).await {
            Ok(store) => {
                tracing::info!(store = %store.url(), "checkpoints and artifacts go to the shared store");
                (Some(ArtifactDestination::new(store, true)), "shared")
            }
            Err(reason) => (local(&own, &reason), "local"),
        };
        destination.0.send_replace(Some(found));
        session.report_destination(name).await;
        wait(&mut store_info).await;
    }
}

async fn wait(store_info: &mut watch::Receiver<Option<StoreInfo>>) {
    if store_info.changed().await.is_err() {
        // The session was dropped, so the agent ends.
        std::future::pending::<()>().await;
    }
}

/// The coordinator's store, if this worker reads there what the coordinator wrote, and can write.
async fn shared(offer: &StoreInfo, worker_id: &str) -> Result<ArtifactStore, String> {
    if offer.url.is_empty() {
        return Err("the coordinator has no artifact store".to_owned());
    }
    let store = ArtifactStore::open(&offer.url).map_err(|error| error.to_string())?;
    let probe = async {
        match store.mark().await.map_err(|error| error.to_string())? {
            Some(mark) if mark == offer.mark => {
                store.try_to_write(worker_id).await.map_err(|error| error.to_string())
            }
            Some(_) => {
                Err(format!("{} is another store on this machine than on the coordinator's", offer.url))
            }
            None => {
                Err(format!("{} on this machine is not the coordinator's store: it has no mark", offer.url))
            }
        }
    };
    let answer = timeout(ANSWER_LIMIT, probe).await;
    answer.unwrap_or_else(|_| {
        Err(format!("{} does not answer within {} s", offer.url, ANSWER_LIMIT.as_secs()))
    })?;
    Ok(store)
}

fn local(own: &Path, reason: &str) -> Option<ArtifactDestination> {
    match folder_url(own).and_then(|url| ArtifactStore::create(&url)) {
        Ok(store) => {
            tracing::info!(store = %store.url(), %reason, "checkpoints and artifacts stay on this machine");
            Some(ArtifactDestination::new(store, false))
        }
        Err(error) => {
            tracing::warn!(%error, %reason, "trials leave no checkpoints and no artifacts: no store can be written");
            None
        }
    }
}

/// Deletes old checkpoints, and folders that are empty then. Another agent may do the same at the same time.
fn clear_old(checkpoints: &Path) {
    for trial in fs::read_dir(checkpoints).into_iter().flatten().flatten() {
        for file in fs::read_dir(trial.path()).into_iter().flatten().flatten() {
            let age = file
                .metadata()
                .and_then(|metadata| metadata.modified())
                .ok()
                .and_then(|modified| modified.elapsed().ok());
            if age.is_some_and(|age| age > CHECKPOINT_AGE_MAX) {
                let _ = fs::remove_file(file.path());
            }
        }
        // Fails unless the folder is empty, which is right.
        let _ = fs::remove_dir(trial.path());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_old_checkpoints_are_cleared() {
        let folder = tempfile::tempdir().unwrap();
        let [old, mixed] = ["aa", "bb"].map(|trial| folder.path().join(trial));
        for (trial, name, days) in [(&old, "1-3-x", 15), (&mixed, "1-3-x", 15), (&mixed, "2-3-x", 13)] {
            fs::create_dir_all(trial).unwrap();
            let file = fs::File::create(trial.join(name)).unwrap();
            let now = file.metadata().unwrap().modified().unwrap();
            file.set_modified(now - Duration::from_secs(days * 24 * 3_600)).unwrap();
        }
        clear_old(folder.path());
        assert!(!old.exists() && !mixed.join("1-3-x").exists() && mixed.join("2-3-x").exists());
        clear_old(&folder.path().join("not there"));
    }

    #[tokio::test]
    async fn a_store_is_shared_where_its_mark_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let url = folder_url(folder.path()).unwrap();
        let mark = ArtifactStore::create(&url).unwrap().marked("right").await.unwrap();
        let offer = |url: &str, mark: &str| StoreInfo { url: url.to_owned(), mark: mark.to_owned() };
        assert_eq!(shared(&offer(&url, &mark), "host-1-2").await.unwrap().url(), url);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "only the mark is left");
        let gone = format!("{url}/gone");
        for (url, mark, part) in [
            (url.as_str(), "wrong", "another store"),
            (&gone, "right", "gone"),
            ("", "", "has no artifact store"),
            ("ftp://x", "right", "not supported"),
        ] {
            let reason = shared(&offer(url, mark), "host-1-2").await.unwrap_err();
            assert!(reason.contains(part), "{reason}");
        }
        let empty = tempfile::tempdir().unwrap();
        let reason =
            shared(&offer(&folder_url(empty.path()).unwrap(), "right"), "host-1-2").await.unwrap_err();
        assert!(reason.contains("has no mark"), "{reason}");
    }
}
