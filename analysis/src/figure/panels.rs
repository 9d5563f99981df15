//! Scatter plots beside each other, one for each dataset, with one legend below them.

use super::FigureError;
use super::frame::{Frame, MARGIN, Ticks, draw_heading};
use super::page::FigurePage;
use super::scatter::{dots_note, drawn_max};
use super::scatter_points::{ScatterGroup, ScatterPoint};
use super::scatter_styles::ScatterStyle;
use super::svg::{Anchor, BLACK, Picture, Stroke, Svg, TEXT, fitted, text_width};
use crate::results::Results;

/// The least width of a panel.
const PANEL_MIN: f64 = 165.0;
/// The height of a plot at most, and at least.
const HEIGHT: [f64; 2] = [115.0, 240.0];
/// Room for a sample in the legend.
const SAMPLE: f64 = 30.0;
/// From one entry of the legend to the next, and from one line to the next.
const ENTRY_GAP: [f64; 2] = [14.0, 16.0];

/// The panels of a picture.
pub(super) struct Panels {
    /// What the groups and points of all panels look like.
    pub looks: Vec<Look>,
    pub panels: Vec<Panel>,
    /// Whether a line joins the centres of a panel's groups.
    pub joins_centres: bool,
    /// Lines on what is missing.
    pub missing: Vec<String>,
    /// For the notes: counts of all datasets.
    pub results: Results,
}

/// How a group or a point looks, and what it is called.
pub(super) struct Look {
    pub label: String,
    pub style: ScatterStyle,
    /// Whether it has a hull.
    pub is_group: bool,
}

/// The groups and points of one dataset, by the numbers of their looks.
pub(super) struct Panel {
    pub title: String,
    pub groups: Vec<(usize, ScatterGroup)>,
    pub points: Vec<(usize, ScatterPoint)>,
}

impl Panels {
    /// Draws the picture.
    pub(super) fn draw(&self, page: &FigurePage) -> Result<Picture, FigureError> {
        let mut svg = Svg::default();
        let mut y = draw_heading(&mut svg, page, &self.results.sweep, &self.notes());
        let left = MARGIN + 1.5 * TEXT;
        let room = page.units() - left;
        let columns = ((room / PANEL_MIN) as usize).clamp(1, self.panels.len().max(1));
        let width = room / columns as f64;
        let scale = self.results.scale();
        let title = |of: &str| scale.with_unit(&format!("{of} {}", scale.name()));
        for (row, panels) in self.panels.chunks(columns).enumerate() {
            let mut bottom = y;
            // Below the last panel of a column stands the title of its axis.
            let below = self.panels.len().saturating_sub((row + 1) * columns);
            for (column, panel) in panels.iter().enumerate() {
                let place = (left + width * column as f64, y + 1.4 * TEXT);
                let x_title = if column < below { String::new() } else { title("i.i.d.") };
                let frame = self.draw_panel(&mut svg, panel, place, width, &x_title);
                bottom = bottom.max(frame.1);
                if column == 0 {
                    let middle = frame.0.top + frame.0.height / 2.0;
                    svg.text_upwards((MARGIN + 0.8 * TEXT, middle), TEXT, &title("o.o.d."));
                }
            }
            y = bottom + 2.0;
        }
        y = self.draw_legend(&mut svg, page, y + 4.0);
        let name = format!("{}: o.o.d. against i.i.d. {}", self.results.sweep, scale.name());
        Ok(svg.finish(&name, page.units(), y))
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = super::notes::notes(&self.results, &[], true);
        let groups: Vec<&ScatterGroup> =
            self.panels.iter().flat_map(|panel| &panel.groups).map(|(_, group)| group).collect();
        let is_one = self.looks.len() < 2;
        notes.extend(dots_note(&groups, drawn_max(groups.len()), if is_one { "" } else { " per group" }));
        if self.panels.iter().any(|panel| !panel.points.is_empty()) {
            notes.push("black: models made of several trials, mean over held-out domains".to_owned());
        }
        notes.extend(self.missing.iter().cloned());
        notes
    }

    /// Draws a panel at a place; `width` is that of its column. Returns its frame and the y position below it.
    fn draw_panel(
        &self,
        svg: &mut Svg,
        panel: &Panel,
        (left, top): (f64, f64),
        width: f64,
        x_title: &str,
    ) -> (Frame, f64) {
        let places = || {
            let corners = panel.groups.iter().flat_map(|(_, group)| &group.hull);
            corners.chain(panel.points.iter().map(|(_, at)| at))
        };
        let x_ticks = Ticks::few(places().map(|place| place.0));
        let y_ticks = Ticks::around(places().map(|place| place.1));
        let widest =
            y_ticks.values.iter().map(|value| text_width(&y_ticks.label(*value), TEXT)).fold(0.0, f64::max);
        let plot = width - widest - 5.0 - MARGIN;
        let [least, most] = HEIGHT;
        let frame = Frame {
            left: left + widest + 5.0,
            top,
            width: plot,
            height: (0.85 * plot).clamp(least, most),
            x: x_ticks.range(),
            y: y_ticks.range(),
        };
        let name = fitted(&panel.title, TEXT, plot);
        svg.text((frame.left + plot / 2.0, top - 0.5 * TEXT), TEXT, Anchor::Middle, &name);
        frame.draw_y_numbers(svg, &y_ticks);
        let numbers: Vec<(f64, String)> =
            x_ticks.values.iter().map(|&value| (value, x_ticks.label(value))).collect();
        let bottom = frame.draw_x_axis(svg, &numbers, x_title);
        let bottom = if x_title.is_empty() { bottom - TEXT } else { bottom };
        let most = drawn_max(self.panels.iter().map(|panel| panel.groups.len()).sum());
        for (look, group) in &panel.groups {
            let points = group.points(most).map(|point| frame.place(point));
            let radius = if group.choices > 200 { 0.8 } else { 1.5 };
            svg.dots("points", points, self.looks[*look].style.colour, radius);
        }
        for (look, group) in &panel.groups {
            let corners: Vec<(f64, f64)> = group.hull.iter().map(|corner| frame.place(*corner)).collect();
            svg.polygon("hull", &corners, self.looks[*look].style.outline());
        }
        if self.joins_centres {
            let centres: Vec<(f64, f64)> =
                panel.groups.iter().map(|(_, group)| frame.place(group.centre)).collect();
            svg.polyline("centres", &centres, Stroke::solid(BLACK, 1.0));
        }
        for (look, group) in &panel.groups {
            self.looks[*look].style.draw_centre(svg, "centre", frame.place(group.centre));
        }
        for (look, at) in &panel.points {
            self.looks[*look].style.draw_centre(svg, "combined", frame.place(*at));
        }
        (frame, bottom)
    }

    /// Draws the legend in lines. Returns the y position below it.
    fn draw_legend(&self, svg: &mut Svg, page: &FigurePage, top: f64) -> f64 {
        let [apart, line] = ENTRY_GAP;
        let end = page.units() - MARGIN;
        let (mut x, mut y) = (MARGIN, top + TEXT / 2.0);
        for Look { label, style, is_group } in &self.looks {
            let label = fitted(label, TEXT, end - MARGIN - SAMPLE);
            let width = SAMPLE + text_width(&label, TEXT);
            if x > MARGIN && x + width > end {
                (x, y) = (MARGIN, y + line);
            }
            style.draw_sample(svg, (x, y), *is_group);
            svg.text((x + SAMPLE, y + 0.36 * TEXT), TEXT, Anchor::Start, &label);
            x += width + apart;
        }
        y + line
    }
}
