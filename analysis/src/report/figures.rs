//! The figures that suit the sweep, inside the page.

use maud::{Markup, PreEscaped, html};
use sortie_core::metrics::Method;
use sortie_core::selection::{Selection, Validation};

use super::document::inline;
use super::{Report, page};
use crate::figure::{FigureError, FigureKind, FigureQuestion, axes, figure};

pub(super) fn section(report: &Report<'_>, numbers: &mut page::Numbering) -> Markup {
    if !report.has_domains() {
        return html! {};
    }
    let selection = report.selections.first().copied().unwrap_or(Selection::Iid);
    let drawn: Vec<Markup> = wanted(report)
        .into_iter()
        .filter_map(|(kind, methods)| one(report, kind, &methods, selection, numbers))
        .collect();
    if drawn.is_empty() {
        return html! {};
    }
    page::section("figures", "Figures", html! { div.figures { @for figure in &drawn { (figure) } } })
}

/// The figures to draw, with their methods.
fn wanted(report: &Report<'_>) -> Vec<(FigureKind, Vec<Method>)> {
    let first = report.methods.first().copied().unwrap_or(Method::Plain);
    let mut wanted = Vec::new();
    if axes::of_rates(&report.records).is_some_and(|axis| report.axes.contains(&axis)) {
        wanted.extend(report.methods.iter().map(|method| (FigureKind::Rates, vec![*method])));
    }
    if !report.axes.is_empty() || report.methods.len() > 1 {
        wanted.push((FigureKind::Scatter, report.methods.clone()));
    }
    if report
        .records
        .iter()
        .any(|record| Validation::of(record, first, &report.asked.metrics.shown).steps().len() > 1)
    {
        wanted.push((FigureKind::Curves, vec![first]));
    }
    if report.records.iter().filter(|record| record.point.held_out.len() == 1).count() > report.domains.len()
    {
        wanted.push((FigureKind::Box, vec![first]));
    }
    wanted.push((FigureKind::Grid, vec![first]));
    wanted
}

fn one(
    report: &Report<'_>,
    kind: FigureKind,
    methods: &[Method],
    selection: Selection,
    numbers: &mut page::Numbering,
) -> Option<Markup> {
    let asked = FigureQuestion {
        selection,
        methods: methods.to_vec(),
        ood_split: report.asked.ood_split,
        metrics: report.asked.metrics.clone(),
        ..FigureQuestion::of(kind)
    };
    let names = methods.iter().map(|method| method.as_str()).collect::<Vec<_>>().join(", ");
    let records = if kind == FigureKind::Curves { &report.records } else { report.records_for(selection) };
    // Only a scatter figure draws combinations, as points of their own.
    let drawn = if kind == FigureKind::Scatter && !report.combined.is_empty() {
        let all: Vec<_> = records.iter().chain(&report.combined).cloned().collect();
        figure(&report.name, &report.spec.work, &all, &asked)
    } else {
        figure(&report.name, &report.spec.work, records, &asked)
    };
    let svg = match drawn {
        Ok(svg) => svg,
        Err(FigureError::NoNumbers { .. } | FigureError::NoPair { .. } | FigureError::Results(_)) => {
            return None;
        }
        Err(error) => {
            return Some(
                html! { p.note { "No figure of kind " (kind.as_str()) " (weights used: " (names) "): " (error.to_string()) "." } },
            );
        }
    };
    let caption = format!("{} (weights used: {names}; selection {selection})", description(report, kind));
    let svg = inline(&svg, &caption);
    Some(html! {
        figure {
            (PreEscaped(svg))
            figcaption { b { (numbers.figure()) "." } " " (caption) "." }
        }
    })
}

fn description(report: &Report<'_>, kind: FigureKind) -> String {
    let metric = report.metric();
    match kind {
        FigureKind::Rates => {
            let axis = axes::of_rates(&report.records).map(|axis| axis.to_string()).unwrap_or_default();
            let axis = if axis == "dropout" { "the dropout rate".to_owned() } else { axis };
            format!("The {metric} against {axis}, all other settings averaged")
        }
        FigureKind::Scatter => {
            format!(
                "O.o.d. against i.i.d. {metric} of every choice of one setting per held-out domain, with hull and centre; combinations across trials are single points"
            )
        }
        FigureKind::Curves => format!("The {metric} against the training step, mean over trials"),
        FigureKind::Box => {
            format!("The {metric} of single trials: median, quartiles, whiskers to 1.5 interquartile ranges")
        }
        FigureKind::Grid => format!("Mean o.o.d. {metric} over two axes"),
    }
}
