//! The completeness of the sweep.

use std::collections::BTreeMap;

use maud::{Markup, html};
use sortie_core::job::StateName;

use super::{Report, page};
use crate::axis::{Axis, AxisValue};

/// Settings with missing trials that are listed.
const ROWS_MAX: usize = 40;
/// Held-out domains, or pairs of them, that one row names.
const VALUES_MAX: usize = 8;

/// Numbers of trials by state.
#[derive(Clone, Debug, Default)]
pub(super) struct TrialCounts {
    pub planned: usize,
    pub done: usize,
    pub failed: usize,
    pub diverged: usize,
    pub cancelled: usize,
    pub running: usize,
    pub waiting: usize,
}

impl TrialCounts {
    fn add(&mut self, state: StateName) {
        self.planned += 1;
        match state {
            StateName::Succeeded => self.done += 1,
            StateName::Failed => self.failed += 1,
            StateName::Diverged => self.diverged += 1,
            StateName::Cancelled => self.cancelled += 1,
            StateName::Running => self.running += 1,
            StateName::Blocked | StateName::Queued => self.waiting += 1,
        }
    }

    /// The counts of the whole sweep. Trials that are not stored yet count as waiting.
    pub(super) fn of(report: &Report<'_>) -> Self {
        let mut counts = Self::default();
        report.records.iter().chain(&report.combined).for_each(|record| counts.add(record.state));
        let planned = report
            .spec
            .trials_planned()
            .and_then(|planned| usize::try_from(planned).ok())
            .unwrap_or(usize::MAX);
        // Of how many planned trials conditions hold is not known.
        let is_all = report.asked.conditions.is_none();
        let unwritten = if is_all { planned.saturating_sub(counts.planned) } else { 0 };
        counts.planned += unwritten;
        counts.waiting += unwritten;
        counts
    }

    fn missing(&self) -> usize {
        self.planned - self.done
    }

    /// The trials without a result, by state.
    fn missing_by_state(&self) -> String {
        let all = [
            (self.failed, "failed"),
            (self.diverged, "diverged"),
            (self.cancelled, "cancelled"),
            (self.running, "running"),
            (self.waiting, "waiting"),
        ];
        let there = all.iter().filter(|(count, _)| *count > 0);
        there
            .map(|(number, what)| format!("{} {what}", page::count(*number as u64)))
            .collect::<Vec<_>>()
            .join(", ")
    }
}

/// States whether the numbers of the page are final.
pub(super) fn banner(report: &Report<'_>) -> Markup {
    let counts = TrialCounts::of(report);
    let (done, planned) = (page::count(counts.done as u64), page::count(counts.planned as u64));
    html! {
        @if counts.missing() == 0 {
            p.banner.complete {
                b { "Complete." } " "
                @if counts.planned == 1 { "The only planned trial has a result." } @else { "All " (planned) " planned trials have a result." }
            }
        } @else {
            div.banner.incomplete role="note" {
                p { b { "Incomplete: " (done) " of " (planned) " trials have a result." } }
                p {
                    "Missing: " (counts.missing_by_state()) ". Means below are over what is there and may change; nothing is marked best in a "
                    "column where something is missing. " a href="#progress" { "What is missing" } "."
                }
            }
        }
    }
}

pub(super) fn section(report: &Report<'_>, numbers: &mut page::Numbering) -> Markup {
    let counts = TrialCounts::of(report);
    let TrialCounts { planned, done, failed, diverged, cancelled, running, waiting } = counts;
    let all = [
        ("planned", planned),
        ("done", done),
        ("failed", failed),
        ("diverged", diverged),
        ("cancelled", cancelled),
        ("running", running),
        ("waiting", waiting),
    ];
    let head = html! { tr { @for (name, _) in all { (page::number_column(name)) } } };
    let row =
        html! { tbody { tr { @for (_, number) in all { td.number { (page::count(number as u64)) } } } } };
    let body = html! {
        (page::table(&numbers.table(), "Trials. Only those that are done are in any mean.", false, head, row))
        @if counts.missing() > 0 { (missing(report, numbers)) }
    };
    page::section("progress", "Completeness", body)
}

/// The kind of a trial, and its values on the axes that vary.
type SettingKey<'a> = (&'a str, Vec<Option<AxisValue>>);

/// The missing trials of one setting.
#[derive(Default)]
struct Missing {
    counts: TrialCounts,
    /// The number of missing trials of each held-out domain.
    held_out: BTreeMap<String, usize>,
}

fn missing(report: &Report<'_>, numbers: &mut page::Numbering) -> Markup {
    let mut settings: BTreeMap<SettingKey<'_>, Missing> = BTreeMap::new();
    let single = report
        .records
        .iter()
        .map(|record| (record, if record.point.held_out.len() == 2 { "pairs" } else { "" }));
    let combined = report.combined.iter().map(|record| (record, record.point.combine().unwrap_or_default()));
    for (record, kind) in single.chain(combined) {
        let values = report.axes.iter().map(|axis| axis.value(&record.point)).collect();
        let setting = settings.entry((kind, values)).or_default();
        setting.counts.add(record.state);
        if record.state != StateName::Succeeded {
            *setting.held_out.entry(record.point.held_out_label()).or_default() += 1;
        }
    }
    settings.retain(|_, missing| missing.counts.missing() > 0);
    let (found, unwritten) =
        (settings.len(), TrialCounts::of(report).planned - report.records.len() - report.combined.len());
    let kinds = settings.keys().any(|(kind, _)| !kind.is_empty());
    let domains = report.has_domains();
    let head = html! {
        tr {
            @if kinds { (page::column("trials")) }
            @for axis in &report.axes { (page::column(page::text(axis.as_str()))) }
            (page::number_column("done")) (page::column("missing")) @if domains { (page::column("held-out domains")) }
        }
    };
    let rows = html! {
        tbody {
            @for ((kind, values), missing) in settings.iter().take(ROWS_MAX) {
                tr {
                    @if kinds { th scope="row" { @if kind.is_empty() { "single" } @else { (page::text(kind)) } } }
                    @for value in values { th scope="row" { (value_or_mixed(value.as_ref())) } }
                    td.number { (missing.counts.done) "/" (missing.counts.planned) }
                    td { (missing.counts.missing_by_state()) }
                    @if domains { td { (held_out(missing)) } }
                }
            }
        }
    };
    let long = found > page::ROWS_TOGETHER;
    html! {
        @if found > 0 { (page::table(&numbers.table(), caption(&report.axes), long, head, rows)) }
        @if found > ROWS_MAX { p.note { (page::count((found - ROWS_MAX) as u64)) " further settings with missing trials are not listed." } }
        @if unwritten > 0 { p.note { (page::count(unwritten as u64)) " planned trials are not stored yet: the sweep is still being submitted." } }
    }
}

fn caption(axes: &[Axis]) -> &'static str {
    if axes.is_empty() { "What is missing." } else { "What is missing, by setting." }
}

fn held_out(missing: &Missing) -> String {
    let all = missing.held_out.iter().take(VALUES_MAX).map(|(domain, count)| format!("{domain} ({count})"));
    let more = missing.held_out.len().saturating_sub(VALUES_MAX);
    let more = (more > 0).then(|| format!("and {more} more"));
    all.chain(more).collect::<Vec<_>>().join(", ")
}

/// A value on an axis; none for a combination whose members differ.
pub(super) fn value_or_mixed(value: Option<&AxisValue>) -> Markup {
    match value {
        Some(value) => page::text(&value.to_string()),
        None => html! { i { "mixed" } },
    }
}
