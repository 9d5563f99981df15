//! `sortie audit`: what users did.

use anyhow::Result;
use sortie_analysis::AuditList;

use crate::connection::{AccessClient, Connection};
use crate::{output, rows};

/// Entries that one request asks for.
const PAGE: u32 = 1_000;

/// Show what users did, the newest first: who, when, what, to which sweep.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Only what was done to this sweep, under the name that it had then.
    sweep: Option<String>,
    /// At most so many lines.
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: usize,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Prints the list.
///
/// # Errors
/// One line: the coordinator refuses.
pub async fn run(arguments: &Arguments, connection: &Connection) -> Result<()> {
    let Arguments { sweep, limit, json } = arguments;
    let mut client = AccessClient::connect(connection).await?;
    let (mut entries, mut before) = (Vec::new(), None);
    while entries.len() < *limit {
        let page = client.audit(before, PAGE).await?;
        let Some(last) = page.last() else { break };
        before = Some(last.number);
        entries.extend(
            page.into_iter().filter(|entry| sweep.as_ref().is_none_or(|sweep| *sweep == entry.sweep)),
        );
    }
    let list = AuditList { entries: entries.into_iter().take(*limit).map(rows::audit).collect() };
    if *json {
        return output::json(&list);
    }
    if list.entries.is_empty() {
        return output::text("nothing was done yet");
    }
    output::text(&list.text())
}
