//! What requests about sweeps say: sweep files, and the trials that they name.

use sortie_core::filter::Filter;
use sortie_core::spec::SweepSpec;
use sortie_core::trial::{DatasetSpec, SpecHash};
use sortie_proto::v1;
use tonic::Status;

use super::refusal::{check_length, invalid, refused};
use crate::store::{Reuse, SubmitOptions};

/// Bytes of a sweep file: forty axes with as many values as one may have.
const SWEEP_BYTES_MAX: usize = 4 << 20;
/// Names of a dataset's domains and classes: five times those of the largest collection of classes, ImageNet-21k.
const DATASET_NAMES_MAX: usize = 100_000;
/// Bytes of conditions: they are compared with every trial.
const FILTER_BYTES_MAX: usize = 64 << 10;

/// A sweep file, with what its sender found of its dataset.
pub(super) fn read_sweep(text: &str, discovered: Option<v1::Dataset>) -> Result<SweepSpec, Status> {
    check_length("text", text, SWEEP_BYTES_MAX)?;
    if let Some(v1::Dataset { domains, classes, .. }) = &discovered
        && domains.len() + classes.len() > DATASET_NAMES_MAX
    {
        return Err(Status::invalid_argument(format!(
            "field discovered: {} domains and {} classes; allowed: at most {DATASET_NAMES_MAX}",
            domains.len(),
            classes.len()
        )));
    }
    let discovered: Option<DatasetSpec> = discovered.map(TryInto::try_into).transpose().map_err(invalid)?;
    SweepSpec::parse(text, discovered.as_ref()).map_err(|error| refused(error.into()))
}

/// The conditions of a request.
pub(super) fn read_filter(text: &str) -> Result<Filter, Status> {
    check_length("where", text, FILTER_BYTES_MAX)?;
    if text.is_empty() {
        return Ok(Filter::default());
    }
    Filter::parse(text).map_err(|error| Status::invalid_argument(error.to_string()))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_longer_than_any_honest_request_is_refused_by_name() {
        let said = |refused: Status| refused.message().to_owned();
        let long = "#".repeat(SWEEP_BYTES_MAX + 1);
        assert_eq!(
            said(read_sweep(&long, None).unwrap_err()),
            "field text: 4194305 bytes; allowed: at most 4194304"
        );
        let classes = vec!["c".to_owned(); DATASET_NAMES_MAX + 1];
        let dataset = v1::Dataset { classes, ..v1::Dataset::default() };
        assert_eq!(
            said(read_sweep("", Some(dataset)).unwrap_err()),
            "field discovered: 0 domains and 100001 classes; allowed: at most 100000"
        );
        assert_eq!(
            said(read_filter(&" ".repeat(FILTER_BYTES_MAX + 1)).unwrap_err()),
            "field where: 65537 bytes; allowed: at most 65536"
        );
        assert!(read_filter("seed=1").is_ok() && read_filter("").is_ok());
    }

    #[test]
    fn no_refusal_quotes_more_than_an_answer_may_have() {
        let name = "é".repeat(1 << 20);
        let error = crate::store::StoreError::NameTaken(name);
        let message = said_by(refused(error));
        assert!(message.len() <= 4_099 && message.ends_with("..."), "{}", message.len());
        let unknown = v1::Artifact { kind: "k".repeat(1 << 20), ..v1::Artifact::default() };
        let error = sortie_core::artifact::Artifact::try_from(unknown).unwrap_err();
        assert!(said_by(invalid(error)).len() <= 4_099);
    }

    fn said_by(status: Status) -> String {
        status.message().to_owned()
    }
}
