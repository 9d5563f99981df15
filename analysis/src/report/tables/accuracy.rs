//! Tables of accuracies: rows are settings, columns are held-out domains and their mean.

use std::collections::BTreeMap;

use maud::{Markup, Render, html};

use super::super::{Report, page, progress, selection};
use super::limits::ROWS_MAX;
use crate::axis::{Axis, AxisValue};
use crate::results::{Cell, CellKey, Mean, Results};
use crate::scale::Scale;
use crate::statistics::Estimate;

/// Domains that a table has room for on paper.
const DOMAINS_MAX: usize = 7;

/// The numbers of a table.
pub(super) struct Accuracy<'a> {
    /// The domains that make columns.
    domains: &'a [String],
    /// The name of the numbers, without their unit.
    title: String,
    of_cell: fn(&Cell) -> &Estimate,
    of_mean: fn(&Mean) -> &Estimate,
    /// Whether the best is marked.
    mark: bool,
    /// Whether the mean i.i.d. accuracy has a column.
    iid_mean: bool,
}

impl<'a> Accuracy<'a> {
    /// O.o.d. accuracies.
    pub(super) fn ood(report: &'a Report<'_>) -> Self {
        let title = format!("O.o.d. {} (held-out domain, {})", report.metric(), selection::split(report));
        Self {
            domains: &report.domains,
            title,
            of_cell: |cell| &cell.ood,
            of_mean: |mean| &mean.ood,
            mark: true,
            iid_mean: false,
        }
    }

    /// Adds a column for the mean i.i.d. accuracy.
    pub(super) fn with_iid_mean(self) -> Self {
        Self { iid_mean: true, ..self }
    }

    /// Marks no best value.
    pub(super) fn unmarked(self) -> Self {
        Self { mark: false, ..self }
    }

    /// I.i.d. accuracies, without marks.
    pub(super) fn iid(report: &'a Report<'_>) -> Self {
        let title = format!("I.i.d. {} (training domains, out splits) by held-out domain", report.metric());
        Self {
            domains: &report.domains,
            title,
            of_cell: |cell| &cell.iid,
            of_mean: |mean| &mean.iid,
            mark: false,
            iid_mean: false,
        }
    }
}

/// Rows below a common name.
pub(super) struct RowGroup<'a> {
    pub name: Option<Markup>,
    pub results: &'a Results,
    /// The axes that have columns.
    pub axes: Vec<Axis>,
}

/// One table, or several if the domains do not fit on a page.
pub(super) fn tables(
    shown: &Accuracy<'_>,
    groups: &[RowGroup<'_>],
    caption: &Markup,
    numbers: &mut page::Numbering,
) -> Markup {
    let parts: Vec<&[String]> = shown.domains.chunks(DOMAINS_MAX).collect();
    let rows: usize = groups.iter().map(|group| group.results.means.len()).sum();
    let scale = groups.first().map(|group| group.results.scale());
    let name = scale.map_or_else(|| shown.title.clone(), |scale| scale.with_unit(&shown.title));
    let left_out: usize = groups.iter().map(|group| group.results.means.len().saturating_sub(ROWS_MAX)).sum();
    html! {
        @for (part, domains) in parts.iter().enumerate() {
            @let last = part + 1 == parts.len();
            @let title = html! {
                (name) ": " (caption)
                @if parts.len() > 1 { " Part " (part + 1) " of " (parts.len()) "." }
                " " (replicates(shown, groups, domains))
            };
            (page::table(&numbers.table(), title, rows > page::ROWS_TOGETHER, head(shown, groups, domains, last), html! {
                @for group in groups { (body(shown, group, domains, last)) }
            }))
        }
        @if left_out > 0 {
            p.note { (page::count(left_out as u64)) " further rows are left out: " code { "sortie results" } " lists them." }
        }
    }
}

/// The number of trials in a cell, or its range.
fn replicates(shown: &Accuracy<'_>, groups: &[RowGroup<'_>], domains: &[String]) -> Markup {
    let cells = groups
        .iter()
        .flat_map(|group| &group.results.cells)
        .filter(|cell| cell.held_out.as_ref().is_some_and(|own| domains.contains(own)));
    let mut planned: Vec<usize> = cells.clone().map(|cell| cell.planned).collect();
    planned.sort_unstable();
    planned.dedup();
    let complete = cells.clone().all(|cell| (shown.of_cell)(cell).n == cell.planned);
    html! {
        @match planned.as_slice() {
            [] => {},
            [one] => { "Cells: mean ± standard error, n = " (one) @if !complete { ", where nothing is missing" } "." },
            [low, .., high] => { "Cells: mean ± standard error, n = " (low) " to " (high) @if !complete { ", where nothing is missing" } "." },
        }
    }
}

fn head(shown: &Accuracy<'_>, groups: &[RowGroup<'_>], domains: &[String], last: bool) -> Markup {
    let axes = groups.first().map(|group| group.axes.as_slice()).unwrap_or_default();
    html! {
        tr {
            @for axis in axes { (page::column(page::text(axis.as_str()))) }
            @for domain in domains { (page::number_column(page::text(domain))) }
            @if last {
                (page::number_column("mean"))
                (page::number_column("n"))
                @if shown.iid_mean { (page::number_column("i.i.d. mean")) }
                (page::number_column("done"))
            }
        }
    }
}

fn body(shown: &Accuracy<'_>, group: &RowGroup<'_>, domains: &[String], last: bool) -> Markup {
    let RowGroup { name, results, axes } = group;
    let scale = results.scale();
    let cells: BTreeMap<CellKey<'_>, &Cell> = results.cells.iter().map(|cell| (cell.key(), cell)).collect();
    let cell = |mean: &Mean, domain: &str| cells.get(&(&*mean.row, Some(domain))).copied();
    // A succeeded trial without these evaluations counts as missing.
    let complete = |cell: Option<&Cell>| cell.is_some_and(|cell| (shown.of_cell)(cell).n == cell.planned);
    let of_domain = |domain: &String| {
        let cells = results.means.iter().map(|mean| cell(mean, domain).filter(|cell| complete(Some(cell))));
        best(&scale, cells.map(|cell| (shown.of_cell)(cell?).mean), shown.mark)
    };
    let best_of: Vec<Option<f64>> = domains.iter().map(of_domain).collect();
    let whole = |mean: &&Mean| {
        shown.domains.iter().filter_map(|domain| cell(mean, domain)).all(|cell| complete(Some(cell)))
    };
    let means =
        results.means.iter().map(|mean| Some(mean).filter(whole).and_then(|mean| (shown.of_mean)(mean).mean));
    let best_mean = best(&scale, means, shown.mark && last);
    let width = axes.len() + domains.len() + if last { 3 + usize::from(shown.iid_mean) } else { 0 };
    let changes = |row: usize| {
        row > 0 && axes.len() > 1 && results.means[row].row.first() != results.means[row - 1].row.first()
    };
    html! {
        tbody {
            @if let Some(name) = name { tr.group { th scope="rowgroup" colspan=(width) { (name) } } }
            @for (row, mean) in results.means.iter().enumerate().take(ROWS_MAX) {
                tr.first[changes(row)] {
                    @for axis in axes { th scope="row" { (progress::value_or_mixed(value(mean, axis))) } }
                    @for (domain, best) in domains.iter().zip(&best_of) { td.number { (entry(shown, cell(mean, domain), &scale, *best)) } }
                    @if last {
                        td.number { (marked((shown.of_mean)(mean), &scale, best_mean)) }
                        td.number { (page::count((shown.of_mean)(mean).n as u64)) }
                        @if shown.iid_mean { td.number { (page::mean(&scale, &mean.iid)) } }
                        td.number { (mean.done) "/" (mean.planned) }
                    }
                }
            }
        }
    }
}

fn value<'a>(mean: &'a Mean, axis: &Axis) -> Option<&'a AxisValue> {
    mean.row.iter().find(|(own, _)| own == axis).map(|(_, value)| value)
}

/// The best value of a complete column.
fn best(scale: &Scale, column: impl Iterator<Item = Option<f64>>, mark: bool) -> Option<f64> {
    let column: Option<Vec<f64>> = column.collect();
    scale.best(column.filter(|column| mark && column.len() > 1)?.into_iter())
}

fn entry(shown: &Accuracy<'_>, cell: Option<&Cell>, scale: &Scale, best: Option<f64>) -> Markup {
    // A setting may not be planned with every domain.
    let Some(cell) = cell else { return html! {} };
    let estimate = (shown.of_cell)(cell);
    html! {
        (marked(estimate, scale, best))
        @if estimate.n < cell.planned { " " span.progress { "(" (estimate.n) "/" (cell.planned) ")" } }
    }
}

fn marked(estimate: &Estimate, scale: &Scale, best: Option<f64>) -> impl Render {
    let number = page::mean(scale, estimate);
    html! { @if scale.shown_alike(estimate.mean, best) { strong { (number) } } @else { (number) } }
}
