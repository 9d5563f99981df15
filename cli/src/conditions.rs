//! Conditions that no trial meets.

use anyhow::Result;
use sortie_core::filter::{Filter, UnmetConditions};

use crate::connection::{Client, ClientError};
use crate::output;

/// Notes conditions that no trial of the sweep meets, in any state, and the values that trials have.
///
/// # Errors
/// One line: the coordinator refuses.
pub async fn warn_of_unmet(client: &mut Client, sweep: &str, filter: &Filter) -> Result<()> {
    if *filter == Filter::default() {
        return Ok(());
    }
    let mut unmet = UnmetConditions::of(filter);
    let mut stream = client.trials(sweep, None).await?;
    while let Some(trial) = stream.message().await.map_err(ClientError::from)? {
        unmet.see(&trial.point.unwrap_or_default().try_into()?);
    }
    for (axis, value, known) in unmet.conditions().filter(|(_, _, known)| !known.is_empty()) {
        output::note(&format!(
            "no trial of sweep {sweep} has {axis} = {value}: it has {}",
            output::shortened(known)
        ));
    }
    Ok(())
}
