//! The log on standard error.

use std::io::IsTerminal as _;

use anyhow::{Context, Result};
use tracing::{Level, Metadata};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, fmt};

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
    let lines = fmt::layer().with_ansi(std::io::stderr().is_terminal()).with_writer(std::io::stderr);
    let registry = tracing_subscriber::registry().with(filter(Level::INFO)?).with(filter_fn(may_be_shown));
    match format {
        LogFormat::Text => registry.with(lines.with_target(false)).init(),
        LogFormat::Json => registry.with(lines.json()).init(),
    }
    Ok(())
}

/// The log of a command that shows progress itself: warnings only, unless SORTIE_LOG sets another level.
///
/// # Errors
/// One line where SORTIE_LOG cannot be read.
pub fn start_quiet() -> Result<()> {
    let lines = fmt::layer().with_target(false).with_writer(std::io::stderr);
    tracing_subscriber::registry()
        .with(filter(Level::WARN)?)
        .with(filter_fn(may_be_shown))
        .with(lines)
        .init();
    Ok(())
}

/// What SORTIE_LOG lets through.
fn filter(default: Level) -> Result<EnvFilter> {
    let filter =
        EnvFilter::builder().with_default_directive(default.into()).with_env_var("SORTIE_LOG").from_env();
    filter.context("SORTIE_LOG cannot be read; write a level such as `info`, or `sortie_coordinator=debug`")
}

/// Whatever SORTIE_LOG says: the driver's line about what it cannot read in a file of passwords quotes it, and so does its line about
/// parameters of a URL that it does not know.
fn may_be_shown(metadata: &Metadata<'_>) -> bool {
    let quotes = ["line", "value"].iter().any(|field| metadata.fields().field(field).is_some());
    !(quotes && metadata.target().starts_with("sqlx_postgres::options"))
}
