//! DomainBed's records through a real coordinator and back.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::{Value, json};
use sortie_analysis::domainbed::{self, SelectionMethod};

use crate::support::World;

fn real_sweep() -> Option<PathBuf> {
    let Some(root) = std::env::var_os("SORTIE_TEST_DATA") else {
        println!("skipped: SORTIE_TEST_DATA names no folder with domainbed_sweep");
        return None;
    };
    Some(Path::new(&root).join("domainbed_sweep"))
}

fn copy(from: &Path, to: &Path) {
    for run in fs::read_dir(from).unwrap() {
        let run = run.unwrap();
        copy_run(&run.path(), &to.join(run.file_name()));
    }
}

fn copy_run(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for file in fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}

fn tables(world: &World, sweep: &str) -> String {
    let output: Output =
        world.sortie(&["results", sweep, "--select", "iid,loo,oracle", "--format", "domainbed"]);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// What DomainBed's collector prints for folders.
fn tables_of(folder: &Path) -> String {
    domainbed::tables(&domainbed::read(folder).unwrap().runs, &SelectionMethod::ALL)
}

fn import(world: &World, folder: &Path, name: &str) -> Value {
    world.json(&["import", "domainbed", folder.to_str().unwrap(), "--name", name, "--json"])
}

/// The one line of a refusal.
fn refused(world: &World, folder: &Path, name: &str) -> String {
    let output = world.sortie(&["import", "domainbed", folder.to_str().unwrap(), "--name", name]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(1) && error.lines().count() == 1, "{error}");
    error
}

/// A run that DomainBed's launcher did not start, with one record for each of these accuracies.
struct Folder<'a> {
    dataset: &'a str,
    algorithm: &'a str,
    test_envs: &'a [usize],
    hparams_seed: u64,
    accuracies: &'a [f64],
}

impl Folder<'_> {
    const SMALL: Self =
        Self { dataset: "VLCS", algorithm: "ERM", test_envs: &[0], hparams_seed: 0, accuracies: &[0.5] };

    fn lines(&self) -> Vec<Value> {
        let Self { dataset, algorithm, test_envs, hparams_seed, accuracies } = self;
        let line = |(step, accuracy): (u64, &f64)| {
            let mut line = json!({
                "args": {
                    "dataset": dataset, "algorithm": algorithm, "test_envs": test_envs, "hparams_seed": hparams_seed, "trial_seed": 0,
                    "seed": 0, "output_dir": "x",
                },
                "hparams": {"lr": 0.001}, "step": 300 * step,
            });
            for env in 0..4 {
                line[format!("env{env}_in_acc")] = json!(accuracy);
                line[format!("env{env}_out_acc")] = json!(accuracy);
            }
            line
        };
        (0..).zip(*accuracies).map(line).collect()
    }

    fn write(&self, folder: &Path) {
        write(folder, "results.jsonl", &self.lines());
        write(folder, "done", &[]);
    }
}

fn write(folder: &Path, file: &str, lines: &[Value]) {
    fs::create_dir_all(folder).unwrap();
    let lines: String = lines.iter().map(|line| format!("{line}\n")).collect();
    fs::write(folder.join(file), lines).unwrap();
}

#[test]
fn records_of_forks_are_read_and_none_is_imported_empty() {
    let world = World::of_commands();
    let tree = world.folder.path().join("tree");
    // Keys without `_acc`.
    for env in 0..3 {
        let short = |line: &Value| line.to_string().replace("_acc\"", "\"");
        let lines: Vec<Value> = Folder { test_envs: &[env], accuracies: &[0.5, 0.75], ..Folder::SMALL }
            .lines()
            .iter()
            .map(|line| serde_json::from_str(&short(line)).unwrap())
            .collect();
        write(&tree.join(format!("r{env}")), "results.jsonl", &lines);
    }
    let said = import(&world, &tree, "short");
    assert_eq!((&said["runs"], &said["imported"], &said["skipped"]), (&3.into(), &3.into(), &0.into()));
    let results = world.json(&["results", "short", "--json"]);
    assert_eq!(results["cells"][1]["ood"]["mean"], 0.75, "{results}");
    // A run that measured nothing is refused, and the others with it.
    let mut nothing = Folder { test_envs: &[3], ..Folder::SMALL }.lines();
    nothing[0] = serde_json::from_str(&nothing[0].to_string().replace("_acc\"", "_top1\"")).unwrap();
    write(&tree.join("r3"), "results.jsonl", &nothing);
    let error = refused(&world, &tree, "nothing");
    assert!(error.contains("r3/results.jsonl has no accuracy; allowed: "), "{error}");
    assert!(!world.sortie(&["status", "nothing"]).status.success());
}

#[test]
fn runs_with_other_numbers_of_held_out_domains_are_skipped_and_counted() {
    let world = World::of_commands();
    let tree = world.folder.path().join("tree");
    let all: [&[usize]; 4] = [&[0], &[1], &[0, 1, 2], &[]];
    for (name, test_envs) in (0..).zip(all) {
        Folder { test_envs, accuracies: &[0.5, 0.625], ..Folder::SMALL }
            .write(&tree.join(format!("r{name}")));
    }
    let text = world.sortie(&["import", "domainbed", tree.to_str().unwrap(), "--name", "some"]).stdout;
    let expected =
        "sweep some: 2 of 2 runs imported\n  2 runs hold out no domain or more than two: skipped\n";
    assert_eq!(String::from_utf8(text).unwrap(), expected);
    assert_eq!(tables(&world, "some"), tables_of(&tree));
    assert!(tables(&world, "some").starts_with("Total records: 8\n"));
    let said = import(&world, &tree, "some");
    assert_eq!((&said["imported"], &said["skipped"]), (&0.into(), &2.into()));
    assert!(tables(&world, "some").starts_with("Total records: 8\n"));
    fs::remove_dir_all(tree.join("r0")).unwrap();
    fs::remove_dir_all(tree.join("r1")).unwrap();
    let error = refused(&world, &tree, "none");
    assert!(error.contains("none of the 2 runs on VLCS holds out one or two domains"), "{error}");
}

#[test]
fn repeated_steps_count_as_domainbed_counts_them() {
    let world = World::of_commands();
    let tree = world.folder.path().join("tree");
    // Every domain and every pair, for two settings.
    let mut number = 0;
    for hparams_seed in 0..2 {
        for (a, b) in (0..4).flat_map(|a| (a..4).map(move |b| (a, b))) {
            let test_envs = if a == b { vec![a] } else { vec![a, b] };
            let accuracies = [0.25, 0.5, 0.375].map(|accuracy| accuracy + f64::from(number) / 64.0);
            Folder { test_envs: &test_envs, hparams_seed, accuracies: &accuracies, ..Folder::SMALL }
                .write(&tree.join(format!("{number:02}")));
            number += 1;
        }
    }
    let before = tables_of(&tree);
    // The run that held out the first domain, of the better setting, starts again after its second record and gets other numbers: then the
    // best step is the first, of the second start, and leave-one-domain-out has the last step only.
    let text = fs::read_to_string(tree.join("10/results.jsonl")).unwrap();
    let mut lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let mut again = lines[..2].to_vec();
    again[0]["env1_out_acc"] = json!(1.0);
    again[0]["env2_out_acc"] = json!(1.0);
    lines.splice(2..2, again);
    write(&tree.join("10"), "results.jsonl", &lines);
    let expected = tables_of(&tree);
    assert!(expected.starts_with("Total records: 62\n") && before.starts_with("Total records: 60\n"));
    let changed = expected.lines().zip(before.lines()).filter(|(new, old)| new != old).count();
    assert!(changed >= 5, "{expected}\n{before}");
    let said = import(&world, &tree, "again");
    assert_eq!((&said["repeated"], &said["contradicted"]), (&2.into(), &1.into()));
    assert_eq!(tables(&world, "again"), expected);
    // What a run says later changes nothing.
    let text = fs::read_to_string(tree.join("11/results.jsonl")).unwrap();
    fs::write(tree.join("11/results.jsonl"), text.repeat(2)).unwrap();
    assert_eq!(import(&world, &tree, "again")["imported"], 0);
    assert_eq!(tables(&world, "again"), expected);
    // Exported, they are there again.
    let exported = world.folder.path().join("exported");
    world.json(&["export", "again", "--format", "domainbed", "-o", exported.to_str().unwrap(), "--json"]);
    assert_eq!(tables_of(&exported), expected);
}

#[test]
fn several_datasets_become_a_sweep_each() {
    let world = World::of_commands();
    let tree = world.folder.path().join("tree");
    for (name, dataset) in [("a", "VLCS"), ("b", "PACS"), ("deeper/c", "PACS")] {
        let test_envs: &[usize] = if name == "b" { &[1] } else { &[0] };
        Folder { dataset, test_envs, ..Folder::SMALL }.write(&tree.join(name));
    }
    let torn = tree.join("b/results.jsonl");
    fs::write(&torn, fs::read_to_string(&torn).unwrap() + "{\"step\": ").unwrap();
    let said = import(&world, &tree, "all");
    let sweeps: Vec<_> = said["sweeps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|sweep| (sweep["sweep"].as_str().unwrap(), sweep["imported"].as_u64().unwrap()))
        .collect();
    assert_eq!((sweeps, &said["torn"]), (vec![("all-PACS", 2), ("all-VLCS", 1)], &1.into()));
    assert_eq!(world.status("all-VLCS")["succeeded"], 1);
    let folder = tree.to_str().unwrap();
    let one = world.json(&["import", "domainbed", folder, "--name", "one", "--dataset", "PACS", "--json"]);
    assert_eq!((&one["sweep"], &one["runs"]), (&"one".into(), &2.into()));
    let refused_dataset =
        world.sortie(&["import", "domainbed", folder, "--name", "one", "--dataset", "Mine"]);
    let error = String::from_utf8(refused_dataset.stderr).unwrap();
    assert!(error.contains("--dataset Mine: there are only runs on PACS, VLCS"), "{error}");
    // What is wrong with one of them is found before any is stored.
    Folder { algorithm: "A and B", ..Folder::SMALL }.write(&tree.join("d"));
    assert!(refused(&world, &tree, "odd").contains("run d has the algorithm"));
    assert!(!world.sortie(&["status", "odd-PACS"]).status.success());
}

/// How many times a user's action reached the coordinator.
fn actions(world: &World) -> usize {
    world.logs().lines().filter(|line| line.contains("a user acted")).count()
}

#[test]
fn a_grid_that_is_mostly_missing_costs_one_call_per_thousand_trials() {
    let world = World::of_commands();
    let tree = world.folder.path().join("tree");
    // 30 runs of as many algorithms and settings in a grid of 30 x 30 x 2.
    let algorithms: Vec<String> = (0..30).map(|number| format!("A{number}")).collect();
    for (hparams_seed, algorithm) in (0..).zip(&algorithms) {
        let test_envs: &[usize] = if hparams_seed % 2 == 0 { &[0] } else { &[1] };
        Folder { algorithm, hparams_seed, test_envs, ..Folder::SMALL }.write(&tree.join(algorithm));
    }
    let said = import(&world, &tree, "wide");
    assert_eq!((&said["imported"], &said["missing"]), (&30.into(), &1_770.into()));
    assert_eq!(actions(&world), 2, "{}", world.logs());
    // One more run: its trial is retried. Nothing more is cancelled.
    Folder { algorithm: "A0", hparams_seed: 7, test_envs: &[1], ..Folder::SMALL }
        .write(&tree.join("one more"));
    let said = import(&world, &tree, "wide");
    assert_eq!((&said["imported"], &said["missing"]), (&1.into(), &1_769.into()));
    assert_eq!(actions(&world), 3, "{}", world.logs());
    // DomainBed does not know the algorithms: their rows are in the order of the runs.
    let sorted = |text: String| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(sorted(tables(&world, "wide")), sorted(tables_of(&tree)));
}

/// The folder that one command of the paper's authors leaves. Its o.o.d. accuracy is `base` at the best step, and larger for the other models.
fn authors_run(tree: &Path, lr: f64, seed: u64, env: usize, base: f64) {
    let set = format!(
        "{{\"pretrain_version\":\"v2\",\"resnet_dropout\":0.9,\n\"weight_decay\":1e-4,\"lr\":{lr},\"lastlrfac\":1}}"
    );
    let args = json!({
        "algorithm": "ERM", "checkpoint_freq": null, "data_dir": "/my/data/dir", "dataset": "VLCS", "holdout_fraction": 0.2,
        "hparams": set, "hparams_seed": 0, "init_step": false, "output_dir": "out", "outsplit_noaug": 0, "path_for_init": null,
        "save_logits": 0, "save_model_every_checkpoint": false, "seed": seed, "skip_model_save": false, "steps": 10001,
        "test_envs": [env], "trial_seed": 0, "uda_holdout_fraction": 0,
    });
    let hparams = json!({
        "batch_size": 32, "data_augmentation": true, "freeze_bn": true, "gamma": 0.1, "lastlrfac": 1, "lr": lr,
        "ma_start_iter": 300, "milestones": [5000, 10000], "momentum": 0.9, "nonlinear_classifier": false, "optimizer": "sgd",
        "pretrain_version": "v2", "resnet18": false, "resnet_dropout": 0.9, "scheduler": "step", "skip_load_classifier": 0,
        "steps": 10001, "stodepth": 1.0, "stodepth_uniform": 1, "weight_decay": 1e-4,
    });
    let line = |step: u64, iid: f64, ood: f64| {
        let mut line = json!({
            "args": args, "epoch": 0.5, "hparams": hparams, "loss": 0.25, "mem_gb": 9.5, "step": step, "step_time": 0.125,
        });
        for domain in 0..4 {
            let (in_acc, out_acc) = if domain == env { (ood, ood) } else { (-1.0, iid) };
            line[format!("env{domain}_in_acc")] = json!(in_acc);
            line[format!("env{domain}_out_acc")] = json!(out_acc);
        }
        line
    };
    let lines = |plus: f64| [line(0, 0.25, 0.875), line(300, 0.75, base + plus), line(10_000, 0.5, 0.125)];
    let folder = tree.join(format!("{lr}_{seed}_{env}"));
    write(&folder, "results.jsonl", &lines(0.0));
    write(&folder, "swa300_results.jsonl", &lines(0.0625));
    write(&folder, "ensemble300_results.jsonl", &lines(0.125));
    write(&folder, "done", &[]);
}

#[test]
fn the_authors_runs_give_their_table() {
    let world = World::of_commands();
    let tree = world.folder.path().join("tree");
    for (lr, plus) in [(0.001, 0.0), (0.0005, 0.25)] {
        for (seed, more) in [(0, 0.0), (1, 0.03125)] {
            for env in 0..4 {
                authors_run(&tree, lr, seed, env, 0.25 + plus + more + 0.0625 * env as f64);
            }
        }
    }
    let said = import(&world, &tree, "theirs");
    assert_eq!((&said["runs"], &said["imported"], &said["missing"]), (&16.into(), &16.into(), &0.into()));
    for (method, plus) in [("plain", 0.0), ("average", 0.0625), ("ensemble", 0.125)] {
        let results = world.json(&["results", "theirs", "--method", method, "--json"]);
        let cells = results["cells"].as_array().unwrap();
        assert_eq!(cells.len(), 8, "{results}");
        for cell in cells {
            let env = ["C", "L", "S", "V"].iter().position(|domain| cell["held_out"] == *domain).unwrap();
            let base = if cell["lr"] == 0.0005 { 0.5 } else { 0.25 };
            // The mean over two seeds, at the step of the best i.i.d. accuracy.
            let mean = base + 0.015625 + 0.0625 * env as f64 + plus;
            assert_eq!(
                (&cell["ood"]["mean"], &cell["ood"]["n"]),
                (&json!(mean), &2.into()),
                "{method} {cell}"
            );
            assert_eq!(cell["iid"]["mean"], 0.75);
        }
    }
    let best = world.json(&["results", "theirs", "--by", "resnet_dropout", "--json"]);
    assert_eq!(best["cells"].as_array().unwrap().len(), 4);
    // A third seed and a third learning rate, of which most is missing, are added to it.
    authors_run(&tree, 0.01, 2, 0, 0.875);
    let said = import(&world, &tree, "theirs");
    assert_eq!((&said["runs"], &said["imported"], &said["missing"]), (&17.into(), &1.into(), &19.into()));
    // So are runs that come without the others.
    let later = world.folder.path().join("later");
    authors_run(&later, 0.01, 2, 1, 0.875);
    let said = import(&world, &later, "theirs");
    assert_eq!((&said["runs"], &said["imported"]), (&1.into(), &1.into()));
    assert_eq!(world.status("theirs")["succeeded"], 18);
}

#[test]
fn a_real_sweep_comes_in_gives_domainbeds_tables_and_goes_out_again() {
    let Some(sweep) = real_sweep() else { return };
    let world = World::of_commands();
    let expected = fs::read_to_string(sweep.join("expected_tables.txt")).unwrap();
    let records = sweep.join("records");
    let said = import(&world, &records, "vlcs");
    assert_eq!(
        (&said["runs"], &said["imported"], &said["missing"], &said["unfinished"]),
        (&40.into(), &40.into(), &0.into(), &0.into())
    );
    assert_eq!(tables(&world, "vlcs"), expected);
    // Again adds nothing; under another name it is another sweep.
    assert_eq!(import(&world, &records, "vlcs")["imported"], 0);

    let exported = world.folder.path().join("exported");
    world.json(&["export", "vlcs", "--format", "domainbed", "-o", exported.to_str().unwrap(), "--json"]);
    assert_eq!(import(&world, &exported, "again")["imported"], 40);
    assert_eq!(tables(&world, "again"), expected);
    let results = world.json(&["results", "vlcs", "--by", "algorithm", "--best", "--json"]);
    // DomainBed's own table has 98.0 for C: the best setting of each trial seed.
    assert_eq!(results["cells"][0]["held_out"], "C");
    assert!((results["cells"][0]["ood"]["mean"].as_f64().unwrap() - 0.98).abs() < 5e-4, "{results}");
}

#[test]
fn a_tree_with_gaps_and_wounds_is_imported_as_far_as_it_goes() {
    let Some(sweep) = real_sweep() else { return };
    let world = World::of_commands();
    let tree = world.folder.path().join("tree");
    copy(&sweep.join("records"), &tree);
    let mut runs: Vec<PathBuf> = fs::read_dir(&tree).unwrap().map(|run| run.unwrap().path()).collect();
    runs.sort();
    fs::remove_dir_all(&runs[0]).unwrap();
    fs::remove_file(runs[1].join("done")).unwrap();
    let text = fs::read_to_string(runs[2].join("results.jsonl")).unwrap();
    let first = text.lines().next().unwrap();
    fs::write(runs[2].join("results.jsonl"), format!("{text}{first}\n{}", &first[..100])).unwrap();
    let said = world.json(&["import", "domainbed", tree.to_str().unwrap(), "--name", "torn", "--json"]);
    let counts = ["runs", "imported", "missing", "unfinished", "repeated", "contradicted", "torn"]
        .map(|what| said[what].as_u64().unwrap());
    assert_eq!(counts, [39, 39, 1, 1, 1, 0, 1]);
    let status = world.status("torn");
    assert_eq!(
        (&status["succeeded"], &status["cancelled"], &status["queued"]),
        (&39.into(), &1.into(), &0.into())
    );
    // What was missing comes later: only that is new.
    let whole = sweep.join("records");
    let said = world.json(&["import", "domainbed", whole.to_str().unwrap(), "--name", "torn", "--json"]);
    assert_eq!((&said["runs"], &said["imported"], &said["missing"]), (&40.into(), &1.into(), &0.into()));
    assert_eq!(world.status("torn")["succeeded"], 40);
    // The run that was torn has its repeated line as before.
    let missing = runs[0].file_name().unwrap();
    copy_run(&whole.join(missing), &runs[0]);
    assert_eq!(tables(&world, "torn"), tables_of(&tree));
    assert!(tables_of(&tree).starts_with("Total records: 201\n"));
    for (from, to) in [
        ("\"algorithm\": \"ERM\"", "\"algorithm\": \"A and B\""),
        ("\"trial_seed\": 0", "\"trial_seed\": -1"),
    ] {
        let odd = world.folder.path().join("odd");
        fs::create_dir_all(odd.join("run")).unwrap();
        fs::write(
            odd.join("run/results.jsonl"),
            text.replace("\"trial_seed\": 1", "\"trial_seed\": 0").replace(from, to),
        )
        .unwrap();
        let error = refused(&world, &odd, "odd");
        assert!(error.contains("allowed"), "{error}");
    }
    assert!(!world.sortie(&["results", "odd"]).status.success());
    let nothing = world.folder.path().join("nothing");
    fs::create_dir(&nothing).unwrap();
    let error = refused(&world, &nothing, "nothing");
    assert!(error.contains("nothing has no folder with a file results.jsonl"), "{error}");
}
