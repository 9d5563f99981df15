//! What commands print: one JSON object, or text for people.

use std::io::Write;

use anyhow::Result;
use serde::Serialize;
use sortie_core::trial::Point;

/// Prints text as it is. An early end of the reader is an error that [`crate::fail`] forgives.
///
/// # Errors
/// What the system says.
pub fn text(text: &str) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    if !text.ends_with('\n') {
        stdout.write_all(b"\n")?;
    }
    Ok(stdout.flush()?)
}

/// Prints one JSON object.
///
/// # Errors
/// What the system says.
pub fn json(value: &impl Serialize) -> Result<()> {
    text(&serde_json::to_string(value)?)
}

/// A table whose columns are only as wide as they need to be.
pub fn table(header: &[&str]) -> comfy_table::Table {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING).set_header(header.to_vec());
    table
}

/// A trial's place in the grid, as JSON output names it.
#[derive(Debug, Serialize)]
pub struct PointOutput {
    held_out: String,
    dropout: f64,
    lr: f64,
    weight_decay: f64,
    head_lr_factor: f64,
    seed: u64,
    split: u64,
}

impl From<&Point> for PointOutput {
    fn from(point: &Point) -> Self {
        let Point { dropout, lr, weight_decay, head_lr_factor, seed, split_seed, .. } = *point;
        Self { held_out: point.held_out_label(), dropout, lr, weight_decay, head_lr_factor, seed, split: split_seed }
    }
}
