//! Checks that need a real database: that every statement fits its tables, so that no typing error, missing column or wrong type
//! waits for its first use; and that the writer's connection keeps what it promised.

use sortie_testkit::postgres::Postgres;
use sqlx::{Executor, Row, SqlSafeStr};

use super::database::SqlBackend;
use super::engine::Pool;
use super::inserts::{ARTIFACT_COLUMNS, EVALUATION_COLUMNS, LOSS_COLUMNS, VALUES_ROWS_MAX, insert_values};
use super::statements::{Dialect, statements};
use super::{postgres, sqlite};
use crate::store::OpenOptions;
use crate::store::backend::Backend;
use crate::store::database_url::{DatabaseUrl, Place};

/// Statements that only Postgres is ever asked.
const POSTGRES_ONLY: [&str; 5] = ["lock_tokens", "lock_trials", "not_durable", "now", "notify"];
/// Statements that only SQLite is ever asked.
const SQLITE_ONLY: [&str; 3] = ["full", "normal", "note_time"];

async fn prepare_all(pool: &Pool, dialect: Dialect) -> usize {
    let mut texts = statements(dialect).all();
    let foreign: &[&str] = if dialect == Dialect::Postgres { &SQLITE_ONLY } else { &POSTGRES_ONLY };
    texts.retain(|(name, _)| !foreign.contains(name));
    let evaluations = [("validation", EVALUATION_COLUMNS), ("held_out", EVALUATION_COLUMNS)];
    for (table, columns) in
        evaluations.into_iter().chain([("training_losses", LOSS_COLUMNS), ("artifacts", ARTIFACT_COLUMNS)])
    {
        let counts = (0..=VALUES_ROWS_MAX.ilog2()).map(|power| 1_usize << power);
        texts.extend(counts.map(|rows| (table, insert_values(table, columns, rows))));
    }
    for (name, text) in &texts {
        assert!(
            !["$rows", "$lock", "$pack", "$random", "$ids"].iter().any(|idiom| text.contains(idiom)),
            "{name}: {text}"
        );
        let prepared = match pool {
            Pool::Sqlite(pool) => pool.prepare(text.into_sql_str()).await.map(drop),
            Pool::Postgres(pool) => pool.prepare(text.into_sql_str()).await.map(drop),
        };
        prepared.unwrap_or_else(|error| panic!("{name}: {error}: {text}"));
    }
    texts.len()
}

/// What the writer's own connection answers to each question.
async fn answers(pool: &Pool, questions: &[&'static str]) -> Vec<String> {
    let mut answers = Vec::new();
    for question in questions {
        answers.push(match pool {
            Pool::Sqlite(pool) => {
                let row = pool.fetch_one(question.into_sql_str()).await.unwrap();
                row.try_get::<String, _>(0).unwrap_or_else(|_| row.get::<i64, _>(0).to_string())
            }
            Pool::Postgres(pool) => {
                pool.fetch_one(question.into_sql_str()).await.unwrap().get::<String, _>(0)
            }
        });
    }
    answers
}

#[tokio::test]
async fn sqlite_takes_every_statement_and_is_durable() {
    let folder = tempfile::tempdir().unwrap();
    let database = sqlite::open(&folder.path().join("sortie.db"), &OpenOptions::default()).await.unwrap();
    let questions = ["PRAGMA journal_mode", "PRAGMA synchronous", "PRAGMA foreign_keys"];
    // 2 is FULL.
    assert_eq!(answers(&database.writer, &questions).await, ["wal", "2", "1"]);
    assert!(prepare_all(&database.writer, Dialect::Sqlite).await > 60);
}

#[tokio::test]
async fn a_transaction_that_sqlite_undid_by_itself_is_followed_by_others() {
    let folder = tempfile::tempdir().unwrap();
    let database = sqlite::open(&folder.path().join("sortie.db"), &OpenOptions::default()).await.unwrap();
    let Pool::Sqlite(pool) = &database.writer else { panic!("{database:?}") };
    let mut tx = pool.begin_with("BEGIN IMMEDIATE").await.unwrap();
    // As after a failed commit: the driver believes in a transaction that is no more.
    tx.execute("ROLLBACK".into_sql_str()).await.unwrap();
    drop(tx);
    for durable in [true, false, true] {
        database.begin(durable).await.unwrap().commit(false).await.unwrap();
    }
    assert_eq!(answers(&database.writer, &["PRAGMA synchronous"]).await, ["2"]);
}

/// A transaction of leases alone is not flushed. The next durable one is, however often the two alternate.
#[tokio::test]
async fn sqlite_is_durable_whenever_a_transaction_asks_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let database = sqlite::open(&folder.path().join("sortie.db"), &OpenOptions::default()).await.unwrap();
    for (durable, level) in
        [(true, "2"), (false, "1"), (false, "1"), (true, "2"), (false, "1"), (true, "2"), (true, "2")]
    {
        drop(database.begin(durable).await.unwrap());
        assert_eq!(answers(&database.writer, &["PRAGMA synchronous"]).await, [level]);
    }
}

async fn open_server(url: &DatabaseUrl) -> SqlBackend {
    let Place::Server(url) = url.place() else { panic!("{url}") };
    postgres::open(url, &OpenOptions::default()).await.unwrap()
}

#[tokio::test]
async fn postgres_takes_every_statement_and_is_durable() {
    if !Postgres::is_installed() {
        println!("skipped: needs a PostgreSQL server (apt-get install postgresql)");
        return;
    }
    let server = Postgres::start().unwrap();
    let url = server.url("postgres").parse().unwrap();
    let database = open_server(&url).await;
    // Whatever the server's default is.
    let Pool::Postgres(pool) = &database.writer else { panic!("{database:?}") };
    pool.execute("ALTER DATABASE postgres SET synchronous_commit = off".into_sql_str()).await.unwrap();
    let again = open_server(&url).await;
    assert_eq!(answers(&again.writer, &["SHOW synchronous_commit", "SHOW fsync"]).await, ["on", "on"]);
    assert!(prepare_all(&again.writer, Dialect::Postgres).await > 60);
}
