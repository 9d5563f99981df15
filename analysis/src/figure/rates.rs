//! Accuracy against the numbers of an axis, such as the dropout rate: a thin line per held-out domain, their mean, and the mean i.i.d.
//! accuracy. If further axes tell settings apart, the two means of each setting.

use std::collections::BTreeSet;

use super::axes::as_number;
use super::frame::{Frame, Ticks, draw_heading};
use super::key::{CurveEnd, CurveLook, Key, label_max};
use super::page::FigurePage;
use super::settings::{Setting, named, value_label};
use super::svg::{Fill, Picture, Stroke, Svg, TEXT, fitted, wrapped};
use super::x_scale::XScale;
use crate::axis::{Axis, AxisValue};
use crate::results::{Mean, Results};
use crate::scale::Scale;
use crate::statistics::Estimate;

/// One value of a curve.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct CurveValue {
    /// The number on the x axis.
    pub x: f64,
    pub y: f64,
    /// Standard error, likewise.
    pub se: Option<f64>,
    /// Whether every planned trial is in it.
    pub complete: bool,
}

/// A value for each number on the x axis; none without a result.
pub(super) type Curve = Vec<Option<CurveValue>>;

/// The mean accuracies of a setting over held-out domains.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct MeanCurves {
    /// The values on the further axes.
    pub setting: Setting,
    pub ood: Curve,
    pub iid: Curve,
}

/// The data of the figure.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Curves {
    /// The numbers on the x axis, ascending.
    pub x: Vec<f64>,
    /// O.o.d. accuracy per held-out domain, in the dataset's order; none if settings are told apart.
    pub domains: Vec<(String, Curve)>,
    /// The means of each setting.
    pub means: Vec<MeanCurves>,
}

impl Curves {
    /// The curves of results by an axis of numbers and the axes that tell settings apart.
    pub(super) fn of(results: &Results) -> Self {
        let scale = results.scale();
        let numbers: BTreeSet<&AxisValue> =
            results.means.iter().filter_map(|mean| Some(&mean.row.first()?.1)).collect();
        let setting = |row: &[(Axis, AxisValue)]| -> Setting {
            row.iter().skip(1).map(|(_, value)| value.clone()).collect()
        };
        let settings: BTreeSet<Setting> = results.means.iter().map(|mean| setting(&mean.row)).collect();
        let is_at = |row: &[(Axis, AxisValue)], x: &AxisValue| row.first().is_some_and(|(_, own)| own == x);
        let domain = |name: &String| {
            let values = numbers.iter().map(|x| {
                let cell = results
                    .cells
                    .iter()
                    .find(|cell| cell.held_out.as_ref() == Some(name) && is_at(&cell.row, x))?;
                value(x, cell.ood, cell.ood.n == cell.planned, &scale)
            });
            (name.clone(), values.collect())
        };
        let curve = |own: &Setting, estimate: fn(&Mean) -> Estimate| -> Curve {
            let at = |x: &&AxisValue| {
                let is_own = |mean: &&Mean| is_at(&mean.row, x) && setting(&mean.row) == *own;
                let mean = results.means.iter().find(is_own)?;
                value(x, estimate(mean), mean.done == mean.planned, &scale)
            };
            numbers.iter().map(at).collect()
        };
        let domains =
            if results.axes.len() > 1 { Vec::new() } else { results.domains.iter().map(domain).collect() };
        let means = settings.into_iter().map(|setting| MeanCurves {
            ood: curve(&setting, |mean| mean.ood),
            iid: curve(&setting, |mean| mean.iid),
            setting,
        });
        Self { x: numbers.iter().filter_map(|x| as_number(x)).collect(), domains, means: means.collect() }
    }

    fn all(&self) -> impl Iterator<Item = &Curve> {
        let means = self.means.iter().flat_map(|means| [&means.ood, &means.iid]);
        self.domains.iter().map(|(_, curve)| curve).chain(means)
    }

    fn values(&self) -> impl Iterator<Item = &CurveValue> {
        self.all().flat_map(|curve| curve.iter().flatten())
    }
}

fn value(x: &AxisValue, estimate: Estimate, complete: bool, scale: &Scale) -> Option<CurveValue> {
    let (x, y) = (as_number(x)?, scale.plotted(estimate.mean?));
    Some(CurveValue { x, y, se: estimate.se.map(|se| scale.plotted(se)), complete })
}

/// A curve to draw. One without a label is another one's companion.
struct DrawnCurve<'a> {
    curve: &'a Curve,
    look: CurveLook,
    label: Vec<String>,
}

/// Writes the figure.
pub(super) fn draw(page: &FigurePage, curves: &Curves, results: &Results, averaged: &[Axis]) -> Picture {
    let mut svg = Svg::default();
    let scale = XScale::of(&curves.x);
    let notes = notes(curves, &scale, results, averaged);
    let top = draw_heading(&mut svg, page, &results.sweep, &notes);
    let ends = |value: &CurveValue| [value.y - value.se.unwrap_or(0.0), value.y + value.se.unwrap_or(0.0)];
    let ticks = Ticks::around(curves.values().flat_map(ends));
    let further = results.axes.get(1..).unwrap_or_default();
    let drawn = drawn(page, curves, further);
    let key = Key::of(drawn.iter().map(|one| one.label.clone()).collect());
    let key = if further.is_empty() { key } else { key.with_dashes().with_axes(further, page) };
    let frame = key.frame_beside(page, &ticks, top, scale.range());
    let values = results.scale();
    let title_of_y = values.with_unit(values.name());
    frame.draw_y_axis(&mut svg, &ticks, &title_of_y);
    let axis = results.axes.first().map(Axis::to_string).unwrap_or_default();
    let name = if axis == "dropout" { "dropout rate" } else { axis.as_str() };
    let title = if scale.logarithmic { format!("{name} (logarithmic)") } else { name.to_owned() };
    let bottom =
        frame.draw_x_axis(&mut svg, &scale.ticks(), &fitted(&title, TEXT, page.units() - frame.left));
    let last = |curve: &Curve| {
        curve.iter().flatten().next_back().map(|value| frame.place((scale.at(value.x), value.y)))
    };
    let ends = drawn
        .iter()
        .filter(|one| !one.label.is_empty())
        .filter_map(|one| Some(CurveEnd { at: last(one.curve)?, look: one.look, label: &one.label }));
    key.draw(&mut svg, &frame, &ends.collect::<Vec<_>>());
    // Domains first, means on top of them.
    for one in &drawn {
        draw_curve(&mut svg, (&frame, &scale), one.curve, one.look);
    }
    svg.finish(&format!("{}: {} by {title}", results.sweep, values.name()), page.units(), bottom)
}

/// The curves with their looks and labels, in the order of drawing.
fn drawn<'a>(page: &FigurePage, curves: &'a Curves, further: &[Axis]) -> Vec<DrawnCurve<'a>> {
    let cut = |label: &str| vec![fitted(label, TEXT, label_max(page))];
    let domains = curves.domains.iter().enumerate().map(|(index, (name, curve))| DrawnCurve {
        curve,
        look: CurveLook::of(index),
        label: cut(name),
    });
    let mut drawn: Vec<DrawnCurve<'a>> = domains.collect();
    for (index, MeanCurves { setting, ood, iid }) in curves.means.iter().enumerate() {
        let (looks, labels) = match further {
            [] => ([CurveLook::OOD, CurveLook::IID], [cut("mean o.o.d."), cut("mean i.i.d.")]),
            _ => {
                let look = CurveLook::of(index);
                let label = match further {
                    [_] => wrapped(&named(further, setting).concat(), TEXT, label_max(page)),
                    _ => value_label(setting, TEXT, label_max(page)),
                };
                ([look, look.dashed()], [label, Vec::new()])
            }
        };
        for ((curve, look), label) in [ood, iid].into_iter().zip(looks).zip(labels) {
            drawn.push(DrawnCurve { curve, look, label });
        }
    }
    drawn
}

fn notes(curves: &Curves, scale: &XScale, results: &Results, averaged: &[Axis]) -> Vec<String> {
    let mut notes = super::notes::notes(results, averaged, true);
    let mut reading = Vec::new();
    if results.axes.len() > 1 {
        reading.push("mean over held-out domains".to_owned());
    }
    if scale.has_zero_beside() {
        reading.push("0 stands beside the logarithmic axis".to_owned());
    }
    if curves.values().any(|value| !value.complete) {
        reading.push("open markers: trials are missing".to_owned());
    }
    let is_empty = |curve: &Curve| curve.iter().all(Option::is_none);
    let empty: Vec<&str> =
        curves.domains.iter().filter(|(_, curve)| is_empty(curve)).map(|(name, _)| name.as_str()).collect();
    if !empty.is_empty() {
        reading.push(format!("nothing yet for {}", empty.join(", ")));
    }
    if curves.means.iter().all(|means| is_empty(&means.ood)) {
        reading.push("no mean yet: no seed is done for every held-out domain".to_owned());
    }
    if curves.values().any(|value| value.se.is_some()) {
        reading.push("bars: ± standard error of the mean over trials".to_owned());
    }
    notes.push(reading.join("; "));
    notes
}

fn draw_curve(svg: &mut Svg, (frame, scale): (&Frame, &XScale), curve: &Curve, look: CurveLook) {
    let place = |value: &CurveValue, y: f64| frame.place((scale.at(value.x), y));
    // A number without a result breaks the line.
    for run in curve.split(Option::is_none) {
        let points: Vec<(f64, f64)> = run.iter().flatten().map(|value| place(value, value.y)).collect();
        svg.polyline("curve", &points, look.stroke);
    }
    for value in curve.iter().flatten() {
        if let Some(se) = value.se {
            svg.polyline(
                "error",
                &[place(value, value.y - se), place(value, value.y + se)],
                Stroke::solid(look.stroke.colour, 0.9),
            );
        }
        let fill = if value.complete { Fill::Solid } else { Fill::Open };
        svg.marker("value", look.marker, place(value, value.y), look.radius, look.stroke.colour, fill);
    }
}
