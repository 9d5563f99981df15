//! The identities of all trials that the examples and presets plan, compared with those that they have always had: a trial whose name
//! changes is trained again, and its old result is nobody's.
#![expect(clippy::unwrap_used, reason = "a test ends at the first thing that goes wrong")]

use std::fs;
use std::path::Path;

use sortie_core::presets::PRESETS;
use sortie_core::spec::SweepSpec;

/// A line for each sweep: name, trials, the first trial's identity, BLAKE3 of all of them in order.
const EXPECTED: &str = include_str!("fixtures/identities.txt");

fn line(name: &str, text: &str) -> String {
    let sweep = SweepSpec::parse(text, None).unwrap();
    let ids: Vec<String> = sweep.trials().map(|trial| trial.hash().to_string()).collect();
    let digest = blake3::hash(ids.join("\n").as_bytes()).to_hex();
    format!("{name} {} {} {digest}", ids.len(), ids[0])
}

#[test]
fn the_trials_of_examples_and_presets_keep_their_names() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut examples: Vec<_> =
        files.filter(|path| path.extension().is_some_and(|extension| extension == "toml")).collect();
    examples.sort();
    let mut lines: Vec<String> = examples
        .iter()
        .map(|path| line(&path.file_name().unwrap().to_string_lossy(), &fs::read_to_string(path).unwrap()))
        .collect();
    for dataset in [None, Some("VLCS"), Some("office_home")] {
        let named = dataset.map_or_else(String::new, |dataset| format!(":{dataset}"));
        lines.extend(
            PRESETS.iter().map(|preset| line(&format!("{}{named}", preset.name), &preset.text(dataset))),
        );
    }
    let actual = lines.join("\n") + "\n";
    assert!(actual == EXPECTED, "the identities of trials changed. Now:\n{actual}");
}
