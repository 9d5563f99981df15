//! What users do with whole sweeps: another name, out of sight, deleted.

use std::time::Duration;

use sortie_coordinator::store::{
    Claim, Store, StoreError, SubmitOptions, SweepAction, SweepContents, TrialAction,
};
use sortie_core::artifact::{Artifact, ArtifactKind};
use sortie_core::job::{ErrorClass, Outcome, StateName};
use sortie_core::lease::{AttemptHeartbeat, Batch, Lease};
use sortie_core::metrics::Method;
use sortie_core::status::SweepState;

use crate::fixture::*;

/// Everything that a table may hold of a sweep.
const TABLES: [&str; 10] = [
    "sweeps",
    "trials",
    "members",
    "attempts",
    "validation",
    "held_out",
    "training_losses",
    "artifacts",
    "logs",
    "trial_events",
];

/// Four trials, and for each domain the ensemble of its two dropout rates.
fn combined(name: &str) -> String {
    let combine = "[[combine]]\nname = \"pair\"\nkind = \"ensemble\"\nover = \"dropout\"\n";
    format!("{}{combine}", SWEEP.replace("\"first\"", &format!("{name:?}")))
}

/// Ends a trial that reported something for every table.
async fn succeed(f: &Fixture, lease: &Lease) {
    let file = |kind: ArtifactKind| Artifact {
        kind,
        method: Method::Plain,
        step: 20,
        key: format!("{kind}/{}/x", lease.spec_hash),
        digest: format!("{:064}", 1),
        bytes: 5,
    };
    let artifacts = vec![file(ArtifactKind::Checkpoint), file(ArtifactKind::FinalLogits)];
    let evaluations = vec![evaluation("sketch", 20, 3), evaluation("photo", 20, 4)];
    let (log, notes) = (b"printed".to_vec(), vec!["noted".to_owned()]);
    let batch = Batch { artifacts, log, notes, ..batch(1, evaluations) };
    f.complete_with(lease.token, batch, Outcome::Succeeded).await.unwrap();
}

/// Runs everything, combinations too.
async fn run_all(f: &Fixture) {
    loop {
        let claim = Claim { return_when_idle: true, ..claim("w1", 8) };
        let claimed = within(f.store.claim(claim, PATIENCE * 10)).await.unwrap();
        if claimed.leases.is_empty() {
            assert!(claimed.idle);
            return;
        }
        for lease in &claimed.leases {
            succeed(f, lease).await;
        }
    }
}

fn names(statuses: &[sortie_coordinator::store::SweepStatus]) -> Vec<&str> {
    statuses.iter().map(|status| status.sweep.as_str()).collect()
}

/// The rows of each table in a real database; none of the model, which has no tables to look into.
async fn rows(database: &Database) -> Option<Vec<(&'static str, i64)>> {
    use sqlx::Connection as _;
    let mut counts = Vec::new();
    let query = |table: &str| sqlx::AssertSqlSafe(format!("SELECT COUNT(*) FROM {table}"));
    match database {
        Database::Model(_) => return None,
        Database::Sqlite(_) => {
            let mut connection = sqlx::SqliteConnection::connect(&database.url()).await.unwrap();
            for table in TABLES {
                counts.push((
                    table,
                    sqlx::query_scalar(query(table)).fetch_one(&mut connection).await.unwrap(),
                ));
            }
        }
        Database::Postgres(url) => {
            let mut connection = sqlx::PgConnection::connect(url).await.unwrap();
            for table in TABLES {
                counts.push((
                    table,
                    sqlx::query_scalar(query(table)).fetch_one(&mut connection).await.unwrap(),
                ));
            }
        }
    }
    Some(counts)
}

/// Waits until the rows of what was deleted are removed.
async fn removed(database: &Database, expected: &Option<Vec<(&'static str, i64)>>) {
    if expected.is_none() {
        return;
    }
    let removal = async {
        while rows(database).await != *expected {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), removal).await.unwrap_or_else(|_| panic!("rows are left"));
}

pub async fn a_deleted_sweep_is_gone_with_all_that_was_stored_of_it(f: Fixture) {
    f.submit(&other_sweep("other", "1e-2")).await;
    run_all(&f).await;
    let before = rows(&f.database).await;
    f.submit(&combined("first")).await;
    run_all(&f).await;
    let trial = f.record(0).await.id.to_string();
    // The checkpoints of trials that have a result are no longer there.
    let contents = SweepContents { trials: 6, succeeded: 6, files: 6, bytes: 30 };
    assert_eq!(f.store.delete("first", true).await.unwrap(), contents);
    assert_eq!(f.status("first").await.succeeded, 6, "asking changes nothing");
    assert_eq!(f.store.delete("first", false).await.unwrap(), contents);
    let gone = "there is no sweep \"first\"; there are: other";
    assert_eq!(f.store.status(Some("first")).await.unwrap_err().to_string(), gone);
    assert_eq!(f.store.records("first", 0).await.unwrap_err().to_string(), gone);
    assert_eq!(f.store.delete("first", false).await.unwrap_err().to_string(), gone);
    assert_eq!(f.store.history(&trial).await.unwrap_err().to_string(), format!("{trial:?} names no trial"));
    removed(&f.database, &before).await;
    // Its name is free, and nobody takes over what it had.
    let again = f.submit(&combined("first")).await;
    assert_eq!((again.planned, again.added, again.reused), (6, 6, 0));
    assert_eq!((f.count(StateName::Queued).await, f.status("other").await.succeeded), (4, 4));
    run_all(&f).await;
    assert_eq!(f.count(StateName::Succeeded).await, 6);
}

pub async fn a_large_sweep_is_removed_also_after_a_restart_and_nobody_reuses_it_meanwhile(f: Fixture) {
    let before = rows(&f.database).await;
    f.submit(&large_sweep(100)).await;
    let lease = f.claim_one().await;
    succeed(&f, &lease).await;
    f.store.delete("first", false).await.unwrap();
    // Long before its rows are removed.
    let again = f.submit(&SWEEP.replace("\"first\"", "\"second\"")).await;
    assert_eq!(again.reused, 0);
    assert_eq!(
        f.claim_one().await.spec_hash,
        lease.spec_hash,
        "its result is not taken over at a lease either"
    );
    let f = f.restart().await;
    let left = before.map(|before| {
        let rows = |(table, count): (&'static str, i64)| match table {
            "sweeps" | "attempts" => (table, count + 1),
            "trials" => (table, count + 4),
            _ => (table, count),
        };
        before.into_iter().map(rows).collect()
    });
    removed(&f.database, &left).await;
    assert_eq!(names(&f.store.status_of_all().await.unwrap()), ["second"]);
}

pub async fn what_is_needed_is_not_deleted_and_the_refusal_names_who_needs_it(f: Fixture) {
    f.submit(SWEEP).await;
    let running = f.claim_one().await;
    let refused = async || f.store.delete("first", false).await.unwrap_err();
    let error = refused().await;
    assert!(matches!(error, StoreError::TrialsRun { running: 1, .. }), "{error:?}");
    let text = "sweep \"first\" cannot be deleted while 1 of its trials run: `sortie cancel first` ends them";
    assert_eq!(error.to_string(), text);
    succeed(&f, &running).await;
    f.submit(&SWEEP.replace("\"first\"", "\"second\"")).await;
    let error = refused().await;
    assert!(matches!(error, StoreError::Reused { .. }), "{error:?}");
    let part = "cannot be deleted: sweep \"second\" reuses the result of 1 trial; delete those first";
    assert!(error.to_string().contains(part), "{error}");
    f.store.delete("second", false).await.unwrap();
    // As a member of somebody's combination.
    run_all(&f).await;
    assert_eq!(f.submit(&combined("third")).await.reused, 4);
    let asked = f.store.delete("first", true).await.unwrap_err().to_string();
    let part =
        "sweep \"third\" reuses the results of 4 trials, 4 of them in combinations; delete those first";
    assert!(asked.contains(part) && asked.contains("`sortie archive first`"), "{asked}");
    // What was taken over from it by way of another sweep is its own result all the same.
    assert_eq!(f.submit(&SWEEP.replace("\"first\"", "\"fourth\"")).await.reused, 4);
    f.store.delete("third", false).await.unwrap();
    let error = refused().await.to_string();
    assert!(
        error.contains("cannot be deleted: sweep \"fourth\" reuses the results of 4 trials; delete"),
        "{error}"
    );
    f.store.delete("fourth", false).await.unwrap();
    assert_eq!(f.store.delete("first", false).await.unwrap().trials, 4);
    assert!(f.store.status_of_all().await.unwrap().is_empty());
}

pub async fn a_worker_that_still_runs_a_trial_of_a_deleted_sweep_is_refused(f: Fixture) {
    // More trials than are removed at once, so that those of the attempts are still there.
    f.submit(&large_sweep(300)).await;
    let (cancelled, lost) = (f.claim_one().await, f.claim_one().await);
    assert_eq!(f.cancel("dropout=0.0 and held_out=photo and seed=0").await, 1);
    // A lease that expired might come back to life.
    f.pass(11);
    f.store.reap().await.unwrap();
    f.store.delete("first", false).await.unwrap();
    for Lease { token, .. } in [cancelled, lost] {
        assert_eq!(
            f.store.heartbeat(secret(), "w1", vec![AttemptHeartbeat::at(token, 1)]).await.unwrap(),
            [token]
        );
        for error in [
            f.store.report(secret(), token, batch(1, Vec::new())).await.unwrap_err(),
            f.complete(token, Outcome::Succeeded).await.unwrap_err(),
            f.complete(token, failed(ErrorClass::Transient)).await.unwrap_err(),
        ] {
            assert!(matches!(error, StoreError::UnknownToken(_) | StoreError::Refused(_)), "{error:?}");
        }
    }
    assert!(f.claim_as("w1", 1).await.idle);
}

pub async fn a_sweep_that_is_still_being_stored_can_be_deleted_and_renamed(f: Fixture) {
    let mut progress = f.store.submit(&spec(&large_sweep(1_550)), SubmitOptions::default()).await.unwrap();
    f.act("first", SweepAction::Rename("another".to_owned())).await;
    while !progress.borrow_and_update().is_done() {
        within(progress.changed()).await.expect("the writer goes on until the last trial");
    }
    assert_eq!((progress.borrow().sweep.as_str(), f.status("another").await.queued), ("another", 6_200));
    let mut progress = f.store.submit(&spec(&large_sweep(1_550)), SubmitOptions::default()).await.unwrap();
    f.store.delete("first", false).await.unwrap();
    while within(progress.changed()).await.is_ok() {}
    assert!(!progress.borrow().is_done() && progress.borrow().cancelled);
    assert_eq!(names(&f.store.status_of_all().await.unwrap()), ["another"]);
}

async fn refusal(store: &Store, sweep: &str, action: SweepAction) -> String {
    store.act(sweep, action).await.unwrap_err().to_string()
}

pub async fn a_renamed_sweep_keeps_everything_but_its_name(f: Fixture) {
    f.submit(SWEEP).await;
    let first = f.claim_one().await;
    f.submit(&other_sweep("other", "1e-2")).await;
    let rename = |name: &str| SweepAction::Rename(name.to_owned());
    let taken = refusal(&f.store, "first", rename("other")).await;
    assert_eq!(taken, "there is a sweep \"other\" already; choose another name");
    let wrong = refusal(&f.store, "first", rename("../x")).await;
    assert!(wrong.starts_with("name = \"../x\" is not allowed: 1 to 100 letters"), "{wrong}");
    f.act("first", rename("first")).await;
    f.act("first", rename("renamed")).await;
    let gone = f.store.status(Some("first")).await.unwrap_err().to_string();
    assert_eq!(gone, "there is no sweep \"first\"; there are: other, renamed");
    succeed(&f, &first).await;
    assert_eq!(f.status("renamed").await.succeeded, 1);
    assert_eq!(f.store.spec("renamed").await.unwrap().name, "renamed");
    // Under its new name it is resumed, and workers get that name; the old one is a new sweep, which reuses.
    assert_eq!(f.submit(&SWEEP.replace("\"first\"", "\"renamed\"")).await.added, 0);
    let claim = Claim { sweep: Some("renamed".to_owned()), ..claim("w1", 1) };
    let claimed = f.store.claim(claim, Duration::ZERO).await.unwrap();
    assert_eq!(claimed.leases[0].sweep, "renamed");
    let again = f.submit(SWEEP).await;
    assert_eq!((again.added, again.reused), (4, 1));
    let f = f.restart().await;
    assert_eq!(names(&f.store.status(None).await.unwrap()), ["renamed", "other", "first"]);
}

pub async fn an_archived_sweep_is_out_of_sight_and_keeps_its_results(f: Fixture) {
    f.submit(SWEEP).await;
    let (done, running) = (f.claim_one().await, f.claim_one().await);
    succeed(&f, &done).await;
    f.act("first", SweepAction::Archive).await;
    f.act("first", SweepAction::Archive).await;
    assert!(f.store.status(None).await.unwrap().is_empty());
    assert_eq!(names(&f.store.status_of_all().await.unwrap()), ["first"]);
    assert_eq!(f.status("first").await.state, SweepState::Archived);
    // No trial starts; one that runs goes on, and results stay.
    let claimed = f.claim_as("w1", 4).await;
    assert!(claimed.leases.is_empty() && claimed.idle, "{claimed:?}");
    succeed(&f, &running).await;
    assert_eq!((f.count(StateName::Succeeded).await, f.count(StateName::Queued).await), (2, 2));
    assert_eq!(f.store.records("first", 0).await.unwrap().rows.len(), 4);
    let archived = "sweep \"first\" is archived; `sortie archive --undo first` takes it back";
    let submitted = f.store.submit(&spec(SWEEP), SubmitOptions::default()).await.unwrap_err();
    assert_eq!(submitted.to_string(), archived);
    for action in [SweepAction::Pause, SweepAction::Resume, SweepAction::Priority(3)] {
        assert_eq!(refusal(&f.store, "first", action).await, archived);
    }
    let retried = f.store.act_on_trials("first", TrialAction::Retry, &filter(""), None).await.unwrap_err();
    assert_eq!(retried.to_string(), archived);
    // Other sweeps reuse its results.
    assert_eq!(f.submit(&SWEEP.replace("\"first\"", "\"second\"")).await.reused, 2);
    f.store.delete("second", false).await.unwrap();
    let f = f.restart().await;
    assert!(f.claim(4).await.is_empty());
    let waiting = f.wait_for_a_trial(false).await;
    f.act("first", SweepAction::Unarchive).await;
    assert_eq!(woken(&f, waiting).await.leases.len(), 1);
    assert_eq!(f.status("first").await.state, SweepState::Open);
    // What it was before, it is again.
    f.act("first", SweepAction::Pause).await;
    f.act("first", SweepAction::Archive).await;
    f.act("first", SweepAction::Unarchive).await;
    assert_eq!(f.status("first").await.state, SweepState::Paused);
}
