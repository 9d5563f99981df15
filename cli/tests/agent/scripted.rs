//! The agent with a trial process that is a shell script: whatever a process can do to its agent, without images and weights.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sortie_core::job::{ErrorClass, Outcome};
use sortie_core::trial::PROTOCOL_VERSION;
use sortie_worker::launcher::{self, DeviceSelection, Launcher, SlotCount, SlotPlan};
use sortie_worker::{self as agent, AgentConfig, Stop};
use tokio::sync::watch;

use crate::fake::{Fake, Script, eventually};

/// The build that the programs under test are of.
const BUILD: &str = env!("SORTIE_BUILD");
use crate::worker::spec;

pub struct Agent {
    pub folder: tempfile::TempDir,
    pub fake: Fake,
    pub stop: watch::Sender<Stop>,
    pub task: tokio::task::JoinHandle<Result<(), agent::AgentError>>,
}

impl Agent {
    /// Runs an agent whose trials are this script, until it is stopped.
    pub async fn start(script: &str) -> Self {
        Self::start_for(script, None).await
    }

    /// Runs an agent that has only so much time left.
    pub async fn start_for(script: &str, time_left: Option<Duration>) -> Self {
        Self::begin(script, time_left, &[], 1, |_| {}).await
    }

    /// Runs an agent against a coordinator that is prepared for it.
    pub async fn start_with(script: &str, prepare: impl FnOnce(&mut Script)) -> Self {
        Self::begin(script, None, &[], 1, prepare).await
    }

    /// Runs an agent with a slot on each of these GPUs.
    pub async fn start_on(script: &str, gpus: &[&str]) -> Self {
        Self::begin(script, None, gpus, 1, |_| {}).await
    }

    /// Runs an agent on a GPU that at most so many trials share, as far as its memory goes.
    pub async fn start_sharing(script: &str, slots: usize) -> Self {
        Self::begin(script, None, &["GPU-a"], 2 * slots, |_| {}).await
    }

    /// On the CPU where no GPU is given.
    async fn begin(
        script: &str,
        time_left: Option<Duration>,
        gpus: &[&str],
        processors: usize,
        prepare: impl FnOnce(&mut Script),
    ) -> Self {
        let gpus: Vec<String> = gpus.iter().map(|gpu| (*gpu).to_owned()).collect();
        let devices = if gpus.is_empty() { DeviceSelection::Cpu } else { DeviceSelection::All };
        let fake = Fake::start().await;
        fake.script(prepare);
        let folder = tempfile::tempdir().unwrap();
        let program = write_script(folder.path(), script);
        let SlotPlan { slots, by_memory } =
            launcher::plan(&devices, &gpus, SlotCount::Auto, processors).unwrap();
        let config = AgentConfig {
            coordinator: sortie_access::Target::insecure(fake.address.to_string().parse().unwrap()),
            data: folder.path().to_owned(),
            cache: folder.path().to_owned(),
            slots,
            by_memory,
            threads: 3,
            sweep: None,
            exit_when_idle: false,
            launcher: launcher(folder.path(), program).into(),
            observer: Default::default(),
            command_guard: Some(env!("CARGO_BIN_EXE_sortie").into()),
            allowed_stores: Vec::new(),
            machine: None,
            tags: Vec::new(),
            find_dataset: |_, _| Ok(()),
            gpu_memory_gib: 0.0,
            grace: Duration::from_secs(1),
            time_left,
            time_for_unknown: Duration::from_secs(1),
        };
        let (stop, stopping) = watch::channel(Stop::No);
        let task = tokio::spawn(agent::run(config, stopping));
        Self { folder, fake, stop, task }
    }

    pub async fn end(self) {
        self.stop.send_replace(Stop::Gracefully);
        self.task.await.unwrap().unwrap();
    }
}

/// The script is written by another process: a file that this one, with its threads that start programs, has open for writing cannot be
/// run ("text file busy").
fn write_script(folder: &Path, script: &str) -> PathBuf {
    let (text, program) = (folder.join("script"), folder.join("program"));
    let probe = serde_json::json!({
        "trainer": { "build": BUILD, "protocol_version": PROTOCOL_VERSION, "libtorch": "2.11.0" },
        "folder": folder, "cuda": null, "driver": null,
    });
    let probe = format!("if [ $1 = probe ]; then echo '{probe}'; exit; fi");
    fs::write(&text, format!("#!/bin/sh\n{probe}\nread assignment\n{script}\n")).unwrap();
    assert!(std::process::Command::new("cp").arg(&text).arg(&program).status().unwrap().success());
    fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).unwrap();
    program
}

/// Finds that program, which needs no libtorch.
fn launcher(folder: &Path, program: PathBuf) -> Launcher {
    let libtorch = folder.join("libtorch");
    fs::create_dir(&libtorch).unwrap();
    fs::write(libtorch.join("libtorch_cpu.so"), "").unwrap();
    Launcher::new(program, BUILD, Some(libtorch), Vec::new())
}

async fn failure_of(script: &str) -> (ErrorClass, String) {
    let agent = Agent::start(script).await;
    let token = agent.fake.queue(&spec("Any", 0));
    let outcome = agent.fake.wait_for_outcome(token).await;
    agent.end().await;
    match outcome {
        Outcome::Failed { class, message } => (class, message),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gpu_that_does_not_work_any_more_gets_no_more_trials() {
    let gone = r#"echo '{"outcome":{"failed":{"class":"device","message":"it fell off the bus"}}}'"#;
    let script = format!(
        r#"if [ "$CUDA_VISIBLE_DEVICES" = GPU-a ]; then {gone}; else sleep 1; echo '{{"outcome":"succeeded"}}'; fi"#
    );
    let agent = Agent::start_on(&script, &["GPU-a", "GPU-b"]).await;
    let tokens = [0, 1, 2, 3].map(|seed| agent.fake.queue(&spec("Any", seed)));
    let mut outcomes = Vec::new();
    for token in tokens {
        outcomes.push(agent.fake.wait_for_outcome(token).await);
    }
    // The worker has another one: its machine is fit, and the trial was handed back.
    let lost = outcomes.iter().position(|outcome| *outcome != Outcome::Succeeded).unwrap();
    let message = "cuda:0 does not work any more: it fell off the bus".to_owned();
    assert_eq!(
        outcomes.remove(lost),
        Outcome::Failed { class: ErrorClass::Preempted, message: message.clone() }
    );
    assert_eq!(outcomes, [Outcome::Succeeded, Outcome::Succeeded, Outcome::Succeeded]);
    agent.end().await;

    // With its last device, the worker ends.
    let agent = Agent::start_on(&script, &["GPU-a"]).await;
    let token = agent.fake.queue(&spec("Any", 0));
    let ended = tokio::time::timeout(Duration::from_secs(60), agent.task).await.unwrap().unwrap();
    let said = "no device of this worker works any more: cuda:0: it fell off the bus";
    assert_eq!(ended.unwrap_err().to_string(), said);
    assert_eq!(agent.fake.outcome(token), Some(Outcome::Failed { class: ErrorClass::Device, message }));
}

#[tokio::test(flavor = "multi_thread")]
async fn heartbeats_say_what_comes_before_the_first_step() {
    let script = r#"
echo '{"preparation":{"what":"decoding","done":300,"total":1244}}'
while [ ! -e "${0%/*}/go" ]; do sleep 0.05; done
echo '{"progress":{"step":0}}'
sleep 600"#;
    let agent = Agent::start(script).await;
    agent.fake.queue(&spec("Any", 0));
    let said = eventually("a preparation", || agent.fake.script(|script| script.preparation.clone())).await;
    assert_eq!((said.what.as_str(), said.done, said.total), ("decoding", 300, 1_244));
    fs::write(agent.folder.path().join("go"), b"").unwrap();
    let over = || agent.fake.script(|script| script.preparation.is_none()).then_some(());
    eventually("the first step", over).await;
    agent.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_end_of_a_process_has_its_class() {
    let cases = [
        (
            "echo one >&2; echo 'two words' >&2; exit 3",
            ErrorClass::Transient,
            "crashed, exit 3; it printed last: one | two words",
        ),
        ("kill -9 $$", ErrorClass::Transient, "signal 9 (SIGKILL)"),
        ("kill -SEGV $$", ErrorClass::Transient, "signal 11 (SIGSEGV)"),
        ("exit 0", ErrorClass::Transient, "ended with exit 0 and reported no result"),
        (
            r#"echo '{"outcome":{"failed":{"class":"out-of-memory","message":"CUDA"}}}'; exit 1"#,
            ErrorClass::OutOfMemory,
            "CUDA",
        ),
        (
            r#"echo '{"outcome":{"failed":{"class":"bad-config","message":"no GPU"}}}'"#,
            ErrorClass::BadConfig,
            "no GPU",
        ),
        (
            r#"echo '{"progress":{"step":1,"more":2}}'; sleep 60"#,
            ErrorClass::Transient,
            "no event: unknown field `more`",
        ),
        ("echo '{'; sleep 60", ErrorClass::Transient, "no event"),
        (
            "printf '{'; head -c 2000000 /dev/zero | tr '\\0' x; echo; sleep 60",
            ErrorClass::Transient,
            "more than 1048576 bytes in one line",
        ),
    ];
    for (script, class, text) in cases {
        let (told, message) = failure_of(script).await;
        assert_eq!(told, class, "{script}: {message}");
        assert!(message.contains(text) && message.lines().count() == 1, "{script}: {message}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_event_goes_to_the_log_and_the_environment_is_as_promised() {
    let script = r#"echo loading; echo "$CUDA_VISIBLE_DEVICES/$OMP_NUM_THREADS/$MALLOC_MMAP_MAX_" >&2; echo "$assignment" >&2
echo '{"outcome":{"diverged":{"step":4}}}'"#;
    let agent = Agent::start(script).await;
    let trial = spec("Any", 0);
    let token = agent.fake.queue(&trial);
    assert_eq!(agent.fake.wait_for_outcome(token).await, Outcome::Diverged { step: 4 });
    let log =
        fs::read_to_string(agent.folder.path().join(format!("logs/{}-{token}.log", trial.hash()))).unwrap();
    assert!(
        log.contains("loading\n") && log.contains("/3/0\n") && log.contains(r#""device":"cpu""#),
        "{log}"
    );
    agent.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trial_trains_through_an_outage_and_every_row_arrives_once_and_in_order() {
    // 600 rows in all, some before, some while and some after the coordinator is away.
    let script = r#"
n=0
while [ $n -lt 600 ]; do
  echo "{\"progress\":{\"step\":$n}}"; echo "{\"losses\":[{\"step\":$n,\"loss\":0.5}]}"
  [ $n = 100 ] && while [ ! -e "${0%/*}/go" ]; do sleep 0.05; done
  n=$((n+1))
done
touch "${0%/*}/trained"
echo '{"outcome":"succeeded"}'"#;
    let mut agent = Agent::start(script).await;
    let token = agent.fake.queue(&spec("Any", 0));
    eventually("the first rows", || agent.fake.batches(token).first().map(|_| ())).await;
    agent.fake.kill();
    fs::write(agent.folder.path().join("go"), b"").unwrap();
    eventually("the end of training", || agent.folder.path().join("trained").exists().then_some(())).await;
    agent.fake.script(|script| script.reports_lost = 2);
    agent.fake.resume().await;
    assert_eq!(agent.fake.wait_for_outcome(token).await, Outcome::Succeeded);
    let batches = agent.fake.batches(token);
    let sequences: Vec<u64> = batches.iter().map(|batch| batch.sequence).collect();
    assert_eq!(sequences, (1..=batches.len() as u64).collect::<Vec<_>>());
    let steps: Vec<u64> =
        batches.iter().flat_map(|batch| batch.losses.iter().map(|loss| loss.step)).collect();
    assert_eq!(steps, (0..600).collect::<Vec<_>>());
    agent.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_report_ends_the_attempt_and_says_why() {
    let agent = Agent::start(r#"echo '{"losses":[{"step":0,"loss":0.5}]}'; sleep 60"#).await;
    agent.fake.script(|script| script.refuse_reports = true);
    let token = agent.fake.queue(&spec("Any", 0));
    let outcome = agent.fake.wait_for_outcome(token).await;
    let Outcome::Failed { class: ErrorClass::Transient, message } = outcome else { panic!("{outcome:?}") };
    assert_eq!(message, "the coordinator refused a report: this batch is odd");
    agent.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_is_complete_is_told_even_while_stopping_and_a_process_that_ignores_sigterm_is_killed()
{
    let agent = Agent::start(r#"trap '' TERM; echo '{"outcome":"succeeded"}'; touch "${0%/*}/said"; while true; do sleep 0.1; done"#).await;
    let token = agent.fake.queue(&spec("Any", 0));
    eventually("the outcome", || agent.folder.path().join("said").exists().then_some(())).await;
    let Agent { folder: _folder, fake, stop, task } = agent;
    stop.send_replace(Stop::Gracefully);
    task.await.unwrap().unwrap();
    assert_eq!(fake.outcome(token), Some(Outcome::Succeeded));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_trial_leaves_behind_dies_with_it() {
    let agent = Agent::start(r#"sleep 600 & echo $! > "${0%/*}/left"; echo '{"outcome":"succeeded"}'"#).await;
    let token = agent.fake.queue(&spec("Any", 0));
    assert_eq!(agent.fake.wait_for_outcome(token).await, Outcome::Succeeded);
    let left = fs::read_to_string(agent.folder.path().join("left")).unwrap();
    let command = PathBuf::from("/proc").join(left.trim()).join("cmdline");
    // A process that is dead and not collected yet has an empty command line.
    eventually("its end", || fs::read(&command).map_or(true, |line| line.is_empty()).then_some(())).await;
    agent.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trainer_of_another_build_is_refused_and_the_worker_ends_when_idle() {
    let script = r#"echo '{"handshake":{"build":"0.1.0-another","protocol_version":3,"libtorch":"2.11.0"}}'; sleep 60"#;
    let agent = Agent::start(script).await;
    let token = agent.fake.queue(&spec("Any", 0));
    let outcome = agent.fake.wait_for_outcome(token).await;
    let Outcome::Failed { class, message } = outcome else { panic!("{outcome:?}") };
    // It costs the trial nothing.
    assert_eq!(class, ErrorClass::Preempted);
    let line = format!(
        "the trainer is of build 0.1.0-another now and this worker of build {BUILD}: start the worker again"
    );
    assert_eq!(message, line);
    assert_eq!(agent.task.await.unwrap().unwrap_err().to_string(), line);
}
