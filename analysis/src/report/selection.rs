//! The selection methods and the weights used of the tables.

use maud::{Markup, html};
use sortie_core::finetune::AverageEvery;
use sortie_core::metrics::Method;
use sortie_core::selection::Selection;
use sortie_core::trial::Work;

use super::{Report, page};

pub(super) fn section(report: &Report<'_>, numbers: &mut page::Numbering) -> Markup {
    if !report.has_domains() {
        return html! {};
    }
    let head =
        html! { tr { (page::column("method")) (page::column("takes")) (page::column("reads to choose")) } };
    let rows = html! {
        tbody {
            @for selection in &report.selections {
                tr {
                    th scope="row" { (selection.as_str()) @if *selection == Selection::Oracle { " (oracle)" } }
                    td { (takes(report, *selection)) }
                    td { (selection.reads()) @if *selection == Selection::Oracle { ": no method for an unseen domain, an upper bound only" } }
                }
            }
        }
    };
    let models = html! { tr { (page::column("weights used")) (page::column("what it is")) } };
    let described = html! {
        tbody {
            @for method in &report.methods { tr { th scope="row" { (method.as_str()) } td { (model(*method, &report.spec.work)) } } }
        }
    };
    let body = html! {
        p {
            "The o.o.d. " (report.metric()) " is read on the held-out domain (" (split(report)) "), the i.i.d. " (report.metric()) " on the out splits of the training domains "
            "(unweighted mean over domains). No selection method but an oracle reads the held-out domain. Settings are averaged, not chosen: "
            "no table takes the best of several settings."
        }
        (page::table(&numbers.table(), "Which step of a run counts.", false, head, rows))
        (page::table(&numbers.table(), "Weights used: what was evaluated of each run.", false, models, described))
    };
    page::section("selection", "Selection and weights used", body)
}

/// The split of the held-out domain, in words.
pub(super) fn split(report: &Report<'_>) -> String {
    let split = report.asked.ood_split.unwrap_or_else(|| crate::OodSplit::default_for(&report.spec.work));
    match split {
        crate::OodSplit::All => "all images".to_owned(),
        split => format!("{split} split"),
    }
}

/// The selection in a caption.
pub(super) fn label(selection: Selection) -> &'static str {
    match selection {
        Selection::Oracle => "oracle (reads the held-out domain)",
        other => other.as_str(),
    }
}

/// The selected step, in words.
pub(super) fn takes(report: &Report<'_>, selection: Selection) -> String {
    match selection {
        Selection::Iid => {
            let metric = report.asked.metrics.selected_by.name();
            format!("the step with the best i.i.d. {metric}, the earliest of equals")
        }
        Selection::Loo => {
            "the step that does best on each training domain in turn, measured by runs that held out that domain too".to_owned()
        }
        Selection::Oracle => {
            "the last step; settings would be compared by the held-out domain itself".to_owned()
        }
        Selection::Last => "the last step".to_owned(),
    }
}

fn model(method: Method, work: &Work) -> String {
    let settings = if let Work::Finetune(settings) = work { Some(settings) } else { None };
    match method {
        Method::Plain => "the weights as they stand after the step".to_owned(),
        Method::Average => match settings.and_then(|settings| settings.average) {
            Some(average) => {
                let every = match average.every {
                    AverageEvery::Steps(1) => "every step".to_owned(),
                    AverageEvery::Steps(steps) => format!("every {steps} steps"),
                    AverageEvery::Evaluation => "every evaluation".to_owned(),
                };
                format!("the running mean of the weights after {every} from step {} on", average.from)
            }
            None => "the running mean of the weights".to_owned(),
        },
        Method::Ensemble => match settings.and_then(|settings| settings.ensemble) {
            Some(ensemble) => {
                format!(
                    "an ensemble over steps: the sum of the logits of the evaluations from step {} on",
                    ensemble.from
                )
            }
            None => "an ensemble over steps: the sum of the logits".to_owned(),
        },
    }
}
