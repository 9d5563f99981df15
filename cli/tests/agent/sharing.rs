//! Trials that share a device: `--slots auto` as far as a GPU's memory goes, with a script for a trainer that says what one would need; and real
//! ones on the CPU, whose numbers do not depend on it.

use std::fs;
use std::path::Path;

use sortie_core::job::{ErrorClass, Outcome};
use sortie_core::trial::{TrialSpec, Work};

use crate::fake::{Fake, Heard, eventually};
use crate::scripted::Agent;
use crate::waiting::{numbers, scratch};
use crate::worker::{Worker, make_images, spec};

/// On a GPU of 24 GiB: says once it may that it needs 4.5 GiB, and ends once it may.
const TRIAL: &str = r#"
folder="${0%/*}"
touch "$folder/begun.$$"
while [ ! -e "$folder/measure" ]; do sleep 0.02; done
echo '{"memory":{"peak":4294967296,"held":4294967296,"free":20937965568,"total":25769803776}}'
while [ ! -e "$folder/go" ]; do sleep 0.02; done"#;
const SUCCEEDED: &str = "\necho '{\"outcome\":\"succeeded\"}'";

/// How many trials have begun.
fn begun(folder: &Path) -> usize {
    let entries = fs::read_dir(folder).unwrap().flatten();
    entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("begun.")).count()
}

async fn have_begun(agent: &Agent, count: usize) {
    eventually("trials that begin", || (begun(agent.folder.path()) >= count).then_some(())).await;
}

fn allow(agent: &Agent, what: &str) {
    fs::write(agent.folder.path().join(what), b"").unwrap();
}

/// Another shape than [`spec`]'s.
fn larger(seed: u64) -> TrialSpec {
    let mut trial = spec("Any", seed);
    if let Work::Finetune(settings) = &mut trial.work {
        settings.pixels = 64;
    }
    trial
}

fn preempted(outcome: &Outcome) -> Option<&str> {
    match outcome {
        Outcome::Failed { class: ErrorClass::Preempted, message } => Some(message),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_trial_is_alone_and_then_as_many_run_as_fit() {
    let agent = Agent::start_sharing(&format!("{TRIAL}{SUCCEEDED}"), 8).await;
    let tokens: Vec<i64> = (0..6).map(|seed| agent.fake.queue(&spec("Any", seed))).collect();
    have_begun(&agent, 1).await;
    // Long enough for any that would not wait.
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    assert_eq!(begun(agent.folder.path()), 1);
    allow(&agent, "measure");
    have_begun(&agent, 4).await;
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    assert_eq!(begun(agent.folder.path()), 4);
    // Only what runs is leased: another worker may have the rest.
    assert_eq!(tokens.iter().filter(|token| agent.fake.is_running(**token)).count(), 4);
    allow(&agent, "go");
    for token in tokens {
        assert_eq!(agent.fake.wait_for_outcome(token).await, Outcome::Succeeded);
    }
    agent.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trial_for_which_neighbours_left_no_memory_goes_back_and_fewer_share_the_device() {
    // The last of four; later it is one of three.
    let script = format!(
        r#"{TRIAL}
if mkdir "$folder/failed" 2>/dev/null; then
  echo '{{"outcome":{{"failed":{{"class":"out-of-memory","message":"CUDA out of memory"}}}}}}'; exit
fi
while [ ! -e "$folder/end" ]; do sleep 0.02; done{SUCCEEDED}"#
    );
    let agent = Agent::start_sharing(&script, 8).await;
    let tokens: Vec<i64> = (0..6).map(|seed| agent.fake.queue(&spec("Any", seed))).collect();
    allow(&agent, "measure");
    have_begun(&agent, 4).await;
    allow(&agent, "go");
    let failed =
        eventually("the out-of-memory", || tokens.iter().find_map(|token| agent.fake.outcome(*token))).await;
    let expected = "cuda:0 was shared by too many trials, and is by fewer now: CUDA out of memory";
    assert_eq!(preempted(&failed), Some(expected), "{failed:?}");
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    assert_eq!(begun(agent.folder.path()), 4, "three share it from now on, which run already");
    allow(&agent, "end");
    for token in tokens {
        let outcome = agent.fake.wait_for_outcome(token).await;
        assert!(outcome == Outcome::Succeeded || outcome == failed, "{outcome:?}");
    }
    agent.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trial_that_is_alone_has_itself_run_out_of_memory() {
    let script = r#"echo '{"outcome":{"failed":{"class":"out-of-memory","message":"CUDA out of memory"}}}'"#;
    let agent = Agent::start_sharing(script, 8).await;
    let token = agent.fake.queue(&spec("Any", 0));
    let message = "CUDA out of memory".to_owned();
    let expected = Outcome::Failed { class: ErrorClass::OutOfMemory, message };
    assert_eq!(agent.fake.wait_for_outcome(token).await, expected);
    agent.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trial_of_another_shape_waits_for_the_device_and_is_handed_back_at_the_end() {
    let agent = Agent::start_sharing(&format!("{TRIAL}{SUCCEEDED}"), 8).await;
    let first = agent.fake.queue(&spec("Any", 0));
    have_begun(&agent, 1).await;
    let others = [larger(1), larger(2)].map(|trial| agent.fake.queue(&trial));
    allow(&agent, "measure");
    // The worker asks for a second trial like the first, and gets one that must wait.
    eventually("its lease", || agent.fake.is_running(others[0]).then_some(())).await;
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    assert_eq!((begun(agent.folder.path()), agent.fake.is_running(others[1])), (1, false));
    let Agent { folder: _folder, fake, stop, task } = agent;
    stop.send_replace(sortie_worker::Stop::Gracefully);
    task.await.unwrap().unwrap();
    assert_eq!(fake.outcome(others[0]).as_ref().and_then(preempted), Some("the worker was asked to stop"));
    assert!(fake.outcome(first).is_some() && fake.outcome(others[1]).is_none());

    let agent = Agent::start_sharing(&format!("{TRIAL}{SUCCEEDED}"), 8).await;
    let tokens = [spec("Any", 0), larger(1), spec("Any", 2), larger(3)].map(|trial| agent.fake.queue(&trial));
    allow(&agent, "measure");
    allow(&agent, "go");
    for token in tokens {
        assert_eq!(agent.fake.wait_for_outcome(token).await, Outcome::Succeeded);
    }
    agent.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trial_beside_another_is_the_same_as_alone_to_the_byte() {
    let trials = [0, 1].map(|seed| {
        let mut trial = scratch(seed);
        if let Work::Finetune(settings) = &mut trial.work {
            (settings.steps, settings.evaluate_every) = (60, 30);
        }
        trial
    });
    let folder = tempfile::tempdir().unwrap();
    make_images(folder.path(), "Tiny");
    let mut told = Vec::new();
    for slots in ["1", "2"] {
        let fake = Fake::start().await;
        let worker = Worker::start(folder.path(), &fake.url(), &["--slots", slots]);
        let tokens = trials.each_ref().map(|trial| fake.queue(trial));
        for token in tokens {
            assert_eq!(fake.wait_for_outcome(token).await, Outcome::Succeeded, "{}", worker.stderr());
        }
        // In one heartbeat both are training, or none is.
        let train = |heard: &Heard| match heard {
            Heard::Heartbeat(steps) => {
                tokens.iter().all(|own| steps.iter().any(|(token, step)| token == own && *step > 0))
            }
            _ => false,
        };
        assert_eq!(fake.heard().iter().any(train), slots == "2");
        told.push(tokens.map(|token| numbers(&fake, token)));
    }
    assert_eq!(told[0], told[1]);
    assert_ne!(told[0][0], told[0][1]);
}
