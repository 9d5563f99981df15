use std::fs;
use std::path::Path;

use sortie_artifacts::folder_url;
use sortie_core::artifact::CheckpointRef;
use tempfile::TempDir;

use super::super::restore;
use super::*;

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
        let folder = TrialFolder::open(&self.cache(machine), trial, AttemptToken(1)).await.unwrap();
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
    assert!(!machines.cache("a").join(format!("checkpoints/{TRIAL}-1")).exists());
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
    fs::remove_file(machines.cache("a").join(format!("checkpoints/{TRIAL}-1/metrics"))).unwrap();
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
    let (_, list): (_, FileList) = ((), FileList::read(&machines.store, &new.key).await.unwrap());
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
async fn two_lists_are_kept_with_their_files() {
    let machines = Machines::new();
    let mut attempt = machines.attempt("a", 1, &[], true).await;
    attempt.write("same", "for ever");
    for step in [1, 2, 3, 4] {
        attempt.write("last", &"x".repeat(step as usize));
        attempt.stored(step).await;
    }
    let stored = machines.stored();
    // Two lists, two versions of a file, one that never changed, and the metrics, which are empty.
    assert_eq!(stored.iter().filter(|name| name.ends_with("-files.json")).count(), 2, "{stored:?}");
    assert_eq!(stored.len(), 6, "{stored:?}");
}

#[tokio::test]
async fn a_limit_is_reported_once_and_files_that_may_be_half_written_wait() {
    let machines = Machines::new();
    let mut attempt = machines.attempt("a", 1, &[], true).await;
    attempt.write("last", "young");
    for _ in 0..2 {
        attempt.keeper.due = Instant::now();
        attempt.keeper.tick(1).await;
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
