//! Backups of both databases, restored into both.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sortie_coordinator::store::{OpenOptions, Restored, Settings, Store, StoreError, restore};
use sortie_core::artifact::{Artifact, ArtifactKind};
use sortie_core::job::{ErrorClass, Outcome};
use sortie_core::keys::AttemptToken;
use sortie_core::lease::{AttemptHeartbeat, Batch};
use sortie_core::metrics::{Evaluation, Method, Score, SplitName, TrainingLoss};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection, SqlSafeStr as _, SqliteConnection};

use crate::fixture::*;

/// Both kinds, as far as they are installed.
fn databases() -> Vec<Database> {
    let mut databases = vec![Database::sqlite()];
    databases.extend(Database::postgres());
    databases
}

/// Writes a backup as `sortie backup` does.
async fn back_up(store: &Store, path: &Path) {
    let mut backup = store.backup().await.unwrap();
    let mut bytes = Vec::new();
    while let Some(chunk) = backup.next().await.unwrap() {
        bytes.extend(chunk);
    }
    std::fs::write(path, bytes).unwrap();
}

async fn restored(backup: &Path, database: &Database) -> Result<Restored, StoreError> {
    let clock = MockClock::new();
    clock.pass(Duration::from_secs(100));
    let options = OpenOptions { clock: Some(clock), ..OpenOptions::default() };
    restore(backup, &database.url().parse().unwrap(), &options).await
}

/// Every row of a SQLite file, as text that has each value to the last bit, by table.
async fn rows(path: &Path) -> BTreeMap<String, Vec<String>> {
    let mut file = SqliteConnection::connect_with(&SqliteConnectOptions::new().filename(path)).await.unwrap();
    let tables = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%'";
    let tables: Vec<String> = sqlx::query_scalar(tables).fetch_all(&mut file).await.unwrap();
    let mut rows = BTreeMap::new();
    for table in tables {
        let columns = format!("SELECT name FROM pragma_table_info('{table}') ORDER BY cid");
        let columns: Vec<String> =
            sqlx::query_scalar(AssertSqlSafe(columns)).fetch_all(&mut file).await.unwrap();
        let quoted: Vec<String> =
            columns.iter().map(|column| format!("'{column}=' || quote({column})")).collect();
        let text = format!("SELECT {} FROM {table} ORDER BY 1", quoted.join(" || ' ' || "));
        rows.insert(table, sqlx::query_scalar(AssertSqlSafe(text)).fetch_all(&mut file).await.unwrap());
    }
    let broken = "SELECT COUNT(*) FROM pragma_foreign_key_check";
    let broken: i64 = sqlx::query_scalar(broken).fetch_one(&mut file).await.unwrap();
    assert_eq!(broken, 0, "rows refer to others that are not there");
    file.close().await.unwrap();
    rows
}

/// A result whose numbers need all their bits.
fn odd_batch() -> Batch {
    let evaluation = |domain: &str, step, score| Evaluation {
        method: Method::Plain,
        step,
        domain: domain.into(),
        split: SplitName::Out,
        score: Some(score),
        loss: Some(0.1 + 0.2),
        metrics: [("f1".to_owned(), 0.1)].into(),
        seconds: None,
    };
    let evaluations = vec![
        evaluation("cartoon", 20, Score::Counts { n: 3, correct: 1 }),
        evaluation("photo", 20, Score::Value { value: f64::from_bits(0x3FE5_5555_5555_5555), n: 0 }),
        evaluation("sketch", 20, Score::Counts { n: 7, correct: 2 }),
    ];
    let losses = vec![
        TrainingLoss { step: 0, loss: 5e-324, seconds: None },
        TrainingLoss { step: 1, loss: -0.0, seconds: None },
        TrainingLoss { step: 2, loss: 1.797_693_134_862_315_7e308, seconds: None },
    ];
    let artifact = Artifact {
        kind: ArtifactKind::Checkpoint,
        method: Method::Plain,
        step: 3,
        key: "checkpoints/a/3".to_owned(),
        digest: format!("{:064x}", 3),
        bytes: 1 << 40,
    };
    let (log, notes) = (vec![0, 0xFF, b'\'', b'\n'], vec!["it's \"a\" note, é".to_owned()]);
    Batch { sequence: 1, evaluations, losses, log, artifacts: vec![artifact], notes, ..Batch::default() }
}

/// A database with something in every table, and two attempts that run.
async fn busy(database: Database) -> (Fixture, Vec<AttemptToken>) {
    let f = Fixture::new(database).await;
    f.submit(SWEEP).await;
    f.submit(&other_sweep("second", "1e-2")).await;
    let leases = f.claim(6).await;
    let tokens: Vec<AttemptToken> = leases.iter().map(|lease| lease.token).collect();
    f.complete_with(tokens[0], odd_batch(), Outcome::Succeeded).await.unwrap();
    f.fail(tokens[1], ErrorClass::Transient).await;
    f.fail(tokens[2], ErrorClass::Machine).await;
    f.store.report(secret(), tokens[3], batch(1, vec![evaluation("cartoon", 3, 7)])).await.unwrap();
    f.store.heartbeat(secret(), "w1", vec![AttemptHeartbeat::at(tokens[4], 9)]).await.unwrap();
    (f, tokens)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_row_comes_back_to_the_last_bit_in_either_kind_of_database() {
    for source in databases() {
        let (f, tokens) = busy(source).await;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("backup");
        back_up(&f.store, &path).await;
        // What comes later is not in it.
        f.succeed(tokens[4]).await;
        let before = rows(&path).await;
        assert!(before["incarnation"].is_empty());
        for table in
            ["sweeps", "trials", "workers", "machine_faults", "attempts", "held_out", "training_losses"]
        {
            assert!(!before[table].is_empty(), "{table}");
        }
        for target in databases() {
            let what = format!("{:?} into {target:?}", f.database);
            let done = restored(&path, &target).await.unwrap();
            assert_eq!(done, Restored { sweeps: 2, trials: 8, interrupted: 3 }, "{what}");
            let clock = MockClock::new();
            let store = target.open_again(&clock).await;
            assert_ne!(store.incarnation(), f.store.incarnation(), "{what}");
            let again = folder.path().join("again");
            back_up(&store, &again).await;
            let after = rows(&again).await;
            for (table, rows) in &before {
                match table.as_str() {
                    // A coordinator started on it; leases ended, which is noted.
                    "epochs" | "trials" | "attempts" | "trial_events" => {}
                    "_sqlx_migrations" => {}
                    _ => assert_eq!(rows, &after[table], "{what}: {table}"),
                }
            }
            let running = |row: &&String| row.contains("'running'");
            for table in ["trials", "attempts"] {
                let kept: Vec<&String> = before[table].iter().filter(|row| !running(row)).collect();
                assert!(kept.iter().all(|row| after[table].contains(row)), "{what}: {table}");
                assert_eq!(before[table].len(), after[table].len(), "{what}: {table}");
                assert_eq!(after[table].iter().filter(running).count(), 0, "{what}: {table}");
            }
            let history = store.history(&f.record(0).await.id.to_string()).await.unwrap();
            assert!(!history.events.is_empty());
            // New rows get ids after those that were copied.
            submit(&store, &other_sweep("third", "1e-4"), Default::default()).await.unwrap();
            let status = store.status(None).await.unwrap();
            assert_eq!(
                status.iter().map(|sweep| sweep.sweep.as_str()).collect::<Vec<_>>(),
                ["first", "second", "third"]
            );
            store.close().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attempts_that_ran_are_lost_and_no_token_is_issued_twice() {
    for source in databases() {
        let (f, tokens) = busy(source).await;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("backup");
        back_up(&f.store, &path).await;
        // The old coordinator goes on, and so does the next one on its database.
        let f = f.restart().await;
        // What failed there holds the first worker's machine back.
        f.store.register(&worker("w2")).await.unwrap();
        let later = f.claim_as("w2", 2).await.leases;
        let later: Vec<AttemptToken> = later.iter().map(|lease| lease.token).collect();
        let target = Database::sqlite();
        restored(&path, &target).await.unwrap();
        let clock = MockClock::new();
        clock.pass(Duration::from_secs(200));
        let store = target.open(&clock).await.unwrap();
        let status = store.status(Some("first")).await.unwrap().remove(0);
        assert_eq!((status.running, status.queued, status.succeeded), (0, 3, 1));
        store.register(&worker("w2")).await.unwrap();
        let claimed = store.claim(claim("w2", 8), Duration::ZERO).await.unwrap().leases;
        assert!(claimed.len() >= 5, "{claimed:?}");
        let far = AttemptToken(later[1].0 + (1 << 48));
        assert!(claimed.iter().all(|lease| lease.token > far), "{claimed:?} {later:?}");
        for token in &tokens[3..] {
            assert!(is_stale(&store.report(secret(), *token, batch(2, Vec::new())).await), "{token}");
        }
        for token in later {
            let refused = store.report(secret(), token, batch(1, Vec::new())).await;
            assert!(matches!(refused, Err(StoreError::UnknownToken(_))), "{refused:?}");
        }
        let mut notes = Vec::new();
        for lease in &claimed {
            let history = store.history(&format!("{}/{}", lease.sweep, lease.spec_hash)).await.unwrap();
            notes.extend(history.events.into_iter().filter(|event| event.what == "restored"));
        }
        assert_eq!(notes.len(), 3, "{notes:?}");
        assert!(notes.iter().all(|note| note.detail.contains("was restored from a backup")), "{notes:?}");
        assert!(
            notes.iter().all(|note| note.token.is_some_and(|token| tokens.contains(&token))),
            "{notes:?}"
        );
        store.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_under_load_is_one_moment_of_the_database() {
    for database in databases() {
        let f = Arc::new(Fixture::new(database).await);
        f.submit(&large_sweep(150)).await;
        let folder = tempfile::tempdir().unwrap();
        let tasks: Vec<_> = (0..4)
            .map(|_| {
                let f = Arc::clone(&f);
                tokio::spawn(async move {
                    loop {
                        let leases = f.claim(2).await;
                        if leases.is_empty() {
                            return;
                        }
                        for lease in leases {
                            f.store.complete(secret(), completion(lease.token)).await.unwrap();
                        }
                    }
                })
            })
            .collect();
        let mut counts = Vec::new();
        while !tasks.iter().all(tokio::task::JoinHandle::is_finished) {
            let path: PathBuf = folder.path().join(format!("backup{}", counts.len()));
            back_up(&f.store, &path).await;
            let rows = rows(&path).await;
            let succeeded = rows["attempts"].iter().filter(|row| row.contains("'succeeded'")).count();
            let finished = rows["trials"].iter().filter(|row| row.contains("'succeeded'")).count();
            // An attempt, its trial and its numbers come in one transaction.
            assert_eq!((succeeded, finished), (rows["held_out"].len() + rows["validation"].len(), succeeded));
            counts.push(succeeded);
        }
        for task in tasks {
            task.await.unwrap();
        }
        let in_between = counts.iter().filter(|count| **count > 0 && **count < 600).count();
        assert!(in_between > 0, "no backup was made under load: {counts:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_restored_is_named_in_one_line_and_changes_nothing() {
    let (f, _) = busy(Database::sqlite()).await;
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let backup = path("backup");
    back_up(&f.store, &backup).await;
    let bytes = std::fs::read(&backup).unwrap();
    std::fs::write(path("half"), &bytes[..bytes.len() / 2]).unwrap();
    let mut flipped = bytes.clone();
    let middle = flipped.len() / 2 / 4_096 * 4_096;
    flipped[middle..middle + 4_096].fill(0xA5);
    std::fs::write(path("flipped"), flipped).unwrap();
    std::fs::write(path("text"), "no backup at all, but long enough to be one".repeat(9)).unwrap();
    std::fs::write(path("empty"), "").unwrap();
    let mut other = SqliteConnection::connect_with(
        &SqliteConnectOptions::new().filename(path("other")).create_if_missing(true),
    )
    .await
    .unwrap();
    other.execute("CREATE TABLE t (x)".into_sql_str()).await.unwrap();
    other.close().await.unwrap();
    std::fs::write(path("older"), &bytes).unwrap();
    let mut older =
        SqliteConnection::connect_with(&SqliteConnectOptions::new().filename(path("older"))).await.unwrap();
    older
        .execute("UPDATE _sqlx_migrations SET checksum = x'00' WHERE version = 1".into_sql_str())
        .await
        .unwrap();
    older.close().await.unwrap();
    for (name, word) in [
        ("missing", "cannot be read"),
        ("half", "damaged"),
        ("flipped", "damaged"),
        ("text", "no backup of Sortie"),
        ("empty", "no backup of Sortie"),
        ("other", "no backup of Sortie"),
        ("older", "another build"),
    ] {
        let target = Database::sqlite();
        let error = restored(&path(name), &target).await.unwrap_err().to_string();
        assert!(error.contains(word) && error.contains(path(name).to_str().unwrap()), "{name}: {error}");
        assert!(!error.contains('\n') && !error.contains("secret"), "{error}");
        let Database::Sqlite(target) = target else { panic!() };
        assert_eq!(std::fs::read_dir(target.path()).unwrap().count(), 0, "{name}: something is left");
    }
    for target in databases() {
        let clock = MockClock::new();
        let store = target.open(&clock).await.unwrap();
        let error = restored(&backup, &target).await.unwrap_err().to_string();
        assert!(error.contains("has it open; stop that one"), "{error}");
        submit(&store, &other_sweep("mine", "1e-1"), Default::default()).await.unwrap();
        let incarnation = store.incarnation();
        store.close().await;
        drop(store);
        let refusal = loop {
            let error = restored(&backup, &target).await.unwrap_err().to_string();
            if !error.contains("stop that one") {
                break error;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        assert!(refusal.contains("it has sweeps, such as \"mine\"") && !refusal.contains('\n'), "{refusal}");
        let store = target.open_again(&clock).await;
        assert_eq!((store.incarnation(), store.status(None).await.unwrap().len()), (incarnation, 1));
        store.close().await;
    }
    // A backup is no database that can be served.
    let url = format!("sqlite://{}", backup.display());
    let error =
        Store::open(&url.parse().unwrap(), &OpenOptions::default(), SETTINGS).await.unwrap_err().to_string();
    assert!(error.contains("it is a backup: `sortie restore` makes a database of it"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_coordinator_whose_server_was_restored_under_it_stores_nothing_more() {
    let Some(database) = Database::postgres() else { return };
    let url = database.url();
    // With the clock of the server, as in earnest.
    let open =
        async || Store::open(&url.parse().unwrap(), &OpenOptions::default(), Settings::new(LEASE)).await;
    let stores = [open().await.unwrap(), open().await.unwrap()];
    assert_eq!(stores[0].incarnation(), stores[1].incarnation());
    stores[0].register(&worker("w1")).await.unwrap();
    let mut connection = PgConnection::connect(&url).await.unwrap();
    // As a restore does that begins before a coordinator starts.
    let mut restoring = connection.begin().await.unwrap();
    restoring.execute("LOCK TABLE incarnation IN ACCESS EXCLUSIVE MODE".into_sql_str()).await.unwrap();
    let late = worker("w2");
    let mut registering = Box::pin(stores[0].register(&late));
    let waits = tokio::time::timeout(Duration::from_millis(300), &mut registering).await;
    assert!(waits.is_err(), "{waits:?}");
    restoring.execute("UPDATE incarnation SET number = 77".into_sql_str()).await.unwrap();
    restoring.commit().await.unwrap();
    let refused = within(registering).await;
    assert!(matches!(refused, Err(StoreError::Lost(_))), "{refused:?}");
    for store in &stores {
        assert!(matches!(store.register(&worker("w3")).await, Err(StoreError::Lost(_))));
        let reason = within(store.lost()).await;
        assert!(reason.contains("was restored from a backup while this coordinator had it open"), "{reason}");
    }
    let workers: i64 =
        sqlx::query_scalar("SELECT COUNT(*) FROM workers").fetch_one(&mut connection).await.unwrap();
    assert_eq!(workers, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_has_one_connection_is_backed_up_and_watched_too() {
    let database = Database::sqlite();
    let options = OpenOptions { network_disk: true, ..OpenOptions::default() };
    let store = Store::open(&database.url().parse().unwrap(), &options, SETTINGS).await.unwrap();
    store.register(&worker("w1")).await.unwrap();
    submit(&store, SWEEP, Default::default()).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("backup");
    back_up(&store, &path).await;
    store.register(&worker("w2")).await.unwrap();
    let target = Database::sqlite();
    let done = restore(&path, &target.url().parse().unwrap(), &options).await.unwrap();
    assert_eq!(done, Restored { sweeps: 1, trials: 4, interrupted: 0 });
    let Database::Sqlite(folder) = &database else { panic!() };
    std::fs::remove_file(folder.path().join("sortie.db")).unwrap();
    assert!(matches!(store.register(&worker("w3")).await, Err(StoreError::Lost(_))));
}
