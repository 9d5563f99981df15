//! The legend to the right of a scatter plot: a list of settings and methods, or labels that point at groups and combinations.

use std::collections::BTreeSet;

use sortie_core::combine::{COMBINE, MEMBERS};

use super::frame::{Frame, spread};
use super::page::FigurePage;
use super::scatter_points::{Combined, Scatter};
use super::scatter_styles::{ScatterStyle, ScatterStyles};
use super::settings::{label, names, value_label};
use super::svg::{Anchor, BLACK, Marker, Stroke, Svg, TEXT, text_width, wrapped};

/// With more groups than this, the legend lists settings and methods instead of pointing at each group.
const POINTED_MAX: usize = 6;
/// Room for a marker before a label.
const SAMPLE: f64 = 30.0;
/// From one label to the next.
const LABEL_GAP: f64 = 16.0;
/// From one line of a label to the next.
const LINE: f64 = 1.1 * TEXT;
/// A longer label is broken or cut.
const LABEL_MAX: f64 = 124.0;

/// The legend to the right of the plot.
#[derive(Default)]
pub(super) struct Legend {
    lines: Vec<LegendLine>,
    pointers: Vec<Pointer>,
}

/// A line of the legend.
enum LegendLine {
    Heading(String),
    Sample(ScatterStyle, Vec<String>),
}

impl LegendLine {
    fn height(&self) -> f64 {
        match self {
            Self::Heading(_) => LABEL_GAP,
            Self::Sample(_, lines) => LABEL_GAP + LINE * lines.len().saturating_sub(1) as f64,
        }
    }

    fn width(&self) -> f64 {
        match self {
            Self::Heading(text) => text_width(text, TEXT),
            Self::Sample(_, lines) => {
                SAMPLE + lines.iter().map(|line| text_width(line, TEXT)).fold(0.0, f64::max)
            }
        }
    }
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
    pub(super) fn of(page: &FigurePage, scatter: &Scatter<'_>, styles: &ScatterStyles) -> Self {
        let mut legend = Self::default();
        let label_max = page.label(LABEL_MAX);
        if styles.methods.len() < 2 {
            legend.add_settings(scatter, styles, label_max, ScatterStyle::of);
        } else if styles.both() && scatter.groups.len() > POINTED_MAX {
            let plain = |index| ScatterStyle { dash: "", ..ScatterStyle::of(index) };
            legend.add_settings(scatter, styles, label_max, plain);
            legend.lines.push(LegendLine::Heading("weights".to_owned()));
            for &method in &styles.methods {
                let style =
                    ScatterStyle { colour: BLACK, marker: Marker::Square, ..ScatterStyles::method(method) };
                legend.lines.push(LegendLine::Sample(style, vec![method.to_string()]));
            }
        } else {
            if styles.both() {
                legend.add_heading(&format!("weights, {}", names(scatter.axes)), label_max);
            }
            for group in scatter.groups {
                let parts = styles.parts(group.method, &group.setting);
                legend.pointers.push(Pointer {
                    style: styles.style(group),
                    outlined: true,
                    label: label(&parts, TEXT, label_max),
                    to: group.centre,
                });
            }
        }
        legend.add_combined(scatter, styles, label_max);
        legend
    }

    /// Names the axes, and then each setting.
    fn add_settings(
        &mut self,
        scatter: &Scatter<'_>,
        styles: &ScatterStyles,
        label_max: f64,
        style: impl Fn(usize) -> ScatterStyle,
    ) {
        if scatter.axes.is_empty() || styles.settings.is_empty() {
            return;
        }
        self.add_heading(&names(scatter.axes), label_max);
        for (index, setting) in styles.settings.iter().enumerate() {
            self.lines.push(LegendLine::Sample(style(index), value_label(setting, TEXT, label_max)));
        }
    }

    fn add_heading(&mut self, text: &str, label_max: f64) {
        self.lines.extend(wrapped(text, TEXT, SAMPLE + label_max).into_iter().map(LegendLine::Heading));
    }

    /// Points at each combination, with the axes in which combinations differ and those of the groups.
    fn add_combined(&mut self, scatter: &Scatter<'_>, styles: &ScatterStyles, label_max: f64) {
        let varying = varying(scatter.combined);
        for combined in scatter.combined {
            let is_shown =
                |name: &str| varying.contains(name) || scatter.axes.iter().any(|axis| axis.as_str() == name);
            let shown = combined
                .rest
                .iter()
                .filter(|(name, _)| is_shown(name) && ![COMBINE, MEMBERS].contains(&name.as_str()));
            let mut parts = vec![format!("of {}", combined.members)];
            parts.extend(shown.map(|(name, value)| format!("{name} {value}")));
            let mut lines = label(std::slice::from_ref(&combined.name), TEXT, label_max);
            lines.extend(label(&parts, TEXT, label_max));
            self.pointers.push(Pointer {
                style: styles.combined(combined),
                outlined: false,
                label: lines,
                to: combined.at,
            });
        }
    }

    /// Its width on the page; zero if it is empty.
    pub(super) fn width(&self) -> f64 {
        let label = |line: &String| SAMPLE + text_width(line, TEXT);
        let pointers = self.pointers.iter().flat_map(|pointer| &pointer.label).map(label);
        self.lines.iter().map(LegendLine::width).chain(pointers).fold(0.0, f64::max)
    }

    pub(super) fn height(&self) -> f64 {
        self.lines_height() + self.pointer_gap() * self.pointers.len() as f64
    }

    fn lines_height(&self) -> f64 {
        let apart = if self.lines.is_empty() { 0.0 } else { self.pointer_gap() / 2.0 };
        self.lines.iter().map(LegendLine::height).sum::<f64>() + apart
    }

    /// The height of a pointer, that of the one with most lines of text.
    fn pointer_gap(&self) -> f64 {
        let most = self.pointers.iter().map(|pointer| pointer.label.len()).max().unwrap_or(1);
        LABEL_GAP + LINE * (most.max(1) - 1) as f64
    }

    pub(super) fn draw(&self, svg: &mut Svg, frame: &Frame) {
        let x = frame.right() + 14.0;
        let mut y = frame.top + TEXT / 2.0;
        for line in &self.lines {
            match line {
                LegendLine::Heading(text) => svg.text((x, y + TEXT / 2.0), TEXT, Anchor::Start, text),
                LegendLine::Sample(style, lines) => {
                    let middle = y + (line.height() - LABEL_GAP) / 2.0;
                    style.draw_sample(svg, (x, middle), true);
                    draw_label(svg, (x + SAMPLE, middle), lines);
                }
            }
            y += line.height();
        }
        let places: Vec<(f64, f64)> = self.pointers.iter().map(|pointer| frame.place(pointer.to)).collect();
        let wanted: Vec<f64> = places.iter().map(|place| place.1).collect();
        let placed = spread(&wanted, self.pointer_gap(), frame.top + self.lines_height(), frame.bottom());
        for ((pointer, place), y) in self.pointers.iter().zip(places).zip(placed) {
            // A white rim separates the line from the points that it crosses.
            svg.polyline("rim", &[place, (x - 3.0, y)], Stroke::solid("#ffffff", 2.0));
            svg.polyline("leader", &[place, (x - 3.0, y)], Stroke::solid("#606060", 0.7));
            pointer.style.draw_sample(svg, (x, y), pointer.outlined);
            draw_label(svg, (x + SAMPLE, y), &pointer.label);
        }
    }
}

/// Writes the lines of a label; `y` is their middle.
fn draw_label(svg: &mut Svg, (x, y): (f64, f64), lines: &[String]) {
    let first = y + 0.36 * TEXT - LINE * lines.len().saturating_sub(1) as f64 / 2.0;
    for (index, line) in lines.iter().enumerate() {
        svg.text((x, first + LINE * index as f64), TEXT, Anchor::Start, line);
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
