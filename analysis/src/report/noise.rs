//! The noise across seeds, and one comparison beside it.

use maud::{Markup, html};
use sortie_core::filter::Filter;
use sortie_core::metrics::{Method, Metric};
use sortie_core::parameters::Scalar;
use sortie_core::selection::Selection;

use super::{Report, page};
use crate::axis::{Axis, AxisValue};
use crate::paired::{Comparison, Paired, paired};
use crate::results::Mean;
use crate::scale::Scale;

pub(super) fn section(report: &Report<'_>, numbers: &mut page::Numbering) -> Markup {
    if !report.has_domains() {
        return html! {};
    }
    let selection = report.selections.first().copied().unwrap_or(Selection::Iid);
    let (spread, comparison) = (spread(report, selection, numbers), comparison(report, selection, numbers));
    page::section("noise", "Noise", html! { (spread) (comparison) })
}

fn compare(
    report: &Report<'_>,
    method: Method,
    selection: Selection,
    settings: [&Filter; 2],
) -> Option<Paired> {
    let question = report.question(selection, method);
    paired(&report.name, &report.spec.work, report.records_for(selection), &question, settings).ok()
}

/// The pooled standard deviation across seeds of all trials, from a comparison of all trials with themselves.
fn spread(report: &Report<'_>, selection: Selection, numbers: &mut page::Numbering) -> Markup {
    let all = Filter::default();
    let found: Vec<(Method, Scale, f64, f64)> = report
        .methods
        .iter()
        .filter_map(|&method| {
            let Paired { ood, iid, scale, .. } = compare(report, method, selection, [&all, &all])?;
            Some((method, scale, ood.between_seeds?, iid.between_seeds?))
        })
        .collect();
    if found.is_empty() {
        return html! { p { "No two trials that are done differ in the seed alone, so the noise across seeds is not known." } };
    }
    let head = html! { tr { (page::column("weights used")) (page::number_column("o.o.d.")) (page::number_column("i.i.d.")) } };
    let rows = html! {
        tbody {
            @for (method, scale, ood, iid) in &found {
                tr { th scope="row" { (method.as_str()) } @for value in [ood, iid] { td.number { (scale.fine_text(*value)) } } }
            }
        }
    };
    html! {
        p {
            "The standard deviation of trials that differ only in the seed" @if let Some((_, scale, ..)) = found.first() { ", in " (scale.points()) } ", pooled over all settings and held-out "
            "domains, under selection " (selection.as_str()) ". A difference of this size between two single trials could be seed noise."
        }
        (page::table(&numbers.table(), "SD of one run across seeds.", false, head, rows))
    }
}

/// Two values of an axis to compare, and how they were chosen.
struct ComparedValues {
    a: AxisValue,
    b: AxisValue,
    after_looking: bool,
}

fn comparison(report: &Report<'_>, selection: Selection, numbers: &mut page::Numbering) -> Markup {
    let Some(axis) = report.first_axis() else { return html! {} };
    let compared: Vec<(Method, ComparedValues, Paired)> = report
        .methods
        .iter()
        .filter_map(|&method| {
            let results = report.results(selection, method, vec![axis.clone()])?;
            let choice = choose(axis, &results.means, &report.asked.metrics.shown)?;
            let filters = [filter(report, axis, &choice.a)?, filter(report, axis, &choice.b)?];
            let paired = compare(report, method, selection, [&filters[0], &filters[1]])?;
            (paired.units == paired.planned).then_some((method, choice, paired))
        })
        .collect();
    if compared.is_empty() {
        return html! { p.note { "No two values of " (page::text(axis.as_str())) " are complete and can be compared trial by trial." } };
    }
    let looked = compared.iter().any(|(_, choice, _)| choice.after_looking);
    let caption = html! {
        "B minus A" @if let Some((_, _, paired)) = compared.first() { " in " (paired.scale.points()) } ", pairs of trials that agree in all but " (page::text(axis.as_str())) "; ± standard error over units (a held-out domain with "
        "its seeds). 95% interval by domain: of the spread between seeds within each held-out domain (Student's t); over units: of all units alike "
        "(bootstrap), which differences between domains widen. Selection " (selection.as_str()) "."
    };
    html! {
        h3 { "Paired comparison" }
        (page::table(&numbers.table(), caption, false, head(&compared), html! { @for (method, choice, paired) in &compared { (rows(*method, choice, paired)) } }))
        @for (method, _, paired) in &compared {
            p { @if compared.len() > 1 { "Weights used " (method.as_str()) ": " } (paired.verdict_on("A", "B")) "." }
        }
        p.note {
            @if looked {
                b { "Chosen after looking: " } "B is the rate with the best mean o.o.d. " (report.metric()) " of this very sweep, so its advantage is overstated and the interval "
                "does not account for the choice. It shows how large the difference is beside the noise; to test it, run new seeds."
            } @else {
                "A and B are the ends of the axis, whatever came of them. No correction for several comparisons is made."
            }
        }
    }
}

/// Dropout 0 and the best other rate, or the least and the largest number of another axis. Both must be complete.
fn choose(axis: &Axis, means: &[Mean], metric: &Metric) -> Option<ComparedValues> {
    let numbers = means.iter().filter_map(|mean| match mean.row.as_slice() {
        [(_, value @ AxisValue::Scalar(Scalar::Number(number)))] => Some((number.get(), value, mean)),
        _ => None,
    });
    let mut numbers: Vec<(f64, &AxisValue, &Mean)> = numbers.collect();
    numbers.sort_by(|(a, ..), (b, ..)| a.total_cmp(b));
    let complete = |mean: &Mean| mean.done == mean.planned && mean.ood.mean.is_some();
    let ((first, a, least), (_, largest, most)) = (*numbers.first()?, *numbers.last()?);
    let dropout = *axis == Axis::dropout() && first == 0.0;
    if dropout && numbers.len() > 2 {
        // The best rate is not known before all rates are complete.
        let all = numbers.iter().all(|(_, _, mean)| complete(mean));
        let score = |mean: &Mean| mean.ood.mean.map(|mean| metric.score(mean));
        let best = numbers[1..].iter().max_by(|(_, _, x), (_, _, y)| {
            score(x).partial_cmp(&score(y)).unwrap_or(std::cmp::Ordering::Equal)
        });
        return best.filter(|_| all).map(|(_, b, _)| ComparedValues {
            a: a.clone(),
            b: (*b).clone(),
            after_looking: true,
        });
    }
    (numbers.len() > 1 && complete(least) && complete(most)).then(|| ComparedValues {
        a: a.clone(),
        b: largest.clone(),
        after_looking: false,
    })
}

/// The condition for one value of an axis; none if it would mean other trials.
fn filter(report: &Report<'_>, axis: &Axis, value: &AxisValue) -> Option<Filter> {
    let (Axis::Parameter(name), AxisValue::Scalar(scalar)) = (axis, value) else { return None };
    let filter = Filter::of_parameter(name, scalar);
    let means = |filter: &Filter| {
        report
            .records
            .iter()
            .all(|one| filter.matches(&one.point) == (axis.value(&one.point).as_ref() == Some(value)))
    };
    means(&filter).then_some(filter)
}

fn paired_metric(compared: &[(Method, ComparedValues, Paired)]) -> &str {
    compared.first().map(|(_, _, paired)| paired.metric.name()).unwrap_or_default()
}

fn head(compared: &[(Method, ComparedValues, Paired)]) -> Markup {
    let domains = compared.first().map(|(_, _, paired)| paired.domains.as_slice()).unwrap_or_default();
    html! {
        tr {
            (page::column("A")) (page::column("B")) (page::column(paired_metric(compared)))
            (page::number_column("difference")) (page::number_column("95% interval by domain"))
            (page::number_column("95% interval over units")) (page::number_column("better, equal, worse"))
            (page::number_column("SD of one run across seeds"))
            @for domain in domains { (page::number_column(page::text(&domain.held_out))) }
        }
    }
}

fn rows(method: Method, choice: &ComparedValues, paired: &Paired) -> Markup {
    let all: [(&str, &Comparison, Vec<_>); 2] = [
        ("o.o.d.", &paired.ood, paired.domains.iter().map(|domain| domain.ood).collect()),
        ("i.i.d.", &paired.iid, paired.domains.iter().map(|domain| domain.iid).collect()),
    ];
    html! {
        tbody {
            tr.group { th scope="rowgroup" colspan=(8 + paired.domains.len()) { "weights used: " (method.as_str()) "; " (paired.units) " units" } }
            @for (name, comparison, domains) in &all {
                tr {
                    th scope="row" { (page::text(&choice.a.to_string())) }
                    th scope="row" { (page::text(&choice.b.to_string())) }
                    th scope="row" { (name) }
                    td.number { (page::points(&paired.scale, &comparison.difference)) }
                    td.number { (range(&paired.scale, comparison.interval_by_domain)) }
                    td.number { (range(&paired.scale, comparison.interval)) }
                    td.number { (comparison.better) ", " (comparison.equal) ", " (comparison.worse) }
                    td.number { (comparison.between_seeds.map_or_else(|| "–".to_owned(), |noise| paired.scale.text(noise))) }
                    @for domain in domains { td.number { (page::points(&paired.scale, domain)) } }
                }
            }
        }
    }
}

fn range(scale: &Scale, interval: Option<[f64; 2]>) -> String {
    interval.map_or_else(
        || "–".to_owned(),
        |[low, high]| format!("{} to {}", page::difference(scale, low), page::difference(scale, high)),
    )
}
