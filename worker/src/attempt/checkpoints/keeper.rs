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

use super::file_list::{FileList, KEY_DIGITS, StoredFile, digest_of, first_line};
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
/// The coordinator may not know the last two yet: one that was stored while the program ran, and the one after its end.
const LISTS_MAX: usize = 3;

/// Stores the files of one attempt.
#[derive(Debug)]
pub(crate) struct CheckpointKeeper {
    job: SnapshotJob,
    /// The attempts whose files this one took over.
    earlier: BTreeSet<AttemptToken>,
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
    /// Files that are in the store, perhaps in no list yet.
    files: BTreeMap<String, (Seen, StoredFile)>,
    /// The files of the newest list, as they were seen.
    listed: BTreeMap<String, Seen>,
    /// The oldest first: the key of each list, and the list.
    lists: VecDeque<(String, FileList)>,
    /// Keys that were written and that perhaps no list has.
    loose: BTreeSet<String>,
    /// Whether the last snapshot sent something to the store.
    has_sent: bool,
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
        let keys =
            restored.lists.iter().flat_map(|(key, list)| std::iter::once(key.as_str()).chain(list.keys()));
        let named = keys.filter_map(|key| key.rsplit_once('/')?.1.split_once('-')?.0.parse().ok());
        let earlier = named.map(AttemptToken).collect();
        let listed = restored.files.iter().map(|(path, (seen, _))| (path.clone(), *seen)).collect();
        let known = Known { files: restored.files, listed, lists: restored.lists.into(), ..Known::default() };
        let job = SnapshotJob { folder: Arc::new(folder), destination, trial, token };
        Self { job, earlier, known: Some(known), running: None, due: Instant::now(), reported: None }
    }

    /// Stores what was changed and left alone since, in the background; `step` is the last that the program reported. Gives what was stored
    /// meanwhile, or why it was not, once for each reason. While the coordinator has not acknowledged the last list, nothing more is stored:
    /// the lists that it knows would be deleted.
    pub(crate) async fn tick(
        &mut self,
        step: u64,
        is_acknowledged: bool,
    ) -> Option<Result<Artifact, String>> {
        if self.running.as_ref().is_some_and(JoinHandle::is_finished) {
            return self.stored().await;
        }
        if self.running.is_none() && is_acknowledged && Instant::now() >= self.due {
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
        let tokens: BTreeSet<AttemptToken> = self.earlier.iter().copied().chain(tokens).collect();
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
        // Also after a snapshot that came to no list, because the folder was changed meanwhile.
        let pause = if known.has_sent { STORE_INTERVAL } else { LOOK_INTERVAL };
        self.known = Some(known);
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
        known.has_sent = false;
        let Some(destination) = &self.destination else { return Ok(None) };
        let listed = self.folder.list()?;
        if listed.is_empty() || listed == known.listed {
            return Ok(None);
        }
        let is_young = |seen: &Seen| seen.modified.elapsed().is_ok_and(|age| age < left_alone);
        if listed.iter().any(|(path, seen)| !known.has(path, seen) && is_young(seen)) {
            return Ok(None);
        }
        for (path, seen) in &listed {
            if !known.has(path, seen) {
                let stored = self.store_file(destination, known, path, seen).await?;
                // What changed meanwhile was perhaps stored in part.
                if self.folder.seen(path) == Some(*seen) {
                    known.files.insert(path.clone(), (*seen, stored));
                }
            }
        }
        if self.folder.list()? != listed || !listed.iter().all(|(path, seen)| known.has(path, seen)) {
            return Ok(None);
        }
        known.files.retain(|path, _| listed.contains_key(path));
        let metrics = match destination.is_shared() {
            true => Some(self.store_metrics(destination.store(), known).await?),
            false => None,
        };
        let bytes = listed.values().map(|seen| seen.bytes).sum();
        let files = known.files.iter().map(|(path, (_, stored))| (path.clone(), stored.clone())).collect();
        let list = FileList::new(files, metrics);
        let (key, digest) = self.store_list(destination.store(), &list, step).await?;
        known.listed = listed;
        known.take_up(key.clone(), list);
        self.delete_old(destination.store(), known).await;
        Ok(Some(Artifact { kind: ArtifactKind::Checkpoint, method: Method::Plain, step, key, digest, bytes }))
    }

    async fn store_file(
        &self,
        destination: &ArtifactDestination,
        known: &mut Known,
        path: &str,
        seen: &Seen,
    ) -> Result<StoredFile, String> {
        if !destination.is_shared() {
            return Ok(StoredFile { key: None, digest: String::new(), bytes: seen.bytes });
        }
        let file = self.folder.files().join(path);
        let digest = digest_of(&file).await?;
        let key = self.key(&digest);
        known.sends(&key);
        destination.store().put_file(&key, &file).await.map_err(|error| first_line(&error))?;
        Ok(StoredFile { key: Some(key), digest, bytes: seen.bytes })
    }

    /// Stores the metrics that were printed so far: more than before the files were written, perhaps, and never fewer.
    async fn store_metrics(&self, store: &ArtifactStore, known: &mut Known) -> Result<StoredFile, String> {
        let path = self.folder.metrics();
        let content = std::fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let (digest, bytes) = (blake3::hash(&content).to_hex().to_string(), content.len() as u64);
        let key = self.key(&digest);
        known.sends(&key);
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
        format!("checkpoints/{}/{}-{}", self.trial, self.token, &digest[..KEY_DIGITS])
    }

    /// Deletes the oldest lists, and files that no list has. What stays costs only space.
    async fn delete_old(&self, store: &ArtifactStore, known: &mut Known) {
        while known.lists.len() > LISTS_MAX {
            let Some((key, list)) = known.lists.pop_front() else { break };
            known.loose.extend(list.keys().map(str::to_owned).chain([key]));
        }
        let kept = known.lists.iter();
        let needed: BTreeSet<&str> = kept.flat_map(|(key, list)| list.keys().chain([key.as_str()])).collect();
        for key in std::mem::take(&mut known.loose) {
            if !needed.contains(key.as_str())
                && let Err(error) = store.delete(&key).await
            {
                tracing::debug!(%error, key, "an old checkpoint stays");
            }
        }
    }
}

impl Known {
    /// Whether a file is in the store as it was seen.
    fn has(&self, path: &str, seen: &Seen) -> bool {
        self.files.get(path).is_some_and(|(at, _)| at == seen)
    }

    /// Notes a key before it is written: it is deleted later, unless a list has it.
    fn sends(&mut self, key: &str) {
        self.loose.insert(key.to_owned());
        self.has_sent = true;
    }

    /// Adds a list that was stored. It took the place of one with its key, if the step is the same.
    fn take_up(&mut self, key: String, list: FileList) {
        let replaced = self.lists.iter().filter(|(other, _)| *other == key);
        self.loose.extend(replaced.flat_map(|(_, list)| list.keys().map(str::to_owned)));
        self.lists.retain(|(other, _)| *other != key);
        self.lists.push_back((key, list));
    }
}

/// A snapshot that still runs would hold the folder's lock.
impl Drop for CheckpointKeeper {
    fn drop(&mut self) {
        if let Some(running) = &self.running {
            running.abort();
        }
    }
}

#[cfg(test)]
#[path = "keeper_tests.rs"]
mod tests;
