//! A sweep over settings of `[train]` with averages and ensembles, trained; and that other sweeps take its plain numbers over as they are.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;

use crate::query;
use crate::support::{World, sweep, wait};

/// Two precisions, two sizes of batches, three domains.
fn varied() -> String {
    sweep("varied", 4, "1")
        .replace("batch_per_domain = 2", "batch_per_domain = [1, 2]\nprecision = [\"fp32\", \"bf16\"]")
        .replace("dropout = [0.0, 0.5]", "dropout = 0.5")
        .replace("[grid]", "average = { from = 0 }\nensemble = { from = 0 }\n[grid]")
}

/// One of its four settings, and no methods.
fn plain() -> String {
    sweep("plain", 4, "1").replace("dropout = [0.0, 0.5]", "dropout = 0.5")
}

const PLAIN: &str =
    "SELECT trial_id, step, domain, split, n, correct, printf('%!.17g', loss) FROM v_evaluations
    WHERE sweep = 'plain' AND method = 'plain' ORDER BY 1, 2, 3, 4";
type Row = (String, i64, String, String, i64, i64, String);

#[test]
fn settings_vary_in_one_table_and_methods_change_no_plain_number() {
    let (Some(world), Some(alone)) = (World::new(), World::new()) else { return };
    let data = world.data();
    let options = ["--data", data.to_str().unwrap()];
    world.submit_text("varied", &varied(), &options);
    wait(&mut world.start_worker(), &world);
    assert_eq!(world.status("varied")["succeeded"], 12, "{}", world.logs());
    // One table, one file for a paper, one figure.
    let table = world.json(&["results", "varied", "--json"]);
    let cells = table["cells"].as_array().unwrap();
    let of =
        |cell: &Value| (cell["batch_per_domain"].as_f64(), cell["precision"].as_str().map(str::to_owned));
    let rows: BTreeSet<String> = cells.iter().map(|cell| format!("{:?}", of(cell))).collect();
    assert_eq!((cells.len(), rows.len()), (12, 4), "{table}");
    let by = ["results", "varied", "--by", "batch_per_domain,precision", "--format", "latex"];
    let latex = String::from_utf8(world.sortie(&by).stdout).unwrap();
    assert!(
        latex.contains("batch\\_per\\_domain & precision &") && latex.contains("\n2 & bf16 & "),
        "{latex}"
    );
    let svg = world.folder.path().join("varied.svg");
    let figure = ["figure", "varied", "--kind", "rates", "--by", "batch_per_domain,precision", "-o"];
    let drawn = world.sortie(&[&figure[..], &[svg.to_str().unwrap()]].concat());
    assert!(drawn.status.success() && fs::read_to_string(&svg).unwrap().contains("bf16"), "{drawn:?}");
    let of_one =
        world.json(&["trials", "varied", "--where", "precision=bf16 and batch_per_domain=2", "--json"]);
    assert_eq!(of_one["trials"].as_array().unwrap().len(), 3);

    // What asks for less of it is there, and shows no more.
    world.submit_text("plain", &plain(), &options);
    let status = world.status("plain");
    assert_eq!((&status["succeeded"], &status["reused"]), (&3.into(), &3.into()), "{status}");
    let methods = "SELECT sweep, COUNT(DISTINCT method) FROM v_evaluations GROUP BY sweep ORDER BY sweep";
    assert_eq!(query::<(String, i64)>(&world, methods), [("plain".to_owned(), 1), ("varied".to_owned(), 3)]);
    // What asks for more says so before it is trained again.
    let more = plain().replace("\"plain\"", "\"more\"").replace("[grid]", "average = { from = 2 }\n[grid]");
    let file = world.folder.path().join("more.toml");
    fs::write(&file, more).unwrap();
    let file = file.to_str().unwrap();
    for words in [
        ["plan", file, options[0], options[1]].as_slice(),
        &["submit", file, "--dry-run", options[0], options[1]],
    ] {
        let output = world.sortie(words);
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert!(said.contains("3 trials lack the average of the weights: they would run again\n"), "{said}");
    }
    // The plain numbers are those of a run without averages and ensembles, to the last bit.
    let data = alone.data();
    alone.submit_text("plain", &plain(), &["--data", data.to_str().unwrap()]);
    wait(&mut alone.start_worker(), &alone);
    let trained: Vec<Row> = query(&alone, PLAIN);
    assert!(!trained.is_empty());
    assert_eq!(trained, query::<Row>(&world, PLAIN));
}
