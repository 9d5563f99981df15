//! Every statement is prepared on both real databases: no typing error, missing column or wrong type waits for its first use.

use sortie_testbed::postgres::Postgres;
use sqlx::{Executor, SqlSafeStr};

use super::engine::Pool;
use super::statements::{Dialect, EVALUATION_COLUMNS, LOSS_COLUMNS, VALUES_ROWS_MAX, insert_values, statements};
use super::{postgres, sqlite};
use crate::store::OpenOptions;

/// Statements that only a database which several coordinators share is ever asked.
const POSTGRES_ONLY: [&str; 2] = ["now", "notify"];

async fn prepare_all(pool: &Pool, dialect: Dialect) -> usize {
    let mut texts = statements(dialect).all();
    texts.retain(|(name, _)| dialect == Dialect::Postgres || !POSTGRES_ONLY.contains(name));
    for (table, columns) in [("validation", EVALUATION_COLUMNS), ("held_out", EVALUATION_COLUMNS), ("training_losses", LOSS_COLUMNS)] {
        let counts = (0..=VALUES_ROWS_MAX.ilog2()).map(|power| 1_usize << power);
        texts.extend(counts.map(|rows| (table, insert_values(table, columns, rows))));
    }
    for (name, text) in &texts {
        assert!(!text.contains("$rows") && !text.contains("$lock"), "{name}: {text}");
        let prepared = match pool {
            Pool::Sqlite(pool) => pool.prepare(text.into_sql_str()).await.map(drop),
            Pool::Postgres(pool) => pool.prepare(text.into_sql_str()).await.map(drop),
        };
        prepared.unwrap_or_else(|error| panic!("{name}: {error}: {text}"));
    }
    texts.len()
}

#[tokio::test]
async fn every_statement_fits_sqlites_tables() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("sortie.db").display());
    let database = sqlite::open(&url, &OpenOptions::default()).await.unwrap();
    assert!(prepare_all(&database.writer, Dialect::Sqlite).await > 60);
}

#[tokio::test]
async fn every_statement_fits_postgres_tables() {
    if !Postgres::is_installed() {
        println!("skipped: needs a PostgreSQL server (apt-get install postgresql)");
        return;
    }
    let server = Postgres::start().unwrap();
    let database = postgres::open(&server.url("postgres"), &OpenOptions::default()).await.unwrap();
    assert!(prepare_all(&database.writer, Dialect::Postgres).await > 60);
}
