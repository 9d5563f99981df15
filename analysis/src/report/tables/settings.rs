//! The results by setting, by the main axis, and of combinations.

use std::collections::{BTreeMap, BTreeSet};

use maud::{Markup, html};
use sortie_core::combine::{COMBINE, MEMBERS};
use sortie_core::metrics::Method;
use sortie_core::record::TrialRecord;
use sortie_core::selection::Selection;

use super::super::{Report, data, page, selection};
use super::accuracy::{self, Accuracy, RowGroup};
use super::limits::ROWS_MAX;
use super::plain;
use crate::axis::{Axis, parameter_names};
use crate::question::Question;
use crate::render::combined_at;
use crate::results::{Results, results};

pub(in crate::report) fn section(report: &Report<'_>, numbers: &mut page::Numbering) -> Markup {
    if !report.has_domains() {
        return page::section("results", "Results", plain::tables(report, numbers));
    }
    let body = html! {
        p.note {
            "Accuracies are percentages: mean ± standard error over trials. "
            b { "Bold" } ": the best o.o.d. mean of a column, within one kind of weights, where nothing is missing; it was found by looking at the held-out "
            "domains and describes, it does not choose. "
            span.progress { "(done/planned)" } " stands where trials are missing. The mean column averages the domains of replicates that are done for all of them."
        }
        @for &selection in &report.selections {
            h3 { "Selection " (selection::label(selection)) }
            p { "Takes " (selection::takes(report, selection)) "; reads " (selection.reads()) " to choose." }
            @match summarised(report) {
                Some(first) => (summary(report, first, selection, numbers)),
                None => (settings(report, selection, numbers)),
            }
        }
        @if !report.combined.is_empty() {
            h3 { "Combinations across trials" }
            (combined(report, numbers))
        }
    };
    page::section("results", "Results", body)
}

/// Tables of every setting, if [`section`] has only a summary.
pub(in crate::report) fn appendix(report: &Report<'_>, numbers: &mut page::Numbering) -> Markup {
    if !report.has_domains() || summarised(report).is_none() {
        return html! {};
    }
    let body = html! {
        @for &selection in &report.selections {
            h3 { "Every setting, selection " (selection::label(selection)) }
            (settings(report, selection, numbers))
        }
    };
    page::section("settings", "Every setting", body)
}

/// The axis of the summary, if there are other axes to average over.
fn summarised<'a>(report: &'a Report<'_>) -> Option<&'a Axis> {
    report.first_axis().filter(|_| report.axes.len() > 1)
}

/// The results of every method by these axes.
fn of_methods(report: &Report<'_>, selection: Selection, by: &[Axis]) -> Vec<(Method, Results)> {
    let methods = report.methods.iter();
    methods.filter_map(|&method| Some((method, report.results(selection, method, by.to_vec())?))).collect()
}

/// The results by one axis, averaged over all others.
fn summary(report: &Report<'_>, axis: &Axis, selection: Selection, numbers: &mut page::Numbering) -> Markup {
    let all = of_methods(report, selection, std::slice::from_ref(axis));
    let others: Vec<&str> = report.axes.iter().filter(|other| *other != axis).map(Axis::as_str).collect();
    let caption = html! {
        (models(&all)) " by " (page::text(axis.as_str())) ", averaged over " (page::list(others)) "; selection " (selection.as_str()) "."
    };
    html! {
        (accuracy::tables(&Accuracy::ood(report).with_iid_mean(), &groups(&all), &caption, numbers))
        (unmeasured(&all))
    }
}

/// The tables of all settings under one selection method.
fn settings(report: &Report<'_>, selection: Selection, numbers: &mut page::Numbering) -> Markup {
    let all = of_methods(report, selection, &report.axes);
    let rows = all.iter().map(|(_, results)| results.means.len()).max().unwrap_or(0);
    html! {
        @if rows > ROWS_MAX && summarised(report).is_some() {
            p.note {
                "The " (page::count(rows as u64)) " settings of this sweep are too many to list one by one: "
                code { "sortie results " (report.name) " --select " (selection.as_str()) " --format csv" } " has them."
            }
        } @else if rows * all.len() <= page::ROWS_TOGETHER {
            (of_models(report, &all, selection, numbers))
        } @else {
            @for one in all.chunks(1) { (of_models(report, one, selection, numbers)) }
        }
        (unmeasured(&all))
    }
}

/// All settings of these methods.
fn of_models(
    report: &Report<'_>,
    all: &[(Method, Results)],
    selection: Selection,
    numbers: &mut page::Numbering,
) -> Markup {
    let caption = html! { (models(all)) "; selection " (selection.as_str()) "." };
    html! {
        (accuracy::tables(&Accuracy::ood(report), &groups(all), &caption, numbers))
        (accuracy::tables(&Accuracy::iid(report), &groups(all), &caption, numbers))
    }
}

fn models(all: &[(Method, Results)]) -> String {
    match all {
        [(only, _)] => format!("weights used: {only}"),
        _ => "all weights used".to_owned(),
    }
}

fn groups(all: &[(Method, Results)]) -> Vec<RowGroup<'_>> {
    let name = |method: Method| {
        if all.len() > 1 { Some(html! { "weights used: " (method.as_str()) }) } else { None }
    };
    all.iter()
        .map(|(method, results)| RowGroup { name: name(*method), results, axes: results.axes.clone() })
        .collect()
}

/// The number of succeeded trials that are in no mean.
fn unmeasured(all: &[(Method, Results)]) -> Markup {
    let missing =
        |results: &Results| results.cells.iter().map(|cell| cell.done - cell.measured).sum::<usize>();
    let found =
        all.iter().map(|(method, results)| (method, missing(results))).filter(|(_, missing)| *missing > 0);
    let found: Vec<String> = found
        .map(|(method, missing)| format!("weights used {method}: {}", page::count(missing as u64)))
        .collect();
    html! {
        @if !found.is_empty() { p.note { "Succeeded trials without the evaluations that these tables need (" (found.join(", ")) ")." } }
    }
}

/// The results of combinations.
fn combined(report: &Report<'_>, numbers: &mut page::Numbering) -> Markup {
    let mut of: BTreeMap<&str, Vec<TrialRecord>> = BTreeMap::new();
    for record in &report.combined {
        of.entry(record.point.combine().unwrap_or_default()).or_default().push(record.clone());
    }
    let steps: BTreeSet<u64> =
        report.combined.iter().flat_map(|record| &record.validation).map(|row| row.step).collect();
    let found: Vec<(&str, Results)> = report
        .spec
        .combine
        .iter()
        .filter_map(|combine| {
            let records = of.get(combine.name.as_str())?;
            // Axes that vary among all combinations and that this one has.
            let own = parameter_names(records.iter().map(|record| &record.point));
            let mut by = data::varying(&report.combined);
            by.retain(|axis| {
                ![COMBINE, MEMBERS].contains(&axis.as_str()) && own.iter().any(|name| name == axis.as_str())
            });
            by.insert(0, Axis::from(MEMBERS));
            let question = Question { by, ..report.question(Selection::Last, Method::Plain) };
            Some((combine.name.as_str(), results(&report.name, &report.spec.work, records, &question).ok()?))
        })
        .collect();
    // Combinations over different axes share a table, in which each has its own axes.
    let mut axes: Vec<Axis> = vec![Axis::from(MEMBERS)];
    for axis in found.iter().flat_map(|(_, results)| &results.axes) {
        // The name of the combination is the group's name.
        if !axes.contains(axis) && axis.as_str() != COMBINE {
            axes.push(axis.clone());
        }
    }
    let groups: Vec<RowGroup<'_>> = found
        .iter()
        .map(|(name, results)| RowGroup { name: Some(page::text(name)), results, axes: axes.clone() })
        .collect();
    let caption = html! { "models that combine several trials." };
    html! {
        p {
            "Each is made of the final models of several trials, and nothing is selected. They are in no mean of any other table."
            @if let Some(at) = combined_at(&steps) { " They were evaluated once, at " (at) "." }
        }
        (accuracy::tables(&Accuracy::ood(report).unmarked(), &groups, &caption, numbers))
        (accuracy::tables(&Accuracy::iid(report), &groups, &caption, numbers))
    }
}
