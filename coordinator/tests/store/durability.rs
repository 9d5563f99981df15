//! What was acknowledged is on the disk, also where there is no more room on it; what cannot be opened is named in one line.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use sortie_coordinator::store::{OpenOptions, Store, StoreError};
use sortie_core::job::{Outcome, StateName};
use sortie_core::keys::AttemptToken;
use sortie_core::lease::{AttemptHeartbeat, Batch};
use sqlx::{Connection as _, Executor as _, PgConnection, SqlSafeStr as _, SqliteConnection};
use tempfile::TempDir;

use crate::fixture::*;

/// Set for the child processes of these tests: the database that they use.
const CHILD_URL: &str = "SORTIE_TEST_CHILD_URL";
/// Reports that the child makes which is counted.
const REPORTS: usize = 40;
/// What it prints before the first.
const MARK: &str = "reports begin";

async fn open(url: &str, options: OpenOptions) -> Result<Store, StoreError> {
    let clock = MockClock::new();
    Store::open(&url.parse().unwrap(), &OpenOptions { clock: Some(clock), ..options }, SETTINGS).await
}

fn url(folder: &TempDir, name: &str) -> String {
    format!("sqlite://{}", folder.path().join(name).display())
}

fn printed(sequence: u64, bytes: usize) -> Batch {
    let letter = b'a' + u8::try_from(sequence % 26).unwrap();
    Batch { sequence, log: vec![letter; bytes], ..Batch::default() }
}

fn child(name: &str, url: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "--nocapture", name]).env(CHILD_URL, url);
    command
}

/// Runs in a child of the next test only.
#[tokio::test]
async fn child_that_reports() {
    let Ok(url) = std::env::var(CHILD_URL) else { return };
    let store = open(&url, OpenOptions::default()).await.unwrap();
    store.register(&worker("w1")).await.unwrap();
    submit(&store, SWEEP, Default::default()).await.unwrap();
    let token = store.claim(claim("w1", 1), Duration::ZERO).await.unwrap().leases.remove(0).token;
    eprintln!("{MARK}");
    for sequence in 1..=REPORTS as u64 {
        store.report(secret(), token, printed(sequence, 10)).await.unwrap();
    }
}

#[test]
fn each_acknowledged_report_costs_a_flush() {
    let folder = tempfile::tempdir().unwrap();
    let (url, calls) = (url(&folder, "sortie.db"), folder.path().join("calls"));
    let child = child("durability::child_that_reports", &url);
    let mut strace = Command::new("strace");
    strace
        .args(["-f", "-e", "trace=fsync,fdatasync,write", "-o"])
        .arg(&calls)
        .arg(child.get_program())
        .args(child.get_args());
    let Ok(output) = strace.env(CHILD_URL, &url).output() else {
        println!("skipped: needs strace (apt-get install strace)");
        return;
    };
    let stderr = String::from_utf8_lossy(&output.stderr);
    if stderr.contains("ptrace") && stderr.contains("not permitted") {
        println!("skipped: needs the right to trace a child");
        return;
    }
    assert!(output.status.success(), "{stderr}{}", String::from_utf8_lossy(&output.stdout));
    let calls = std::fs::read_to_string(calls).unwrap();
    let calls = calls.lines().skip_while(|line| !line.contains(MARK));
    let flushes = calls.filter(|line| line.contains("fsync(") || line.contains("fdatasync(")).count();
    assert!(flushes >= REPORTS, "{flushes} flushes for {REPORTS} reports, one after the other");
}

#[tokio::test]
async fn on_a_full_disk_nothing_acknowledged_is_lost_and_with_room_it_goes_on() {
    let database = Database::sqlite();
    let f = Fixture::new(database).await;
    f.submit(SWEEP).await;
    let lease = f.claim_one().await;
    let Fixture { store, clock, database } = f;
    store.close().await;
    drop(store);
    drop(database.open_again(&clock).await);
    let Database::Sqlite(folder) = &database else { panic!("{database:?}") };
    let pages = std::fs::metadata(folder.path().join("sortie.db")).unwrap().len() / 4_096;
    let options =
        OpenOptions { pages_max: Some(u32::try_from(pages).unwrap() + 40), ..OpenOptions::default() };
    let store = loop {
        match open(&database.url(), options.clone()).await {
            Ok(store) => break store,
            Err(StoreError::Open { reason, .. }) if reason.contains("another coordinator") => {
                tokio::task::yield_now().await
            }
            Err(error) => panic!("{error}"),
        }
    };
    let mut acknowledged = 0;
    let error = loop {
        match store.report(secret(), lease.token, printed(acknowledged + 1, 20_000)).await {
            Ok(()) => acknowledged += 1,
            Err(error) => break error,
        }
        assert!(acknowledged < 40, "the disk is never full");
    };
    assert!(matches!(error, StoreError::Database(_)), "{error:?}");
    let line = error.to_string();
    assert!(line.contains("database or disk is full; make room") && !line.contains('\n'), "{line}");
    // Said again and again it stays refused, and what asks for little room or none goes on.
    for _ in 0..3 {
        store.report(secret(), lease.token, printed(acknowledged + 1, 20_000)).await.unwrap_err();
    }
    let (report, heartbeat) = tokio::join!(
        store.report(secret(), lease.token, printed(acknowledged + 1, 20_000)),
        store.heartbeat(secret(), "w1", vec![AttemptHeartbeat::at(lease.token, 3)]),
    );
    assert!(report.is_err());
    drop(heartbeat);
    assert_eq!(store.status(None).await.unwrap()[0].running, 1);
    let expected: Vec<u8> = (1..=acknowledged).flat_map(|sequence| printed(sequence, 20_000).log).collect();
    assert!(
        acknowledged > 1 && store.log_text(&lease.spec_hash.to_string(), None).await.unwrap() == expected
    );
    drop(store);

    let f = Fixture { store: database.open_again(&clock).await, clock, database };
    f.store.report(secret(), lease.token, printed(acknowledged + 1, 20_000)).await.unwrap();
    f.complete_with(lease.token, printed(acknowledged + 2, 1), Outcome::Succeeded).await.unwrap();
    assert_eq!(f.count(StateName::Succeeded).await, 1);
    let text = f.store.log_text(&lease.spec_hash.to_string(), None).await.unwrap();
    assert_eq!(text.len(), expected.len() + 20_001);
    assert!(text.starts_with(&expected));
}

#[tokio::test]
async fn what_cannot_be_opened_is_named_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(
        folder.path().join("text.db"),
        "this is no database, but it is long enough to be looked at as one".repeat(20),
    )
    .unwrap();
    let _open = open(&url(&folder, "mine.db"), OpenOptions::default()).await.unwrap();
    std::os::unix::fs::symlink(folder.path().join("mine.db"), folder.path().join("link.db")).unwrap();
    for (url, word) in [
        (url(&folder, "missing/sortie.db"), "folder must exist"),
        (url(&folder, ""), "it is a folder"),
        (url(&folder, "text.db"), "not a database"),
        (url(&folder, "mine.db"), "another coordinator has it open"),
        (url(&folder, "link.db"), "another coordinator has it open"),
        // Nobody listens to port 1.
        ("postgres://me:secret@127.0.0.1:1/x?connect_timeout=1".to_owned(), "start it, or correct the URL"),
    ] {
        let error = open(&url, OpenOptions::default()).await.unwrap_err().to_string();
        assert!(error.contains(word) && !error.contains('\n') && !error.contains("secret"), "{url}: {error}");
    }
    assert!(!folder.path().join("text.db.lock").exists(), "something is left beside what is no database");
}

/// Runs in a child of the next test only.
#[tokio::test]
async fn child_that_opens() {
    let Ok(url) = std::env::var(CHILD_URL) else { return };
    match open(&url, OpenOptions::default()).await {
        Ok(_) => println!("\nopened"),
        Err(error) => println!("\nrefused: {error}"),
    }
}

#[tokio::test]
async fn a_file_that_cannot_be_written_is_named_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let opened = open(&url(&folder, "sortie.db"), OpenOptions::default()).await.unwrap();
    opened.close().await;
    drop(opened);
    let set_mode =
        |path: &Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    let file = folder.path().join("sortie.db");
    let mut child = child("durability::child_that_opens", &url(&folder, "sortie.db"));
    if is_root() {
        // Nothing is read-only to root: another account must try.
        child.uid(65_534).gid(65_534);
    }
    for (file_mode, folder_mode, word) in
        [(0o444, 0o777, "cannot be written"), (0o666, 0o555, "folder must exist and be writable")]
    {
        set_mode(&file, file_mode);
        for beside in ["sortie.db.lock", "sortie.db-wal", "sortie.db-shm"] {
            drop(std::fs::remove_file(folder.path().join(beside)));
        }
        set_mode(folder.path(), folder_mode);
        let Ok(output) = child.output() else {
            println!("skipped: another account cannot run this test's program");
            set_mode(folder.path(), 0o777);
            return;
        };
        let output = String::from_utf8_lossy(&output.stdout).into_owned();
        set_mode(folder.path(), 0o777);
        let line =
            output.lines().find(|line| line.starts_with("refused: ")).unwrap_or_else(|| panic!("{output}"));
        assert!(line.contains(word), "{line}");
    }
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|process| std::os::unix::fs::MetadataExt::uid(&process) == 0)
}

/// A row that only a later build writes.
const LATER: &str = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) VALUES (9999, 'later', true, '', 0)";

#[tokio::test]
async fn a_newer_schema_is_left_alone() {
    let mut databases = vec![Database::sqlite()];
    databases.extend(Database::postgres());
    for database in databases {
        let clock = MockClock::new();
        let store = database.open(&clock).await.unwrap();
        store.close().await;
        drop(store);
        match &database {
            Database::Postgres(url) => {
                let mut connection = PgConnection::connect(url).await.unwrap();
                connection.execute(LATER.into_sql_str()).await.unwrap();
            }
            _ => {
                let mut connection = SqliteConnection::connect(&database.url()).await.unwrap();
                connection.execute(LATER.into_sql_str()).await.unwrap();
                connection.close().await.unwrap();
            }
        }
        let error = loop {
            match database.open(&clock).await.unwrap_err() {
                StoreError::Open { reason, .. } if reason.contains("another coordinator") => {
                    tokio::task::yield_now().await
                }
                error => break error.to_string(),
            }
        };
        assert!(
            error.contains(
                "written by a newer build (schema version 9999); use that build, or another database"
            ),
            "{error}"
        );
        assert!(!error.contains('\n'), "{error}");
    }
}

#[tokio::test]
async fn what_was_acknowledged_is_there_when_the_process_is_gone() {
    // No orderly end: the file is copied as a crash would leave it, log and all, while the coordinator runs.
    let f = Fixture::new(Database::sqlite()).await;
    f.submit(SWEEP).await;
    let tokens: Vec<AttemptToken> = f.claim(4).await.iter().map(|lease| lease.token).collect();
    for (row, token) in tokens.iter().enumerate() {
        f.complete_with(*token, batch(1, vec![evaluation("cartoon", row as u64, 3)]), Outcome::Succeeded)
            .await
            .unwrap();
        let Database::Sqlite(folder) = &f.database else { panic!("{:?}", f.database) };
        let copy = tempfile::tempdir().unwrap();
        for name in ["sortie.db", "sortie.db-wal"] {
            std::fs::copy(folder.path().join(name), copy.path().join(name)).unwrap();
        }
        let crashed = open(&url(&copy, "sortie.db"), OpenOptions::default()).await.unwrap();
        let records = crashed.records("first", 0).await.unwrap().rows;
        assert_eq!(records.iter().filter(|record| record.validation.len() == 1).count(), row + 1);
    }
}
