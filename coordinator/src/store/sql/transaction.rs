//! One transaction on a real database.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use sortie_core::artifact::CheckpointRef;
use sortie_core::combine::Member;
use sortie_core::job::{ErrorClass, StateName, Timestamp, WAIT_MAX};
use sortie_core::keep::Needs;
use sortie_core::keys::{AttemptToken, Incarnation, SweepKey, TrialKey};
use sortie_core::machine::{Fault, QUARANTINE};
use sortie_core::metrics::Method;
use sortie_core::parameters::written_numbers;
use sortie_core::trial::SpecHash;

use super::engine::{Arg, Row, Tx};
use super::file_guard::FileGuard;
use super::rows;
use super::statements::{Dialect, Statements, statements};
use super::time::TimeSource;
use crate::store::StoreError;
use crate::store::backend::{
    AttemptRow, Attempts, Changes, Contradiction, FilesQuestion, LackingTrial, NewTrial, OpenSweep, Release,
    Sizes, SweepRow, Sweeps, Transaction, TrialRow, Trials, WaitingCombination, WaitingTrial, WorkerRow,
    Workers,
};
use crate::store::types::{ArtifactLocation, Worker};

/// See the module.
#[derive(Debug)]
pub(super) struct SqlTransaction {
    pub(super) tx: Tx,
    pub(super) dialect: Dialect,
    pub(super) time: TimeSource,
    pub(super) incarnation: Incarnation,
    pub(super) guard: Option<Arc<FileGuard>>,
}

/// Rows as one argument: see [`Dialect`].
pub(super) fn rows_arg(rows: impl Iterator<Item = Value>) -> Arg {
    Value::Array(rows.collect()).to_string().into()
}

pub(super) fn expect(statement: &'static str, rows: u64, expected: usize) -> Result<(), StoreError> {
    let expected = expected as u64;
    if rows == expected { Ok(()) } else { Err(StoreError::OptimisticLock { statement, rows, expected }) }
}

impl SqlTransaction {
    pub(super) fn sql(&self) -> &'static Statements {
        statements(self.dialect)
    }

    pub(super) async fn one(&mut self, sql: &'static str, args: Vec<Arg>) -> Result<Option<Row>, StoreError> {
        Ok(self.tx.fetch(sql, args).await?.pop())
    }

    pub(super) async fn one_int(
        &mut self,
        sql: &'static str,
        args: Vec<Arg>,
        table: &'static str,
        column: &'static str,
    ) -> Result<i64, StoreError> {
        let row = self.one(sql, args).await?;
        let missing = || StoreError::Corrupt { table, column, reason: "no row came back".to_owned() };
        row.ok_or_else(missing)?.int(table, column)
    }
}

#[tonic::async_trait]
impl Sweeps for SqlTransaction {
    async fn open_sweeps(&mut self, count_max: u64, now: Timestamp) -> Result<Vec<OpenSweep>, StoreError> {
        let rows = self.tx.fetch(self.sql().open_sweeps, vec![count_max.into(), now.0.into()]).await?;
        let sweep = |row: &Row| {
            Ok(OpenSweep {
                id: row.key("sweeps", "id")?,
                name: row.text("sweeps", "name")?,
                revision: row.int("sweeps", "revision")?,
                priority: row.int("sweeps", "priority")?,
                running: row.count("sweeps", "running")?,
                waiting: row.count("sweeps", "waiting")?,
                unfinished: row.int("sweeps", "unfinished")? != 0,
                disputes: row.int("digests", "disputes")? != 0,
            })
        };
        rows.iter().map(sweep).collect()
    }

    async fn sweep(&mut self, name: &str) -> Result<Option<SweepRow>, StoreError> {
        self.one(self.sql().sweep_to_change, vec![name.into()]).await?.as_ref().map(rows::sweep).transpose()
    }

    async fn sweep_by_id(&mut self, id: SweepKey) -> Result<Option<SweepRow>, StoreError> {
        self.one(self.sql().sweep_by_id, vec![id.into()]).await?.as_ref().map(rows::sweep).transpose()
    }

    async fn insert_sweep(&mut self, sweep: &SweepRow, now: Timestamp) -> Result<SweepKey, StoreError> {
        let args = vec![
            sweep.spec.name.as_str().into(),
            encoded(sweep)?,
            sweep.state.as_str().into(),
            i64::from(sweep.archived).into(),
            sweep.priority.into(),
            sweep.reuse.as_str().into(),
            now.0.into(),
            sweep.planned.into(),
            sweep.expanded.into(),
            sweep.base.into(),
            sweep.methods().map(Method::as_str).collect::<Vec<_>>().join(" ").into(),
        ];
        self.one_int(self.sql().insert_sweep, args, "sweeps", "id").await.map(SweepKey)
    }

    async fn update_sweep(&mut self, sweep: &SweepRow) -> Result<(), StoreError> {
        let args = vec![
            sweep.spec.name.as_str().into(),
            encoded(sweep)?,
            sweep.state.as_str().into(),
            i64::from(sweep.archived).into(),
            sweep.priority.into(),
            sweep.reuse.as_str().into(),
            sweep.planned.into(),
            sweep.expanded.into(),
            sweep.base.into(),
            sweep.id.into(),
            sweep.revision.into(),
        ];
        let touched = self.tx.execute(self.sql().update_sweep, args).await?;
        expect("update of a sweep", touched, 1)
    }

    async fn expanding(&mut self) -> Result<Option<SweepRow>, StoreError> {
        self.one(self.sql().expanding, Vec::new()).await?.as_ref().map(rows::sweep).transpose()
    }

    async fn sizes(&mut self) -> Result<Sizes, StoreError> {
        rows::sizes(&self.tx.fetch(self.sql().sizes, Vec::new()).await?)
    }

    async fn next_position(&mut self, sweep: SweepKey) -> Result<i64, StoreError> {
        self.one_int(self.sql().next_position, vec![sweep.into()], "trials", "next").await
    }
}

#[tonic::async_trait]
impl Trials for SqlTransaction {
    async fn waiting(
        &mut self,
        sweep: SweepKey,
        count_max: u64,
        now: Timestamp,
        needs: Needs,
    ) -> Result<Vec<WaitingTrial>, StoreError> {
        let args = [sweep.into(), count_max.into(), now.0.into()].into_iter().chain(rows::needs_args(needs));
        let rows = self.tx.fetch(self.sql().waiting, args.collect()).await?;
        rows.iter().map(rows::waiting).collect()
    }

    async fn members(&mut self, trials: &[TrialKey]) -> Result<Vec<(TrialKey, Member)>, StoreError> {
        let rows = self
            .tx
            .fetch(self.sql().members, vec![rows_arg(trials.iter().map(|trial| json!([trial])))])
            .await?;
        let mut members: Vec<(TrialKey, Member)> = Vec::new();
        for row in &rows {
            let (trial, mut member) = rows::member(row)?;
            // A member has a row for each of its files, or one without.
            match members.last_mut().filter(|(of, last)| (*of, last.spec_hash) == (trial, member.spec_hash)) {
                Some((_, last)) => last.files.append(&mut member.files),
                None => members.push((trial, member)),
            }
        }
        Ok(members)
    }

    async fn lost_members(&mut self, trials: &[TrialKey]) -> Result<Vec<TrialRow>, StoreError> {
        let rows = self
            .tx
            .fetch(self.sql().lost_members, vec![rows_arg(trials.iter().map(|trial| json!([trial])))])
            .await?;
        rows.iter().map(rows::trial).collect()
    }

    async fn combinations(&mut self, count_max: u64) -> Result<Vec<WaitingCombination>, StoreError> {
        let rows = self.tx.fetch(self.sql().combinations, vec![count_max.into()]).await?;
        let combination = |row: &Row| {
            Ok(WaitingCombination {
                id: row.key("trials", "id")?,
                members: row.count("members", "members")?,
                succeeded: row.count("members", "succeeded")?,
                lost: row.count("members", "lost")?,
                loser: row.text("trials", "loser")?,
            })
        };
        rows.iter().map(combination).collect()
    }

    async fn insert_trials(
        &mut self,
        sweep: SweepKey,
        trials: &[NewTrial],
        reuse: Option<Needs>,
    ) -> Result<(u64, u64), StoreError> {
        let mut lists = Vec::with_capacity(trials.len());
        let mut members = Vec::new();
        for NewTrial { spec_hash, position, point, members: theirs } in trials {
            let state = if theirs.is_empty() { StateName::Queued } else { StateName::Blocked };
            members.extend(
                (0..).zip(theirs).map(|(place, member): (u64, _)| {
                    json!([spec_hash.to_string(), place, member.to_string()])
                }),
            );
            let encoded = |error: serde_json::Error| sqlx::Error::Encode(error.into());
            let parameters = serde_json::to_string(&point.parameters).map_err(encoded)?;
            let written = serde_json::to_string(&written_numbers(&point.parameters)).map_err(encoded)?;
            lists.push(json!([
                spec_hash.to_string(),
                position,
                point.held_out_label(),
                parameters,
                written,
                point.seed,
                point.split_seed,
                state.as_str()
            ]));
        }
        let needs = reuse.unwrap_or_default();
        let args = [rows_arg(lists.into_iter()), sweep.into(), i64::from(reuse.is_some()).into()];
        let args = args.into_iter().chain(rows::needs_args(needs)).collect();
        let added = self.tx.execute(self.sql().insert_trials, args).await?;
        if !members.is_empty() {
            let expected = members.len();
            let args = vec![rows_arg(members.into_iter()), sweep.into()];
            let touched = self.tx.execute(self.sql().insert_members, args).await?;
            expect("insert of members", touched, expected)?;
        }
        let (Some(first), Some(last)) = (trials.first(), trials.last()) else { return Ok((0, 0)) };
        if reuse.is_none() {
            return Ok((added, 0));
        }
        let args = vec![sweep.into(), first.position.into(), last.position.into()];
        let reused = self.one_int(self.sql().count_reused, args, "trials", "reused").await?;
        Ok((added, reused.unsigned_abs()))
    }

    async fn lacking(&mut self, asked: FilesQuestion<'_>) -> Result<Vec<LackingTrial>, StoreError> {
        let own = self.tx.fetch(self.sql().lacking, rows::files_args(asked)).await?;
        let elsewhere = match asked.elsewhere {
            true => self.tx.fetch(self.sql().lacking_elsewhere, rows::files_args(asked)).await?,
            false => Vec::new(),
        };
        rows::lacking(&own, &elsewhere, asked.needs)
    }

    async fn trial_rows(
        &mut self,
        sweep: SweepKey,
        from: i64,
        count_max: u64,
    ) -> Result<Vec<TrialRow>, StoreError> {
        let rows =
            self.tx.fetch(self.sql().trial_rows, vec![sweep.into(), from.into(), count_max.into()]).await?;
        rows.iter().map(rows::trial).collect()
    }

    async fn trials_named(
        &mut self,
        sweep: SweepKey,
        trials: &[SpecHash],
    ) -> Result<Vec<TrialRow>, StoreError> {
        let ids = rows_arg(trials.iter().map(|trial| json!([trial])));
        let rows = self.tx.fetch(self.sql().trials_named, vec![ids, sweep.into()]).await?;
        rows.iter().map(rows::trial).collect()
    }
}

#[tonic::async_trait]
impl Attempts for SqlTransaction {
    async fn renew_leases(&mut self, now: Timestamp, lease: Duration) -> Result<u64, StoreError> {
        let sql = self.sql();
        let until = now.plus(lease);
        for (statement, latest) in [
            (sql.shorten_waits, now.plus(WAIT_MAX)),
            (sql.shorten_quarantines, now.plus(QUARANTINE)),
            (sql.seen_by_now, now),
        ] {
            self.tx.execute(statement, vec![latest.0.into()]).await?;
        }
        self.tx.execute(sql.renew_leases, vec![until.0.into(), until.plus(lease).0.into()]).await
    }

    async fn attempts(&mut self, tokens: &[AttemptToken]) -> Result<Vec<AttemptRow>, StoreError> {
        let rows = self
            .tx
            .fetch(self.sql().attempts, vec![rows_arg(tokens.iter().map(|token| json!([token.0])))])
            .await?;
        rows.iter().map(rows::attempt).collect()
    }

    async fn expired(&mut self, now: Timestamp, count_max: u64) -> Result<Vec<AttemptToken>, StoreError> {
        let rows = self.tx.fetch(self.sql().expired, vec![now.0.into(), count_max.into()]).await?;
        rows.iter().map(|row| row.int("trials", "token").map(AttemptToken)).collect()
    }

    async fn failed_on(
        &mut self,
        trials: &[TrialKey],
        since: Timestamp,
    ) -> Result<Vec<(TrialKey, String)>, StoreError> {
        let trials = rows_arg(trials.iter().map(|trial| json!([trial])));
        let rows = self.tx.fetch(self.sql().failed_on, vec![trials, since.0.into()]).await?;
        rows.iter().map(|row| Ok((row.key("attempts", "trial")?, row.text("workers", "machine")?))).collect()
    }

    async fn kept_on(
        &mut self,
        trials: &[TrialKey],
        since: Timestamp,
    ) -> Result<Vec<(TrialKey, String)>, StoreError> {
        let trials = rows_arg(trials.iter().map(|trial| json!([trial])));
        let rows = self.tx.fetch(self.sql().kept_on, vec![trials, since.0.into()]).await?;
        rows.iter().map(|row| Ok((row.key("attempts", "trial")?, row.text("workers", "machine")?))).collect()
    }

    async fn failures(
        &mut self,
        trials: &[TrialKey],
    ) -> Result<Vec<(TrialKey, ErrorClass, u32)>, StoreError> {
        let rows = self
            .tx
            .fetch(self.sql().failures, vec![rows_arg(trials.iter().map(|trial| json!([trial])))])
            .await?;
        let failure = |row: &Row| {
            let count = rows::small(row.count("attempts", "failures")?);
            Ok((row.key("attempts", "trial")?, row.parsed("attempts", "error_class")?, count))
        };
        rows.iter().map(failure).collect()
    }

    async fn checkpoints(
        &mut self,
        trials: &[TrialKey],
    ) -> Result<Vec<(TrialKey, CheckpointRef)>, StoreError> {
        let rows = self
            .tx
            .fetch(self.sql().checkpoints, vec![rows_arg(trials.iter().map(|trial| json!([trial])))])
            .await?;
        rows.iter().map(|row| Ok((row.key("attempts", "trial")?, rows::checkpoint(row)?))).collect()
    }

    async fn contradictions(&mut self, tokens: &[AttemptToken]) -> Result<Vec<Contradiction>, StoreError> {
        let mut found: Vec<Contradiction> = Vec::new();
        for sql in [self.sql().contradictions_of_validation, self.sql().contradictions_of_held_out] {
            for row in self.tx.fetch(sql, vec![rows_arg(tokens.iter().map(|token| json!([token.0])))]).await?
            {
                let new = rows::contradiction(&row)?;
                match found.iter_mut().find(|old| (old.token, old.earlier) == (new.token, new.earlier)) {
                    Some(old) => (old.step, old.rows) = (old.step.min(new.step), old.rows + new.rows),
                    None => found.push(new),
                }
            }
        }
        found.sort_by_key(|found| (found.token, found.earlier));
        Ok(found)
    }
}

#[tonic::async_trait]
impl Workers for SqlTransaction {
    async fn register(&mut self, worker: &Worker, now: Timestamp) -> Result<(), StoreError> {
        let abilities = serde_json::to_string(&worker.abilities).unwrap_or_default();
        let args = vec![
            worker.id.as_str().into(),
            worker.host.as_str().into(),
            i64::from(worker.pid).into(),
            worker.devices.join(",").into(),
            i64::from(worker.slots).into(),
            abilities.into(),
            worker.software.as_str().into(),
            now.0.into(),
            worker.checkpoints.map(ArtifactLocation::as_str).into(),
            worker.machine.as_str().into(),
            worker.secret.to_string().into(),
        ];
        match self.tx.execute(self.sql().register, args).await? {
            0 => Err(StoreError::OtherWorker(worker.id.clone())),
            touched => expect("register of a worker", touched, 1),
        }
    }

    async fn workers(&mut self, names: &[&str]) -> Result<Vec<WorkerRow>, StoreError> {
        let rows =
            self.tx.fetch(self.sql().workers, vec![rows_arg(names.iter().map(|name| json!([name])))]).await?;
        rows.iter().map(rows::worker).collect()
    }

    async fn live_workers(&mut self, since: Timestamp) -> Result<Vec<WorkerRow>, StoreError> {
        self.tx.fetch(self.sql().live_workers, vec![since.0.into()]).await?.iter().map(rows::worker).collect()
    }

    async fn faults(&mut self) -> Result<Vec<Fault>, StoreError> {
        self.tx.fetch(self.sql().faults, Vec::new()).await?.iter().map(rows::fault).collect()
    }

    async fn release(&mut self, whose: &Release, now: Timestamp) -> Result<u64, StoreError> {
        let (statement, name) = match whose {
            Release::Machine(machine) => (self.sql().release_machine, machine.clone()),
            Release::Kind(kind) => (self.sql().release_kind, kind.to_string()),
        };
        self.tx.execute(statement, vec![name.into(), now.0.into()]).await
    }
}

#[tonic::async_trait]
impl Transaction for SqlTransaction {
    async fn now(&mut self) -> Result<Timestamp, StoreError> {
        match &self.time {
            TimeSource::Process(time) => Ok(time.now()),
            TimeSource::Database => {
                let row = self.one(self.sql().now, Vec::new()).await?.ok_or_else(silent_clock)?;
                // Whoever restores it waits for the transactions that have seen the number before.
                if row.maybe_int("incarnation", "incarnation")? != Some(self.incarnation.0) {
                    let reason = "the database was restored from a backup while this coordinator had it open: start again";
                    return Err(StoreError::Lost(reason.to_owned()));
                }
                row.int("the clock", "now_ms").map(Timestamp)
            }
        }
    }

    async fn new_epoch(&mut self, now: Timestamp) -> Result<i64, StoreError> {
        self.one_int(self.sql().new_epoch, vec![now.0.into()], "epochs", "id").await
    }

    async fn write(&mut self, changes: &Changes) -> Result<(), StoreError> {
        self.write_changes(changes).await
    }

    async fn commit(mut self: Box<Self>, news: bool) -> Result<(), StoreError> {
        let stored = match (self.dialect, &self.time) {
            (Dialect::Sqlite, TimeSource::Process(time)) => time.to_store().map(|now| (time.clone(), now)),
            _ => None,
        };
        if let Some((_, now)) = &stored {
            self.tx.execute(self.sql().note_time, vec![now.0.into()]).await?;
        }
        if self.dialect == Dialect::Postgres && news {
            self.tx.fetch(self.sql().notify, Vec::new()).await?;
        }
        self.tx.commit().await?;
        if let Some((time, now)) = stored {
            time.note_stored(now);
        }
        // What is acknowledged was written while the file was there.
        self.guard.map_or(Ok(()), |guard| guard.check())
    }

    async fn rollback(self: Box<Self>) {
        // A connection that is lost has rolled back by itself.
        if let Err(error) = self.tx.rollback().await {
            tracing::debug!(%error, "a transaction that changed nothing did not end in order");
        }
    }
}

/// The database did not say what time it is.
pub(super) fn silent_clock() -> StoreError {
    StoreError::Corrupt { table: "the clock", column: "now_ms", reason: "no row came back".to_owned() }
}

/// A specification is numbers, names and lists: it always encodes.
fn encoded(sweep: &SweepRow) -> Result<Arg, StoreError> {
    Ok(serde_json::to_string(&sweep.spec).map_err(|error| sqlx::Error::Encode(error.into()))?.into())
}
