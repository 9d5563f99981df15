//! The figures that suit the sweep, inside the page.

use std::collections::{BTreeMap, BTreeSet};

use maud::{Markup, PreEscaped, html};
use sortie_core::metrics::{Method, TrainingLoss};
use sortie_core::parameters::Parameters;
use sortie_core::selection::{Selection, Validation};
use sortie_core::trial::Point;

use super::document::inline;
use super::{Report, page};
use crate::figure::{
    CurveSplit, CurveValue, FigureError, FigureKind, FigurePage, FigureQuestion, TrialCurve, axes, figure,
    mean_losses,
};

pub(super) fn section(report: &Report<'_>, numbers: &mut page::Numbering) -> Markup {
    let selection = report.selections.first().copied().unwrap_or(Selection::Iid);
    let wanted = if report.has_domains() { wanted(report) } else { Vec::new() };
    let mut drawn: Vec<Markup> = wanted
        .into_iter()
        .filter_map(|(kind, methods)| one(report, kind, &methods, selection, numbers))
        .collect();
    drawn.extend(losses(report, numbers));
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

/// The mean training loss by step, with a line for each value of the first axis.
fn losses(report: &Report<'_>, numbers: &mut page::Numbering) -> Option<Markup> {
    let axis = report.first_axis();
    let setting = |point: &Point| -> Parameters {
        let value = axis
            .and_then(|axis| Some((axis.as_str().to_owned(), point.parameters.get(axis.as_str())?.clone())));
        value.into_iter().collect()
    };
    let mut sums: BTreeMap<Parameters, BTreeMap<u64, (f64, usize)>> = BTreeMap::new();
    for record in &report.records {
        for &TrainingLoss { step, loss, .. } in report.losses.get(&record.id).into_iter().flatten() {
            let sum = sums.entry(setting(&record.point)).or_default().entry(step).or_default();
            *sum = (sum.0 + loss, sum.1 + 1);
        }
    }
    let counts: BTreeSet<usize> =
        sums.values().filter_map(|steps| steps.values().map(|(_, trials)| *trials).max()).collect();
    let trials = match (counts.first()?, counts.last()?) {
        (1, 1) => "one trial".to_owned(),
        (least, most) if least == most => format!("{most} trials"),
        (least, most) => format!("{least} to {most} trials"),
    };
    let curve = |(parameters, steps): (Parameters, BTreeMap<u64, (f64, usize)>)| {
        let every = steps.values().map(|(_, trials)| *trials).max().unwrap_or_default();
        // A step that some trials lack would be a mean over others.
        let steps = steps.into_iter().filter(|(_, (_, trials))| *trials == every);
        let value = |(step, (sum, trials))| CurveValue { step, seconds: None, value: sum / trials as f64 };
        TrialCurve {
            trial: String::new(),
            point: Point { held_out: Vec::new(), parameters, seed: 0, split_seed: 0 },
            method: Method::Plain.as_str().to_owned(),
            domain: None,
            split: CurveSplit::Batch,
            is_held_out: false,
            values: steps.map(value).collect(),
        }
    };
    let curves: Vec<TrialCurve> = sums.into_iter().map(curve).collect();
    let svg = match mean_losses(&report.name, &curves, &trials, &FigurePage::default()) {
        Ok(svg) => svg,
        Err(error) => {
            return Some(html! { p.note { "No figure of training losses: " (error.to_string()) "." } });
        }
    };
    let by = axis.map(|axis| format!(", a line for each value of {axis}")).unwrap_or_default();
    let caption = format!("The training loss of the step's batch against the step, mean over {trials}{by}");
    let label = inline(&svg, &caption);
    Some(html! {
        figure {
            (PreEscaped(label))
            figcaption { b { (numbers.figure()) "." } " " (caption) ". " code { "sortie curves" } " has the numbers." }
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
