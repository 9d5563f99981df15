//! What a program's folder held at one moment, as the artifact store has it: a list of its files, and the files.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::{Component, Path};

use serde::{Deserialize, Serialize};
use sortie_artifacts::ArtifactStore;
use sortie_core::artifact::{is_digest, is_key};

/// Raise this when the meaning of a list changes.
const VERSION: u32 = 1;
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

    /// Reads the list at a key.
    ///
    /// # Errors
    /// One line.
    pub(super) async fn read(store: &ArtifactStore, key: &str) -> Result<Self, String> {
        let bytes = store.get(key).await.map_err(|error| first_line(&error))?;
        let list: Self = serde_json::from_slice(&bytes)
            .map_err(|error| format!("{key} is no list of a program's checkpoints: {error}"))?;
        let plain =
            |path: &str| Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
        let stored =
            |file: &StoredFile| file.key.as_ref().is_none_or(|key| is_key(key) && is_digest(&file.digest));
        if list.version != VERSION
            || !list.files.keys().all(|path| !path.is_empty() && plain(path))
            || !list.files.values().chain(&list.metrics).all(stored)
        {
            return Err(format!("{key} is no list of a program's checkpoints of version {VERSION}"));
        }
        Ok(list)
    }
}

impl StoredFile {
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
