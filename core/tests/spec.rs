//! Sweep files: what they mean, and what is refused in which words.
#![expect(clippy::unwrap_used, reason = "a test ends at the first thing that goes wrong")]

use std::collections::HashSet;

use proptest::prelude::*;
use sortie_core::spec::SweepSpec;
use sortie_core::trial::{DatasetSpec, SplitBy};

const PAPER: &str = r#"
name = "pacs-dropout"
select = ["iid"]
[data]
dataset = "PACS"
[model]
backbone = "efficientnet-lite0"
finetune = "full"
[train]
steps = 10000
batch_per_domain = 32
evaluate_every = 300
precision = "fp32"
[grid]
dropout = [0.0, 0.5, 0.9, 0.95]
lr = [5e-4, 1e-3]
weight_decay = [1e-4, 5e-5, 1e-5]
held_out = "each"
seeds = 3
"#;

fn parse(text: &str) -> SweepSpec {
    SweepSpec::parse(text, None).unwrap()
}

#[test]
fn the_papers_grid_has_288_trials_and_starts_balanced() {
    let sweep = parse(PAPER);
    let trials: Vec<_> = sweep.trials().collect();
    assert_eq!((trials.len() as u64, sweep.trials_planned()), (288, Some(288)));
    let ids: HashSet<_> = trials.iter().map(|trial| trial.id()).collect();
    assert_eq!(ids.len(), 288);
    let held_out: Vec<_> = trials[..4].iter().map(|trial| trial.point.held_out_label()).collect();
    assert_eq!(held_out, ["art_painting", "cartoon", "photo", "sketch"]);
    assert!(trials[..96].iter().all(|trial| trial.point.seed == 0));
    assert_eq!(trials[0].settings.milestones, [5_000, 10_000]);
}

#[test]
fn notation_and_order_do_not_change_a_trials_identity() {
    let ids = |text: &str| parse(text).trials().map(|trial| trial.id()).collect::<HashSet<_>>();
    let rewritten = PAPER
        .replace("[5e-4, 1e-3]", "[0.001, 0.0005]")
        .replace("dropout = [0.0, 0.5, 0.9, 0.95]", "dropout = [0.95, -0.0, 0.5, 0.9]")
        .replace("held_out = \"each\"", "held_out = [\"sketch\", \"photo\", \"cartoon\", \"art_painting\"]")
        .replace("seeds = 3", "seeds = [2, 1, 0]")
        .replace("pacs-dropout", "another-name");
    assert_eq!(ids(PAPER), ids(&rewritten));
    assert!(ids(PAPER).is_disjoint(&ids(&PAPER.replace("steps = 10000", "steps = 9999"))));
}

/// What is replaced in the paper's file, by what, and what the one line must say.
const REFUSED: &[(&str, &str, &[&str])] = &[
    ("lr = [5e-4, 1e-3]", "learning_rate = 1e-3", &["line 16", "unknown field `learning_rate`", "`lr`"]),
    ("dropout = [0.0, 0.5, 0.9, 0.95]", "dropout = []", &["grid.dropout", "at least one value"]),
    ("0.95]", "1.0]", &["grid.dropout = 1.0", "below 1"]),
    ("0.95]", "-0.1]", &["grid.dropout = -0.1", "at least 0"]),
    ("0.95]", "nan]", &["grid.dropout = NaN"]),
    ("0.95]", "0.9]", &["grid.dropout = 0.9", "only once"]),
    ("0.95]", "\"high\"]", &["line 15", "a number"]),
    ("[5e-4, 1e-3]", "0", &["grid.lr = 0.0", "above 0"]),
    ("[5e-4, 1e-3]", "nan", &["grid.lr = NaN"]),
    ("[5e-4, 1e-3]", "inf", &["grid.lr = inf"]),
    ("5e-5, 1e-5]", "-1e-5]", &["grid.weight_decay = -1e-5"]),
    ("efficientnet-lite0", "resnet51", &["line 7", "resnet51", "efficientnet-lite0"]),
    ("\"each\"", "[\"moon\"]", &["grid.held_out = \"moon\"", "art_painting, cartoon, photo, sketch"]),
    ("\"each\"", "\"all\"", &["line 18", "\"each\" or a list"]),
    ("seeds = 3", "seeds = 0", &["grid.seeds = 0"]),
    ("seeds = 3", "seeds = -1", &["line 19", "not negative"]),
    ("seeds = 3", "seeds = 3000000", &["grid.seeds = 3000000", "1 to 10000"]),
    ("seeds = 3", "seeds = 10000\nsplits = 1000", &["at most 10000000 trials"]),
    ("steps = 10000", "steps = -1", &["line 10"]),
    ("batch_per_domain = 32", "batch_per_domain = 0", &["train.batch_per_domain = 0", "1 to 65536"]),
    ("evaluate_every = 300", "evaluate_every = 0", &["train.evaluate_every = 0"]),
    ("evaluate_every = 300", "milestones = [5, 3]", &["train.milestones"]),
    ("dataset = \"PACS\"", "dataset = \"MyData\"", &["MyData", "--data ROOT"]),
    ("dataset = \"PACS\"", "dataset = \"../PACS\"", &["data.dataset"]),
    ("dataset = \"PACS\"", "dataset = \"X\"\ndomains = [\"a\"]\nclasses = [\"b\", \"c\"]", &["data.domains"]),
    ("name = \"pacs-dropout\"", "name = \"a b\"", &["name = \"a b\""]),
    ("name = \"pacs-dropout\"", "", &["missing field `name`"]),
    ("[\"iid\"]", "[\"best\"]", &["best", "iid, last"]),
    ("[\"iid\"]", "[\"iid\"", &["line"]),
    ("[model]", "[model", &["line"]),
];

#[test]
fn what_is_wrong_is_said_in_one_line_that_names_it() {
    for (old, new, words) in REFUSED {
        let text = PAPER.replacen(old, new, 1);
        assert_ne!(text, PAPER, "{old}");
        let message = SweepSpec::parse(&text, None).unwrap_err().to_string();
        assert!(!message.contains('\n'), "{new}: {message}");
        for word in *words {
            assert!(message.contains(word), "{new}: {message} lacks {word}");
        }
    }
}

#[test]
fn a_folder_or_the_file_can_say_what_a_dataset_holds() {
    let words = |list: &[&str]| list.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let found = DatasetSpec { name: "Mine".into(), domains: words(&["a", "b"]), classes: words(&["x", "y"]), split_by: SplitBy::Stem };
    let text = PAPER.replace("\"PACS\"", "\"Mine\"");
    assert_eq!(SweepSpec::parse(&text, Some(&found)).unwrap().settings.dataset, found);
    let listed = PAPER.replace("\"PACS\"", "\"Mine\"\ndomains = [\"b\", \"a\"]\nclasses = [\"y\", \"x\"]\ngroup = \"stem\"");
    assert_eq!(parse(&listed).settings.dataset, found);
}

proptest! {
    /// Whatever bytes a file holds, reading it ends in a sweep or in one line.
    #[test]
    fn no_text_is_too_odd(cut in 0..PAPER.len(), junk in "[ -~\\n]{0,12}") {
        let mut text = PAPER.to_owned();
        text.insert_str(cut, &junk);
        if let Err(error) = SweepSpec::parse(&text, None) {
            prop_assert!(!error.to_string().contains('\n'), "{}", error);
        }
    }
}
