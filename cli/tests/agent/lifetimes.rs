//! Outages, stops and deaths: of the coordinator, of the agent, and of the time that it has.

use std::fs;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::Signal;
use sortie_core::job::{ErrorClass, Outcome};
use sortie_testkit::processes::is_stopped;

use crate::fake::{Fake, Heard, eventually};
use crate::scripted::Agent;
use crate::worker::{Worker, is_alive, make_endless, process_in, shell, spec, wait_for_death};

#[tokio::test(flavor = "multi_thread")]
async fn a_long_outage_goes_to_disk_and_every_row_arrives_once_and_in_order() {
    // Far more rows than memory holds, all of them while the coordinator is away.
    let script = r#"
echo '{"losses":[{"step":0,"loss":0.5}]}'
while [ ! -e "${0%/*}/go" ]; do sleep 0.05; done
awk 'BEGIN { for (n = 1; n < 30000; n += 3) printf "{\"losses\":[{\"step\":%d,\"loss\":0.5},{\"step\":%d,\"loss\":0.5},{\"step\":%d,\"loss\":0.5}]}\n", n, n+1, n+2 }'
touch "${0%/*}/trained"
echo '{"outcome":"succeeded"}'"#;
    let mut agent = Agent::start(script).await;
    let token = agent.fake.queue(&spec("Any", 0));
    eventually("the first row", || agent.fake.batches(token).first().map(|_| ())).await;
    agent.fake.kill();
    fs::write(agent.folder.path().join("go"), b"").unwrap();
    // The process is not held up: it ends its training while nobody listens.
    eventually("the end of training", || agent.folder.path().join("trained").exists().then_some(())).await;
    let homes = || {
        fs::read_dir(agent.folder.path().join("agents"))
            .unwrap()
            .flatten()
            .filter(|entry| entry.path().is_dir())
    };
    let reports =
        || homes().map(|home| home.path().join(format!("{token}.reports"))).find(|path| path.exists());
    let on_disk = eventually("reports on disk", || reports().and_then(|path| path.metadata().ok())).await;
    assert!(on_disk.len() > 100_000, "{}", on_disk.len());
    agent.fake.script(|script| script.reports_lost = 3);
    agent.fake.resume().await;
    assert_eq!(agent.fake.wait_for_outcome(token).await, Outcome::Succeeded);
    let batches = agent.fake.batches(token);
    let sequences: Vec<u64> = batches.iter().map(|batch| batch.sequence).collect();
    assert_eq!(sequences, (1..=batches.len() as u64).collect::<Vec<_>>());
    let steps: Vec<u64> =
        batches.iter().flat_map(|batch| batch.losses.iter().map(|loss| loss.step)).collect();
    assert_eq!(steps, (0..=30_000).collect::<Vec<_>>());
    eventually("a clean disk", || reports().is_none().then_some(())).await;
    agent.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn trials_are_handed_back_before_the_time_is_up_and_none_is_started_that_cannot_finish() {
    // A grace of 1 s and a reserve of 5 s lie before the end. Of the rest, an unknown trial needs 1 s.
    let agent = Agent::start_for("sleep 600", Some(Duration::from_millis(6_500))).await;
    let token = agent.fake.queue(&spec("Any", 0));
    agent.task.await.unwrap().unwrap();
    assert_eq!(agent.fake.outcome(token), None);
    assert!(!agent.fake.heard().iter().any(|heard| matches!(heard, Heard::Lease(_))));

    let agent = Agent::start_for("sleep 600", Some(Duration::from_secs(9))).await;
    let token = agent.fake.queue(&spec("Any", 0));
    let ended = tokio::time::timeout(Duration::from_secs(8), agent.task).await;
    ended.unwrap().unwrap().unwrap();
    let outcome = agent.fake.outcome(token);
    assert!(matches!(outcome, Some(Outcome::Failed { class: ErrorClass::Preempted, .. })), "{outcome:?}");
    assert_eq!(agent.fake.heard().last(), Some(&Heard::Leave));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_was_stopped_and_goes_on_after_its_lease_was_lost_never_writes() {
    let fake = Fake::start().await;
    let folder = tempfile::tempdir().unwrap();
    let ticking = r#"n=0; while true; do echo "{\"step\":$n,\"loss\":0.5}"; n=$((n+1)); sleep 0.02; done"#;
    let script = format!("echo $$ > {}; {ticking}", folder.path().join("pid").display());
    let lost = fake.queue(&shell(&script, &[], None));
    let worker = Worker::start(folder.path(), &fake.url(), &["--allow-commands"]);
    let pid = process_in(&folder.path().join("pid")).await;
    eventually("a report", || (fake.batches(lost).len() > 1).then_some(())).await;
    worker.signal(Signal::STOP);
    eventually("the stop", || is_stopped(worker.child.id()).then_some(())).await;
    // Somebody else takes the trial while the agent sleeps; its process does not.
    fake.script(|script| script.stale.insert(lost));
    let before = fake.batches(lost).len();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(is_alive(pid));
    worker.signal(Signal::CONT);
    let gone = async { eventually("its end", || (!is_alive(pid)).then_some(())).await };
    tokio::time::timeout(Duration::from_secs(5), gone).await.unwrap();
    // The worker lives on and takes the next one.
    let next = fake.queue(&shell(r#"echo '{"step":0,"domain":"oil","split":"in","value":1}'"#, &[], None));
    assert_eq!(fake.wait_for_outcome(next).await, Outcome::Succeeded);
    assert_eq!((fake.batches(lost).len(), fake.outcome(lost)), (before, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_agent_ends_what_its_dead_predecessor_left() {
    let fake = Fake::start().await;
    let folder = tempfile::tempdir().unwrap();
    make_endless(folder.path(), "Endless");
    fake.queue(&spec("Endless", 0));
    let mut worker = Worker::start(folder.path(), &fake.url(), &[]);
    let homes = || {
        fs::read_dir(folder.path().join("cache/agents"))
            .unwrap()
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.is_dir())
    };
    let record_of = |worker: &Worker| {
        let pid = worker.child.id();
        homes()
            .map(|home| home.join("running.json"))
            .find(|path| fs::read_to_string(path).is_ok_and(|text| text.contains(&format!("\"pid\":{pid},"))))
    };
    let trial = worker.trial().await;
    let noted = |path: std::path::PathBuf| {
        fs::read_to_string(&path)
            .is_ok_and(|text| text.contains(&format!("\"pid\":{trial},")))
            .then_some(path)
    };
    // Another agent that shares the cache, and lives on.
    let other = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(folder.path().join("cache"), other.path().join("cache")).unwrap();
    let living = Worker::start(other.path(), &fake.url(), &[]);
    let record = eventually("a note of the trial", || record_of(&worker).and_then(noted)).await;
    eventually("the other agent's folder", || record_of(&living)).await;
    worker.child.kill().unwrap();
    worker.child.wait().unwrap();
    wait_for_death(trial).await;

    // No trial outlives its agent by itself; one that did would stand in the record like this.
    let mut left = std::process::Command::new("sleep")
        .arg("600")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .unwrap();
    let stat = fs::read_to_string(format!("/proc/{}/stat", left.id())).unwrap();
    let started: u64 = stat.rsplit_once(')').unwrap().1.split_whitespace().nth(19).unwrap().parse().unwrap();
    let mut text: serde_json::Value = serde_json::from_str(&fs::read_to_string(&record).unwrap()).unwrap();
    text["groups"] = serde_json::json!([{ "pid": left.id(), "started": started }]);
    fs::write(&record, text.to_string()).unwrap();
    let next = Worker::start(folder.path(), &fake.url(), &[]);
    let ended = eventually("its end", || left.try_wait().unwrap()).await;
    assert_eq!(ended.signal(), Some(9));
    eventually("a line", || {
        next.stderr().contains("killed a trial that its dead agent had left").then_some(())
    })
    .await;
    eventually("two folders", || {
        (homes().count() == 2 && !record.exists() && record_of(&living).is_some()).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_set_aside_says_so_once() {
    let fake = Fake::start().await;
    let folder = tempfile::tempdir().unwrap();
    fake.script(|script| script.set_aside = "5 attempts in a row failed".to_owned());
    let worker = Worker::start(folder.path(), &fake.url(), &["--slots", "2"]);
    for seed in 0..3 {
        let token = fake.queue(&spec("Gone", seed));
        fake.wait_for_outcome(token).await;
    }
    let stderr = worker.stderr();
    assert_eq!(stderr.matches("the coordinator has no trials for this worker").count(), 1, "{stderr}");
    fake.script(|script| script.set_aside.clear());
    fake.queue(&spec("Gone", 9));
    eventually("better news", || {
        worker.stderr().contains("the coordinator gives this worker trials again").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_folder_that_cannot_be_used_is_named() {
    let fake = Fake::start().await;
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("cache"), b"a file").unwrap();
    let mut worker = Worker::start(folder.path(), &fake.url(), &[]);
    assert_eq!(worker.ended().await.code(), Some(1));
    let stderr = worker.stderr();
    assert!(
        stderr.starts_with("error: cannot use the cache folder") && stderr.lines().count() == 1,
        "{stderr}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_heartbeat_that_crosses_the_end_of_a_trial_warns_of_nothing() {
    let fake = Fake::start().await;
    let folder = tempfile::tempdir().unwrap();
    // The coordinator hears the end and takes its time to say so; heartbeats meanwhile are told that the trial is no longer held.
    fake.script(|script| script.slow_completes = true);
    let token = fake.queue(&spec("Gone", 0));
    let mut worker = Worker::start(folder.path(), &fake.url(), &["--exit-when-idle"]);
    let outcome = fake.wait_for_outcome(token).await;
    assert!(matches!(outcome, Outcome::Failed { class: ErrorClass::Machine, .. }));
    assert_eq!(worker.ended().await.code(), Some(0), "{}", worker.stderr());
    let stderr = worker.stderr();
    let crossed = |heard: &Heard| matches!(heard, Heard::Heartbeat(attempts) if attempts.iter().any(|(of, _)| *of == token));
    let told = fake.heard().iter().position(|heard| matches!(heard, Heard::Complete(..))).unwrap();
    assert!(fake.heard()[told..].iter().any(crossed), "no heartbeat crossed");
    assert!(!stderr.contains("lease lost") && !stderr.contains("was not reported"), "{stderr}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_begun_before_a_restore_is_refused_and_the_worker_goes_on_with_the_restored_database() {
    let mut fake = Fake::start().await;
    fake.script(|script| script.incarnation = 11);
    let folder = tempfile::tempdir().unwrap();
    let pids = ["running", "ending"].map(|name| folder.path().join(name));
    // One runs on and has nothing to report; the other ends during the outage, so that its end waits to be delivered.
    let silent = r#"echo '{"step":0,"loss":0.5}'; sleep 600"#;
    let go = folder.path().join("go");
    let ending = format!(
        "while [ ! -e {} ]; do sleep 0.05; done; echo '{{\"step\":0,\"domain\":\"oil\",\"split\":\"in\",\"value\":0.5}}'",
        go.display()
    );
    let tokens: Vec<i64> = [silent, ending.as_str()]
        .iter()
        .zip(&pids)
        .map(|(script, pid)| {
            fake.queue(&shell(&format!("echo $$ > {}; {script}", pid.display()), &["oil"], None))
        })
        .collect();
    let worker = Worker::start(folder.path(), &fake.url(), &["--allow-commands", "--slots", "2"]);
    let running = process_in(&pids[0]).await;
    let other = process_in(&pids[1]).await;
    eventually("reports", || (!fake.batches(tokens[0]).is_empty()).then_some(())).await;
    fake.kill();
    fs::write(&go, "").unwrap();
    wait_for_death(other).await;
    let heard = fake.heard().len();
    // The same tokens mean nothing, or something else, in the restored database: the first is issued again.
    fake.script(|script| {
        script.incarnation = 12;
        script.forget(tokens[0] - 1);
    });
    let again = fake.queue(&shell(
        "echo '{\"step\":0,\"domain\":\"oil\",\"split\":\"in\",\"value\":1}'",
        &["oil"],
        None,
    ));
    assert_eq!(again, tokens[0]);
    fake.resume().await;
    wait_for_death(running).await;
    assert_eq!(fake.wait_for_outcome(again).await, Outcome::Succeeded, "{}", worker.stderr());
    let heard = &fake.heard()[heard..];
    let registered = heard.iter().filter(|heard| matches!(heard, Heard::Register(_))).count();
    assert!(registered >= 1, "{heard:?}");
    // Nothing of the old attempts was stored, under either token.
    let losses = heard.iter().filter(|heard| match heard {
        Heard::Report(_, batch) | Heard::Complete(_, Some(batch), _) => !batch.losses.is_empty(),
        _ => false,
    });
    assert_eq!(losses.count(), 0, "{heard:?}");
    let ends = heard.iter().filter(|heard| matches!(heard, Heard::Complete(..))).count();
    assert_eq!(ends, 1, "{heard:?}");
    let stderr = worker.stderr();
    assert!(stderr.contains("lease lost") || stderr.contains("lease was lost"), "{stderr}");
}
