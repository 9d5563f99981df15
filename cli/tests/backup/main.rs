//! `sortie backup` and `sortie restore` with real coordinators and workers, and databases that are lost under a coordinator.
#![expect(clippy::unwrap_used, reason = "a test ends at the first thing that goes wrong")]

mod cluster;

#[path = "../support/link.rs"]
mod link;

use std::fs;
use std::path::Path;
use std::time::Duration;

use cluster::{Cluster, PATIENCE, Place, TRIALS, now};
use link::link;
use sortie_proto::v1;
use sortie_proto::v1::worker_service_client::WorkerServiceClient;
use sortie_testkit::postgres::Postgres;
use tonic::Code;

/// The kinds of databases that this machine has, each with a place for a second database of it.
fn places() -> Vec<(Place, Place)> {
    let mut places = vec![(Place::file(), Place::file())];
    match Postgres::is_installed() {
        true => {
            let server = Postgres::start().unwrap();
            places.push((Place::server(server, "one"), Place::file()));
        }
        false => println!("skipped in part: needs a PostgreSQL server (apt-get install postgresql)"),
    }
    places
}

#[test]
fn a_sweep_goes_on_from_a_backup_and_ends_as_if_nothing_had_happened() {
    let undisturbed = {
        let mut cluster = Cluster::start(Place::file());
        cluster.submit();
        cluster.add_worker("0", &["--exit-when-idle"]);
        cluster.wait_for_workers();
        cluster.table()
    };
    for (first, second) in places() {
        let mut cluster = Cluster::start(first);
        cluster.submit();
        cluster.add_worker("0.4", &[]);
        cluster.add_worker("0.4", &[]);
        cluster.wait_until("some results", |status| status["succeeded"].as_u64().unwrap() >= 3);
        let backup = cluster.folder().join("backup");
        cluster.sortie(&["backup", backup.to_str().unwrap()]);
        let saved = cluster.succeeded();
        cluster.wait_until("more results", |status| status["succeeded"].as_u64().unwrap() >= saved + 3);
        let token = cluster.running_token();
        let incarnation = cluster.incarnation();
        // The machine is lost with all that was stored since. The workers run on.
        cluster.kill_coordinator();
        cluster.restore(&backup, second);
        assert_ne!(cluster.incarnation(), incarnation);
        refuses_the_old_incarnation(&cluster.url(), incarnation, token);
        cluster.wait_until("the end", |status| status["succeeded"].as_u64() == Some(TRIALS));
        assert_eq!(cluster.table(), undisturbed);
        let log = cluster.worker_log();
        // Both workers, once more.
        assert_eq!(log.matches(" registered coordinator=").count(), 4, "{log}");
        assert!(log.contains("lease lost") || log.contains("lease was lost"), "{log}");
        assert_eq!(cluster.stored_under(token), 0);
    }
}

/// A worker that has heard nothing of the restore reports.
fn refuses_the_old_incarnation(url: &str, incarnation: i64, token: i64) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut client = WorkerServiceClient::new(link(url).await);
        let loss = v1::TrainingLoss { step: 20, loss: 9.0, seconds: None };
        let batch = Some(v1::Batch { sequence: 1, losses: vec![loss], ..v1::Batch::default() });
        let (worker_id, outcome) =
            ("nobody".to_owned(), Some(v1::complete_request::Outcome::Succeeded(v1::Succeeded {})));
        for incarnation in [incarnation, 0] {
            let report = client
                .report(v1::ReportRequest { token, batch: batch.clone(), incarnation, ..Default::default() })
                .await;
            assert_eq!(report.unwrap_err().code(), Code::Aborted);
            let (batch, outcome) = (batch.clone(), outcome.clone());
            let complete = client
                .complete(v1::CompleteRequest { token, batch, outcome, incarnation, ..Default::default() })
                .await;
            let refused = complete.unwrap_err();
            assert_eq!(refused.code(), Code::Aborted);
            assert!(refused.message().contains("restored from a backup"), "{refused}");
            let attempts = vec![v1::Progress { token, step: 20, preparation: None }];
            let beat = v1::HeartbeatRequest {
                worker_id: worker_id.clone(),
                attempts,
                incarnation,
                ..Default::default()
            };
            assert_eq!(client.heartbeat(beat).await.unwrap_err().code(), Code::NotFound);
            let lease = v1::LeaseRequest {
                worker_id: worker_id.clone(),
                count_max: 1,
                incarnation,
                ..v1::LeaseRequest::default()
            };
            assert_eq!(client.lease(lease).await.unwrap_err().code(), Code::NotFound);
            let leave = v1::LeaveRequest { worker_id: worker_id.clone(), incarnation, ..Default::default() };
            assert_eq!(client.leave(leave).await.unwrap_err().code(), Code::NotFound);
        }
    });
}

/// What is done to the file, and what the coordinator says of it.
type Loss = (fn(&Path), &'static str);

#[test]
fn a_coordinator_whose_file_is_lost_says_so_and_ends() {
    let losses: [Loss; 5] = [
        (|file| fs::remove_file(file).unwrap(), "was deleted or moved away"),
        (
            |file| {
                fs::write(file.with_extension("new"), "another").unwrap();
                fs::rename(file.with_extension("new"), file).unwrap();
            },
            "was replaced by another file",
        ),
        (|file| fs::File::options().write(true).open(file).unwrap().set_len(0).unwrap(), "was truncated"),
        (|file| fs::File::options().write(true).open(file).unwrap().set_len(4_096).unwrap(), "was truncated"),
        (|file| fs::remove_file(file.with_extension("db-wal")).unwrap(), "lost its file sortie.db-wal"),
    ];
    for (with_load, (lose, fate)) in losses.iter().flat_map(|loss| [(true, loss), (false, loss)]) {
        let mut cluster = Cluster::start(Place::file());
        let file = cluster.file();
        if with_load {
            cluster.submit();
            cluster.add_worker("0", &["--slots", "2"]);
            cluster.wait_until("a result", |status| status["succeeded"].as_u64().unwrap() >= 1);
        }
        lose(&file);
        let begun = now();
        let (code, said) = cluster.coordinator_ended();
        assert!(
            begun.elapsed() < Duration::from_secs(5).min(PATIENCE),
            "{fate}: it took {:?}",
            begun.elapsed()
        );
        assert_eq!(code, Some(1), "{said}");
        let last = said.lines().last().unwrap();
        let line = format!("error: the database {} {fate}", file.display());
        assert!(last.starts_with(&line), "{last}");
        assert_eq!(said.lines().filter(|line| line.starts_with("error: ")).count(), 1, "{said}");
    }
}

#[test]
fn what_cannot_be_backed_up_or_restored_is_one_line() {
    let cluster = Cluster::start(Place::file());
    let folder = cluster.folder();
    let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let refused = |words: &[&str], part: &str| {
        let said = cluster.refused(words);
        assert!(
            said.starts_with("error: ") && said.contains(part) && said.lines().count() == 1,
            "{words:?}: {said}"
        );
    };
    refused(&["backup", &path("none/backup")], "none/backup");
    refused(&["backup", folder.to_str().unwrap()], "it is there already, and is no file");
    let backup = path("backup");
    for _ in 0..2 {
        cluster.sortie(&["backup", &backup]);
    }
    // Nothing is left beside it, here or at the coordinator.
    let left: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().contains("partial")), "{left:?}");
    let served = cluster.file();
    refused(
        &["restore", &backup, "--db", served.to_str().unwrap()],
        "another coordinator has it open; stop that one",
    );
    refused(&["restore", &path("sortie.db.lock"), "--db", &path("new.db")], "no backup of Sortie");
    refused(&["restore", &backup, "--db", &backup], "it is a backup");
    cluster.sortie(&["restore", &backup, "--db", &path("new.db")]);
}
