//! Run folders as DomainBed, SWAD and the paper's reference code write them.

use std::io;
use std::path::{Path, PathBuf};

use sortie_core::metrics::Method;

use super::{Record, Run, parse};

/// The file of a run's records, one JSON object a line.
const RECORDS: &str = "results.jsonl";
/// The file that a run writes at its end.
const DONE: &str = "done";
/// How far below the root a run folder may lie: SWAD's `train_output` has a folder for each dataset.
const DEPTH_MAX: usize = 3;
/// Bytes of a file of records at most: some hundred thousand records.
const FILE_BYTES_MAX: u64 = 256 << 20;
/// The files of other models of the trajectory start with these and the step from which the model counts: `swa300_results.jsonl`.
const OTHERS: [(&str, Method); 2] = [("swa", Method::Average), ("ensemble", Method::Ensemble)];

/// The contents of a tree of run folders.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Folders {
    /// The runs, by the names of their folders.
    pub runs: Vec<Run>,
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
    /// No run has so many records.
    #[error("{} has {bytes} bytes; allowed: at most {FILE_BYTES_MAX}", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
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
    /// No record of a run says how accurate it was.
    #[error(
        "{} has no accuracy; allowed: records with a number from 0 to 1 under a key such as env0_in_acc and env0_out_acc, or env0_in and env0_out",
        .0.display()
    )]
    NoAccuracy(PathBuf),
    /// Two files have the records of one model.
    #[error("{} has several files {prefix}*_{RECORDS}; allowed: one", folder.display())]
    Ambiguous {
        /// The run folder.
        folder: PathBuf,
        /// How their names start.
        prefix: &'static str,
    },
}

/// Reads every folder below `root` that has records, down to the third level. Fractions are read to the last bit. NaN and missing values
/// become [`super::MISSING`].
///
/// # Errors
/// [`ReadError`], which names the file.
pub fn read(root: &Path) -> Result<Folders, ReadError> {
    let mut folders = Folders::default();
    for name in run_folders(root)? {
        read_folder(root, &name, &mut folders)?;
    }
    if folders.runs.is_empty() {
        return Err(ReadError::Nothing(root.to_owned()));
    }
    Ok(folders)
}

/// The run folders, relative to the root, sorted. Nothing is looked for below a run folder or a hidden one.
fn run_folders(root: &Path) -> Result<Vec<PathBuf>, ReadError> {
    let (mut found, mut level) = (Vec::new(), vec![PathBuf::new()]);
    for _ in 0..DEPTH_MAX {
        let mut below = Vec::new();
        for folder in level {
            let path = root.join(&folder);
            for entry in std::fs::read_dir(&path).map_err(io_error(&path))? {
                let entry = entry.map_err(io_error(&path))?;
                let name = folder.join(entry.file_name());
                if entry.path().join(RECORDS).is_file() {
                    found.push(name);
                } else if entry.path().is_dir() && !entry.file_name().as_encoded_bytes().starts_with(b".") {
                    below.push(name);
                }
            }
        }
        level = below;
    }
    found.sort();
    Ok(found)
}

/// Adds the runs of one folder.
fn read_folder(root: &Path, name: &Path, folders: &mut Folders) -> Result<(), ReadError> {
    let folder = root.join(name);
    let mut runs = Vec::new();
    read_file(&folder.join(RECORDS), Method::Plain, &mut runs, folders)?;
    if runs.is_empty() {
        folders.empty += 1;
        return Ok(());
    }
    if runs.iter().any(|run: &Run| !run.records.iter().any(Record::measures)) {
        return Err(ReadError::NoAccuracy(folder.join(RECORDS)));
    }
    for (prefix, method) in OTHERS {
        for (count, path) in (1..).zip(files_of_model(&folder, prefix)?) {
            if count > 1 {
                return Err(ReadError::Ambiguous { folder, prefix });
            }
            read_file(&path, method, &mut runs, folders)?;
        }
    }
    let (several, done) = (runs.len() > 1, folder.join(DONE).exists());
    for run in &mut runs {
        run.name = name.display().to_string();
        if several {
            let envs: Vec<String> = run.test_envs.iter().map(usize::to_string).collect();
            run.name = format!("{} test_envs {}", run.name, envs.join(" "));
        }
        run.done = done;
    }
    folders.runs.append(&mut runs);
    Ok(())
}

/// The files with the records of another model: `PREFIX`, a number, `_results.jsonl`.
fn files_of_model(folder: &Path, prefix: &str) -> Result<Vec<PathBuf>, ReadError> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(io_error(folder))? {
        let entry = entry.map_err(io_error(folder))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let start = name.strip_suffix(RECORDS).and_then(|name| name.strip_suffix('_')?.strip_prefix(prefix));
        if start.is_some_and(|step| !step.is_empty() && step.bytes().all(|byte| byte.is_ascii_digit())) {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// Adds the records of one file to its runs. Runs begin in the file of the plain model.
fn read_file(
    path: &Path,
    method: Method,
    runs: &mut Vec<Run>,
    folders: &mut Folders,
) -> Result<(), ReadError> {
    let bytes = path.metadata().map_err(io_error(path))?.len();
    if bytes > FILE_BYTES_MAX {
        return Err(ReadError::TooLarge { path: path.to_owned(), bytes });
    }
    let text = std::fs::read(path).map_err(io_error(path))?;
    for (line, bytes) in (1..).zip(text.split(|&byte| byte == b'\n')) {
        let Some(fields) = parse::object(bytes) else {
            folders.torn += usize::from(!bytes.trim_ascii().is_empty());
            continue;
        };
        let no_record = |problem| ReadError::NoRecord { path: path.to_owned(), line, problem };
        let record = parse::record(&fields).map_err(no_record)?;
        let begun = parse::run(&fields).map_err(no_record)?;
        let begins = method == Method::Plain && (runs.is_empty() || parse::is_one_of_several(&fields));
        let run = match runs.iter().position(|run| run.is_of_run(&begun)) {
            Some(place) => &mut runs[place],
            None if begins && runs.iter().all(|run| run.is_of_command(&begun)) => {
                runs.push(begun);
                let last = runs.len() - 1;
                &mut runs[last]
            }
            None => {
                return Err(no_record(
                    "it belongs to another run than the lines before: algorithm, dataset, test_envs, seeds or hyper-parameters differ"
                        .to_owned(),
                ));
            }
        };
        match method {
            Method::Plain => run.records.push(record),
            other => run.others.entry(other).or_default().push(record),
        }
    }
    Ok(())
}

impl Run {
    /// Whether two records are of the same run.
    fn is_of_run(&self, other: &Self) -> bool {
        self.is_of_command(other) && self.test_envs == other.test_envs
    }

    /// Whether two records were written by the same command. A program that was updated before its restart may know further
    /// hyper-parameters.
    fn is_of_command(&self, other: &Self) -> bool {
        let identity = |run: &Self| (run.trial_seed, run.hparams_seed, run.seed);
        let mut shared =
            self.hparams.iter().filter_map(|(name, value)| Some((value, other.hparams.get(name)?)));
        self.algorithm == other.algorithm
            && self.dataset == other.dataset
            && self.origin == other.origin
            && identity(self) == identity(other)
            && shared.all(|(ours, theirs)| ours == theirs)
    }
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> ReadError {
    let path = path.to_owned();
    move |error| ReadError::Io { path, error }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domainbed::MISSING;

    fn line(step: i64, accuracy: &str) -> String {
        let args = r#"{"algorithm": "ERM", "dataset": "VLCS", "test_envs": [1], "trial_seed": 2, "hparams_seed": 3, "note": "NaN \" Infinity"}"#;
        format!(
            r#"{{"step": {step}, "args": {args}, "loss": NaN, "env0_in_acc": {accuracy}, "env0_out_acc": -1}}"#
        )
    }

    /// Writes a file below a folder that it makes.
    fn write(root: &Path, file: &str, lines: &[String]) {
        let path = root.join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, lines.join("\n")).unwrap();
    }

    #[test]
    fn restarts_and_torn_lines_are_counted_and_survived() {
        let root = tempfile::tempdir().unwrap();
        let (zero, again) = (line(0, "0.1234567890123456789"), line(0, "0.5"));
        let torn = "{\"step\": 6".to_owned();
        let lines = [zero.clone(), line(300, "NaN"), zero.clone(), again, torn];
        write(root.path(), "b/results.jsonl", &lines);
        write(root.path(), "a/results.jsonl", &[zero, String::new()]);
        write(root.path(), "a/done", &[]);
        write(root.path(), "c/results.jsonl", &[]);
        std::fs::create_dir(root.path().join("no run")).unwrap();
        let folders = read(root.path()).unwrap();
        assert_eq!((folders.torn, folders.empty), (1, 1));
        let [a, b] = folders.runs.as_slice() else { panic!("{folders:?}") };
        assert_eq!((a.name.as_str(), a.done, b.done), ("a", true, false));
        assert_eq!((a.repeated(), b.repeated()), ((0, 0), (2, 1)));
        assert_eq!((b.test_envs.as_slice(), b.trial_seed, b.hparams_seed), ([1].as_slice(), 2, 3));
        let record = |step, accuracy| Record { step, in_acc: vec![accuracy], out_acc: vec![MISSING] };
        let first = record(0, 0.123_456_789_012_345_68);
        // DomainBed counts each of them.
        assert_eq!(b.records, [first.clone(), record(300, MISSING), first, record(0, 0.5)]);
    }

    #[test]
    fn what_is_no_sweep_is_refused_by_name() {
        let root = tempfile::tempdir().unwrap();
        let refused = |lines: &[String]| {
            write(root.path(), "x/results.jsonl", lines);
            read(root.path()).unwrap_err().to_string()
        };
        assert!(matches!(read(root.path()), Err(ReadError::Nothing(_))));
        assert!(read(&root.path().join("nowhere")).unwrap_err().to_string().contains("nowhere"));
        for (bad, problem) in [
            ("{}", "\"step\""),
            (r#"{"step": -1}"#, "from 0"),
            (r#"{"step": 1}"#, "\"args\""),
            (r#"{"step": 1, "env0_in_acc": 1.5}"#, "env0_in_acc is 1.5"),
            (r#"{"step": 1, "env0_in": 55.0}"#, "env0_in is 55.0"),
            (r#"{"step": 1, "env999_in_acc": 1}"#, "0 to 255"),
        ] {
            let error = refused(&[String::new(), bad.to_owned()]);
            assert!(error.contains("results.jsonl, line 2: ") && error.contains(problem), "{error}");
        }
        let with = |from: &str, to: &str| [line(0, "0.5"), line(300, "0.5").replace(from, to)];
        for (from, to) in [
            ("\"hparams_seed\": 3", "\"hparams_seed\": 4"),
            ("[1]", "[2]"),
            ("\"note\"", "\"seed\": 1, \"note\""),
        ] {
            let error = refused(&with(from, to));
            assert!(error.contains("line 2: it belongs to another run"), "{error}");
        }
        let tuned =
            |lr: &str| line(0, "0.5").replace("\"loss\"", &format!("\"hparams\": {{{lr}}}, \"loss\""));
        assert!(refused(&[tuned("\"lr\": 1"), tuned("\"lr\": 2")]).contains("hyper-parameters differ"));
        write(root.path(), "x/results.jsonl", &[tuned("\"lr\": 1"), tuned("\"lr\": 1, \"new\": 2")]);
        assert_eq!(read(root.path()).unwrap().runs[0].repeated(), (1, 0));
        let far = line(0, "0.5").replace("[1]", "[18446744073709551615]");
        assert!(refused(&[far]).contains("at most 255"));
    }

    #[test]
    fn a_run_that_measured_nothing_is_refused_by_name() {
        let root = tempfile::tempdir().unwrap();
        for lines in
            [vec![line(0, "NaN"), line(300, "-1")], vec![line(0, "0.5").replace("env0_in_acc", "acc")]]
        {
            write(root.path(), "run/results.jsonl", &lines);
            let error = read(root.path()).unwrap_err().to_string();
            assert!(
                error.contains("run/results.jsonl has no accuracy; allowed: ")
                    && error.contains("env0_in")
                    && !error.contains('\n'),
                "{error}"
            );
        }
        // One accuracy is enough.
        write(root.path(), "run/results.jsonl", &[line(0, "NaN"), line(300, "0.5")]);
        assert_eq!(read(root.path()).unwrap().runs.len(), 1);
    }

    #[test]
    fn a_tree_of_swads_has_its_runs_below_datasets_and_several_in_a_file() {
        let root = tempfile::tempdir().unwrap();
        let line = |dataset: &str, env: usize, step: i64| {
            format!(
                r#"{{"args": {{"algorithm": "ERM", "dataset": "{dataset}", "test_envs": [[0], [1]], "real_test_envs": [{env}], "trial_seed": 0, "seed": 0}},
                    "step": {step}, "env0_in": 0.5, "env0_out": 0.25, "env1_out": 0.75}}"#
            )
            .replace('\n', " ")
        };
        let lines: Vec<String> =
            [(0, 0), (0, 300), (1, 0), (1, 300)].map(|(env, step)| line("PACS", env, step)).to_vec();
        write(root.path(), "PACS/one/results.jsonl", &lines);
        write(root.path(), "PACS/one/checkpoints/results.jsonl", &lines);
        write(root.path(), ".trash/one/results.jsonl", &lines);
        write(root.path(), "VLCS/two/results.jsonl", &[line("VLCS", 1, 0)]);
        let runs = read(root.path()).unwrap().runs;
        let found: Vec<_> = runs
            .iter()
            .map(|run| (run.name.as_str(), run.test_envs[0], run.records.len(), run.repeated().0))
            .collect();
        let expected =
            [("PACS/one test_envs 0", 0, 2, 0), ("PACS/one test_envs 1", 1, 2, 0), ("VLCS/two", 1, 1, 0)];
        assert_eq!(found, expected);
        assert_eq!(runs[0].records[0].in_acc, [0.5, MISSING]);
        write(root.path(), "VLCS/two/results.jsonl", &[line("VLCS", 1, 0), line("PACS", 0, 0)]);
        assert!(read(root.path()).unwrap_err().to_string().contains("line 2: it belongs to another run"));
    }

    #[test]
    fn other_models_of_the_trajectory_have_files_of_their_own() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), "run/results.jsonl", &[line(0, "0.5"), line(300, "0.5")]);
        write(root.path(), "run/swa300_results.jsonl", &[line(300, "0.75"), line(300, "0.8")]);
        write(root.path(), "run/ensemble300_results.jsonl", &[line(300, "1")]);
        for other in ["swa_results.jsonl", "swa3x_results.jsonl", "old_swa300_results.jsonl"] {
            write(root.path(), &format!("run/{other}"), &["no record".to_owned()]);
        }
        let folders = read(root.path()).unwrap();
        let run = &folders.runs[0];
        assert_eq!((run.records.len(), run.others.len(), folders.torn), (2, 2, 0));
        assert_eq!(run.others[&Method::Average][0].in_acc, [0.75]);
        assert_eq!(run.others[&Method::Ensemble][0].in_acc, [1.0]);
        assert_eq!(run.repeated(), (1, 1));
        let stranger = line(300, "1").replace("VLCS", "PACS");
        write(root.path(), "run/ensemble300_results.jsonl", &[stranger]);
        let error = read(root.path()).unwrap_err().to_string();
        assert!(error.contains("ensemble300_results.jsonl, line 1: it belongs to another run"), "{error}");
        // Runs begin in the file of the plain model only.
        let stray = line(300, "1").replace("\"note\"", "\"real_test_envs\": [2], \"note\"");
        write(root.path(), "run/ensemble300_results.jsonl", &[stray]);
        let error = read(root.path()).unwrap_err().to_string();
        assert!(error.contains("ensemble300_results.jsonl, line 1: it belongs to another run"), "{error}");
        write(root.path(), "run/swa500_results.jsonl", &[line(500, "1")]);
        let error = read(root.path()).unwrap_err().to_string();
        assert!(error.contains("run has several files swa*_results.jsonl; allowed: one"), "{error}");
    }
}
