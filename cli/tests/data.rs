//! The `data` and `bench data` commands as users run them.
#![expect(
    clippy::unwrap_used,
    reason = "clippy.toml excuses only functions that are tests themselves, not their helpers"
)]

use sortie_testkit::programs::isolated;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

fn worker(words: &[&str], root: &Path) -> Command {
    let mut command = isolated(env!("CARGO_BIN_EXE_sortie"));
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

/// A sweep on a dataset; `data` are further lines of its `[data]` table.
fn write_sweep(root: &Path, dataset: &str, data: &str) {
    let text = format!(
        "name = \"s\"\n[data]\ndataset = {dataset:?}\n{data}\n[model]\nbackbone = \"efficientnet-lite0\"\n[train]\nsteps = 3\n\
         [grid]\ndropout = 0\nlr = 1e-3\nweight_decay = 0\n"
    );
    std::fs::write(root.join("sweep.toml"), text).unwrap();
}

/// Asks both commands; they must agree. What they refuse the dataset with, or what they say of it.
fn asked(root: &Path, dataset: &str, data: &str) -> Result<String, String> {
    write_sweep(root, dataset, data);
    let (planned, out, err) = run(&["plan", "sweep.toml", "--data", "."], root);
    let (checked, report, fault) = run(&["data", "check", dataset, "--sweep", "sweep.toml"], root);
    assert_eq!(planned.status.success(), checked.status.success(), "{dataset}: {err}\n{report}{fault}");
    // Without a sweep file the same is read, unless the file says more than a name.
    if data.is_empty() {
        let (named, same, _) = run(&["data", "check", dataset], root);
        assert_eq!((named.status.code(), same), (checked.status.code(), report.clone()), "{dataset}");
    }
    if planned.status.success() {
        return Ok(format!("{out}{err}{report}"));
    }
    let refusal = err.strip_prefix("error: ").unwrap().trim_end().to_owned();
    assert_eq!(refusal.lines().count(), 1, "{refusal}");
    // The path is written as it was given.
    let reason = refusal.split(": ").skip(1).collect::<Vec<_>>().join(": ");
    assert!(report.contains(&reason) || fault.contains(&reason), "{refusal}\n{report}\n{fault}");
    Err(refusal)
}

#[test]
fn a_sweep_and_the_check_agree_about_every_folder() {
    let root = tempfile::tempdir().unwrap();
    let image = |path: &str| {
        let path = root.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        image::RgbImage::new(2, 2).save(path).unwrap();
    };
    let dataset = |name: &str, domains: &[&str], between: &str, classes: &[&str]| {
        for domain in domains {
            for class in classes {
                (0..2).for_each(|index| image(&format!("{name}/{domain}/{between}{class}/{index}.png")));
            }
        }
    };
    let folder = |path: &str| std::fs::create_dir_all(root.path().join(path)).unwrap();
    let file = |path: &str| std::fs::write(root.path().join(path), b"\0\x05\x16\x07").unwrap();
    let homes = ["Art", "Clipart", "Product"];

    dataset("mac", &homes, "", &["Bed", "Bike"]);
    for path in [
        "mac/.DS_Store",
        "mac/Art/.DS_Store",
        "mac/Art/Bed/Thumbs.db",
        "mac/Art/desktop.ini",
        "mac/Art/Bed/._0.png",
    ] {
        file(path);
    }
    for path in ["mac/__MACOSX/Art/Bed", "mac/.ipynb_checkpoints", "mac/Art/.ipynb_checkpoints"] {
        folder(path);
    }
    let said = asked(root.path(), "mac", "").unwrap();
    let ignored = "2 .DS_Store, 1 ._*, 2 .ipynb_checkpoints, 1 Thumbs.db, 1 __MACOSX, 1 desktop.ini";
    assert!(said.contains(&format!("mac: ignored {ignored}\n")), "{said}");
    assert!(said.contains(&format!("\nignored: {ignored}\n")), "{said}");

    dataset("blood", &["Acevedo", "INT20", "Matek"], "", &["lymphocyte", "myeloblast"]);
    std::fs::remove_dir_all(root.path().join("blood/Acevedo/myeloblast")).unwrap();
    let refused = asked(root.path(), "blood", "").unwrap_err();
    assert!(refused.contains("Acevedo/myeloblast: the class is missing in this domain"), "{refused}");
    let said = asked(root.path(), "blood", "missing_classes = \"allow\"").unwrap();
    assert!(said.contains("blood: no image of Acevedo/myeloblast"), "{said}");
    assert!(said.contains("a domain may lack classes"), "{said}");

    dataset("nico", &homes, "", &["Bed", "Bike"]);
    image("nico/public_test_flat/0.png");
    let refused = asked(root.path(), "nico", "").unwrap_err();
    assert!(
        refused.contains("nico/public_test_flat: it holds no folders of classes (1 images in no class)"),
        "{refused}"
    );
    asked(root.path(), "nico", "domains = [\"Art\", \"Clipart\", \"Product\"]").unwrap();

    dataset("office31", &["amazon", "dslr", "webcam"], "images/", &["back_pack", "bike"]);
    for part in ["crossval/", "full/", "test/", "train/"] {
        dataset("VLCS", &["CALTECH", "LABELME", "PASCAL", "SUN"], part, &["0", "1"]);
    }
    for (name, part) in [("office31", "images"), ("VLCS", "full")] {
        let layout = format!("layout = \"{{domain}}/{part}/{{class}}\"");
        let refused = asked(root.path(), name, "").unwrap_err();
        assert!(refused.contains(&layout), "{refused}");
        let said = asked(root.path(), name, &layout).unwrap();
        assert!(said.contains(&format!("layout         {{domain}}/{part}/{{class}}\n")), "{said}");
    }

    dataset("OfficeHome", &["Art", "Clipart", "Product", "RealWorld"], "", &["Bed", "Bike"]);
    asked(root.path(), "OfficeHome", "").unwrap();
    dataset("NICO++", &["autumn", "dim grass"], "", &["hot air balloon", "C++"]);
    asked(root.path(), "NICO++", "").unwrap();
    dataset("NICO++", &["rock+water"], "", &["hot air balloon", "C++"]);
    assert!(
        asked(root.path(), "NICO++", "").unwrap_err().contains("'+' joins the names of held-out domains")
    );
    asked(root.path(), "none", "").unwrap_err();
}

#[test]
fn a_data_root_decides_nothing_that_is_known_without_it() {
    let root = tempfile::tempdir().unwrap();
    let planned = |dataset: &str, data: &str| {
        write_sweep(root.path(), dataset, data);
        let mut command = worker(&["plan", "sweep.toml", "--json"], root.path());
        let output = command.env("SORTIE_DATA", root.path()).output().unwrap();
        let texts = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).into_owned());
        if output.status.success() { Ok(texts) } else { Err(texts[1].clone()) }
    };
    let domains = |text: &str| {
        let plan: Value = serde_json::from_str(text).unwrap();
        plan["work"]["finetune"]["dataset"]["domains"].as_array().unwrap().len()
    };
    // Neither images nor MNIST are there.
    assert_eq!(domains(&planned("RotatedMNIST", "").unwrap()[0]), 6);
    assert_eq!(domains(&planned("PACS", "").unwrap()[0]), 4);
    write_sweep(root.path(), "PACS", "");
    let (typed, _, err) = run(&["plan", "sweep.toml", "--data", "."], root.path());
    assert!(!typed.status.success() && err.contains("PACS: the dataset's folder is missing"), "{err}");
    // A folder beside the domains that were listed is none of them.
    write_dataset(root.path(), 2, 4);
    for class in ["cat", "dog"] {
        std::fs::create_dir_all(root.path().join("Tiny/stray").join(class)).unwrap();
        std::fs::copy(
            root.path().join("Tiny/ink/cat/0.png"),
            root.path().join("Tiny/stray").join(class).join("0.png"),
        )
        .unwrap();
    }
    let [out, err] = planned("Tiny", "domains = [\"ink\", \"oil\"]\nclasses = [\"cat\", \"dog\"]").unwrap();
    assert!(domains(&out) == 2 && err.starts_with("Tiny: ignored 1 stray/\n"), "{err}");
    assert_eq!(domains(&planned("Tiny", "").unwrap()[0]), 3);
    assert!(planned("Other", "").unwrap_err().contains("Other: the dataset's folder is missing"));
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
