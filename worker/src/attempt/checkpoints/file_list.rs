//! What a program's folder held at one moment, as the artifact store has it: a list of its files, and the files.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::{Component, Path};

use serde::{Deserialize, Serialize};
use sortie_artifacts::ArtifactStore;
use sortie_core::artifact::{is_digest, is_key};
use sortie_core::trial::SpecHash;

use super::folder::{BYTES_MAX, FILES_MAX};

/// Raise this when the meaning of a list changes.
const VERSION: u32 = 1;
/// Digits of a file's digest that its key has.
pub(super) const KEY_DIGITS: usize = 32;
/// How much of a file is read at a time.
const CHUNK_BYTES: usize = 1 << 20;

/// The files of a folder, and the metrics that had been printed by then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FileList {
    version: u32,
    /// By their paths below the folder.
    pub(super) files: BTreeMap<String, StoredFile>,
    /// None where the files lie on the worker's disk alone.
    pub(super) metrics: Option<StoredFile>,
}

/// A file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StoredFile {
    /// Its place below the store's root; none where it lies on the worker's disk alone.
    pub(super) key: Option<String>,
    /// BLAKE3 of its content, in hexadecimal digits; empty where it has no key.
    pub(super) digest: String,
    pub(super) bytes: u64,
}

impl FileList {
    pub(super) fn new(files: BTreeMap<String, StoredFile>, metrics: Option<StoredFile>) -> Self {
        Self { version: VERSION, files, metrics }
    }

    /// The keys of its files.
    pub(super) fn keys(&self) -> impl Iterator<Item = &str> {
        self.files.values().chain(&self.metrics).filter_map(|file| file.key.as_deref())
    }

    /// Reads the list of this trial at a key. It names no files but the trial's own: those of an old list are deleted.
    ///
    /// # Errors
    /// One line.
    pub(super) async fn read(store: &ArtifactStore, trial: SpecHash, key: &str) -> Result<Self, String> {
        let bytes = store.get(key).await.map_err(|error| first_line(&error))?;
        let list: Self = serde_json::from_slice(&bytes)
            .map_err(|error| format!("{key} is no list of a program's checkpoints: {error}"))?;
        let plain =
            |path: &str| Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
        let own = format!("checkpoints/{trial}/");
        let stored = |file: &StoredFile| file.key.as_ref().is_none_or(|key| file.is_below(&own, key));
        if !key.starts_with(&own) || !list.files.values().chain(&list.metrics).all(stored) {
            return Err(format!("{key} names files that are not checkpoints of trial {trial}"));
        }
        let files = list.files.len();
        let bytes: u128 = list.files.values().map(|file| u128::from(file.bytes)).sum();
        if files > FILES_MAX || bytes > u128::from(BYTES_MAX) {
            return Err(format!(
                "{key} names {files} files of {bytes} bytes; at most {FILES_MAX} of {BYTES_MAX} are kept"
            ));
        }
        if list.version != VERSION || !list.files.keys().all(|path| !path.is_empty() && plain(path)) {
            return Err(format!("{key} is no list of a program's checkpoints of version {VERSION}"));
        }
        Ok(list)
    }
}

impl StoredFile {
    /// Whether a key is one that a worker writes for a file of this content: `OWN/TOKEN-DIGEST`.
    fn is_below(&self, own: &str, key: &str) -> bool {
        let name = key.strip_prefix(own).and_then(|name| name.split_once('-'));
        is_key(key)
            && is_digest(&self.digest)
            && name.is_some_and(|(token, digest)| {
                token.parse::<i64>().is_ok() && digest == &self.digest[..KEY_DIGITS]
            })
    }

    /// Reads it into a new file.
    ///
    /// # Errors
    /// One line, also when its content is another one.
    pub(super) async fn fetch(&self, store: &ArtifactStore, to: &Path) -> Result<(), String> {
        let Some(key) = &self.key else {
            return Err("its files lie on the disk of another worker".to_owned());
        };
        store.get_file(key, to).await.map_err(|error| first_line(&error))?;
        if digest_of(to).await? != self.digest {
            return Err(format!("the content of {key} is not what was written"));
        }
        Ok(())
    }
}

/// BLAKE3 of a file's content, in hexadecimal digits. Lets other tasks run in between.
///
/// # Errors
/// One line.
pub(super) async fn digest_of(path: &Path) -> Result<String, String> {
    let failed = |error: std::io::Error| format!("{}: {error}", path.display());
    let mut file = File::open(path).map_err(failed)?;
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut hasher = blake3::Hasher::new();
    loop {
        match file.read(&mut chunk).map_err(failed)? {
            0 => return Ok(hasher.finalize().to_hex().to_string()),
            count => hasher.update(&chunk[..count]),
        };
        tokio::task::yield_now().await;
    }
}

/// The first line of an error: services answer with pages.
pub(super) fn first_line(error: &dyn std::fmt::Display) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}
