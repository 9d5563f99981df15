//! `sortie evaluate`: how well a network does on a folder of images.
//!
//! A network that a trial saved names its classes, and the folder's are matched with them by name. A prediction is the class of the largest
//! of all outputs, as whoever uses the network sees it, also where the folder has images of some classes only.

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use crate::error::TrialError;
use crate::training::{ComputeDevice, DomainLogits, LoadedNetwork, SavedModel};
use serde_json::{Map, Value, json};
use sortie_core::pipe::{EvaluateRequest, NetworkSource};
use sortie_core::spec::DatasetRequest;
use sortie_core::trial::{DatasetSpec, MissingClasses};
use sortie_data::is_generated;

/// Classes that a message names.
const NAMES_SHOWN: usize = 12;

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
    let trained = network.saved_model.as_ref().map(|saved_model| &saved_model.spec.settings.dataset);
    let dataset = dataset(request, trained)?;
    let (dataset, matching) = match trained {
        Some(trained) => (with_classes_of(trained, dataset, request)?, Matching::ByName),
        // A classifier of other classes, such as ImageNet's, cannot be right or wrong here.
        None if network.classes != dataset.classes.len() => (dataset, Matching::Impossible),
        None => (dataset, Matching::ByOrder),
    };
    let domains = domains(request, &dataset)?;
    let found = network.logits(&request.data, &dataset, &domains, cache)?;
    if let Some(path) = &request.logits {
        write_npy(path, &found, network.classes)?;
    }
    let confusions: Vec<DomainConfusion> =
        found.iter().map(|found| DomainConfusion::of(found, network.classes)).collect();
    let evaluated = Evaluated { confusions, dataset, matching, outputs: network.classes };
    let out = if request.json {
        evaluated.as_json(network.saved_model.as_ref()).to_string() + "\n"
    } else {
        evaluated.as_text()
    };
    std::io::stdout()
        .lock()
        .write_all(out.as_bytes())
        .map_err(|error| TrialError::Other(format!("cannot print: {error}")))
}

/// How the folder's classes are those of the network's outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Matching {
    /// The network names its classes.
    ByName,
    /// It names none, and has as many as the folder: both are taken for sorted lists of the same names.
    ByOrder,
    /// It names none, and has another number of them.
    Impossible,
}

/// The dataset as its folder shows it: its classes are those that are there. Domains and layout are those of the dataset that the network
/// was trained on, if it is that one, else those that the catalogue knows.
fn dataset(request: &EvaluateRequest, trained: Option<&DatasetSpec>) -> Result<DatasetSpec, TrialError> {
    let named = DatasetRequest::named(&request.dataset);
    let asked = match trained.filter(|trained| trained.name == request.dataset) {
        Some(trained) => DatasetRequest {
            domains: Some(trained.domains.clone()),
            classes: Some(trained.classes.clone()),
            layout: Some(trained.layout.clone()).filter(|layout| !layout.is_default()),
            ..named
        },
        None => named,
    };
    // What is made from another dataset's files has no folder that could show its classes.
    let classes = asked.classes.filter(|_| is_generated(&request.data, &request.dataset));
    // Nothing is split here.
    let asked = DatasetRequest { classes, split_by: None, missing_classes: MissingClasses::Allow, ..asked };
    Ok(sortie_data::read(&request.data, &asked)?.spec)
}

/// The dataset with the classes of the network's outputs, in their order; the folder need not have all of them.
fn with_classes_of(
    trained: &DatasetSpec,
    found: DatasetSpec,
    request: &EvaluateRequest,
) -> Result<DatasetSpec, TrialError> {
    let unknown: Vec<&String> =
        found.classes.iter().filter(|class| !trained.classes.contains(class)).collect();
    if unknown.is_empty() {
        return Ok(DatasetSpec { classes: trained.classes.clone(), ..found });
    }
    let reason = format!(
        "the network has no output for the classes {}; it has {}: {}",
        list(unknown.iter().copied()),
        trained.classes.len(),
        list(trained.classes.iter())
    );
    Err(TrialError::bad_data(&request.data.join(&request.dataset), reason))
}

/// Names in one line; of many the first few, and how many others there are.
fn list<'a>(names: impl ExactSizeIterator<Item = &'a String>) -> String {
    let more = names.len().saturating_sub(NAMES_SHOWN);
    let shown: Vec<String> = names.take(NAMES_SHOWN).map(|name| format!("{name:?}")).collect();
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    shown.join(", ") + &more
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

/// What is printed.
struct Evaluated {
    confusions: Vec<DomainConfusion>,
    /// With the classes of the outputs in their order, where they are known.
    dataset: DatasetSpec,
    matching: Matching,
    /// How many the network has.
    outputs: usize,
}

impl Evaluated {
    fn is_comparable(&self) -> bool {
        self.matching != Matching::Impossible
    }

    /// Whether any of the evaluated images is of this class.
    fn is_present(&self, class: usize) -> bool {
        let has =
            |one: &DomainConfusion| one.confusion.get(class).is_some_and(|row| row.iter().any(|&n| n > 0));
        self.confusions.iter().any(has)
    }

    /// The classes with an evaluated image, or those without.
    fn classes(&self, present: bool) -> Vec<&String> {
        let classes = self.dataset.classes.iter().enumerate();
        classes.filter(|(class, _)| self.is_present(*class) == present).map(|(_, name)| name).collect()
    }

    fn as_json(&self, saved_model: Option<&SavedModel>) -> Value {
        let Self { confusions, dataset, matching, .. } = self;
        let mut domains = Map::new();
        for one in confusions {
            let comparable = self.is_comparable();
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
        let (matched_by, outputs) = match matching {
            Matching::ByName => (Some("name"), Some(&dataset.classes)),
            Matching::ByOrder => (Some("order"), Some(&dataset.classes)),
            Matching::Impossible => (None, None),
        };
        let mut out = json!({
            "n": confusions.iter().map(DomainConfusion::n).sum::<u64>(),
            "domains": domains,
            "classes": { "matched_by": matched_by, "outputs": outputs, "present": self.classes(true) },
        });
        if let Some(saved_model) = saved_model {
            out["method"] = json!(saved_model.method);
            out["step"] = json!(saved_model.step);
        }
        out
    }

    fn as_text(&self) -> String {
        let Self { confusions, dataset, .. } = self;
        let width = dataset.domains.iter().chain(&dataset.classes).map(String::len).max().unwrap_or(0) + 2;
        let mut text = String::new();
        let line = |name: &str, correct: u64, n: u64| {
            format!("{name:<width$} {:>7} {:>6.2}%\n", n, 100.0 * correct as f64 / n.max(1) as f64)
        };
        for one in confusions {
            let name = &dataset.domains[one.domain];
            if !self.is_comparable() {
                text.push_str(&format!("{name:<width$} {:>7}\n", one.n()));
                continue;
            }
            text.push_str(&line(name, one.correct(), one.n()));
            for (class, (name, row)) in dataset.classes.iter().zip(&one.confusion).enumerate() {
                let n: u64 = row.iter().sum();
                if n > 0 {
                    text.push_str(&line(&format!("  {name}"), row[class], n));
                }
            }
        }
        text + &self.matched() + "\n"
    }

    /// How classes were matched, in one line.
    fn matched(&self) -> String {
        let (outputs, present) = (self.outputs, self.classes(true).len());
        match self.matching {
            Matching::ByName if present == outputs => {
                format!("classes: all {outputs} of the network, matched by name")
            }
            Matching::ByName => format!(
                "classes: {present} of the {outputs} of the network, matched by name; no image of {}. A prediction is the largest of all {outputs} outputs",
                list(self.classes(false).into_iter())
            ),
            Matching::ByOrder => format!(
                "classes: the network does not name its {outputs}; those of the folder were taken in sorted order"
            ),
            Matching::Impossible => format!(
                "classes: the network does not name its {outputs}, and the folder has {}: logits only",
                self.dataset.classes.len()
            ),
        }
    }
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
    use sortie_core::trial::{Layout, SplitBy};

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

    fn dataset(classes: &[&str]) -> DatasetSpec {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let (name, domains, classes) = ("Tiny".to_owned(), names(&["ink", "oil"]), names(classes));
        let (split_by, missing_classes) = (SplitBy::Image, MissingClasses::Allow);
        DatasetSpec { name, domains, classes, split_by, layout: Layout::default(), missing_classes }
    }

    fn request() -> EvaluateRequest {
        EvaluateRequest {
            network: NetworkSource::Checkpoint("w.safetensors".into()),
            data: "/data".into(),
            dataset: "Tiny".into(),
            domain: None,
            logits: None,
            device: "cpu".into(),
            cache: "/cache".into(),
            json: false,
        }
    }

    #[test]
    fn classes_are_the_outputs_in_their_order_and_others_are_refused_by_name() {
        // No folder could show this order.
        let trained = dataset(&["owl", "cat", "dog"]);
        for found in [&["cat", "dog", "owl"][..], &["dog", "owl"], &["cat"]] {
            let matched = with_classes_of(&trained, dataset(found), &request()).unwrap();
            assert_eq!(matched.classes, ["owl", "cat", "dog"]);
        }
        let error = with_classes_of(&trained, dataset(&["cat", "dogs", "fox"]), &request()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "/data/Tiny: the network has no output for the classes \"dogs\", \"fox\"; it has 3: \"owl\", \"cat\", \"dog\""
        );
        let many: Vec<String> = (0..14).map(|number| number.to_string()).collect();
        assert!(list(many.iter()).ends_with("\"11\" and 2 more"));
    }

    #[test]
    fn what_was_matched_is_said() {
        let said = |matching, dataset: DatasetSpec| {
            let confusions = vec![DomainConfusion::of(&found()[0], 2)];
            Evaluated { confusions, dataset, matching, outputs: 2 }.as_text()
        };
        let all = said(Matching::ByName, dataset(&["cat", "dog"]));
        let expected = "oil         3  66.67%\n  cat       1 100.00%\n  dog       2  50.00%\nclasses: all 2 of the network, matched by name\n";
        assert_eq!(all, expected);
        let order = said(Matching::ByOrder, dataset(&["cat", "dog"]));
        assert!(
            order.ends_with(
                "\nclasses: the network does not name its 2; those of the folder were taken in sorted order\n"
            ),
            "{order}"
        );
        let none = said(Matching::Impossible, dataset(&["cat", "dog", "owl"]));
        assert_eq!(
            none,
            "oil         3\nclasses: the network does not name its 2, and the folder has 3: logits only\n"
        );
        let three =
            DomainLogits { domain: 0, logits: vec![2.0, 1.0, 3.0, 3.0, 1.0, 1.0], labels: vec![0, 0] };
        let confusions = vec![DomainConfusion::of(&three, 3)];
        let dataset = dataset(&["cat", "dog", "owl"]);
        let some = Evaluated { confusions, dataset, matching: Matching::ByName, outputs: 3 };
        assert_eq!(
            some.as_text(),
            "ink         2  50.00%\n  cat       2  50.00%\nclasses: 1 of the 3 of the network, matched by name; no image of \"dog\", \"owl\". A prediction is the largest of all 3 outputs\n"
        );
        let json = some.as_json(None);
        assert_eq!(
            json["classes"],
            json!({ "matched_by": "name", "outputs": ["cat", "dog", "owl"], "present": ["cat"] })
        );
        assert_eq!(json["domains"]["ink"]["confusion"][0], json!([1, 0, 1]));
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
