//! Copies tables from one database to another, of the same kind or of the other one. Both have the same tables and columns.

use futures::TryStreamExt as _;
use sqlx::AssertSqlSafe;

use super::engine::{Arg, Kind, Tx};
use super::inserts::VALUES_ROWS_MAX;
use super::statements::Dialect;
use super::transaction::expect;
use crate::store::StoreError;

/// The table that is never copied: it says which database this is.
const INCARNATION: &str = "incarnation";

/// A table.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) name: String,
    columns: Vec<String>,
    kinds: Vec<Kind>,
}

/// The tables of a SQLite file that are copied, each after those that its rows refer to: that is the order in which the migrations make them.
pub(super) async fn tables(file: &mut Tx) -> Result<Vec<Table>, StoreError> {
    let sql = "SELECT s.name AS name, c.name AS column, c.type AS kind FROM sqlite_schema AS s JOIN pragma_table_info(s.name) AS c
        WHERE s.type = 'table' AND s.name NOT LIKE 'sqlite%' AND s.name NOT IN ('_sqlx_migrations', 'incarnation') ORDER BY s.rowid, c.cid";
    let mut tables: Vec<Table> = Vec::new();
    for row in file.fetch(sql, Vec::new()).await? {
        let (name, column) = (row.text("sqlite_schema", "name")?, row.text("sqlite_schema", "column")?);
        let kind = row.parsed("sqlite_schema", "kind")?;
        match tables.last_mut().filter(|table| table.name == name) {
            Some(table) => {
                table.columns.push(column);
                table.kinds.push(kind);
            }
            None => tables.push(Table { name, columns: vec![column], kinds: vec![kind] }),
        }
    }
    Ok(tables)
}

/// Copies all rows of a table, every value to the last bit.
pub(super) async fn copy(table: &Table, from: &mut Tx, to: &mut Tx) -> Result<(), StoreError> {
    let dialect = to.dialect();
    let mut rows = from.stream(format!("SELECT {} FROM {}", table.columns.join(", "), table.name));
    let (mut args, mut count): (Vec<Arg>, usize) = (Vec::new(), 0);
    while let Some(row) = rows.try_next().await? {
        for (column, kind) in table.kinds.iter().enumerate() {
            args.push(row.value(column, *kind)?);
        }
        count += 1;
        if count == VALUES_ROWS_MAX {
            insert(table, count, std::mem::take(&mut args), dialect, to).await?;
            count = 0;
        }
    }
    if count > 0 { insert(table, count, args, dialect, to).await } else { Ok(()) }
}

async fn insert(
    table: &Table,
    count: usize,
    args: Vec<Arg>,
    dialect: Dialect,
    to: &mut Tx,
) -> Result<(), StoreError> {
    let width = table.columns.len();
    let row = |row: usize| {
        let values: Vec<String> = (1..=width).map(|column| format!("${}", row * width + column)).collect();
        format!("({})", values.join(", "))
    };
    let values: Vec<String> = (0..count).map(row).collect();
    let (name, columns, values) = (&table.name, table.columns.join(", "), values.join(", "));
    let ids = if dialect == Dialect::Postgres { "OVERRIDING SYSTEM VALUE " } else { "" };
    let sql = format!("INSERT INTO {name} ({columns}) {ids}VALUES {values}");
    let touched = to.execute(AssertSqlSafe(sql), args).await?;
    expect("copy of rows", touched, count)
}

/// Empties tables, and forgets which database it was.
pub(super) async fn clear(tables: &[Table], to: &mut Tx) -> Result<(), StoreError> {
    for name in tables.iter().rev().map(|table| table.name.as_str()).chain([INCARNATION]) {
        to.execute(AssertSqlSafe(format!("DELETE FROM {name}")), Vec::new()).await?;
    }
    Ok(())
}

/// Lets ids that Postgres makes go on after those that were copied. SQLite looks at its rows for that.
pub(super) async fn go_on_after_ids(tables: &[Table], to: &mut Tx) -> Result<(), StoreError> {
    let has_ids = |table: &&Table| table.columns.iter().any(|column| column == "id");
    for Table { name, .. } in tables.iter().filter(has_ids) {
        let sql = format!(
            "SELECT setval(pg_get_serial_sequence('{name}', 'id'), (SELECT COALESCE(MAX(id), 0) + 1 FROM {name}), false)"
        );
        to.execute(AssertSqlSafe(sql), Vec::new()).await?;
    }
    Ok(())
}
