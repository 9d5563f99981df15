//! The `data` and `bench data` commands as users run them.
#![expect(
    clippy::unwrap_used,
    reason = "clippy.toml excuses only functions that are tests themselves, not their helpers"
)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

fn worker(words: &[&str], root: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sortie"));
    command.args(words).current_dir(root).env_remove("SORTIE_DATA").env("SORTIE_CACHE", root.join("cache"));
    command
}

fn run(words: &[&str], root: &Path) -> (Output, String, String) {
    let output = worker(words, root).output().unwrap();
    let texts = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).into_owned());
    let [out, err] = texts;
    (output, out, err)
}

/// Two domains of two classes, the same picture everywhere.
fn write_dataset(root: &Path, images: u32, side: u32) {
    let mut content = std::io::Cursor::new(Vec::new());
    let image = image::RgbImage::from_fn(side, side, |x, y| image::Rgb([(x * y) as u8, 7, (x ^ y) as u8]));
    image.write_to(&mut content, image::ImageFormat::Png).unwrap();
    for (domain, class) in [("ink", "cat"), ("ink", "dog"), ("oil", "cat"), ("oil", "dog")] {
        let folder = root.join("Tiny").join(domain).join(class);
        std::fs::create_dir_all(&folder).unwrap();
        for index in 0..images {
            std::fs::write(folder.join(format!("{index}.png")), content.get_ref()).unwrap();
        }
    }
}

/// Everything in the cache but locks, relative to it.
fn cached(root: &Path) -> Vec<PathBuf> {
    fn collect(folder: &Path, found: &mut Vec<PathBuf>) {
        for path in std::fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                collect(&path, found);
            } else if path.extension().is_none_or(|extension| extension != "lock") {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    collect(&root.join("cache"), &mut found);
    found.sort();
    found
}

#[test]
fn check_counts_what_is_there_and_fails_on_what_is_broken() {
    let root = tempfile::tempdir().unwrap();
    write_dataset(root.path(), 3, 8);
    std::fs::write(root.path().join("Tiny/oil/dog/list.txt"), "").unwrap();
    let (output, out, _) = run(&["data", "check", "Tiny", "--json"], root.path());
    assert!(output.status.success());
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&report["n"], &report["domains"]["oil"]["classes"]["dog"]), (&12.into(), &3.into()));
    assert_eq!(
        (&report["ignored"][".txt"], &report["broken_count"], &report["split_by"]),
        (&1.into(), &0.into(), &"image".into())
    );
    let digest = report["digest"].as_str().unwrap().to_owned();
    assert!(cached(root.path()).is_empty());

    let (output, out, _) = run(&["data", "cache", "Tiny", "--cache-pixels", "5"], root.path());
    assert!(output.status.success() && out.contains("Tiny: 12 images in") && out.contains(&digest), "{out}");

    std::fs::write(root.path().join("Tiny/ink/cat/1.png"), "not an image").unwrap();
    std::fs::remove_dir_all(root.path().join("Tiny/oil/cat")).unwrap();
    let (output, out, _) = run(&["data", "check", "Tiny/"], root.path());
    assert_eq!(output.status.code(), Some(1));
    assert!(
        out.contains("broken: ink/cat/1.png: its content is no image format")
            && out.contains("missing: no image in oil/cat"),
        "{out}"
    );
    let (output, _, err) = run(&["data", "cache", "Tiny"], root.path());
    assert_eq!(output.status.code(), Some(1));
    assert!(err.contains("error: ") && err.contains("Tiny/oil/cat: the class is missing"), "{err}");
}

#[test]
fn two_that_build_one_cache_at_once_build_it_once() {
    let root = tempfile::tempdir().unwrap();
    write_dataset(root.path(), 20, 100);
    let start = || {
        worker(&["data", "cache", "Tiny"], root.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let outputs = [start(), start()].map(|child| child.wait_with_output().unwrap());
    let decoded =
        outputs.iter().filter(|output| String::from_utf8_lossy(&output.stderr).contains("decoding")).count();
    assert_eq!(decoded, 1);
    assert!(
        outputs.iter().all(|output| output.status.success()) && outputs[0].stdout == outputs[1].stdout,
        "{outputs:?}"
    );
    assert_eq!(cached(root.path()).len(), 2);
}

#[test]
fn an_interrupted_build_leaves_nothing_half_made_and_the_next_one_succeeds() {
    let root = tempfile::tempdir().unwrap();
    write_dataset(root.path(), 100, 800);
    let mut child = worker(&["data", "cache", "Tiny"], root.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stderr.take().unwrap()));
    lines.by_ref().map(Result::unwrap).find(|line| line.starts_with("decoding")).unwrap();
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let rest: Vec<String> = lines.map(Result::unwrap).collect();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert!(rest.iter().any(|line| line.contains("interrupted")), "{rest:?}");
    // The index of digests was complete before.
    assert!(
        cached(root.path()).iter().all(|path| path.starts_with(root.path().join("cache/images/index"))),
        "{:?}",
        cached(root.path())
    );
    let (output, out, err) = run(&["data", "cache", "Tiny"], root.path());
    assert!(output.status.success() && out.contains("400 images"), "{out}{err}");
}

#[test]
fn the_benchmark_prints_one_object() {
    let root = tempfile::tempdir().unwrap();
    write_dataset(root.path(), 1, 20);
    let words =
        ["bench", "data", "--data", ".", "--dataset", "Tiny", "--pixels", "16", "--seconds", "1", "--json"];
    let (output, out, err) = run(&words, root.path());
    assert!(output.status.success(), "{err}");
    let result: Value = serde_json::from_str(&out).unwrap();
    assert!(result["images_per_second_per_core"].as_f64().unwrap() > 1.0 && result["threads"] == 1, "{out}");
}
