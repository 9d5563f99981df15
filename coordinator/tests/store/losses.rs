//! A SQLite file that is deleted, replaced, truncated or overwritten while trials are reported: nothing is acknowledged any more.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use sortie_coordinator::store::StoreError;
use tokio::task::JoinHandle;

use crate::fixture::*;

/// Acknowledgements of requests that set out before the file was lost and after it.
#[derive(Debug, Default)]
struct Acknowledged {
    lost: AtomicBool,
    before: AtomicU64,
    after: AtomicU64,
}

/// Workers that take trials, complete them, and never give up.
fn load(f: &Arc<Fixture>, seen: &Arc<Acknowledged>) -> Vec<JoinHandle<()>> {
    let work = |index: usize| {
        let (f, seen) = (Arc::clone(f), Arc::clone(seen));
        tokio::spawn(async move {
            let note =
                |late: bool| if late { &seen.after } else { &seen.before }.fetch_add(1, Ordering::SeqCst);
            let mut late = 0;
            while late < 50 {
                let is_late = seen.lost.load(Ordering::SeqCst);
                late += u32::from(is_late);
                let claimed =
                    f.store.claim(claim("w1", 1 + u32::try_from(index % 2).unwrap()), Duration::ZERO).await;
                let Ok(claimed) = claimed else { continue };
                if claimed.leases.is_empty() {
                    break;
                }
                note(is_late);
                for lease in claimed.leases {
                    let is_late = seen.lost.load(Ordering::SeqCst);
                    if f.store.complete(secret(), completion(lease.token)).await.is_ok() {
                        note(is_late);
                    }
                }
            }
        })
    };
    (0..4).map(work).collect()
}

type Deed = fn(&Path, &Path);

const DEEDS: [(&str, Deed, &str); 10] = [
    ("deleted", |file, _| fs::remove_file(file).unwrap(), "was deleted or moved away"),
    ("moved", |file, _| fs::rename(file, file.with_extension("old")).unwrap(), "was deleted or moved away"),
    ("its folder is moved", |file, _| move_folder(file), "was deleted or moved away"),
    ("replaced", |file, other| fs::rename(other, file).unwrap(), "was replaced by another file"),
    ("overwritten by another database", |file, other| assert!(fs::copy(other, file).unwrap() > 0), "was "),
    ("emptied", |file, _| truncate(file, 0), "was truncated"),
    ("truncated", |file, _| truncate(file, 8_192), "was truncated"),
    ("overwritten with zeros", |file, _| overwrite(file), "was overwritten"),
    (
        "without its log",
        |file, _| fs::remove_file(beside(file, "-wal")).unwrap(),
        "lost its file sortie.db-wal, which was deleted",
    ),
    (
        "with another log",
        |file, _| replace(&beside(file, "-wal")),
        "lost its file sortie.db-wal, which was replaced",
    ),
];

fn beside(file: &Path, ending: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

fn move_folder(file: &Path) {
    let folder = file.parent().unwrap();
    fs::rename(folder, folder.with_extension("moved")).unwrap();
}

fn truncate(file: &Path, bytes: u64) {
    fs::File::options().write(true).open(file).unwrap().set_len(bytes).unwrap();
}

fn overwrite(file: &Path) {
    use std::os::unix::fs::FileExt as _;
    fs::File::options().write(true).open(file).unwrap().write_all_at(&[0; 4_096], 0).unwrap();
}

fn replace(file: &Path) {
    fs::write(file.with_extension("new"), "").unwrap();
    fs::rename(file.with_extension("new"), file).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_acknowledged_once_the_file_is_lost() {
    // A database of another sweep, larger than the one that it takes the place of.
    let other = Fixture::new(Database::sqlite()).await;
    other.submit(&large_sweep(1_000)).await;
    let Database::Sqlite(other_folder) = &other.database else { panic!() };
    let other_file = other_folder.path().join("sortie.db");
    other.store.close().await;
    for (what, deed, fate) in DEEDS {
        let f = Arc::new(Fixture::new(Database::sqlite()).await);
        f.submit(&large_sweep(600)).await;
        let Database::Sqlite(folder) = &f.database else { panic!() };
        let file = folder.path().join("sortie.db");
        let replacement = folder.path().join("other");
        fs::copy(&other_file, &replacement).unwrap();
        let seen = Arc::new(Acknowledged::default());
        let tasks = load(&f, &seen);
        while seen.before.load(Ordering::SeqCst) < 100 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        deed(&file, &replacement);
        seen.lost.store(true, Ordering::SeqCst);
        for task in tasks {
            within(task).await.unwrap();
        }
        assert_eq!(seen.after.load(Ordering::SeqCst), 0, "{what}: {seen:?}");
        let reason = within(f.store.lost()).await;
        assert!(
            reason.contains(&format!("{} {fate}", file.display())) && !reason.contains('\n'),
            "{what}: {reason}"
        );
        let refused = [f.store.register(&worker("w2")).await.err(), f.store.status(None).await.err()];
        assert!(
            refused.iter().all(|error| matches!(error, Some(StoreError::Lost(_)))),
            "{what}: {refused:?}"
        );
        let moved = folder.path().with_extension("moved");
        if moved.exists() {
            fs::remove_dir_all(moved).unwrap();
        }
    }
}

#[tokio::test]
async fn a_file_that_grows_shrinks_its_log_and_is_read_by_others_is_not_lost() {
    let f = Fixture::new(Database::sqlite()).await;
    let Database::Sqlite(folder) = &f.database else { panic!() };
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(folder.path().join("sortie.db"));
    use sqlx::{Connection as _, Executor as _, SqlSafeStr as _};
    for round in 0..4 {
        f.submit(&other_sweep(&format!("s{round}"), &format!("1e-{}", round + 2))).await;
        for lease in f.claim(4).await {
            let log = vec![b'x'; 500_000];
            let batch = sortie_core::lease::Batch { sequence: 1, log, ..Default::default() };
            f.complete_with(lease.token, batch, sortie_core::job::Outcome::Succeeded).await.unwrap();
        }
        let mut other = sqlx::SqliteConnection::connect_with(&options).await.unwrap();
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)".into_sql_str()).await.unwrap();
        other.execute("UPDATE workers SET host = host || 'x'".into_sql_str()).await.unwrap();
        other.close().await.unwrap();
    }
    assert_eq!(f.status("s3").await.succeeded, 4);
}
