//! The folder of one trial in the artifact store.

use sortie_artifacts::ArtifactStore;
use sortie_core::artifact::ArtifactKind;
use sortie_core::metrics::Method;

use crate::error::TrialError;

/// The part of the artifact store that one attempt at a trial writes to.
#[derive(Clone)]
pub(crate) struct ArtifactFolder {
    store: ArtifactStore,
    /// The trial's id, 32 hexadecimal digits.
    trial: String,
    /// The attempt.
    token: i64,
}

impl ArtifactFolder {
    /// Opens the store of a URL.
    ///
    /// # Errors
    /// [`TrialError::Machine`] naming the URL: the coordinator, which gave it, reaches it.
    pub(crate) fn open(url: &str, trial: String, token: i64) -> Result<Self, TrialError> {
        let store = ArtifactStore::create(url).map_err(|error| TrialError::Machine(first_line(&error)))?;
        Ok(Self { store, trial, token })
    }

    /// Reads a file whose digest must be as promised.
    ///
    /// # Errors
    /// One line.
    pub(crate) fn read(&self, key: &str, digest: &str) -> Result<Vec<u8>, String> {
        let bytes = runtime()?.block_on(self.store.get(key)).map_err(|error| first_line(&error))?;
        if blake3::hash(&bytes).to_hex().as_str() != digest {
            return Err("its content is not what was written: it is truncated or damaged".to_owned());
        }
        Ok(bytes)
    }

    /// Writes a file and returns its key. `digest` is the BLAKE3 of its content, in hexadecimal digits.
    ///
    /// # Errors
    /// One line.
    pub(super) fn write(
        &self,
        kind: ArtifactKind,
        method: Method,
        step: u64,
        digest: &str,
        bytes: Vec<u8>,
    ) -> Result<String, String> {
        let (trial, token, short) = (&self.trial, self.token, &digest[..16]);
        let key = match kind {
            ArtifactKind::Checkpoint => format!("checkpoints/{trial}/{token}-{step}-{short}.safetensors"),
            _ => format!("{kind}/{trial}/{method}-{step}-{short}.safetensors"),
        };
        runtime()?.block_on(self.store.put(&key, bytes)).map_err(|error| first_line(&error))?;
        Ok(key)
    }

    /// Deletes a file, if it is there.
    ///
    /// # Errors
    /// One line.
    pub(super) fn delete(&self, key: &str) -> Result<(), String> {
        runtime()?.block_on(self.store.delete(key)).map_err(|error| first_line(&error))?;
        Ok(())
    }
}

fn runtime() -> Result<tokio::runtime::Runtime, String> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())
}

fn first_line(error: &dyn std::fmt::Display) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}
