use std::fs;
use std::path::Path;

use sortie_artifacts::folder_url;
use sortie_core::artifact::CheckpointRef;
use sortie_core::keys::Incarnation;
use tempfile::TempDir;

use super::super::restore;
use super::*;
use crate::registry::AttemptKey;

const TRIAL: &str = "14c2b2ccaf82d77d2ecd00acfb58823c";
const LIMIT: Duration = Duration::from_secs(60);

/// A store, and the caches of two machines.
struct Machines {
    folder: TempDir,
    store: ArtifactStore,
}

/// An attempt and what it found: the last attempt, and the content of the file `last`.
struct Attempt {
    keeper: CheckpointKeeper,
    from: Option<AttemptToken>,
    found: Option<String>,
}

impl Machines {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = ArtifactStore::create(&folder_url(&folder.path().join("store")).unwrap()).unwrap();
        Self { folder, store }
    }

    fn cache(&self, machine: &str) -> std::path::PathBuf {
        self.folder.path().join(machine)
    }

    async fn attempt(&self, machine: &str, token: i64, offered: &[&Artifact], is_shared: bool) -> Attempt {
        let (trial, token) = (TRIAL.parse().unwrap(), AttemptToken(token));
        let first = AttemptKey { incarnation: Incarnation(1), token: AttemptToken(1) };
        let folder = TrialFolder::open(&self.cache(machine), trial, first).await.unwrap();
        let offered: Vec<CheckpointRef> = offered.iter().map(|artifact| reference(artifact)).collect();
        // A worker that does not share the store has one of its own.
        let url = folder_url(&self.cache(machine).join("artifacts")).unwrap();
        let store = if is_shared { self.store.clone() } else { ArtifactStore::create(&url).unwrap() };
        let restored = restore(&folder, Some(&store), &offered, token).await.unwrap();
        let (from, found) = (restored.from, fs::read_to_string(folder.files().join("last")).ok());
        let destination = Some(ArtifactDestination::new(store, is_shared));
        Attempt { keeper: CheckpointKeeper::new(folder, destination, trial, token, restored), from, found }
    }

    fn stored(&self) -> Vec<String> {
        let files = fs::read_dir(self.folder.path().join("store/checkpoints").join(TRIAL));
        let names = files.into_iter().flatten().flatten();
        let mut names: Vec<String> = names.map(|file| file.file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

fn reference(artifact: &Artifact) -> CheckpointRef {
    let name = artifact.key.rsplit_once('/').unwrap().1;
    let token = AttemptToken(name.split_once('-').unwrap().0.parse().unwrap());
    CheckpointRef { token, step: artifact.step, key: artifact.key.clone(), digest: artifact.digest.clone() }
}

impl Attempt {
    fn write(&self, name: &str, content: &str) {
        let path = self.keeper.job.folder.files().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// The process has ended at this step.
    async fn last(&mut self, step: u64) -> Vec<Result<Artifact, String>> {
        self.keeper.last(step, LIMIT).await
    }

    async fn stored(&mut self, step: u64) -> Artifact {
        self.last(step).await.pop().unwrap().unwrap()
    }
}

fn metrics(attempt: &Attempt) -> String {
    fs::read_to_string(attempt.keeper.job.folder.metrics()).unwrap()
}

#[tokio::test]
async fn what_one_machine_stored_is_found_on_another() {
    let machines = Machines::new();
    let mut first = machines.attempt("a", 1, &[], true).await;
    assert_eq!((first.from, first.found.as_deref()), (None, None));
    assert!(first.last(0).await.is_empty(), "an empty folder leaves nothing");
    first.write("last", "one");
    first.write("deep/er", "two");
    fs::write(first.keeper.job.folder.metrics(), "printed\n").unwrap();
    let artifact = first.stored(7).await;
    assert_eq!((artifact.step, artifact.bytes), (7, 6));
    assert!(first.last(7).await.is_empty(), "nothing was changed");
    drop(first);

    let mut second = machines.attempt("b", 2, &[&artifact], true).await;
    assert_eq!((second.from, second.found.as_deref()), (Some(AttemptToken(1)), Some("one")));
    assert_eq!(metrics(&second), "printed\n");
    assert_eq!(fs::read_to_string(second.keeper.job.folder.files().join("deep/er")).unwrap(), "two");
    assert!(second.last(7).await.is_empty(), "what it found is stored already");
    second.write("last", "newer");
    let newer = second.stored(9).await;
    drop(second);

    // The first machine has older files; those of the later attempt take their place.
    let third = machines.attempt("a", 3, &[&newer, &artifact], true).await;
    assert_eq!((third.from, third.found.as_deref()), (Some(AttemptToken(2)), Some("newer")));
    third.keeper.clear([AttemptToken(3)].into_iter()).await;
    assert_eq!(machines.stored(), [""; 0], "those of the attempts before are deleted, too");
    assert!(!machines.cache("a").join(format!("checkpoints/{TRIAL}-1-1")).exists());
}

#[tokio::test]
async fn what_a_killed_worker_left_is_newer_than_what_it_stored() {
    let machines = Machines::new();
    let mut first = machines.attempt("a", 1, &[], true).await;
    first.write("last", "stored");
    let artifact = first.stored(3).await;
    first.write("last", "not stored");
    drop(first);
    let second = machines.attempt("a", 2, &[&artifact], true).await;
    assert_eq!((second.from, second.found.as_deref()), (Some(AttemptToken(1)), Some("not stored")));
    drop(second);
    // Without the metrics that were printed, the result would be incomplete.
    fs::remove_file(machines.cache("a").join(format!("checkpoints/{TRIAL}-1-1/metrics"))).unwrap();
    let third = machines.attempt("a", 3, &[&artifact], true).await;
    assert_eq!(third.found.as_deref(), Some("stored"));
}

#[tokio::test]
async fn damaged_checkpoints_are_passed_over() {
    let machines = Machines::new();
    let mut first = machines.attempt("a", 1, &[], true).await;
    first.write("last", "old");
    let old = first.stored(3).await;
    first.write("last", "new one");
    let new = first.stored(5).await;
    drop(first);
    let (_, list): (_, FileList) =
        ((), FileList::read(&machines.store, TRIAL.parse().unwrap(), &new.key).await.unwrap());
    let file = list.files["last"].key.clone().unwrap();
    fs::write(machines.folder.path().join("store").join(file), "damaged").unwrap();
    let second = machines.attempt("b", 2, &[&new, &old], true).await;
    assert_eq!(second.found.as_deref(), Some("old"));
}

#[tokio::test]
async fn files_on_a_machines_own_disk_are_found_there_alone() {
    let machines = Machines::new();
    let mut first = machines.attempt("a", 1, &[], false).await;
    first.write("last", "here");
    let artifact = first.stored(3).await;
    drop(first);
    let elsewhere = machines.attempt("b", 2, &[&artifact], false).await;
    assert_eq!((elsewhere.from, elsewhere.found), (None, None));
    let again = machines.attempt("a", 3, &[&artifact], false).await;
    assert_eq!(again.found.as_deref(), Some("here"));
    assert_eq!(machines.stored(), [""; 0]);
}

#[tokio::test]
async fn three_lists_are_kept_with_their_files() {
    let machines = Machines::new();
    let mut attempt = machines.attempt("a", 1, &[], true).await;
    attempt.write("same", "for ever");
    for step in [1, 2, 3, 4, 5] {
        attempt.write("last", &"x".repeat(step as usize));
        attempt.stored(step).await;
    }
    let stored = machines.stored();
    // Three lists, three versions of a file, one that never changed, and the metrics, which are empty.
    assert_eq!(stored.iter().filter(|name| name.ends_with("-files.json")).count(), 3, "{stored:?}");
    assert_eq!(stored.len(), 8, "{stored:?}");
}

#[tokio::test]
async fn nothing_piles_up_while_the_step_stands_still() {
    let machines = Machines::new();
    let mut attempt = machines.attempt("a", 1, &[], true).await;
    attempt.write("same", "for ever");
    let mut newest = None;
    for length in 1..=4 {
        attempt.write("last", &"x".repeat(length));
        newest = Some(attempt.stored(7).await);
    }
    // The list, both files, and the metrics.
    let stored = machines.stored();
    assert_eq!(stored.len(), 4, "{stored:?}");
    drop(attempt);
    let next = machines.attempt("b", 2, &[&newest.unwrap()], true).await;
    assert_eq!(next.found.as_deref(), Some("xxxx"));
}

#[tokio::test]
async fn a_snapshot_that_broke_off_keeps_what_it_stored_and_leaves_nothing() {
    let machines = Machines::new();
    let mut attempt = machines.attempt("a", 1, &[], true).await;
    attempt.write("same", "for ever");
    attempt.write("last", "one");
    let metrics = attempt.keeper.job.folder.metrics();
    fs::remove_file(&metrics).unwrap();
    attempt.last(7).await.pop().unwrap().unwrap_err();
    let both = machines.stored();
    assert_eq!(both.len(), 2, "{both:?}");
    assert!(attempt.keeper.due > Instant::now() + LOOK_INTERVAL);
    // A file that is sent again would appear again.
    let folder = machines.folder.path().join("store/checkpoints").join(TRIAL);
    let same = both.iter().find(|name| fs::read(folder.join(name)).unwrap() == b"for ever").unwrap();
    fs::remove_file(folder.join(same)).unwrap();
    attempt.write("last", "newer");
    fs::write(&metrics, "printed\n").unwrap();
    let artifact = attempt.stored(7).await;
    let list = FileList::read(&machines.store, TRIAL.parse().unwrap(), &artifact.key).await.unwrap();
    assert!(list.keys().any(|key| key.ends_with(same)), "it is listed, and was not sent again");
    let stored = machines.stored();
    assert_eq!(stored.len(), 3, "the list, what is new of the files, and the metrics: {stored:?}");
    assert!(both.iter().all(|name| !stored.contains(name)), "{stored:?}");
}

#[tokio::test]
async fn nothing_more_is_stored_before_the_last_list_is_acknowledged() {
    let machines = Machines::new();
    let mut attempt = machines.attempt("a", 1, &[], true).await;
    attempt.write("last", "one");
    attempt.keeper.tick(1, false).await;
    assert!(attempt.keeper.running.is_none());
    attempt.keeper.tick(1, true).await;
    assert!(attempt.keeper.running.is_some());
}

#[tokio::test]
async fn a_keeper_that_is_dropped_stores_nothing_more() {
    let machines = Machines::new();
    let mut attempt = machines.attempt("a", 1, &[], true).await;
    attempt.write("last", "one");
    attempt.keeper.begin(1, Duration::ZERO);
    drop(attempt);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(machines.stored(), [""; 0]);
}

#[tokio::test]
async fn what_earlier_attempts_stored_is_deleted_while_a_snapshot_runs() {
    let machines = Machines::new();
    let mut first = machines.attempt("a", 1, &[], true).await;
    first.write("last", "one");
    let artifact = first.stored(1).await;
    drop(first);
    let mut second = machines.attempt("b", 2, &[&artifact], true).await;
    second.write("last", "newer");
    second.keeper.begin(2, Duration::ZERO);
    second.keeper.clear([AttemptToken(2)].into_iter()).await;
    assert_eq!(machines.stored(), [""; 0]);
}

#[tokio::test]
async fn a_list_that_names_other_files_is_passed_over() {
    let machines = Machines::new();
    let mut first = machines.attempt("a", 1, &[], true).await;
    first.write("last", "one");
    let artifact = first.stored(1).await;
    let trial = TRIAL.parse().unwrap();
    let good = FileList::read(&machines.store, trial, &artifact.key).await.unwrap();
    let digest = good.files["last"].digest.clone();
    let own = |name: String| Some(format!("checkpoints/{TRIAL}/{name}"));
    let refused = async |file: StoredFile| {
        let mut list = good.clone();
        list.files.insert("more".to_owned(), file);
        let content = serde_json::to_vec(&list).unwrap();
        machines.store.put(&artifact.key, content).await.unwrap();
        FileList::read(&machines.store, trial, &artifact.key).await.err()
    };
    let file = |key: Option<String>, bytes: u64| StoredFile { key, digest: digest.clone(), bytes };
    let named = format!("1-{}", &digest[..KEY_DIGITS]);
    assert_eq!(refused(file(own(named.clone()), 1)).await, None);
    let other = TRIAL.replace('1', "2");
    for key in [
        Some(format!("final-weights/{TRIAL}/{named}")),
        Some(format!("checkpoints/{other}/{named}")),
        own(format!("deeper/{named}")),
        own("1-1-files.json".to_owned()),
    ] {
        let reason = refused(file(key.clone(), 1)).await.unwrap_or_else(|| panic!("{key:?} is taken"));
        assert!(reason.contains("not checkpoints of trial"), "{reason}");
    }
    let reason = refused(file(own(named), u64::MAX)).await.unwrap();
    assert!(reason.contains("at most 1000 of"), "{reason}");
}

#[tokio::test]
async fn a_limit_is_reported_once_and_files_that_may_be_half_written_wait() {
    let machines = Machines::new();
    let mut attempt = machines.attempt("a", 1, &[], true).await;
    attempt.write("last", "young");
    for _ in 0..2 {
        attempt.keeper.due = Instant::now();
        attempt.keeper.tick(1, true).await;
        let running = attempt.keeper.running.as_mut().unwrap();
        let (known, stored) = running.await.unwrap();
        attempt.keeper.running = None;
        attempt.keeper.known = Some(known);
        assert_eq!(stored.unwrap(), None);
    }
    std::os::unix::fs::symlink("last", link(&attempt.keeper.job.folder.files())).unwrap();
    let said = attempt.last(1).await;
    assert_eq!(
        said,
        [Err("the program's checkpoints are not stored: \"link\" is neither a file nor a folder".to_owned())]
    );
    assert!(attempt.last(1).await.is_empty(), "once is enough");
}

fn link(files: &Path) -> std::path::PathBuf {
    files.join("link")
}
