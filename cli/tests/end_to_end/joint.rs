//! Several sweeps in one answer, of a real coordinator.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use sortie_analysis::domainbed::{self, SelectionMethod};

use crate::support::World;

/// DomainBed's names and numbers of domains.
const DATASETS: [(&str, usize); 5] =
    [("VLCS", 4), ("PACS", 4), ("OfficeHome", 4), ("TerraIncognita", 4), ("DomainNet", 6)];

/// A tree of runs of two algorithms on these datasets, each with every domain held out.
fn write(tree: &Path, datasets: &[(&str, usize)]) {
    for &(dataset, envs) in datasets {
        for (algorithm, env, hparams_seed) in ["CORAL", "ERM"]
            .into_iter()
            .flat_map(|a| (0..envs).flat_map(move |env| [(a, env, 0), (a, env, 1)]))
        {
            let folder = tree.join(format!("{dataset}-{algorithm}-{env}-{hparams_seed}"));
            fs::create_dir_all(&folder).unwrap();
            let line = |step: usize| {
                let mut line = json!({
                    "args": {
                        "dataset": dataset, "algorithm": algorithm, "test_envs": [env], "hparams_seed": hparams_seed, "trial_seed": 0,
                        "seed": 0, "output_dir": "x",
                    },
                    "hparams": {"lr": 0.001}, "step": 300 * step,
                });
                for other in 0..envs {
                    let words =
                        dataset.len() + 7 * env + 3 * other + 11 * hparams_seed + 5 * step + algorithm.len();
                    line[format!("env{other}_in_acc")] = json!((500 + 37 * words % 499) as f64 / 1_009.0);
                    line[format!("env{other}_out_acc")] = json!((500 + 53 * words % 491) as f64 / 1_009.0);
                }
                format!("{line}\n")
            };
            fs::write(folder.join("results.jsonl"), line(0) + &line(1)).unwrap();
            fs::write(folder.join("done"), "").unwrap();
        }
    }
}

fn out(world: &World, words: &[&str]) -> String {
    let output = world.sortie(words);
    assert!(output.status.success(), "{words:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn refused(world: &World, words: &[&str]) -> String {
    let output = world.sortie(words);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(1) && error.lines().count() == 1, "{words:?}: {error}");
    error
}

#[test]
fn trees_of_two_and_of_five_datasets_come_in_and_go_out_with_their_averages() {
    let world = World::of_commands();
    for (name, datasets) in [("two", &DATASETS[1..3]), ("five", &DATASETS[..])] {
        let tree = world.folder.path().join(name);
        write(&tree, datasets);
        let runs = domainbed::read(&tree).unwrap().runs;
        world.json(&["import", "domainbed", tree.to_str().unwrap(), "--name", name, "--json"]);
        let sweeps: Vec<String> = datasets.iter().map(|(dataset, _)| format!("{name}-{dataset}")).collect();
        let sweeps: Vec<&str> = sweeps.iter().map(String::as_str).collect();
        let select = ["--select", "iid,loo,oracle"];
        let all = |first: &[&str], last: &[&str]| out(&world, &[first, &sweeps, last].concat());
        let text = all(&["results"], &[&select[..], &["--format", "domainbed"]].concat());
        assert_eq!(text, domainbed::tables(&runs, &SelectionMethod::ALL));
        assert!(
            text.contains("-------- Averages, model selection method: training-domain")
                && text.contains("OfficeHome")
        );
        let latex = all(&["results"], &[&select[..], &["--format", "domainbed-latex"]].concat());
        assert_eq!(latex, domainbed::latex(&runs, &SelectionMethod::ALL));
        // What is exported together gives the same again; folders lie in another order, so no mean may lie between two digits.
        let exported = world.folder.path().join(format!("{name}-exported"));
        all(&["export"], &["--format", "domainbed", "-o", exported.to_str().unwrap()]);
        let again = domainbed::read(&exported).unwrap().runs;
        assert_eq!(domainbed::tables(&again, &SelectionMethod::ALL), text);
    }
    // A dataset is called by its folder, as in sweep files.
    let by = world.json(&["results", "five-OfficeHome", "five-PACS", "--by", "dataset", "--json"]);
    assert_eq!(
        (&by["means"][0]["dataset"], &by["means"][1]["dataset"]),
        (&"PACS".into(), &"office_home".into())
    );
    let tree = world.folder.path().join("five");
    let one = [
        "import",
        "domainbed",
        tree.to_str().unwrap(),
        "--name",
        "one",
        "--dataset",
        "office_home",
        "--json",
    ];
    assert_eq!(world.json(&one)["imported"], 16);
}

#[test]
fn tables_figures_pages_and_rows_take_several_sweeps_and_conditions() {
    let world = World::of_commands();
    let tree = world.folder.path().join("tree");
    write(&tree, &DATASETS[..2]);
    world.json(&["import", "domainbed", tree.to_str().unwrap(), "--name", "t", "--json"]);
    let both = ["t-VLCS", "t-PACS"];
    let table = out(&world, &["results", both[0], both[1], "--by", "algorithm"]);
    assert!(
        table.starts_with("sweeps t-VLCS, t-PACS, ") && table.contains("32 of 32 trials done"),
        "{table}"
    );
    assert!(table.contains(" algorithm   VLCS ") && table.contains("16/16"), "{table}");
    let only = ["--where", "algorithm=ERM and hparams_seed=0"];
    let csv =
        out(&world, &[&["results"], &both[..], &only, &["--by", "algorithm", "--format", "csv"]].concat());
    assert!(csv.lines().count() == 9 && csv.starts_with("algorithm,dataset,held_out,metric,"), "{csv}");
    let json = world.json(&[&["results"], &both[..], &["--where", "dataset=PACS", "--json"]].concat());
    assert_eq!((&json["planned"], &json["datasets"][0]["dataset"]), (&16.into(), &"PACS".into()));
    // Rows of all, each with its sweep.
    let rows = out(&world, &[&["export"], &both[..], &only, &["--format", "csv"]].concat());
    let first: Vec<&str> = rows.lines().skip(1).filter_map(|line| line.split(',').next()).collect();
    assert!(
        first.contains(&"t-VLCS")
            && first.contains(&"t-PACS")
            && rows.contains(",ERM,")
            && !rows.contains(",CORAL,")
    );
    // A picture and a page.
    for (words, file) in [
        (&["figure", "--kind", "scatter", "--by", "algorithm"][..], "scatter.svg"),
        (&["figure", "--kind", "box", "--by", "algorithm"], "box.pdf"),
        (&["report", "--by", "algorithm"], "page.html"),
    ] {
        let path = world.folder.path().join(file);
        let said = world
            .json(&[&words[..1], &both, &words[1..], &["-o", path.to_str().unwrap(), "--json"]].concat());
        assert_eq!(said["sweeps"], json!(both), "{said}");
        assert!(fs::metadata(&path).unwrap().len() > 1_000, "{file}");
    }
    let page = fs::read_to_string(world.folder.path().join("page.html")).unwrap();
    assert!(page.contains("Sweeps t-VLCS, t-PACS") && page.contains("<svg") && page.contains("16/16"));
    let one = world.folder.path().join("one.html");
    out(&world, &["report", "t-PACS", "--where", "algorithm=ERM", "-o", one.to_str().unwrap()]);
    let page = fs::read_to_string(one).unwrap();
    assert!(
        page.contains("Only trials that meet <code>algorithm=ERM</code>")
            && page.contains("All 8 planned trials"),
        "{page}"
    );
    // The same trials under another name are others: they are not averaged.
    world.json(&["import", "domainbed", tree.to_str().unwrap(), "--name", "u", "--json"]);
    let error = refused(&world, &["results", "t-PACS", "u-PACS", "--by", "algorithm"]);
    assert!(error.contains("tell them apart with --by algorithm,sweep"), "{error}");
    let apart = out(&world, &["results", "t-PACS", "u-PACS", "--by", "algorithm,sweep"]);
    assert!(apart.contains(" ERM         u-PACS "), "{apart}");
    let error = refused(&world, &["results", "t-PACS", "u-PACS", "--format", "domainbed"]);
    assert!(error.contains("have different runs of CORAL on PACS"), "{error}");
    refusals(&world);
}

fn refusals(world: &World) {
    let svg = world.folder.path().join("x.svg");
    let svg = svg.to_str().unwrap();
    for (words, said) in [
        (&["results", "t-PACS", "t-PACS"][..], "sweep t-PACS is named twice"),
        (&["results", "t-PACS", "nope"], "there is no sweep \"nope\""),
        (
            &["results", "t-PACS", "--where", "colour=1"],
            "\"colour\" is not an axis of this sweep; its axes are algorithm, dataset, hparams_seed",
        ),
        (&["figure", "t-PACS", "--preset", "figure1", "-o", svg], "no setting with a finished trial"),
        (&["report", "t-PACS", "--by", "algorithm", "-o", "x.html"], "--by tells several sweeps apart"),
    ] {
        let error = refused(world, words);
        assert!(error.contains(said), "{words:?}: {error}");
    }
    let output = world.sortie(&["results", "t-PACS", "t-VLCS", "--where", "algorithm=Fish"]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(
        error.contains("no trial of sweep t-VLCS has algorithm = Fish: it has CORAL, ERM")
            && error.contains("no trial of t-PACS, t-VLCS meets \"algorithm=Fish\""),
        "{error}"
    );
    let value: Value = world.json(&["results", "t-PACS", "--where", "sweep=t-PACS", "--json"]);
    assert_eq!(value["planned"], 16);
}
