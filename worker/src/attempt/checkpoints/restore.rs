//! What an attempt finds in its program's folder: what the last attempt on this machine left there, or what is newer in the artifact store.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use sortie_artifacts::ArtifactStore;
use sortie_core::artifact::CheckpointRef;
use sortie_core::keys::AttemptToken;

use super::file_list::{FileList, StoredFile};
use super::folder::{Seen, TrialFolder};

/// What an attempt finds.
#[derive(Debug, Default)]
pub(crate) struct Restored {
    /// The attempt that left the files; none if there are none.
    pub(crate) from: Option<AttemptToken>,
    /// What earlier attempts have in the artifact store, the oldest first: the key of each list, and the list.
    pub(super) lists: Vec<(String, FileList)>,
    /// The files that are in the store already, as they lie in the folder.
    pub(super) files: BTreeMap<String, (Seen, StoredFile)>,
}

/// Prepares the folder for an attempt. `offered` is what earlier attempts reported, the best first.
///
/// The folder is as new as anything that was stored by the attempt that used it last, for that attempt stored what was in it. Only what a
/// later attempt stored elsewhere takes its place.
///
/// # Errors
/// One line, when this machine's disk refuses.
pub(crate) async fn restore(
    folder: &TrialFolder,
    store: Option<&ArtifactStore>,
    offered: &[CheckpointRef],
    token: AttemptToken,
) -> Result<Restored, String> {
    let mut lists = Vec::new();
    if let Some(store) = store {
        for checkpoint in offered {
            match FileList::read(store, folder.trial(), &checkpoint.key).await {
                Ok(list) => lists.push((checkpoint.token, checkpoint.key.clone(), list)),
                Err(reason) => tracing::warn!(%reason, "a checkpoint is passed over"),
            }
        }
    }
    let here = folder.last_attempt().filter(|_| folder.metrics().exists() && has_files(folder));
    let (mut from, mut files) = (here, BTreeMap::new());
    let is_newest = here.is_some_and(|here| offered.iter().all(|checkpoint| checkpoint.token <= here));
    if let (Some(store), false) = (store, is_newest) {
        for (of, _, list) in &lists {
            match fetch(folder, store, list).await {
                Ok(()) => {
                    from = Some(*of);
                    let listed = folder.list()?.into_iter();
                    let stored = |(path, seen)| {
                        let stored = list.files.get(&path)?.clone();
                        Some((path, (seen, stored)))
                    };
                    files = listed.filter_map(stored).collect();
                    break;
                }
                Err(reason) => tracing::warn!(%reason, "a checkpoint is passed over"),
            }
        }
    }
    if from.is_none() {
        // The metrics of an attempt without checkpoints, which begins again; files without metrics, whose result would lack some.
        empty(folder)?;
    }
    folder.note_attempt(token)?;
    let lists = lists.into_iter().rev().map(|(_, key, list)| (key, list)).collect();
    Ok(Restored { from, lists, files })
}

fn has_files(folder: &TrialFolder) -> bool {
    // More than are kept are files, too.
    folder.list().map_or(true, |files| !files.is_empty())
}

/// Reads the files of a list, and puts them in the place of what is there. If that breaks off, `attempt` still names the earlier attempt,
/// and the next one reads them again.
async fn fetch(folder: &TrialFolder, store: &ArtifactStore, list: &FileList) -> Result<(), String> {
    let incoming = folder.incoming();
    let failed = |error: std::io::Error| format!("{}: {error}", incoming.display());
    remove(&incoming)?;
    let files = incoming.join("files");
    fs::create_dir_all(&files).map_err(failed)?;
    for (path, file) in &list.files {
        let to = files.join(path);
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent).map_err(failed)?;
        }
        file.fetch(store, &to).await?;
    }
    let metrics = list.metrics.as_ref().ok_or("it lacks the metrics that were printed")?;
    metrics.fetch(store, &incoming.join("metrics")).await?;
    remove(&folder.files())?;
    remove(&folder.unread())?;
    fs::rename(&files, folder.files()).map_err(failed)?;
    fs::rename(incoming.join("metrics"), folder.metrics()).map_err(failed)?;
    remove(&incoming)
}

fn empty(folder: &TrialFolder) -> Result<(), String> {
    remove(&folder.files())?;
    remove(&folder.unread())?;
    let (files, metrics) = (folder.files(), folder.metrics());
    fs::create_dir_all(&files).map_err(|error| format!("{}: {error}", files.display()))?;
    sortie_files::replace(&metrics, b"").map_err(|error| format!("{}: {error}", metrics.display()))
}

/// Removes a file or a folder, if it is there.
fn remove(path: &Path) -> Result<(), String> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(format!("{}: {error}", path.display()))
        }
        _ => Ok(()),
    }
}
