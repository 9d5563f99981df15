//! The lines at the top of every figure.

use sortie_core::metrics::Method;

use crate::axis::Axis;
use crate::results::Results;

/// How the numbers of the figure were made, and how many trials are missing. `selects` tells whether steps were selected.
pub(super) fn notes(results: &Results, averaged: &[Axis], selects: bool) -> Vec<String> {
    let Results { selection, method, planned, done, failed, diverged, cancelled, .. } = results;
    let split = results.ood_split_label();
    let measured = format!(
        "o.o.d.: held-out domain, {split} split; i.i.d.: training domains, out split (in/out: train/validation)"
    );
    let selected_by = results.metrics().selected_by;
    let by = if selected_by.is_accuracy() {
        String::new()
    } else {
        format!(" by {} ({} is best)", selected_by.name(), selected_by.goal())
    };
    let mut progress = if selects { format!("step selection {selection}{by}; ") } else { String::new() };
    if *method != Method::Plain {
        progress.push_str(&format!("weights used: {method}; "));
    }
    if !averaged.is_empty() {
        let names: Vec<&str> = averaged.iter().map(|axis| axis.as_str()).collect();
        progress.push_str(&format!("averaged over {}; ", names.join(", ")));
    }
    progress.push_str(&format!("{done} of {planned} trials done"));
    for (count, what) in [(failed, "failed"), (diverged, "diverged"), (cancelled, "cancelled")] {
        if *count > 0 {
            progress.push_str(&format!(", {count} {what}"));
        }
    }
    let mut notes = vec![measured, progress];
    notes.extend(results.missing_classes.note().map(str::to_owned));
    notes
}
