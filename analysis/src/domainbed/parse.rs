//! One line of a file of records: a JSON object as Python writes it. Read are DomainBed's records and those of SWAD and its descendants.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::{MISSING, Origin, Record, Run};

/// The highest index of a domain: DomainBed's largest dataset has ten.
const ENV_MAX: usize = 255;

/// The object of a line; none for a line that is torn.
pub(super) fn object(line: &[u8]) -> Option<Map<String, Value>> {
    let text = std::str::from_utf8(line).ok()?;
    serde_json::from_str(&without_nan(text)).ok()
}

/// Replaces NaN, Infinity and -Infinity, which only Python's JSON has, by null.
fn without_nan(text: &str) -> String {
    let (mut result, mut rest, mut quoted, mut escaped) =
        (String::with_capacity(text.len()), text, false, false);
    while let Some(first) = rest.chars().next() {
        let odd = ["NaN", "-Infinity", "Infinity"].into_iter().find(|odd| !quoted && rest.starts_with(odd));
        if let Some(odd) = odd {
            result.push_str("null");
            rest = &rest[odd.len()..];
            continue;
        }
        quoted ^= first == '"' && !escaped;
        escaped = quoted && first == '\\' && !escaped;
        result.push(first);
        rest = &rest[first.len_utf8()..];
    }
    result
}

/// The run that a record belongs to, without records.
pub(super) fn run(fields: &Map<String, Value>) -> Result<Run, String> {
    let args = fields.get("args").and_then(Value::as_object).ok_or("it has no object \"args\"")?;
    let text = |key: &str| {
        let found = args.get(key).and_then(Value::as_str).map(str::to_owned);
        found.ok_or_else(|| format!("args has no text {key:?}"))
    };
    let number = |key: &str| match args.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => value
            .as_i64()
            .map(Some)
            .ok_or_else(|| format!("{key} is {value} in args; allowed: a whole number")),
    };
    Ok(Run {
        algorithm: text("algorithm")?,
        dataset: text("dataset")?,
        test_envs: test_envs(args)?,
        trial_seed: number("trial_seed")?.ok_or("args has no whole number \"trial_seed\"")?,
        // SWAD has no random hyper-parameters. In DomainBed, seed 0 means the default ones.
        hparams_seed: number("hparams_seed")?.unwrap_or(0),
        seed: number("seed")?,
        hparams: fields.get("hparams").and_then(Value::as_object).cloned().unwrap_or_default(),
        set_hparams: set_hparams(args.get("hparams")),
        origin: origin(args.get(ORIGIN))?,
        ..Run::default()
    })
}

/// The key of what a run was in Sortie, among its arguments.
pub(super) const ORIGIN: &str = "sortie";

fn origin(given: Option<&Value>) -> Result<Option<Origin>, String> {
    let read = given.cloned().map(serde_json::from_value).transpose();
    read.map_err(|error| format!("{ORIGIN:?} in args is not what `sortie export` writes: {error}"))
}

/// Whether a file may hold several runs that differ in their held-out domains, as SWAD writes them.
pub(super) fn is_one_of_several(fields: &Map<String, Value>) -> bool {
    fields.get("args").and_then(|args| args.get(REAL_TEST_ENVS)).is_some()
}

/// SWAD's name for the held-out domains of a record; its `test_envs` lists those of all runs of one command.
const REAL_TEST_ENVS: &str = "real_test_envs";

fn test_envs(args: &Map<String, Value>) -> Result<Vec<usize>, String> {
    let list = |value: &Value| -> Option<Vec<usize>> {
        value.as_array()?.iter().map(|env| env.as_u64()?.try_into().ok()).collect()
    };
    let given = args.get(REAL_TEST_ENVS).or_else(|| args.get("test_envs"));
    let envs = match given {
        // A list in a list.
        Some(Value::Array(lists)) if lists.first().is_some_and(Value::is_array) => match lists.as_slice() {
            [only] => list(only),
            _ => {
                let given = Value::Array(lists.clone());
                return Err(format!(
                    "test_envs {given} names the held-out domains of several runs; allowed: those of one, or {REAL_TEST_ENVS:?} beside them"
                ));
            }
        },
        given => given.and_then(list),
    };
    let mut envs = envs.ok_or("args has no list of domains \"test_envs\"")?;
    envs.sort_unstable();
    envs.dedup();
    match envs.iter().find(|env| **env > ENV_MAX) {
        Some(env) => Err(format!("test_envs names domain {env}; allowed: at most {ENV_MAX}")),
        None => Ok(envs),
    }
}

/// DomainBed keeps what `--hparams` was given: a JSON object, as a text.
fn set_hparams(given: Option<&Value>) -> BTreeSet<String> {
    let read = match given {
        Some(Value::String(text)) => object(text.as_bytes()),
        Some(Value::Object(object)) => Some(object.clone()),
        _ => None,
    };
    read.unwrap_or_default().into_iter().map(|(name, _)| name).collect()
}

/// The accuracies of a record.
pub(super) fn record(fields: &Map<String, Value>) -> Result<Record, String> {
    let step = fields
        .get("step")
        .and_then(Value::as_i64)
        .filter(|step| *step >= 0)
        .ok_or("it has no whole number \"step\" from 0")?;
    let (mut record, mut envs) = (Record { step, in_acc: Vec::new(), out_acc: Vec::new() }, 0);
    for (key, value) in fields {
        // SWAD leaves out the last part. DomainBed's key counts where a record has both.
        let short = key.strip_suffix("_acc").unwrap_or(key);
        if short == key && fields.contains_key(&format!("{key}_acc")) {
            continue;
        }
        let Some((env, split)) = short.strip_prefix("env").and_then(|key| key.split_once('_')) else {
            continue;
        };
        let Ok(env) = env.parse::<usize>() else { continue };
        let accuracies = match split {
            "in" => &mut record.in_acc,
            "out" => &mut record.out_acc,
            _ => continue,
        };
        if env > ENV_MAX {
            return Err(format!("it has {key:?}; domains count from 0 to {ENV_MAX}"));
        }
        // Python's NaN has become null.
        let accuracy = if value.is_null() { Some(MISSING) } else { value.as_f64() };
        let Some(accuracy) =
            accuracy.filter(|accuracy| (0.0..=1.0).contains(accuracy) || *accuracy == MISSING)
        else {
            return Err(format!("{key} is {value}; allowed: 0 to 1, {MISSING} or NaN"));
        };
        if accuracies.len() <= env {
            accuracies.resize(env + 1, MISSING);
        }
        accuracies[env] = accuracy;
        envs = envs.max(env + 1);
    }
    // A domain that is missing in one split, or in the middle, was not measured.
    record.in_acc.resize(envs, MISSING);
    record.out_acc.resize(envs, MISSING);
    Ok(record)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fields(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn a_domain_that_is_not_there_was_not_measured() {
        let fields = object(br#"{"step": 0, "env0_in_acc": 0.5, "env2_in_acc": 0.25, "env2_out_acc": 1}"#);
        assert_eq!(
            record(&fields.unwrap()).unwrap(),
            Record { step: 0, in_acc: vec![0.5, MISSING, 0.25], out_acc: vec![MISSING, MISSING, 1.0] }
        );
    }

    #[test]
    fn swads_keys_are_read_and_domainbeds_win() {
        let both = json!({
            "step": 3, "env0_in": 0.5, "env0_out": 0.75, "env1_in": 0.1, "env1_in_acc": 0.25, "env1_out": null,
            "env0_inTE": 0.9, "env1_uda_acc": 0.9, "test_in": 0.3, "env0_in_loss": 7.0, "environment": "x",
        });
        let read = record(&fields(both)).unwrap();
        assert_eq!(read, Record { step: 3, in_acc: vec![0.5, 0.25], out_acc: vec![0.75, MISSING] });
        assert!(!record(&fields(json!({"step": 3, "acc": 0.5}))).unwrap().measures());
    }

    #[test]
    fn held_out_domains_are_read_in_both_forms() {
        let envs = |args: Value| {
            let mut all = fields(json!({"algorithm": "ERM", "dataset": "PACS", "trial_seed": 1}));
            all.extend(fields(args));
            run(&fields(json!({ "args": all }))).map(|run| run.test_envs)
        };
        assert_eq!(envs(json!({"test_envs": [3, 1, 3]})), Ok(vec![1, 3]));
        assert_eq!(envs(json!({"test_envs": [[2]]})), Ok(vec![2]));
        assert_eq!(envs(json!({"test_envs": [[0], [1]], "real_test_envs": [1]})), Ok(vec![1]));
        assert_eq!(envs(json!({"test_envs": []})), Ok(vec![]));
        let error = envs(json!({"test_envs": [[0], [1]]})).unwrap_err();
        assert!(error.contains("[[0],[1]]") && error.contains("real_test_envs"), "{error}");
        for bad in
            [json!({}), json!({"test_envs": 1}), json!({"test_envs": ["a"]}), json!({"test_envs": [[[0]]]})]
        {
            assert!(envs(bad.clone()).unwrap_err().contains("no list of domains"), "{bad}");
        }
    }

    #[test]
    fn seeds_that_are_left_out_have_a_meaning_and_others_must_be_numbers() {
        let args = json!({"algorithm": "ERM", "dataset": "PACS", "test_envs": [0], "trial_seed": 1});
        let read = |key: &str, value: Value| {
            let mut args = args.clone();
            args[key] = value;
            run(&fields(json!({ "args": args, "hparams": {"lr": 0.1} })))
        };
        let plain = read("hparams", Value::Null).unwrap();
        assert_eq!((plain.hparams_seed, plain.seed, plain.set_hparams.len()), (0, None, 0));
        assert_eq!(read("seed", 7.into()).unwrap().seed, Some(7));
        let set = read("hparams", r#"{"lr": 0.1, "resnet_dropout": 0.9}"#.into()).unwrap().set_hparams;
        assert_eq!(set.into_iter().collect::<Vec<_>>(), ["lr", "resnet_dropout"]);
        for key in ["hparams_seed", "trial_seed", "seed"] {
            let error = read(key, "x".into()).unwrap_err();
            assert_eq!(error, format!("{key} is \"x\" in args; allowed: a whole number"));
        }
    }
}
