//! What users change: sweeps and trials.

use sortie_core::filter::Filter;
use sortie_core::job::StateName;
use sortie_core::keep::LackingTrials;
use sortie_core::plan::SpecHasher;
use sortie_core::spec::{Change, SweepSpec};
use sortie_core::trial::SpecHash;
use tokio::sync::watch;

use super::store::Store;
use crate::store::StoreError;
use crate::store::admin::{TrialsDone, TrialsRequest, WhichTrials, check_room, grown_row, new_row, question};
use crate::store::backend::{Release, StoredSweepState, SweepRow};
use crate::store::types::{Preview, SubmitOptions, Submitted, SweepAction, SweepContents, TrialAction};
use crate::store::writer::{Act, Command, Delete, Submit};

/// Trials whose files a preview asks for: a sweep may have millions, and nothing is decided by it.
const PREVIEWED_MAX: u64 = 20_000;
/// Of those, as many as one question names.
const PREVIEW_PAGE: usize = 500;

impl Store {
    /// Stores a sweep, or adds to the one of its name what is not there yet. Its trials follow in the background, a few thousand at a
    /// time; what is returned shows the progress, and closes when it is done. It goes on after a restart.
    ///
    /// # Errors
    /// [`StoreError::Spec`] when a fixed value differs from the stored sweep's.
    #[tracing::instrument(level = "debug", skip_all, fields(sweep = %spec.name))]
    pub async fn submit(
        &self,
        spec: &SweepSpec,
        options: SubmitOptions,
    ) -> Result<watch::Receiver<Submitted>, StoreError> {
        let submit = Submit { spec: Box::new(spec.clone()), options, limits: self.settings.limits };
        self.command(|reply| Command::Submit(submit, reply)).await
    }

    /// What submitting a sweep would change.
    ///
    /// # Errors
    /// As [`Store::submit`].
    #[tracing::instrument(level = "debug", skip_all, fields(sweep = %spec.name))]
    pub async fn preview(&self, spec: &SweepSpec, options: SubmitOptions) -> Result<Preview, StoreError> {
        let Some(row) = self.backend.sweep(&spec.name).await? else {
            let (trials, combinations) = spec.sizes();
            let new = new_row(spec, options);
            check_room(&new, None, self.backend.sizes().await?, self.settings.limits)?;
            let lacking = self.lacking(&new).await?;
            return Ok(Preview::New { trials, combinations, lacking });
        };
        let grown = grown_row(row.clone(), spec, options)?;
        check_room(&grown, Some(row.planned), self.backend.sizes().await?, self.settings.limits)?;
        let lacking = self.lacking(&grown).await?;
        let mut resubmission = row.spec.resubmission(spec)?;
        let priority = options.priority.unwrap_or(row.priority);
        let options = [
            ("priority", row.priority.to_string(), priority.to_string()),
            ("reuse", row.reuse.to_string(), options.reuse.to_string()),
        ];
        for (key, old, new) in options.into_iter().filter(|(_, old, new)| old != new) {
            resubmission.changes.push(Change { key: key.to_owned(), old, new });
        }
        Ok(Preview::Stored { resubmission, lacking })
    }

    /// The trials of a sweep that is to be stored whose results lack files, among the first [`PREVIEWED_MAX`].
    async fn lacking(&self, row: &SweepRow) -> Result<LackingTrials, StoreError> {
        let mut lacking = LackingTrials::default();
        let hasher = SpecHasher::of(&row.spec.work, row.spec.protocol);
        let grid = row.spec.sizes().0.min(PREVIEWED_MAX);
        for from in (0..grid).step_by(PREVIEW_PAGE) {
            let page = (from..grid).take(PREVIEW_PAGE).map_while(|index| row.spec.point_at(index));
            let trials: Vec<SpecHash> = page.map(|point| hasher.hash(&point, None)).collect();
            let Some(asked) = question(row, &trials) else { break };
            self.backend.lacking(asked).await?.into_iter().for_each(|found| lacking.count(found.lacks));
        }
        Ok(lacking)
    }

    /// Adds seeds to a sweep's grid until it has so many, as submitting a file with them would.
    ///
    /// # Errors
    /// [`StoreError::UnknownSweep`]; [`StoreError::Spec`] for fewer than there are, for too many, and for a sweep of other numbers.
    #[tracing::instrument(level = "debug", skip_all, fields(%sweep, seeds = seeds))]
    pub async fn extend(&self, sweep: &str, seeds: u64) -> Result<watch::Receiver<Submitted>, StoreError> {
        let row = self.sweep(sweep).await?;
        self.submit(&row.spec.with_seeds(seeds)?, SubmitOptions { reuse: row.reuse, priority: None }).await
    }

    /// Changes a sweep. Returns how many trials that changed: those of a cancelled sweep that is resumed wait again.
    ///
    /// # Errors
    /// [`StoreError::UnknownSweep`]; [`StoreError::Archived`] and [`StoreError::Cancelled`] where the action needs one that is not;
    /// [`StoreError::NameTaken`] and [`StoreError::Spec`] for a name that it cannot have.
    #[tracing::instrument(level = "debug", skip_all, fields(%sweep))]
    pub async fn act(&self, sweep: &str, action: SweepAction) -> Result<u64, StoreError> {
        if action == SweepAction::Resume && self.sweep(sweep).await?.state == StoredSweepState::Cancelled {
            return self.act_on_trials(sweep, TrialAction::Resume, &Filter::default(), None).await;
        }
        let act = Act { sweep: sweep.to_owned(), action };
        match self.command(|reply| Command::Act(act, reply)).await {
            Ok(()) => Ok(0),
            Err(StoreError::UnknownSweep { .. }) => Err(self.unknown(sweep).await?),
            Err(error) => Err(error),
        }
    }

    /// Deletes a sweep with all that is stored of it, or only looks whether that may be. Nobody finds it from then on; its rows are removed
    /// in the background, also after a restart. Files that its attempts left stay where they are. Returns what was stored.
    ///
    /// # Errors
    /// [`StoreError::UnknownSweep`]; [`StoreError::TrialsRun`] and [`StoreError::Reused`] for one that is needed.
    #[tracing::instrument(level = "debug", skip_all, fields(%sweep, only_ask))]
    pub async fn delete(&self, sweep: &str, only_ask: bool) -> Result<SweepContents, StoreError> {
        let contents = self.backend.contents(self.sweep(sweep).await?.id).await?;
        let delete = Delete { sweep: sweep.to_owned(), only_ask };
        match self.command(|reply| Command::Delete(delete, reply)).await {
            Ok(()) => Ok(contents),
            Err(StoreError::UnknownSweep { .. }) => Err(self.unknown(sweep).await?),
            Err(error) => Err(error),
        }
    }

    /// Ends the quarantines of a machine, so that one trial of each kind is tried there. Returns how many there were.
    ///
    /// # Errors
    /// [`StoreError::UnknownMachine`] for one that no worker registered with.
    #[tracing::instrument(level = "debug", skip_all, fields(%machine))]
    pub async fn release(&self, machine: &str) -> Result<u64, StoreError> {
        let workers = self.backend.workers(None).await?;
        if !workers.iter().any(|line| line.worker.machine == machine) {
            let mut known: Vec<&str> = workers
                .iter()
                .filter(|line| line.quarantines().next().is_some())
                .map(|line| line.worker.machine.as_str())
                .collect();
            known.sort_unstable();
            known.dedup();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            return Err(StoreError::UnknownMachine { name: machine.to_owned(), known });
        }
        let release = Release::Machine(machine.to_owned());
        self.command(|reply| Command::Release(release, reply)).await
    }

    /// Cancels, retries or resumes trials of a sweep: those that the filter and the state mean. Returns how many it changed.
    ///
    /// # Errors
    /// [`StoreError::UnknownSweep`], [`StoreError::Filter`] for an axis that the sweep does not have, and [`StoreError::Incomplete`] for
    /// conditions that would miss trials of a sweep that are not stored yet.
    #[tracing::instrument(level = "debug", skip_all, fields(%sweep))]
    pub async fn act_on_trials(
        &self,
        sweep: &str,
        action: TrialAction,
        filter: &Filter,
        state: Option<StateName>,
    ) -> Result<u64, StoreError> {
        let (mut changed, mut next) = (0, Some(0));
        while let Some(from) = next {
            let done =
                self.act_on(sweep, action, WhichTrials::Page { filter: filter.clone(), state, from }).await?;
            changed += done.changed;
            next = done.next;
        }
        Ok(changed)
    }

    /// Cancels or retries the trials of a sweep with these ids, in one transaction; others are left alone. Returns how many it changed.
    ///
    /// # Errors
    /// [`StoreError::UnknownSweep`]; [`StoreError::Incomplete`] for a retry of a cancelled sweep that is not stored completely.
    #[tracing::instrument(level = "debug", skip_all, fields(%sweep))]
    pub async fn act_on_named(
        &self,
        sweep: &str,
        action: TrialAction,
        trials: &[SpecHash],
    ) -> Result<u64, StoreError> {
        Ok(self.act_on(sweep, action, WhichTrials::Named(trials.to_vec())).await?.changed)
    }

    async fn act_on(
        &self,
        sweep: &str,
        action: TrialAction,
        which: WhichTrials,
    ) -> Result<TrialsDone, StoreError> {
        let request = TrialsRequest { sweep: sweep.to_owned(), action, which };
        match self.command(|reply| Command::ActOnTrials(request, reply)).await {
            Err(StoreError::UnknownSweep { .. }) => Err(self.unknown(sweep).await?),
            other => other,
        }
    }
}
