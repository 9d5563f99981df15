//! Questions. They read from a pool of their own and never wait for the writer.

use std::collections::HashMap;
use std::fs::File;
use std::sync::atomic;
use std::time::Duration;

use serde_json::{Value, json};
use sortie_core::code::Code;
use sortie_core::inputs::{Input, InputKind, Pins};
use sortie_core::job::{StateName, Timestamp};
use sortie_core::keys::{AttemptToken, Incarnation, SweepKey, TrialKey};
use sortie_core::machine::Fault;
use sortie_core::metrics::{Evaluation, TrainingLoss};
use sortie_core::record::{Detail, TrialRecord};

use super::database::SqlBackend;
use super::engine::{Arg, Row};
use super::statements::{Dialect, Statements, statements};
use super::time::TimeSource;
use super::transaction::{rows_arg, silent_clock};
use super::{pins, rows};
use crate::store::StoreError;
use crate::store::backend::{
    Backend, FilesQuestion, LackingTrial, ReportedData, Sizes, SweepRow, Transaction, sweep_counts,
    trial_history,
};
use crate::store::query::Rows;
use crate::store::types::{
    LOG_PART_BATCHES, Log, Page, PageRequest, SweepContents, SweepStatus, TrialArtifacts, TrialEvent,
    TrialHistory, TrialLine, Worker, WorkerLine,
};

/// Rows of one page.
const PAGE_ROWS: usize = 500;
/// Attempts whose durations estimate those of others.
const DURATIONS_MAX: i64 = 1_000;

impl SqlBackend {
    pub(super) fn sql(&self) -> &'static Statements {
        statements(self.dialect)
    }

    pub(super) async fn fetch(&self, sql: &'static str, args: Vec<Arg>) -> Result<Vec<Row>, StoreError> {
        self.check_file()?;
        self.readers.fetch(sql, args).await
    }

    fn check_file(&self) -> Result<(), StoreError> {
        self.guard.as_ref().map_or(Ok(()), |guard| guard.check())
    }

    /// The evaluations in a table by attempt. Floats are read only where they are asked for or hold more than the counts.
    async fn evaluations(
        &self,
        table: Table,
        tokens: &[i64],
        detail: Detail,
    ) -> Result<HashMap<i64, Vec<Evaluation>>, StoreError> {
        let mut by_token: HashMap<i64, Vec<Evaluation>> = HashMap::new();
        if detail == Detail::Points || tokens.is_empty() {
            return Ok(by_token);
        }
        let list: Arg = Value::Array(tokens.iter().map(|token| json!([token])).collect()).to_string().into();
        let Table { name, exact, scores } = table;
        // Rows whose correct images were not counted are nothing without their floats.
        let mut uncounted = false;
        if detail == Detail::Scores {
            for row in self.fetch(scores, vec![list.clone()]).await? {
                let evaluations = by_token.entry(row.int(name, "token")?).or_default();
                for line in row.text(name, "lines")?.lines() {
                    match rows::counted_evaluation(line, name)? {
                        Some(evaluation) => evaluations.push(evaluation),
                        None => uncounted = true,
                    }
                }
            }
        }
        if detail == Detail::All || uncounted {
            let every = i64::from(detail == Detail::All);
            for row in self.fetch(exact, vec![list, every.into()]).await? {
                let accuracy = row.maybe_real(name, "accuracy")?;
                let mut evaluation = rows::evaluation(&row.text(name, "line")?, name, accuracy)?;
                if detail == Detail::All {
                    evaluation.loss = row.maybe_real(name, "loss")?;
                    evaluation.seconds = row.maybe_real(name, "seconds")?;
                    evaluation.metrics = rows::metrics(name, row.maybe_text(name, "metrics")?.as_deref())?;
                }
                by_token.entry(row.int(name, "token")?).or_default().push(evaluation);
            }
        }
        // The databases give them in orders of their own.
        by_token.values_mut().for_each(|rows| rows.sort_by(rows::by_name));
        Ok(by_token)
    }

    /// Both tables of evaluations: what selection may read, and what it must not.
    fn tables(&self) -> [Table; 2] {
        let sql = self.sql();
        [
            Table { name: "validation", exact: sql.validation, scores: sql.scores_of_validation },
            Table { name: "held_out", exact: sql.held_out, scores: sql.scores_of_held_out },
        ]
    }

    async fn sweep_status(&self, row: &Row) -> Result<SweepStatus, StoreError> {
        let sweep = rows::sweep(row)?;
        let mut status = SweepStatus {
            priority: sweep.priority,
            planned: sweep.planned,
            blocked: row.count("trials", "blocked")?,
            queued: row.count("trials", "queued")?,
            running: row.count("trials", "running")?,
            preparing: row.count("attempts", "preparing")?,
            preparation: row.maybe_text("attempts", "preparation")?,
            delayed: row.count("trials", "queued")? > 0 && row.int("trials", "ready")? == 0,
            ..SweepStatus::empty(sweep.spec.name.clone(), sweep.shown_state())
        };
        for row in self.fetch(self.sql().finished, vec![sweep.id.into()]).await? {
            let trials = row.count("trials", "trials")?;
            sweep_counts::count_finished(
                &mut status,
                row.parsed("trials", "state")?,
                trials,
                row.int("trials", "reused")? != 0,
            );
        }
        if let Some(row) =
            self.fetch(self.sql().durations, vec![sweep.id.into(), DURATIONS_MAX.into()]).await?.pop()
        {
            (status.finished_attempts, status.running_ms) =
                (row.count("attempts", "attempts")?, row.count("attempts", "running_ms")?);
        }
        sweep_counts::count_steps(&mut status, &sweep, row.count("attempts", "steps_running")?);
        sweep_counts::note_outdated(&mut status, &sweep);
        Ok(status)
    }

    async fn trial(&self, trial: TrialKey) -> Result<Row, StoreError> {
        let row = self.fetch(self.sql().trial, vec![trial.into()]).await?.pop();
        row.ok_or_else(|| StoreError::Corrupt {
            table: "trials",
            column: "id",
            reason: format!("there is no trial {trial}"),
        })
    }

    async fn attempts_of(&self, trial: TrialKey) -> Result<Vec<TrialEvent>, StoreError> {
        let mut attempts = Vec::new();
        for row in self.fetch(self.sql().attempts_of, vec![trial.into()]).await? {
            let text = |column| row.maybe_text("attempts", column);
            attempts.push(trial_history::Attempt {
                token: AttemptToken(row.int("attempts", "token")?),
                started_ms: row.int("attempts", "started_ms")?,
                ended_ms: row.maybe_int("attempts", "ended_ms")?,
                state: row.parsed("attempts", "outcome")?,
                class: row.maybe_parsed("attempts", "error_class")?,
                message: text("message")?,
                step: row.count("attempts", "step")?,
                preparation: text("preparation")?,
                device: text("device")?,
                code: text("code")?.as_deref().and_then(Code::read).map(|code| code.line()),
                worker: row.text("workers", "worker")?,
                resumed: rows::resumed(&row)?,
                trains: row.int("attempts", "trains")? != 0,
            });
        }
        Ok(trial_history::events_of(attempts))
    }
}

#[tonic::async_trait]
impl Backend for SqlBackend {
    async fn begin(&self, durable: bool) -> Result<Box<dyn Transaction>, StoreError> {
        self.check_file()?;
        // SQLite knows no durability of single transactions: the connection's is changed where it must be. A connection that is new, as
        // after an error, is durable, whatever is noted about it here.
        if self.dialect == Dialect::Sqlite && self.durable.load(atomic::Ordering::Relaxed) != durable {
            self.writer.execute_anew(if durable { self.sql().full } else { self.sql().normal }).await?;
            self.durable.store(durable, atomic::Ordering::Relaxed);
        }
        let mut tx = self.transaction().await?;
        if self.dialect == Dialect::Postgres && !durable {
            tx.tx.execute(self.sql().not_durable, Vec::new()).await?;
        }
        Ok(Box::new(tx))
    }

    fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    async fn now(&self) -> Result<Timestamp, StoreError> {
        match &self.time {
            TimeSource::Process(time) => Ok(time.now()),
            TimeSource::Database => {
                let row = self.fetch(self.sql().now, Vec::new()).await?.pop();
                row.ok_or_else(silent_clock)?.int("the clock", "now_ms").map(Timestamp)
            }
        }
    }

    fn clock_may_step(&self) -> bool {
        matches!(self.time, TimeSource::Database)
    }

    async fn status(&self, sweep: Option<&str>, archived: bool) -> Result<Vec<SweepStatus>, StoreError> {
        let now = self.now().await?;
        let mut all = Vec::new();
        let args = vec![sweep.unwrap_or_default().into(), now.0.into(), i64::from(archived).into()];
        for row in self.fetch(self.sql().status, args).await? {
            all.push(self.sweep_status(&row).await?);
        }
        Ok(all)
    }

    async fn contents(&self, sweep: SweepKey) -> Result<SweepContents, StoreError> {
        let row = self.fetch(self.sql().contents, vec![sweep.into()]).await?.pop();
        let Some(row) = row else { return Ok(SweepContents::default()) };
        Ok(SweepContents {
            trials: row.count("trials", "trials")?,
            succeeded: row.count("trials", "succeeded")?,
            files: row.count("artifacts", "files")?,
            bytes: row.count("artifacts", "bytes")?,
        })
    }

    async fn lacking(&self, asked: FilesQuestion<'_>) -> Result<Vec<LackingTrial>, StoreError> {
        let own = self.fetch(self.sql().lacking, rows::files_args(asked)).await?;
        let elsewhere = match asked.elsewhere {
            true => self.fetch(self.sql().lacking_elsewhere, rows::files_args(asked)).await?,
            false => Vec::new(),
        };
        rows::lacking(&own, &elsewhere, asked.needs)
    }

    async fn trials(
        &self,
        sweep: SweepKey,
        state: Option<StateName>,
        from: i64,
    ) -> Result<Page<TrialLine>, StoreError> {
        let args = vec![
            sweep.into(),
            state.map_or("", StateName::as_str).into(),
            from.into(),
            (PAGE_ROWS as u64).into(),
        ];
        let rows = self.fetch(self.sql().trials, args).await?;
        Ok(Page {
            rows: rows.iter().map(rows::trial_line).collect::<Result<_, _>>()?,
            next: next_page(&rows, PAGE_ROWS)?,
        })
    }

    async fn records(&self, sweep: SweepKey, portion: PageRequest) -> Result<Page<TrialRecord>, StoreError> {
        let PageRequest { from, trials_max, detail } = portion;
        let rows = self
            .fetch(self.sql().records, vec![sweep.into(), from.into(), (trials_max as u64).into()])
            .await?;
        let mut tokens = Vec::new();
        for row in &rows {
            if row.parsed::<StateName>("trials", "state")? == StateName::Succeeded {
                tokens.push(row.int("trials", "result")?);
            }
        }
        let [validation, held_out] = self.tables();
        let (mut validation, mut held_out) = tokio::try_join!(
            self.evaluations(validation, &tokens, detail),
            self.evaluations(held_out, &tokens, detail)
        )?;
        let mut records = Vec::with_capacity(rows.len());
        for row in &rows {
            let state = row.parsed("trials", "state")?;
            let token = if state == StateName::Succeeded { Some(row.int("trials", "result")?) } else { None };
            let reported = |table: &mut HashMap<i64, Vec<Evaluation>>| {
                token.and_then(|token| table.remove(&token)).unwrap_or_default()
            };
            let (validation, held_out) = (reported(&mut validation), reported(&mut held_out));
            records.push(TrialRecord {
                id: row.parsed("trials", "trial_id")?,
                point: rows::point(row)?,
                state,
                validation,
                held_out,
            });
        }
        Ok(Page { rows: records, next: next_page(&rows, trials_max)? })
    }

    async fn find(
        &self,
        sweep: Option<&str>,
        prefix: &str,
        count_max: usize,
    ) -> Result<Vec<(TrialKey, String)>, StoreError> {
        // Ids are hexadecimal digits: 'g' comes after all of them.
        let args = vec![
            prefix.into(),
            format!("{prefix}g").into(),
            sweep.unwrap_or_default().into(),
            (count_max as u64).into(),
        ];
        let rows = self.fetch(self.sql().find, args).await?;
        rows.iter().map(|row| Ok((row.key("trials", "id")?, row.text("trials", "trial")?))).collect()
    }

    async fn history(&self, trial: TrialKey) -> Result<TrialHistory, StoreError> {
        let row = self.trial(trial).await?;
        let mut events = self.attempts_of(trial).await?;
        for row in self.fetch(self.sql().events_of, vec![trial.into()]).await? {
            let token = row.maybe_int("events", "token")?.map(AttemptToken);
            let (what, detail) = (row.text("events", "what")?, row.text("events", "detail")?);
            events.push(TrialEvent { at_ms: row.int("events", "at_ms")?, token, what, detail });
        }
        events.sort_by_key(|event| event.at_ms);
        let state = rows::state(&row)?;
        let members = self.fetch(self.sql().members_of, vec![trial.into()]).await?;
        Ok(TrialHistory {
            members: members.iter().map(|row| row.text("members", "member")).collect::<Result<_, _>>()?,
            sweep: row.text("sweeps", "name")?,
            line: rows::trial_line(&row)?,
            token: state.token(),
            not_before: state.not_before(),
            read_at: self.now().await?,
            events,
        })
    }

    async fn log(&self, trial: TrialKey, token: Option<AttemptToken>) -> Result<Log, StoreError> {
        let mut chosen = None;
        for row in self.fetch(self.sql().attempts_of, vec![trial.into()]).await? {
            let found = AttemptToken(row.int("attempts", "token")?);
            if token.is_none_or(|token| token == found) {
                chosen = Some((found, row.text("workers", "worker")?));
            }
        }
        let (found, worker) = match (chosen, token) {
            (Some(chosen), _) => chosen,
            (None, Some(token)) => return Err(StoreError::UnknownToken(token)),
            (None, None) => return Ok(Log::default()),
        };
        let mut log = Log { token: Some(found), worker, ..Log::default() };
        if let Some(row) = self.fetch(self.sql().log_of, vec![found.0.into()]).await?.pop() {
            log.cut = row.maybe_count("attempts", "log_cut")?;
            log.left_out = row.count("attempts", "left_out")?;
        }
        Ok(log)
    }

    async fn log_part(&self, token: AttemptToken, after: u64) -> Result<Vec<(u64, Vec<u8>)>, StoreError> {
        let args = vec![token.0.into(), after.into(), LOG_PART_BATCHES.into()];
        let part = |row: &Row| Ok((row.count("logs", "sequence")?, row.bytes("logs", "text")?));
        self.fetch(self.sql().log_part, args).await?.iter().map(part).collect()
    }

    async fn artifacts(&self, trial: TrialKey) -> Result<TrialArtifacts, StoreError> {
        let row = self.trial(trial).await?;
        let line = rows::trial_line(&row)?;
        let state = rows::state(&row)?;
        let of = |token: Option<AttemptToken>| token.map(|token| token.0).into();
        let args = vec![of(state.token()), trial.into(), of(state.accepted())];
        let rows = self.fetch(self.sql().artifacts_of, args).await?;
        let artifacts = rows.iter().map(rows::artifact).collect::<Result<_, _>>()?;
        Ok(trial_history::artifacts(line, state, artifacts))
    }

    async fn proof(&self, trial: TrialKey) -> Result<Option<ReportedData>, StoreError> {
        let row = self.trial(trial).await?;
        let Some(AttemptToken(token)) = rows::state(&row)?.accepted() else { return Ok(None) };
        let Some(attempt) = self.fetch(self.sql().attempt, vec![token.into()]).await?.pop() else {
            return Ok(None);
        };
        let mut evaluations = Vec::new();
        for table in self.tables() {
            evaluations.extend(
                self.evaluations(table, &[token], Detail::All).await?.remove(&token).unwrap_or_default(),
            );
        }
        let mut losses = Vec::new();
        for row in self.fetch(self.sql().losses_of, vec![token.into()]).await? {
            losses.push(TrainingLoss {
                step: row.count("training_losses", "step")?,
                loss: row.real("training_losses", "loss")?,
                seconds: row.maybe_real("training_losses", "seconds")?,
            });
        }
        let mut artifacts = Vec::new();
        for row in self.fetch(self.sql().artifacts_of, vec![token.into(), 0_i64.into(), token.into()]).await?
        {
            artifacts.push(rows::artifact(&row)?.artifact);
        }
        let (resumed, worker) = (rows::resumed(&attempt)?, attempt.text("workers", "worker")?);
        Ok(Some(ReportedData { evaluations, losses, artifacts, resumed, worker }))
    }

    async fn faults(&self) -> Result<Vec<Fault>, StoreError> {
        self.fetch(self.sql().faults, Vec::new()).await?.iter().map(rows::fault).collect()
    }

    async fn pins(&self) -> Result<Vec<(Input, Pins)>, StoreError> {
        pins::read(&self.fetch(self.sql().pins, Vec::new()).await?)
    }

    async fn results_with(&self, kind: InputKind, digests: &[String]) -> Result<u64, StoreError> {
        let digests = rows_arg(digests.iter().map(|digest| json!([digest])));
        let row = self.fetch(self.sql().results_with(kind), vec![digests]).await?.pop();
        row.map_or(Ok(0), |row| row.count("trials", "trials"))
    }

    async fn workers(&self, seen_within: Option<Duration>) -> Result<Vec<WorkerLine>, StoreError> {
        let read_at = self.now().await?;
        let since = seen_within.map_or(Timestamp(0), |duration| read_at.minus(duration));
        let mut running: HashMap<i64, Vec<String>> = HashMap::new();
        for row in self.fetch(self.sql().running, Vec::new()).await? {
            running.entry(row.key("attempts", "worker")?).or_default().push(row.text("trials", "trial")?);
        }
        let faults = self.faults().await?;
        let mut lines = Vec::new();
        for row in self.fetch(self.sql().worker_lines, vec![since.0.into()]).await? {
            let devices = row.text("workers", "devices")?;
            let machine = row.text("workers", "machine")?;
            let faults = faults.iter().filter(|fault| fault.machine == machine).cloned().collect();
            lines.push(WorkerLine {
                worker: Worker {
                    id: row.text("workers", "worker_id")?,
                    host: row.text("workers", "host")?,
                    machine,
                    pid: rows::small(row.count("workers", "pid")?),
                    devices: devices
                        .split(',')
                        .filter(|device| !device.is_empty())
                        .map(str::to_owned)
                        .collect(),
                    slots: rows::small(row.count("workers", "slots")?),
                    abilities: row.json("workers", "abilities")?,
                    software: row.text("workers", "software")?,
                    checkpoints: row.maybe_parsed("workers", "checkpoints")?,
                    secret: row.parsed("workers", "secret")?,
                },
                seen: Timestamp(row.int("workers", "seen_ms")?),
                read_at,
                left: row.maybe_int("workers", "left_ms")?.is_some(),
                faults,
                trials: running.remove(&row.key("workers", "id")?).unwrap_or_default(),
            });
        }
        Ok(lines)
    }

    async fn sizes(&self) -> Result<Sizes, StoreError> {
        rows::sizes(&self.fetch(self.sql().sizes, Vec::new()).await?)
    }

    async fn sweep(&self, name: &str) -> Result<Option<SweepRow>, StoreError> {
        self.fetch(self.sql().sweep, vec![name.into()]).await?.first().map(rows::sweep).transpose()
    }

    async fn sweep_names(&self) -> Result<Vec<String>, StoreError> {
        self.fetch(self.sql().sweep_names, Vec::new())
            .await?
            .iter()
            .map(|row| row.text("sweeps", "name"))
            .collect()
    }

    async fn query(&self, sql: &str, limit: Duration) -> Result<Rows, StoreError> {
        self.check_file()?;
        self.queries.ask(sql, limit).await
    }

    async fn backup(&self) -> Result<File, StoreError> {
        self.check_file()?;
        self.copy_to_file().await
    }

    async fn changed_elsewhere(&self) {
        self.elsewhere.notified().await;
    }

    async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}

/// A table of evaluations, and what is asked of it.
#[derive(Clone, Copy)]
struct Table {
    name: &'static str,
    exact: &'static str,
    scores: &'static str,
}

fn next_page(rows: &[Row], rows_max: usize) -> Result<Option<i64>, StoreError> {
    rows.last()
        .filter(|_| rows.len() == rows_max)
        .map(|row| Ok(row.int("trials", "position")? + 1))
        .transpose()
}
