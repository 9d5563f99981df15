//! Any program as a trial: its command line with placeholders, and the environment that it is given.
//!
//! `{lr}` in a word of the command stands for the trial's value on the axis `lr`, as the sweep file has it; `{flag:amp}` for `--amp` or
//! nothing; `{{` and `}}` stand for braces. Besides the grid's axes there are [`BUILT_IN`] names. What the program prints is read as
//! described in docs/commands.md.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::parameters::Scalar;
use crate::trial::{Point, SpecHash};

/// What all trials of a sweep of commands have in common and what decides their numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommandSettings {
    /// The program and its arguments, with placeholders.
    pub command: Vec<String>,
    /// A folder below the worker's data root, if the sweep names one.
    pub dataset: Option<String>,
    /// The domains that metrics may name, sorted; any if there is none.
    pub domains: Vec<String>,
    /// The index of the last step, for progress, if the sweep names it.
    pub steps: Option<u64>,
    /// The step that a trial must have reported, or a later one, to succeed, if the sweep names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub complete_at: Option<u64>,
}

/// Placeholders that every trial has: names of held-out domains joined by `+`, both seeds, the trial's id, the worker's data folder, the
/// device (`cpu` or `cuda:0`), CPU threads, the index of the last step, and the folder of the trial's checkpoints.
pub const BUILT_IN: [&str; 9] =
    ["held_out", "seed", "split", "trial", "data", "device", "threads", "steps", "checkpoints"];
/// The variable that names the folder of the trial's checkpoints.
pub const CHECKPOINTS_VARIABLE: &str = "SORTIE_CHECKPOINTS";

/// An unknown placeholder, or an unmatched brace.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{word:?} {reason}")]
pub struct BadTemplate {
    /// The word of the command.
    pub word: String,
    /// What is wrong with it.
    pub reason: String,
}

/// What precedes the name of an axis of true and false in a placeholder that stands for `--NAME` or for nothing.
const FLAG: &str = "flag:";

/// The axis of a placeholder such as `flag:amp`; none for other placeholders.
pub fn flag_axis(placeholder: &str) -> Option<&str> {
    placeholder.strip_prefix(FLAG)
}

/// Whether a word of a command is a flag's placeholder and nothing else. It is left out where the flag is false.
pub fn is_flag_alone(word: &str) -> bool {
    let inner = word.strip_prefix('{').and_then(|word| word.strip_suffix('}'));
    inner.and_then(flag_axis).is_some_and(|axis| !axis.contains(['{', '}']))
}

/// Puts values into a word's placeholders.
///
/// # Errors
/// [`BadTemplate`] names the placeholder that `value` does not know.
pub fn fill(word: &str, value: impl Fn(&str) -> Option<String>) -> Result<String, BadTemplate> {
    let bad = |reason: String| BadTemplate { word: word.to_owned(), reason };
    let mut filled = String::with_capacity(word.len());
    let mut rest = word;
    while let Some(at) = rest.find(['{', '}']) {
        let (before, from) = rest.split_at(at);
        filled.push_str(before);
        if let Some(after) = from.strip_prefix("{{").or_else(|| from.strip_prefix("}}")) {
            filled.push_str(&from[..1]);
            rest = after;
            continue;
        }
        let closed = from.strip_prefix('{').and_then(|inner| inner.split_once('}'));
        let (name, after) = closed
            .ok_or_else(|| bad("has an unmatched brace; write {{ or }} for a brace itself".to_owned()))?;
        filled.push_str(&value(name).ok_or_else(|| {
            let lacks = match flag_axis(name) {
                Some(axis) => format!("and {} is no axis of true and false", shortened(axis)),
                None => "which is neither an axis nor built in (write {{ and }} for braces)".to_owned(),
            };
            bad(format!("has the placeholder {{{}}}, {lacks}", shortened(name)))
        })?);
        rest = after;
    }
    filled.push_str(rest);
    Ok(filled)
}

/// A name, shortened for a message of one line.
fn shortened(name: &str) -> String {
    let end = name.floor_char_boundary(60);
    format!("{}{}", name[..end].escape_debug(), if end < name.len() { "..." } else { "" })
}

/// Values of placeholders that come from the worker, not from the trial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerValues {
    /// The folder that holds the datasets' folders.
    pub data: String,
    /// `cpu` or `cuda:0`.
    pub device: String,
    /// CPU threads.
    pub threads: usize,
    /// The folder in which the program finds what an earlier attempt at its trial left there.
    pub checkpoints: String,
}

/// A command line and the environment variables that go with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invocation {
    /// The program and its arguments; at least the program.
    pub words: Vec<String>,
    /// `SORTIE_PARAM_<AXIS>` in capitals for every axis and every built-in name, and [`CHECKPOINTS_VARIABLE`].
    pub environment: BTreeMap<String, String>,
}

impl CommandSettings {
    /// The command of one trial.
    ///
    /// # Errors
    /// [`BadTemplate`], never for a checked sweep.
    pub fn invocation(
        &self,
        spec_hash: SpecHash,
        point: &Point,
        worker_values: &WorkerValues,
    ) -> Result<Invocation, BadTemplate> {
        let WorkerValues { data, device, threads, checkpoints } = worker_values;
        let mut values: BTreeMap<String, String> =
            point.parameters.iter().map(|(axis, value)| (axis.clone(), value.argument())).collect();
        let built_in = [
            point.held_out_label(),
            point.seed.to_string(),
            point.split_seed.to_string(),
            spec_hash.to_string(),
            self.dataset.as_ref().map_or_else(|| data.clone(), |dataset| format!("{data}/{dataset}")),
            device.clone(),
            threads.to_string(),
            self.steps.map_or_else(String::new, |steps| steps.to_string()),
            checkpoints.clone(),
        ];
        values.extend(BUILT_IN.into_iter().map(str::to_owned).zip(built_in));
        let value = |name: &str| match flag_axis(name) {
            None => values.get(name).cloned(),
            Some(axis) => match point.parameters.get(axis)? {
                Scalar::Flag(true) => Some(format!("--{axis}")),
                Scalar::Flag(false) => Some(String::new()),
                Scalar::Number(_) | Scalar::Text(_) => None,
            },
        };
        let mut words = Vec::with_capacity(self.command.len());
        for word in &self.command {
            let filled = fill(word, value)?;
            if !(filled.is_empty() && is_flag_alone(word)) {
                words.push(filled);
            }
        }
        let mut environment: BTreeMap<String, String> =
            values.into_iter().map(|(name, value)| (variable(&name), value)).collect();
        environment.insert(CHECKPOINTS_VARIABLE.to_owned(), checkpoints.clone());
        Ok(Invocation { words, environment })
    }
}

/// The environment variable of an axis or a built-in name.
pub fn variable(name: &str) -> String {
    format!("SORTIE_PARAM_{}", name.to_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parameters::{Parameters, Scalar};

    #[test]
    fn placeholders_are_filled_exactly_once() {
        let value = |name: &str| (name == "lr").then(|| "{x}".to_owned());
        for (word, filled) in [
            ("--lr={lr}", "--lr={x}"),
            ("{{lr}}", "{lr}"),
            ("plain", "plain"),
            ("{lr}{lr}", "{x}{x}"),
            ("a}}", "a}"),
        ] {
            assert_eq!(fill(word, value).unwrap(), filled, "{word}");
        }
        for bad in ["{wd}", "{lr", "}", "{}", "a{b", "f() {\n echo x\n}", "{flag:lr}"] {
            let refused = fill(bad, value).unwrap_err();
            assert!(!refused.reason.contains('\n'), "{bad}");
        }
    }

    #[test]
    fn a_trial_gets_its_values_as_words_and_as_variables() {
        let words = [
            "train.py",
            "--lr={lr}",
            "{n}",
            "{optimiser}",
            "{flag:amp}",
            "{flag:fast}",
            "x{flag:fast}",
            "{fast}",
            "{held_out}",
            "{data}",
            "{checkpoints}/last.pt",
        ]
        .map(str::to_owned)
        .to_vec();
        let settings = CommandSettings {
            command: words,
            dataset: Some("PACS".into()),
            domains: vec![],
            steps: None,
            complete_at: None,
        };
        let parameters = Parameters::from([
            ("lr".to_owned(), Scalar::Number(1e-3.into()).with_written("1e-3")),
            ("n".to_owned(), Scalar::Number(1e6.into())),
            ("amp".to_owned(), Scalar::Flag(true)),
            ("fast".to_owned(), Scalar::Flag(false)),
            ("optimiser".to_owned(), Scalar::Text("adam w".into())),
        ]);
        let point =
            Point { held_out: vec!["photo".into(), "sketch".into()], parameters, seed: 3, split_seed: 0 };
        let spec_hash: SpecHash = "14c2b2ccaf82d77d2ecd00acfb58823c".parse().unwrap();
        let (data, device, checkpoints) = ("/data".into(), "cpu".into(), "/cache/checkpoints/x".into());
        let worker_values = WorkerValues { data, device, threads: 2, checkpoints };
        let Invocation { words, environment } =
            settings.invocation(spec_hash, &point, &worker_values).unwrap();
        assert_eq!(
            words,
            [
                "train.py",
                "--lr=1e-3",
                "1000000",
                "adam w",
                "--amp",
                "x",
                "false",
                "photo+sketch",
                "/data/PACS",
                "/cache/checkpoints/x/last.pt"
            ]
        );
        assert_eq!(environment["SORTIE_PARAM_LR"], "1e-3");
        assert_eq!(environment["SORTIE_PARAM_SEED"], "3");
        assert_eq!(environment["SORTIE_PARAM_TRIAL"], spec_hash.to_string());
        assert_eq!(
            (environment["SORTIE_PARAM_N"].as_str(), environment["SORTIE_PARAM_AMP"].as_str()),
            ("1000000", "true")
        );
        assert_eq!(environment[CHECKPOINTS_VARIABLE], "/cache/checkpoints/x");
        assert_eq!(environment.len(), 6 + BUILT_IN.len());
    }
}
