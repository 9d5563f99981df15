//! What requests about sweeps say: sweep files, and the trials that they name.

use sortie_core::spec::SweepSpec;
use sortie_core::trial::{DatasetSpec, SpecHash};
use sortie_proto::v1;
use tonic::Status;

use super::refusal::{invalid, refused};
use crate::store::{Reuse, SubmitOptions};

/// A sweep file, with what its sender found of its dataset.
pub(super) fn read_sweep(text: &str, discovered: Option<v1::Dataset>) -> Result<SweepSpec, Status> {
    let discovered: Option<DatasetSpec> = discovered.map(TryInto::try_into).transpose().map_err(invalid)?;
    SweepSpec::parse(text, discovered.as_ref()).map_err(|error| refused(error.into()))
}

/// The sweep that a request brings, and how it is to be stored.
pub(super) fn read_submission(request: v1::SubmitRequest) -> Result<(SweepSpec, SubmitOptions), Status> {
    let v1::SubmitRequest { text, discovered, no_reuse, priority, imported, reuse_anyway } = request;
    let mut spec = read_sweep(&text, discovered)?;
    if !imported.is_empty() {
        let invalid = |error| Status::invalid_argument(format!("imported: {error}"));
        spec.imported = serde_json::from_str(&imported).map_err(invalid)?;
        spec.imported.check().map_err(|error| refused(error.into()))?;
    }
    let reuse = match (no_reuse, reuse_anyway) {
        (true, false) => Reuse::Never,
        (false, false) => Reuse::Complete,
        (false, true) => Reuse::Anyway,
        (true, true) => {
            return Err(Status::invalid_argument("no_reuse and reuse_anyway exclude each other"));
        }
    };
    Ok((spec, SubmitOptions { reuse, priority }))
}

/// The trials that a request names.
pub(super) fn named_trials(ids: &[String]) -> Result<Vec<SpecHash>, Status> {
    if ids.len() > sortie_proto::TRIALS_NAMED_MAX {
        let max = sortie_proto::TRIALS_NAMED_MAX;
        return Err(Status::invalid_argument(format!(
            "trials has {} ids; allowed: at most {max}",
            ids.len()
        )));
    }
    let read = |id: &String| {
        id.parse::<SpecHash>().map_err(|error| Status::invalid_argument(format!("trials: {error}")))
    };
    ids.iter().map(read).collect()
}
