//! `sortie wait`: until a sweep has ended.

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use sortie_proto::v1::SweepStatus;

use super::status::{WATCH_INTERVAL, is_over, line};
use crate::client::{ClientError, RetryingClient};
use crate::connection::Connection;
use crate::output;

/// Wait until every trial of a sweep has ended, silently, even if the coordinator is restarted meanwhile.
///
/// Ends with exit code 0 if every trial succeeded, and with 1 and one line otherwise.
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
    ensure!(
        status.succeeded == status.planned,
        "sweep {sweep} ended with {}; `sortie trials {sweep}` says why",
        line(&status, None)
    );
    Ok(())
}

/// Waits until a sweep is over; `last_state` gets the last state that is known, or why the coordinator does not answer.
///
/// # Errors
/// [`ClientError`], never a transient one.
pub async fn until_over(
    client: &mut RetryingClient<'_>,
    sweep: &str,
    last_state: &mut String,
) -> Result<SweepStatus> {
    loop {
        let mut noted = false;
        let outage = |error: &ClientError| {
            // So that an outage does not look like slow trials.
            if !std::mem::replace(&mut noted, true) {
                output::note(&format!("{error}; asking again"));
            }
            *last_state = error.to_string();
        };
        let sweeps = client.status(Some(sweep), outage).await?;
        let Some(status) = sweeps.into_iter().next() else {
            bail!("the coordinator's answer does not contain sweep {sweep}")
        };
        if is_over(&status) {
            return Ok(status);
        }
        *last_state = format!("sweep {sweep} has {}", line(&status, None));
        tokio::time::sleep(WATCH_INTERVAL).await;
    }
}
