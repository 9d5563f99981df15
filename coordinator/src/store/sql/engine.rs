//! The two databases as one: connections, arguments and rows. Nothing here knows a table.

use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _};
use serde_json::Value;
use sortie_core::keys::{SweepKey, TrialKey};
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{
    Arguments as _, AssertSqlSafe, Column as _, PgPool, Postgres, Row as _, SqlSafeStr, Sqlite, SqlitePool,
};

use super::statements::{Dialect, PACKED};
use crate::store::StoreError;

/// One value of a statement.
#[derive(Clone, Debug)]
pub(super) enum Arg {
    Int(Option<i64>),
    /// A number that is never negative. The integers of both databases are signed: one from 2^63 on is an error.
    Count(Option<u64>),
    Text(Option<String>),
    Real(Option<f64>),
    Bytes(Vec<u8>),
}

/// What the values of a column are, by the name of the type in SQLite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Integer,
    Text,
    Real,
    Bytes,
}
sortie_core::named!(Kind, "type of a column", { Integer => "INTEGER", Text => "TEXT", Real => "REAL", Bytes => "BLOB" });

/// A value, or NULL.
macro_rules! from_value {
    ($($type:ty => $variant:ident),+) => {$(
        impl From<$type> for Arg {
            fn from(value: $type) -> Self {
                Self::$variant(Some(value.into()))
            }
        }

        impl From<Option<$type>> for Arg {
            fn from(value: Option<$type>) -> Self {
                Self::$variant(value.map(Into::into))
            }
        }
    )+};
}
from_value!(i64 => Int, u64 => Count, &str => Text, String => Text, f64 => Real);

macro_rules! from_key {
    ($($key:ty),+) => {$(
        impl From<$key> for Arg {
            fn from(key: $key) -> Self {
                Self::Int(Some(key.0))
            }
        }
    )+};
}
from_key!(SweepKey, TrialKey);

/// Adds arguments of either database; they differ in type only.
macro_rules! arguments {
    ($type:ty, $args:expr) => {{
        let mut arguments = <$type>::default();
        for arg in $args {
            let added = match arg {
                Arg::Int(value) => arguments.add(value),
                Arg::Count(value) => value
                    .map(i64::try_from)
                    .transpose()
                    .map_err(Into::into)
                    .and_then(|value| arguments.add(value)),
                Arg::Text(value) => arguments.add(value),
                Arg::Real(value) => arguments.add(value),
                Arg::Bytes(value) => arguments.add(value),
            };
            added.map_err(sqlx::Error::Encode)?;
        }
        arguments
    }};
}

/// A row of either database.
#[derive(Debug)]
pub(super) enum Row {
    Sqlite(SqliteRow),
    Postgres(PgRow),
    /// One of many that came as one JSON text: see `$pack` in [`super::statements`].
    Packed(serde_json::Map<String, Value>),
}

/// Reads a column of either database's row; an error names table and column.
macro_rules! get {
    ($row:expr, $table:expr, $column:expr) => {
        match $row {
            Row::Sqlite(row) => row.try_get($column).map_err(|error| corrupt($table, $column, &error)),
            Row::Postgres(row) => row.try_get($column).map_err(|error| corrupt($table, $column, &error)),
            Row::Packed(row) => {
                let value = row.get($column).unwrap_or(&Value::Null);
                serde_json::from_value(value.clone()).map_err(|error| corrupt($table, $column, &error))
            }
        }
    };
}

fn corrupt(table: &'static str, column: &'static str, reason: &dyn std::fmt::Display) -> StoreError {
    StoreError::Corrupt { table, column, reason: reason.to_string() }
}

fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(
    text: &str,
    table: &'static str,
    column: &'static str,
) -> Result<T, StoreError> {
    text.parse().map_err(|error: T::Err| corrupt(table, column, &error))
}

/// A value of a row, to be written elsewhere.
macro_rules! value {
    ($row:expr, $index:expr, $kind:expr) => {
        match $kind {
            Kind::Integer => Arg::Int($row.try_get($index)?),
            Kind::Text => Arg::Text($row.try_get($index)?),
            Kind::Real => Arg::Real($row.try_get($index)?),
            Kind::Bytes => Arg::Bytes($row.try_get($index)?),
        }
    };
}

impl Row {
    /// The value of a column by its place.
    pub(super) fn value(&self, column: usize, kind: Kind) -> Result<Arg, StoreError> {
        Ok(match self {
            Self::Sqlite(row) => value!(row, column, kind),
            Self::Postgres(row) => value!(row, column, kind),
            Self::Packed(_) => return Err(corrupt("a packed answer", PACKED, &"it has no order")),
        })
    }

    pub(super) fn int(&self, table: &'static str, column: &'static str) -> Result<i64, StoreError> {
        get!(self, table, column)
    }

    /// The key of a row.
    pub(super) fn key<K: From<i64>>(
        &self,
        table: &'static str,
        column: &'static str,
    ) -> Result<K, StoreError> {
        self.int(table, column).map(K::from)
    }

    /// An integer that is never negative.
    pub(super) fn count(&self, table: &'static str, column: &'static str) -> Result<u64, StoreError> {
        let value = self.int(table, column)?;
        value.try_into().map_err(|_| StoreError::Corrupt {
            table,
            column,
            reason: format!("{value} is negative"),
        })
    }

    /// Such an integer, if there is one.
    pub(super) fn maybe_count(
        &self,
        table: &'static str,
        column: &'static str,
    ) -> Result<Option<u64>, StoreError> {
        let Some(value) = self.maybe_int(table, column)? else { return Ok(None) };
        let negative = |_| StoreError::Corrupt { table, column, reason: format!("{value} is negative") };
        value.try_into().map(Some).map_err(negative)
    }

    pub(super) fn text(&self, table: &'static str, column: &'static str) -> Result<String, StoreError> {
        get!(self, table, column)
    }

    pub(super) fn maybe_text(
        &self,
        table: &'static str,
        column: &'static str,
    ) -> Result<Option<String>, StoreError> {
        get!(self, table, column)
    }

    pub(super) fn real(&self, table: &'static str, column: &'static str) -> Result<f64, StoreError> {
        get!(self, table, column)
    }

    pub(super) fn maybe_real(
        &self,
        table: &'static str,
        column: &'static str,
    ) -> Result<Option<f64>, StoreError> {
        get!(self, table, column)
    }

    pub(super) fn maybe_int(
        &self,
        table: &'static str,
        column: &'static str,
    ) -> Result<Option<i64>, StoreError> {
        get!(self, table, column)
    }

    pub(super) fn bytes(&self, table: &'static str, column: &'static str) -> Result<Vec<u8>, StoreError> {
        get!(self, table, column)
    }

    /// A text that is read as a type.
    pub(super) fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(
        &self,
        table: &'static str,
        column: &'static str,
    ) -> Result<T, StoreError> {
        parsed(&self.text(table, column)?, table, column)
    }

    /// A text that is read as a type, or NULL.
    pub(super) fn maybe_parsed<T: std::str::FromStr<Err: std::fmt::Display>>(
        &self,
        table: &'static str,
        column: &'static str,
    ) -> Result<Option<T>, StoreError> {
        self.maybe_text(table, column)?.map(|text| parsed(&text, table, column)).transpose()
    }

    /// A JSON text that is read as a type.
    pub(super) fn json<T: serde::de::DeserializeOwned>(
        &self,
        table: &'static str,
        column: &'static str,
    ) -> Result<T, StoreError> {
        let text = self.text(table, column)?;
        serde_json::from_str(&text).map_err(|error| StoreError::Corrupt {
            table,
            column,
            reason: error.to_string(),
        })
    }
}

/// Connections for questions.
#[derive(Clone, Debug)]
pub(super) enum Pool {
    Sqlite(SqlitePool),
    Postgres(PgPool),
}

impl Pool {
    pub(super) async fn fetch(&self, sql: &'static str, args: Vec<Arg>) -> Result<Vec<Row>, StoreError> {
        match self {
            Self::Sqlite(pool) => {
                let rows = sqlx::query_with(sql, arguments!(SqliteArguments, args)).fetch_all(pool).await?;
                Ok(rows.into_iter().map(Row::Sqlite).collect())
            }
            Self::Postgres(pool) => {
                let rows = sqlx::query_with(sql, arguments!(PgArguments, args)).fetch_all(pool).await?;
                Ok(rows.into_iter().map(Row::Postgres).collect())
            }
        }
    }

    /// Runs a statement outside of any transaction, compiled anew each time: SQLite carries out many a PRAGMA while it compiles it, and
    /// nothing promises that one which was kept does so again.
    pub(super) async fn execute_anew(&self, sql: &'static str) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(pool) => sqlx::raw_sql(sql).execute(pool).await.map(|_| ())?,
            Self::Postgres(pool) => sqlx::raw_sql(sql).execute(pool).await.map(|_| ())?,
        }
        Ok(())
    }

    pub(super) async fn begin(&self) -> Result<Tx, StoreError> {
        Ok(match self {
            // A deferred transaction that reads first and then writes fails at once when somebody wrote in between.
            Self::Sqlite(pool) => match pool.begin_with("BEGIN IMMEDIATE").await {
                Ok(tx) => Tx::Sqlite(tx),
                // SQLite undoes a transaction by itself when a commit fails, on a full disk for instance, and the driver does not learn
                // of it: that connection would never begin another one.
                Err(_) => {
                    pool.acquire().await?.close().await?;
                    Tx::Sqlite(pool.begin_with("BEGIN IMMEDIATE").await?)
                }
            },
            Self::Postgres(pool) => Tx::Postgres(pool.begin().await?),
        })
    }

    /// Opens a transaction that only reads, and sees everything as it is at one moment.
    pub(super) async fn snapshot(&self) -> Result<Tx, StoreError> {
        Ok(match self {
            Self::Sqlite(pool) => Tx::Sqlite(pool.begin().await?),
            Self::Postgres(pool) => {
                Tx::Postgres(pool.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY").await?)
            }
        })
    }

    pub(super) async fn close(&self) {
        match self {
            Self::Sqlite(pool) => pool.close().await,
            Self::Postgres(pool) => pool.close().await,
        }
    }
}

/// Rows as they are, or the many that one of them holds.
fn unpacked(rows: Vec<SqliteRow>) -> Result<Vec<Row>, StoreError> {
    match rows.as_slice() {
        [row] if row.len() == 1 && row.column(0).name() == PACKED => {
            let text: String = row.try_get(PACKED)?;
            let rows: Vec<serde_json::Map<String, Value>> =
                serde_json::from_str(&text).map_err(|error| corrupt("a packed answer", PACKED, &error))?;
            Ok(rows.into_iter().map(Row::Packed).collect())
        }
        _ => Ok(rows.into_iter().map(Row::Sqlite).collect()),
    }
}

/// A transaction. Dropped, it changes nothing.
#[derive(Debug)]
pub(super) enum Tx {
    Sqlite(sqlx::Transaction<'static, Sqlite>),
    Postgres(sqlx::Transaction<'static, Postgres>),
}

impl Tx {
    pub(super) async fn fetch(&mut self, sql: &'static str, args: Vec<Arg>) -> Result<Vec<Row>, StoreError> {
        match self {
            Self::Sqlite(tx) => {
                let rows =
                    sqlx::query_with(sql, arguments!(SqliteArguments, args)).fetch_all(&mut **tx).await?;
                unpacked(rows)
            }
            Self::Postgres(tx) => {
                let rows = sqlx::query_with(sql, arguments!(PgArguments, args)).fetch_all(&mut **tx).await?;
                Ok(rows.into_iter().map(Row::Postgres).collect())
            }
        }
    }

    /// All rows of a question, one after the other: they are never all in memory.
    pub(super) fn stream(&mut self, sql: String) -> BoxStream<'_, Result<Row, sqlx::Error>> {
        match self {
            Self::Sqlite(tx) => sqlx::query(AssertSqlSafe(sql)).fetch(&mut **tx).map_ok(Row::Sqlite).boxed(),
            Self::Postgres(tx) => {
                sqlx::query(AssertSqlSafe(sql)).fetch(&mut **tx).map_ok(Row::Postgres).boxed()
            }
        }
    }

    /// Which database it is on.
    pub(super) fn dialect(&self) -> Dialect {
        match self {
            Self::Sqlite(_) => Dialect::Sqlite,
            Self::Postgres(_) => Dialect::Postgres,
        }
    }

    /// Runs a statement; gives how many rows it touched.
    pub(super) async fn execute(&mut self, sql: impl SqlSafeStr, args: Vec<Arg>) -> Result<u64, StoreError> {
        Ok(match self {
            Self::Sqlite(tx) => sqlx::query_with(sql, arguments!(SqliteArguments, args))
                .execute(&mut **tx)
                .await?
                .rows_affected(),
            Self::Postgres(tx) => {
                sqlx::query_with(sql, arguments!(PgArguments, args)).execute(&mut **tx).await?.rows_affected()
            }
        })
    }

    pub(super) async fn commit(self) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(tx) => tx.commit().await?,
            Self::Postgres(tx) => tx.commit().await?,
        }
        Ok(())
    }

    pub(super) async fn rollback(self) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(tx) => tx.rollback().await?,
            Self::Postgres(tx) => tx.rollback().await?,
        }
        Ok(())
    }
}
