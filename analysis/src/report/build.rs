//! Builds the page of its sections.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::{Report, ReportQuestion, ReportSubject};
use super::{figures, noise, origin, page, progress, selection, setup, tables};

/// The page. It reports what is missing of the sweep instead of failing.
pub fn report(subject: ReportSubject, asked: &ReportQuestion) -> String {
    render(&Report::of(subject, asked)).into_string()
}

/// The style for screens and paper.
const STYLE: &str = include_str!("style.css");

fn render(report: &Report<'_>) -> Markup {
    let mut numbers = page::Numbering::default();
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                // The page loads nothing, and browsers must not load anything for it.
                meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="generator" content=(report.asked.software);
                link rel="icon" href="data:,";
                title { "Sweep " (report.name) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                main {
                    header {
                        h1 { "Sweep " (page::text(&report.name)) }
                        p.lead { (setup::sentence(report)) }
                    }
                    (progress::banner(report))
                    (setup::section(report, &mut numbers))
                    (progress::section(report, &mut numbers))
                    (selection::section(report, &mut numbers))
                    (tables::section(report, &mut numbers))
                    (figures::section(report, &mut numbers))
                    (noise::section(report, &mut numbers))
                    (tables::appendix(report, &mut numbers))
                    (origin::section(report, &mut numbers))
                }
            }
        }
    }
}
