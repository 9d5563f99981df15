//! The flags that name a sweep file, and the sweep that they name.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sortie_core::spec::SweepSpec;
use sortie_core::spec::file::SweepFile;
use sortie_core::trial::DatasetSpec;
use sortie_proto::v1;

use super::dataset_folder::discover;
use super::find_preset;

/// A sweep file and where to look for its images.
#[derive(Debug, clap::Args)]
pub struct SweepArguments {
    /// The sweep file, TOML.
    #[arg(required_unless_present = "preset")]
    pub file: Option<PathBuf>,
    /// An experiment of the paper instead of a file; `sortie presets` lists them.
    #[arg(long, value_name = "NAME", conflicts_with = "file")]
    pub preset: Option<String>,
    /// Run the preset on this dataset instead of its own.
    #[arg(long, value_name = "NAME", requires = "preset")]
    pub dataset: Option<String>,
    /// Read domains and classes from the folder ROOT/DATASET instead of the file or the built-in catalogue.
    #[arg(long, env = "SORTIE_DATA", value_name = "ROOT")]
    pub data: Option<PathBuf>,
}

/// A sweep file, read and checked.
pub struct ReadSweep {
    /// Its text.
    pub text: String,
    /// The dataset that `--data` names, if given.
    pub discovered: Option<DatasetSpec>,
    /// The sweep.
    pub spec: SweepSpec,
}

impl SweepArguments {
    /// Reads and checks the file.
    ///
    /// # Errors
    /// One line that names the file, the key, the value and what is allowed.
    pub fn read(&self) -> Result<ReadSweep> {
        let (name, text) = self.source()?;
        let named = || name.clone();
        let file = SweepFile::parse(&text).with_context(named)?;
        let discovered = match (&self.data, file.dataset()) {
            (Some(root), Some(dataset)) => Some(discover(root, dataset)?),
            _ => None,
        };
        let spec = SweepSpec::parse(&text, discovered.as_ref()).with_context(named)?;
        Ok(ReadSweep { text, discovered, spec })
    }

    /// Its name in error messages, and its text.
    fn source(&self) -> Result<(String, String)> {
        if let Some(name) = &self.preset {
            return Ok((format!("preset {name}"), find_preset(name)?.text(self.dataset.as_deref())));
        }
        // clap requires one of the two.
        let file = self.file.as_deref().unwrap_or(Path::new(""));
        let text = std::fs::read_to_string(file)
            .with_context(|| format!("cannot read the sweep file {}", file.display()))?;
        Ok((file.display().to_string(), text))
    }
}

impl ReadSweep {
    /// The request that stores it.
    pub fn into_request(self, no_reuse: bool, priority: Option<i64>) -> v1::SubmitRequest {
        v1::SubmitRequest {
            text: self.text,
            discovered: self.discovered.as_ref().map(Into::into),
            no_reuse,
            priority,
        }
    }
}
