//! What trials ran: git's commit and the files of the command line, from the worker to `explain`, `results`, `diff`, `trials` and SQL.

use sortie_testkit::programs::isolated;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::has_python;
use crate::support::{World, wait};

const SCRIPT: &str = r#"import json
for domain in ["dawn", "dusk"]:
    for split in ["in", "out"]:
        print(json.dumps({"step": 1, "domain": domain, "split": split, "n": 10, "correct": 5}))
"#;

fn git(folder: &Path, words: &[&str]) -> Option<String> {
    let mut git = Command::new("git");
    git.args(["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]).args(words);
    let output = git.current_dir(folder).output().ok()?;
    output.status.success().then(|| String::from_utf8(output.stdout).unwrap().trim().to_owned())
}

fn run(world: &World, seeds: u32) {
    let text = format!(
        "name = \"work\"\n[run]\ncommand = [\"python3\", \"train.py\", \"--seed={{seed}}\"]\n\
         [data]\ndataset = \"TimesOfDay\"\ndomains = [\"dawn\", \"dusk\"]\n[grid]\nheld_out = [\"dusk\"]\nseeds = {seeds}\n"
    );
    world.submit_text("work", &text, &[]);
    let mut worker = isolated(env!("CARGO_BIN_EXE_sortie"));
    worker.args(["worker", "--devices", "cpu", "--allow-commands", "--exit-when-idle", "--coordinator"]);
    worker.arg(&world.url).arg("--cache").arg(world.folder.path().join("cache"));
    worker.current_dir(world.folder.path().join("repository"));
    wait(&mut worker.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap(), world);
}

fn said(world: &World, words: &[&str]) -> String {
    let output = world.sortie(words);
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn trials_that_ran_other_code_are_told_apart() {
    if !has_python("json") {
        return;
    }
    let world = World::of_commands();
    let repository = world.folder.path().join("repository");
    fs::create_dir(&repository).unwrap();
    fs::write(repository.join("train.py"), SCRIPT).unwrap();
    let committed = git(&repository, &["init", "-q"])
        .and_then(|_| git(&repository, &["add", "train.py"]))
        .and_then(|_| git(&repository, &["commit", "-qm", "first"]))
        .and_then(|_| git(&repository, &["rev-parse", "HEAD"]));
    let Some(commit) = committed else {
        println!("skipped: needs git");
        return;
    };
    run(&world, 1);
    let results = said(&world, &["results", "work"]);
    assert!(!results.contains("trials ran"), "{results}");
    fs::write(repository.join("train.py"), format!("{SCRIPT}\n# changed\n")).unwrap();
    run(&world, 3);

    let short = &commit[..7];
    let results = said(&world, &["results", "work"]);
    let line = format!("note: 2 trials ran {short} (not clean), 1 trial ran {short}\n");
    assert!(results.contains(&line), "{results}");
    let rows = world.json(&["sql", "select trial_id, code_name, code from v_trials order by seed", "--json"]);
    let row = |index: usize, column: &str| rows["rows"][index][column].as_str().unwrap().to_owned();
    assert!(row(0, "code_name").starts_with(&format!("{short}/")), "{rows}");
    assert!(row(2, "code_name").starts_with(&format!("{short}+/")), "{rows}");
    let code: serde_json::Value = serde_json::from_str(&row(0, "code")).unwrap();
    assert_eq!((&code["commit"], &code["clean"]), (&commit.as_str().into(), &true.into()));
    assert_eq!(code["files"]["train.py"], blake3::hash(SCRIPT.as_bytes()).to_hex().as_str(), "{code}");
    assert!(code["version"].as_str().unwrap().starts_with("Python 3"), "{code}");

    let explained = said(&world, &["explain", &row(2, "trial_id")]);
    let ran = format!("ran {short} (not clean, files ");
    assert!(explained.contains(&ran) && explained.contains(", Python 3"), "{explained}");
    for (condition, count) in [("", 3), ("+", 2), ("/", 1)] {
        let condition = format!("code={short}{condition}");
        let trials = world.json(&["trials", "work", "--where", &condition, "--json"]);
        assert_eq!(trials["trials"].as_array().unwrap().len(), count, "{condition}");
    }
    let both = world.json(&["trials", "work", "--where", &format!("code={commit} and seed=0"), "--json"]);
    assert_eq!(both["trials"].as_array().unwrap().len(), 1);
    let none = said(&world, &["retry", "work", "--where", "code=0000000"]);
    assert!(none.contains("0 trials will run again") && none.contains("they ran"), "{none}");
    let sides = [0, 2].map(|index| format!("work/{}", &row(index, "trial_id")[..10]));
    let differ = said(&world, &["diff", &sides[0], &sides[1]]);
    assert!(differ.contains("code") && differ.contains(&format!("{short}+/")), "{differ}");
}
