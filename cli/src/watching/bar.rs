//! The bar that shows progress on a terminal.

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};

/// A bar on standard error, followed by a message.
///
/// # Errors
/// Never: the template is right.
pub fn bar(visible: bool) -> Result<ProgressBar> {
    let bar = if visible { ProgressBar::new(1) } else { ProgressBar::hidden() };
    bar.set_style(ProgressStyle::with_template("{wide_bar} {msg}")?);
    Ok(bar)
}
