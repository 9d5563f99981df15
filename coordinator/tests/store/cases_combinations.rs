//! Combinations: trials that wait for other trials of their sweep, and get what these left.

use std::collections::BTreeMap;

use sortie_coordinator::store::{ArtifactLocation, Reuse, SubmitOptions, Worker};
use sortie_core::artifact::{Artifact, ArtifactKind};
use sortie_core::job::{ErrorClass, Outcome, StateName};
use sortie_core::lease::{Batch, Lease};
use sortie_core::metrics::Method;
use sortie_core::trial::SpecHash;

use crate::fixture::{Fixture, SWEEP, T0, filter, secret, within, worker};

/// Eight trials of the grid and, for each domain and dropout rate, the ensemble of its two seeds.
fn sweep() -> String {
    format!("{SWEEP}seeds = 2\n[[combine]]\nname = \"pair\"\nkind = \"ensemble\"\nover = \"seed\"\n")
}

fn file(kind: ArtifactKind, method: Method, of: SpecHash) -> Artifact {
    let digest = format!("{:064x}", u64::from(of.to_string().as_bytes()[0]));
    Artifact { kind, method, step: 20, key: format!("{kind}/{of}/{method}.safetensors"), digest, bytes: 5 }
}

/// Ends a trial that left logits, weights, and the logits of a model that nobody combines.
async fn succeed(f: &Fixture, lease: &Lease) {
    let of = lease.spec_hash;
    let mut artifacts = vec![
        file(ArtifactKind::FinalLogits, Method::Plain, of),
        file(ArtifactKind::FinalWeights, Method::Plain, of),
    ];
    artifacts.push(file(ArtifactKind::FinalLogits, Method::Average, of));
    let batch = Batch { sequence: 1, artifacts, ..Batch::default() };
    f.complete_with(lease.token, batch, Outcome::Succeeded).await.unwrap();
}

/// The leases of the grid, by trial.
async fn grid(f: &Fixture) -> BTreeMap<SpecHash, Lease> {
    let leases = f.claim(64).await;
    assert_eq!(leases.len(), 8);
    assert!(leases.iter().all(|lease| lease.spec.combination.is_none() && lease.members.is_empty()));
    leases.into_iter().map(|lease| (lease.spec_hash, lease)).collect()
}

/// The next trial, which somebody has to let start first.
async fn next(f: &Fixture) -> Lease {
    within(f.wait_for_a_trial(false).await).await.unwrap().leases.pop().expect("a combination became ready")
}

pub async fn a_combination_starts_when_all_its_members_have_a_result(f: Fixture) {
    let submitted = f.submit(&sweep()).await;
    assert_eq!((submitted.planned, submitted.added), (12, 12));
    let grid = grid(&f).await;
    let waits = f.claim_as("w1", 64).await;
    assert!(waits.leases.is_empty() && !waits.idle);
    // Both seeds of one setting on one domain.
    let first = &grid.values().next().unwrap().spec.point;
    let same = |lease: &&Lease| {
        (&lease.spec.point.held_out, &lease.spec.point.parameters) == (&first.held_out, &first.parameters)
    };
    let members: Vec<&Lease> = grid.values().filter(same).collect();
    assert_eq!(members.len(), 2);
    succeed(&f, members[0]).await;
    let waiting = f.wait_for_a_trial(false).await;
    succeed(&f, members[1]).await;
    let lease = within(waiting).await.unwrap().leases.pop().unwrap();
    let combination = lease.spec.combination.clone().unwrap();
    assert_eq!(
        (lease.spec.hash(), lease.spec.point.combine(), &lease.spec.point.held_out),
        (lease.spec_hash, Some("pair"), &first.held_out)
    );
    assert_eq!(lease.members.iter().map(|member| member.spec_hash).collect::<Vec<_>>(), combination.members);
    for member in &lease.members {
        let of = member.spec_hash;
        assert_eq!(
            member.file(ArtifactKind::FinalLogits),
            Some(&file(ArtifactKind::FinalLogits, Method::Plain, of))
        );
        assert_eq!(
            member.file(ArtifactKind::FinalWeights),
            Some(&file(ArtifactKind::FinalWeights, Method::Plain, of))
        );
        assert_eq!((member.files.len(), member.host.as_str(), grid[&of].spec.point.seed < 2), (2, "", true));
    }
    assert_eq!((f.count(StateName::Running).await, f.count(StateName::Blocked).await), (7, 3));
    // It ends like any other trial, and one that is lost is assigned again.
    f.fail(lease.token, ErrorClass::Preempted).await;
    let again = next(&f).await;
    assert_eq!((again.spec_hash, &again.members), (lease.spec_hash, &lease.members));
    f.succeed(again.token).await;
    assert_eq!(f.count(StateName::Succeeded).await, 3);
}

pub async fn a_combination_fails_when_a_member_ends_without_a_result_and_is_retried_with_it(f: Fixture) {
    f.submit(&sweep()).await;
    let grid = grid(&f).await;
    let mut leases = grid.values();
    let lost = leases.next().unwrap();
    f.fail(lost.token, ErrorClass::BadConfig).await;
    for lease in leases {
        succeed(&f, lease).await;
    }
    for _ in 0..3 {
        succeed(&f, &next(&f).await).await;
    }
    settled(&f, 2).await;
    assert_eq!((f.count(StateName::Blocked).await, f.claim_as("w1", 1).await.idle), (0, true));
    let failed = f.store.trials("first", Some(StateName::Failed), 0).await.unwrap().rows;
    let line = failed.iter().find(|line| line.point.combine().is_some()).unwrap();
    let history = f.store.history(&line.spec_hash.to_string()).await.unwrap();
    let last = history.events.last().unwrap();
    assert_eq!((last.what.as_str(), last.at_ms, line.attempts), ("failed", T0, 0));
    assert!(last.detail.contains(&format!("{} failed", lost.spec_hash.short())), "{}", last.detail);
    let mut members = history.members.clone();
    members.sort_by_key(|member| !member.ends_with(" failed"));
    assert_eq!(
        (members.len(), members[0].as_str()),
        (2, format!("{} failed", lost.spec_hash.short()).as_str())
    );
    assert!(line.error.contains(&format!("{} failed", lost.spec_hash.short())), "{}", line.error);
    // By itself it cannot run: its member comes with it.
    assert_eq!(f.retry("combine=pair", None).await, 2);
    let again = f.claim_one().await;
    assert_eq!(again.spec_hash, lost.spec_hash);
    assert_eq!(f.retry("", None).await, 0);
    assert!(f.claim(64).await.is_empty());
    succeed(&f, &again).await;
    assert_eq!(next(&f).await.spec_hash, line.spec_hash);
}

/// Waits until so many trials have failed.
async fn settled(f: &Fixture, failed: u64) {
    while f.count(StateName::Failed).await < failed {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

pub async fn results_elsewhere_without_the_files_that_a_combination_needs_are_not_taken_over(f: Fixture) {
    // The same grid without combinations, whose first trial left nothing, and whose others left weights and logits.
    let plain = sweep().replace("\"first\"", "\"plain\"");
    f.submit(plain.split("[[combine]]").next().unwrap()).await;
    let grid = grid(&f).await;
    for (index, lease) in grid.values().enumerate() {
        if index == 0 { f.succeed(lease.token).await } else { succeed(&f, lease).await }
    }
    let submitted = f.submit(&sweep()).await;
    assert_eq!((submitted.added, submitted.reused), (12, 7));
    // Nor is it when it is claimed.
    let leases = f.claim(64).await;
    let own: Vec<SpecHash> =
        leases.iter().filter(|lease| lease.members.is_empty()).map(|lease| lease.spec_hash).collect();
    assert_eq!(own, [*grid.keys().next().unwrap()]);
    for lease in &leases {
        succeed(&f, lease).await;
    }
    while f.count(StateName::Succeeded).await < 12 {
        succeed(&f, &next(&f).await).await;
    }
    // Without combinations, any result does.
    let again = f.submit(&plain.split("[[combine]]").next().unwrap().replace("\"plain\"", "\"again\"")).await;
    assert_eq!(again.reused, 8);
}

pub async fn nothing_of_a_combination_is_lost_when_the_coordinator_restarts(f: Fixture) {
    f.submit(&sweep()).await;
    for lease in grid(&f).await.values() {
        succeed(&f, lease).await;
    }
    // Whether it had let them start or not.
    let f = f.restart().await;
    for _ in 0..4 {
        let lease = next(&f).await;
        assert_eq!(lease.members.len(), 2);
        succeed(&f, &lease).await;
    }
    assert_eq!((f.count(StateName::Succeeded).await, f.claim_as("w1", 1).await.idle), (12, true));
}

pub async fn a_combination_goes_to_the_machine_whose_disk_has_the_most_of_its_members(f: Fixture) {
    for name in ["w1", "w2"] {
        let local = Some(ArtifactLocation::Local);
        f.store.register(&Worker { checkpoints: local, ..worker(name) }).await.unwrap();
    }
    f.submit(&sweep().replace("seeds = 2", "seeds = 3")).await;
    let of_first = f.claim_as("w1", 8).await.leases;
    let of_second = f.claim_as("w2", 64).await.leases;
    assert_eq!((of_first.len(), of_second.len()), (8, 4));
    for lease in of_first.iter().chain(&of_second) {
        succeed(&f, lease).await;
    }
    let mut combined = vec![next(&f).await];
    // Of each combination two members of three.
    assert!(f.claim_as("w2", 64).await.leases.is_empty());
    combined.extend(f.claim_as("w1", 1).await.leases);
    assert_eq!(combined.len(), 2);
    // Where that machine is gone, another one gets the rest.
    f.store.leave(secret(), "w1").await.unwrap();
    combined.extend(f.claim_as("w2", 64).await.leases);
    assert!(combined.len() >= 4 && combined.iter().all(|lease| lease.members.len() == 3));
}

pub async fn combinations_elsewhere_are_taken_over_and_more_seeds_add_larger_ones(f: Fixture) {
    f.submit(&sweep()).await;
    for lease in grid(&f).await.values() {
        succeed(&f, lease).await;
    }
    for _ in 0..4 {
        succeed(&f, &next(&f).await).await;
    }
    let again = f.submit(&sweep().replace("\"first\"", "\"second\"")).await;
    assert_eq!((again.added, again.reused), (12, 12));
    // Extending adds what a file with more seeds does.
    let mut larger = f.store.extend("first", 3).await.unwrap();
    let larger = within(larger.wait_for(|submitted| submitted.is_done())).await.unwrap().clone();
    assert_eq!((larger.planned, larger.added), (12 + 8, 8));
    assert_eq!(f.submit(&sweep().replace("seeds = 2", "seeds = 3")).await.added, 0);
    let leases = f.claim(64).await;
    assert_eq!(leases.len(), 4);
    for lease in &leases {
        succeed(&f, lease).await;
    }
    assert_eq!(next(&f).await.members.len(), 3);
    assert_eq!(f.store.trials("first", None, 0).await.unwrap().rows.len(), 20);
    // A new sweep that reuses nothing makes its own.
    let options = SubmitOptions { reuse: Reuse::Never, ..SubmitOptions::default() };
    f.submit_with(&sweep().replace("\"first\"", "\"third\""), options).await;
    assert!(
        f.claim(64).await.iter().filter(|lease| lease.sweep == "third").all(|lease| lease.members.is_empty())
    );
    let refused = f
        .store
        .act_on_trials("third", sortie_coordinator::store::TrialAction::Cancel, &filter("depth=3"), None)
        .await;
    assert!(refused.unwrap_err().to_string().contains("combine"));
}
