//! `sortie evaluate`: how well a network does on a folder of images.

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use crate::error::TrialError;
use crate::training::{ComputeDevice, DomainLogits, LoadedNetwork, SavedModel};
use serde_json::{Map, Value, json};
use sortie_core::catalogue;
use sortie_core::pipe::{EvaluateRequest, NetworkSource};
use sortie_core::trial::DatasetSpec;
use sortie_data::discover;

/// Evaluates and prints.
pub fn run(request: &EvaluateRequest) -> ExitCode {
    match evaluate(request) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn evaluate(request: &EvaluateRequest) -> Result<(), TrialError> {
    let cache = &request.cache;
    let device: ComputeDevice = request.device.parse().map_err(TrialError::BadConfig)?;
    let device = device.open()?;
    let network = match &request.network {
        NetworkSource::Checkpoint(file) => LoadedNetwork::read(file, cache, device)?,
        NetworkSource::Pretrained(backbone) => LoadedNetwork::pretrained(*backbone, cache, device)?,
    };
    let dataset = dataset(request, network.saved_model.as_ref())?;
    let domains = domains(request, &dataset)?;
    let found = network.logits(&request.data, &dataset, &domains, cache)?;
    if let Some(path) = &request.logits {
        write_npy(path, &found, network.classes)?;
    }
    // A classifier of other classes, such as ImageNet's, cannot be right or wrong here.
    let comparable = network.classes == dataset.classes.len();
    let confusions: Vec<DomainConfusion> =
        found.iter().map(|found| DomainConfusion::of(found, network.classes)).collect();
    let out = if request.json {
        as_json(&confusions, &dataset, comparable, network.saved_model.as_ref()).to_string() + "\n"
    } else {
        as_text(&confusions, &dataset, comparable)
    };
    std::io::stdout()
        .lock()
        .write_all(out.as_bytes())
        .map_err(|error| TrialError::Other(format!("cannot print: {error}")))
}

/// What the trial was trained on wins over the catalogue, for its classes are those of the logits.
fn dataset(request: &EvaluateRequest, saved_model: Option<&SavedModel>) -> Result<DatasetSpec, TrialError> {
    let trained = saved_model
        .map(|saved_model| &saved_model.spec.settings.dataset)
        .filter(|dataset| dataset.name == request.dataset);
    match trained.cloned().or_else(|| catalogue::find(&request.dataset)) {
        Some(dataset) => Ok(dataset),
        None => Ok(discover(&request.data.join(&request.dataset))?.spec),
    }
}

fn domains(request: &EvaluateRequest, dataset: &DatasetSpec) -> Result<Vec<usize>, TrialError> {
    let Some(name) = &request.domain else { return Ok((0..dataset.domains.len()).collect()) };
    match dataset.domain_index(name) {
        Some(index) => Ok(vec![index]),
        None => {
            let allowed = dataset.domains.join(", ");
            Err(TrialError::BadConfig(format!(
                "--domain {name:?} is not a domain of {}; allowed: {allowed}",
                dataset.name
            )))
        }
    }
}

/// A domain's images, counted.
struct DomainConfusion {
    domain: usize,
    /// `confusion[true class][chosen class]`.
    confusion: Vec<Vec<u64>>,
}

impl DomainConfusion {
    fn of(found: &DomainLogits, classes: usize) -> Self {
        let rows = found.labels.iter().max().map_or(0, |largest| largest + 1).max(classes);
        let mut confusion = vec![vec![0; classes]; rows];
        for (row, &label) in found.logits.chunks(classes).zip(&found.labels) {
            // The first of equals, as libtorch's argmax.
            let mut chosen = 0;
            for (class, &value) in row.iter().enumerate() {
                if value > row[chosen] {
                    chosen = class;
                }
            }
            confusion[label][chosen] += 1;
        }
        Self { domain: found.domain, confusion }
    }

    fn n(&self) -> u64 {
        self.confusion.iter().flatten().sum()
    }

    fn correct(&self) -> u64 {
        self.confusion.iter().enumerate().map(|(class, row)| row.get(class).copied().unwrap_or(0)).sum()
    }
}

fn as_json(
    confusions: &[DomainConfusion],
    dataset: &DatasetSpec,
    comparable: bool,
    saved_model: Option<&SavedModel>,
) -> Value {
    let mut domains = Map::new();
    for one in confusions {
        let mut figures = json!({ "n": one.n(), "correct": comparable.then(|| one.correct()) });
        if comparable {
            let per_class =
                dataset.classes.iter().zip(&one.confusion).enumerate().map(|(class, (name, row))| {
                    (name.clone(), json!({ "n": row.iter().sum::<u64>(), "correct": row[class] }))
                });
            figures["classes"] = Value::Object(per_class.collect());
            figures["confusion"] = json!(one.confusion);
        }
        domains.insert(dataset.domains[one.domain].clone(), figures);
    }
    let mut out = json!({ "n": confusions.iter().map(DomainConfusion::n).sum::<u64>(), "domains": domains });
    if let Some(saved_model) = saved_model {
        out["method"] = json!(saved_model.method);
        out["step"] = json!(saved_model.step);
    }
    out
}

fn as_text(confusions: &[DomainConfusion], dataset: &DatasetSpec, comparable: bool) -> String {
    let width = dataset.domains.iter().chain(&dataset.classes).map(String::len).max().unwrap_or(0) + 2;
    let mut text = String::new();
    let line = |name: &str, correct: u64, n: u64| {
        format!("{name:<width$} {:>7} {:>6.2}%\n", n, 100.0 * correct as f64 / n.max(1) as f64)
    };
    for one in confusions {
        let name = &dataset.domains[one.domain];
        if !comparable {
            text.push_str(&format!("{name:<width$} {:>7}\n", one.n()));
            continue;
        }
        text.push_str(&line(name, one.correct(), one.n()));
        for (class, (name, row)) in dataset.classes.iter().zip(&one.confusion).enumerate() {
            text.push_str(&line(&format!("  {name}"), row[class], row.iter().sum()));
        }
    }
    if !comparable {
        text.push_str("the classifier has other classes than the dataset: logits only\n");
    }
    text
}

/// NumPy's format 1.0, little-endian, row by row.
fn write_npy(path: &Path, found: &[DomainLogits], classes: usize) -> Result<(), TrialError> {
    let n: usize = found.iter().map(|domain| domain.labels.len()).sum();
    let mut header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({n}, {classes}), }}");
    // Magic, version and length are 10 bytes; the data begins at a multiple of 64.
    header.push_str(&" ".repeat(63 - (10 + header.len()) % 64));
    header.push('\n');
    let length = u16::try_from(header.len()).map_err(|error| TrialError::Other(error.to_string()))?;
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend(length.to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(found.iter().flat_map(|domain| &domain.logits).flat_map(|value| value.to_le_bytes()));
    std::fs::write(path, bytes)
        .map_err(|error| TrialError::Other(format!("cannot write {}: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found() -> Vec<DomainLogits> {
        vec![DomainLogits { domain: 1, logits: vec![2.0, 1.0, 0.0, 3.0, 1.0, 1.0], labels: vec![0, 1, 1] }]
    }

    #[test]
    fn images_are_counted_by_class() {
        let confusion = DomainConfusion::of(&found()[0], 2);
        assert_eq!(
            (confusion.n(), confusion.correct(), confusion.confusion),
            (3, 2, vec![vec![1, 0], vec![1, 1]])
        );
    }

    #[test]
    fn logits_are_numpys() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("l.npy");
        write_npy(&path, &found(), 2).unwrap();
        let bytes = std::fs::read(path).unwrap();
        assert_eq!((bytes.len(), &bytes[..8]), (128 + 24, &b"\x93NUMPY\x01\x00"[..]));
        assert_eq!(bytes[128..132], 2.0_f32.to_le_bytes());
        assert!(
            String::from_utf8_lossy(&bytes[10..128])
                .starts_with("{'descr': '<f4', 'fortran_order': False, 'shape': (3, 2), }")
        );
    }
}
