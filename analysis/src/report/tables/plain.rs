//! Tables of a sweep without held-out domains: accuracies on the splits that its trials evaluated.

use std::collections::BTreeMap;

use maud::{Markup, html};
use sortie_core::job::StateName;
use sortie_core::metrics::Method;
use sortie_core::record::TrialRecord;
use sortie_core::selection::{Validation, iid, last};

use super::super::{Report, page, progress};
use super::limits::ROWS_MAX;
use crate::axis::AxisValue;
use crate::metric_spec::MetricChoice;
use crate::scale::Scale;
use crate::statistics::Estimate;

/// The trials of one setting.
#[derive(Default)]
struct SettingAccuracies {
    planned: usize,
    done: usize,
    last: Vec<f64>,
    best: Vec<f64>,
}

pub(super) fn tables(report: &Report<'_>, numbers: &mut page::Numbering) -> Markup {
    html! {
        p {
            "The sweep holds out no domain, so there is nothing o.o.d. These are means over the out splits that trials evaluated, after the last step "
            "and after the best one. The best step was chosen by the same numbers, so it looks better than it is."
        }
        @for &method in &report.methods { (table(report, method, numbers)) }
    }
}

fn table(report: &Report<'_>, method: Method, numbers: &mut page::Numbering) -> Markup {
    let mut settings: BTreeMap<Vec<Option<AxisValue>>, SettingAccuracies> = BTreeMap::new();
    for record in &report.records {
        let values = report.axes.iter().map(|axis| axis.value(&record.point)).collect();
        settings.entry(values).or_default().add(record, method, &report.asked.metrics);
    }
    let shown = settings.values().flat_map(|setting| setting.last.iter().chain(&setting.best));
    let scale = Scale::of(&report.asked.metrics.shown, shown.copied());
    let rows = settings.len();
    let head = html! {
        tr {
            @for axis in &report.axes { (page::column(page::text(axis.as_str()))) }
            @for name in ["last step", "best step", "n", "done"] { (page::number_column(name)) }
        }
    };
    let body = html! {
        tbody {
            @for (values, setting) in settings.iter().take(ROWS_MAX) {
                tr {
                    @for value in values { th scope="row" { (progress::value_or_mixed(value.as_ref())) } }
                    td.number { (page::mean(&scale, &Estimate::of(&setting.last))) }
                    td.number { (page::mean(&scale, &Estimate::of(&setting.best))) }
                    td.number { (setting.last.len()) }
                    td.number { (setting.done) "/" (setting.planned) }
                }
            }
        }
    };
    html! {
        (page::table(&numbers.table(), html! { (scale.with_unit(&format!("Mean {} on the out splits", scale.name()))) ", ± standard error over trials; weights used: " (method.as_str()) "." }, rows > page::ROWS_TOGETHER, head, body))
        @if rows > ROWS_MAX { p.note { (page::count((rows - ROWS_MAX) as u64)) " further settings are left out." } }
    }
}

impl SettingAccuracies {
    fn add(&mut self, record: &TrialRecord, method: Method, metrics: &MetricChoice) {
        self.planned += 1;
        if record.state != StateName::Succeeded {
            return;
        }
        self.done += 1;
        let validation = Validation::of(record, method, &metrics.selected_by);
        let shown = Validation::of(record, method, &metrics.shown);
        self.last.extend(last(validation).and_then(|selected| shown.iid(selected.step)));
        self.best.extend(iid(validation).and_then(|selected| shown.iid(selected.step)));
    }
}
