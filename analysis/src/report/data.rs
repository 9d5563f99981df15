//! The data that all sections of a report read.

use std::collections::{BTreeSet, HashMap};

use sortie_core::metrics::{Evaluation, Method, TrainingLoss};
use sortie_core::record::TrialRecord;
use sortie_core::selection::Selection;
use sortie_core::spec::SweepSpec;
use sortie_core::trial::{SpecHash, Work};

use super::{ReportQuestion, ReportSubject};
use crate::axis::{Axis, parameter_names};
use crate::collect::in_order;
use crate::diff::RunFacts;
use crate::metric_spec::{MetricChoice, MetricSpec, OodSplit};
use crate::question::Question;
use crate::results::{Results, results};

/// The sweep of a report, prepared for its sections.
pub(super) struct Report<'a> {
    pub(super) name: String,
    pub(super) spec: SweepSpec,
    pub(super) asked: &'a ReportQuestion,
    /// The trials of the grid, pairs of held-out domains included.
    pub(super) records: Vec<TrialRecord>,
    /// The same trials with only the evaluations that each selection chooses, in the order of the selections; none if a selection needs
    /// more. Every table reads them, and a sweep may have millions of evaluations.
    pub(super) chosen: Vec<Option<Vec<TrialRecord>>>,
    /// The trials that combine others.
    pub(super) combined: Vec<TrialRecord>,
    pub(super) runs: Vec<(SpecHash, RunFacts)>,
    pub(super) losses: HashMap<SpecHash, Vec<TrainingLoss>>,
    pub(super) selections: Vec<Selection>,
    pub(super) methods: Vec<Method>,
    /// The parameters in which the grid's trials differ.
    pub(super) axes: Vec<Axis>,
    /// The domains that make columns.
    pub(super) domains: Vec<String>,
}

impl<'a> Report<'a> {
    pub(super) fn of(subject: ReportSubject, asked: &'a ReportQuestion) -> Self {
        let ReportSubject { name, spec, records, runs, losses } = subject;
        let (combined, records): (Vec<_>, Vec<_>) =
            records.into_iter().partition(|record| spec.combines(&record.point));
        let axes = varying(&records);
        let alone = records.iter().filter(|record| record.point.held_out.len() == 1);
        let domains = in_order(spec.work.domains(), alone.map(|record| record.point.held_out_label()));
        let selections =
            if asked.selections.is_empty() { usual_selections(&spec) } else { distinct(&asked.selections) };
        let methods =
            if asked.methods.is_empty() { evaluated(&spec.work, &records) } else { distinct(&asked.methods) };
        let chosen = selections
            .iter()
            .map(|selection| at_chosen_steps(&records, *selection, &methods, &asked.metrics))
            .collect();
        let losses = losses.into_iter().collect();
        Self {
            name,
            spec,
            asked,
            records,
            chosen,
            combined,
            runs,
            losses,
            selections,
            methods,
            axes,
            domains,
        }
    }

    /// The axis of the summary: dropout if it varies, else the first axis that varies.
    pub(super) fn first_axis(&self) -> Option<&Axis> {
        self.axes.iter().find(|axis| **axis == Axis::dropout()).or(self.axes.first())
    }

    /// What is asked of trials, without axes.
    pub(super) fn question(&self, selection: Selection, method: Method) -> Question {
        let ReportQuestion { ood_split, metrics, .. } = self.asked;
        Question {
            selection,
            method,
            by: Vec::new(),
            best: false,
            ood_split: *ood_split,
            metrics: metrics.clone(),
        }
    }

    /// The name of the metric.
    pub(super) fn metric(&self) -> &str {
        self.asked.metrics.shown.name()
    }

    /// Results of the grid's trials; none if the sweep holds out no domain.
    pub(super) fn results(&self, selection: Selection, method: Method, by: Vec<Axis>) -> Option<Results> {
        let question = Question { by, ..self.question(selection, method) };
        let results = results(&self.name, &self.spec.work, self.records_for(selection), &question).ok()?;
        (!results.is_plain).then_some(results)
    }

    /// The trials of the grid with the evaluations that a selection method needs.
    pub(super) fn records_for(&self, selection: Selection) -> &[TrialRecord] {
        let index = self.selections.iter().position(|own| *own == selection);
        index.and_then(|index| self.chosen[index].as_deref()).unwrap_or(&self.records)
    }

    pub(super) fn has_domains(&self) -> bool {
        !self.domains.is_empty()
    }
}

/// Iid, the methods of the sweep file, and last.
fn usual_selections(spec: &SweepSpec) -> Vec<Selection> {
    let planned = spec.select.iter().copied();
    distinct(&std::iter::once(Selection::Iid).chain(planned).chain([Selection::Last]).collect::<Vec<_>>())
}

/// The values without duplicates, in their first order.
pub(super) fn distinct<T: Copy + PartialEq>(all: &[T]) -> Vec<T> {
    let mut found = Vec::new();
    for one in all {
        if !found.contains(one) {
            found.push(*one);
        }
    }
    found
}

/// These trials with only the evaluations at the selected step of each method. None for a selection method that needs other trials.
fn at_chosen_steps(
    records: &[TrialRecord],
    selection: Selection,
    methods: &[Method],
    metrics: &MetricChoice,
) -> Option<Vec<TrialRecord>> {
    if selection.needs_pairs() {
        return None;
    }
    let chosen = |record: &TrialRecord| {
        // The split of the held-out domain that is reported does not decide the step.
        let step = |method: &Method| {
            let (method, ood_split, metrics) = (*method, OodSplit::All, metrics.clone());
            let spec = MetricSpec { selection, method, ood_split, metrics };
            Some((method, spec.select(record)?.step))
        };
        let steps: Vec<(Method, u64)> = methods.iter().filter_map(step).collect();
        let rows = |rows: &[Evaluation]| {
            rows.iter().filter(|row| steps.contains(&(row.method, row.step))).cloned().collect()
        };
        let (validation, held_out) = (rows(&record.validation), rows(&record.held_out));
        TrialRecord { id: record.id, point: record.point.clone(), state: record.state, validation, held_out }
    };
    Some(records.iter().map(chosen).collect())
}

/// The parameters in which these trials differ, in the order of tables.
pub(super) fn varying(records: &[TrialRecord]) -> Vec<Axis> {
    let points = || records.iter().map(|record| &record.point);
    let mut axes: Vec<Axis> = parameter_names(points()).into_iter().map(Axis::Parameter).collect();
    axes.retain(|axis| axis.varies(points()));
    axes
}

/// The methods that the sweep plans or that some trial reported.
pub(super) fn evaluated(work: &Work, records: &[TrialRecord]) -> Vec<Method> {
    let mut methods = BTreeSet::from([Method::Plain]);
    if let Work::Finetune(settings) = work {
        methods.extend(settings.average.map(|_| Method::Average));
        methods.extend(settings.ensemble.map(|_| Method::Ensemble));
    }
    methods.extend(records.iter().flat_map(|record| &record.held_out).map(|row| row.method));
    methods.into_iter().collect()
}
