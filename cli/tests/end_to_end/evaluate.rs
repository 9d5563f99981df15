//! `sortie evaluate` of weights that a real trial saved, on folders with the same classes, with others and with some of them.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::run_to_the_end;
use crate::support::{World, copy_images, sweep};

const CLASSES: [&str; 3] = ["activities", "food_drink", "objects"];
const DOMAINS: [&str; 3] = ["flat", "mono", "noto"];

/// Trains a trial that keeps its weights, and finds their file.
fn trained(world: &World) -> PathBuf {
    let one = sweep("kept", 40, "1").replace("dropout = [0.0, 0.5]", "dropout = 0.0\nheld_out = [\"flat\"]");
    let text = format!("{one}[keep]\nweights = \"final\"\n");
    world.submit_text("kept", &text, &["--data", world.data().to_str().unwrap()]);
    run_to_the_end(world, "kept");
    let trial = world.json(&["trials", "kept", "--json"])["trials"][0]["trial"].as_str().unwrap().to_owned();
    let artifacts = world.json(&["artifacts", &trial, "--json"]);
    let rows = artifacts["artifacts"].as_array().unwrap();
    let weights = rows.iter().find(|row| row["kind"] == "final-weights" && row["url"].is_string()).unwrap();
    weights["url"].as_str().unwrap().strip_prefix("file://").unwrap().into()
}

/// A copy of the images under another name.
fn folder(world: &World, name: &str) -> PathBuf {
    let folder = world.data().join(name);
    copy_images(&world.data().join("Tiny"), &folder);
    folder
}

fn arguments<'a>(world: &'a World, weights: &'a Path, dataset: &'a str) -> Vec<String> {
    let words = ["evaluate", "--checkpoint", weights.to_str().unwrap(), "--dataset", dataset, "--data"];
    words.iter().copied().chain([world.data().to_str().unwrap()]).map(str::to_owned).collect()
}

fn evaluated(world: &World, weights: &Path, dataset: &str) -> Value {
    let mut words = arguments(world, weights, dataset);
    words.push("--json".to_owned());
    world.json(&words.iter().map(String::as_str).collect::<Vec<_>>())
}

/// What is printed for people, and the one line of a refusal.
fn said(world: &World, weights: &Path, dataset: &str) -> (Option<i32>, String, String) {
    let words = arguments(world, weights, dataset);
    let output = world.sortie(&words.iter().map(String::as_str).collect::<Vec<_>>());
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn classes_of_another_folder_are_matched_by_name() {
    let Some(world) = World::new() else { return };
    let weights = trained(&world);
    let own = evaluated(&world, &weights, "Tiny");
    let accuracy = |of: &Value| {
        let domains = of["domains"].as_object().unwrap().values();
        domains.map(|domain| domain["correct"].as_u64().unwrap()).sum::<u64>()
    };
    // Three domains of three classes of ten images: chance is 30 of 90.
    assert!(own["n"] == 90 && accuracy(&own) > 50, "{own}");

    folder(&world, "Same");
    let same = evaluated(&world, &weights, "Same");
    assert_eq!(same["domains"], own["domains"]);
    assert_eq!(same["classes"], json!({ "matched_by": "name", "outputs": CLASSES, "present": CLASSES }));

    // Without the first class, the folder's second is its first: by order, all labels would shift.
    let some = folder(&world, "Some");
    DOMAINS.iter().for_each(|domain| fs::remove_dir_all(some.join(domain).join("activities")).unwrap());
    fs::remove_dir_all(some.join("mono/objects")).unwrap();
    let part = evaluated(&world, &weights, "Some");
    assert_eq!((&part["n"], &part["classes"]["present"]), (&50.into(), &json!(["food_drink", "objects"])));
    for domain in DOMAINS {
        let figures = |of: &Value, class: &str| of["domains"][domain]["classes"][class].clone();
        assert_eq!(figures(&part, "food_drink"), figures(&own, "food_drink"));
        assert_eq!(figures(&part, "activities")["n"], 0);
    }
    let (code, text, _) = said(&world, &weights, "Some");
    let line = "classes: 2 of the 3 of the network, matched by name; no image of \"activities\". A prediction is the largest of all 3 outputs\n";
    assert!(code == Some(0) && text.ends_with(line), "{text}");

    // Renamed, it is another class; nothing is evaluated.
    let renamed = folder(&world, "Renamed");
    for domain in DOMAINS {
        fs::rename(renamed.join(domain).join("activities"), renamed.join(domain).join("sports")).unwrap();
    }
    let (code, text, error) = said(&world, &weights, "Renamed");
    let expected = "Renamed: the network has no output for the classes \"sports\"; it has 3: \"activities\", \"food_drink\", \"objects\"\n";
    assert!(code == Some(1) && text.is_empty() && error.ends_with(expected), "{text}{error}");

    // No folder has another order than the sorted one, but a file may name its outputs in any.
    let mut bytes = fs::read(&weights).unwrap();
    let listed = |names: [&str; 3]| names.map(|name| format!("\\\"{name}\\\"")).join(",").into_bytes();
    let [first, second, third] = CLASSES;
    let (before, after) = (listed(CLASSES), listed([third, first, second]));
    let at = bytes.windows(before.len()).position(|window| window == before).unwrap();
    bytes[at..at + after.len()].copy_from_slice(&after);
    let turned = world.folder.path().join("turned.safetensors");
    fs::write(&turned, bytes).unwrap();
    let other = evaluated(&world, &turned, "Same");
    assert_eq!(other["classes"]["outputs"], json!([third, first, second]));
    for domain in DOMAINS {
        // The same predictions by index, of images whose classes have other indices now.
        let row = |of: &Value, class: usize| of["domains"][domain]["confusion"][class].clone();
        for (class, now) in [(0, 1), (1, 2), (2, 0)] {
            assert_eq!(row(&other, now), row(&own, class), "{domain}");
        }
    }
    // A file of tensors that names no trial names no classes.
    let mut bytes = fs::read(&weights).unwrap();
    let key = b"sortie-weights";
    let at = bytes.windows(key.len()).position(|window| window == key).unwrap();
    bytes[at..at + key.len()].copy_from_slice(b"others-weights");
    fs::write(&turned, bytes).unwrap();
    let (code, _, error) = said(&world, &turned, "Same");
    assert!(
        code == Some(1)
            && error.contains("no weights and no checkpoint of a trial, which would name its classes: "),
        "{error}"
    );
}
