//! Where a trial's checkpoints go, what its process is told of them, and when they are deleted.

use std::fs;
use std::path::Path;

use sortie_core::job::{ErrorClass, Outcome};
use sortie_core::pipe::Assignment;
use sortie_proto::v1;

use crate::fake::{Heard, eventually};
use crate::scripted::Agent;
use crate::worker::spec;

const SUCCEEDS: &str = r#"echo "$assignment" > "${0%/*}/assignment"; echo '{"outcome":"succeeded"}'"#;

fn url(folder: &Path) -> String {
    format!("file://{}", folder.display())
}

/// A folder with this mark.
fn store(mark: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("sortie-store"), format!("{mark}\n")).unwrap();
    folder
}

fn assignment(agent: &Agent) -> Assignment {
    serde_json::from_str(&fs::read_to_string(agent.folder.path().join("assignment")).unwrap()).unwrap()
}

/// Writes files where the trainer keeps a trial's checkpoints.
fn leave(root: &Path, trial: &str, names: &[&str]) {
    let folder = root.join("checkpoints").join(trial);
    fs::create_dir_all(&folder).unwrap();
    for name in names {
        fs::write(folder.join(name), "x").unwrap();
    }
}

fn left(root: &Path, trial: &str) -> Vec<String> {
    let files = fs::read_dir(root.join("checkpoints").join(trial)).into_iter().flatten().flatten();
    let mut names: Vec<String> = files.map(|file| file.file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

async fn told(agent: &Agent, place: &str) {
    let said = |heard: &Heard| matches!(heard, Heard::Register(request) if request.checkpoints == place);
    eventually("where checkpoints go", || agent.fake.heard().iter().any(said).then_some(())).await;
}

fn checkpoint(token: i64, key: &str) -> v1::Checkpoint {
    v1::Checkpoint { token, step: 3, key: key.to_owned(), digest: "0a".repeat(32) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trial_is_told_what_the_lease_says_and_its_checkpoints_go_when_it_has_an_end() {
    let store = store("right");
    let agent =
        Agent::start_with(SUCCEEDS, |script| script.store = (url(store.path()), "right".to_owned())).await;
    told(&agent, "shared").await;
    let trial = spec("Any", 0);
    let id = trial.hash().to_string();
    leave(
        store.path(),
        &id,
        &["1-5-own", "900-3-earlier", "900-6-not-offered", "901-3-another-sweeps", "10-3-another"],
    );
    let lease = v1::Lease {
        trial_id: id.clone(),
        spec: Some((&trial).into()),
        checkpoints: vec![
            checkpoint(900, "checkpoints/x/900-3"),
            checkpoint(899, "../../etc/passwd"),
            checkpoint(898, "/etc/passwd"),
        ],
        keep: Some(v1::Keep { weights: "both".to_owned(), logits: false, checkpoint_minutes: Some(5.0) }),
        kill_at: Some(12),
        ..v1::Lease::default()
    };
    let token = agent.fake.queue_lease(lease);
    assert_eq!(agent.fake.wait_for_outcome(token).await, Outcome::Succeeded);
    let told = assignment(&agent);
    assert_eq!((told.store.unwrap(), told.token.0, told.kill_at), (url(store.path()), token, Some(12)));
    assert_eq!((told.keep.weights.as_str(), told.keep.logits), ("both", false));
    assert_eq!(told.keep.checkpoint_minutes, 5.0);
    let offered: Vec<(i64, &str)> =
        told.checkpoints.iter().map(|offered| (offered.token.0, offered.key.as_str())).collect();
    assert_eq!(offered, [(900, "checkpoints/x/900-3")], "a key that leads elsewhere is not passed on");
    let others = ["10-3-another", "901-3-another-sweeps"];
    eventually("the end of its checkpoints", || (left(store.path(), &id) == others).then_some(())).await;
    agent.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trial_that_failed_keeps_its_checkpoints() {
    let store = store("right");
    let agent =
        Agent::start_with("exit 3", |script| script.store = (url(store.path()), "right".to_owned())).await;
    let trial = spec("Any", 0);
    let id = trial.hash().to_string();
    leave(store.path(), &id, &["1-5-own"]);
    let token = agent.fake.queue(&trial);
    assert!(matches!(
        agent.fake.wait_for_outcome(token).await,
        Outcome::Failed { class: ErrorClass::Transient, .. }
    ));
    agent.end().await;
    assert_eq!(left(store.path(), &id), ["1-5-own"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_store_is_not_shared_checkpoints_stay_with_the_worker() {
    let store = store("another");
    for offered in [url(store.path()), url(&store.path().join("gone")), String::new()] {
        let agent =
            Agent::start_with(SUCCEEDS, |script| script.store = (offered.clone(), "right".to_owned())).await;
        told(&agent, "local").await;
        let trial = spec("Any", 0);
        let own = agent.folder.path().join("artifacts");
        leave(&own, &trial.hash().to_string(), &["1-5-own"]);
        let token = agent.fake.queue(&trial);
        assert_eq!(agent.fake.wait_for_outcome(token).await, Outcome::Succeeded);
        assert_eq!(assignment(&agent).store.unwrap(), url(&own));
        eventually("the end of its checkpoints", || {
            left(&own, &trial.hash().to_string()).is_empty().then_some(())
        })
        .await;
        agent.end().await;
    }
    assert_eq!(
        fs::read_dir(store.path()).unwrap().count(),
        1,
        "nothing was written into a store that is not ours"
    );
}

const EVENTS: &str = r#"
echo '{"fingerprint":{"software":"s","libtorch":"2","device":"cpu","threads":2,"dataset_digest":"","weights_digest":""}}'
echo '{"resumed":{"token":7,"step":4,"exact":false}}'
echo '{"artifact":{"kind":"checkpoint","method":"plain","step":6,"key":"checkpoints/x/1-6","digest":"aa","bytes":3}}'
"#;

#[tokio::test(flavor = "multi_thread")]
async fn what_a_trial_left_and_where_it_went_on_is_told_once() {
    let agent = Agent::start(&format!(r#"{EVENTS} echo '{{"outcome":"succeeded"}}'"#)).await;
    agent.fake.script(|script| script.reports_lost = 1);
    let token = agent.fake.queue(&spec("Any", 0));
    assert_eq!(agent.fake.wait_for_outcome(token).await, Outcome::Succeeded);
    let batches = agent.fake.batches(token);
    let resumed: Vec<_> = batches.iter().filter_map(|batch| batch.resumed).collect();
    assert_eq!(resumed, [v1::Resumed { token: 7, step: 4, exact: false }]);
    let artifacts: Vec<_> = batches
        .iter()
        .flat_map(|batch| &batch.artifacts)
        .map(|found| (found.kind.as_str(), found.step))
        .collect();
    assert_eq!(artifacts, [("checkpoint", 6)]);
    agent.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_trial_says_after_it_was_asked_to_stop_is_delivered_before_it_is_handed_back() {
    let script = r#"
saved() {
  echo '{"progress":{"step":9}}'; echo '{"losses":[{"step":9,"loss":0.5}]}'
  echo '{"artifact":{"kind":"checkpoint","method":"plain","step":9,"key":"checkpoints/x/1-9","digest":"bb","bytes":3}}'
  echo '{"outcome":{"failed":{"class":"preempted","message":"saved after step 9"}}}'; exit 0
}
trap saved TERM; touch "${0%/*}/ready"; while true; do sleep 0.05; done"#;
    let agent = Agent::start(script).await;
    let token = agent.fake.queue(&spec("Any", 0));
    eventually("its start", || agent.folder.path().join("ready").exists().then_some(())).await;
    let Agent { folder: _folder, fake, stop, task } = agent;
    stop.send_replace(sortie_worker::Stop::Gracefully);
    task.await.unwrap().unwrap();
    let Some(Outcome::Failed { class, message }) = fake.outcome(token) else { panic!("{:?}", fake.heard()) };
    assert_eq!((class, message.as_str()), (ErrorClass::Preempted, "saved after step 9"));
    let told = fake.batches(token);
    let left: Vec<u64> =
        told.iter().flat_map(|batch| &batch.artifacts).map(|artifact| artifact.step).collect();
    let losses: Vec<u64> = told.iter().flat_map(|batch| &batch.losses).map(|loss| loss.step).collect();
    assert_eq!((left, losses), (vec![9], vec![9]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_ends_where_its_keys_would_go_to_a_place_that_nobody_allowed() {
    let offered = "s3://somebody/prefix";
    let agent =
        Agent::start_with(SUCCEEDS, |script| script.store = (offered.to_owned(), "right".to_owned())).await;
    let ended = tokio::time::timeout(std::time::Duration::from_secs(60), agent.task).await.unwrap().unwrap();
    let said = "the coordinator keeps artifacts in s3://somebody/prefix, which this worker may not use: its keys would go there. \
                Allow it by --store-allow s3://somebody/prefix";
    assert_eq!(ended.unwrap_err().to_string(), said);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trial_whose_folders_lie_outside_of_the_data_root_is_not_run() {
    for name in ["../Any", "/etc", ".."] {
        let agent = Agent::start(SUCCEEDS).await;
        let token = agent.fake.queue(&spec(name, 0));
        let ended =
            tokio::time::timeout(std::time::Duration::from_secs(60), agent.task).await.unwrap().unwrap();
        let said = ended.unwrap_err().to_string();
        assert!(said.contains(&format!("reads {name:?}, which is no name of a folder")), "{said}");
        assert_ne!(agent.fake.outcome(token), Some(Outcome::Succeeded));
    }
}
