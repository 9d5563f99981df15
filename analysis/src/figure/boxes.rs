//! Box plots of the accuracies of single trials by the values of one axis. There is a panel for each held-out domain, and one for the mean.

use super::frame::{Frame, MARGIN, NOTE, Ticks, draw_heading, rows};
use super::page::FigurePage;
use super::svg::{Anchor, BLACK, Fill, Marker, Picture, Stroke, Svg, TEXT, fitted, text_width};
use crate::axis::{Axis, AxisValue};
use crate::metric_spec::MeasuredPair;
use crate::results::Results;
use crate::scale::Scale;
use crate::statistics::quantile;

/// The boxes of one held-out domain, or of the mean over all.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct BoxPanel {
    pub title: String,
    /// One group per value of the axis.
    pub groups: Vec<BoxGroup>,
}

/// The trials with one value of the axis.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct BoxGroup {
    pub label: String,
    pub n: usize,
    pub planned: usize,
    /// The spread of o.o.d. values as figures place them; none without trials.
    pub ood: Option<Spread>,
    /// The spread of i.i.d. accuracies.
    pub iid: Option<Spread>,
}

/// The quartiles, whiskers and outliers of Tukey's box plot.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Spread {
    /// First quartile, median, third quartile.
    pub quartiles: [f64; 3],
    /// The lowest and highest values within 1.5 interquartile ranges of the box.
    pub whiskers: (f64, f64),
    /// The values beyond the whiskers, ascending.
    pub outliers: Vec<f64>,
}

impl Spread {
    /// The spread of these values; none without values.
    pub(super) fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let quartile = |part| quantile(&values, part);
        let quartiles = [quartile(0.25)?, quartile(0.5)?, quartile(0.75)?];
        let [first, _, third] = quartiles;
        let reach = 1.5 * (third - first);
        let (inside, outliers): (Vec<f64>, Vec<f64>) =
            values.into_iter().partition(|value| (first - reach..=third + reach).contains(value));
        // A quartile lies between two values, so the outermost value within reach may be inside the box.
        let low = inside.first().copied().unwrap_or(first).min(first);
        let high = inside.last().copied().unwrap_or(third).max(third);
        Some(Self { quartiles, whiskers: (low, high), outliers })
    }

    fn ends(&self) -> impl Iterator<Item = f64> + '_ {
        self.outliers.iter().copied().chain([self.whiskers.0, self.whiskers.1])
    }
}

/// The panels of results by one axis: the held-out domains in the dataset's order, then the mean.
pub(super) fn panels(results: &Results) -> Vec<BoxPanel> {
    let scale = results.scale();
    let mut panels: Vec<BoxPanel> = Vec::new();
    for domain in &results.domains {
        let groups = results.means.iter().map(|mean| {
            let cell = results
                .cells
                .iter()
                .find(|cell| cell.held_out.as_ref() == Some(domain) && cell.row == mean.row);
            let (values, planned) = cell.map_or((&[][..], 0), |cell| (&cell.values, cell.planned));
            group(&mean.row, values, planned, &scale)
        });
        panels.push(BoxPanel { title: domain.clone(), groups: groups.collect() });
    }
    let groups = results.means.iter().map(|mean| group(&mean.row, &mean.values, mean.replicates, &scale));
    let title = "mean over held-out domains".to_owned();
    panels.push(BoxPanel { title, groups: groups.collect() });
    panels
}

fn group(row: &[(Axis, AxisValue)], values: &[MeasuredPair], planned: usize, scale: &Scale) -> BoxGroup {
    let label = row.iter().map(|(_, value)| value.to_string()).collect::<Vec<_>>().join(" ");
    let spread = |of: fn(&MeasuredPair) -> f64| {
        Spread::of(values.iter().map(|value| scale.plotted(of(value))).collect())
    };
    BoxGroup {
        label,
        n: values.len(),
        planned,
        ood: spread(|value| value.ood),
        iid: spread(|value| value.iid),
    }
}

/// Height of a plot.
const HEIGHT: f64 = 78.0;
/// Between the o.o.d. and the i.i.d. plot, and between panels.
const GAP: f64 = 12.0;
/// The width of a label that is always allowed; a longer one may be cut.
const LABEL_MAX: f64 = 60.0;
/// The largest number of label rows below a plot.
const ROWS_MAX: usize = 3;
/// The height of a row.
const ROW: f64 = 1.2 * NOTE;

/// The plots of one kind of accuracy, in one column.
struct PlotColumn {
    left: f64,
    /// Width of a plot with its numbers.
    width: f64,
    title: String,
    spread: fn(&BoxGroup) -> &Option<Spread>,
}

fn columns(page: &FigurePage, scale: &Scale) -> [PlotColumn; 2] {
    let width = (page.units() - 2.0 * MARGIN - GAP) / 2.0;
    let title = |of: &str| fitted(&scale.with_unit(&format!("{of} {}", scale.name())), TEXT, width);
    [
        PlotColumn { left: MARGIN, width, title: title("o.o.d."), spread: |group| &group.ood },
        PlotColumn { left: MARGIN + width + GAP, width, title: title("i.i.d."), spread: |group| &group.iid },
    ]
}

/// Writes the figure.
pub(super) fn draw(
    page: &FigurePage,
    panels: &[BoxPanel],
    results: &Results,
    spread_over: &[Axis],
) -> Picture {
    let mut svg = Svg::default();
    let axis = results.axes.first().map(Axis::to_string).unwrap_or_default();
    let top = draw_heading(&mut svg, page, &results.sweep, &notes(panels, results, spread_over));
    let mut y = top;
    let scale = results.scale();
    let columns = columns(page, &scale);
    // The same for both, so that their plots and labels are level.
    let margin = columns.iter().map(|column| column.margin(panels)).fold(0.0, f64::max);
    for column in &columns {
        svg.text((column.left, top + 0.5 * TEXT), TEXT, Anchor::Start, &column.title);
        y = top + TEXT;
        for (index, panel) in panels.iter().enumerate() {
            y += 2.0 * TEXT;
            let ticks = column.ticks(panel);
            let x = (-0.5, panel.groups.len() as f64 - 0.5);
            let frame = Frame {
                left: column.left + margin,
                top: y,
                width: column.width - margin,
                height: page.height(HEIGHT),
                x,
                y: ticks.range(),
            };
            column.draw_panel(&mut svg, &frame, panel, &ticks);
            y = column.draw_labels(&mut svg, &frame, panel, (page, index + 1 == panels.len())) + GAP;
        }
        let middle = column.left + (margin + column.width) / 2.0;
        svg.text((middle, y + 2.0), TEXT, Anchor::Middle, &fitted(&axis, TEXT, column.width));
    }
    svg.finish(&format!("{}: {} by {axis}", results.sweep, scale.name()), page.units(), y + 2.0 + MARGIN)
}

fn notes(panels: &[BoxPanel], results: &Results, spread_over: &[Axis]) -> Vec<String> {
    let mut notes = super::notes::notes(results, &[], true);
    let names: Vec<&str> = spread_over.iter().map(|axis| axis.as_str()).collect();
    let over =
        if names.is_empty() { String::new() } else { format!(", which differ in {}", names.join(", ")) };
    notes.push(format!(
        "boxes: median and quartiles of trials{over} (of the mean: where it is done on every held-out domain); whiskers: to the last \
         within 1.5 interquartile ranges; circles: beyond"
    ));
    let missing = panels.iter().flat_map(|panel| &panel.groups).any(|group| group.n < group.planned);
    let missing = if missing { ", done/planned where some are missing" } else { "" };
    notes.push(format!("n: how many there are{missing}; every plot has a scale of its own"));
    notes
}

impl PlotColumn {
    fn ticks(&self, panel: &BoxPanel) -> Ticks {
        Ticks::few(
            panel.groups.iter().filter_map(|group| (self.spread)(group).as_ref()).flat_map(Spread::ends),
        )
    }

    /// The width of the numbers. It is the same for all plots of a column, so that their boxes are aligned.
    fn margin(&self, panels: &[BoxPanel]) -> f64 {
        let widest = |panel: &BoxPanel| {
            let ticks = self.ticks(panel);
            ticks.values.iter().map(|value| text_width(&ticks.label(*value), TEXT)).fold(0.0, f64::max)
        };
        panels.iter().map(widest).fold(0.0, f64::max) + 5.0
    }

    fn draw_panel(&self, svg: &mut Svg, frame: &Frame, panel: &BoxPanel, ticks: &Ticks) {
        if self.left == MARGIN {
            // The title spans both columns.
            let title = fitted(&panel.title, TEXT, 2.0 * self.width + GAP);
            svg.text((MARGIN, frame.top - 0.7 * TEXT), TEXT, Anchor::Start, &title);
        }
        if panel.groups.iter().any(|group| (self.spread)(group).is_some()) {
            frame.draw_y_numbers(svg, ticks);
        }
        svg.polyline(
            "axis",
            &[(frame.left, frame.bottom()), (frame.right(), frame.bottom())],
            Stroke::solid(BLACK, 1.0),
        );
        let width = (0.6 * frame.width / panel.groups.len() as f64).min(22.0);
        for (index, group) in panel.groups.iter().enumerate() {
            let (x, y) = frame.place((index as f64, frame.y.0));
            svg.polyline("tick", &[(x, y), (x, y + 3.0)], Stroke::solid(BLACK, 0.8));
            if let Some(spread) = (self.spread)(group) {
                draw_box(svg, frame, index as f64, width, spread);
            }
        }
    }

    /// Writes the counts below each box, and the groups' names below them. Names that need several rows are only below the last panel.
    /// Returns the y position below the labels.
    fn draw_labels(
        &self,
        svg: &mut Svg,
        frame: &Frame,
        panel: &BoxPanel,
        (page, last): (&FigurePage, bool),
    ) -> f64 {
        let pitch = frame.width / panel.groups.len() as f64;
        let mut y = frame.bottom() + 2.0;
        svg.text((self.left, y + ROW), NOTE, Anchor::Start, "n");
        let counts: Vec<String> = panel.groups.iter().map(count).collect();
        let names: Vec<String> =
            panel.groups.iter().map(|group| fitted(&group.label, NOTE, LABEL_MAX.max(pitch - 4.0))).collect();
        for (texts, always) in [(counts, true), (names, last)] {
            let place = |(index, text): (usize, String)| {
                let (x, _) = frame.place((index as f64, frame.y.0));
                // The last label may be wider than its box, but must not leave the page.
                (x.min(page.units() - text_width(&text, NOTE) / 2.0 - 1.0), text)
            };
            let texts: Vec<(f64, String)> = texts.into_iter().enumerate().map(place).collect();
            let rows = rows(&texts, NOTE, ROWS_MAX);
            if !always && rows.iter().any(|row| *row != Some(0)) {
                continue;
            }
            for ((x, text), row) in texts.iter().zip(&rows) {
                if let Some(row) = row {
                    svg.text((*x, y + ROW * (row + 1) as f64), NOTE, Anchor::Middle, text);
                }
            }
            y += ROW * rows.iter().flatten().max().map_or(1, |row| row + 1) as f64;
        }
        y
    }
}

/// The number of trials; done/planned if some are missing.
fn count(group: &BoxGroup) -> String {
    if group.n < group.planned { format!("{}/{}", group.n, group.planned) } else { group.n.to_string() }
}

fn draw_box(svg: &mut Svg, frame: &Frame, at: f64, width: f64, spread: &Spread) {
    let place = |value: f64| frame.place((at, value));
    let [(x, first), (_, median), (_, third)] = spread.quartiles.map(place);
    let thin = Stroke::solid(BLACK, 0.9);
    for (from, to) in [(first, place(spread.whiskers.0).1), (third, place(spread.whiskers.1).1)] {
        svg.polyline("whisker", &[(x, from), (x, to)], thin);
        svg.polyline("cap", &[(x - width / 4.0, to), (x + width / 4.0, to)], thin);
    }
    svg.rectangle("box", (x - width / 2.0, third), (width, first - third), "#bcd9ea", thin);
    svg.polyline(
        "median",
        &[(x - width / 2.0, median), (x + width / 2.0, median)],
        Stroke::solid(BLACK, 2.0),
    );
    for &value in &spread.outliers {
        svg.marker("outlier", Marker::Circle, place(value), 1.7, BLACK, Fill::Open);
    }
}
