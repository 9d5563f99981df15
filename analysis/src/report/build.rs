//! Builds the page of its sections.

use maud::{Markup, html};

use super::document::{conditions, document};
use super::{Report, ReportQuestion, ReportSubject};
use super::{figures, noise, origin, page, progress, selection, setup, tables};

/// The page. It reports what is missing of the sweep instead of failing.
pub fn report(subject: ReportSubject, asked: &ReportQuestion) -> String {
    render(&Report::of(subject, asked)).into_string()
}

fn render(report: &Report<'_>) -> Markup {
    let mut numbers = page::Numbering::default();
    let body = html! {
        header {
            h1 { "Sweep " (page::text(&report.name)) }
            p.lead { (setup::sentence(report)) }
            (conditions(report.asked))
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
    };
    document(&format!("Sweep {}", report.name), report.asked, body)
}
