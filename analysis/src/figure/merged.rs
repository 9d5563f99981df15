//! The trials of several sweeps, by dataset.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use sortie_core::combine::CombinationKind;
use sortie_core::job::StateName;
use sortie_core::metrics::{Evaluation, Method};
use sortie_core::record::TrialRecord;
use sortie_core::trial::{SpecHash, Work};

use super::FigureError;
use super::settings::{Setting, setting};
use crate::axis::Axis;
use crate::collect::makes;
use crate::joint::SweepRecords;
use crate::mixed::{SweepGroup, SweepSet, row_name};
use crate::shared::SharedSettings;

/// The trials of all sweeps on one dataset. The same trial of several sweeps is there once.
pub(super) struct Merged {
    /// The names of the sweeps.
    pub name: String,
    /// The dataset; empty if there is none.
    pub dataset: String,
    /// That of the first sweep.
    pub work: Work,
    /// The trials, with the settings of their sweeps that were named.
    pub records: Vec<TrialRecord>,
    /// What is made of the members of the combinations of a name.
    pub kinds: BTreeMap<String, CombinationKind>,
    /// The sweeps of each trial.
    sets: Vec<SweepSet>,
    /// How each sweep makes averages and ensembles.
    makes: Vec<[Option<String>; 2]>,
    group: SweepGroup,
}

impl Merged {
    /// The sweeps by dataset, in the order in which these are met. `named` are the axes that trials get from their sweeps' settings.
    pub(super) fn of(sweeps: Vec<SweepRecords>, named: &[&str]) -> Vec<Self> {
        let mut all: Vec<Self> = Vec::new();
        for SweepRecords { name, spec, records } in sweeps {
            let shared = SharedSettings::of(&name, &spec);
            let dataset = spec.work.dataset().unwrap_or_default().to_owned();
            let index = all.iter().position(|known| known.dataset == dataset).unwrap_or_else(|| {
                let group = SweepGroup { dataset: dataset.clone(), ..SweepGroup::default() };
                let (name, work, kinds) = (String::new(), spec.work.clone(), BTreeMap::new());
                let (records, sets) = (Vec::new(), Vec::new());
                all.push(Self { name, dataset, work, records, kinds, sets, makes: Vec::new(), group });
                all.len() - 1
            });
            let merged = &mut all[index];
            for combine in &spec.combine {
                merged.kinds.entry(combine.name.clone()).or_insert(combine.kind);
            }
            merged.makes.push([Method::Average, Method::Ensemble].map(|method| makes(&spec.work, method)));
            merged.add(name, shared, records, named);
        }
        all
    }

    fn add(&mut self, name: String, shared: SharedSettings, records: Vec<TrialRecord>, named: &[&str]) {
        let number = self.group.names.len();
        let mut known: HashMap<SpecHash, Vec<usize>> = HashMap::new();
        for (index, record) in self.records.iter().enumerate() {
            known.entry(record.id).or_default().push(index);
        }
        for mut record in records {
            shared.add(&mut record.point.parameters, named.iter().copied());
            let same = known.get(&record.id).into_iter().flatten().copied();
            let same = same
                .into_iter()
                .find(|&index| self.records[index].point == record.point && self.makes_alike(index, number));
            let Some(index) = same else {
                self.records.push(record);
                self.sets.push(SweepSet::from([number]));
                continue;
            };
            self.sets[index].insert(number);
            match (record.state, self.records[index].state) {
                (StateName::Succeeded, StateName::Succeeded) => add_methods(&mut self.records[index], record),
                (StateName::Succeeded, _) => self.records[index] = record,
                _ => {}
            }
        }
        self.group.names.push(name);
        self.group.shared.push(shared);
        self.name = self.group.names.join(", ");
    }

    /// Whether a sweep makes the averages and ensembles of a trial as the sweeps that have it, or not at all. A combination makes none.
    fn makes_alike(&self, trial: usize, sweep: usize) -> bool {
        let none = |how: &Option<String>| how.as_ref().is_none_or(String::is_empty);
        let alike = |(a, b): (&Option<String>, &Option<String>)| a == b || none(a) || none(b);
        self.records[trial].point.combine().is_some()
            || self.sets[trial]
                .iter()
                .all(|other| self.makes[*other].iter().zip(&self.makes[sweep]).all(alike))
    }

    /// Fails if trials of different sweeps that are meant have the same values on these axes. Those that combine the same number of trials
    /// under one name are a row of their own.
    pub(super) fn check(
        &self,
        axes: &[Axis],
        is_meant: impl Fn(&TrialRecord) -> bool,
    ) -> Result<(), FigureError> {
        let combination = ["combine", "members"].map(Axis::from);
        let row = |record: &TrialRecord| -> (Setting, Setting) {
            (setting(axes, &record.point), setting(&combination, &record.point))
        };
        let rows = self.records.iter().zip(&self.sets).filter(|(record, _)| is_meant(record));
        let rows = rows.map(|(record, sets)| (row(record), &record.point.parameters, sets));
        Ok(self.group.check(axes, rows, |(values, _)| row_name(axes, values))?)
    }
}

/// Adds the evaluations of methods that a trial lacks, of the same trial in another sweep.
fn add_methods(record: &mut TrialRecord, same: TrialRecord) {
    let known = methods(record);
    let is_new = |row: &Evaluation| !known.contains(row.method.as_str());
    let [validation, held_out] =
        [same.validation, same.held_out].map(|rows| rows.into_iter().filter(is_new).collect::<Vec<_>>());
    record.validation.extend(validation);
    record.held_out.extend(held_out);
    // As records are: by method, and within one by step.
    record.validation.sort_by_key(|row| row.method.as_str());
    record.held_out.sort_by_key(|row| row.method.as_str());
}

fn methods(record: &TrialRecord) -> BTreeSet<&'static str> {
    record.validation.iter().chain(&record.held_out).map(|row| row.method.as_str()).collect()
}
