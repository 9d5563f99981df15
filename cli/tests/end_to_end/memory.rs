//! `micro_batch = "auto"` where memory is not enough: the trial goes on in parts, and so does the attempt after one that was killed.

use crate::support::{World, sweep};
use crate::{query, wait_for_a_shared_store};

const ATTEMPTS: &str = "SELECT outcome, micro_batch FROM attempts ORDER BY token";

#[test]
fn a_trial_without_memory_for_whole_batches_is_killed_and_goes_on_in_the_same_parts() {
    let Some(world) = World::new() else { return };
    let text = sweep("parts", 9, "1").replace("[grid]", "micro_batch = \"auto\"\n[grid]");
    world.submit_text("parts", &text, &["--data", world.data().to_str().unwrap()]);
    let trial = world.json(&["trials", "parts", "--json"])["trials"][0]["trial"].as_str().unwrap().to_owned();
    world.json(&["cancel", "parts", "--json"]);
    // Of the four images of a step, memory holds one.
    let mut worker = world.start_worker_where(&[], &[("SORTIE_TEST_IMAGES_MAX", "1")]);
    wait_for_a_shared_store(&world);
    let certificate = world.json(&["verify", &trial[..8], "--kill-at", "7", "--steps", "8", "--json"]);
    assert_eq!(
        (certificate["identical"].as_bool(), certificate["resumed_at"].as_u64()),
        (Some(true), Some(4)),
        "{certificate}{}",
        world.logs()
    );
    let attempts: Vec<(String, Option<i64>)> = query(&world, ATTEMPTS);
    let told: Vec<(&str, Option<i64>)> =
        attempts.iter().map(|(outcome, parts)| (outcome.as_str(), *parts)).collect();
    // The run without interruption, the one that was killed, and the one that went on from its checkpoint.
    let expected = [("succeeded", Some(1)), ("failed", Some(1)), ("succeeded", Some(1))];
    assert_eq!(told, expected, "{}", world.logs());
    worker.kill().unwrap();
    worker.wait().unwrap();
}
