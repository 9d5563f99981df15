//! A cache folder that two users of one group share: what one of them stages and caches, the other one reads and goes on with.
#![expect(clippy::unwrap_used, reason = "a test ends at the first thing that goes wrong")]

#[expect(dead_code, reason = "each test file uses its part of the shared module")]
#[path = "support/mod.rs"]
mod support;

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Numbers that nobody has.
const GROUP: u32 = 54_320;
const USERS: [u32; 2] = [54_321, 54_322];
/// One short trial that uses everything that is cached: images, resized images, features.
const SWEEP: &str = "
name = \"shared\"
[data]
dataset = \"Tiny\"
pixels = 32
augment = false
[model]
backbone = \"efficientnet-lite0\"
finetune = \"linear\"
[train]
steps = 2
batch_per_domain = 2
evaluate_every = 2
[grid]
dropout = 0
lr = 1e-3
weight_decay = 0
seeds = 1
held_out = [\"flat\"]
";

/// The programs, a libtorch, images, weights and a cache folder where others may read them, and a folder for each user.
struct Place {
    folder: tempfile::TempDir,
    /// Whether there are two users; else this process's user is both.
    two_users: bool,
}

impl Place {
    fn new() -> Option<Self> {
        let full = support::prerequisites()?;
        let place =
            Self { folder: tempfile::tempdir().unwrap(), two_users: rustix::process::geteuid().is_root() };
        if !place.two_users {
            println!("skipped: only root can run programs as two users; one user is both");
        }
        let programs = Path::new(env!("CARGO_BIN_EXE_sortie")).parent().unwrap();
        for name in ["sortie", "sortie-trainer"] {
            place.share(&programs.join(name), &format!("bin/{name}"));
        }
        let libtorch = std::env::var_os("LIBTORCH").map_or(full.join("libtorch-2.11.0-cpu"), PathBuf::from);
        for entry in fs::read_dir(libtorch.join("lib")).unwrap() {
            let path = entry.unwrap().path();
            place.share(&path, &format!("libtorch/lib/{}", path.file_name().unwrap().display()));
        }
        place.share(&libtorch.join("build-version"), "libtorch/build-version");
        place.share(&full.join("weights/efficientnet-lite0.pth"), "given.pth.tar");
        support::copy_images(&full.join("data/EmojiStyles"), &place.path("data/Tiny"));
        fs::write(place.path("shared.toml"), SWEEP).unwrap();
        for (user, name) in USERS.into_iter().zip(["first", "second"]) {
            fs::create_dir(place.path(name)).unwrap();
            place.give(name, user);
        }
        fs::create_dir(place.path("cache")).unwrap();
        place.give("cache", USERS[0]);
        fs::set_permissions(place.folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(place.path("cache"), fs::Permissions::from_mode(0o775)).unwrap();
        Some(place)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn give(&self, name: &str, user: u32) {
        if self.two_users {
            chown(self.path(name), Some(user), Some(GROUP)).unwrap();
        }
    }

    /// The same file under a name that others reach: of large ones no copy where that can be.
    fn share(&self, from: &Path, name: &str) {
        let to = self.path(name);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        if fs::hard_link(from, &to).is_err() {
            fs::copy(from, &to).unwrap();
        }
    }

    /// What a user of the group sees who runs `sortie` with these words in a folder of their own.
    fn sortie(&self, user: usize, words: &[&str]) -> Output {
        let own = self.path(["first", "second"][user]);
        let mut command = Command::new("sh");
        command.args(["-c", "umask 002; exec \"$0\" \"$@\""]).arg(self.path("bin/sortie")).args(words);
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("HOME", &own);
        command.env("SORTIE_CACHE", self.path("cache")).env("SORTIE_LIBTORCH", self.path("libtorch"));
        if self.two_users {
            command.uid(USERS[user]).gid(GROUP);
        }
        command.current_dir(own).output().unwrap()
    }

    fn succeeds(&self, user: usize, words: &[&str]) -> String {
        let output = self.sortie(user, words);
        let [said, complained] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
        assert!(output.status.success(), "user {user}: {words:?}: {said}{complained}");
        said.into_owned()
    }

    /// Everything in the cache that the group may not use as its user may.
    fn withheld(&self) -> Vec<String> {
        let (mut withheld, mut folders, mut files) = (Vec::new(), vec![self.path("cache")], 0);
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                let metadata = path.metadata().unwrap();
                let expected = if metadata.is_dir() { 0o775 } else { 0o664 };
                let mode = metadata.mode() & 0o777;
                if mode != expected || self.two_users && metadata.gid() != GROUP {
                    withheld.push(format!("{}: {mode:o}, group {}", path.display(), metadata.gid()));
                }
                if metadata.is_dir() {
                    folders.push(path);
                } else {
                    files += 1;
                }
            }
        }
        // Weights, images, resized images, features, indices and locks.
        assert!(files > 5, "the cache has {files} files");
        withheld
    }
}

#[test]
fn a_second_user_of_the_group_goes_on_with_what_the_first_one_staged() {
    let Some(place) = Place::new() else { return };
    let given = place.path("given.pth.tar");
    let fetch = ["weights", "fetch", "efficientnet-lite0", "--from", given.to_str().unwrap()];
    let said = place.succeeds(0, &fetch);
    assert!(
        said.contains("\nread as efficientnet-lite0: ") && said.contains(" tensors, no prefix"),
        "{said}"
    );
    let run = ["run", "../shared.toml", "--data", "../data", "--devices", "cpu", "--threads", "1"];
    place.succeeds(0, &run);
    assert_eq!(place.withheld(), Vec::<String>::new(), "after the first user");
    // Another size of images, so that files are added among those of the first user.
    fs::write(place.path("shared.toml"), SWEEP.replace("pixels = 32", "pixels = 48")).unwrap();
    place.succeeds(1, &run);
    assert_eq!(place.withheld(), Vec::<String>::new(), "after the second user");
    // The first user's weights can be replaced, too.
    fs::remove_file(place.path("cache/weights/efficientnet-lite0.pth")).unwrap();
    place.succeeds(1, &fetch);
    place.succeeds(0, &fetch);
}
