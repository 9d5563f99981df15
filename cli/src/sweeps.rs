//! The sweeps that a command reads together, and the trials of them that `--where` names.

use std::collections::BTreeSet;

use anyhow::{Result, bail};
use sortie_analysis::{JointCollector, MetricChoice, OodSplit, Question, SweepRecords};
use sortie_core::filter::Filter;
use sortie_core::record::{Detail, TrialRecord};
use sortie_core::selection::Selection;
use sortie_core::spec::SweepSpec;
use sortie_core::trial::Point;

use crate::conditions::{TrialFilter, warn_of_unmet};
use crate::connection::Client;
use crate::measured::MetricArguments;
use crate::output;

/// Which sweeps, and which of their trials.
#[derive(Debug, clap::Args)]
pub struct SweepArguments {
    /// The names of the sweeps. The results of several stand beside each other; those on several datasets have a column for each. Trials of
    /// different sweeps on one dataset are never averaged: --by sweep, or an axis in which they differ, tells them apart. Means over datasets
    /// take each sweep with the settings that it has.
    #[arg(required = true, value_name = "SWEEP")]
    pub sweeps: Vec<String>,
    /// Only trials that meet these conditions, such as 'dropout=0.9 and held_out=sketch', as for `sortie trials`. Besides axes they may name
    /// settings of a sweep, such as backbone, and sweep, dataset and code.
    #[arg(long = "where", value_name = "CONDITIONS", value_parser = Filter::parse)]
    pub filter: Option<Filter>,
}

/// Sweeps with their specifications.
#[derive(Debug)]
pub struct Sweeps(Vec<OneSweep>);

/// One of them.
#[derive(Debug)]
pub struct OneSweep {
    /// Its name.
    pub name: String,
    /// Its specification.
    pub spec: SweepSpec,
    /// The trials that are meant; none for all.
    filter: Option<TrialFilter>,
}

impl SweepArguments {
    /// Asks the coordinator for the sweeps.
    ///
    /// # Errors
    /// One line: a sweep is named twice, or the coordinator refuses.
    pub async fn read(&self, client: &mut Client) -> Result<Sweeps> {
        let mut sweeps: Vec<OneSweep> = Vec::new();
        for name in &self.sweeps {
            if sweeps.iter().any(|known| known.name == *name) {
                bail!("sweep {name} is named twice");
            }
            let spec = client.describe(name).await?;
            let filter = match &self.filter {
                None => None,
                filter => Some(TrialFilter::of(client, name, &spec, filter.as_ref()).await?),
            };
            sweeps.push(OneSweep { name: name.clone(), spec, filter });
        }
        Ok(Sweeps(sweeps))
    }

    /// Names the sweeps in a JSON object: as `sweep`, or several as `sweeps`.
    pub fn name_in(&self, said: &mut serde_json::Value) {
        match self.sweeps.as_slice() {
            [only] => said["sweep"] = only.as_str().into(),
            several => said["sweeps"] = several.into(),
        }
    }

    /// The conditions as they are written, for a message.
    fn conditions(&self) -> String {
        self.filter.as_ref().map(ToString::to_string).unwrap_or_default()
    }
}

impl Sweeps {
    /// All of them.
    pub fn all(&self) -> &[OneSweep] {
        &self.0
    }

    /// Their names in one line.
    pub fn names(&self) -> String {
        self.0.iter().map(|sweep| sweep.name.as_str()).collect::<Vec<_>>().join(", ")
    }

    /// The metrics that are asked for, by what the first sweep says of them.
    ///
    /// # Errors
    /// One line: a sweep does not know one.
    pub fn metrics(&self, metric: &MetricArguments, ood_split: Option<OodSplit>) -> Result<MetricChoice> {
        let mut choices = Vec::new();
        for sweep in &self.0 {
            choices.push(metric.choice_of(&sweep.spec, ood_split)?);
        }
        let first = choices.swap_remove(0);
        match choices.iter().find(|choice| **choice != first) {
            Some(_) => bail!(
                "sweeps {} do not say the same of --metric {}: goals and units must agree",
                self.names(),
                first.shown.name()
            ),
            None => Ok(first),
        }
    }

    /// Checks that each planned the trials that these selection methods need.
    ///
    /// # Errors
    /// One line that says what plans them.
    pub fn require_trials_for(&self, selections: &[Selection]) -> Result<()> {
        match self.0.iter().find_map(|sweep| sweep.spec.lacks_trials_for(selections)) {
            Some(why) => bail!("{why}"),
            None => Ok(()),
        }
    }

    /// Collects the values for several questions. Each trial is read once.
    ///
    /// # Errors
    /// One line: the coordinator refuses, or no trial meets the conditions.
    pub async fn collect(
        &self,
        client: &mut Client,
        arguments: &SweepArguments,
        questions: &[Question],
        sides: &[Filter],
    ) -> Result<Vec<JointCollector>> {
        let mut collectors: Vec<JointCollector> =
            questions.iter().map(|question| JointCollector::new(question, sides)).collect();
        for collector in &mut collectors {
            self.0.iter().for_each(|sweep| collector.add_sweep(&sweep.name, &sweep.spec));
        }
        let accuracies = questions.iter().all(|question| question.metrics.detail() == Detail::Scores);
        let detail = if accuracies { Detail::Scores } else { Detail::All };
        self.read(client, arguments, detail, |sweep, record| {
            collectors.iter_mut().for_each(|collector| collector.push(sweep, &record));
            Ok(())
        })
        .await?;
        Ok(collectors)
    }

    /// Reads all trials into memory, for figures and the formats of other programs.
    ///
    /// # Errors
    /// As [`Sweeps::collect`].
    pub async fn records(
        &self,
        client: &mut Client,
        arguments: &SweepArguments,
        detail: Detail,
    ) -> Result<Vec<SweepRecords>> {
        let sweep = |OneSweep { name, spec, .. }: &OneSweep| SweepRecords::of(name, spec.clone(), Vec::new());
        let mut sweeps: Vec<SweepRecords> = self.0.iter().map(sweep).collect();
        self.read(client, arguments, detail, |sweep, record| {
            sweeps[sweep].records.push(record);
            Ok(())
        })
        .await?;
        Ok(sweeps)
    }

    /// Gives the trials that are meant to `take`, with the number of their sweep.
    ///
    /// # Errors
    /// As [`Sweeps::collect`], and what `take` says.
    pub async fn read(
        &self,
        client: &mut Client,
        arguments: &SweepArguments,
        detail: Detail,
        mut take: impl FnMut(usize, TrialRecord) -> Result<()>,
    ) -> Result<()> {
        self.read_slowly(client, arguments, detail, async |sweep, record| take(sweep, record)).await
    }

    /// The same, where `take` asks for more of each.
    ///
    /// # Errors
    /// As [`Sweeps::read`].
    pub async fn read_slowly(
        &self,
        client: &mut Client,
        arguments: &SweepArguments,
        detail: Detail,
        mut take: impl AsyncFnMut(usize, TrialRecord) -> Result<()>,
    ) -> Result<()> {
        let (mut found, mut unknown, mut known, mut without) =
            (0_usize, Vec::new(), BTreeSet::new(), Vec::new());
        for (index, OneSweep { name, filter, .. }) in self.0.iter().enumerate() {
            let (_, mut records) = client.stream_records(name, detail).await?;
            let (mut example, before): (Option<Point>, usize) = (None, found);
            while let Some(record) = records.next().await? {
                let Some(filter) = filter else {
                    take(index, record).await?;
                    continue;
                };
                let example = example.get_or_insert_with(|| record.point.clone());
                if record.point.parameters.keys().any(|axis| !example.parameters.contains_key(axis)) {
                    example.parameters.extend(record.point.parameters.clone());
                }
                if filter.matches(record.id, &record.point) {
                    found += 1;
                    take(index, record).await?;
                }
            }
            if filter.is_some() && found == before {
                without.push(name.as_str());
            }
            // What one sweep lacks may be an axis of another.
            match (filter, example) {
                (Some(filter), Some(example)) => match filter.check(&example) {
                    Ok(()) => drop(known.insert(index)),
                    Err(error) => unknown.push(error),
                },
                _ => drop(known.insert(index)),
            }
        }
        if let (Some(error), true) = (unknown.into_iter().next(), known.is_empty()) {
            return Err(error.into());
        }
        if arguments.filter.is_some() && found == 0 {
            for OneSweep { name, filter, .. } in &self.0 {
                if let Some(filter) = filter {
                    warn_of_unmet(client, name, filter).await?;
                    filter.warn_of_code(name);
                }
            }
            bail!("no trial of {} meets {:?}", self.names(), arguments.conditions());
        }
        if !without.is_empty() {
            let (names, conditions) = (without.join(", "), arguments.conditions());
            output::note(&format!(
                "note: no trial of {names} meets {conditions:?}, so it is in no row and no mean"
            ));
        }
        Ok(())
    }
}
