//! Collects from the trials of one or several sweeps.

use std::borrow::Cow;
use std::collections::BTreeSet;

use sortie_core::filter::Filter;
use sortie_core::parameters::Parameters;
use sortie_core::record::TrialRecord;
use sortie_core::spec::SweepSpec;

use super::JointResults;
use crate::axis::Axis;
use crate::collect::Collector;
use crate::paired::{Paired, PairedError};
use crate::question::Question;
use crate::results::{ResultsError, one_split};
use crate::row_axes::row_axes;
use crate::shared::SharedSettings;

/// Takes the records of one or several sweeps and computes results: a [`Collector`] for each dataset.
///
/// Axes that the question names are filled with the settings of a trial's sweep where it has no value of its own, so that `backbone`,
/// `sweep` or `dataset` are axes like others.
#[derive(Debug)]
pub struct JointCollector {
    question: Question,
    /// The axes that are filled.
    named: BTreeSet<String>,
    sweeps: Vec<SweepEntry>,
    parts: Vec<(String, Collector)>,
}

/// A sweep of several.
#[derive(Debug)]
struct SweepEntry {
    name: String,
    shared: SharedSettings,
    /// Its part, and its number there.
    place: (usize, usize),
}

impl JointCollector {
    /// A collector for a question. `sides` are the conditions of a comparison that will be asked for.
    pub fn new(question: &Question, sides: &[Filter]) -> Self {
        let by = question.by.iter().filter_map(|axis| match axis {
            Axis::Parameter(name) => Some(name.as_str()),
            Axis::Seed | Axis::Split => None,
        });
        let named = by.chain(sides.iter().flat_map(Filter::axes)).map(str::to_owned).collect();
        Self { question: question.clone(), named, sweeps: Vec::new(), parts: Vec::new() }
    }

    /// Adds a sweep, before any record is known. Sweeps are counted from 0.
    pub fn add_sweep(&mut self, name: &str, spec: &SweepSpec) {
        let dataset = spec.work.dataset().unwrap_or_default();
        let part = self.parts.iter().position(|(known, _)| known == dataset).unwrap_or_else(|| {
            self.parts.push((dataset.to_owned(), Collector::new(name, &spec.work, &self.question)));
            self.parts.len() - 1
        });
        let shared = SharedSettings::of(name, spec);
        let number = self.parts[part].1.add_sweep(name, &spec.work, shared.clone());
        self.sweeps.push(SweepEntry { name: name.to_owned(), shared, place: (part, number) });
    }

    /// Takes a record of the sweep of this number. The caller can drop it afterwards.
    pub fn push(&mut self, sweep: usize, record: &TrialRecord) {
        let SweepEntry { shared, place: (part, number), .. } = &self.sweeps[sweep];
        let mut parameters: Cow<'_, Parameters> = Cow::Borrowed(&record.point.parameters);
        if self.named.iter().any(|name| !record.point.parameters.contains_key(name)) {
            shared.add(parameters.to_mut(), self.named.iter().map(String::as_str));
        }
        self.parts[*part].1.push_of(*number, record, &parameters);
    }

    /// The results.
    ///
    /// # Errors
    /// As [`Collector::results`], and where trials of different sweeps would be averaged.
    pub fn results(mut self) -> Result<JointResults, ResultsError> {
        // A dataset of which no trial is meant is no column.
        if self.parts.iter().any(|(_, part)| part.total() > 0) {
            self.parts.retain(|(_, part)| part.total() > 0);
        }
        let axes = row_axes(&self.parts.iter().map(|(_, part)| part).collect::<Vec<_>>())?;
        let sweeps: Vec<String> = self.sweeps.into_iter().map(|sweep| sweep.name).collect();
        let holds_out = |part: &&(String, Collector)| !part.1.holds_out_nothing();
        let plain = self.parts.iter().find(|(_, part)| part.holds_out_nothing());
        if let (Some((_, plain)), Some(_)) = (plain, self.parts.iter().find(holds_out)) {
            return Err(ResultsError::Unlike { plain: plain.sweep.clone() });
        }
        if plain.is_none() {
            one_split(self.parts.iter().map(|(dataset, part)| (dataset.as_str(), part.spec.ood_split)))?;
        }
        let part = |(dataset, part): (String, Collector)| Ok((dataset, part.results_by(axes.clone())?));
        let parts = self.parts.into_iter().map(part).collect::<Result<Vec<_>, ResultsError>>()?;
        Ok(JointResults::of(sweeps, axes, parts))
    }

    /// Compares two settings, as [`Collector::paired`].
    ///
    /// # Errors
    /// As there, and if the sweeps are on several datasets.
    pub fn paired(self, settings: [&Filter; 2]) -> Result<Paired, PairedError> {
        let datasets: Vec<String> = self.parts.iter().map(|(dataset, _)| dataset.clone()).collect();
        let mut parts = self.parts.into_iter();
        match (parts.next(), parts.next()) {
            (Some((_, only)), None) => only.paired(settings),
            _ => Err(PairedError::Datasets { datasets: datasets.join(", ") }),
        }
    }
}
