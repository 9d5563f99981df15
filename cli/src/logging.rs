//! The log on standard error.

use std::io::IsTerminal as _;

use anyhow::{Context, Result};
use tracing_subscriber::EnvFilter;

/// The format of log lines.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Starts the log at the level of SORTIE_LOG, `info` by default.
///
/// # Errors
/// One line where SORTIE_LOG cannot be read.
pub fn start(format: LogFormat) -> Result<()> {
    let filter = EnvFilter::builder()
        .with_default_directive(tracing::Level::INFO.into())
        .with_env_var("SORTIE_LOG")
        .from_env();
    let filter = filter
        .context("SORTIE_LOG cannot be read; write a level such as `info`, or `sortie_coordinator=debug`")?;
    let colours = std::io::stderr().is_terminal();
    let subscriber =
        tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => subscriber.with_target(false).init(),
        LogFormat::Json => subscriber.json().init(),
    }
    Ok(())
}

/// The log of a command that shows progress itself: warnings only, unless SORTIE_LOG sets another level.
///
/// # Errors
/// One line where SORTIE_LOG cannot be read.
pub fn start_quiet() -> Result<()> {
    let filter = EnvFilter::builder()
        .with_default_directive(tracing::Level::WARN.into())
        .with_env_var("SORTIE_LOG")
        .from_env();
    let filter = filter
        .context("SORTIE_LOG cannot be read; write a level such as `info`, or `sortie_coordinator=debug`")?;
    tracing_subscriber::fmt().with_env_filter(filter).with_target(false).with_writer(std::io::stderr).init();
    Ok(())
}
