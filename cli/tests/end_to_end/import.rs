//! DomainBed's records through a real coordinator and back.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

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
        fs::create_dir_all(to.join(run.file_name())).unwrap();
        for file in fs::read_dir(run.path()).unwrap() {
            let file = file.unwrap();
            fs::copy(file.path(), to.join(run.file_name()).join(file.file_name())).unwrap();
        }
    }
}

fn tables(world: &World, sweep: &str) -> String {
    let output: Output =
        world.sortie(&["results", sweep, "--select", "iid,loo,oracle", "--format", "domainbed"]);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_real_sweep_comes_in_gives_domainbeds_tables_and_goes_out_again() {
    let (Some(sweep), Some(world)) = (real_sweep(), World::new()) else { return };
    let expected = fs::read_to_string(sweep.join("expected_tables.txt")).unwrap();
    let records = sweep.join("records");
    let import = |folder: &Path, name: &str| {
        world.json(&["import", "domainbed", folder.to_str().unwrap(), "--name", name, "--json"])
    };
    let said = import(&records, "vlcs");
    assert_eq!(
        (&said["runs"], &said["imported"], &said["missing"], &said["unfinished"]),
        (&40.into(), &40.into(), &0.into(), &0.into())
    );
    assert_eq!(tables(&world, "vlcs"), expected);
    // Again adds nothing; under another name it is another sweep.
    assert_eq!(import(&records, "vlcs")["imported"], 0);

    let exported = world.folder.path().join("exported");
    world.json(&["export", "vlcs", "--format", "domainbed", "-o", exported.to_str().unwrap(), "--json"]);
    assert_eq!(import(&exported, "again")["imported"], 40);
    assert_eq!(tables(&world, "again"), expected);
    let results = world.json(&["results", "vlcs", "--by", "algorithm", "--best", "--json"]);
    // DomainBed's own table has 98.0 for C: the best setting of each trial seed.
    assert_eq!(results["cells"][0]["held_out"], "C");
    assert!((results["cells"][0]["ood"]["mean"].as_f64().unwrap() - 0.98).abs() < 5e-4, "{results}");
}

#[test]
fn a_tree_with_gaps_and_wounds_is_imported_as_far_as_it_goes() {
    let (Some(sweep), Some(world)) = (real_sweep(), World::new()) else { return };
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
    assert_eq!(tables(&world, "torn"), fs::read_to_string(sweep.join("expected_tables.txt")).unwrap());
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
        let refused = world.sortie(&["import", "domainbed", odd.to_str().unwrap(), "--name", "odd"]);
        let error = String::from_utf8(refused.stderr).unwrap();
        assert!(
            refused.status.code() == Some(1) && error.contains("allowed") && error.lines().count() == 1,
            "{error}"
        );
    }
    assert!(!world.sortie(&["results", "odd"]).status.success());
    let refused =
        world.sortie(&["import", "domainbed", world.folder.path().to_str().unwrap(), "--name", "nothing"]);
    let text = String::from_utf8(refused.stderr).unwrap();
    assert!(
        refused.status.code() == Some(1) && text.contains("has no folder with a file results.jsonl"),
        "{text}"
    );
}
