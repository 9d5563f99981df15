//! Conditions that no trial meets.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use sortie_core::code;
use sortie_core::filter::{Filter, UnmetConditions};
use sortie_core::trial::{Point, SpecHash};

use crate::connection::{Client, ClientError};
use crate::output;

/// What `--where` calls what a trial ran, unless the sweep has an axis of that name.
const CODE: &str = "code";

/// The conditions of `--where`: those on axes, and those on what a trial ran.
#[derive(Debug, Default)]
pub struct TrialFilter {
    /// The conditions on axes.
    pub filter: Filter,
    codes: Vec<String>,
    names: BTreeMap<SpecHash, String>,
}

impl TrialFilter {
    /// Asks the coordinator what the sweep's trials ran, if a condition is on that.
    ///
    /// # Errors
    /// One line: the coordinator refuses.
    pub async fn read(client: &mut Client, sweep: &str, filter: Option<&Filter>) -> Result<Self> {
        let filter = filter.cloned().unwrap_or_default();
        let (rest, codes) = filter.split_off(CODE);
        if codes.is_empty() {
            return Ok(Self { filter, ..Self::default() });
        }
        let example = client.describe(sweep).await?.example();
        if example.is_some_and(|example| example.parameters.contains_key(CODE)) {
            return Ok(Self { filter, ..Self::default() });
        }
        match client.code_names(sweep).await? {
            Ok(names) => Ok(Self { filter: rest, codes, names }),
            Err(reason) => bail!("what trials ran cannot be asked for: {reason}"),
        }
    }

    /// Whether there are conditions on what a trial ran.
    pub fn is_about_code(&self) -> bool {
        !self.codes.is_empty()
    }

    /// Whether a trial meets all conditions.
    pub fn matches(&self, id: SpecHash, point: &Point) -> bool {
        let name = self.names.get(&id).map(String::as_str);
        let ran = |prefix: &String| name.is_some_and(|name| code::is_meant(name, prefix));
        self.filter.matches(point) && self.codes.iter().all(ran)
    }

    /// Notes what the trials ran, where none meets a condition on that.
    pub fn warn_of_code(&self, sweep: &str) {
        for prefix in &self.codes {
            let mut known: Vec<String> = self.names.values().cloned().collect();
            known.sort();
            known.dedup();
            if !known.iter().any(|name| code::is_meant(name, prefix)) {
                let has = if known.is_empty() {
                    "nothing that is known".to_owned()
                } else {
                    output::shortened(&known)
                };
                output::note(&format!("no trial of sweep {sweep} ran {CODE} = {prefix}: they ran {has}"));
            }
        }
    }
}

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
