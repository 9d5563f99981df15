//! Accuracy along training: for each setting the mean over its trials, on the held-out domain and on the training domains.

use std::collections::{BTreeMap, BTreeSet};

use sortie_core::record::TrialRecord;
use sortie_core::selection::Validation;

use super::frame::{Ticks, draw_heading};
use super::key::{CurveEnd, CurveLook, Key, label_max};
use super::page::FigurePage;
use super::settings::{Setting, name, named, names, setting, value_label};
use super::svg::{Fill, Picture, Svg, TEXT, wrapped};
use crate::axis::Axis;
use crate::metric_spec::MeasuredPair;
use crate::results::{Results, over_domains};

/// The trajectory of one setting.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Trajectory {
    pub setting: Setting,
    /// How many trials are averaged.
    pub trials: usize,
    /// Steps after which all of them were evaluated, with the mean values as figures place them.
    pub points: Vec<CurvePoint>,
}

/// Mean values after a step, as figures place them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct CurvePoint {
    pub step: u64,
    pub ood: f64,
    pub iid: f64,
}

/// One trajectory per setting on these axes that has succeeded trials, ascending.
pub(super) fn trajectories(axes: &[Axis], results: &Results, records: &[TrialRecord]) -> Vec<Trajectory> {
    let (spec, scale) = (results.spec(), results.scale());
    let mut settings: BTreeMap<Setting, Vec<BTreeMap<u64, MeasuredPair>>> = BTreeMap::new();
    for record in records.iter().filter(|record| record.point.held_out.len() == 1) {
        let steps: BTreeSet<u64> = Validation::of(record, results.method, &results.metric).steps();
        let measured: BTreeMap<u64, MeasuredPair> =
            steps.into_iter().filter_map(|step| Some((step, spec.at(record, step)?))).collect();
        if !measured.is_empty() {
            settings.entry(setting(axes, &record.point)).or_default().push(measured);
        }
    }
    let trajectory = |(setting, trials): (Setting, Vec<BTreeMap<u64, MeasuredPair>>)| {
        let steps = trials.first().into_iter().flat_map(BTreeMap::keys).copied();
        let points = steps.filter_map(|step| {
            let all: Option<Vec<MeasuredPair>> =
                trials.iter().map(|trial| trial.get(&step).copied()).collect();
            let mean = over_domains(&all?);
            Some(CurvePoint { step, ood: scale.plotted(mean.ood), iid: scale.plotted(mean.iid) })
        });
        Trajectory { setting, trials: trials.len(), points: points.collect() }
    };
    settings.into_iter().map(trajectory).collect()
}

/// Writes the figure.
pub(super) fn draw(
    page: &FigurePage,
    axes: &[Axis],
    trajectories: &[Trajectory],
    results: &Results,
    averaged: &[Axis],
) -> Picture {
    let mut svg = Svg::default();
    let top = draw_heading(&mut svg, page, &results.sweep, &notes(axes, trajectories, results, averaged));
    let points = || trajectories.iter().flat_map(|trajectory| &trajectory.points);
    let ticks = Ticks::around(points().flat_map(|point| [point.ood, point.iid]));
    let last = points().map(|point| point.step).max().unwrap_or(1).max(1) as f64;
    let label = |trajectory: &Trajectory| match axes {
        [] => Vec::new(),
        [_] => wrapped(&named(axes, &trajectory.setting).concat(), TEXT, label_max(page)),
        _ => value_label(&trajectory.setting, TEXT, label_max(page)),
    };
    let key = Key::of(trajectories.iter().map(label).collect());
    let key = key.with_dashes().with_axes(axes, page);
    let frame = key.frame_beside(page, &ticks, top, (-0.03 * last, 1.03 * last));
    let scale = results.scale();
    frame.draw_y_axis(&mut svg, &ticks, &scale.with_unit(scale.name()));
    let steps = Ticks::around([0.0, last]);
    let numbers: Vec<(f64, String)> = steps
        .values
        .iter()
        .filter(|step| **step <= 1.03 * last)
        .map(|&step| (step, steps.label(step)))
        .collect();
    let bottom = frame.draw_x_axis(&mut svg, &numbers, "step");
    let mut ends = Vec::new();
    for ((index, trajectory), label) in trajectories.iter().enumerate().zip(&key.labels) {
        let look = CurveLook::of(index);
        let line = |accuracy: fn(&CurvePoint) -> f64| -> Vec<(f64, f64)> {
            trajectory.points.iter().map(|point| frame.place((point.step as f64, accuracy(point)))).collect()
        };
        let (ood, iid) = (line(|point| point.ood), line(|point| point.iid));
        svg.polyline("iid", &iid, look.dashed().stroke);
        svg.polyline("ood", &ood, look.stroke);
        for &at in &ood {
            svg.marker("value", look.marker, at, 0.8 * look.radius, look.stroke.colour, Fill::Solid);
        }
        ends.extend(ood.last().filter(|_| !label.is_empty()).map(|&at| CurveEnd { at, look, label }));
    }
    key.draw(&mut svg, &frame, &ends);
    svg.finish(&format!("{}: {} by step", results.sweep, scale.name()), page.units(), bottom)
}

fn notes(axes: &[Axis], trajectories: &[Trajectory], results: &Results, averaged: &[Axis]) -> Vec<String> {
    let mut notes = super::notes::notes(results, averaged, false);
    let counts: BTreeSet<usize> = trajectories.iter().map(|trajectory| trajectory.trials).collect();
    let trials = match counts.first() {
        Some(each) if counts.len() == 1 => format!("each line: mean over {each} trials"),
        _ => {
            let one = |one: &Trajectory| format!("{}: {}", name(&one.setting), one.trials);
            let all: Vec<String> = trajectories.iter().map(one).collect();
            format!("trials by {}: {}", names(axes), all.join("; "))
        }
    };
    notes.push(format!("solid: o.o.d., dashed: i.i.d.; {trials}"));
    notes
}
