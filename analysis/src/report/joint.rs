//! Several sweeps as one page: their tables and figures together, and how complete each is. Each sweep's own page has the rest.

use maud::{Markup, PreEscaped, Render as _, html};
use sortie_core::job::StateName;
use sortie_core::metrics::Method;
use sortie_core::record::TrialRecord;
use sortie_core::selection::Selection;

use super::data::{distinct, evaluated};
use super::document::{conditions, document, inline};
use super::{ReportQuestion, page};
use crate::axis::Axis;
use crate::figure::{FigureError, FigureKind, FigureQuestion, axes, figures};
use crate::joint::{JointCollector, JointResults, SweepRecords};
use crate::question::Question;
use crate::render::Block;
use crate::results::ResultsError;

/// The page of several sweeps. `by` are the axes of rows and groups; empty for those of a scatter figure, such as dropout.
///
/// # Errors
/// [`ResultsError`] where trials of different sweeps would be averaged, or no trial has an axis.
pub fn joint_report(
    sweeps: &[SweepRecords],
    by: &[Axis],
    asked: &ReportQuestion,
) -> Result<String, ResultsError> {
    let usual = axes::of_scatters(sweeps.iter().map(|sweep| sweep.records.as_slice()));
    let by = if by.is_empty() { &usual } else { by };
    let selections =
        if asked.selections.is_empty() { vec![Selection::Iid] } else { distinct(&asked.selections) };
    let all = sweeps.iter().flat_map(|sweep| evaluated(&sweep.spec.work, &sweep.records));
    let mut methods: Vec<Method> =
        if asked.methods.is_empty() { all.collect() } else { distinct(&asked.methods) };
    methods = Method::ALL.iter().copied().filter(|method| methods.contains(method)).collect();
    let mut tables = Vec::new();
    for &selection in &selections {
        for &method in &methods {
            tables.push((selection, method, results(sweeps, by, asked, selection, method)?));
        }
    }
    let names = sweeps.iter().map(|sweep| sweep.name.as_str()).collect::<Vec<_>>().join(", ");
    let mut numbers = page::Numbering::default();
    let body = html! {
        header {
            h1 { "Sweeps " (page::text(&names)) }
            p.lead { "What these sweeps found, together. " code { "sortie report SWEEP" } " has the page of each." }
            (conditions(asked))
        }
        (page::section("progress", "Completeness", progress(sweeps, &mut numbers)))
        (page::section("results", "Results", html! {
            @for (selection, method, results) in &tables { (table(*selection, *method, results, &mut numbers)) }
        }))
        (page::section("figures", "Figures", html! {
            div.figures { (figure(sweeps, by, asked, selections[0], &methods, &mut numbers)) }
        }))
        (page::section("made", "How this was made", html! {
            dl.facts {
                dt { "Command" } dd { code { (asked.command) } }
                dt { "Program" } dd { (asked.software) }
                @if let Some(date) = &asked.date { dt { "Date" } dd { (date) } }
            }
        }))
    };
    Ok(document(&format!("Sweeps {names}"), asked, body).render().into_string())
}

fn results(
    sweeps: &[SweepRecords],
    by: &[Axis],
    asked: &ReportQuestion,
    selection: Selection,
    method: Method,
) -> Result<JointResults, ResultsError> {
    let ReportQuestion { ood_split, ref metrics, .. } = *asked;
    let question =
        Question { selection, method, by: by.to_vec(), best: false, ood_split, metrics: metrics.clone() };
    let mut collector = JointCollector::new(&question, &[]);
    sweeps.iter().for_each(|sweep| collector.add_sweep(&sweep.name, &sweep.spec));
    for (index, sweep) in sweeps.iter().enumerate() {
        sweep.records.iter().for_each(|record| collector.push(index, record));
    }
    collector.results()
}

fn progress(sweeps: &[SweepRecords], numbers: &mut page::Numbering) -> Markup {
    let head = html! {
        tr {
            (page::column("sweep")) (page::column("dataset"))
            (page::number_column("done")) (page::number_column("failed")) (page::number_column("diverged"))
            (page::number_column("cancelled"))
        }
    };
    let body = html! {
        tbody {
            @for SweepRecords { name, spec, records } in sweeps {
                tr {
                    th scope="row" { (page::text(name)) }
                    td { (page::text(spec.work.dataset().unwrap_or("–"))) }
                    td.number { (count(records, StateName::Succeeded)) "/" (page::count(records.len() as u64)) }
                    @for state in [StateName::Failed, StateName::Diverged, StateName::Cancelled] {
                        td.number { (count(records, state)) }
                    }
                }
            }
        }
    };
    page::table(&numbers.table(), "Trials of each sweep that are meant, by state.", false, head, body)
}

fn count(records: &[TrialRecord], state: StateName) -> String {
    page::count(records.iter().filter(|record| record.state == state).count() as u64)
}

/// The blocks of a table.
fn table(
    selection: Selection,
    method: Method,
    results: &JointResults,
    numbers: &mut page::Numbering,
) -> Markup {
    html! {
        h3 { "Selection " (selection.as_str()) ", weights used: " (method.as_str()) }
        @for Block { title, header, texts, rows } in results.blocks() {
            (page::table(
                &numbers.table(),
                html! { (title) "." },
                rows.len() > page::ROWS_TOGETHER,
                html! { tr { @for (index, name) in header.iter().enumerate() {
                    @if index < texts { (page::column(page::text(name))) } @else { (page::number_column(page::text(name))) }
                } } },
                html! { tbody { @for row in &rows { tr { @for (index, cell) in row.iter().enumerate() {
                    @if index < texts { th scope="row" { (page::text(cell)) } } @else { td.number { (cell) } }
                } } } } },
            ))
        }
        p.note { (results.legend()) "." }
    }
}

fn figure(
    sweeps: &[SweepRecords],
    by: &[Axis],
    asked: &ReportQuestion,
    selection: Selection,
    methods: &[Method],
    numbers: &mut page::Numbering,
) -> Markup {
    let question = FigureQuestion {
        selection,
        methods: methods.to_vec(),
        ood_split: asked.ood_split,
        metrics: asked.metrics.clone(),
        by: by.to_vec(),
        ..FigureQuestion::of(FigureKind::Scatter)
    };
    let names = methods.iter().map(|method| method.as_str()).collect::<Vec<_>>().join(", ");
    let caption = format!(
        "O.o.d. against i.i.d. {} of every choice of one setting per held-out domain, with hull and centre (weights used: {names}; selection {selection})",
        asked.metrics.shown.name()
    );
    match figures(sweeps.to_vec(), &question) {
        Ok(svg) => html! {
            figure {
                (PreEscaped(inline(&svg, &caption)))
                figcaption { b { (numbers.figure()) "." } " " (caption) "." }
            }
        },
        Err(FigureError::Results(_)) => html! {},
        Err(error) => html! { p.note { "No figure: " (error.to_string()) "." } },
    }
}
