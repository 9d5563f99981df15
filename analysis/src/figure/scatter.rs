//! The paper's Figure 1: every way to choose one setting per held-out domain is a point (i.i.d., o.o.d.), with one group of points for each
//! method and dropout rate. A group shows all possible choices, not only the best one.

use std::collections::BTreeSet;

use sortie_core::metrics::Method;
use sortie_core::parameters::Scalar;

use super::frame::{Frame, Ticks, WIDTH, draw_heading, left_margin, spread};
use super::scatter_points::{Combined, ScatterGroup};
use super::svg::{Anchor, BLACK, DASHES, Fill, Marker, Stroke, Svg, TEXT, colour, fitted, text_width};
use crate::axis::Axis;
use crate::results::Results;

/// The largest number of points in a figure. More points would not show more, and some viewers cannot open larger files.
const POINTS_MAX: u128 = 100_000;
/// The number of groups that a note names.
const NAMED_MAX: usize = 4;
/// With more groups than this, the legend lists rates and methods instead of pointing at each group.
const POINTED_MAX: usize = 6;
/// If there are more combinations than this, some are left out; at most twice as many are drawn.
const COMBINED_MAX: usize = 8;

/// The data of the figure.
#[derive(Debug)]
pub(super) struct Scatter<'a> {
    pub groups: &'a [ScatterGroup],
    pub combined: &'a [Combined],
    /// The methods to draw.
    pub methods: &'a [Method],
    /// Methods and rates without a result for some held-out domain.
    pub missing: Vec<(Method, Option<Scalar>)>,
    /// The number of combinations without a result for some held-out domain.
    pub combined_missing: usize,
    /// The number of combinations for which there is no room.
    pub combined_hidden: usize,
}

/// The combinations to draw. If there are many, only those with most members of each name and setting; if these are still too many, the
/// first ones.
pub(super) fn with_room(mut models: Vec<Combined>) -> Vec<Combined> {
    if models.len() > COMBINED_MAX {
        let all = models.clone();
        let larger =
            |a: &Combined, b: &Combined| (&a.name, &a.rest) == (&b.name, &b.rest) && a.members > b.members;
        models.retain(|model| !all.iter().any(|other| larger(other, model)));
        models.truncate(2 * COMBINED_MAX);
    }
    models
}

/// Writes the figure.
pub(super) fn draw(scatter: &Scatter<'_>, results: &Results) -> String {
    let mut svg = Svg::default();
    let styles = ScatterStyles::of(scatter);
    let top = draw_heading(&mut svg, &results.sweep, &notes(scatter, &styles, results));
    let legend = Legend::of(scatter, &styles);
    let places = || {
        scatter
            .groups
            .iter()
            .flat_map(|group| &group.hull)
            .chain(scatter.combined.iter().map(|combined| &combined.at))
    };
    let ticks = |value: fn(&(f64, f64)) -> f64| Ticks::around(places().map(value));
    let (x_ticks, y_ticks) = (ticks(|point| point.0), ticks(|point| point.1));
    let left = left_margin(&y_ticks);
    let width = WIDTH - left - 22.0 - legend.width();
    let frame = Frame {
        left,
        top,
        width,
        height: HEIGHT.max(legend.height()),
        x: x_ticks.range(),
        y: y_ticks.range(),
    };
    frame.draw_y_axis(&mut svg, &y_ticks, "o.o.d. accuracy, %");
    let numbers: Vec<(f64, String)> =
        x_ticks.values.iter().map(|&value| (value, x_ticks.label(value))).collect();
    let bottom = frame.draw_x_axis(&mut svg, &numbers, "i.i.d. accuracy, %");
    draw_groups(&mut svg, &frame, scatter.groups, &styles);
    legend.draw(&mut svg, &frame);
    draw_centres(&mut svg, &frame, scatter.groups, &styles);
    for combined in scatter.combined {
        styles.combined(combined).draw_centre(&mut svg, "combined", frame.place(combined.at));
    }
    svg.finish(&format!("{}: o.o.d. against i.i.d. accuracy", results.sweep), WIDTH, bottom)
}

fn notes(scatter: &Scatter<'_>, styles: &ScatterStyles, results: &Results) -> Vec<String> {
    let Scatter { groups, combined, missing, combined_missing, combined_hidden, .. } = scatter;
    let mut notes = super::notes::notes(results, &[], true);
    if let [only] = styles.rates.as_slice()
        && styles.methods.len() > 1
        && let Some(rate) = only
    {
        notes.push(format!("dropout {rate}"));
    }
    let range = |counts: &mut dyn Iterator<Item = u128>| {
        let (fewest, most) =
            counts.fold((u128::MAX, 0), |(fewest, most), count| (fewest.min(count), most.max(count)));
        if fewest == most { most.to_string() } else { format!("{fewest} to {most}") }
    };
    let each = match (styles.methods.as_slice(), styles.rates.as_slice()) {
        ([_], [None]) => "",
        ([_], _) => " per rate",
        _ => " per group",
    };
    let most = drawn_max(groups);
    let all = range(&mut groups.iter().map(|group| group.choices));
    if groups.iter().any(|group| group.choices > most) {
        let drawn = range(&mut groups.iter().map(|group| group.choices.min(most)));
        notes.push(format!(
            "dots: {drawn}{each}, evenly taken from every choice of one setting per held-out domain ({all}), seeds averaged; hulls and \
             centres (large) are those of all choices"
        ));
    } else if !groups.is_empty() {
        notes.push(format!("dots: every choice of one setting per held-out domain ({all}{each}), seeds averaged; large: their centre"));
    }
    if !missing.is_empty() {
        let (what, all) =
            (if styles.methods.len() > 1 { "groups" } else { "dropout rates" }, missing.len() + groups.len());
        let names: Vec<String> =
            missing.iter().take(NAMED_MAX).map(|(method, rate)| styles.name(*method, rate)).collect();
        let more = if missing.len() > NAMED_MAX { ", …" } else { "" };
        let names = format!("{}{more}", names.join(", "));
        notes.push(format!(
            "{} of {all} {what} left out ({names}): nothing yet for some held-out domain",
            missing.len()
        ));
    }
    if !combined.is_empty() {
        notes.push(
            "circles, pluses, crosses: models made of several trials, mean over held-out domains".to_owned(),
        );
    }
    if *combined_hidden > 0 {
        notes.push(format!("{combined_hidden} more of them are left out: there is room for few, and those with most members come first"));
    }
    if *combined_missing > 0 {
        let all = combined_missing + combined.len() + combined_hidden;
        notes.push(format!(
            "{combined_missing} of {all} combined models left out: not done for every held-out domain"
        ));
    }
    notes
}

/// The largest number of points that are drawn of a group.
fn drawn_max(groups: &[ScatterGroup]) -> u128 {
    POINTS_MAX / groups.len().max(1) as u128
}

/// The style of a group's hull and centre.
#[derive(Clone, Copy)]
struct ScatterStyle {
    colour: &'static str,
    marker: Marker,
    dash: &'static str,
    fill: Fill,
}

impl ScatterStyle {
    /// A style by index; styles differ in colour, marker and dashes.
    fn of(index: usize) -> Self {
        Self {
            colour: colour(index),
            marker: Marker::of(index),
            dash: DASHES[index % DASHES.len()],
            fill: Fill::Solid,
        }
    }

    fn outline(self) -> Stroke {
        Stroke { colour: self.colour, width: 1.4, dash: self.dash }
    }

    fn draw_sample(self, svg: &mut Svg, (x, y): (f64, f64), outlined: bool) {
        let width = SAMPLE - 6.0;
        if outlined {
            svg.polyline("sample", &[(x, y), (x + width, y)], self.outline());
        }
        self.draw_centre(svg, "sample", (x + width / 2.0, y));
    }

    fn draw_centre(self, svg: &mut Svg, class: &str, at: (f64, f64)) {
        // A white rim separates the marker from the points below it.
        svg.marker("rim", self.marker, at, 5.8, "#ffffff", Fill::Solid);
        svg.marker(class, self.marker, at, 4.4, self.colour, self.fill);
    }
}

/// The styles of groups. With one method they depend on the rate, with one rate on the method. With several of both, colour and shape show
/// the rate, dashes and fill the method.
struct ScatterStyles {
    rates: Vec<Option<Scalar>>,
    methods: Vec<Method>,
    /// Names of combinations with their numbers of members, as bits.
    combined: BTreeSet<(String, u64)>,
}

impl ScatterStyles {
    fn of(scatter: &Scatter<'_>) -> Self {
        let rates: BTreeSet<&Option<Scalar>> = scatter.groups.iter().map(|group| &group.rate).collect();
        let combined = scatter
            .combined
            .iter()
            .map(|combined| (combined.name.clone(), combined.members.to_bits()))
            .collect();
        Self { rates: rates.into_iter().cloned().collect(), methods: scatter.methods.to_vec(), combined }
    }

    /// The style of a combination: a shape that no group has for each name and number of members, in the colour of its rate.
    fn combined(&self, combined: &Combined) -> ScatterStyle {
        let shapes = [Marker::Circle, Marker::Plus, Marker::Cross];
        let kind = (combined.name.clone(), combined.members.to_bits());
        let index = self.combined.iter().position(|own| *own == kind).unwrap_or_default();
        let fill = if (index / shapes.len()).is_multiple_of(2) { Fill::Solid } else { Fill::Open };
        let rate = combined.rest.get(Axis::dropout().as_str());
        let known = self.rates.iter().position(|own| own.is_some() && own.as_ref() == rate);
        let colour = known.filter(|_| self.methods.len() < 2 || self.both()).map_or(BLACK, colour);
        ScatterStyle { colour, marker: shapes[index % shapes.len()], dash: "", fill }
    }

    /// The name of a group: what distinguishes it from the others.
    fn name(&self, method: Method, rate: &Option<Scalar>) -> String {
        match rate {
            Some(rate) if self.methods.len() < 2 => rate.to_string(),
            Some(rate) if self.rates.len() > 1 => format!("{method} {rate}"),
            _ => method.to_string(),
        }
    }

    fn both(&self) -> bool {
        self.rates.len() > 1 && self.methods.len() > 1
    }

    fn style(&self, group: &ScatterGroup) -> ScatterStyle {
        let rate = self.rates.iter().position(|rate| *rate == group.rate).unwrap_or_default();
        if self.methods.len() < 2 {
            return ScatterStyle::of(rate);
        }
        let method = Self::method(group.method);
        if self.both() {
            ScatterStyle { dash: method.dash, fill: method.fill, ..ScatterStyle::of(rate) }
        } else {
            method
        }
    }

    /// The style of a method, which is the same in every figure.
    fn method(method: Method) -> ScatterStyle {
        let (index, fill) = match method {
            Method::Plain => (0, Fill::Solid),
            Method::Average => (1, Fill::Open),
            Method::Ensemble => (2, Fill::Dotted),
        };
        ScatterStyle { fill, ..ScatterStyle::of(index) }
    }
}

fn draw_groups(svg: &mut Svg, frame: &Frame, groups: &[ScatterGroup], styles: &ScatterStyles) {
    let most = drawn_max(groups);
    for group in groups {
        let points = group.points(most).map(|point| frame.place(point));
        svg.dots("points", points, styles.style(group).colour, if group.choices > 200 { 0.9 } else { 1.6 });
    }
    for group in groups {
        let corners: Vec<(f64, f64)> = group.hull.iter().map(|corner| frame.place(*corner)).collect();
        svg.polygon("hull", &corners, styles.style(group).outline());
    }
}

fn draw_centres(svg: &mut Svg, frame: &Frame, groups: &[ScatterGroup], styles: &ScatterStyles) {
    if styles.rates.len() > 1 {
        for &method in &styles.methods {
            let centres =
                groups.iter().filter(|group| group.method == method).map(|group| frame.place(group.centre));
            let dash = if styles.both() { ScatterStyles::method(method).dash } else { "" };
            svg.polyline("centres", &centres.collect::<Vec<_>>(), Stroke { colour: BLACK, width: 1.0, dash });
        }
    }
    for group in groups {
        styles.style(group).draw_centre(svg, "centre", frame.place(group.centre));
    }
}

/// Height of the plot, unless its legend is higher.
const HEIGHT: f64 = 220.0;
/// Room for a marker before a label.
const SAMPLE: f64 = 30.0;
/// From one label to the next.
const LABEL_GAP: f64 = 16.0;
/// From one line of a label to the next.
const LINE: f64 = 1.1 * TEXT;
/// A longer label is cut.
const LABEL_MAX: f64 = 124.0;
/// A longer rate is cut.
const RATE_MAX: f64 = 60.0;

/// The legend to the right of the plot.
#[derive(Default)]
struct Legend {
    lines: Vec<LegendLine>,
    pointers: Vec<Pointer>,
}

/// A line of the legend.
enum LegendLine {
    Heading(String),
    Sample(ScatterStyle, String),
}

/// A label with a line to the data point that it names.
struct Pointer {
    style: ScatterStyle,
    /// Whether its style is also that of a hull.
    outlined: bool,
    label: Vec<String>,
    to: (f64, f64),
}

impl Legend {
    fn of(scatter: &Scatter<'_>, styles: &ScatterStyles) -> Self {
        let mut legend = Self::default();
        if styles.methods.len() < 2 {
            legend.add_rates(styles, ScatterStyle::of);
        } else if styles.both() && scatter.groups.len() > POINTED_MAX {
            legend.add_rates(styles, |index| ScatterStyle { dash: "", ..ScatterStyle::of(index) });
            legend.lines.push(LegendLine::Heading("weights".to_owned()));
            for &method in &styles.methods {
                let style =
                    ScatterStyle { colour: BLACK, marker: Marker::Square, ..ScatterStyles::method(method) };
                legend.lines.push(LegendLine::Sample(style, method.to_string()));
            }
        } else {
            if styles.both() {
                legend.lines.push(LegendLine::Heading(format!("weights, {}", Axis::dropout())));
            }
            for group in scatter.groups {
                let label = vec![cut(&styles.name(group.method, &group.rate))];
                legend.pointers.push(Pointer {
                    style: styles.style(group),
                    outlined: true,
                    label,
                    to: group.centre,
                });
            }
        }
        let varying = varying(scatter.combined);
        for combined in scatter.combined {
            let shown = combined
                .rest
                .iter()
                .filter(|(name, _)| varying.contains(name.as_str()) || *name == Axis::dropout().as_str());
            let rest: String = shown.map(|(name, value)| format!(", {name} {value}")).collect();
            let label = vec![cut(&combined.name), cut(&format!("of {}{rest}", combined.members))];
            legend.pointers.push(Pointer {
                style: styles.combined(combined),
                outlined: false,
                label,
                to: combined.at,
            });
        }
        legend
    }

    fn add_rates(&mut self, styles: &ScatterStyles, style: impl Fn(usize) -> ScatterStyle) {
        for (index, rate) in styles.rates.iter().enumerate() {
            let Some(rate) = rate else { continue };
            if self.lines.is_empty() {
                self.lines.push(LegendLine::Heading(Axis::dropout().to_string()));
            }
            self.lines.push(LegendLine::Sample(style(index), fitted(&rate.to_string(), TEXT, RATE_MAX)));
        }
    }

    /// Its width on the page; zero if it is empty.
    fn width(&self) -> f64 {
        let line = |line: &LegendLine| match line {
            LegendLine::Heading(text) => text_width(text, TEXT),
            LegendLine::Sample(_, text) => SAMPLE + text_width(text, TEXT),
        };
        let label = |line: &String| SAMPLE + text_width(line, TEXT);
        self.lines
            .iter()
            .map(line)
            .chain(self.pointers.iter().flat_map(|pointer| &pointer.label).map(label))
            .fold(0.0, f64::max)
    }

    fn height(&self) -> f64 {
        self.lines_height() + self.pointer_gap() * self.pointers.len() as f64
    }

    fn lines_height(&self) -> f64 {
        let apart = if self.lines.is_empty() { 0.0 } else { self.pointer_gap() / 2.0 };
        LABEL_GAP * self.lines.len() as f64 + apart
    }

    /// The height of a pointer, that of the one with most lines of text.
    fn pointer_gap(&self) -> f64 {
        let most = self.pointers.iter().map(|pointer| pointer.label.len()).max().unwrap_or(1);
        LABEL_GAP + LINE * (most - 1) as f64
    }

    fn draw(&self, svg: &mut Svg, frame: &Frame) {
        let x = frame.right() + 14.0;
        for (index, line) in self.lines.iter().enumerate() {
            let y = frame.top + TEXT / 2.0 + LABEL_GAP * index as f64;
            match line {
                LegendLine::Heading(text) => svg.text((x, y + TEXT / 2.0), TEXT, Anchor::Start, text),
                LegendLine::Sample(style, text) => {
                    style.draw_sample(svg, (x, y), true);
                    svg.text((x + SAMPLE, y + 0.36 * TEXT), TEXT, Anchor::Start, text);
                }
            }
        }
        let places: Vec<(f64, f64)> = self.pointers.iter().map(|pointer| frame.place(pointer.to)).collect();
        let wanted: Vec<f64> = places.iter().map(|place| place.1).collect();
        let placed = spread(&wanted, self.pointer_gap(), frame.top + self.lines_height(), frame.bottom());
        for ((pointer, place), y) in self.pointers.iter().zip(places).zip(placed) {
            // A white rim separates the line from the points that it crosses.
            svg.polyline("rim", &[place, (x - 3.0, y)], Stroke::solid("#ffffff", 2.0));
            svg.polyline("leader", &[place, (x - 3.0, y)], Stroke::solid("#606060", 0.7));
            pointer.style.draw_sample(svg, (x, y), pointer.outlined);
            let first = y + 0.36 * TEXT - LINE * (pointer.label.len() - 1) as f64 / 2.0;
            for (index, line) in pointer.label.iter().enumerate() {
                svg.text((x + SAMPLE, first + LINE * index as f64), TEXT, Anchor::Start, line);
            }
        }
    }
}

/// The parameters on which combinations differ.
fn varying(combined: &[Combined]) -> BTreeSet<&str> {
    let names: BTreeSet<&str> =
        combined.iter().flat_map(|combined| combined.rest.keys()).map(String::as_str).collect();
    names
        .into_iter()
        .filter(|name| combined.iter().any(|other| other.rest.get(*name) != combined[0].rest.get(*name)))
        .collect()
}

fn cut(label: &str) -> String {
    fitted(label, TEXT, LABEL_MAX)
}
