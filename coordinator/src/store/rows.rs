//! From rows to types, and back where a decision is written down.

use sortie_core::job::{Finished, State, StateName, Timestamp, Token};
use sortie_core::metrics::Evaluation;
use sortie_core::trial::Point;
use sqlx::sqlite::SqliteRow;
use sqlx::{Decode, Row, Sqlite, SqliteConnection, Type};

use super::StoreError;

/// Reads a column, naming it if it is not what the schema promises.
pub(super) fn column<'r, T: Decode<'r, Sqlite> + Type<Sqlite>>(
    row: &'r SqliteRow,
    table: &'static str,
    name: &'static str,
) -> Result<T, StoreError> {
    row.try_get(name).map_err(|error| corrupt(table, name, row, error))
}

/// Reads a text column as a type that is parsed from text.
pub(super) fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(
    row: &SqliteRow,
    table: &'static str,
    name: &'static str,
) -> Result<T, StoreError> {
    let text: &str = column(row, table, name)?;
    text.parse().map_err(|error| corrupt(table, name, row, error))
}

/// Reads an integer column that is never negative.
pub(super) fn unsigned(row: &SqliteRow, table: &'static str, name: &'static str) -> Result<u64, StoreError> {
    let value: i64 = column(row, table, name)?;
    value.try_into().map_err(|error| corrupt(table, name, row, error))
}

pub(super) fn corrupt(table: &'static str, column: &'static str, row: &SqliteRow, reason: impl ToString) -> StoreError {
    let key = row.try_get::<i64, _>(0).map_or_else(|_| "?".to_owned(), |key| key.to_string());
    StoreError::Corrupt { table, column, row: key, reason: reason.to_string() }
}

/// SQLite's integers are signed; numbers that people give are below 2^63.
pub(super) fn integer(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// The axes of a trial row.
pub(super) fn point(row: &SqliteRow) -> Result<Point, StoreError> {
    let held_out: &str = column(row, "trials", "held_out")?;
    Ok(Point {
        held_out: held_out.split('+').map(str::to_owned).collect(),
        dropout: column(row, "trials", "dropout")?,
        lr: column(row, "trials", "lr")?,
        weight_decay: column(row, "trials", "weight_decay")?,
        head_lr_factor: column(row, "trials", "head_lr_factor")?,
        seed: unsigned(row, "trials", "seed")?,
        split_seed: unsigned(row, "trials", "split_seed")?,
    })
}

pub(super) fn evaluation(row: &SqliteRow, table: &'static str) -> Result<Evaluation, StoreError> {
    Ok(Evaluation {
        method: parsed(row, table, "method")?,
        step: unsigned(row, table, "step")?,
        domain: column(row, table, "domain")?,
        split: parsed(row, table, "split")?,
        n: unsigned(row, table, "n")?,
        correct: unsigned(row, table, "correct")?,
        loss: column(row, table, "loss")?,
    })
}

/// A trial as the state machine sees it.
#[derive(Clone, Copy, Debug)]
pub(super) struct TrialRow {
    pub(super) id: i64,
    pub(super) state: State,
}

impl TryFrom<&SqliteRow> for TrialRow {
    type Error = StoreError;

    /// Needs the columns id, state, token and lease_expires_ms of `trials`.
    fn try_from(row: &SqliteRow) -> Result<Self, StoreError> {
        let token = Token(column(row, "trials", "token")?);
        let state = match parsed(row, "trials", "state")? {
            StateName::Queued => State::Queued { expired: (token.0 != 0).then_some(token) },
            StateName::Leased => State::Leased { token, expires_at: Timestamp(column(row, "trials", "lease_expires_ms")?) },
            StateName::Succeeded => State::Finished(Finished::Succeeded(token)),
            StateName::Diverged => State::Finished(Finished::Diverged(token)),
            StateName::Failed => State::Finished(Finished::Failed(token)),
        };
        Ok(Self { id: column(row, "trials", "id")?, state })
    }
}

/// The token column of a state: see the migration.
fn token_of(state: State) -> i64 {
    match state {
        State::Queued { expired } => expired.map_or(0, |token| token.0),
        State::Leased { token, .. } => token.0,
        State::Finished(Finished::Succeeded(token) | Finished::Diverged(token) | Finished::Failed(token)) => token.0,
    }
}

impl TrialRow {
    /// Moves the trial, if it is still as it was read.
    pub(super) async fn move_to(&self, next: State, connection: &mut SqliteConnection) -> Result<(), StoreError> {
        let expires = if let State::Leased { expires_at, .. } = next { expires_at.0 } else { 0 };
        let moved = sqlx::query("UPDATE trials SET state = ?, token = ?, lease_expires_ms = ? WHERE id = ? AND state = ? AND token = ?")
            .bind(next.name().as_str())
            .bind(token_of(next))
            .bind(expires)
            .bind(self.id)
            .bind(self.state.name().as_str())
            .bind(token_of(self.state))
            .execute(connection)
            .await?;
        expect_rows("move of a trial", moved.rows_affected(), 1)
    }
}

pub(super) fn expect_rows(statement: &'static str, rows: u64, expected: u64) -> Result<(), StoreError> {
    if rows == expected { Ok(()) } else { Err(StoreError::Guard { statement, rows, expected }) }
}
