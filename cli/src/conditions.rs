//! Conditions that no trial meets.

use std::borrow::Cow;
use std::collections::BTreeMap;

use anyhow::{Result, bail};
use sortie_analysis::SharedSettings;
use sortie_core::code;
use sortie_core::filter::{Filter, UnknownAxis, UnmetConditions};
use sortie_core::spec::SweepSpec;
use sortie_core::trial::{Point, SpecHash};

use crate::connection::{Client, ClientError};
use crate::output;

/// What `--where` calls what a trial ran, unless the sweep has an axis of that name.
const CODE: &str = "code";

/// The conditions of `--where`: those on axes and settings, and those on what a trial ran.
#[derive(Clone, Debug, Default)]
pub struct TrialFilter {
    /// The conditions on axes and settings.
    pub filter: Filter,
    /// What all trials of the sweep share.
    shared: SharedSettings,
    codes: Vec<String>,
    names: BTreeMap<SpecHash, String>,
}

impl TrialFilter {
    /// Asks the coordinator what the sweep's trials share, and what they ran if a condition is on that.
    ///
    /// # Errors
    /// One line: the coordinator refuses.
    pub async fn read(client: &mut Client, sweep: &str, filter: Option<&Filter>) -> Result<Self> {
        match filter {
            None => Ok(Self::default()),
            Some(_) => {
                let spec = client.describe(sweep).await?;
                Self::of(client, sweep, &spec, filter).await
            }
        }
    }

    /// The same for a sweep that is known.
    ///
    /// # Errors
    /// As [`TrialFilter::read`].
    pub async fn of(
        client: &mut Client,
        sweep: &str,
        spec: &SweepSpec,
        filter: Option<&Filter>,
    ) -> Result<Self> {
        let (filter, shared) = (filter.cloned().unwrap_or_default(), SharedSettings::of(sweep, spec));
        let (rest, codes) = filter.split_off(CODE);
        let is_axis = || spec.example().is_some_and(|example| example.parameters.contains_key(CODE));
        if codes.is_empty() || is_axis() {
            return Ok(Self { filter, shared, ..Self::default() });
        }
        match client.code_names(sweep).await? {
            Ok(names) => Ok(Self { filter: rest, shared, codes, names }),
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
        self.filter.matches(&self.extended(point)) && self.codes.iter().all(ran)
    }

    /// The point with the settings that conditions name.
    fn extended<'a>(&self, point: &'a Point) -> Cow<'a, Point> {
        let lacks = |axis: &str| !point.parameters.contains_key(axis);
        if self.filter.axes().any(lacks) {
            Cow::Owned(self.shared.extended(point, self.filter.axes()))
        } else {
            Cow::Borrowed(point)
        }
    }

    /// Refuses conditions on what no trial has. `example` has a value on every axis that some trial of the sweep has.
    ///
    /// # Errors
    /// [`UnknownAxis`] names the axis and those that there are.
    pub fn check(&self, example: &Point) -> Result<(), UnknownAxis> {
        self.filter.check(&self.shared.extended(example, self.shared.names()))
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
pub async fn warn_of_unmet(client: &mut Client, sweep: &str, filter: &TrialFilter) -> Result<()> {
    if filter.filter == Filter::default() {
        return Ok(());
    }
    let mut unmet = UnmetConditions::of(&filter.filter);
    let mut stream = client.trials(sweep, None).await?;
    while let Some(trial) = stream.message().await.map_err(ClientError::from)? {
        unmet.see(&filter.extended(&trial.point.unwrap_or_default().try_into()?));
    }
    for (axis, value, known) in unmet.conditions().filter(|(_, _, known)| !known.is_empty()) {
        output::note(&format!(
            "no trial of sweep {sweep} has {axis} = {value}: it has {}",
            output::shortened(known)
        ));
    }
    Ok(())
}
