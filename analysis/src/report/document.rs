//! What every page has around its sections.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::ReportQuestion;

/// The style for screens and paper.
const STYLE: &str = include_str!("style.css");

/// Which trials are meant, if not all.
pub(super) fn conditions(asked: &ReportQuestion) -> Markup {
    html! {
        @if let Some(conditions) = &asked.conditions {
            p { "Only trials that meet " code { (conditions) } " are on this page." }
        }
    }
}

/// A page with this title and body.
pub(super) fn document(title: &str, asked: &ReportQuestion, body: Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                // The page loads nothing, and browsers must not load anything for it.
                meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="generator" content=(asked.software);
                link rel="icon" href="data:,";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body { main { (body) } }
        }
    }
}

/// The namespace of an SVG file, which SVG inside HTML does not need.
const NAMESPACE: &str = " xmlns=\"http://www.w3.org/2000/svg\"";

/// An SVG document inside the page, with its caption for screen readers.
pub(super) fn inline(svg: &str, caption: &str) -> String {
    // The numbers of a figure are in tables, so its title is enough for a screen reader.
    let label = html! { (caption) "; its numbers are in the tables of section Results" }.into_string();
    svg.replacen(NAMESPACE, "", 1).replacen(
        "role=\"img\"",
        &format!("role=\"img\" aria-label=\"{label}\""),
        1,
    )
}
