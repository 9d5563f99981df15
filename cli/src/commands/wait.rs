//! `sortie wait`: until a sweep has ended.

use std::time::Duration;

use anyhow::{Result, bail, ensure};

use crate::connection::{Connection, RetryingClient};
use crate::watching::{is_over, line, until_over};

/// Wait until every trial of a sweep has ended, silently, even if the coordinator is restarted meanwhile.
///
/// Ends with exit code 0 if every trial succeeded, and with 1 and one line otherwise: also when what is left waits only for machines that
/// are quarantined.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The sweep's name.
    sweep: String,
    /// Give up after this time; without it, wait for ever.
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u32>,
}

/// Waits.
///
/// # Errors
/// One line: a trial did not succeed, the time is up, or the coordinator refuses.
pub async fn run(arguments: &Arguments, connection: &Connection) -> Result<()> {
    let Arguments { sweep, timeout } = arguments;
    let mut client = RetryingClient::connect(connection).await?;
    // For the message when the time is up.
    let mut last_state = format!("the coordinator has not answered about sweep {sweep}");
    let ended = until_over(&mut client, sweep, &mut last_state);
    let status = match timeout {
        None => ended.await?,
        Some(seconds) => match tokio::time::timeout(Duration::from_secs(u64::from(*seconds)), ended).await {
            Ok(status) => status?,
            Err(_) => bail!("gave up after {seconds} s: {last_state}"),
        },
    };
    ensure!(is_over(&status), "sweep {sweep} has {}", line(&status, None));
    ensure!(
        status.succeeded == status.planned,
        "sweep {sweep} ended with {}; `sortie trials {sweep}` says why",
        line(&status, None)
    );
    Ok(())
}
