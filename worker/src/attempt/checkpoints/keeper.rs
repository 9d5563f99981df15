//! Stores what a program leaves in its folder, while it runs and when it has ended, so that another attempt finds it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use sortie_artifacts::ArtifactStore;
use sortie_core::artifact::{Artifact, ArtifactKind};
use sortie_core::keys::AttemptToken;
use sortie_core::metrics::Method;
use sortie_core::trial::SpecHash;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use super::file_list::{FileList, StoredFile, digest_of, first_line};
use super::folder::{Seen, TrialFolder};
use super::restore::Restored;
use crate::attempt::artifacts::ArtifactDestination;

/// A file that was changed less than this ago may still be written: only files that were left alone are stored while the program runs.
const LEFT_ALONE: Duration = Duration::from_secs(2);
/// How often the folder is looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);
/// The pause after files went to a shared store.
const STORE_INTERVAL: Duration = Duration::from_secs(60);
/// Lists of a trial's files that are in the store at a time; older ones are deleted, with the files that no other list has.
const LISTS_MAX: usize = 2;

/// Stores the files of one attempt.
#[derive(Debug)]
pub(crate) struct CheckpointKeeper {
    job: SnapshotJob,
    /// None while a task has it.
    known: Option<Known>,
    running: Option<JoinHandle<Stored>>,
    due: Instant,
    /// Why files were not stored, as it was reported last.
    reported: Option<String>,
}

type Stored = (Known, Result<Option<Artifact>, String>);

/// What is stored already.
#[derive(Debug, Default)]
struct Known {
    files: BTreeMap<String, (Seen, StoredFile)>,
    /// The oldest first: the key of each list, and the list.
    lists: VecDeque<(String, FileList)>,
}

#[derive(Clone, Debug)]
struct SnapshotJob {
    folder: Arc<TrialFolder>,
    destination: Option<ArtifactDestination>,
    trial: SpecHash,
    token: AttemptToken,
}

impl CheckpointKeeper {
    /// For an attempt that found this in its folder.
    pub(crate) fn new(
        folder: TrialFolder,
        destination: Option<ArtifactDestination>,
        trial: SpecHash,
        token: AttemptToken,
        restored: Restored,
    ) -> Self {
        let known = Known { files: restored.files, lists: restored.lists.into() };
        let job = SnapshotJob { folder: Arc::new(folder), destination, trial, token };
        Self { job, known: Some(known), running: None, due: Instant::now(), reported: None }
    }

    /// Stores what was changed and left alone since, in the background; `step` is the last that the program reported. Gives what was stored
    /// meanwhile, or why it was not, once for each reason.
    pub(crate) async fn tick(&mut self, step: u64) -> Option<Result<Artifact, String>> {
        if self.running.as_ref().is_some_and(JoinHandle::is_finished) {
            return self.stored().await;
        }
        if self.running.is_none() && Instant::now() >= self.due {
            self.begin(step, LEFT_ALONE);
        }
        None
    }

    /// Stores what a process that has ended left, within a limit.
    pub(crate) async fn last(&mut self, step: u64, limit: Duration) -> Vec<Result<Artifact, String>> {
        let last = async {
            let mut stored = Vec::from_iter(self.stored().await);
            self.begin(step, Duration::ZERO);
            stored.extend(self.stored().await);
            stored
        };
        let stored = timeout(limit, last).await;
        stored.unwrap_or_else(|_| {
            let seconds = limit.as_secs_f64();
            tracing::warn!("checkpoints were not stored within {seconds:.1} s");
            Vec::from_iter(self.news(format!("they did not arrive within {seconds:.1} s")).map(Err))
        })
    }

    /// Deletes all that the attempts at a trial that has ended left: here, and in the store that of these attempts and of those whose files
    /// they took over.
    pub(crate) async fn clear(mut self, tokens: impl Iterator<Item = AttemptToken>) {
        if let Some(running) = self.running.take() {
            running.abort();
            let _ = running.await;
        }
        self.job.folder.remove();
        let Some(destination) = &self.job.destination else { return };
        let lists = self.known.iter().flat_map(|known| &known.lists);
        let keys = lists.flat_map(|(key, list)| std::iter::once(key.as_str()).chain(list.keys()));
        let named = keys.filter_map(|key| key.rsplit_once('/')?.1.split_once('-')?.0.parse().ok());
        let tokens: BTreeSet<AttemptToken> = named.map(AttemptToken).chain(tokens).collect();
        destination.clear_checkpoints(self.job.trial, tokens.into_iter()).await;
    }

    fn begin(&mut self, step: u64, left_alone: Duration) {
        if let Some(known) = self.known.take() {
            self.running = Some(tokio::spawn(self.job.clone().run(known, step, left_alone)));
        }
    }

    /// What the task that runs has stored, once it has.
    async fn stored(&mut self) -> Option<Result<Artifact, String>> {
        // Taken only when it has ended, so that one that is given up in between is not lost.
        let ended = self.running.as_mut()?.await;
        self.running = None;
        let Ok((known, result)) = ended else {
            return self.news("storing them ended in a panic".to_owned()).map(Err);
        };
        self.known = Some(known);
        let is_shared = self.job.destination.as_ref().is_some_and(ArtifactDestination::is_shared);
        let pause = if is_shared && matches!(result, Ok(Some(_))) { STORE_INTERVAL } else { LOOK_INTERVAL };
        self.due = Instant::now() + pause;
        match result {
            Ok(artifact) => artifact.map(Ok),
            Err(reason) => {
                // A store that does not answer is not asked all the time.
                self.due = Instant::now() + STORE_INTERVAL;
                self.news(reason).map(Err)
            }
        }
    }

    /// A reason that was not reported last.
    fn news(&mut self, reason: String) -> Option<String> {
        if self.reported.as_ref() == Some(&reason) {
            return None;
        }
        tracing::warn!(%reason, "the program's checkpoints are not stored");
        let line = format!("the program's checkpoints are not stored: {reason}");
        self.reported = Some(reason);
        Some(line)
    }
}

impl SnapshotJob {
    async fn run(self, mut known: Known, step: u64, left_alone: Duration) -> Stored {
        let stored = self.store(&mut known, step, left_alone).await;
        (known, stored)
    }

    /// The artifact of what was stored; none if nothing was changed, or what was changed may still be written.
    async fn store(
        &self,
        known: &mut Known,
        step: u64,
        left_alone: Duration,
    ) -> Result<Option<Artifact>, String> {
        let Some(destination) = &self.destination else { return Ok(None) };
        let listed = self.folder.list()?;
        let is_changed = |path: &String, seen: &Seen| known.files.get(path).is_none_or(|(at, _)| at != seen);
        let is_new = listed.iter().any(|(path, seen)| is_changed(path, seen));
        if listed.is_empty() || !is_new && listed.len() == known.files.len() {
            return Ok(None);
        }
        let is_young = |seen: &Seen| seen.modified.elapsed().is_ok_and(|age| age < left_alone);
        if listed.iter().any(|(path, seen)| is_changed(path, seen) && is_young(seen)) {
            return Ok(None);
        }
        let mut files = BTreeMap::new();
        for (path, seen) in &listed {
            let stored = match known.files.get(path) {
                Some((at, stored)) if at == seen => stored.clone(),
                _ => self.store_file(destination, path, seen).await?,
            };
            files.insert(path.clone(), (*seen, stored));
        }
        // What changed meanwhile was perhaps stored in part.
        if self.folder.list()? != listed {
            return Ok(None);
        }
        let metrics = match destination.is_shared() {
            true => Some(self.store_metrics(destination.store()).await?),
            false => None,
        };
        let bytes = listed.values().map(|seen| seen.bytes).sum();
        let list = FileList::new(
            files.iter().map(|(path, (_, stored))| (path.clone(), stored.clone())).collect(),
            metrics,
        );
        known.files = files;
        let (key, digest) = self.store_list(destination.store(), &list, step).await?;
        known.lists.retain(|(other, _)| *other != key);
        known.lists.push_back((key.clone(), list));
        self.delete_old(destination.store(), known).await;
        Ok(Some(Artifact { kind: ArtifactKind::Checkpoint, method: Method::Plain, step, key, digest, bytes }))
    }

    async fn store_file(
        &self,
        destination: &ArtifactDestination,
        path: &str,
        seen: &Seen,
    ) -> Result<StoredFile, String> {
        if !destination.is_shared() {
            return Ok(StoredFile { key: None, digest: String::new(), bytes: seen.bytes });
        }
        let file = self.folder.files().join(path);
        let digest = digest_of(&file).await?;
        let key = self.key(&digest);
        destination.store().put_file(&key, &file).await.map_err(|error| first_line(&error))?;
        Ok(StoredFile { key: Some(key), digest, bytes: seen.bytes })
    }

    /// Stores the metrics that were printed so far: more than before the files were written, perhaps, and never fewer.
    async fn store_metrics(&self, store: &ArtifactStore) -> Result<StoredFile, String> {
        let path = self.folder.metrics();
        let content = std::fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let (digest, bytes) = (blake3::hash(&content).to_hex().to_string(), content.len() as u64);
        let key = self.key(&digest);
        store.put(&key, content).await.map_err(|error| first_line(&error))?;
        Ok(StoredFile { key: Some(key), digest, bytes })
    }

    async fn store_list(
        &self,
        store: &ArtifactStore,
        list: &FileList,
        step: u64,
    ) -> Result<(String, String), String> {
        let content = serde_json::to_vec(list).map_err(|error| error.to_string())?;
        let digest = blake3::hash(&content).to_hex().to_string();
        let key = format!("checkpoints/{}/{}-{step}-files.json", self.trial, self.token);
        store.put(&key, content).await.map_err(|error| first_line(&error))?;
        Ok((key, digest))
    }

    fn key(&self, digest: &str) -> String {
        format!("checkpoints/{}/{}-{}", self.trial, self.token, &digest[..32])
    }

    /// Deletes the oldest lists, and files that no other has. What stays costs only space.
    async fn delete_old(&self, store: &ArtifactStore, known: &mut Known) {
        while known.lists.len() > LISTS_MAX {
            let Some((key, list)) = known.lists.pop_front() else { return };
            let needed: BTreeSet<&str> = known.lists.iter().flat_map(|(_, list)| list.keys()).collect();
            for key in list.keys().filter(|key| !needed.contains(key)).chain([key.as_str()]) {
                if let Err(error) = store.delete(key).await {
                    tracing::debug!(%error, key, "an old checkpoint stays");
                }
            }
        }
    }
}

#[cfg(test)]
#[path = "keeper_tests.rs"]
mod tests;
