//! Parts of pages: names, numbers, captions, tables.

use maud::{Markup, Render, html};

use crate::scale::Scale;
use crate::statistics::Estimate;

/// A longer text may be broken after a joining character; a short one, such as the number 5e-4, never is.
const TEXT_WHOLE: usize = 10;
/// Characters of a value that are shown. The specification at the end of the page has the whole value.
const TEXT_MAX: usize = 120;

/// Numbers tables and figures.
#[derive(Debug, Default)]
pub(super) struct Numbering {
    tables: usize,
    figures: usize,
}

impl Numbering {
    /// The name of the next table.
    pub(super) fn table(&mut self) -> String {
        self.tables += 1;
        format!("Table {}", self.tables)
    }

    /// The name of the next figure.
    pub(super) fn figure(&mut self) -> String {
        self.figures += 1;
        format!("Figure {}", self.figures)
    }
}

/// A section with its heading.
pub(super) fn section(id: &str, title: &str, body: impl Render) -> Markup {
    html! {
        section id=(id) {
            h2 { (title) }
            (body)
        }
    }
}

/// A user's text: cut if it is very long, breakable after joining characters, and isolated from the direction of other text.
pub(super) fn text(text: &str) -> Markup {
    let end = text.char_indices().nth(TEXT_MAX).map(|(end, _)| end);
    let shown = &text[..end.unwrap_or(text.len())];
    let joints: &[char] = if shown.len() > TEXT_WHOLE { &['_', '-', '.', '/', '+'] } else { &[] };
    let parts: Vec<&str> = shown.split_inclusive(joints).collect();
    html! {
        bdi.short[shown.len() <= TEXT_WHOLE] {
            @for (index, part) in parts.iter().enumerate() { @if index > 0 { wbr; } (part) }
            @if end.is_some() { "…" }
        }
    }
}

/// A list of user's texts.
pub(super) fn list<'a>(texts: impl IntoIterator<Item = &'a str>) -> Markup {
    html! {
        @for (index, one) in texts.into_iter().enumerate() { @if index > 0 { ", " } (text(one)) }
    }
}

/// A table with its number and caption. It scrolls on narrow screens. A `long` table may continue on the next page.
pub(super) fn table(
    number: &str,
    caption: impl Render,
    long: bool,
    head: impl Render,
    bodies: impl Render,
) -> Markup {
    html! {
        div.scroll.long[long] role="region" aria-label=(number) tabindex="0" {
            table {
                caption { b { (number) "." } " " (caption) }
                thead { (head) }
                (bodies)
            }
        }
    }
}

/// The head of a column.
pub(super) fn column(name: impl Render) -> Markup {
    html! { th scope="col" { (name) } }
}

/// The head of a column of numbers.
pub(super) fn number_column(name: impl Render) -> Markup {
    html! { th.number scope="col" { (name) } }
}

/// Rows after which a table may be broken between pages.
pub(super) const ROWS_TOGETHER: usize = 28;

/// A mean with its standard error.
pub(super) fn mean(scale: &Scale, estimate: &Estimate) -> Markup {
    with_error(scale, estimate, |value| scale.text(value))
}

/// A difference with its standard error.
pub(super) fn points(scale: &Scale, estimate: &Estimate) -> Markup {
    with_error(scale, estimate, |value| difference(scale, value))
}

/// A difference of two values.
pub(super) fn difference(scale: &Scale, value: f64) -> String {
    // A proper minus sign is as wide as the plus.
    scale.difference(value).replace('-', "\u{2212}")
}

fn with_error(scale: &Scale, estimate: &Estimate, shown: impl Fn(f64) -> String) -> Markup {
    html! {
        @match estimate.mean {
            Some(mean) => (shown(mean)),
            None => "–",
        }
        @if let Some(se) = estimate.se { span.error { " ± " (scale.text(se)) } }
    }
}

/// A number with separated thousands.
pub(super) fn count(number: impl TryInto<u64>) -> String {
    let digits = number.try_into().unwrap_or(u64::MAX).to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (position, digit) in digits.chars().enumerate() {
        // Four digits need no separator.
        if position > 0 && (digits.len() - position).is_multiple_of(3) && digits.len() > 4 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number with its noun.
pub(super) fn counted(number: usize, one: &str, many: &str) -> String {
    format!("{} {}", count(number as u64), if number == 1 { one } else { many })
}
