//! Accuracy along training: for each dropout rate the mean over its trials, on the held-out domain and on the training domains.

use std::collections::{BTreeMap, BTreeSet};

use sortie_core::parameters::{Scalar, number};
use sortie_core::record::TrialRecord;
use sortie_core::selection::Validation;

use super::frame::{Ticks, WIDTH, draw_heading};
use super::rates::{CurveEnd, CurveLook, draw_ends, frame_beside};
use super::svg::{DASHES, Fill, Stroke, Svg};
use crate::axis::Axis;
use crate::metric_spec::{AccuracyPair, MetricSpec};
use crate::results::{Results, over_domains};

/// The trajectory of one dropout rate.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Trajectory {
    pub rate: f64,
    /// How many trials are averaged.
    pub trials: usize,
    /// Steps after which all of them were evaluated, with the mean accuracies in percent.
    pub points: Vec<CurvePoint>,
}

/// Mean accuracies after a step, in percent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct CurvePoint {
    pub step: u64,
    pub ood: f64,
    pub iid: f64,
}

/// One trajectory per dropout rate that has succeeded trials, ascending.
pub(super) fn trajectories(results: &Results, records: &[TrialRecord]) -> Vec<Trajectory> {
    let spec =
        MetricSpec { selection: results.selection, method: results.method, ood_split: results.ood_split };
    let mut rates: BTreeMap<Scalar, Vec<BTreeMap<u64, AccuracyPair>>> = BTreeMap::new();
    for record in records.iter().filter(|record| record.point.held_out.len() == 1) {
        let Some(rate) = record.point.parameters.get(Axis::dropout().as_str()) else { continue };
        let steps: BTreeSet<u64> = Validation::of(record, results.method).steps();
        let measured: BTreeMap<u64, AccuracyPair> =
            steps.into_iter().filter_map(|step| Some((step, spec.at(record, step)?))).collect();
        if !measured.is_empty() {
            rates.entry(rate.clone()).or_default().push(measured);
        }
    }
    let trajectory = |(rate, trials): (Scalar, Vec<BTreeMap<u64, AccuracyPair>>)| {
        let steps = trials.first().into_iter().flat_map(BTreeMap::keys).copied();
        let points = steps.filter_map(|step| {
            let all: Option<Vec<AccuracyPair>> =
                trials.iter().map(|trial| trial.get(&step).copied()).collect();
            let mean = over_domains(&all?);
            Some(CurvePoint { step, ood: 100.0 * mean.ood, iid: 100.0 * mean.iid })
        });
        Some(Trajectory { rate: rate.as_number()?, trials: trials.len(), points: points.collect() })
    };
    rates.into_iter().filter_map(trajectory).collect()
}

/// Writes the figure.
pub(super) fn draw(trajectories: &[Trajectory], results: &Results, averaged: &[Axis]) -> String {
    let mut svg = Svg::default();
    let mut notes = super::notes::notes(results, averaged, false);
    let trials =
        trajectories.iter().map(|trajectory| format!("{}: {}", number(trajectory.rate), trajectory.trials));
    notes.push(format!(
        "solid: o.o.d., dashed: i.i.d.; trials by dropout rate: {}",
        trials.collect::<Vec<_>>().join(", ")
    ));
    let top = draw_heading(&mut svg, &results.sweep, &notes);
    let points = || trajectories.iter().flat_map(|trajectory| &trajectory.points);
    let ticks = Ticks::around(points().flat_map(|point| [point.ood, point.iid]));
    let last = points().map(|point| point.step).max().unwrap_or(1).max(1) as f64;
    let labels: Vec<String> =
        trajectories.iter().map(|trajectory| format!("dropout {}", number(trajectory.rate))).collect();
    let frame = frame_beside(&labels, &ticks, top, (-0.03 * last, 1.03 * last));
    frame.draw_y_axis(&mut svg, &ticks, "accuracy, %");
    let steps = Ticks::around([0.0, last]);
    let numbers: Vec<(f64, String)> = steps
        .values
        .iter()
        .filter(|step| **step <= 1.03 * last)
        .map(|&step| (step, steps.label(step)))
        .collect();
    let bottom = frame.draw_x_axis(&mut svg, &numbers, "step");
    let mut ends = Vec::new();
    for ((index, trajectory), label) in trajectories.iter().enumerate().zip(&labels) {
        let look = CurveLook::domain(index);
        let line = |accuracy: fn(&CurvePoint) -> f64| -> Vec<(f64, f64)> {
            trajectory.points.iter().map(|point| frame.place((point.step as f64, accuracy(point)))).collect()
        };
        let (ood, iid) = (line(|point| point.ood), line(|point| point.iid));
        svg.polyline("iid", &iid, Stroke { dash: DASHES[1], ..look.stroke });
        svg.polyline("ood", &ood, look.stroke);
        for &at in &ood {
            svg.marker("value", look.marker, at, 0.8 * look.radius, look.stroke.colour, Fill::Solid);
        }
        ends.extend(ood.last().map(|&at| CurveEnd { at, look, label }));
    }
    draw_ends(&mut svg, &frame, &ends);
    svg.finish(&format!("{}: accuracy by step", results.sweep), WIDTH, bottom)
}
