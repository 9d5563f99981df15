//! Leases that run out: of a worker that slept while its trial went to another, and of nobody when the database was away.
#![expect(clippy::unwrap_used, reason = "a test ends at the first thing that goes wrong")]

mod support;

use std::time::Duration;

use sortie_lab::chaos::database::{Stored, read};
use sortie_lab::chaos::{journal, verdict};
use sortie_lab::fleet::{Fleet, Settings};
use sortie_lab::place::Kind;
use sortie_proto::v1;
use sortie_proto::v1::worker_service_client::WorkerServiceClient;
use sortie_testkit::processes::{Signal, is_stopped};
use tonic::Code;

use support::{is_there, programs};

/// So often is looked, a tenth of a second apart: only a hang gets to the end.
const LOOKS_MAX: u32 = 1_200;

/// Waits until there is something.
async fn eventually<T>(what: &str, fleet: &Fleet, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    for _ in 0..LOOKS_MAX {
        if let Some(found) = look().await {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{what} never came: {}", fleet.worker(0).written());
}

async fn wait_for_success(fleet: &Fleet, trials: u64) {
    eventually("a result", fleet, async || fleet.status().await.filter(|status| status.succeeded == trials))
        .await;
}

/// All that a database holds of one attempt.
fn of(token: i64, stored: &Stored) -> Stored {
    let mut stored = stored.clone();
    stored.trials.clear();
    stored.attempts.retain(|of, _| *of == token);
    stored.evaluations.retain(|row| row.token == token);
    stored.losses.retain(|(of, ..)| *of == token);
    stored
}

fn sweep(seeds: u64) -> String {
    format!(
        "name = \"one\"\n[run]\ncommand = [\"sortie\", \"synthetic\"]\nsteps = 20\n[grid]\nheld_out = [\"a\"]\nseeds = {seeds}\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_was_stopped_past_its_lease_cannot_write_anything() {
    let Some(programs) = programs() else { return };
    for store in [Kind::Sqlite, Kind::Postgres] {
        if is_there(store) {
            sleep_and_wake(Settings {
                programs: programs.clone(),
                store,
                lease_seconds: 1,
                workers: 1,
                slots: 1,
                trial_seconds: 4.0,
            })
            .await;
        }
    }
}

async fn sleep_and_wake(settings: Settings) {
    let mut fleet = Fleet::start(settings).unwrap();
    fleet.submit(&sweep(1)).await.unwrap();
    let journals = fleet.journals();
    let report =
        async || journal::read(&journals[0]).unwrap().into_iter().rfind(|call| !call.losses.is_empty());
    let told = eventually("a report", &fleet, report).await;
    let (sleeper, token) = (fleet.worker(0).pid(), told.token);
    fleet.worker(0).signal(Signal::STOP).unwrap();
    eventually("its sleep", &fleet, async || is_stopped(sleeper).then_some(())).await;
    // The other one takes the trial when the lease is over, and no time to end it.
    fleet.set_trial_seconds(0.0);
    fleet.add_worker().unwrap();
    wait_for_success(&fleet, 1).await;
    let before = read(fleet.database()).await.unwrap();
    let trial = before.trials.values().next().unwrap();
    assert_ne!(trial.token, token);
    assert_eq!(before.attempts[&token].outcome, "failed");
    assert!(!of(token, &before).losses.is_empty());

    // Whatever it would say is refused.
    let mut client = WorkerServiceClient::new(fleet.channel());
    let loss = v1::TrainingLoss { step: 20, loss: 9.0 };
    let batch =
        Some(v1::Batch { sequence: told.sequence.unwrap() + 1, losses: vec![loss], ..v1::Batch::default() });
    let report = client.report(v1::ReportRequest { token, batch: batch.clone() }).await;
    assert_eq!(report.unwrap_err().code(), Code::Aborted);
    let outcome = Some(v1::complete_request::Outcome::Succeeded(v1::Succeeded {}));
    let complete = client.complete(v1::CompleteRequest { token, batch, outcome }).await;
    assert_eq!(complete.unwrap_err().code(), Code::Aborted);
    let attempts = vec![v1::Progress { token, step: 20 }];
    let heartbeat = client.heartbeat(v1::HeartbeatRequest { worker_id: "nobody".into(), attempts }).await;
    assert_eq!(heartbeat.unwrap().into_inner().lost, [token]);

    // It wakes, learns that its lease is lost, and goes on with the next trial, which nobody else could take.
    fleet.worker(1).kill().unwrap();
    fleet.worker(0).signal(Signal::CONT).unwrap();
    eventually("the news", &fleet, async || fleet.worker(0).written().contains("lost").then_some(())).await;
    fleet.submit(&sweep(2)).await.unwrap();
    wait_for_success(&fleet, 2).await;
    let after = read(fleet.database()).await.unwrap();
    assert_eq!(of(token, &after), of(token, &before));
    let calls: Vec<_> = fleet.journals().iter().flat_map(|path| journal::read(path).unwrap()).collect();
    assert!(calls.iter().filter(|call| call.token == token).all(|call| call.outcome.is_none()));
    let found = verdict::judge(&after, &calls).unwrap();
    assert_eq!((found.lost, found.doubled), (vec![], vec![]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_away_for_longer_than_a_lease_costs_no_attempt() {
    let Some(programs) = programs() else { return };
    if !is_there(Kind::Postgres) {
        return;
    }
    // Slots are left that wait for trials: what is put back is taken at once.
    let settings = Settings {
        programs,
        store: Kind::Postgres,
        lease_seconds: 1,
        workers: 2,
        slots: 3,
        trial_seconds: 50.0,
    };
    let mut fleet = Fleet::start(settings).unwrap();
    fleet.submit(&sweep(4)).await.unwrap();
    let journals = fleet.journals();
    let report = |path| journal::read(path).unwrap().into_iter().any(|call| !call.losses.is_empty());
    eventually("a report", &fleet, async || journals.iter().any(|path| report(path)).then_some(())).await;
    let running = async || fleet.status().await.filter(|status| status.running == 4);
    eventually("four attempts", &fleet, running).await;
    // Several times: what asks first when the database is back is a matter of luck. Also for longer than the coordinator waits for a
    // connection.
    for away in [1, 1, 1, 1, 7] {
        let server = fleet.place().server().unwrap();
        server.kill().unwrap();
        tokio::time::sleep(Duration::from_secs(away)).await;
        server.restart().unwrap();
        eventually("an answer", &fleet, async || fleet.status().await).await;
        tokio::time::sleep(Duration::from_secs(3)).await;
    }
    wait_for_success(&fleet, 4).await;
    let stored = read(fleet.database()).await.unwrap();
    assert_eq!(stored.attempts.len(), 4, "running attempts were thrown away: {:?}", stored.attempts);
}
