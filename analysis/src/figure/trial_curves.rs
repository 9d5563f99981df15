//! The numbers of single trials by step or by time: a line for each trial, model, domain and split.

use std::collections::{BTreeMap, BTreeSet};

use sortie_core::metrics::Metric;
use sortie_core::named;
use sortie_core::trial::Point;

use super::error::FigureError;
use super::frame::{Ticks, draw_heading};
use super::key::{CurveEnd, CurveLook, Key, label_max};
use super::page::FigurePage;
use super::settings::label;
use super::svg::{Picture, Svg, TEXT};
use crate::axis::{Axis, parameter_names};
use crate::scale::Scale;

/// The most lines that a figure tells apart.
const LINES_MAX: usize = 36;
/// Lines with more points have no markers.
const MARKERS_MAX: usize = 30;

/// The images that a number of a curve was measured on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CurveSplit {
    /// The `out` split of a domain.
    Out,
    /// The `in` split of a domain.
    In,
    /// The step's batch.
    Batch,
}
named!(CurveSplit, "split of a curve", { Out => "out", In => "in", Batch => "batch" });

/// What curves run along.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CurveAxis {
    /// The step.
    #[default]
    Step,
    /// The time since training began, without the time between attempts.
    Time,
}
named!(CurveAxis, "axis of curves", { Step => "step", Time => "time" });

/// A number of a trial.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CurveValue {
    /// The step.
    pub step: u64,
    /// Seconds since training began; none if nobody measured it.
    pub seconds: Option<f64>,
    /// The number.
    pub value: f64,
}

/// The numbers of one trial on the same images, by one model.
#[derive(Clone, Debug, PartialEq)]
pub struct TrialCurve {
    /// The trial's id.
    pub trial: String,
    /// Its place in the grid.
    pub point: Point,
    /// The model, such as `plain`.
    pub method: String,
    /// The domain; none for batches.
    pub domain: Option<String>,
    /// The images.
    pub split: CurveSplit,
    /// Whether the trial holds out the domain.
    pub is_held_out: bool,
    /// By step, ascending.
    pub values: Vec<CurveValue>,
}

/// What is drawn of curves.
#[derive(Clone, Debug, Default)]
pub struct CurveQuestion {
    /// The images; none for `out`, or else `in`, or else batches.
    pub split: Option<CurveSplit>,
    /// The horizontal axis.
    pub along: CurveAxis,
    /// The layout.
    pub page: FigurePage,
}

/// Draws the curves of a metric of a sweep or a trial as an SVG document.
///
/// # Errors
/// [`FigureError`] when there is nothing to draw, or too much.
pub fn trial_curves(
    name: &str,
    curves: &[TrialCurve],
    metric: &Metric,
    asked: &CurveQuestion,
) -> Result<String, FigureError> {
    let CurveQuestion { split, along, page } = asked;
    let mut curves: Vec<TrialCurve> = curves.to_vec();
    for curve in &mut curves {
        curve.values.retain(|value| along.of(value).is_some());
    }
    curves.retain(|curve| !curve.values.is_empty());
    let there: BTreeSet<CurveSplit> = curves.iter().map(|curve| curve.split).collect();
    let nothing = || FigureError::NoCurve {
        name: name.to_owned(),
        metric: metric.name().to_owned(),
        split: split.map_or_else(String::new, |split| format!(" of split {split}")),
        along: along.as_str(),
    };
    let split = split.or(there.first().copied()).ok_or_else(nothing)?;
    let drawn: Vec<&TrialCurve> = curves.iter().filter(|curve| curve.split == split).collect();
    if drawn.is_empty() {
        return Err(nothing());
    }
    if drawn.len() > LINES_MAX {
        let (name, lines) = (name.to_owned(), drawn.len());
        return Err(FigureError::TooManyCurves { name, lines, max: LINES_MAX });
    }
    let note = match split {
        CurveSplit::Batch => "each line: one trial; images: the step's batch".to_owned(),
        split => {
            format!(
                "each line: one trial, domain and model; images: {split} split (in/out: train/validation)"
            )
        }
    };
    Ok(draw(name, &drawn, metric, *along, &note, page).document())
}

/// Draws the mean training loss of each setting by step: a curve for each, of so many trials.
///
/// # Errors
/// [`FigureError::TooManyCurves`].
pub(crate) fn mean_losses(
    name: &str,
    curves: &[TrialCurve],
    trials: &str,
    page: &FigurePage,
) -> Result<String, FigureError> {
    if curves.len() > LINES_MAX {
        let (name, lines) = (name.to_owned(), curves.len());
        return Err(FigureError::TooManyCurves { name, lines, max: LINES_MAX });
    }
    let curves: Vec<&TrialCurve> = curves.iter().collect();
    let note = format!("each line: mean over {trials}; images: the step's batch");
    Ok(draw(name, &curves, &Metric::LOSS, CurveAxis::Step, &note, page).document())
}

impl CurveAxis {
    /// Where a value stands, in steps or seconds; none if its time was not measured.
    fn of(self, value: &CurveValue) -> Option<f64> {
        match self {
            Self::Step => Some(value.step as f64),
            Self::Time => value.seconds,
        }
    }

    /// The label of the axis, and how many steps or seconds its unit has.
    fn unit(self, last: f64) -> (&'static str, f64) {
        match self {
            Self::Step => ("step", 1.0),
            Self::Time if last < 600.0 => ("time, s", 1.0),
            Self::Time if last < 36_000.0 => ("time, min", 60.0),
            Self::Time => ("time, h", 3_600.0),
        }
    }
}

fn draw(
    name: &str,
    curves: &[&TrialCurve],
    metric: &Metric,
    along: CurveAxis,
    note: &str,
    page: &FigurePage,
) -> Picture {
    let values = || curves.iter().flat_map(|curve| &curve.values);
    let scale = Scale::of(metric, values().map(|value| value.value));
    let labels = labels(curves);
    let mut svg = Svg::default();
    let dashes =
        curves.iter().any(|curve| curve.is_held_out) && curves.iter().any(|curve| !curve.is_held_out);
    let top = draw_heading(&mut svg, page, name, &[note.to_owned()]);
    let ticks = Ticks::around(values().map(|value| scale.plotted(value.value)));
    let last = values().filter_map(|value| along.of(value)).fold(0.0, f64::max);
    let (axis, unit) = along.unit(last);
    let last = if last > 0.0 { last / unit } else { 1.0 };
    let key = Key::of(labels.iter().map(|parts| label(parts, TEXT, label_max(page))).collect());
    let key = if dashes { key.with_dashes() } else { key };
    let frame = key.frame_beside(page, &ticks, top, (-0.03 * last, 1.03 * last));
    frame.draw_y_axis(&mut svg, &ticks, &scale.with_unit(scale.name()));
    let across = Ticks::around([0.0, last]);
    let shown = across.values.iter().filter(|value| **value <= 1.03 * last);
    let numbers: Vec<(f64, String)> = shown.map(|&value| (value, across.label(value))).collect();
    let bottom = frame.draw_x_axis(&mut svg, &numbers, axis);
    let place = |value: &CurveValue| {
        frame.place((along.of(value).unwrap_or_default() / unit, scale.plotted(value.value)))
    };
    let look = |index: usize| {
        let look = CurveLook::of(index);
        if dashes && !curves[index].is_held_out { look.dashed() } else { look }
    };
    let ends = curves.iter().enumerate().zip(&key.labels).filter_map(|((index, curve), label)| {
        Some(CurveEnd { at: place(curve.values.last()?), look: look(index), label })
    });
    key.draw(&mut svg, &frame, &ends.collect::<Vec<_>>());
    for (index, curve) in curves.iter().enumerate() {
        let (look, points) = (look(index), curve.values.iter().map(place).collect::<Vec<_>>());
        svg.polyline("curve", &points, look.stroke);
        if points.len() <= MARKERS_MAX {
            for point in points {
                let fill = super::svg::Fill::Solid;
                svg.marker("value", look.marker, point, look.radius, look.stroke.colour, fill);
            }
        }
    }
    svg.finish(&format!("{name}: {} by {along}", scale.name()), page.units(), bottom)
}

/// What tells the curves apart: the parts of a label for each.
fn labels(curves: &[&TrialCurve]) -> Vec<Vec<String>> {
    let mut parts: Vec<Vec<String>> = vec![Vec::new(); curves.len()];
    let mut add = |name: &str, of: &dyn Fn(&TrialCurve) -> String| {
        let values: Vec<String> = curves.iter().map(|curve| of(curve)).collect();
        if values.iter().collect::<BTreeSet<_>>().len() > 1 {
            for (parts, value) in parts.iter_mut().zip(values) {
                parts.push(if name.is_empty() { value } else { format!("{name} {value}") });
            }
        }
    };
    let axes = parameter_names(curves.iter().map(|curve| &curve.point)).into_iter().map(Axis::Parameter);
    for axis in axes.chain([Axis::Seed, Axis::Split]) {
        add(axis.as_str(), &|curve| {
            axis.value(&curve.point).map_or_else(|| "-".to_owned(), |value| value.to_string())
        });
    }
    add("held out", &|curve| curve.point.held_out_label());
    add("", &|curve| curve.method.clone());
    add("", &|curve| curve.domain.clone().unwrap_or_default());
    for (parts, curve) in parts.iter_mut().zip(curves) {
        if parts.is_empty() {
            parts.push(curve.domain.clone().unwrap_or_else(|| curve.split.to_string()));
        }
    }
    parts
}

/// The identity of a curve among those of a metric.
type CurveKey = (String, String, Option<String>, CurveSplit);

/// Collects curves from their numbers, one by one in any order.
#[derive(Clone, Debug, Default)]
pub struct CurveCollector(BTreeMap<CurveKey, TrialCurve>);

impl CurveCollector {
    /// Adds a number.
    pub fn add(&mut self, curve: TrialCurve) {
        let TrialCurve { trial, method, domain, split, .. } = &curve;
        let key = (trial.clone(), method.clone(), domain.clone(), *split);
        match self.0.get_mut(&key) {
            Some(known) => known.values.extend(curve.values),
            None => {
                self.0.insert(key, curve);
            }
        }
    }

    /// The curves, each by step: those of a trial together, held-out domains first.
    pub fn curves(self) -> Vec<TrialCurve> {
        let mut curves: Vec<TrialCurve> = self.0.into_values().collect();
        for curve in &mut curves {
            curve.values.sort_unstable_by_key(|value| value.step);
        }
        let place = |curve: &TrialCurve| {
            let Point { held_out, parameters, seed, split_seed } = curve.point.clone();
            (parameters, held_out, seed, split_seed, !curve.is_held_out)
        };
        curves.sort_by_cached_key(place);
        curves
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sortie_core::parameters::Parameters;

    fn seconds_of(step: u64) -> Option<f64> {
        (step > 0).then_some(180.0 * step as f64)
    }

    fn number(seed: u64, domain: Option<&str>, split: CurveSplit, step: u64, value: f64) -> TrialCurve {
        let point =
            Point { held_out: vec!["c".to_owned()], parameters: Parameters::new(), seed, split_seed: 0 };
        TrialCurve {
            trial: format!("t{seed}"),
            point,
            method: "plain".to_owned(),
            domain: domain.map(str::to_owned),
            split,
            is_held_out: domain == Some("c"),
            values: vec![CurveValue { step, seconds: seconds_of(step), value }],
        }
    }

    #[test]
    fn a_line_for_each_trial_and_domain_is_drawn_in_the_order_of_steps() {
        let mut collector = CurveCollector::default();
        for (seed, domain, step, value) in [
            (0, "a", 5, 0.5),
            (0, "a", 0, 0.25),
            (0, "c", 0, 0.1),
            (0, "c", 5, 0.2),
            (1, "a", 0, 0.3),
            (1, "a", 5, 0.3),
        ] {
            collector.add(number(seed, Some(domain), CurveSplit::Out, step, value));
        }
        collector.add(number(0, None, CurveSplit::Batch, 0, 2.0));
        collector.add(number(0, None, CurveSplit::Batch, 1, 1.0));
        let curves = collector.curves();
        let pairs = |curve: &TrialCurve| curve.values.iter().map(|value| (value.step, value.value)).collect();
        let values: Vec<(_, Vec<(u64, f64)>)> =
            curves.iter().map(|curve| (curve.domain.as_deref(), pairs(curve))).collect();
        assert!(values.contains(&(Some("a"), vec![(0, 0.25), (5, 0.5)])), "{values:?}");
        let of = |split: Option<CurveSplit>| CurveQuestion { split, ..CurveQuestion::default() };
        let svg = trial_curves("s", &curves, &Metric::ACCURACY, &of(None)).unwrap();
        assert_eq!(svg.matches("class=\"curve\"").count(), 3);
        for part in ["accuracy, %", "seed 0", "seed 1", ">o.o.d.<", "out split"] {
            assert!(svg.contains(part), "{part}: {svg}");
        }
        let batch = trial_curves("s", &curves, &Metric::LOSS, &of(Some(CurveSplit::Batch))).unwrap();
        assert!(batch.matches("class=\"curve\"").count() == 1 && batch.contains(">batch<"), "{batch}");
        let error = trial_curves("s", &curves, &Metric::LOSS, &of(Some(CurveSplit::In))).unwrap_err();
        assert_eq!(error.to_string(), "s has no loss of split in by step");
        let timed = CurveQuestion { along: CurveAxis::Time, ..CurveQuestion::default() };
        let svg = trial_curves("s", &curves, &Metric::ACCURACY, &timed).unwrap();
        // Step 5 has the time of 900 s; step 0 has none.
        assert!(svg.contains(">time, min<") && svg.contains("accuracy by time"), "{svg}");
        assert_eq!(svg.matches("class=\"value\"").count(), 3);
        let untimed: Vec<TrialCurve> =
            (0..2).map(|seed| number(seed, Some("a"), CurveSplit::Out, 0, 0.5)).collect();
        let error = trial_curves("s", &untimed, &Metric::ACCURACY, &timed).unwrap_err();
        assert_eq!(error.to_string(), "s has no accuracy by time");
        let many: Vec<TrialCurve> =
            (0..37).map(|seed| number(seed, Some("a"), CurveSplit::Out, 0, 0.5)).collect();
        let error = trial_curves("s", &many, &Metric::ACCURACY, &of(None)).unwrap_err();
        assert!(
            error.to_string().starts_with("s has 37 curves of these images; a figure shows at most 36"),
            "{error}"
        );
    }
}
