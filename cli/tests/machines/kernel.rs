//! What only the kernel can take from a machine: room on a disk, permissions, memory. Each is taken from the worker's process alone.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{self, World};
use crate::{TOOL, WorkerProcess, folder, quarantines, submit_limited, trainings_beside};

/// Whether this user may run these words; a line says so where not.
fn may(words: &[&str]) -> bool {
    let may = Command::new(words[0]).args(&words[1..]).status().is_ok_and(|status| status.success());
    if !may {
        println!("skipped: this user may not run {}", words.join(" "));
    }
    may
}

/// The worker with mounts of its own, which this script makes.
fn with_mounts(worker: WorkerProcess, script: &str) -> WorkerProcess {
    worker.below(&["unshare", "--mount", "sh", "-ec", &format!("{script}\nexec \"$@\""), "sh"])
}

fn may_mount() -> bool {
    may(&["unshare", "--mount", "mount", "-t", "tmpfs", "none", "/mnt"])
}

/// A root without the right to read and write everything, as any other user.
const WITHOUT_RIGHTS: [&str; 4] = [
    "setpriv",
    "--bounding-set=-dac_override,-dac_read_search",
    "--inh-caps=-dac_override,-dac_read_search",
    "--",
];

/// A cache of its own, with the weights of the common one and without decoded images. Its folder of images and the worker's arguments.
fn own_cache(world: &World) -> (PathBuf, Vec<String>) {
    let cache = PathBuf::from(folder(world, "cache"));
    let images = cache.join("images");
    fs::create_dir_all(&images).unwrap();
    fs::create_dir_all(cache.join("weights")).unwrap();
    for file in fs::read_dir(support::prerequisites().unwrap().join("weights")).unwrap().flatten() {
        fs::copy(file.path(), cache.join("weights").join(file.file_name())).unwrap();
    }
    let data = world.data();
    let words = ["--data", data.to_str().unwrap(), "--cache", cache.to_str().unwrap()];
    (images, words.map(str::to_owned).to_vec())
}

fn with(worker: WorkerProcess, words: &[String]) -> WorkerProcess {
    worker.args(&words.iter().map(String::as_str).collect::<Vec<_>>())
}

#[test]
fn a_full_disk_on_one_machine() {
    if !may_mount() {
        return;
    }
    let broken = |world: &World, worker| {
        let (images, words) = own_cache(world);
        with_mounts(with(worker, &words), &format!("mount -t tmpfs -o size=64k none '{}'", images.display()))
    };
    trainings_beside(broken, "No space left on device");
}

#[test]
fn a_cache_that_one_machine_cannot_write() {
    if !may_mount() {
        return;
    }
    let broken = |world: &World, worker| {
        let (images, words) = own_cache(world);
        with_mounts(with(worker, &words), &read_only(&images))
    };
    trainings_beside(broken, "Read-only file system");
}

fn read_only(folder: &Path) -> String {
    let folder = folder.display();
    format!("mount --bind '{folder}' '{folder}'; mount -o remount,bind,ro '{folder}'")
}

#[test]
fn weights_that_one_machine_may_not_read() {
    if !may(&[&WITHOUT_RIGHTS[..], &["true"]].concat()) {
        return;
    }
    let broken = |world: &World, worker| {
        let (images, words) = own_cache(world);
        for file in fs::read_dir(images.with_file_name("weights")).unwrap().flatten() {
            fs::set_permissions(file.path(), fs::Permissions::from_mode(0o000)).unwrap();
        }
        with(worker, &words).below(&WITHOUT_RIGHTS)
    };
    trainings_beside(broken, "Permission denied");
}

/// Its artifacts go to a folder of its own, which `sortie workers` says.
#[test]
fn a_store_that_one_machine_may_not_write() {
    if !may_mount() {
        return;
    }
    let Some(world) = World::new() else { return };
    let text = format!("{}[keep]\nweights = \"final\"\n", support::sweep("work", 4, "1"));
    world.submit_text("work", &text, &["--data", world.data().to_str().unwrap()]);
    let (_, words) = own_cache(&world);
    let worker = with(WorkerProcess::on(&world, "broken"), &words).args(&["--exit-when-idle"]);
    let worker = with_mounts(worker, &read_only(&PathBuf::from(folder(&world, "artifacts"))));
    assert!(worker.start().end());
    let status = world.status("work");
    assert_eq!((&status["succeeded"], &status["failed"]), (&status["planned"], &0.into()), "{status}");
    let workers = world.json(&["workers", "--all", "--json"]);
    assert_eq!(workers["workers"][0]["checkpoints"], "local", "{workers}");
    let kept = fs::read_dir(world.folder.path().join("cache/artifacts")).unwrap().count();
    assert!(kept > 0);
}

/// A machine with a cache of its own, in which the decoded images are made, and the file that holds them.
fn with_cached_images(world: &World) -> (PathBuf, Vec<String>) {
    let (images, words) = own_cache(world);
    let [tiny, cache] = [world.data().join("Tiny"), images.with_file_name("")];
    let cached = world.sortie(&["data", "cache", tiny.to_str().unwrap(), "--cache", cache.to_str().unwrap()]);
    assert!(cached.status.success(), "{cached:?}");
    let mut files = fs::read_dir(&images).unwrap().flatten().map(|version| version.path().join("images.bin"));
    (files.find(|file| file.exists()).unwrap(), words)
}

/// Something changed in the middle of the decoded images. The first attempt that reads it fails, which costs the trial nothing, and the
/// machine is named.
#[test]
fn decoded_images_that_are_damaged_on_one_machine() {
    let broken = |world: &World, worker| {
        let (file, words) = with_cached_images(world);
        let mut bytes = fs::read(&file).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&file, bytes).unwrap();
        with(worker, &words)
    };
    trainings_beside(broken, "images.bin: this file of the cache is damaged");
}

#[test]
fn a_truncated_cache_of_images_is_made_anew() {
    let Some(world) = World::new() else { return };
    world.submit("work", 4, "1");
    let (file, words) = with_cached_images(&world);
    let whole = fs::metadata(&file).unwrap().len();
    fs::File::options().write(true).open(&file).unwrap().set_len(whole / 2).unwrap();
    // The first result, on a machine whose cache is sound, pins which images the name means.
    let (data, common) = (world.data(), support::prerequisites().unwrap());
    let sound = ["--data", data.to_str().unwrap(), "--cache", common.to_str().unwrap()];
    let first = WorkerProcess::on(&world, "sound").args(&sound).start();
    world.wait_until("work", "a result", |status| status["succeeded"].as_u64() >= Some(1));
    drop(first);
    let damaged = with(WorkerProcess::on(&world, "damaged"), &words).args(&["--exit-when-idle"]);
    assert!(damaged.start().end());
    let status = world.status("work");
    assert_eq!((&status["succeeded"], &status["failed"]), (&status["planned"], &0.into()), "{status}");
    assert!(quarantines(&world).is_empty());
    assert_eq!(fs::metadata(&file).unwrap().len(), whole);
}

/// The memory controller's folder of this process, version 1 or 2.
fn memory_group() -> Option<(PathBuf, &'static str)> {
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    own.lines().find_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        let (root, limit) = match controllers {
            "memory" => ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
            "" => ("/sys/fs/cgroup", "memory.max"),
            _ => return None,
        };
        let folder = Path::new(root).join(path.trim_start_matches('/'));
        folder.join(limit).exists().then_some((folder, limit))
    })
}

/// A control group that ends with the test.
struct Group(PathBuf);

impl Group {
    fn with_memory(bytes: u64) -> Option<Self> {
        let group = memory_group().and_then(|(folder, limit)| {
            let folder = folder.join(format!("sortie-test-{}", std::process::id()));
            fs::create_dir(&folder).ok()?;
            let group = Self(folder);
            fs::write(group.0.join(limit), bytes.to_string()).ok()?;
            Some(group)
        });
        if group.is_none() {
            println!("skipped: this user may not make a control group with a limit of memory");
        }
        group
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

#[test]
fn trials_that_the_kernel_kills_for_memory_on_one_machine() {
    let Some(group) = Group::with_memory(120 << 20) else { return };
    let world = World::of_commands();
    submit_limited(&world, "", 40);
    // It holds 250 MB, and says its metric if it may.
    let hungry = "head -c 250000000 /dev/zero | tail > /dev/null; code=$?; [ $code = 0 ] || exit $code";
    let hungry = TOOL.replace("#!/bin/sh\n", &format!("#!/bin/sh\n{hungry}\n"));
    fs::write(world.folder.path().join("bin/sortie-test-tool"), hungry).unwrap();
    let on = |machine| WorkerProcess::on(&world, machine).args(&["--allow-commands"]);
    let join = format!("echo $$ > '{}/cgroup.procs'\nexec \"$@\"", group.0.display());
    // Together from the start: where no other machine is fit, the trials' own budget ends them.
    let _workers = [on("broken").below(&["sh", "-ec", &join, "sh"]).start(), on("healthy").start()];
    world.wait_until("work", "the end", |status| status["queued"] == 0 && status["running"] == 0);
    let status = world.status("work");
    assert_eq!((&status["succeeded"], &status["failed"]), (&status["planned"], &0.into()), "{status}");
    let (machine, said) = quarantines(&world).remove(0);
    assert!(machine.starts_with("broken-") && said.contains("memory ran out"), "{machine}: {said}");
}
