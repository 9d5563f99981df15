//! Run folders as DomainBed and the paper's reference code write them.

use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::{MISSING, Record, Run};

/// The file of a run's records, one JSON object a line.
const RECORDS: &str = "results.jsonl";
/// The file that a run writes at its end.
const DONE: &str = "done";

/// The highest index of a domain: DomainBed's largest dataset has ten.
const ENV_MAX: usize = 255;

/// The contents of a tree of run folders.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Folders {
    /// The runs, by the names of their folders.
    pub runs: Vec<Run>,
    /// Lines that repeat a step, as a restarted run writes them. The first one counts.
    pub repeated: usize,
    /// Repeated lines with other accuracies than the first one.
    pub contradicted: usize,
    /// Incomplete lines of a program that was killed while it wrote them.
    pub torn: usize,
    /// Folders without records in their file.
    pub empty: usize,
}

/// Why a tree of run folders cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// A file or folder cannot be read.
    #[error("cannot read {}: {error}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The error of the system.
        error: io::Error,
    },
    /// There are no run folders.
    #[error("{} has no folder with a file {RECORDS}", .0.display())]
    Nothing(PathBuf),
    /// A line is a JSON object, but not a record.
    #[error("{}, line {line}: {problem}", path.display())]
    NoRecord {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong with it.
        problem: String,
    },
}

/// Reads every folder below `root` that has records. Fractions are read to the last bit. NaN and missing values become [`MISSING`].
///
/// # Errors
/// [`ReadError`], which names the file.
pub fn read(root: &Path) -> Result<Folders, ReadError> {
    let io = |path: &Path| {
        let path = path.to_owned();
        move |error| ReadError::Io { path, error }
    };
    let mut names = Vec::new();
    for entry in std::fs::read_dir(root).map_err(io(root))? {
        let entry = entry.map_err(io(root))?;
        if entry.path().join(RECORDS).is_file() {
            names.push(entry.file_name());
        }
    }
    names.sort();
    let mut folders = Folders::default();
    for name in names {
        let folder = root.join(&name);
        let path = folder.join(RECORDS);
        let text = std::fs::read(&path).map_err(io(&path))?;
        let mut run = None;
        for (line, bytes) in (1..).zip(text.split(|&byte| byte == b'\n')) {
            let Some(fields) = object(bytes) else {
                folders.torn += usize::from(!bytes.trim_ascii().is_empty());
                continue;
            };
            let no_record = |problem| ReadError::NoRecord { path: path.clone(), line, problem };
            let record = record(&fields).map_err(no_record)?;
            let begun =
                begin(&name.to_string_lossy(), &fields, folder.join(DONE).exists()).map_err(no_record)?;
            let run: &mut Run = run.get_or_insert_with(|| begun.clone());
            let identity = |run: &Run| {
                (
                    run.algorithm.clone(),
                    run.dataset.clone(),
                    run.test_envs.clone(),
                    run.trial_seed,
                    run.hparams_seed,
                )
            };
            if identity(run) != identity(&begun) {
                return Err(no_record(
                    "it belongs to another run than the line before: algorithm, dataset, test_envs or seeds differ".to_owned(),
                ));
            }
            match run.records.iter().find(|known| known.step == record.step) {
                None => run.records.push(record),
                Some(known) => {
                    folders.repeated += 1;
                    folders.contradicted += usize::from(*known != record);
                }
            }
        }
        folders.empty += usize::from(run.is_none());
        folders.runs.extend(run);
    }
    if folders.runs.is_empty() {
        return Err(ReadError::Nothing(root.to_owned()));
    }
    Ok(folders)
}

fn object(line: &[u8]) -> Option<Map<String, Value>> {
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

fn begin(name: &str, fields: &Map<String, Value>, done: bool) -> Result<Run, String> {
    let args = fields.get("args").and_then(Value::as_object).ok_or("it has no object \"args\"")?;
    let text = |key: &str| {
        let found = args.get(key).and_then(Value::as_str).map(str::to_owned);
        found.ok_or_else(|| format!("args has no text {key:?}"))
    };
    let number = |key: &str| {
        args.get(key).and_then(Value::as_i64).ok_or_else(|| format!("args has no whole number {key:?}"))
    };
    let envs: Option<Vec<usize>> = args
        .get("test_envs")
        .and_then(Value::as_array)
        .and_then(|envs| envs.iter().map(|env| env.as_u64()?.try_into().ok()).collect());
    let mut test_envs = envs.ok_or("args has no list of domains \"test_envs\"")?;
    test_envs.sort_unstable();
    test_envs.dedup();
    if let Some(env) = test_envs.iter().find(|env| **env > ENV_MAX) {
        return Err(format!("test_envs names domain {env}; allowed: at most {ENV_MAX}"));
    }
    Ok(Run {
        name: name.to_owned(),
        algorithm: text("algorithm")?,
        dataset: text("dataset")?,
        test_envs,
        trial_seed: number("trial_seed")?,
        hparams_seed: number("hparams_seed")?,
        hparams: fields.get("hparams").and_then(Value::as_object).cloned().unwrap_or_default(),
        records: Vec::new(),
        done,
    })
}

fn record(fields: &Map<String, Value>) -> Result<Record, String> {
    let step = fields
        .get("step")
        .and_then(Value::as_i64)
        .filter(|step| *step >= 0)
        .ok_or("it has no whole number \"step\" from 0")?;
    let (mut record, mut envs) = (Record { step, in_acc: Vec::new(), out_acc: Vec::new() }, 0);
    for (key, value) in fields {
        let Some((env, split)) =
            key.strip_prefix("env").and_then(|key| key.strip_suffix("_acc")?.split_once('_'))
        else {
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
    use super::*;

    fn line(step: i64, accuracy: &str) -> String {
        let args = r#"{"algorithm": "ERM", "dataset": "VLCS", "test_envs": [1], "trial_seed": 2, "hparams_seed": 3, "note": "NaN \" Infinity"}"#;
        format!(
            r#"{{"step": {step}, "args": {args}, "loss": NaN, "env0_in_acc": {accuracy}, "env0_out_acc": -1}}"#
        )
    }

    #[test]
    fn restarts_and_torn_lines_are_counted_and_survived() {
        let root = tempfile::tempdir().unwrap();
        let run = |name: &str, text: String| {
            std::fs::create_dir(root.path().join(name)).unwrap();
            std::fs::write(root.path().join(name).join(RECORDS), text).unwrap();
        };
        let (zero, again) = (line(0, "0.1234567890123456789"), line(0, "0.5"));
        run("b", format!("{zero}\n{}\n{zero}\n{again}\n{{\"step\": 6", line(300, "NaN")));
        run("a", format!("{zero}\n"));
        std::fs::write(root.path().join("a").join(DONE), "").unwrap();
        std::fs::create_dir(root.path().join("no run")).unwrap();
        let folders = read(root.path()).unwrap();
        assert_eq!((folders.repeated, folders.contradicted, folders.torn), (2, 1, 1));
        let [a, b] = folders.runs.as_slice() else { panic!("{folders:?}") };
        assert_eq!((a.name.as_str(), a.done, b.done), ("a", true, false));
        assert_eq!((b.test_envs.as_slice(), b.trial_seed, b.hparams_seed), ([1].as_slice(), 2, 3));
        let first = Record { step: 0, in_acc: vec![0.123_456_789_012_345_68], out_acc: vec![-1.0] };
        assert_eq!(b.records, [first, Record { step: 300, in_acc: vec![MISSING], out_acc: vec![-1.0] }]);
    }

    #[test]
    fn what_is_no_sweep_is_refused_by_name() {
        let root = tempfile::tempdir().unwrap();
        assert!(matches!(read(root.path()), Err(ReadError::Nothing(_))));
        assert!(read(&root.path().join("nowhere")).unwrap_err().to_string().contains("nowhere"));
        std::fs::create_dir(root.path().join("x")).unwrap();
        for (bad, problem) in [
            ("{}", "\"step\""),
            (r#"{"step": -1}"#, "from 0"),
            (r#"{"step": 1}"#, "\"args\""),
            (r#"{"step": 1, "env0_in_acc": 1.5}"#, "env0_in_acc is 1.5"),
            (r#"{"step": 1, "env999_in_acc": 1}"#, "0 to 255"),
        ] {
            std::fs::write(root.path().join("x").join(RECORDS), format!("\n{bad}\n")).unwrap();
            let error = read(root.path()).unwrap_err().to_string();
            assert!(error.contains("results.jsonl, line 2: ") && error.contains(problem), "{error}");
        }
        let other = line(300, "0.5").replace("\"hparams_seed\": 3", "\"hparams_seed\": 4");
        std::fs::write(root.path().join("x").join(RECORDS), format!("{}\n{other}\n", line(0, "0.5")))
            .unwrap();
        assert!(read(root.path()).unwrap_err().to_string().contains("line 2: it belongs to another run"));
        let far = line(0, "0.5").replace("[1]", "[18446744073709551615]");
        std::fs::write(root.path().join("x").join(RECORDS), far).unwrap();
        assert!(read(root.path()).unwrap_err().to_string().contains("at most 255"));
    }

    #[test]
    fn a_domain_that_is_not_there_was_not_measured() {
        let fields: Map<String, Value> = serde_json::from_str(
            r#"{"step": 0, "env0_in_acc": 0.5, "env2_in_acc": 0.25, "env2_out_acc": 1}"#,
        )
        .unwrap();
        assert_eq!(
            record(&fields).unwrap(),
            Record { step: 0, in_acc: vec![0.5, MISSING, 0.25], out_acc: vec![MISSING, MISSING, 1.0] }
        );
    }
}
