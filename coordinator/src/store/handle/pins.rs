//! What users say about digests of inputs.

use sortie_core::inputs::{Input, InputKind};

use super::store::Store;
use crate::store::StoreError;
use crate::store::admin::{PinDone, PinRequest};
use crate::store::writer::Command;

/// A digest that counts from now on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pinned {
    /// Of what.
    pub input: Input,
    /// The digest.
    pub digest: String,
    /// Machines that are quarantined: they have another one.
    pub machines: Vec<String>,
    /// How many trials have a result that was made with another one. Nothing is deleted.
    pub results: u64,
}

/// Digests that are forgotten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unpinned {
    /// Of what.
    pub input: Input,
    /// The digests.
    pub digests: Vec<String>,
}

impl Store {
    /// Makes a digest of an input the one that counts: machines with another one are quarantined for it, and trials that were held start.
    /// The digest may be the first digits of one that was reported.
    ///
    /// # Errors
    /// [`StoreError::Input`] and [`StoreError::Digest`] for what nobody reported.
    #[tracing::instrument(level = "debug", skip_all, fields(%name, %digest))]
    pub async fn pin(&self, name: &str, kind: Option<InputKind>, digest: &str) -> Result<Pinned, StoreError> {
        let input = self.input(name, kind).await?;
        let request = PinRequest { input: input.clone(), digest: Some(digest.to_owned()) };
        let PinDone { digest, forgotten, machines } =
            self.command(|reply| Command::Pin(request, reply)).await?;
        let others: Vec<String> = forgotten.into_iter().map(|pin| pin.digest).collect();
        let results =
            if others.is_empty() { 0 } else { self.backend.results_with(input.kind, &others).await? };
        Ok(Pinned { input, digest: digest.unwrap_or_default(), machines, results })
    }

    /// Forgets the digests of an input: the next report pins anew.
    ///
    /// # Errors
    /// [`StoreError::Input`] for a name of which nobody reported any.
    #[tracing::instrument(level = "debug", skip_all, fields(%name))]
    pub async fn unpin(&self, name: &str, kind: Option<InputKind>) -> Result<Unpinned, StoreError> {
        let input = self.input(name, kind).await?;
        let request = PinRequest { input: input.clone(), digest: None };
        let done = self.command(|reply| Command::Pin(request, reply)).await?;
        Ok(Unpinned { input, digests: done.forgotten.into_iter().map(|pin| pin.digest).collect() })
    }

    /// The input that a user means.
    async fn input(&self, name: &str, kind: Option<InputKind>) -> Result<Input, StoreError> {
        let known: Vec<Input> = self.backend.pins().await?.into_iter().map(|(input, _)| input).collect();
        let is_meant = |input: &&Input| input.name == name && kind.is_none_or(|kind| kind == input.kind);
        let meant: Vec<&Input> = known.iter().filter(is_meant).collect();
        let found = match meant.as_slice() {
            [input] => return Ok((*input).clone()),
            [] if known.is_empty() => "nothing of which a digest was reported: none was so far".to_owned(),
            [] => {
                let known: Vec<String> = known.iter().map(ToString::to_string).collect();
                format!("nothing of which a digest was reported; there are: {}", known.join(", "))
            }
            _ => "a dataset and weights: add --kind dataset or --kind weights".to_owned(),
        };
        Err(StoreError::Input { name: name.to_owned(), found })
    }
}
