//! Every database refuses what was decided on something that is not so any more, by itself: decisions are made under locks, and these
//! these checks hold when a lock does not.

use sortie_core::finetune::Methods;
use sortie_core::inputs::{Input, InputKind, Pin, Pins};
use sortie_core::job::{State, Timestamp};
use sortie_core::keys::{AttemptToken, SweepKey, TrialKey, WorkerKey};
use sortie_core::plan::SpecHasher;
use sortie_core::spec::SweepSpec;
use sortie_testkit::postgres::Postgres;

use super::{
    AttemptState, Backend, Changes, Move, NewAttempt, NewTrial, Progress, StoredSweepState, SweepRow,
};
use crate::store::types::{Reuse, Worker};
use crate::store::{OpenOptions, StoreError, memory, sql};

const SWEEP: &str = "name = 'checked'\n[run]\ncommand = ['run', '{x}']\n[grid]\nx = 1\n";
const NOW: Timestamp = Timestamp(1_000);
const HOLDER: AttemptToken = AttemptToken(7);
const OTHER: AttemptToken = AttemptToken(6);
const TRIAL: TrialKey = TrialKey(1);

fn running(token: AttemptToken) -> State {
    State::Running { token, expires_at: NOW, earlier: None }
}

fn progress(state: AttemptState, sequence: u64) -> Progress {
    Progress { state, sequence, ..Progress::BEGUN }
}

fn pacs() -> Input {
    Input { kind: InputKind::Dataset, name: "PACS".to_owned() }
}

fn pins(digest: &str) -> Pins {
    let (digest, machine) = (digest.to_owned(), "m".to_owned());
    Pins(vec![Pin { place: 0, digest, machine, confirmed: false, used: true }])
}

/// A sweep with one trial, which an attempt holds; gives the sweep's row.
async fn prepare(backend: &dyn Backend) -> SweepRow {
    let mut tx = backend.begin(true).await.unwrap();
    tx.register(&Worker { id: "w1".to_owned(), ..Worker::default() }, NOW).await.unwrap();
    let spec = SweepSpec::parse(SWEEP, None).unwrap();
    let point = spec.point_at(0).unwrap();
    let spec_hash = SpecHasher::of(&spec.work, spec.protocol).hash(&point, None);
    let (state, priority, reuse) = (StoredSweepState::Open, 0, Reuse::Complete);
    let mut row = SweepRow {
        id: SweepKey(0),
        spec,
        revision: 1,
        state,
        archived: false,
        priority,
        reuse,
        planned: 1,
        expanded: 1,
        base: 0,
    };
    row.id = tx.insert_sweep(&row, NOW).await.unwrap();
    assert_eq!(
        tx.insert_trials(
            row.id,
            &[NewTrial { spec_hash, position: 0, point, members: Vec::new() }],
            Some(Default::default())
        )
        .await
        .unwrap(),
        (1, 0)
    );
    let mut changes = Changes::default();
    changes.new_attempts.push(new_attempt());
    changes.moves.insert(TRIAL, Move { from: State::FRESH, to: running(HOLDER), forgive: false });
    changes.pins.insert(pacs(), (Pins::default(), pins("right")));
    tx.write(&changes).await.unwrap();
    tx.commit(false).await.unwrap();
    row
}

fn new_attempt() -> NewAttempt {
    NewAttempt {
        token: HOLDER,
        trial: TRIAL,
        worker: WorkerKey(1),
        started: NOW,
        methods: Methods::default(),
    }
}

/// Changes that were decided on what is not so.
fn late() -> Vec<Changes> {
    let moved = |from| {
        let mut changes = Changes::default();
        changes.moves.insert(TRIAL, Move { from, to: State::FRESH, forgive: false });
        changes
    };
    let advanced = |token, before: Progress| {
        let mut changes = Changes::default();
        let after = Progress { sequence: before.sequence + 1, ..before.clone() };
        changes.progress.insert(token, (before, after));
        changes
    };
    let mut late = vec![
        moved(State::FRESH),
        moved(running(OTHER)),
        moved(State::Queued { lost: Some(HOLDER), not_before: None, earlier: None }),
        advanced(HOLDER, progress(AttemptState::Failed, 0)),
        advanced(HOLDER, progress(AttemptState::Running, 1)),
        advanced(OTHER, progress(AttemptState::Running, 0)),
    ];
    let new_attempts = vec![new_attempt()];
    late.push(Changes { new_attempts, ..Changes::default() });
    for change in
        [(Pins::default(), pins("wrong")), (pins("wrong"), pins("right")), (pins("wrong"), Pins::default())]
    {
        late.push(Changes { pins: [(pacs(), change)].into(), ..Changes::default() });
    }
    late
}

async fn refuses_what_comes_late(backend: &dyn Backend) {
    let row = prepare(backend).await;
    for changes in late() {
        let mut tx = backend.begin(true).await.unwrap();
        let error = tx.write(&changes).await.expect_err(&format!("{changes:?}"));
        let repeated_token = !changes.new_attempts.is_empty() && matches!(error, StoreError::Database(_));
        assert!(error.is_conflict() || repeated_token, "{changes:?}: {error:?}");
    }
    let mut tx = backend.begin(true).await.unwrap();
    tx.update_sweep(&row).await.unwrap();
    tx.commit(false).await.unwrap();
    let mut tx = backend.begin(true).await.unwrap();
    assert!(tx.update_sweep(&row).await.unwrap_err().is_conflict(), "its revision is another one now");
    drop(tx);
    // What is not late goes through, and nothing else has come of all that.
    let mut changes = Changes::default();
    changes.moves.insert(TRIAL, Move { from: running(HOLDER), to: running(HOLDER), forgive: false });
    changes.progress.insert(HOLDER, (progress(AttemptState::Running, 0), progress(AttemptState::Running, 1)));
    let mut tx = backend.begin(true).await.unwrap();
    tx.write(&changes).await.unwrap();
    assert_eq!(tx.pins().await.unwrap(), [(pacs(), pins("right"))]);
    assert_eq!(tx.pins_of(&[pacs()]).await.unwrap(), [(pacs(), pins("right"))]);
    tx.commit(false).await.unwrap();
}

#[tokio::test]
async fn the_model_refuses_what_comes_late() {
    refuses_what_comes_late(&memory::Memory::default()).await;
}

#[tokio::test]
async fn sqlite_refuses_what_comes_late() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("sortie.db").display()).parse().unwrap();
    refuses_what_comes_late(sql::open(&url, &OpenOptions::default()).await.unwrap().as_ref()).await;
}

#[tokio::test]
async fn postgres_refuses_what_comes_late() {
    if !Postgres::is_installed() {
        println!("skipped: needs a PostgreSQL server (apt-get install postgresql)");
        return;
    }
    let server = Postgres::start().unwrap();
    refuses_what_comes_late(
        sql::open(&server.url("postgres").parse().unwrap(), &OpenOptions::default()).await.unwrap().as_ref(),
    )
    .await;
}
