//! The trials of several sweeps, by dataset.

use std::collections::{BTreeMap, HashMap};

use sortie_core::combine::CombinationKind;
use sortie_core::job::StateName;
use sortie_core::record::TrialRecord;
use sortie_core::trial::{SpecHash, Work};

use super::FigureError;
use super::settings::{Setting, setting};
use crate::axis::Axis;
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
                all.push(Self { name, dataset, work, records, kinds, sets, group });
                all.len() - 1
            });
            let merged = &mut all[index];
            for combine in &spec.combine {
                merged.kinds.entry(combine.name.clone()).or_insert(combine.kind);
            }
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
            let same = same.into_iter().find(|&index| self.records[index].point == record.point);
            let Some(index) = same else {
                self.records.push(record);
                self.sets.push(SweepSet::from([number]));
                continue;
            };
            self.sets[index].insert(number);
            if record.state == StateName::Succeeded {
                self.records[index] = record;
            }
        }
        self.group.names.push(name);
        self.group.shared.push(shared);
        self.name = self.group.names.join(", ");
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
