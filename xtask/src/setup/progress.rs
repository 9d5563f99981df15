//! A bar on a terminal, a few plain lines otherwise.

use std::io::IsTerminal as _;

use anyhow::{Context, Result};
use indicatif::{HumanBytes, ProgressBar, ProgressStyle};

/// Shorter work than this is announced once when there is no terminal.
const QUARTERS_FROM_BYTES: u64 = 50 << 20;

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Bytes of a download or an archive.
    Bytes,
    /// Things, such as images.
    Items,
}

/// The progress of one piece of work with a known length. Ends when it is dropped.
#[derive(Debug)]
pub struct Progress {
    label: String,
    total: u64,
    unit: Unit,
    bar: Option<ProgressBar>,
    quarters_told: u64,
}

impl Progress {
    /// Announces `label` and starts to count up to `total`.
    pub fn start(label: impl Into<String>, total: u64, unit: Unit) -> Result<Self> {
        let label = label.into();
        if !std::io::stderr().is_terminal() {
            match unit {
                Unit::Bytes => eprintln!("{label} ({})", HumanBytes(total)),
                Unit::Items => eprintln!("{label} ({total})"),
            }
            return Ok(Self { label, total, unit, bar: None, quarters_told: 0 });
        }
        let template = match unit {
            Unit::Bytes => "{msg} {wide_bar:.cyan} {bytes}/{total_bytes} {bytes_per_sec} {eta}",
            Unit::Items => "{msg} {wide_bar:.cyan} {pos}/{len} {eta}",
        };
        let style = ProgressStyle::with_template(template).context("bad progress template")?;
        let bar = ProgressBar::new(total).with_style(style).with_message(label.clone());
        bar.tick();
        Ok(Self { label, total, unit, bar: Some(bar), quarters_told: 0 })
    }

    /// Tells how much is done.
    pub fn set(&mut self, done: u64) {
        let done = done.min(self.total);
        if let Some(bar) = &self.bar {
            bar.set_position(done);
            return;
        }
        let quarters = (4 * done).checked_div(self.total).unwrap_or(0);
        let long = self.unit == Unit::Bytes && self.total >= QUARTERS_FROM_BYTES;
        if long && quarters > self.quarters_told && quarters < 4 {
            eprintln!("{}: {} %", self.label, 25 * quarters);
            self.quarters_told = quarters;
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
