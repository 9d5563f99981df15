//! Where the numbers come from: the environment of the attempts, the specification, and how the page was made.

use std::collections::{BTreeMap, BTreeSet};

use maud::{Markup, html};
use serde_json::Value;
use sortie_core::job::StateName;

use super::{Report, page};

/// Facts that are listed first, in this order. Others follow by name.
const FACTS: [&str; 6] = ["software", "libtorch", "device", "threads", "dataset_digest", "weights_digest"];
/// Values of a fact that are listed.
const VALUES_MAX: usize = 12;
/// Characters of the specification that are shown.
const SPECIFICATION_MAX: usize = 200_000;

pub(super) fn section(report: &Report<'_>, numbers: &mut page::Numbering) -> Markup {
    let asked = report.asked;
    let mut specification = String::new();
    write(&serde_json::to_value(&report.spec).unwrap_or_default(), 0, &mut specification);
    let cut = specification.char_indices().nth(SPECIFICATION_MAX).map(|(end, _)| end);
    let environment = html! {
        p { "Version of the numbers (protocol): " (report.spec.protocol) "." }
        (runs(report, numbers))
        details open {
            summary { "Specification of the sweep" }
            pre { (&specification[..cut.unwrap_or(specification.len())]) @if cut.is_some() { "\n… (cut)" } }
        }
    };
    let made = html! {
        dl.facts {
            dt { "Command" } dd { code { (asked.command) } }
            dt { "Program" } dd { (asked.software) }
            @if let Some(date) = &asked.date { dt { "Date" } dd { (date) } }
        }
        p.note { "This page holds everything that it shows: it loads nothing and runs no script." }
    };
    html! {
        (page::section("environment", "Environment", environment))
        (page::section("made", "How this was made", made))
    }
}

fn runs(report: &Report<'_>, numbers: &mut page::Numbering) -> Markup {
    let done = report
        .records
        .iter()
        .chain(&report.combined)
        .filter(|record| record.state == StateName::Succeeded)
        .count();
    if report.runs.is_empty() {
        return html! { p { "What the attempts ran on is not known to this report." } };
    }
    let names: BTreeSet<&str> =
        report.runs.iter().flat_map(|(_, run)| run.keys()).map(String::as_str).collect();
    let known = FACTS.into_iter().filter(|name| names.contains(name));
    let others = names.iter().copied().filter(|name| !FACTS.contains(name));
    let caption = html! {
        "What accepted attempts ran on: values, and how many trials have each; known of " (page::count(report.runs.len() as u64)) " of "
        (page::count(done as u64)) " trials that are done."
    };
    let head =
        html! { tr { (page::column("fact")) (page::column("value")) (page::number_column("trials")) } };
    let body = html! { @for name in known.chain(others) { (fact(report, name)) } };
    page::table(&numbers.table(), caption, false, head, body)
}

/// The values of one fact, the most frequent first.
fn fact(report: &Report<'_>, name: &str) -> Markup {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for (_, run) in &report.runs {
        if let Some(value) = run.get(name) {
            *counts.entry(value).or_default() += 1;
        }
    }
    let mut counts: Vec<(&str, usize)> = counts.into_iter().collect();
    counts.sort_by_key(|(_, trials)| std::cmp::Reverse(*trials));
    let (rows, left_out) = (counts.len().min(VALUES_MAX), counts.len().saturating_sub(VALUES_MAX));
    html! {
        tbody {
            @for (index, (value, trials)) in counts.iter().take(VALUES_MAX).enumerate() {
                tr {
                    @if index == 0 { th scope="rowgroup" rowspan=(rows + usize::from(left_out > 0)) { (name.replace('_', " ")) } }
                    td.value { (page::text(value)) }
                    td.number { (page::count(*trials as u64)) }
                }
            }
            @if left_out > 0 { tr { td colspan="2" { "and " (page::count(left_out as u64)) " other values" } } }
        }
    }
}

/// JSON over several lines, with lists of plain values on one line each.
fn write(value: &Value, depth: usize, text: &mut String) {
    let indent = |depth: usize| format!("\n{}", "  ".repeat(depth));
    match value {
        Value::Object(entries) if !entries.is_empty() => {
            for (index, (key, value)) in entries.iter().enumerate() {
                text.push_str(if index == 0 { "{" } else { "," });
                text.push_str(&format!("{}{}: ", indent(depth + 1), Value::from(key.as_str())));
                write(value, depth + 1, text);
            }
            text.push_str(&format!("{}}}", indent(depth)));
        }
        Value::Array(values) => {
            let nested = values.iter().any(|value| value.is_object() || value.is_array());
            text.push('[');
            for (index, value) in values.iter().enumerate() {
                if nested {
                    text.push_str(if index == 0 { "" } else { "," });
                    text.push_str(&indent(depth + 1));
                } else if index > 0 {
                    text.push_str(", ");
                }
                write(value, depth + 1, text);
            }
            if nested {
                text.push_str(&indent(depth));
            }
            text.push(']');
        }
        plain => plain.to_string().chars().for_each(|character| match character {
            // Characters that change the direction of text stay visible.
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                text.push_str(&format!("\\u{:04x}", u32::from(character)))
            }
            character => text.push(character),
        }),
    }
}
