//! Whose fault a failure is: what is held against machines, and where trials go that failed on one.

use std::time::Duration;

use sortie_coordinator::store::{ArtifactLocation, Claim, Claimed, StoreError, SweepAction, Worker};
use sortie_core::job::{ErrorClass, StateName};
use sortie_core::prerequisite::{Findings, Missing, Prerequisite};

use crate::fixture::*;

const COMMANDS: &str = "name = \"runs\"\n[run]\ncommand = [\"true\"]\n[grid]\nx = [1, 2]\n";

/// Fails trials on a worker, each once, and gives what its next claim gets.
async fn fail_on(f: &Fixture, worker: &str, times: u32) -> Claimed {
    for _ in 0..times {
        let lease = f.claim_as(worker, 1).await.leases.pop().expect("it gets trials");
        f.fail(lease.token, ErrorClass::Transient).await;
    }
    f.claim_as(worker, 1).await
}

fn quarantined(failures: u32) -> String {
    format!(
        "quarantined for dataset PACS for 10 min: its last {failures} attempts failed, the last one with: two lines"
    )
}

pub async fn a_machine_that_keeps_failing_is_quarantined_for_a_while(f: Fixture) {
    f.submit(&large_sweep(10)).await;
    f.store.register(&worker("w2")).await.unwrap();
    let still = fail_on(&f, "w1", 4).await;
    assert_eq!((still.leases.len(), still.quarantined.as_str()), (1, ""));
    // A result shows that it is fit, and the count starts again.
    f.succeed(still.leases[0].token).await;
    let still = fail_on(&f, "w1", 4).await;
    f.fail(still.leases[0].token, ErrorClass::Transient).await;
    let held_back = f.claim_as("w1", 1).await;
    assert_eq!((held_back.leases.len(), held_back.quarantined), (0, quarantined(5)));
    // Nothing is left that it could get before the quarantine ends or a user acts.
    assert!(held_back.idle);
    assert_eq!(f.claim_as("w2", 1).await.leases.len(), 1);
    let line = f.store.workers(true).await.unwrap().remove(0);
    let until = line.quarantines().map(|fault| fault.until).collect::<Vec<_>>();
    assert_eq!(until, [Some(sortie_core::job::Timestamp(T0 + 600_000))]);
    f.pass(600);
    let back = f.claim_as("w1", 2).await;
    assert_eq!((back.leases.len(), back.quarantined.as_str()), (1, ""), "one trial is tried");
    // It has not shown that it is fit: one failure more is enough.
    f.store.register(&worker("w2")).await.unwrap();
    f.fail(back.leases[0].token, ErrorClass::BadData).await;
    assert_eq!(f.claim_as("w1", 1).await.quarantined, quarantined(6));
}

pub async fn the_last_fit_machine_is_never_quarantined_for_unknown_faults(f: Fixture) {
    f.submit(&large_sweep(10)).await;
    for gone in ["w2", "w3"] {
        f.store.register(&worker(gone)).await.unwrap();
    }
    f.store.leave(secret(), "w2").await.unwrap();
    // w3 is not heard from for longer than anybody waits.
    f.pass(41);
    f.store.heartbeat(secret(), "w1", Vec::new()).await.unwrap();
    let still = fail_on(&f, "w1", 9).await;
    assert_eq!((still.leases.len(), still.quarantined.as_str()), (1, ""));
}

pub async fn failures_in_many_slots_keep_a_machine_quarantined(f: Fixture) {
    f.submit(&large_sweep(10)).await;
    f.store.register(&worker("w2")).await.unwrap();
    for lease in f.claim(7).await {
        f.fail(lease.token, ErrorClass::Transient).await;
    }
    let held_back = f.claim_as("w1", 1).await;
    assert_eq!((held_back.leases.len(), held_back.quarantined), (0, quarantined(7)));
}

pub async fn of_two_machines_that_fail_together_one_stays(f: Fixture) {
    f.submit(&large_sweep(10)).await;
    f.store.register(&worker("w2")).await.unwrap();
    let mut last = Vec::new();
    for name in ["w1", "w2"] {
        last.push(fail_on(&f, name, 4).await.leases.remove(0).token);
    }
    // They may share a transaction.
    tokio::join!(f.fail(last[0], ErrorClass::Transient), f.fail(last[1], ErrorClass::Transient));
    let held_back = [f.claim_as("w1", 1).await, f.claim_as("w2", 1).await]
        .iter()
        .filter(|claimed| !claimed.quarantined.is_empty())
        .count();
    assert_eq!(held_back, 1);
}

pub async fn only_what_may_be_the_machines_fault_quarantines_it(f: Fixture) {
    f.submit(&large_sweep(10)).await;
    f.store.register(&worker("w2")).await.unwrap();
    for class in [ErrorClass::BadConfig, ErrorClass::Preempted] {
        for _ in 0..6 {
            let lease = f.claim_one().await;
            f.fail(lease.token, class).await;
        }
    }
    assert_eq!(f.claim_as("w1", 1).await.quarantined, "");
}

pub async fn a_machines_own_fault_costs_the_trial_nothing(f: Fixture) {
    f.submit(&large_sweep(1)).await;
    let token = f.claim_one().await.token;
    f.fail(token, ErrorClass::Machine).await;
    // At once, although it is the only machine.
    let held_back = f.claim_as("w1", 1).await;
    assert_eq!(held_back.quarantined, "quarantined for dataset PACS for 10 min: two lines");
    assert!(held_back.leases.is_empty() && held_back.idle);
    assert_eq!(f.count(StateName::Queued).await, 4);
    f.store.register(&worker("w2")).await.unwrap();
    let leases = f.claim_as("w2", 4).await.leases;
    assert_eq!(leases.len(), 4);
    for lease in leases {
        f.succeed(lease.token).await;
    }
    assert_eq!(f.count(StateName::Succeeded).await, 4);
}

pub async fn workers_of_one_machine_share_its_standing(f: Fixture) {
    f.submit(&large_sweep(1)).await;
    let beside = Worker { machine: "w1".into(), ..worker("w2") };
    f.store.register(&beside).await.unwrap();
    let token = f.claim_one().await.token;
    f.fail(token, ErrorClass::Machine).await;
    assert!(f.claim_as("w2", 1).await.leases.is_empty());
    // It survives a restart of the coordinator.
    let f = f.restart().await;
    f.store.register(&beside).await.unwrap();
    assert!(f.claim_as("w2", 1).await.leases.is_empty());
}

pub async fn a_quarantine_is_for_a_kind_of_work(f: Fixture) {
    f.submit(&large_sweep(1)).await;
    f.submit(COMMANDS).await;
    let mut able = worker("w1");
    able.abilities.commands = true;
    able.id = "w2".to_owned();
    f.store.register(&able).await.unwrap();
    let token = f.claim_as("w1", 1).await.leases.remove(0).token;
    f.fail(token, ErrorClass::Machine).await;
    let leases = f.claim_as("w2", 9).await.leases;
    assert_eq!(leases.iter().map(|lease| lease.sweep.as_str()).collect::<Vec<_>>(), ["runs", "runs"]);
}

pub async fn a_trial_that_failed_on_one_machine_goes_to_another(f: Fixture) {
    f.submit(SWEEP).await;
    f.store.register(&worker("w2")).await.unwrap();
    let leases = f.claim(4).await;
    for lease in &leases[1..] {
        f.succeed(lease.token).await;
    }
    f.fail(leases[0].token, ErrorClass::BadData).await;
    assert!(f.claim_as("w1", 1).await.leases.is_empty());
    let again = f.claim_as("w2", 1).await.leases.remove(0);
    assert_eq!((again.spec_hash, again.attempt), (leases[0].spec_hash, 2));
    f.fail(again.token, ErrorClass::BadData).await;
    let line = f.store.trials("first", Some(StateName::Failed), 0).await.unwrap().rows.remove(0);
    assert_eq!(line.error, "bad-data: two lines", "it was tried on two machines");
    // Where no other machine is left, it is tried on the same one again.
    f.retry("", None).await;
    let again = f.claim_as("w2", 1).await.leases.remove(0);
    f.store.leave(secret(), "w1").await.unwrap();
    f.fail(again.token, ErrorClass::BadData).await;
    let again = f.claim_as("w2", 1).await.leases.remove(0);
    f.fail(again.token, ErrorClass::BadData).await;
    let line = f.store.trials("first", Some(StateName::Failed), 0).await.unwrap().rows.remove(0);
    assert_eq!(line.error, "bad-data: two lines (one machine only)");
}

pub async fn trials_for_other_machines_hide_no_others(f: Fixture) {
    f.submit(&large_sweep(10)).await;
    f.store.register(&worker("w2")).await.unwrap();
    // Fewer than it takes to be quarantined, and no delay after them.
    for lease in f.claim(4).await {
        f.fail(lease.token, ErrorClass::BadData).await;
    }
    let own = f.claim_as("w1", 3).await.leases;
    assert_eq!(own.iter().map(|lease| lease.attempt).collect::<Vec<_>>(), [1, 1, 1]);
    let others = f.claim_as("w2", 4).await.leases;
    assert_eq!(others.iter().map(|lease| lease.attempt).collect::<Vec<_>>(), [2, 2, 2, 2]);
}

pub async fn trials_that_no_machine_may_run_wait_and_say_why(f: Fixture) {
    f.submit(SWEEP).await;
    assert_eq!(f.status("first").await.held_up, None);
    let token = f.claim_one().await.token;
    f.fail(token, ErrorClass::Machine).await;
    let held_up = f.status("first").await.held_up.unwrap();
    assert_eq!(
        (held_up.reason.as_str(), held_up.stuck),
        ("machine w1 is quarantined for dataset PACS for 10 min: two lines", true)
    );
    // One that is not able does not help; one that is does.
    f.submit(COMMANDS).await;
    let lacking = f.status("runs").await.held_up.unwrap();
    assert_eq!((lacking.reason.as_str(), lacking.stuck), ("no worker allows commands", false));
    f.store.register(&worker("w2")).await.unwrap();
    assert_eq!(f.status("first").await.held_up, None);
    let outlook = async |text: &str| f.store.outlook(&spec(text)).await.unwrap();
    let pacs = outlook(SWEEP).await;
    let against = "machine w1 is quarantined for dataset PACS for 10 min: two lines";
    assert_eq!((pacs.held_up, pacs.faults), (None, vec![against.to_owned()]));
    let elsewhere = SWEEP.replace("PACS", "VLCS").replace("[\"photo\", \"sketch\"]", "\"each\"");
    assert_eq!(outlook(&elsewhere).await.faults, [""; 0]);
    f.store.leave(secret(), "w2").await.unwrap();
    assert!(f.status("first").await.held_up.unwrap().stuck);
    f.store.leave(secret(), "w1").await.unwrap();
    assert!(f.status("first").await.held_up.unwrap().stuck, "it ended, and nobody else is there");
    assert_eq!(outlook(SWEEP).await.faults, [""; 0]);
    assert_eq!(f.status("runs").await.held_up.unwrap().reason, "no worker is there");
}

pub async fn combinations_over_several_machines_own_disks_are_warned_of(f: Fixture) {
    let combined = format!("{SWEEP}[[combine]]\nname = \"pair\"\nkind = \"ensemble\"\nover = \"dropout\"\n");
    let warnings = async |text: &str| f.store.outlook(&spec(text)).await.unwrap().faults;
    let local = |name: &str| {
        let host = format!("host-of-{name}");
        Worker { checkpoints: Some(ArtifactLocation::Local), host, ..worker(name) }
    };
    f.store.register(&local("w3")).await.unwrap();
    assert_eq!(warnings(&combined).await, [""; 0], "one machine has all");
    f.store.register(&local("w4")).await.unwrap();
    let lines = warnings(&combined).await;
    assert!(
        lines.len() == 1 && lines[0].contains("host-of-w3, host-of-w4 go to their own disks"),
        "{lines:?}"
    );
    assert_eq!(warnings(SWEEP).await, [""; 0]);
    f.store.leave(secret(), "w4").await.unwrap();
    assert_eq!(warnings(&combined).await, [""; 0]);
}

pub async fn a_released_machine_gets_one_trial_until_one_succeeds(f: Fixture) {
    f.submit(&large_sweep(2)).await;
    let token = f.claim_one().await.token;
    f.fail(token, ErrorClass::Machine).await;
    match f.store.release("w9").await {
        Err(StoreError::UnknownMachine { known, .. }) => assert_eq!(known, "w1"),
        other => panic!("{other:?}"),
    }
    assert_eq!(f.store.release("w1").await.unwrap(), 1);
    let tried = f.claim(9).await;
    assert_eq!(tried.len(), 1);
    assert!(f.claim_as("w1", 9).await.leases.is_empty());
    f.succeed(tried[0].token).await;
    let all = f.claim(9).await;
    assert_eq!(all.len(), 7);
    // A user who retries trials has mended something: that releases, too.
    f.fail(all[0].token, ErrorClass::Machine).await;
    assert!(f.claim_as("w1", 9).await.leases.is_empty());
    f.retry("", None).await;
    assert_eq!(f.claim(9).await.len(), 1);
}

pub async fn a_worker_looks_for_what_trials_need_before_it_gets_one(f: Fixture) {
    f.submit(SWEEP).await;
    let dataset = Prerequisite::Dataset("PACS".into());
    let looked = |worker: &str, findings| Claim { findings: Some(findings), ..claim(worker, 1) };
    let lacking = || Findings {
        lacks: vec![Missing { prerequisite: dataset.clone(), reason: "/d/PACS:\nno such folder".into() }],
        ..Findings::default()
    };
    // At once, although it may wait.
    let first = f.store.claim(looked("w1", Findings::default()), PATIENCE * 10).await.unwrap();
    assert!(first.leases.is_empty() && !first.idle);
    assert_eq!(first.look_for, std::slice::from_ref(&dataset));
    let quarantined = "quarantined for dataset PACS for 10 min: /d/PACS: no such folder";
    let held_back = f.store.claim(looked("w1", lacking()), Duration::ZERO).await.unwrap();
    assert_eq!((held_back.quarantined.as_str(), held_back.idle), (quarantined, true));
    assert!(held_back.leases.is_empty() && held_back.look_for.is_empty());
    assert!(f.status("first").await.held_up.unwrap().reason.ends_with(quarantined));
    // One that waits may have been repaired: it is asked again once the machine is released.
    let waiting = f.store.claim(looked("w1", lacking()), PATIENCE * 10);
    let (again, released) = tokio::join!(waiting, f.store.release("w1"));
    assert_eq!((again.unwrap().look_for.as_slice(), released.unwrap()), (std::slice::from_ref(&dataset), 1));
    f.store.claim(looked("w1", lacking()), Duration::ZERO).await.unwrap();
    // When that is over, no trial is tried.
    f.pass(601);
    f.store.heartbeat(secret(), "w1", Vec::new()).await.unwrap();
    let still = f.store.claim(looked("w1", lacking()), Duration::ZERO).await.unwrap();
    assert_eq!((still.leases.len(), still.quarantined.as_str()), (0, quarantined));
    f.store.register(&worker("w2")).await.unwrap();
    let found = Findings { has: vec![dataset.clone()], ..Findings::default() };
    let lease = f.store.claim(looked("w2", found), PATIENCE).await.unwrap().leases.remove(0);
    assert_eq!(lease.attempt, 1);
    // What trials need that it may not run is not held against it.
    let other_data = other_sweep("tagged", "0.25").replace("PACS", "VLCS");
    let other_data = other_data.replace("[\"photo\", \"sketch\"]", "\"SUN09\"");
    let tagged = format!("{other_data}\n[require]\ntags = [\"large\"]\n");
    f.submit(&tagged).await;
    let missing = Missing { prerequisite: Prerequisite::Dataset("VLCS".into()), reason: "gone".into() };
    let findings = Findings { has: vec![dataset.clone()], lacks: vec![missing] };
    let others = f.store.claim(looked("w2", findings), Duration::ZERO).await.unwrap();
    assert_eq!(others.leases.len(), 1);
    let workers = f.store.workers(true).await.unwrap();
    let held = workers.iter().filter(|line| line.worker.id == "w2").flat_map(|line| line.quarantines());
    assert_eq!(held.count(), 0);
    f.act("tagged", SweepAction::Pause).await;
    // What no trial needs is held against nobody.
    f.submit(COMMANDS).await;
    f.act("first", SweepAction::Pause).await;
    let mut able = worker("w3");
    able.abilities.commands = true;
    f.store.register(&able).await.unwrap();
    let other = f.store.claim(looked("w3", lacking()), Duration::ZERO).await.unwrap();
    assert_eq!(
        (other.look_for, other.quarantined.as_str()),
        (vec![Prerequisite::Program("true".into())], "")
    );
}
