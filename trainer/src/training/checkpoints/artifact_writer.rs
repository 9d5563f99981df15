//! Writes what a trial leaves into the artifact store, on a thread of its own, so that training goes on meanwhile.

use std::collections::{HashMap, VecDeque};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use sortie_artifacts::ArtifactStore;
use sortie_core::artifact::{Artifact, ArtifactKind, CheckpointRef};
use sortie_core::metrics::Method;
use tch::Tensor;

use super::checkpoint::{self, Checkpoint};
use super::kept::{KEPT_KEY, Kept};
use super::stopwatch::now;
use crate::error::TrialError;

/// Checkpoints that are left of a trial while it runs.
const CHECKPOINTS_KEPT: usize = 2;

/// Something to write.
pub(super) enum Job {
    /// A checkpoint, after whose writing older ones go.
    Checkpoint(Box<Checkpoint>),
    /// Weights or logits; without `keep` only their digest is told.
    Tensors {
        kind: ArtifactKind,
        method: Method,
        step: u64,
        tensors: HashMap<String, Tensor>,
        about: Option<Box<Kept>>,
        keep: bool,
    },
}

/// What became of a job, and how long it took.
pub(super) struct Saved {
    /// The artifact, or why there is none, in one line.
    pub(super) result: Result<Artifact, String>,
    pub(super) is_checkpoint: bool,
    pub(super) seconds: f64,
}

/// A thread that writes jobs in their order.
pub(super) struct Saver {
    jobs: Option<Sender<Job>>,
    saved: Receiver<Saved>,
    waiting: usize,
    thread: Option<JoinHandle<()>>,
}

/// Where a trial's files go.
#[derive(Clone)]
pub(super) struct Place {
    store: ArtifactStore,
    /// The trial's id, 32 hexadecimal digits.
    trial: String,
    /// The attempt.
    token: i64,
}

impl Place {
    /// Opens the store of a URL.
    ///
    /// # Errors
    /// [`TrialError::BadConfig`] naming the URL.
    pub(super) fn open(url: &str, trial: String, token: i64) -> Result<Self, TrialError> {
        let store = ArtifactStore::create(url).map_err(|error| TrialError::BadConfig(first_line(&error)))?;
        Ok(Self { store, trial, token })
    }

    /// Reads a file whose digest must be as promised.
    ///
    /// # Errors
    /// One line.
    pub(super) fn read(&self, key: &str, digest: &str) -> Result<Vec<u8>, String> {
        let bytes = runtime()?.block_on(self.store.get(key)).map_err(|error| first_line(&error))?;
        if blake3::hash(&bytes).to_hex().as_str() != digest {
            return Err("its content is not what was written: it is truncated or damaged".to_owned());
        }
        Ok(bytes)
    }
}

impl Saver {
    /// Starts the thread. `earlier` are the checkpoints of other attempts, the newest first.
    pub(super) fn start(place: Option<Place>, earlier: &[CheckpointRef]) -> Result<Self, TrialError> {
        let (jobs, inbox) = channel();
        let (outbox, saved) = channel();
        let old: VecDeque<String> = earlier.iter().rev().map(|reference| reference.key.clone()).collect();
        let thread = std::thread::Builder::new().name("sortie-saver".into()).spawn(move || {
            let mut writer = Writer { place, old };
            for job in inbox {
                let begun = now();
                let is_checkpoint = matches!(job, Job::Checkpoint(_));
                let result = writer.write(job);
                if outbox
                    .send(Saved { result, is_checkpoint, seconds: begun.elapsed().as_secs_f64() })
                    .is_err()
                {
                    return;
                }
            }
        });
        let thread = thread.map_err(|error| TrialError::Other(format!("cannot start a thread: {error}")))?;
        Ok(Self { jobs: Some(jobs), saved, waiting: 0, thread: Some(thread) })
    }

    /// Hands a job over.
    pub(super) fn save(&mut self, job: Job) {
        if self.jobs.as_ref().is_some_and(|jobs| jobs.send(job).is_ok()) {
            self.waiting += 1;
        }
    }

    /// Whether nothing is being written.
    pub(super) fn is_free(&self) -> bool {
        self.waiting == 0
    }

    /// What was finished since the last call.
    pub(super) fn finished(&mut self) -> Vec<Saved> {
        let finished: Vec<Saved> = self.saved.try_iter().collect();
        self.waiting -= finished.len().min(self.waiting);
        finished
    }

    /// Waits for the oldest job that is not finished; none if there is none.
    pub(super) fn wait(&mut self) -> Option<Saved> {
        if self.waiting == 0 {
            return None;
        }
        self.waiting -= 1;
        self.saved.recv().ok()
    }
}

impl Drop for Saver {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // A panic there was answered by the missing result.
            let _ = thread.join();
        }
    }
}

struct Writer {
    place: Option<Place>,
    /// Keys of checkpoints that are still there, the oldest first.
    old: VecDeque<String>,
}

impl Writer {
    fn write(&mut self, job: Job) -> Result<Artifact, String> {
        match job {
            Job::Checkpoint(checkpoint) => {
                let step = checkpoint.header.step;
                let bytes = checkpoint.to_bytes()?;
                drop(checkpoint);
                let artifact = self.put(ArtifactKind::Checkpoint, Method::Plain, step, bytes, true)?;
                self.old.push_back(artifact.key.clone());
                self.forget_old();
                Ok(artifact)
            }
            Job::Tensors { kind, method, step, tensors, about, keep } => {
                let about = about
                    .map(|kept| serde_json::to_string(&kept))
                    .transpose()
                    .map_err(|error| error.to_string())?;
                let metadata = about.map(|text| HashMap::from([(KEPT_KEY.to_owned(), text)]));
                self.put(kind, method, step, checkpoint::write(&tensors, metadata)?, keep)
            }
        }
    }

    fn put(
        &self,
        kind: ArtifactKind,
        method: Method,
        step: u64,
        bytes: Vec<u8>,
        keep: bool,
    ) -> Result<Artifact, String> {
        let digest = blake3::hash(&bytes).to_hex().to_string();
        let length = bytes.len() as u64;
        let key = match &self.place {
            Some(place) if keep => {
                let (trial, token, short) = (&place.trial, place.token, &digest[..16]);
                let key = match kind {
                    ArtifactKind::Checkpoint => {
                        format!("checkpoints/{trial}/{token}-{step}-{short}.safetensors")
                    }
                    _ => format!("{kind}/{trial}/{method}-{step}-{short}.safetensors"),
                };
                runtime()?.block_on(place.store.put(&key, bytes)).map_err(|error| first_line(&error))?;
                key
            }
            _ => String::new(),
        };
        Ok(Artifact { kind, method, step, key, digest, bytes: length })
    }

    fn forget_old(&mut self) {
        let Some(place) = &self.place else { return };
        while self.old.len() > CHECKPOINTS_KEPT {
            let Some(key) = self.old.pop_front() else { return };
            let Ok(runtime) = runtime() else { return };
            // One that stays costs nothing but its place; the worker clears the trial's folder at its end.
            let _ = runtime.block_on(place.store.delete(&key));
        }
    }
}

fn runtime() -> Result<tokio::runtime::Runtime, String> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())
}

fn first_line(error: &dyn std::fmt::Display) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}
