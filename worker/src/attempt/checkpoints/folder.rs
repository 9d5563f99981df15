//! The folder of one trial on this machine's disk: the program's files, and the metrics that it had printed.
//!
//! ```text
//! <cache>/checkpoints/TRIAL-DATABASE-FIRST/    DATABASE is its incarnation, FIRST the token of the first attempt at the trial
//!     files/                          what the program sees
//!     metrics                         what the attempts printed, an event a line
//!     unread                          what the program had printed and its worker had not read, when that was killed
//!     attempt                         the token of the attempt that used it last
//!     lock                            held while an attempt uses it
//! ```

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use sortie_core::keys::AttemptToken;
use sortie_core::trial::SpecHash;
use tokio::time::{Instant, sleep};

use crate::registry::AttemptKey;

/// Files of a program that are kept for its next attempt, at most.
pub(super) const FILES_MAX: usize = 1_000;
/// Their bytes, at most.
pub(super) const BYTES_MAX: u64 = 64 << 30;
/// Folders within folders, at most.
const DEPTH_MAX: usize = 16;
/// How long an attempt waits for the end of another one at its trial, which has lost its lease.
const LOCK_WAIT: Duration = Duration::from_secs(15);
/// How often it looks.
const LOCK_POLL: Duration = Duration::from_millis(50);
/// Folders that no attempt used for so long are deleted.
const AGE_MAX: Duration = Duration::from_secs(14 * 24 * 3_600);

/// A program's file as it was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) bytes: u64,
    pub(super) modified: SystemTime,
}

/// The folder of a trial, while an attempt uses it.
#[derive(Debug)]
pub(crate) struct TrialFolder {
    root: PathBuf,
    trial: SpecHash,
    /// Held, not read.
    _lock: File,
}

impl TrialFolder {
    /// Opens the folder of the trial with this first attempt, or makes it. Waits until no other attempt uses it. Another database may have
    /// issued the same token for the same trial: its files are not this trial's.
    ///
    /// # Errors
    /// One line.
    pub(crate) async fn open(cache: &Path, trial: SpecHash, first: AttemptKey) -> Result<Self, String> {
        Self::named(cache, trial, name_of(trial, first)).await
    }

    /// A folder for one attempt alone: another one, whose worker hangs, may use that of the trial for as long as it likes.
    ///
    /// # Errors
    /// One line.
    pub(crate) async fn of_attempt(
        cache: &Path,
        trial: SpecHash,
        first: AttemptKey,
        token: AttemptToken,
    ) -> Result<Self, String> {
        Self::named(cache, trial, format!("{}-{token}", name_of(trial, first))).await
    }

    async fn named(cache: &Path, trial: SpecHash, name: String) -> Result<Self, String> {
        let cache = std::path::absolute(cache).map_err(|error| error.to_string())?;
        let root = cache.join("checkpoints").join(name);
        let failed = |error: std::io::Error| format!("{}: {error}", root.display());
        let place = root.join("lock");
        let make = || {
            fs::create_dir_all(root.join("files"))?;
            File::create(&place)
        };
        let mut lock = make().map_err(failed)?;
        let begun = Instant::now();
        loop {
            match lock.try_lock() {
                // On a file system without locks it is used all the same.
                Ok(()) | Err(TryLockError::Error(_)) if is_at(&lock, &place) => break,
                _ if begun.elapsed() >= LOCK_WAIT => {
                    return Err(format!("{}: another attempt at the trial still uses it", root.display()));
                }
                // Another attempt removed the folder while this one waited: its lock is that of a file that is no more.
                Ok(()) | Err(TryLockError::Error(_)) => lock = make().map_err(failed)?,
                Err(TryLockError::WouldBlock) => {}
            }
            sleep(LOCK_POLL).await;
        }
        // Someone may have removed what it holds, and not the lock.
        fs::create_dir_all(root.join("files")).map_err(failed)?;
        Ok(Self { root, trial, _lock: lock })
    }

    /// The trial.
    pub(super) fn trial(&self) -> SpecHash {
        self.trial
    }

    /// What the program sees.
    pub(crate) fn files(&self) -> PathBuf {
        self.root.join("files")
    }

    /// The metrics that were printed.
    pub(crate) fn metrics(&self) -> PathBuf {
        self.root.join("metrics")
    }

    /// What the program had printed and its worker had not read.
    pub(crate) fn unread(&self) -> PathBuf {
        self.root.join("unread")
    }

    /// Where files are gathered before they take the place of the others.
    pub(super) fn incoming(&self) -> PathBuf {
        self.root.join("incoming")
    }

    /// The attempt that used it last.
    pub(super) fn last_attempt(&self) -> Option<AttemptToken> {
        fs::read_to_string(self.root.join("attempt")).ok()?.trim().parse().ok().map(AttemptToken)
    }

    /// Notes that this attempt uses it.
    ///
    /// # Errors
    /// One line.
    pub(super) fn note_attempt(&self, token: AttemptToken) -> Result<(), String> {
        let path = self.root.join("attempt");
        sortie_files::replace(&path, token.to_string().as_bytes())
            .map_err(|error| format!("{}: {error}", path.display()))
    }

    /// Deletes it, with everything in it.
    pub(crate) fn remove(&self) {
        if let Err(error) = fs::remove_dir_all(&self.root) {
            tracing::warn!(folder = %self.root.display(), %error, "the checkpoints of a trial that has ended stay");
        }
    }

    /// A file of the program as it is now; none if it is no more.
    pub(super) fn seen(&self, path: &str) -> Option<Seen> {
        let metadata = fs::symlink_metadata(self.files().join(path)).ok()?;
        Some(Seen { bytes: metadata.len(), modified: metadata.modified().ok()? })
    }

    /// The program's files, by their paths below its folder, with forward slashes.
    ///
    /// # Errors
    /// One line, when a limit is exceeded or something there is neither a file nor a folder.
    pub(super) fn list(&self) -> Result<BTreeMap<String, Seen>, String> {
        let mut files = BTreeMap::new();
        list_in(&self.files(), "", 0, &mut files)?;
        let bytes: u64 = files.values().map(|file| file.bytes).sum();
        if bytes > BYTES_MAX {
            return Err(format!("{bytes} bytes are there; at most {BYTES_MAX} are kept"));
        }
        Ok(files)
    }
}

/// Whether a path leads to this open file: it may have been deleted, and another one made.
fn is_at(file: &File, path: &Path) -> bool {
    let place = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    match (file.metadata(), path.metadata()) {
        (Ok(file), Ok(path)) => place(file) == place(path),
        _ => false,
    }
}

fn list_in(
    folder: &Path,
    prefix: &str,
    depth: usize,
    files: &mut BTreeMap<String, Seen>,
) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("{}: {error}", folder.display());
    if depth > DEPTH_MAX {
        return Err(format!("{prefix:?} is a folder too deep; at most {DEPTH_MAX} are allowed"));
    }
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let Ok(name) = entry.file_name().into_string() else {
            return Err(format!("the name {:?} is no UTF-8", entry.file_name()));
        };
        let path = format!("{prefix}{name}");
        let metadata = match entry.metadata() {
            Ok(metadata) => metadata,
            // It was renamed or removed meanwhile.
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(failed(error)),
        };
        if metadata.is_dir() {
            list_in(&entry.path(), &format!("{path}/"), depth + 1, files)?;
        } else if metadata.is_file() {
            let modified = metadata.modified().map_err(failed)?;
            files.insert(path, Seen { bytes: metadata.len(), modified });
        } else {
            return Err(format!("{path:?} is neither a file nor a folder"));
        }
        if files.len() > FILES_MAX {
            return Err(format!("more than {FILES_MAX} files are there; at most that many are kept"));
        }
    }
    Ok(())
}

/// Deletes folders that no attempt used for two weeks.
pub(crate) fn clear_old(cache: &Path) {
    for folder in fs::read_dir(cache.join("checkpoints")).into_iter().flatten().flatten() {
        let Ok(lock) = File::options().write(true).open(folder.path().join("lock")) else { continue };
        let used = ["attempt", "metrics", "files"].map(|name| folder.path().join(name));
        let age = used.iter().filter_map(|path| path.metadata().ok()?.modified().ok()?.elapsed().ok()).min();
        if age.is_some_and(|age| age > AGE_MAX) && lock.try_lock().is_ok() {
            let _ = fs::remove_dir_all(folder.path());
        }
    }
}

fn name_of(trial: SpecHash, AttemptKey { incarnation, token }: AttemptKey) -> String {
    format!("{trial}-{:x}-{token}", incarnation.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sortie_core::keys::Incarnation;

    const TRIAL: &str = "14c2b2ccaf82d77d2ecd00acfb58823c";

    fn key(incarnation: i64) -> AttemptKey {
        AttemptKey { incarnation: Incarnation(incarnation), token: AttemptToken(7) }
    }

    async fn open(cache: &Path) -> Result<TrialFolder, String> {
        TrialFolder::open(cache, TRIAL.parse().unwrap(), key(1)).await
    }

    #[tokio::test(start_paused = true)]
    async fn one_attempt_uses_it_at_a_time() {
        let cache = tempfile::tempdir().unwrap();
        let folder = open(cache.path()).await.unwrap();
        let refused = open(cache.path()).await.unwrap_err();
        assert!(refused.contains("another attempt at the trial still uses it"), "{refused}");
        // An attempt that cannot have it gets one of its own.
        let own = TrialFolder::of_attempt(cache.path(), TRIAL.parse().unwrap(), key(1), AttemptToken(9));
        let own = own.await.unwrap();
        assert!(own.files().is_dir() && own.last_attempt().is_none());
        own.remove();
        folder.note_attempt(AttemptToken(9)).unwrap();
        drop(folder);
        let folder = open(cache.path()).await.unwrap();
        assert_eq!(folder.last_attempt(), Some(AttemptToken(9)));
        folder.remove();
        assert_eq!(fs::read_dir(cache.path().join("checkpoints")).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn another_database_that_issues_the_same_token_has_a_folder_of_its_own() {
        let cache = tempfile::tempdir().unwrap();
        let folder = open(cache.path()).await.unwrap();
        fs::write(folder.files().join("last.pt"), "1234").unwrap();
        let other = TrialFolder::open(cache.path(), TRIAL.parse().unwrap(), key(2)).await.unwrap();
        assert!(other.list().unwrap().is_empty() && folder.list().unwrap().len() == 1);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waited_for_a_folder_that_was_removed_has_it_alone() {
        let cache = tempfile::tempdir().unwrap();
        let first = open(cache.path()).await.unwrap();
        let place = cache.path().to_owned();
        let waiting = tokio::spawn(async move { open(&place).await });
        sleep(2 * LOCK_POLL).await;
        first.remove();
        drop(first);
        let _second = waiting.await.unwrap().unwrap();
        let refused = open(cache.path()).await.unwrap_err();
        assert!(refused.contains("another attempt at the trial still uses it"), "{refused}");
    }

    #[test]
    fn a_deleted_file_is_not_at_its_path() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let old = File::create(&path).unwrap();
        assert!(is_at(&old, &path));
        fs::remove_file(&path).unwrap();
        assert!(!is_at(&old, &path));
        let new = File::create(&path).unwrap();
        assert!(is_at(&new, &path) && !is_at(&old, &path));
    }

    #[tokio::test]
    async fn files_are_listed_within_limits() {
        let cache = tempfile::tempdir().unwrap();
        let folder = open(cache.path()).await.unwrap();
        fs::create_dir(folder.files().join("deep")).unwrap();
        for (name, content) in [("last.pt", "1234"), ("deep/a b", "")] {
            fs::write(folder.files().join(name), content).unwrap();
        }
        let listed = folder.list().unwrap();
        let names: Vec<(&str, u64)> = listed.iter().map(|(name, seen)| (name.as_str(), seen.bytes)).collect();
        assert_eq!(names, [("deep/a b", 0), ("last.pt", 4)]);
        std::os::unix::fs::symlink("last.pt", folder.files().join("link")).unwrap();
        assert_eq!(folder.list().unwrap_err(), "\"link\" is neither a file nor a folder");
        fs::remove_file(folder.files().join("link")).unwrap();
        for number in 0..FILES_MAX {
            fs::write(folder.files().join(number.to_string()), "").unwrap();
        }
        assert!(folder.list().unwrap_err().contains("at most that many are kept"));
    }

    #[test]
    fn only_what_nobody_used_for_long_is_deleted() {
        let cache = tempfile::tempdir().unwrap();
        let [old, young, used] =
            ["old", "young", "used"].map(|name| cache.path().join("checkpoints").join(name));
        let mut locks = Vec::new();
        for (folder, days) in [(&old, 15), (&young, 13), (&used, 15)] {
            fs::create_dir_all(folder).unwrap();
            locks.push(File::create(folder.join("lock")).unwrap());
            let file = File::create(folder.join("attempt")).unwrap();
            let now = file.metadata().unwrap().modified().unwrap();
            file.set_modified(now - Duration::from_secs(days * 24 * 3_600)).unwrap();
        }
        locks[2].lock().unwrap();
        clear_old(cache.path());
        assert!(!old.exists() && young.exists() && used.exists());
    }
}
