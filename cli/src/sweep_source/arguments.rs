//! The flags that name a sweep file, and the sweep that they name.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use sortie_core::spec::file::SweepFile;
use sortie_core::spec::{DatasetRequest, SweepSpec};
use sortie_data::Discovered;
use sortie_proto::v1;

use super::data_root::DataRoot;
use super::find_preset;
use crate::connection::{Client, Connection};
use crate::output;
use crate::watching::lacking_line;

/// How long a command that needs no coordinator waits for one.
const OUTLOOK_TIME_MAX: Duration = Duration::from_secs(3);

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
    #[command(flatten)]
    pub data: DataRoot,
}

/// A sweep file, read and checked.
pub struct ReadSweep {
    /// Its text.
    pub text: String,
    /// The dataset's folder, if that was read.
    pub discovered: Option<Discovered>,
    /// The sweep.
    pub spec: SweepSpec,
    /// What the file may say and rarely means, one line each.
    pub warnings: Vec<String>,
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
        let discovered = match (&self.data.folder, file.dataset().with_context(named)?) {
            (Some(root), Some(request)) => self.read_dataset(root, &request, file.is_command())?,
            _ => None,
        };
        let spec =
            SweepSpec::parse(&text, discovered.as_ref().map(|found| &found.spec)).with_context(named)?;
        let warnings = file.warnings(&spec);
        Ok(ReadSweep { text, discovered, spec, warnings })
    }

    /// Reads the dataset's folder: what the sweep leaves open, and whether its trials can use it, as `sortie data check` would.
    ///
    /// A folder that nobody named for this sweep is read only if it is there. A command reads its dataset in its own way, so that only
    /// domains are asked for that nothing else says.
    fn read_dataset(
        &self,
        root: &Path,
        request: &DatasetRequest,
        is_command: bool,
    ) -> Result<Option<Discovered>> {
        let is_known = if is_command { request.domains.is_some() } else { request.is_complete() };
        let is_generated = sortie_data::is_generated(root, &request.name);
        if is_known && (is_command || is_generated || !self.data.typed && !root.join(&request.name).is_dir())
        {
            return Ok(None);
        }
        let found = sortie_data::read(root, request)?;
        let found = if is_command { found } else { found.sound()? };
        remarks(&found).iter().for_each(|remark| output::note(remark));
        Ok(Some(found))
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
    /// What a coordinator that answers says of workers and machines for its trials; nothing where none answers.
    pub async fn outlook(&self, connection: &Connection) -> Vec<String> {
        let asked = async {
            let mut client = Client::connect(connection).await?;
            client
                .outlook(self.text.clone(), self.discovered.as_ref().map(|found| (&found.spec).into()))
                .await
        };
        tokio::time::timeout(OUTLOOK_TIME_MAX, asked).await.ok().and_then(Result::ok).unwrap_or_default()
    }

    /// Which of its trials a coordinator that answers would train again, though they have results, and why.
    pub async fn trained_again(&self, connection: &Connection) -> Option<String> {
        let asked = async {
            let request = self.request(Reuse::default(), None);
            Client::connect(connection).await?.preview(request).await
        };
        let preview = tokio::time::timeout(OUTLOOK_TIME_MAX, asked).await.ok()?.ok()?;
        lacking_line(preview.lacking, "would run again")
    }

    /// The request that stores it.
    pub fn request(&self, reuse: Reuse, priority: Option<i64>) -> v1::SubmitRequest {
        let Reuse { no_reuse, reuse_anyway } = reuse;
        v1::SubmitRequest {
            text: self.text.clone(),
            discovered: self.discovered.as_ref().map(|found| (&found.spec).into()),
            no_reuse,
            reuse_anyway,
            priority,
            ..v1::SubmitRequest::default()
        }
    }
}

/// Which results that are there already count.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reuse {
    /// No other sweep's.
    pub no_reuse: bool,
    /// Whatever files they left.
    pub reuse_anyway: bool,
}

/// What there is to say about a dataset's folder that its sweep can use.
fn remarks(found: &Discovered) -> Vec<String> {
    let name = &found.spec.name;
    let ignored = (!found.ignored.is_empty()).then(|| format!("{name}: ignored {}", found.ignored));
    let missing = (!found.missing.is_empty()).then(|| {
        format!(
            "{name}: no image of {}, which missing_classes = \"allow\" permits",
            output::shortened(&found.missing)
        )
    });
    ignored.into_iter().chain(missing).collect()
}

/// What a sweep file says of the dataset in a folder `<root>/<name>`.
///
/// # Errors
/// One line: the file is not right, or it names another dataset.
pub fn request_of(file: &Path, name: &str) -> Result<DatasetRequest> {
    let shown = file.display();
    let text =
        std::fs::read_to_string(file).with_context(|| format!("cannot read the sweep file {shown}"))?;
    let sweep = SweepFile::parse(&text).with_context(|| shown.to_string())?;
    match sweep.dataset().with_context(|| shown.to_string())? {
        Some(request) if request.name == name => Ok(request),
        Some(request) => bail!("{shown}: its data.dataset is {:?}, not {name:?}", request.name),
        None => bail!("{shown}: it has no [data] table"),
    }
}
