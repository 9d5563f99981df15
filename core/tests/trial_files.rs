//! Sweep files that are written from sweeps: they read back as the same sweep, and those of single trials plan these trials.
#![expect(clippy::unwrap_used, reason = "a test ends at the first thing that goes wrong")]

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use sortie_core::finetune::Setting;
use sortie_core::presets::PRESETS;
use sortie_core::spec::SweepSpec;
use sortie_core::trial::{TrialSpec, Work};

fn parse(text: &str) -> SweepSpec {
    SweepSpec::parse(text, None).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// Reads back what is written of a sweep, and the file of one of its trials; gives how many trials that file plans.
fn check(sweep: &SweepSpec, trial: &TrialSpec) -> u64 {
    let again = parse(&sweep.to_toml());
    assert_eq!(again, *sweep);
    assert_eq!(again.trials_planned(), sweep.trials_planned());
    let file = sweep.trial_file(trial.hash(), &trial.point).unwrap();
    let alone = parse(&file);
    let planned: Vec<TrialSpec> = alone.trials().filter(|planned| planned.hash() == trial.hash()).collect();
    assert_eq!(planned.len(), 1, "{file}");
    // The file has the trial's own settings where the sweep varies them.
    let mut trial = trial.clone();
    if matches!(trial.work, Work::Finetune(_)) {
        trial.point.parameters.retain(|axis, _| Setting::on_axis(axis).is_none());
    }
    let trial = &trial;
    // Numbers on axes are given to programs as they are written.
    let arguments = |trial: &TrialSpec| -> Vec<String> {
        trial.point.parameters.values().map(|value| value.argument()).collect()
    };
    assert_eq!(arguments(&planned[0]), arguments(trial), "{file}");
    assert_eq!((&planned[0], alone.keep, alone.limits), (trial, sweep.keep, sweep.limits));
    assert_eq!(alone.require, sweep.require);
    alone.trials_planned().unwrap()
}

#[test]
fn every_example_and_preset_reads_back_and_its_trials_have_files() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let examples = files.filter(|path| path.extension().is_some_and(|extension| extension == "toml"));
    let mut texts: Vec<String> = examples.map(|path| fs::read_to_string(path).unwrap()).collect();
    assert!(texts.len() > 10);
    texts.extend(PRESETS.iter().map(|preset| preset.text(None)));
    for text in texts {
        let sweep = parse(&text);
        let last = sweep.trials_planned().unwrap() as usize - 1;
        let trials: Vec<TrialSpec> = sweep.trials().step_by(1 + last / 7).collect();
        for trial in trials.iter().chain(sweep.trials().nth(last).as_ref()) {
            let planned = check(&sweep, trial);
            let alone = trial.combination.is_none() && trial.point.held_out.len() < 2;
            assert_eq!(planned == 1, alone, "{text}");
        }
    }
}

const TRAINED: &str = r#"
name = "all-keys"
select = ["oracle", "iid"]
[data]
dataset = "own-data"
domains = ["b \"quoted\"", "a", "each"]
classes = ["dog é", "cat"]
group = "stem"
layout = "{domain}/v 2/{class}"
missing_classes = "allow"
pixels = 200
augment = false
out_transform = "eval"
cache_pixels = 300
[model]
backbone = "resnet50-v1"
finetune = "linear"
block_norm = "none"
batch_norm = "frozen"
weights = "mine"
[train]
steps = 70
batch_per_domain = 3
micro_batch = 5
evaluate_every = 7
precision = "bf16"
momentum = 0
milestones = [3, 40]
gamma = 0.25
average = { from = 3, every = "evaluation" }
ensemble = { from = 9 }
[require]
tags = ["b", "a"]
gpu_memory_gib = 10
[keep]
weights = "both"
logits = false
checkpoint_minutes = 12.5
[limits]
hours = 4
stall_minutes = 1.5
[grid]
dropout = [0.0, 0.5]
lr = 1e-7
weight_decay = [5e-324]
head_lr_factor = 10
held_out = ["each", "b \"quoted\""]
seeds = [3, 18446744073709551]
splits = 2
"#;

#[test]
fn every_key_is_written() {
    let sweep = parse(TRAINED);
    for trial in sweep.trials() {
        assert_eq!(check(&sweep, &trial), 1);
    }
    let written = sweep.to_toml();
    for line in TRAINED.lines().filter_map(|line| line.split_once(" = ")) {
        assert!(written.contains(&format!("\n{} = ", line.0)) || line.0 == "name", "{} in {written}", line.0);
    }
    // What is not set is said.
    let plain = parse("name = 's'\n[run]\ncommand = ['x']\n").to_toml();
    for line in ["# steps: not known\n", "# retries: 1, the default\n", "# held_out: none\n", "seeds = [0]\n"]
    {
        assert!(plain.contains(line), "{plain}");
    }
}

#[test]
fn the_file_of_a_trial_is_what_a_user_reads() {
    let sweep = parse(include_str!("../../examples/quickstart.toml"));
    let trial = sweep.trials().nth(1).unwrap();
    let file = sweep.trial_file(trial.hash(), &trial.point).unwrap();
    let (id, short) = (trial.hash(), trial.hash().short());
    let begin = format!(
        "# Trial {id} of sweep {}, with every setting. This file plans it alone.\nname = \"trial-{short}\"\n",
        sweep.name
    );
    assert!(file.starts_with(&begin), "{file}");
    for key in ["checkpoint_minutes = 0.5\n", "# stall_minutes: 60, the default\n", "# average: none\n"] {
        assert!(file.contains(key), "{file}");
    }
}

#[test]
fn a_command_keeps_its_words_and_its_numbers() {
    let sweep = parse(
        r#"
name = "programs"
[run]
command = ["python", "-c", "print('{lr}')\n\t\"{{}}\"", "{flag:amp}", "--name={word}", "{seed}", ""]
steps = 100
complete_at = 90
retries = 5
[data]
dataset = "PACS"
[grid]
lr = [1e-3, 1E5, 6.02e+23, 123456789012345680000.0]
amp = [true, false]
word = ["a b", "1e3", "true", "é\u0001"]
n = 4.0
seeds = 2
held_out = ["photo"]
"#,
    );
    for trial in sweep.trials() {
        assert_eq!(check(&sweep, &trial), 1);
    }
    let trial = sweep.trials().next().unwrap();
    let file = sweep.trial_file(trial.hash(), &trial.point).unwrap();
    for line in ["\nlr = 1e-3\n", "\nn = 4.0\n", "\namp = true\n", "\nretries = 5\n", "\nseeds = [0]\n"] {
        assert!(file.contains(line), "{file}");
    }
}

#[test]
fn combinations_come_with_their_members_and_pairs_with_others() {
    let combined = parse(
        r#"
name = "soups"
select = ["iid", "loo"]
[data]
dataset = "PACS"
[model]
backbone = "efficientnet-lite0"
[train]
average = { from = 300 }
[grid]
dropout = [0.0, 0.5, 0.9]
lr = [5e-4, 1e-3]
weight_decay = 1e-4
held_out = ["photo", "sketch"]
seeds = 4
[[combine]]
name = "all"
kind = "average"
over = ["dropout", "seed"]
members = [2, 5, 12]
method = "average"
[[combine]]
name = "some"
kind = "ensemble"
over = "seed"
choice = "greedy"
where = "lr=1e-3 and dropout=0.5"
"#,
    );
    let (mut pairs, mut sizes) = (0, std::collections::BTreeSet::new());
    for trial in combined.trials() {
        let planned = check(&combined, &trial);
        match &trial.combination {
            Some(combination) => {
                sizes.insert((combination.members.len(), planned));
            }
            None if trial.point.held_out.len() == 2 => {
                pairs += 1;
                assert_eq!(planned, 4);
                let file = combined.trial_file(trial.hash(), &trial.point).unwrap();
                let label = trial.point.held_out_label();
                assert!(
                    file.contains(&format!("plans 4 trials, and this one holds out {label}.\n")),
                    "{file}"
                );
            }
            None => assert_eq!(planned, 1),
        }
    }
    assert!(pairs > 0);
    // No more members than it has, but for those that fill the last axis up.
    assert_eq!(sizes.into_iter().collect::<Vec<_>>(), [(2, 3), (4, 5), (5, 7), (12, 13)]);
}

#[test]
fn a_trial_that_no_file_plans_is_refused_in_one_line() {
    let sweep = parse(include_str!("../../examples/quickstart.toml"));
    let trial = sweep.trials().next().unwrap();
    let other = "94f9de813446924ef6b1cf831eaa3ef4".parse().unwrap();
    let reason = sweep.trial_file(other, &trial.point).unwrap_err();
    assert_eq!(reason, format!("no sweep file plans trial 94f9de81 of sweep {}", sweep.name));
    let old = SweepSpec { protocol: 1, ..sweep.clone() };
    assert!(
        old.trial_file(trial.hash(), &trial.point).unwrap_err().contains("under version 1 of the numbers")
    );
}

/// A part of a file: one of the keys' values, or nothing.
fn maybe(lines: &'static [&'static str]) -> impl Strategy<Value = &'static str> {
    prop_oneof![Just(""), select(lines)]
}

prop_compose! {
    fn trained()(
        model in select(&[
            "backbone = 'resnet50-v2'\nfinetune = 'full'", "backbone = 'resnet50-v2'\nfinetune = 'linear'",
            "backbone = 'resnet18'\nfinetune = 'scratch'", "backbone = 'vit-b-16'", "backbone = 'efficientnet-lite1'\nweights = 'w'",
            "backbone = 'mnist-cnn'\nfinetune = 'scratch'", "backbone = 'resnet18'\nfinetune = 'scratch'\nbatch_norm = 'frozen'",
            "backbone = 'resnet101'\nfinetune = 'linear'\nblock_norm = 'batch'",
        ][..]),
        data in subsequence(&["group = 'stem'", "layout = '{domain}/{class}/x'\nclasses = ['b', 'a']\ndomains = ['y', 'x', 'z']",
            "missing_classes = 'allow'", "out_transform = 'eval'", "cache_pixels = 64"][..], 0..=5),
        train in subsequence(&["batch_per_domain = 1", "micro_batch = 3", "micro_batch = 'auto'", "evaluate_every = 11", "precision = 'reference'", "ensemble = { from = 20 }"][..], 0..=6),
        optimizer in maybe(&["optimizer = 'adamw'", "optimizer = 'sgd'\nmomentum = 0.3", "momentum = 0"]),
        schedule in maybe(&["schedule = 'cosine'", "milestones = []", "milestones = [1, 20]\ngamma = 0.3", "gamma = 1"]),
        average in maybe(&["average = { from = 3 }", "average = { from = 3, every = 4 }", "average = { from = 3, every = 'evaluation' }"]),
        steps in 20_u64..1_000_000,
        keep in maybe(&["[keep]\nweights = 'selected'", "[keep]\nlogits = false", "[keep]\ncheckpoint_minutes = 0.1"]),
        select in maybe(&["select = ['loo', 'last']", "select = ['oracle']"]),
        (lr, dropout) in (1e-300_f64..1e300, prop::collection::btree_set(0_u32..1_000_000, 1..4)),
        fixed in any::<bool>(),
        seeds in prop::collection::btree_set(0_u64..1 << 62, 1..3),
    ) -> String {
        let dropout: Vec<String> = dropout.into_iter().map(|rate| format!("{:?}", f64::from(rate) / 1e6)).collect();
        let lr = if fixed { format!("{lr:?}") } else { format!("[{lr:?}]") };
        format!("name = 's'\n{select}\n[data]\ndataset = 'PACS'\n{}\n[model]\n{model}\n[train]\nsteps = {steps}\n{}\n{optimizer}\n{schedule}\n{average}\n{keep}\n[grid]\ndropout = [{}]\nlr = {lr}\nweight_decay = 0\nseeds = {:?}\n",
            data.join("\n"), train.join("\n"), dropout.join(", "), seeds)
    }
}

prop_compose! {
    fn commanded()(
        words in prop::collection::vec("[^{}\u{0}]{0,12}", 0..4),
        texts in prop::collection::btree_set("[^\u{0}]{0,12}", 1..4),
        numbers in prop::collection::btree_set("[+-]?[1-9][0-9]{0,5}(\\.[0-9]{1,4})?([eE][+-]?[0-9]{1,2})?", 1..4),
        flag in any::<bool>(),
        run in subsequence(&["steps = 9", "complete_at = 9", "retries = 0"][..], 0..=3),
        limits in maybe(&["[limits]\nhours = 0.5", "[limits]\nstall_minutes = 3"]),
        metrics in maybe(&["[metrics]\nf1.goal = 'max'", "[metrics]\n'val/nll' = { goal = 'min', unit = 'n\"ats' }"]),
        held_out in maybe(&["held_out = ['x', 'y z']", "held_out = 'each'"]),
    ) -> String {
        let quoted = |text: &String| serde_json::to_string(text).unwrap().replace('\u{7f}', "\\u007F");
        let words: Vec<String> = words.iter().map(quoted).collect();
        let texts: Vec<String> = texts.iter().map(quoted).collect();
        let numbers: Vec<String> = numbers.into_iter().collect();
        let held_out = held_out.replace("'each'", "['each']");
        format!("name = 's'\n{limits}\n{metrics}\n[run]\ncommand = ['program', {}]\n{}\n[grid]\ntext = [{}]\nnumber = [{}]\nflag = {flag}\n{held_out}\n",
            words.join(", "), run.join("\n"), texts.join(", "), numbers.join(", "))
    }
}

proptest! {
    #[test]
    fn whatever_is_planned_reads_back(text in prop_oneof![trained(), commanded()], which in any::<prop::sample::Index>()) {
        // Not every choice fits the others, and two numbers may be the same.
        let Ok(sweep) = SweepSpec::parse(&text, None) else { return Ok(()) };
        let planned = sweep.trials_planned().unwrap() as usize;
        let trial = sweep.trials().nth(which.index(planned)).unwrap();
        let count = check(&sweep, &trial);
        prop_assert_eq!(count == 1, trial.point.held_out.len() < 2);
    }
}
