//! What an import read in another program's records and no trial can hold.

use serde::{Deserialize, Serialize};

use super::SpecError;
use crate::metrics::Method;
use crate::trial::Point;

/// Records of skipped runs at most: tables count each.
const SKIPPED_RECORDS_MAX: u64 = 1_000_000;
/// Bytes of the JSON at most: a message that describes a sweep has it.
const BYTES_MAX: u64 = 8 << 20;

/// What an import read and no trial of its sweep holds. It changes no identity and no result; DomainBed's tables count it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Imported {
    /// Runs that are no trials.
    pub skipped: Vec<SkippedRun>,
    /// Records that are no evaluations, for each trial and method once.
    pub further: Vec<FurtherRecords>,
}

/// A run that is no trial.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SkippedRun {
    /// The name of its folder.
    pub name: String,
    /// Its algorithm.
    pub algorithm: String,
    /// How many records it has.
    pub records: u64,
}

/// Records of a trial's run that repeat a step, as a restarted run writes them, or that measure nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FurtherRecords {
    /// The trial.
    pub point: Point,
    /// The model of the trajectory that they measure.
    pub method: Method,
    /// In the order of the file.
    pub records: Vec<FurtherRecord>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FurtherRecord {
    /// Its place among all records of the run, counted from 0.
    pub place: usize,
    /// Its step.
    pub step: i64,
    /// The accuracy on the `in` split of each domain, a fraction; -1 if it was not measured.
    pub in_acc: Vec<f64>,
    /// The accuracy on the `out` split of each domain.
    pub out_acc: Vec<f64>,
}

impl Imported {
    /// Whether the trials hold everything.
    pub fn is_empty(&self) -> bool {
        self.skipped.is_empty() && self.further.is_empty()
    }

    /// Whether it is small enough to be stored.
    ///
    /// # Errors
    /// [`SpecError::TooLarge`].
    pub fn check(&self) -> Result<(), SpecError> {
        let records = self.skipped.iter().fold(0_u64, |sum, run| sum.saturating_add(run.records));
        // What serialises to JSON is as long as its text.
        let bytes = serde_json::to_string(self).map_or(u64::MAX, |text| text.len() as u64);
        for (size, what, max) in [
            (records, "records of skipped runs", SKIPPED_RECORDS_MAX),
            (bytes, "bytes of runs and records that are no trials", BYTES_MAX),
        ] {
            if size > max {
                return Err(SpecError::TooLarge {
                    key: "imported".to_owned(),
                    size: format!("{size} {what}"),
                    max,
                });
            }
        }
        Ok(())
    }

    /// The records of a trial and method that are no evaluations.
    pub fn further_of(&self, point: &Point, method: Method) -> &[FurtherRecord] {
        let of = |records: &&FurtherRecords| records.method == method && records.point == *point;
        self.further.iter().find(of).map(|further| further.records.as_slice()).unwrap_or_default()
    }

    /// What both hold; of the same run or trial, what the new one holds.
    pub(super) fn grown_by(&self, new: &Self) -> Self {
        let skipped =
            self.skipped.iter().filter(|run| !new.skipped.iter().any(|other| other.name == run.name));
        let further =
            self.further.iter().filter(|records| new.further_of(&records.point, records.method).is_empty());
        Self {
            skipped: skipped.chain(&new.skipped).cloned().collect(),
            further: further.chain(&new.further).cloned().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::SweepSpec;
    use crate::trial::tests::example;

    #[test]
    fn what_is_too_much_is_refused() {
        let run = |name: &str, records| SkippedRun { name: name.into(), algorithm: "ERM".into(), records };
        let imported = |skipped| Imported { skipped, further: Vec::new() };
        assert_eq!(imported(vec![run("a", SKIPPED_RECORDS_MAX)]).check(), Ok(()));
        let error = imported(vec![run("a", u64::MAX), run("b", 1)]).check().unwrap_err().to_string();
        assert!(error.starts_with("imported has 18446744073709551615 records of skipped runs"), "{error}");
        let error = imported(vec![run(&"a".repeat(9 << 20), 1)]).check().unwrap_err().to_string();
        assert!(error.contains("bytes of runs and records"), "{error}");
    }

    #[test]
    fn a_later_import_replaces_what_it_read_again_and_keeps_the_rest() {
        let skipped =
            |name: &str, records| SkippedRun { name: name.into(), algorithm: "ERM".into(), records };
        let further = |seed, method, steps: &[i64]| FurtherRecords {
            point: Point { seed, ..example().point },
            method,
            records: (0..)
                .zip(steps)
                .map(|(place, &step)| FurtherRecord { place, step, in_acc: vec![0.1, -1.0], out_acc: vec![] })
                .collect(),
        };
        let old = Imported {
            skipped: vec![skipped("a", 1), skipped("b", 2)],
            further: vec![further(0, Method::Plain, &[300]), further(1, Method::Plain, &[0])],
        };
        let new = Imported {
            skipped: vec![skipped("b", 3)],
            further: vec![further(0, Method::Average, &[600]), further(1, Method::Plain, &[0, 300])],
        };
        let text = "name = 's'\n[run]\ncommand = ['run']\n";
        let sweep = |imported: &Imported| SweepSpec {
            imported: imported.clone(),
            ..SweepSpec::parse(text, None).unwrap()
        };
        let grown = sweep(&old).grown_by(&sweep(&new)).unwrap();
        let expected = Imported {
            skipped: vec![skipped("a", 1), skipped("b", 3)],
            further: vec![
                further(0, Method::Plain, &[300]),
                further(0, Method::Average, &[600]),
                further(1, Method::Plain, &[0, 300]),
            ],
        };
        assert_eq!(grown.imported, expected);
        let point = Point { seed: 1, ..example().point };
        assert_eq!(expected.further_of(&point, Method::Plain).len(), 2);
        assert!(expected.further_of(&point, Method::Ensemble).is_empty());
        // Stored as JSON, and not at all where there is nothing.
        let stored = serde_json::to_string(&grown).unwrap();
        assert_eq!(serde_json::from_str::<SweepSpec>(&stored).unwrap(), grown);
        assert!(!serde_json::to_string(&sweep(&Imported::default())).unwrap().contains("imported"));
    }
}
