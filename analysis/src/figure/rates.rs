//! Accuracy against the dropout rate: a thin line per held-out domain, their mean, and the mean i.i.d. accuracy.

use sortie_core::parameters::{Scalar, number};

use super::frame::{Frame, Ticks, WIDTH, draw_heading, left_margin, spread};
use super::svg::{Anchor, BLACK, DASHES, Fill, GREY, Marker, Stroke, Svg, TEXT, colour, fitted, text_width};
use crate::axis::{Axis, AxisValue};
use crate::results::{Mean, Results};
use crate::statistics::Estimate;

/// One value of a curve.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct CurveValue {
    pub rate: f64,
    pub percent: f64,
    /// Standard error, in percentage points.
    pub se: Option<f64>,
    /// Whether every planned trial is in it.
    pub complete: bool,
}

/// One curve: a value for each dropout rate, none without a result.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Curve {
    pub label: String,
    pub values: Vec<Option<CurveValue>>,
}

impl Curve {
    fn is_empty(&self) -> bool {
        self.values.iter().all(Option::is_none)
    }
}

/// The data of the figure.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Curves {
    pub rates: Vec<f64>,
    /// O.o.d. accuracy per held-out domain, in the dataset's order.
    pub domains: Vec<Curve>,
    /// O.o.d. accuracy, mean over held-out domains.
    pub ood: Curve,
    /// I.i.d. accuracy, mean over held-out domains.
    pub iid: Curve,
}

impl Curves {
    /// The curves of results by dropout.
    pub(super) fn of(results: &Results) -> Self {
        let rates: Vec<f64> = results.means.iter().map(|mean| rate(&mean.row)).collect();
        let domain = |name: &String| {
            let values = rates.iter().map(|&at| {
                let cell =
                    results.cells.iter().find(|cell| cell.held_out == *name && rate(&cell.row) == at)?;
                value(at, cell.ood, cell.ood.n == cell.planned)
            });
            Curve { label: name.clone(), values: values.collect() }
        };
        let mean = |label: &str, estimate: fn(&Mean) -> Estimate| {
            let values = results
                .means
                .iter()
                .map(|mean| value(rate(&mean.row), estimate(mean), mean.done == mean.planned));
            Curve { label: label.to_owned(), values: values.collect() }
        };
        let domains = results.domains.iter().map(domain).collect();
        Self {
            domains,
            ood: mean("mean o.o.d.", |mean| mean.ood),
            iid: mean("mean i.i.d.", |mean| mean.iid),
            rates,
        }
    }

    fn all(&self) -> impl Iterator<Item = &Curve> {
        self.domains.iter().chain([&self.ood, &self.iid])
    }

    fn values(&self) -> impl Iterator<Item = &CurveValue> {
        self.all().flat_map(|curve| curve.values.iter().flatten())
    }
}

/// The dropout rate of a row of results by dropout.
fn rate(row: &[(Axis, AxisValue)]) -> f64 {
    match row {
        [(_, AxisValue::Scalar(Scalar::Number(rate)))] => rate.get(),
        _ => f64::NAN,
    }
}

fn value(rate: f64, estimate: Estimate, complete: bool) -> Option<CurveValue> {
    Some(CurveValue { rate, percent: 100.0 * estimate.mean?, se: estimate.se.map(|se| 100.0 * se), complete })
}

/// The look of a curve.
#[derive(Clone, Copy)]
pub(super) struct CurveLook {
    pub stroke: Stroke,
    pub marker: Marker,
    pub radius: f64,
}

impl CurveLook {
    const OOD: Self =
        Self { stroke: Stroke { colour: BLACK, width: 2.4, dash: "" }, marker: Marker::Circle, radius: 3.6 };
    const IID: Self = Self {
        stroke: Stroke { colour: BLACK, width: 1.8, dash: DASHES[1] },
        marker: Marker::Circle,
        radius: 3.0,
    };

    /// The look of a held-out domain, by colour and marker.
    pub(super) fn domain(index: usize) -> Self {
        Self { stroke: Stroke::solid(colour(index), 1.1), marker: Marker::of(index), radius: 3.2 }
    }
}

/// Height of the plot, unless its labels need more.
const HEIGHT: f64 = 190.0;
/// The distance between labels.
const LABEL_GAP: f64 = 14.0;
/// A longer label is cut.
const LABEL_MAX: f64 = 110.0;
/// Room for the thin lines from curves to labels.
const LEADER: f64 = 18.0;
/// Room for a sample of the curve before its label.
const SAMPLE: f64 = 26.0;

/// Writes the figure.
pub(super) fn draw(curves: &Curves, results: &Results, averaged: &[Axis]) -> String {
    let mut svg = Svg::default();
    let top = draw_heading(&mut svg, &results.sweep, &notes(curves, results, averaged));
    let ends = |value: &CurveValue| {
        [value.percent - value.se.unwrap_or(0.0), value.percent + value.se.unwrap_or(0.0)]
    };
    let ticks = Ticks::around(curves.values().flat_map(ends));
    let looks: Vec<CurveLook> =
        (0..curves.domains.len()).map(CurveLook::domain).chain([CurveLook::OOD, CurveLook::IID]).collect();
    let labels: Vec<String> = curves.all().map(|curve| fitted(&curve.label, TEXT, LABEL_MAX)).collect();
    let frame = frame_beside(&labels, &ticks, top, x_range(&curves.rates));
    frame.draw_y_axis(&mut svg, &ticks, "accuracy, %");
    let bottom = frame.draw_x_axis(&mut svg, &x_ticks(&curves.rates), "dropout rate");
    draw_labels(&mut svg, &frame, curves, &looks, &labels);
    // Domains first, means on top of them.
    for (curve, look) in curves.all().zip(&looks) {
        draw_curve(&mut svg, &frame, curve, *look);
    }
    svg.finish(&format!("{}: accuracy by dropout rate", results.sweep), WIDTH, bottom)
}

fn notes(curves: &Curves, results: &Results, averaged: &[Axis]) -> Vec<String> {
    let mut notes = super::notes::notes(results, averaged, true);
    let mut reading = Vec::new();
    if curves.values().any(|value| !value.complete) {
        reading.push("open markers: trials are missing".to_owned());
    }
    let empty: Vec<&str> =
        curves.domains.iter().filter(|curve| curve.is_empty()).map(|curve| curve.label.as_str()).collect();
    if !empty.is_empty() {
        reading.push(format!("nothing yet for {}", empty.join(", ")));
    }
    if curves.ood.is_empty() {
        reading.push("no mean yet: no seed is done for every held-out domain".to_owned());
    }
    if curves.values().any(|value| value.se.is_some()) {
        reading.push("bars: standard error".to_owned());
    }
    notes.push(reading.join("; "));
    notes
}

fn x_range(rates: &[f64]) -> (f64, f64) {
    let first = rates.first().copied().unwrap_or(0.0);
    let last = rates.last().copied().unwrap_or(1.0);
    let pad = if last > first { 0.04 * (last - first) } else { 0.05 };
    (first - pad, last + pad)
}

/// The rates if there are few, else round numbers.
fn x_ticks(rates: &[f64]) -> Vec<(f64, String)> {
    if rates.len() <= 8 {
        return rates.iter().map(|&rate| (rate, number(rate))).collect();
    }
    let (low, high) = x_range(rates);
    let ticks = Ticks::around([low, high]);
    ticks
        .values
        .iter()
        .filter(|value| (low..=high).contains(value))
        .map(|&value| (value, ticks.label(value)))
        .collect()
}

fn draw_curve(svg: &mut Svg, frame: &Frame, curve: &Curve, look: CurveLook) {
    // A rate without a result breaks the line.
    for run in curve.values.split(Option::is_none) {
        let points: Vec<(f64, f64)> =
            run.iter().flatten().map(|value| frame.place((value.rate, value.percent))).collect();
        svg.polyline("curve", &points, look.stroke);
    }
    for value in curve.values.iter().flatten() {
        if let Some(se) = value.se {
            let end = |percent: f64| frame.place((value.rate, percent));
            svg.polyline(
                "error",
                &[end(value.percent - se), end(value.percent + se)],
                Stroke::solid(look.stroke.colour, 0.9),
            );
        }
        let at = frame.place((value.rate, value.percent));
        let fill = if value.complete { Fill::Solid } else { Fill::Open };
        svg.marker("value", look.marker, at, look.radius, look.stroke.colour, fill);
    }
}

/// Draws labels to the right of the plot, near the last values of their curves, with a sample of the line.
fn draw_labels(svg: &mut Svg, frame: &Frame, curves: &Curves, looks: &[CurveLook], labels: &[String]) {
    let last = |curve: &Curve| {
        curve.values.iter().flatten().next_back().map(|value| frame.place((value.rate, value.percent)))
    };
    let ends = curves
        .all()
        .zip(looks)
        .zip(labels)
        .filter_map(|((curve, look), label)| Some(CurveEnd { at: last(curve)?, look: *look, label }));
    draw_ends(svg, frame, &ends.collect::<Vec<_>>());
}

/// The end of a curve on the page, and its label.
pub(super) struct CurveEnd<'a> {
    pub at: (f64, f64),
    pub look: CurveLook,
    pub label: &'a str,
}

/// Draws labels to the right of the plot without overlap.
pub(super) fn draw_ends(svg: &mut Svg, frame: &Frame, ends: &[CurveEnd<'_>]) {
    let wanted: Vec<f64> = ends.iter().map(|end| end.at.1).collect();
    let placed = spread(&wanted, LABEL_GAP, frame.top, frame.bottom());
    for (&CurveEnd { at: (x, y), look, label }, label_y) in ends.iter().zip(placed) {
        let start = frame.right() + LEADER;
        svg.polyline(
            "leader",
            &[(x, y), (frame.right(), y), (start - 2.0, label_y)],
            Stroke::solid(GREY, 0.6),
        );
        svg.polyline("sample", &[(start, label_y), (start + SAMPLE - 5.0, label_y)], look.stroke);
        svg.marker(
            "sample",
            look.marker,
            (start + (SAMPLE - 5.0) / 2.0, label_y),
            look.radius,
            look.stroke.colour,
            Fill::Solid,
        );
        svg.text((start + SAMPLE, label_y + 0.36 * TEXT), TEXT, Anchor::Start, label);
    }
}

/// The frame that leaves room for such labels.
pub(super) fn frame_beside(labels: &[String], ticks: &Ticks, top: f64, x: (f64, f64)) -> Frame {
    let label_width = labels.iter().map(|label| text_width(label, TEXT)).fold(0.0, f64::max);
    let left = left_margin(ticks);
    let height = HEIGHT.max(LABEL_GAP * labels.len() as f64);
    Frame {
        left,
        top,
        width: WIDTH - left - LEADER - SAMPLE - label_width - 6.0,
        height,
        x,
        y: ticks.range(),
    }
}
