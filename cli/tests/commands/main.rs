//! Commands as trials, with all real programs in between: what they print, and what they are given.
#![expect(clippy::unwrap_used, reason = "a test ends at the first thing that goes wrong")]

#[expect(dead_code, reason = "each test file uses its part of the shared module")]
#[path = "../support/mod.rs"]
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use serde_json::Value;
use support::World;

/// Runs all that was submitted.
fn work(world: &World) {
    let mut worker = world.start_worker_with(&["--allow-commands", "--exit-when-idle", "--slots", "4"]);
    support::wait(&mut worker, world);
}

/// The trials of a sweep.
fn trials(world: &World, sweep: &str) -> Vec<Value> {
    world.json(&["trials", sweep, "--json"])["trials"].as_array().unwrap().clone()
}

/// What `sortie explain` shows of a trial: its events, as `what: detail`.
fn history(world: &World, trial: &Value) -> String {
    let history = world.json(&["explain", trial["trial"].as_str().unwrap(), "--json"]);
    let events = history["events"].as_array().unwrap();
    let line =
        |event: &Value| format!("{}: {}", event["what"].as_str().unwrap(), event["detail"].as_str().unwrap());
    events.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// A sweep whose axis `kind` chooses what a shell script prints.
fn sweep(name: &str, run: &str, cases: &[(&str, &str)]) -> String {
    let cases_of_script: String =
        cases.iter().map(|(kind, script)| format!("{kind}) {script} ;;\n")).collect();
    let script = format!(
        r#"good() {{ echo '{{"step":0,"domain":"x","split":"in","value":1.0}}'; }}
case "$SORTIE_PARAM_KIND" in
{cases_of_script}esac"#
    );
    let script = script.replace('{', "{{").replace('}', "}}");
    let kinds: Vec<String> = cases.iter().map(|(kind, _)| format!("{kind:?}")).collect();
    format!(
        "name = {name:?}\n[run]\ncommand = ['sh', '-c', '''{script}''']\n{run}\n[grid]\nkind = [{}]\n",
        kinds.join(", ")
    )
}

/// What a case prints, what becomes of its trial, and what its history says.
type Case = (&'static str, &'static str, &'static str, &'static [&'static str]);

const CASES: [Case; 21] = [
    (
        "tqdm",
        r#"for i in 0 30 60 90; do printf '\r %s%%|####| %s/100 [00:01<00:02, 90.1it/s]' "$i" "$i"; done; good"#,
        "succeeded",
        &[],
    ),
    (
        "tqdm_err",
        r#"for i in 0 30 60 90; do printf '\r %s%%|####| %s/100 [00:01<00:02, 90.1it/s]' "$i" "$i" >&2; done
        printf '\rRuntimeError: the reason\n' >&2; exit 1"#,
        "failed",
        &["it printed last: RuntimeError: the reason"],
    ),
    (
        "floyd",
        r#"echo '{"metric":"accuracy","value":0.985,"step":3}'; good"#,
        "succeeded",
        &[
            "noted: 1 line looks like a metric and cannot be read; the first: an evaluation needs \"domain\": {\"metric\":\"accuracy\",\"value\":0.985,\"step\":3}",
        ],
    ),
    (
        "ownjson",
        r#"echo '{"train/loss":0.04,"train/lr":3e-4,"step":1740,"epoch":0}'; good"#,
        "succeeded",
        &["noted: 3 values on metric lines were passed over: epoch (1), train/loss (1), train/lr (1)"],
    ),
    (
        "hf",
        r#"echo "{'loss': 1.2, 'step': 10}"; good"#,
        "succeeded",
        &[
            "noted: 1 line looks like a metric and cannot be read; the first: it is no JSON object: {'loss': 1.2, 'step': 10}",
        ],
    ),
    ("latin1", r#"printf 'caf\351 \377\376\n'; good"#, "succeeded", &[]),
    (
        "nanloss",
        r#"echo '{"step": 1, "loss": NaN}'"#,
        "diverged",
        &["the training loss was no number at step 1"],
    ),
    ("stepstr", r#"echo '{"step": "1", "loss": 2.0}'; good"#, "succeeded", &[]),
    ("stepfloat", r#"echo '{"step": 7.0, "loss": 2.0}'; good"#, "succeeded", &["succeeded: at step 7"]),
    (
        "repeat",
        r#"echo '{"step":5,"loss":2.0}'; echo '{"step":5,"loss":1.9}'; good"#,
        "succeeded",
        &["noted: 1 training loss was passed over; the first: step 5 has one already, which counts"],
    ),
    ("again", "good; good", "succeeded", &[]),
    (
        "other",
        r#"good; echo '{"step":0,"domain":"x","split":"in","value":0.5}'; sleep 60"#,
        "failed",
        &[
            "the plain evaluation of x/in at step 0 was reported before, as 1: {\"step\":0,\"domain\":\"x\",\"split\":\"in\",\"value\":0.5}",
        ],
    ),
    ("closefd", "good; exec >&- 2>&-; sleep 1", "succeeded", &[]),
    ("crlf", r#"printf '{"step":0,"domain":"x","split":"in","value":1.0}\r\n'"#, "succeeded", &[]),
    (
        "returns",
        r#"for i in 0 10 20 30; do printf '{"step":%s,"domain":"x","split":"in","value":0.5}\n' "$i"; printf 'step %s of 30\r' "$i"; done"#,
        "succeeded",
        &["succeeded: at step 30"],
    ),
    ("colours", r#"printf 'wandb: \033[34mhello\033[0m \033[1m'; good"#, "succeeded", &[]),
    ("domspace", r#"echo '{"step":0,"domain":"Real World","split":"in","value":1.0}'"#, "succeeded", &[]),
    ("domplus", r#"echo '{"step":0,"domain":"rock+water","split":"in","value":1.0}'"#, "succeeded", &[]),
    (
        "splitval",
        r#"echo '{"step":0,"domain":"x","split":"val","value":1.0}'"#,
        "failed",
        &[
            "bad-config: the command ended with exit status 0, but no evaluation could be read",
            "\"val\" is not a split; allowed: in, out: {\"step\":0,\"domain\":\"x\",\"split\":\"val\",\"value\":1.0}",
        ],
    ),
    ("extra", r#"echo '{"step":0,"domain":"x","split":"in","value":1.0,"f1":0.5}'"#, "succeeded", &[]),
    ("longline", r#"head -c 1200000 /dev/zero | tr '\0' '#'; good"#, "succeeded", &[]),
];

#[test]
fn whatever_programs_print_is_read_or_counted_and_shown() {
    let world = World::of_commands();
    let scripts: Vec<(&str, &str)> = CASES.iter().map(|(kind, script, ..)| (*kind, *script)).collect();
    world.submit_text("prints", &sweep("prints", "", &scripts), &[]);
    // Nothing waits for a second attempt at what fails on purpose.
    work(&world);
    let trials: BTreeMap<String, Value> = trials(&world, "prints")
        .into_iter()
        .map(|trial| (trial["point"]["kind"].as_str().unwrap().to_owned(), trial))
        .collect();
    for (kind, _, state, told) in CASES {
        let history = history(&world, &trials[kind]);
        assert_eq!(trials[kind]["state"], state, "{kind}: {history}{}", world.logs());
        for part in told {
            assert!(history.contains(part), "{kind}: {part} is not in {history}");
        }
        if told.iter().all(|part| !part.starts_with("noted")) {
            let notes = if kind == "splitval" { 1 } else { 0 };
            assert_eq!(history.matches("noted: ").count(), notes, "{kind}: {history}");
        }
    }
    let evaluations = world.json(&[
        "sql",
        "select step from v_evaluations where parameters like '%returns%' order by step",
        "--json",
    ]);
    let steps: Vec<i64> =
        evaluations["rows"].as_array().unwrap().iter().map(|row| row["step"].as_i64().unwrap()).collect();
    assert_eq!(steps, [0, 10, 20, 30]);
}

#[test]
fn a_trial_below_the_step_that_it_must_reach_is_incomplete() {
    let world = World::of_commands();
    let cases = [("short", r#"good; echo '{"step":2}'"#), ("whole", r#"good; echo '{"step":3}'"#)];
    world.submit_text("complete", &sweep("complete", "steps = 9\ncomplete_at = 3", &cases), &[]);
    work(&world);
    for trial in trials(&world, "complete") {
        let history = history(&world, &trial);
        if trial["point"]["kind"] == "whole" {
            assert_eq!(trial["state"], "succeeded", "{history}");
        } else {
            assert_eq!(
                (trial["state"].as_str(), trial["attempts"].as_i64()),
                (Some("failed"), Some(3)),
                "{history}"
            );
            assert!(
                history.contains(
                    "transient: incomplete: the command ended with exit status 0, but step 2 is the last"
                ),
                "{history}"
            );
        }
    }
}

/// Spellings of distinct numbers: digits, fractions, exponents and signs as they come. A seed gives the same ones everywhere.
fn spellings(count: usize) -> Vec<String> {
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    let mut next = move |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    let (mut spellings, mut values) = (Vec::new(), BTreeSet::new());
    while spellings.len() < count {
        let sign = ["", "", "", "-", "+"][next(5) as usize];
        let mut text = format!("{sign}{}", next(10_u64.pow(1 + (spellings.len() % 7) as u32)));
        if next(2) == 0 {
            text.push_str(&format!(".{:0width$}", next(1_000), width = 1 + next(5) as usize));
        }
        if next(3) == 0 {
            text.push_str(&format!(
                "{}{}{}",
                ["e", "E"][next(2) as usize],
                ["", "-", "+"][next(3) as usize],
                next(40)
            ));
        }
        // Zero has no sign.
        if values.insert((text.parse::<f64>().unwrap() + 0.0).to_bits()) {
            spellings.push(text);
        }
    }
    spellings
}

#[test]
fn a_program_is_given_what_stands_in_the_file() {
    let world = World::of_commands();
    let as_it_stands = |text: &str| (text.to_owned(), text.to_owned());
    let numbers = ["999999", "1000000", "1048576", "0.001", "1e-2", "4.0", "-0.0", "true", "false"];
    let mut given: Vec<(String, String)> = numbers.map(as_it_stands).to_vec();
    given.extend([
        ("1_000_001".to_owned(), "1000001".to_owned()),
        ("0x10_000".to_owned(), "65536".to_owned()),
        ("\"1e3\"".to_owned(), "1e3".to_owned()),
        ("\"two words {x}\"".to_owned(), "two words {x}".to_owned()),
    ]);
    let known: BTreeSet<u64> =
        given.iter().filter_map(|(_, text)| Some((text.parse::<f64>().ok()? + 0.0).to_bits())).collect();
    let random = spellings(80)
        .into_iter()
        .filter(|text| !known.contains(&(text.parse::<f64>().unwrap() + 0.0).to_bits()));
    given.extend(random.map(|text| as_it_stands(&text)));
    let folder = world.folder.path().join("given");
    fs::create_dir(&folder).unwrap();
    let script = r#"printf '%s|%s|%s\n' "$1" "$2" "$SORTIE_PARAM_VALUE" > "$0"; echo '{{"step":0,"domain":"x","split":"in","value":1}}'"#;
    let values: Vec<&str> = given.iter().map(|(file, _)| file.as_str()).collect();
    let text = format!(
        "name = 'given'\n[run]\ncommand = ['sh', '-c', '''{script}''', '{}/{{trial}}', '--value={{value}}', '{{flag:amp}}']\n[grid]\nvalue = [{}]\namp = [true, false]\n",
        folder.display(),
        values.join(", ")
    );
    world.submit_text("given", &text, &[]);
    work(&world);
    let mut seen: Vec<String> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap().trim_end_matches('\n').to_owned())
        .collect();
    let mut expected: Vec<String> = given
        .iter()
        .flat_map(|(_, text)| ["--amp", ""].map(|flag| format!("--value={text}|{flag}|{text}")))
        .collect();
    seen.sort();
    expected.sort();
    assert_eq!(seen, expected, "{}", world.logs());
}

/// What a refused command says.
fn refusal(world: &World, words: &[&str]) -> String {
    let output = world.sortie(words);
    assert!(!output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn sweeps_are_previewed_cancelled_resumed_renamed_archived_and_deleted() {
    let world = World::of_commands();
    let file = |seeds: u32, name: &str| {
        let path = world.folder.path().join(format!("{name}.toml"));
        fs::write(&path, format!("{}seeds = {seeds}\n", sweep(name, "", &[("one", "good")]))).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let submit = |seeds, name: &str, flag: &str| world.json(&["submit", &file(seeds, name), flag, "--json"]);
    let dry = submit(3, "old", "--dry-run");
    assert_eq!((&dry["is_new"], &dry["trials"]), (&true.into(), &3.into()));
    assert!(refusal(&world, &["status", "old"]).contains("none was submitted yet"));
    submit(3, "old", "--no-reuse");
    let dry = submit(4, "old", "--dry-run");
    let keys: Vec<&str> =
        dry["changes"].as_array().unwrap().iter().map(|c| c["key"].as_str().unwrap()).collect();
    assert_eq!((&dry["trials"], keys), (&1.into(), vec!["grid.seeds", "reuse"]));
    let smaller = submit(2, "old", "--dry-run");
    assert_eq!((&smaller["trials"], &smaller["kept"][0]["values"]), (&0.into(), &"2".into()));
    assert_eq!(world.json(&["cancel", "old", "--json"])["trials"], 3);
    assert!(refusal(&world, &["submit", &file(3, "old"), "--dry-run"]).contains("is cancelled"));
    assert_eq!(world.json(&["resume", "old", "--json"])["trials"], 3);
    work(&world);
    assert_eq!(world.status("old")["succeeded"], 3, "{}", world.logs());
    world.json(&["rename", "old", "new", "--json"]);
    world.json(&["archive", "new", "--json"]);
    assert_eq!(world.json(&["status", "--json"])["sweeps"].as_array().unwrap().len(), 0);
    assert_eq!(world.json(&["status", "--all", "--json"])["sweeps"][0]["state"], "archived");
    assert_eq!(trials(&world, "new").len(), 3);
    assert_eq!(submit(3, "copy", "--priority=1")["reused"], 3);
    let reused = refusal(&world, &["delete", "new", "--yes"]);
    assert!(reused.contains("sweep \"copy\" reuses the results of 3 trials"), "{reused}");
    let asked = refusal(&world, &["delete", "copy"]);
    assert!(asked.contains("sweep copy has 3 trials, 3 of them with a result: add --yes"), "{asked}");
    world.json(&["delete", "copy", "--yes", "--json"]);
    assert_eq!(world.json(&["delete", "new", "--yes", "--json"])["trials"], 3);
    assert_eq!(world.json(&["status", "--all", "--json"])["sweeps"].as_array().unwrap().len(), 0);
    let rows = world.json(&["sql", "select count(*) as n from v_trials", "--json"]);
    assert_eq!(rows["rows"][0]["n"], 0, "{rows}");
}
