//! The key to the right of curves: a label at the end of each, and above them the axes of the labels and the meaning of dashes.

use super::frame::{Frame, Ticks, left_margin, spread};
use super::page::FigurePage;
use super::settings::names;
use super::svg::{Anchor, BLACK, DASHES, Fill, GREY, Marker, Stroke, Svg, TEXT, colour, text_width, wrapped};
use crate::axis::Axis;

/// Height of the plot in a single column, unless its labels need more.
const HEIGHT: f64 = 190.0;
/// The distance between labels.
const LABEL_GAP: f64 = 14.0;
/// From one line of a label to the next.
const LINE: f64 = 1.1 * TEXT;
/// A longer label is cut or broken.
const LABEL_MAX: f64 = 110.0;
/// Room for the thin lines from curves to labels.
const LEADER: f64 = 18.0;
/// Room for a sample of the curve before its label.
const SAMPLE: f64 = 26.0;

/// The look of a curve.
#[derive(Clone, Copy)]
pub(super) struct CurveLook {
    pub stroke: Stroke,
    pub marker: Marker,
    pub radius: f64,
}

impl CurveLook {
    /// A mean o.o.d. accuracy.
    pub(super) const OOD: Self =
        Self { stroke: Stroke { colour: BLACK, width: 2.4, dash: "" }, marker: Marker::Circle, radius: 3.6 };
    /// A mean i.i.d. accuracy.
    pub(super) const IID: Self = Self {
        stroke: Stroke { colour: BLACK, width: 1.8, dash: DASHES[1] },
        marker: Marker::Circle,
        radius: 3.0,
    };

    /// The look of one of several held-out domains or settings, by colour and marker.
    pub(super) fn of(index: usize) -> Self {
        Self { stroke: Stroke::solid(colour(index), 1.1), marker: Marker::of(index), radius: 3.2 }
    }

    /// The same for i.i.d. accuracy.
    pub(super) fn dashed(self) -> Self {
        Self { stroke: Stroke { dash: DASHES[1], ..self.stroke }, radius: 0.7 * self.radius, ..self }
    }
}

/// The largest width of a label.
pub(super) fn label_max(page: &FigurePage) -> f64 {
    page.label(LABEL_MAX)
}

/// The end of a curve on the page, its look, and its label.
pub(super) struct CurveEnd<'a> {
    pub at: (f64, f64),
    pub look: CurveLook,
    pub label: &'a [String],
}

/// The key of a figure.
pub(super) struct Key {
    /// The lines above the labels.
    head: Vec<HeadLine>,
    /// The lines of each label.
    pub labels: Vec<Vec<String>>,
}

enum HeadLine {
    Text(String),
    Sample(Stroke, &'static str),
}

impl Key {
    /// The key with these labels, each in lines.
    pub(super) fn of(labels: Vec<Vec<String>>) -> Self {
        Self { head: Vec::new(), labels }
    }

    /// Says that solid lines are o.o.d. accuracies, and dashed ones i.i.d. accuracies.
    pub(super) fn with_dashes(mut self) -> Self {
        let sample = |dash, what| HeadLine::Sample(Stroke { colour: BLACK, width: 1.4, dash }, what);
        self.head.extend([sample("", "o.o.d."), sample(DASHES[1], "i.i.d.")]);
        self
    }

    /// Names the axes of the labels, if there are several: one stands in the labels themselves.
    pub(super) fn with_axes(mut self, axes: &[Axis], page: &FigurePage) -> Self {
        if axes.len() > 1 {
            let lines = wrapped(&names(axes), TEXT, label_max(page) + SAMPLE);
            self.head.extend(lines.into_iter().map(HeadLine::Text));
        }
        self
    }

    fn width(&self) -> f64 {
        let head = self.head.iter().map(|line| match line {
            HeadLine::Text(text) => text_width(text, TEXT),
            HeadLine::Sample(_, text) => SAMPLE + text_width(text, TEXT),
        });
        let labels = self.labels.iter().flatten().map(|line| SAMPLE + text_width(line, TEXT));
        head.chain(labels).fold(0.0, f64::max)
    }

    fn head_height(&self) -> f64 {
        if self.head.is_empty() { 0.0 } else { LABEL_GAP * (self.head.len() as f64 + 0.8) }
    }

    /// The distance between labels: that of the one with most lines.
    fn gap(&self) -> f64 {
        let most = self.labels.iter().map(Vec::len).max().unwrap_or(1).max(1);
        LABEL_GAP + LINE * (most - 1) as f64
    }

    /// The frame of a plot that leaves room for the key.
    pub(super) fn frame_beside(&self, page: &FigurePage, ticks: &Ticks, top: f64, x: (f64, f64)) -> Frame {
        let left = left_margin(ticks);
        let height = self.head_height() + self.gap() * self.labels.len() as f64;
        Frame {
            left,
            top,
            width: page.units() - left - LEADER - self.width() - 6.0,
            height: page.height(HEIGHT).max(height),
            x,
            y: ticks.range(),
        }
    }

    /// Draws the key, with labels near the ends of their curves and without overlap.
    pub(super) fn draw(&self, svg: &mut Svg, frame: &Frame, ends: &[CurveEnd<'_>]) {
        let start = frame.right() + LEADER;
        for (index, line) in self.head.iter().enumerate() {
            let y = frame.top + 0.5 * TEXT + LABEL_GAP * index as f64;
            match line {
                HeadLine::Text(text) => svg.text((start, y + 0.36 * TEXT), TEXT, Anchor::Start, text),
                HeadLine::Sample(stroke, text) => {
                    svg.polyline("sample", &[(start, y), (start + SAMPLE - 5.0, y)], *stroke);
                    svg.text((start + SAMPLE, y + 0.36 * TEXT), TEXT, Anchor::Start, text);
                }
            }
        }
        let wanted: Vec<f64> = ends.iter().map(|end| end.at.1).collect();
        let placed = spread(&wanted, self.gap(), frame.top + self.head_height(), frame.bottom());
        for (&CurveEnd { at: (x, y), look, label }, label_y) in ends.iter().zip(placed) {
            svg.polyline(
                "leader",
                &[(x, y), (frame.right(), y), (start - 2.0, label_y)],
                Stroke::solid(GREY, 0.6),
            );
            svg.polyline("sample", &[(start, label_y), (start + SAMPLE - 5.0, label_y)], look.stroke);
            let middle = (start + (SAMPLE - 5.0) / 2.0, label_y);
            svg.marker("sample", look.marker, middle, look.radius, look.stroke.colour, Fill::Solid);
            let first = label_y + 0.36 * TEXT - LINE * label.len().saturating_sub(1) as f64 / 2.0;
            for (index, line) in label.iter().enumerate() {
                svg.text((start + SAMPLE, first + LINE * index as f64), TEXT, Anchor::Start, line);
            }
        }
    }
}
