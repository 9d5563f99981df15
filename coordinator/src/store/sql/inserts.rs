//! Statements that insert rows of plain values.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, PoisonError};

/// The columns of both tables of evaluations.
pub(super) const EVALUATION_COLUMNS: &str =
    "token, method, step, domain, split, n, correct, accuracy, loss, metrics, seconds";
/// The columns of the table of artifacts.
pub(super) const ARTIFACT_COLUMNS: &str = "token, kind, method, step, key, digest, bytes";
/// The columns of the table of training losses.
pub(super) const LOSS_COLUMNS: &str = "token, step, loss, seconds";
/// Rows that one statement with plain values inserts at the most.
pub(super) const VALUES_ROWS_MAX: usize = 128;

/// A statement that inserts some rows of plain values, which keeps floats to the last bit. Repeats are left out. Row counts are powers of
/// two, so that there are few statements to prepare.
pub(super) fn insert_values(table: &'static str, columns: &'static str, rows: usize) -> &'static str {
    static TEXTS: LazyLock<Mutex<HashMap<(&'static str, usize), &'static str>>> =
        LazyLock::new(Mutex::default);
    let mut texts = TEXTS.lock().unwrap_or_else(PoisonError::into_inner);
    texts.entry((table, rows)).or_insert_with(|| {
        let width = columns.split(',').count();
        let row = |row: usize| {
            let values: Vec<String> =
                (1..=width).map(|column| format!("${}", row * width + column)).collect();
            format!("({})", values.join(", "))
        };
        let values: Vec<String> = (0..rows).map(row).collect();
        String::leak(format!(
            "INSERT INTO {table} ({columns}) VALUES {} ON CONFLICT DO NOTHING",
            values.join(", ")
        ))
    })
}
