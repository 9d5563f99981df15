//! Writes files of a trial into the artifact store on a thread of its own, so that training continues meanwhile.

use std::collections::{HashMap, VecDeque};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use sortie_core::artifact::{Artifact, ArtifactKind, CheckpointRef};
use sortie_core::metrics::Method;
use tch::Tensor;

use super::super::evaluation::{SAVED_MODEL_KEY, SavedModel};
use super::super::stopwatch::now;
use super::safetensors_file::write_tensors;
use super::{ArtifactFolder, Checkpoint};
use crate::error::TrialError;

/// Checkpoints of a trial that exist at a time; older ones are deleted.
const CHECKPOINTS_MAX: usize = 2;

/// A file to write.
pub(super) enum WriteJob {
    /// A checkpoint. Older ones are deleted after it is written.
    Checkpoint(Box<Checkpoint>),
    /// Weights or logits. Without `keep` only their digest is computed.
    Tensors {
        kind: ArtifactKind,
        method: Method,
        step: u64,
        tensors: HashMap<String, Tensor>,
        saved_model: Option<Box<SavedModel>>,
        keep: bool,
    },
}

/// The result of a job, and how long it took.
pub(super) struct WriteResult {
    /// The artifact, or why there is none, in one line.
    pub(super) result: Result<Artifact, String>,
    pub(super) is_checkpoint: bool,
    pub(super) seconds: f64,
}

/// A thread that writes files in the order of their jobs.
pub(super) struct ArtifactWriter {
    jobs: Option<Sender<WriteJob>>,
    results: Receiver<WriteResult>,
    waiting: usize,
    thread: Option<JoinHandle<()>>,
}

impl ArtifactWriter {
    /// Starts the thread. `earlier` are the checkpoints of other attempts, the newest first.
    pub(super) fn start(
        folder: Option<ArtifactFolder>,
        earlier: &[CheckpointRef],
    ) -> Result<Self, TrialError> {
        let (jobs, inbox) = channel();
        let (outbox, results) = channel();
        let old: VecDeque<String> = earlier.iter().rev().map(|reference| reference.key.clone()).collect();
        let thread = std::thread::Builder::new().name("sortie-writer".into()).spawn(move || {
            let mut writer = WriterThread { folder, old };
            for job in inbox {
                let begun = now();
                let is_checkpoint = matches!(job, WriteJob::Checkpoint(_));
                let result = writer.write(job);
                if outbox
                    .send(WriteResult { result, is_checkpoint, seconds: begun.elapsed().as_secs_f64() })
                    .is_err()
                {
                    return;
                }
            }
        });
        let thread =
            thread.map_err(|error| TrialError::Machine(format!("cannot start a thread: {error}")))?;
        Ok(Self { jobs: Some(jobs), results, waiting: 0, thread: Some(thread) })
    }

    /// Starts a job.
    pub(super) fn write(&mut self, job: WriteJob) {
        if self.jobs.as_ref().is_some_and(|jobs| jobs.send(job).is_ok()) {
            self.waiting += 1;
        }
    }

    /// Whether nothing is being written.
    pub(super) fn is_free(&self) -> bool {
        self.waiting == 0
    }

    /// The results of the jobs that finished since the last call.
    pub(super) fn finished(&mut self) -> Vec<WriteResult> {
        let finished: Vec<WriteResult> = self.results.try_iter().collect();
        self.waiting -= finished.len().min(self.waiting);
        finished
    }

    /// Waits for the oldest job that is not finished; none if there is none.
    pub(super) fn wait(&mut self) -> Option<WriteResult> {
        if self.waiting == 0 {
            return None;
        }
        self.waiting -= 1;
        self.results.recv().ok()
    }
}

impl Drop for ArtifactWriter {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // After a panic there the result is missing, which the caller has noticed.
            let _ = thread.join();
        }
    }
}

struct WriterThread {
    folder: Option<ArtifactFolder>,
    /// Keys of checkpoints that are still there, the oldest first.
    old: VecDeque<String>,
}

impl WriterThread {
    fn write(&mut self, job: WriteJob) -> Result<Artifact, String> {
        match job {
            WriteJob::Checkpoint(checkpoint) => {
                let step = checkpoint.header.step;
                let bytes = checkpoint.to_bytes()?;
                drop(checkpoint);
                let artifact = self.put(ArtifactKind::Checkpoint, Method::Plain, step, bytes, true)?;
                self.old.push_back(artifact.key.clone());
                self.delete_old();
                Ok(artifact)
            }
            WriteJob::Tensors { kind, method, step, tensors, saved_model, keep } => {
                let text = saved_model
                    .map(|saved_model| serde_json::to_string(&saved_model))
                    .transpose()
                    .map_err(|error| error.to_string())?;
                let metadata = text.map(|text| HashMap::from([(SAVED_MODEL_KEY.to_owned(), text)]));
                self.put(kind, method, step, write_tensors(&tensors, metadata)?, keep)
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
        let key = match &self.folder {
            Some(folder) if keep => folder.write(kind, method, step, &digest, bytes)?,
            _ => String::new(),
        };
        Ok(Artifact { kind, method, step, key, digest, bytes: length })
    }

    fn delete_old(&mut self) {
        let Some(folder) = &self.folder else { return };
        while self.old.len() > CHECKPOINTS_MAX {
            let Some(key) = self.old.pop_front() else { return };
            // A checkpoint that stays costs only disk space. The worker clears the trial's folder at its end.
            let _ = folder.delete(&key);
        }
    }
}
