//! A small SVG writer for lines, markers and text. All text is escaped.

use std::fmt::Write as _;

use skrifa::MetadataProvider as _;
use skrifa::instance::{LocationRef, Size};

use super::fonts::FONT;

/// The colours of Okabe and Ito that stay visible on white paper.
pub(super) const COLOURS: [&str; 6] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"];
/// Ink of means, axes and text.
pub(super) const BLACK: &str = "#000000";
/// Ink of leaders.
pub(super) const GREY: &str = "#b8b8b8";
/// Dash patterns, which replace colours in black and white.
pub(super) const DASHES: [&str; 5] = ["", "6 2.5", "2 2", "7 2 2 2", "10 3"];
/// Size of ordinary text: 7.1 points on paper.
pub(super) const TEXT: f64 = 11.0;
/// Pixels of a screen per user unit, unless the page that shows the figure decides otherwise.
pub(super) const SHOWN: f64 = 1.5;

/// The shape of a data point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Marker {
    Circle,
    Square,
    Triangle,
    Diamond,
    Down,
    Star,
    Hexagon,
    Plus,
    Cross,
}

/// The fill of a data point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fill {
    Solid,
    /// White.
    Open,
    /// Solid with a white spot.
    Dotted,
}

impl Marker {
    /// The shapes of series. The other shapes are for means and other single points.
    const SERIES: [Self; 6] =
        [Self::Square, Self::Triangle, Self::Diamond, Self::Down, Self::Star, Self::Hexagon];

    /// The shape of a series. Where the colours begin again, the shapes are shifted, so that 36 series look different.
    pub(super) fn of(index: usize) -> Self {
        Self::SERIES[(index + index / COLOURS.len()) % Self::SERIES.len()]
    }

    /// The corners as (turns from the top, radius) pairs; the radii make shapes look equally large. A circle has none.
    fn corners(self) -> Vec<(f64, f64)> {
        let regular = |n: u32, first: f64, radius: f64| {
            (0..n).map(|k| (first + f64::from(k) / f64::from(n), radius)).collect()
        };
        // Four arms, each with two corners, and one between them.
        let plus = |first: f64| {
            let arm = |k: u32| {
                [(-0.05, 1.4), (0.05, 1.4), (0.125, 0.62)]
                    .map(|(turns, radius)| (first + f64::from(k) / 4.0 + turns, radius))
            };
            (0..4).flat_map(arm).collect()
        };
        match self {
            Self::Circle => Vec::new(),
            Self::Square => regular(4, 0.125, 1.25),
            Self::Triangle => regular(3, 0.0, 1.35),
            Self::Diamond => regular(4, 0.0, 1.3),
            Self::Down => regular(3, 0.5, 1.35),
            Self::Star => {
                (0..10).map(|k| (f64::from(k) / 10.0, if k % 2 == 0 { 1.5 } else { 0.65 })).collect()
            }
            Self::Hexagon => regular(6, 0.0, 1.15),
            Self::Plus => plus(0.0),
            Self::Cross => plus(0.125),
        }
    }
}

/// The colour of a series.
pub(super) fn colour(index: usize) -> &'static str {
    COLOURS[index % COLOURS.len()]
}

/// How a line is drawn.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stroke {
    pub colour: &'static str,
    /// In user units.
    pub width: f64,
    /// One of [`DASHES`].
    pub dash: &'static str,
}

impl Stroke {
    /// A line without gaps.
    pub(super) fn solid(colour: &'static str, width: f64) -> Self {
        Self { colour, width, dash: "" }
    }
}

/// Which part of a text its position names.
#[derive(Clone, Copy, Debug)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// A document that grows. Classes name what an element means, so that a figure's data can be counted.
#[derive(Debug, Default)]
pub(super) struct Svg {
    body: String,
}

impl Svg {
    /// A line through points; nothing for fewer than two.
    pub(super) fn polyline(&mut self, class: &str, points: &[(f64, f64)], stroke: Stroke) {
        if points.len() > 1 {
            self.path(class, &path(points), "none", stroke);
        }
    }

    /// A closed outline.
    pub(super) fn polygon(&mut self, class: &str, points: &[(f64, f64)], stroke: Stroke) {
        self.path(class, &format!("{}Z", path(points)), "none", stroke);
    }

    /// A filled rectangle by its upper left corner and its size.
    pub(super) fn rectangle(
        &mut self,
        class: &str,
        (left, top): (f64, f64),
        (width, height): (f64, f64),
        fill: &str,
        stroke: Stroke,
    ) {
        let corners = [(left, top), (left + width, top), (left + width, top + height), (left, top + height)];
        self.path(class, &format!("{}Z", path(&corners)), fill, stroke);
    }

    /// Many small dots in one element: a line of hardly any length with round ends is a disc.
    pub(super) fn dots(
        &mut self,
        class: &str,
        points: impl Iterator<Item = (f64, f64)>,
        colour: &str,
        radius: f64,
    ) {
        let mut data = String::with_capacity(points.size_hint().0 * 18);
        for (x, y) in points {
            let _ = write!(data, "M{} {}h.01", coordinate(x), coordinate(y));
        }
        let width = coordinate(2.0 * radius);
        let _ = writeln!(
            self.body,
            r#"<path class="{class}" d="{data}" fill="none" stroke="{colour}" stroke-width="{width}" stroke-linecap="round" stroke-opacity="0.45"/>"#
        );
    }

    /// A data point.
    pub(super) fn marker(
        &mut self,
        class: &str,
        marker: Marker,
        (x, y): (f64, f64),
        radius: f64,
        colour: &'static str,
        fill: Fill,
    ) {
        let inside = if fill == Fill::Open { "#ffffff" } else { colour };
        if marker == Marker::Circle {
            self.circle(class, (x, y), radius, inside, colour);
        } else {
            let corner = |(turns, factor): (f64, f64)| {
                let (sin, cos) = (turns * std::f64::consts::TAU).sin_cos();
                (x + factor * radius * sin, y - factor * radius * cos)
            };
            let corners: Vec<(f64, f64)> = marker.corners().into_iter().map(corner).collect();
            self.path(class, &format!("{}Z", path(&corners)), inside, Stroke::solid(colour, 1.2));
        }
        if fill == Fill::Dotted {
            self.circle("spot", (x, y), 0.38 * radius, "#ffffff", "#ffffff");
        }
    }

    fn circle(&mut self, class: &str, (x, y): (f64, f64), radius: f64, fill: &str, colour: &str) {
        let (x, y, r) = (coordinate(x), coordinate(y), coordinate(radius));
        let _ = writeln!(
            self.body,
            r#"<circle class="{class}" cx="{x}" cy="{y}" r="{r}" fill="{fill}" stroke="{colour}" stroke-width="1.2"/>"#
        );
    }

    /// One line of text; `y` is its base line.
    pub(super) fn text(&mut self, (x, y): (f64, f64), size: f64, anchor: Anchor, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let (x, y, text) = (coordinate(x), coordinate(y), escape(text));
        let _ = writeln!(
            self.body,
            r#"<text x="{x}" y="{y}" font-size="{size}" text-anchor="{anchor}">{text}</text>"#
        );
    }

    /// One line of text in a colour, centred on a point of its base line.
    pub(super) fn text_in(&mut self, colour: &str, (x, y): (f64, f64), size: f64, text: &str) {
        let (x, y, text) = (coordinate(x), coordinate(y), escape(text));
        let _ = writeln!(
            self.body,
            r#"<text x="{x}" y="{y}" font-size="{size}" text-anchor="middle" fill="{colour}">{text}</text>"#
        );
    }

    /// One line of text that reads upwards, centred on a point of its base line.
    pub(super) fn text_upwards(&mut self, (x, y): (f64, f64), size: f64, text: &str) {
        let (x, y, text) = (coordinate(x), coordinate(y), escape(text));
        let _ = writeln!(
            self.body,
            r#"<text transform="translate({x} {y}) rotate(-90)" font-size="{size}" text-anchor="middle">{text}</text>"#
        );
    }

    /// The drawing with its title and size.
    pub(super) fn finish(self, title: &str, width: f64, height: f64) -> Picture {
        Picture { title: title.to_owned(), width, height, body: self.body }
    }

    fn path(&mut self, class: &str, data: &str, fill: &str, stroke: Stroke) {
        let Stroke { colour, width, dash } = stroke;
        let dash = if dash.is_empty() { String::new() } else { format!(r#" stroke-dasharray="{dash}""#) };
        let _ = writeln!(
            self.body,
            r#"<path class="{class}" d="{data}" fill="{fill}" stroke="{colour}" stroke-width="{width}" stroke-linejoin="round"{dash}/>"#
        );
    }
}

/// A drawing that is complete.
#[derive(Clone, Debug)]
pub(super) struct Picture {
    title: String,
    width: f64,
    height: f64,
    body: String,
}

impl Picture {
    /// Pictures below each other, as one; at least one.
    pub(super) fn stacked(pictures: Vec<Self>) -> Self {
        let (mut body, mut height) = (String::new(), 0.0);
        for picture in &pictures {
            let _ =
                writeln!(body, "<g transform=\"translate(0 {})\">\n{}</g>", coordinate(height), picture.body);
            height += picture.height;
        }
        let width = pictures.iter().map(|picture| picture.width).fold(0.0, f64::max);
        let titles = pictures.into_iter().map(|picture| picture.title);
        Self { title: titles.collect::<Vec<_>>().join("; "), width, height, body }
    }

    /// The whole document. The generic family at the end of the list makes it readable where none of the named ones is installed.
    pub(super) fn document(&self) -> String {
        let Self { title, width, height, body } = self;
        let (shown_width, shown_height) = (coordinate(width * SHOWN), coordinate(height * SHOWN));
        let (width, height, title) = (coordinate(*width), coordinate(*height), escape(title));
        let family = "'DejaVu Sans', Verdana, Helvetica, Arial, sans-serif";
        format!(
            r##"<svg xmlns="http://www.w3.org/2000/svg" width="{shown_width}" height="{shown_height}" viewBox="0 0 {width} {height}" role="img" font-family="{family}" fill="#000000">
<title>{title}</title>
<rect width="{width}" height="{height}" fill="#ffffff"/>
{body}</svg>
"##
        )
    }
}

/// A text's width in DejaVu Sans, the widest of the families that a document names. Characters that it lacks, such as Chinese ones, are as
/// wide as the font is high.
pub(super) fn text_width(text: &str, size: f64) -> f64 {
    let Some(font) = &*FONT else { return text.chars().count() as f64 * size };
    let (characters, metrics) =
        (font.charmap(), font.glyph_metrics(Size::unscaled(), LocationRef::default()));
    let units = f64::from(font.metrics(Size::unscaled(), LocationRef::default()).units_per_em);
    let advance = |character| match characters.map(character) {
        Some(glyph) => f64::from(metrics.advance_width(glyph).unwrap_or_default()),
        None => units,
    };
    text.chars().map(advance).sum::<f64>() / units * size
}

/// The text, cut so that it fits.
pub(super) fn fitted(text: &str, size: f64, width_max: f64) -> String {
    if text_width(text, size) <= width_max {
        return text.to_owned();
    }
    let mut kept = text.to_owned();
    while kept.pop().is_some() && text_width(&kept, size) + text_width("…", size) > width_max {}
    kept + "…"
}

/// Lines of text that fit, broken between words.
pub(super) fn wrapped(text: &str, size: f64, width_max: f64) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if text_width(&format!("{line} {word}"), size) <= width_max => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(fitted(word, size, width_max)),
        }
    }
    lines
}

fn path(points: &[(f64, f64)]) -> String {
    let mut data = String::new();
    for (index, (x, y)) in points.iter().enumerate() {
        let _ = write!(data, "{}{} {}", if index == 0 { "M" } else { "L" }, coordinate(*x), coordinate(*y));
    }
    data
}

/// Hundredths of a unit are finer than any printer.
fn coordinate(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// XML text. Control characters, which XML cannot hold at all, become replacement characters.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            character if character.is_control() || matches!(character, '\u{fffe}' | '\u{ffff}') => {
                escaped.push('\u{fffd}')
            }
            character => escaped.push(character),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_break_out_of_its_element() {
        assert_eq!(escape("a<b>&\"\u{0}é"), "a&lt;b&gt;&amp;&quot;\u{fffd}é");
    }

    #[test]
    fn long_text_is_cut_or_wrapped_to_fit() {
        let short = fitted("a very long name of a sweep", 10.0, 60.0);
        assert!(short.ends_with('…') && text_width(&short, 10.0) <= 60.0, "{short}");
        assert_eq!(fitted("short", 10.0, 60.0), "short");
        let lines = wrapped("one two three four five six", 10.0, 60.0);
        assert!(lines.len() > 1 && lines.iter().all(|line| text_width(line, 10.0) <= 60.0), "{lines:?}");
        assert_eq!(lines.join(" "), "one two three four five six");
    }

    #[test]
    fn thirty_six_series_look_different() {
        let looks: Vec<_> = (0..36).map(|index| (colour(index), Marker::of(index))).collect();
        for (index, look) in looks.iter().enumerate() {
            assert!(!looks[..index].contains(look), "{index}: {look:?}");
        }
    }
}
