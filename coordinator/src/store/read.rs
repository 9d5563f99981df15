//! Questions. They read from a pool of their own and never wait for the writer.

use sortie_core::job::StateName;
use sortie_core::record::TrialRecord;
use sortie_core::spec::SweepSpec;
use sqlx::sqlite::SqliteRow;

use super::rows::{column, corrupt, evaluation, parsed, point, unsigned};
use super::{Store, StoreError, SweepStatus, TrialLine};

/// Rows of one page.
const PAGE_ROWS: i64 = 500;

/// A part of a long answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Page<T> {
    /// In order.
    pub rows: Vec<T>,
    /// Where the next page starts; none after the last.
    pub next: Option<i64>,
}

fn next_page(rows: &[SqliteRow]) -> Result<Option<i64>, StoreError> {
    let full = rows.len() as i64 == PAGE_ROWS;
    rows.last().filter(|_| full).map(|row| Ok(column::<i64>(row, "trials", "position")? + 1)).transpose()
}

impl Store {
    /// A sweep's id and specification.
    ///
    /// # Errors
    /// [`StoreError::UnknownSweep`].
    pub async fn sweep(&self, name: &str) -> Result<SweepSpec, StoreError> {
        let row = sqlx::query("SELECT id, spec FROM sweeps WHERE name = ?").bind(name).fetch_optional(&self.readers).await?;
        let Some(row) = row else { return Err(self.unknown(name).await?) };
        serde_json::from_str(column(&row, "sweeps", "spec")?).map_err(|error| corrupt("sweeps", "spec", &row, error))
    }

    async fn unknown(&self, name: &str) -> Result<StoreError, StoreError> {
        let names: Vec<String> = sqlx::query_scalar("SELECT name FROM sweeps ORDER BY id DESC LIMIT 20").fetch_all(&self.readers).await?;
        let known = match names.as_slice() {
            [] => "none was submitted yet".to_owned(),
            names => format!("there are: {}", names.join(", ")),
        };
        Ok(StoreError::UnknownSweep { name: name.to_owned(), known })
    }

    /// How far one sweep is, or all of them in the order of their submission.
    ///
    /// # Errors
    /// [`StoreError::UnknownSweep`].
    pub async fn status(&self, name: Option<&str>) -> Result<Vec<SweepStatus>, StoreError> {
        let rows = sqlx::query(
            "SELECT sweeps.id, sweeps.name, sweeps.spec,
                    COUNT(*) FILTER (WHERE trials.state = 'queued') AS queued,
                    COUNT(*) FILTER (WHERE trials.state = 'leased') AS leased,
                    COUNT(*) FILTER (WHERE trials.state = 'succeeded') AS succeeded,
                    COUNT(*) FILTER (WHERE trials.state = 'diverged') AS diverged,
                    COUNT(*) FILTER (WHERE trials.state = 'failed') AS failed,
                    COALESCE(SUM(attempts.step) FILTER (WHERE trials.state = 'leased'), 0) AS steps_running,
                    COALESCE(SUM(attempts.ended_ms - attempts.started_ms) FILTER (WHERE trials.state = 'succeeded'), 0) AS running_ms
             FROM sweeps JOIN trials ON trials.sweep_id = sweeps.id LEFT JOIN attempts ON attempts.token = trials.token
             WHERE ?1 = '' OR sweeps.name = ?1 GROUP BY sweeps.id ORDER BY sweeps.id",
        )
        .bind(name.unwrap_or_default())
        .fetch_all(&self.readers)
        .await?;
        if let (Some(name), []) = (name, rows.as_slice()) {
            return Err(self.unknown(name).await?);
        }
        rows.iter().map(sweep_status).collect()
    }

    /// A page of a sweep's trials in the order in which they run: those from this position on. The next page starts at
    /// [`Page::next`]. Pages, not one long cursor: a slow reader must not keep a connection.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn trials(&self, sweep: &str, state: Option<StateName>, from: i64) -> Result<Page<TrialLine>, StoreError> {
        let rows = sqlx::query(
            "SELECT trials.id, trials.position, trials.trial_id, trials.held_out, trials.dropout, trials.lr, trials.weight_decay,
                    trials.head_lr_factor, trials.seed, trials.split_seed, trials.state,
                    (SELECT COUNT(*) FROM attempts WHERE attempts.trial = trials.id) AS attempts,
                    COALESCE(newest.step, 0) AS step, COALESCE(workers.host || ':' || workers.pid, '') AS worker,
                    COALESCE((SELECT error_class || ': ' || message FROM attempts
                              WHERE attempts.trial = trials.id AND outcome = 'failed' ORDER BY token DESC LIMIT 1), '') AS error
             FROM trials JOIN sweeps ON sweeps.id = trials.sweep_id
             LEFT JOIN attempts AS newest ON newest.token = (SELECT MAX(token) FROM attempts WHERE attempts.trial = trials.id)
             LEFT JOIN workers ON workers.worker_id = newest.worker_id
             WHERE sweeps.name = ?1 AND (?2 = '' OR trials.state = ?2) AND trials.position >= ?3 ORDER BY trials.position LIMIT ?4",
        )
        .bind(sweep)
        .bind(state.map_or("", StateName::as_str))
        .bind(from)
        .bind(PAGE_ROWS)
        .fetch_all(&self.readers)
        .await?;
        Ok(Page { rows: rows.iter().map(trial_line).collect::<Result<_, _>>()?, next: next_page(&rows)? })
    }

    /// A page of a sweep's trials, each with the evaluations of its accepted attempt.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn records(&self, sweep: &str, from: i64) -> Result<Page<TrialRecord>, StoreError> {
        let rows = sqlx::query(
            "SELECT trials.id, trials.position, trials.trial_id, trials.held_out, trials.dropout, trials.lr, trials.weight_decay,
                    trials.head_lr_factor, trials.seed, trials.split_seed, trials.state, trials.token
             FROM trials JOIN sweeps ON sweeps.id = trials.sweep_id
             WHERE sweeps.name = ? AND trials.position >= ? ORDER BY trials.position LIMIT ?",
        )
        .bind(sweep)
        .bind(from)
        .bind(PAGE_ROWS)
        .fetch_all(&self.readers)
        .await?;
        let mut records = Vec::with_capacity(rows.len());
        for row in &rows {
            records.push(self.record(row).await?);
        }
        Ok(Page { rows: records, next: next_page(&rows)? })
    }

    async fn record(&self, row: &SqliteRow) -> Result<TrialRecord, StoreError> {
        let state = parsed(row, "trials", "state")?;
        let (mut validation, mut held_out) = (Vec::new(), Vec::new());
        if state == StateName::Succeeded {
            let key: (i64, i64) = (column(row, "trials", "id")?, column(row, "trials", "token")?);
            let read = |sql: &'static str| sqlx::query(sql).bind(key.0).bind(key.1).fetch_all(&self.readers);
            for row in read("SELECT * FROM validation WHERE trial = ? AND token = ? ORDER BY method, step, domain, split").await? {
                validation.push(evaluation(&row, "validation")?);
            }
            for row in read("SELECT * FROM held_out WHERE trial = ? AND token = ? ORDER BY method, step, domain, split").await? {
                held_out.push(evaluation(&row, "held_out")?);
            }
        }
        Ok(TrialRecord { id: parsed(row, "trials", "trial_id")?, point: point(row)?, state, validation, held_out })
    }
}

fn sweep_status(row: &SqliteRow) -> Result<SweepStatus, StoreError> {
    let spec: SweepSpec = serde_json::from_str(column(row, "sweeps", "spec")?).map_err(|error| corrupt("sweeps", "spec", row, error))?;
    let count = |name| unsigned(row, "trials", name);
    let mut status = SweepStatus {
        sweep: column(row, "sweeps", "name")?,
        queued: count("queued")?,
        leased: count("leased")?,
        succeeded: count("succeeded")?,
        diverged: count("diverged")?,
        failed: count("failed")?,
        running_ms: count("running_ms")?,
        ..SweepStatus::default()
    };
    let (finished, steps) = (status.succeeded + status.diverged + status.failed, spec.settings.steps + 1);
    status.finished_attempts = status.succeeded;
    status.steps_planned = (finished + status.queued + status.leased) * steps;
    status.steps_done = finished * steps + count("steps_running")?;
    Ok(status)
}

fn trial_line(row: &SqliteRow) -> Result<TrialLine, StoreError> {
    Ok(TrialLine {
        trial_id: parsed(row, "trials", "trial_id")?,
        point: point(row)?,
        state: parsed(row, "trials", "state")?,
        attempts: unsigned(row, "attempts", "attempts")?.try_into().unwrap_or(u32::MAX),
        step: unsigned(row, "attempts", "step")?,
        worker: column(row, "workers", "worker")?,
        error: column(row, "attempts", "error")?,
    })
}
