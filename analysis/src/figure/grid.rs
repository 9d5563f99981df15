//! A heat map over two axes: the mean o.o.d. accuracy of each pair of values. There is a panel for each held-out domain, and one for the
//! mean.

use std::collections::{BTreeMap, BTreeSet};

use super::colormap::Shade;
use super::frame::{MARGIN, NOTE, draw_heading, rows};
use super::page::FigurePage;
use super::svg::{Anchor, BLACK, GREY, Picture, Stroke, Svg, TEXT, fitted, text_width};
use crate::axis::{Axis, AxisValue};
use crate::results::Results;
use crate::scale::Scale;

/// The data of the figure.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Grid {
    /// Values of the first axis, from top to bottom.
    pub rows: Vec<String>,
    /// Values of the second axis, from left to right.
    pub columns: Vec<String>,
    /// The held-out domains in the dataset's order, then the mean.
    pub panels: Vec<GridPanel>,
}

/// One heat map.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct GridPanel {
    pub title: String,
    /// Cells by row, then by column; none if no trial is planned.
    pub cells: Vec<Vec<Option<GridCell>>>,
}

/// One pair of values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct GridCell {
    /// The mean o.o.d. value as figures place it; none without trials.
    pub value: Option<f64>,
    pub done: usize,
    pub planned: usize,
    /// Whether this is the best cell of a panel without incomplete cells.
    pub best: bool,
}

impl GridCell {
    fn new(scale: &Scale, mean: Option<f64>, done: usize, planned: usize) -> Self {
        Self { value: mean.map(|mean| scale.plotted(mean)), done, planned, best: false }
    }

    fn is_complete(&self) -> bool {
        self.done == self.planned && self.value.is_some()
    }

    /// The value, and done/planned if trials are missing.
    fn texts(&self, scale: &Scale) -> (String, Option<String>) {
        let number = self.value.map_or_else(|| "–".to_owned(), |value| scale.plotted_text(value));
        (number, (self.done < self.planned).then(|| format!("{}/{}", self.done, self.planned)))
    }
}

impl Grid {
    /// The grid of results by two axes.
    pub(super) fn of(results: &Results) -> Self {
        let scale = results.scale();
        let pairs = || results.means.iter().filter_map(|mean| pair(&mean.row));
        let rows: BTreeSet<&AxisValue> = pairs().map(|(row, _)| row).collect();
        let columns: BTreeSet<&AxisValue> = pairs().map(|(_, column)| column).collect();
        let panel = |title: &str, cells: BTreeMap<(&AxisValue, &AxisValue), GridCell>| {
            let row =
                |row: &AxisValue| columns.iter().map(|column| cells.get(&(row, *column)).copied()).collect();
            let mut panel =
                GridPanel { title: title.to_owned(), cells: rows.iter().map(|value| row(value)).collect() };
            panel.mark_best(&scale);
            panel
        };
        let mut panels: Vec<GridPanel> = Vec::new();
        for domain in &results.domains {
            let cells = results.cells.iter().filter(|cell| cell.held_out.as_ref() == Some(domain));
            let cells = cells.filter_map(|cell| {
                Some((pair(&cell.row)?, GridCell::new(&scale, cell.ood.mean, cell.ood.n, cell.planned)))
            });
            panels.push(panel(domain, cells.collect()));
        }
        let means = results.means.iter();
        let means = means.filter_map(|mean| {
            Some((pair(&mean.row)?, GridCell::new(&scale, mean.ood.mean, mean.ood.n, mean.replicates)))
        });
        panels.push(panel("mean", means.collect()));
        let names = |values: &BTreeSet<&AxisValue>| values.iter().map(|value| value.to_string()).collect();
        Self { rows: names(&rows), columns: names(&columns), panels }
    }

    fn cells(&self) -> impl Iterator<Item = &GridCell> {
        self.panels.iter().flat_map(GridPanel::cells)
    }
}

/// The values of a row of results by two axes.
fn pair(row: &[(Axis, AxisValue)]) -> Option<(&AxisValue, &AxisValue)> {
    if let [(_, row), (_, column)] = row { Some((row, column)) } else { None }
}

impl GridPanel {
    fn cells(&self) -> impl Iterator<Item = &GridCell> {
        self.cells.iter().flatten().flatten()
    }

    fn mark_best(&mut self, scale: &Scale) {
        let complete = self.cells.iter().flatten().all(|cell| cell.is_some_and(|cell| cell.is_complete()));
        let best = scale.best(self.cells().filter_map(|cell| cell.value));
        if complete && self.cells().count() > 1 {
            // What looks equal to the best is marked like it.
            let shown = |value: f64| scale.plotted_text(value);
            let is_best = |cell: &GridCell| cell.value.map(shown) == best.map(shown);
            self.cells.iter_mut().flatten().flatten().for_each(|cell| cell.best = is_best(cell));
        }
    }

    /// The lowest and the highest value. Shades of per cent span at least a point, so that small differences do not look large.
    fn shades(&self, scale: &Scale) -> (f64, f64) {
        let numbers = || self.cells().filter_map(|cell| cell.value);
        let (low, high) =
            (numbers().fold(f64::INFINITY, f64::min), numbers().fold(f64::NEG_INFINITY, f64::max));
        let span = if scale.is_percent() { SCALE_MIN } else { 0.0 };
        (low, high.max(low + span))
    }

    fn is_flat(&self) -> bool {
        let numbers = || self.cells().filter_map(|cell| cell.value);
        numbers()
            .reduce(f64::max)
            .zip(numbers().reduce(f64::min))
            .is_some_and(|(high, low)| high - low < SCALE_MIN)
    }
}

/// The smallest span of the colours, in percentage points.
const SCALE_MIN: f64 = 1.0;
/// Height of a cell: two lines of text.
const HEIGHT: f64 = 26.0;
/// Between panels.
const GAP: f64 = 12.0;
/// The least width of a cell, unless there are too many, and the largest.
const WIDTHS: (f64, f64) = (30.0, 46.0);
/// A longer label is cut.
const LABEL_MAX: f64 = 60.0;

/// Sizes that all panels share.
struct Layout {
    /// The number of panels in a row.
    beside: usize,
    /// The width of a panel's row labels.
    labels: f64,
    /// Width of a cell.
    cell: f64,
    /// Whether the numbers fit.
    numbers: bool,
}

impl Layout {
    fn of(page: &FigurePage, grid: &Grid, scale: &Scale) -> Self {
        let room = page.units() - 2.0 * MARGIN;
        let labels = grid.rows.iter().map(|label| text_width(label, NOTE).min(LABEL_MAX)).fold(0.0, f64::max)
            + 1.5 * NOTE
            + 5.0;
        let columns = grid.columns.len().max(1) as f64;
        let fitting = ((room + GAP) / (labels + columns * WIDTHS.0 + GAP)).floor();
        let beside = fitting.clamp(1.0, grid.panels.len().max(1) as f64);
        let cell = (((room + GAP) / beside - GAP - labels) / columns).min(WIDTHS.1);
        let widest = grid.cells().map(|cell| text_width(&cell.texts(scale).0, NOTE)).fold(0.0, f64::max);
        Self { beside: beside as usize, labels, cell, numbers: widest + 2.0 <= cell }
    }
}

/// Writes the figure.
pub(super) fn draw(page: &FigurePage, grid: &Grid, results: &Results, averaged: &[Axis]) -> Picture {
    let mut svg = Svg::default();
    let scale = results.scale();
    let layout = Layout::of(page, grid, &scale);
    let notes = notes(grid, &layout, results, averaged);
    let mut y = draw_heading(&mut svg, page, &results.sweep, &notes) + 0.5 * TEXT;
    let step = layout.labels + layout.cell * grid.columns.len() as f64 + GAP;
    for panels in grid.panels.chunks(layout.beside) {
        let mut below = y;
        for (index, panel) in panels.iter().enumerate() {
            below = below.max(draw_panel(
                &mut svg,
                (MARGIN + step * index as f64, y),
                panel,
                grid,
                &layout,
                (&results.axes, &scale),
            ));
        }
        y = below + GAP;
    }
    draw_scale(&mut svg, y);
    svg.finish(
        &format!("{}: o.o.d. {} by two axes", results.sweep, scale.name()),
        page.units(),
        y + TEXT + MARGIN,
    )
}

fn notes(grid: &Grid, layout: &Layout, results: &Results, averaged: &[Axis]) -> Vec<String> {
    let mut notes = super::notes::notes(results, averaged, true);
    let scale = results.scale();
    let shown = scale.with_unit(&format!("mean o.o.d. {}", scale.name()));
    let mut reading = vec![format!("{shown}; the panel \"mean\" is over held-out domains")];
    if !layout.numbers {
        reading.push("no room for numbers: each panel's title has its lowest and highest; a stroke: trials are missing".to_owned());
    } else if grid.cells().any(|cell| cell.done < cell.planned) {
        reading.push("done/planned where some are missing".to_owned());
    }
    if scale.is_percent() && grid.panels.iter().any(GridPanel::is_flat) {
        reading.push("shades reach at least one point above a panel's lowest".to_owned());
    }
    if grid.cells().any(|cell| cell.best) {
        reading.push("black frame: best of a complete panel".to_owned());
    }
    notes.push(reading.join("; "));
    notes
}

/// Draws a panel at its upper left corner. Returns the y position below it.
fn draw_panel(
    svg: &mut Svg,
    (left, top): (f64, f64),
    panel: &GridPanel,
    grid: &Grid,
    layout: &Layout,
    (axes, scale): (&[Axis], &Scale),
) -> f64 {
    let (width, height) = (layout.cell * grid.columns.len() as f64, HEIGHT * grid.rows.len() as f64);
    let (x, y) = (left + layout.labels, top + 0.5 * TEXT);
    let shades = panel.shades(scale);
    let numbers = || panel.cells().filter_map(|cell| cell.value);
    let range = match (layout.numbers, numbers().reduce(f64::min), numbers().reduce(f64::max)) {
        (false, Some(low), Some(high)) => {
            format!(" ({} to {})", scale.plotted_text(low), scale.plotted_text(high))
        }
        _ => String::new(),
    };
    let room = layout.labels + width - text_width(&range, TEXT);
    svg.text((left, top), TEXT, Anchor::Start, &(fitted(&panel.title, TEXT, room) + &range));
    let name = |index: usize, room: f64| {
        fitted(&axes.get(index).map(Axis::to_string).unwrap_or_default(), NOTE, room)
    };
    svg.text_upwards((left + NOTE, y + height / 2.0), NOTE, &name(0, height));
    for (index, (label, cells)) in grid.rows.iter().zip(&panel.cells).enumerate() {
        let y = y + HEIGHT * index as f64;
        let label = fitted(label, NOTE, LABEL_MAX);
        svg.text((x - 5.0, y + HEIGHT / 2.0 + 0.36 * NOTE), NOTE, Anchor::End, &label);
        for (column, cell) in cells.iter().enumerate() {
            draw_cell(svg, (x + layout.cell * column as f64, y), cell.as_ref(), shades, (layout, scale));
        }
    }
    // Frames are drawn over the neighbouring cells.
    for (index, cells) in panel.cells.iter().enumerate() {
        for (column, _) in cells.iter().enumerate().filter(|(_, cell)| cell.is_some_and(|cell| cell.best)) {
            let corner = (x + layout.cell * column as f64, y + HEIGHT * index as f64);
            svg.rectangle("rim", corner, (layout.cell, HEIGHT), "none", Stroke::solid("#ffffff", 4.4));
            svg.rectangle("best", corner, (layout.cell, HEIGHT), "none", Stroke::solid(BLACK, 2.4));
        }
    }
    let place = |(index, label): (usize, &String)| {
        (x + layout.cell * (index as f64 + 0.5), fitted(label, NOTE, LABEL_MAX))
    };
    let labels: Vec<(f64, String)> = grid.columns.iter().enumerate().map(place).collect();
    let rows = rows(&labels, NOTE, 3);
    let mut below = y + height + 2.0;
    for ((x, label), row) in labels.iter().zip(&rows) {
        if let Some(row) = row {
            svg.text((*x, below + 1.2 * NOTE * (row + 1) as f64), NOTE, Anchor::Middle, label);
        }
    }
    below += 1.2 * NOTE * (2 + rows.iter().flatten().max().unwrap_or(&0)) as f64;
    svg.text((x + width / 2.0, below), NOTE, Anchor::Middle, &name(1, width + layout.labels));
    below + GAP
}

fn draw_cell(
    svg: &mut Svg,
    (x, y): (f64, f64),
    cell: Option<&GridCell>,
    (low, high): (f64, f64),
    (layout, scale): (&Layout, &Scale),
) {
    let Some(cell) = cell else { return };
    let shade =
        cell.value.map(|value| Shade::at(if high > low { (value - low) / (high - low) } else { 0.0 }));
    let (fill, ink) =
        shade.map_or_else(|| ("#ffffff".to_owned(), BLACK), |shade| (shade.colour(), shade.ink()));
    let edge = if shade.is_some() { "#ffffff" } else { GREY };
    svg.rectangle(
        "cell",
        (x + 0.5, y + 0.5),
        (layout.cell - 1.0, HEIGHT - 1.0),
        &fill,
        Stroke::solid(edge, 1.0),
    );
    let (number, progress) = cell.texts(scale);
    if !layout.numbers {
        if progress.is_some() {
            svg.polyline(
                "missing",
                &[(x + 2.0, y + HEIGHT - 2.0), (x + layout.cell - 2.0, y + 2.0)],
                Stroke::solid(ink, 0.9),
            );
        }
        return;
    }
    let middle = x + layout.cell / 2.0;
    let base = y + if progress.is_some() { 0.46 * HEIGHT } else { HEIGHT / 2.0 + 0.36 * NOTE };
    svg.text_in(ink, (middle, base), NOTE, &number);
    if let Some(progress) = progress {
        svg.text_in(ink, (middle, y + 0.85 * HEIGHT), NOTE, &fitted(&progress, NOTE, layout.cell));
    }
}

/// Draws the colour scale.
fn draw_scale(svg: &mut Svg, y: f64) {
    const STEPS: usize = 24;
    const STEP: f64 = 4.0;
    let (first, last) = ("lowest", "highest of a panel");
    let x = MARGIN + text_width(first, NOTE) + 5.0;
    svg.text((MARGIN, y + 0.36 * NOTE), NOTE, Anchor::Start, first);
    for step in 0..STEPS {
        let colour = Shade::at(step as f64 / (STEPS - 1) as f64).colour();
        let edge = Stroke::solid(BLACK, 0.0);
        // Each rectangle is a little wider than the step, so that there are no gaps.
        svg.rectangle("scale", (x + STEP * step as f64, y - 5.0), (STEP + 0.3, 10.0), &colour, edge);
    }
    svg.text((x + STEP * STEPS as f64 + 5.0, y + 0.36 * NOTE), NOTE, Anchor::Start, last);
}
