//! The trials of a sweep.

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use sortie_core::job::StateName;
use sortie_core::trial::{Point, SpecHash};

use super::style;
use crate::axis::parameter_names;

/// A trial: its place in the grid, its state, and its newest attempt.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TrialRow {
    /// Its id.
    #[serde(rename = "trial")]
    pub id: SpecHash,
    /// Its place in the grid.
    #[serde(serialize_with = "flat")]
    pub point: Point,
    /// Its state.
    pub state: StateName,
    /// Attempts so far.
    pub attempts: u32,
    /// The last step that the newest attempt reported.
    pub step: u64,
    /// The index of the last step; none if it is not known.
    pub steps: Option<u64>,
    /// The worker of the newest attempt: host and process; empty before the first attempt.
    pub worker: String,
    /// The error of the newest failed attempt; empty unless the trial failed or waits to run again.
    pub error: String,
    /// SWEEP/PREFIX of the trial whose result this is, if it is another sweep's.
    pub reused_from: Option<String>,
}

/// Trials of one sweep.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TrialList {
    /// The sweep's name.
    pub sweep: String,
    /// The trials.
    pub trials: Vec<TrialRow>,
}

impl TrialRow {
    /// The progress of the newest attempt.
    pub(super) fn progress(&self) -> String {
        match self.steps {
            Some(steps) => format!("{}/{steps}", self.step),
            None => self.step.to_string(),
        }
    }
}

impl TrialList {
    /// A table with one line for each trial. Columns that are empty, or that have one value by default, are left out.
    pub fn text(&self) -> String {
        let points = || self.trials.iter().map(|trial| &trial.point);
        let parameters = parameter_names(points());
        let held_out = points().any(|point| !point.held_out.is_empty());
        let split = points().any(|point| point.split_seed != 0);
        let reused = self.trials.iter().any(|trial| trial.reused_from.is_some());
        let mut header = vec!["trial", "state"];
        header.extend(held_out.then_some("held out"));
        header.extend(parameters.iter().map(String::as_str));
        header.push("seed");
        header.extend(split.then_some("split seed"));
        header.extend(["attempts", "step", "worker"]);
        header.extend(reused.then_some("reused from"));
        header.push("error");
        let mut table = style::table(header);
        for trial in &self.trials {
            let point = &trial.point;
            let value =
                |name: &String| point.parameters.get(name).map(ToString::to_string).unwrap_or_default();
            let mut row = vec![trial.id.short(), trial.state.to_string()];
            row.extend(held_out.then(|| point.held_out_label()));
            row.extend(parameters.iter().map(value));
            row.push(point.seed.to_string());
            row.extend(split.then(|| point.split_seed.to_string()));
            row.extend([trial.attempts.to_string(), trial.progress(), trial.worker.clone()]);
            row.extend(reused.then(|| trial.reused_from.clone().unwrap_or_default()));
            row.push(trial.error.clone());
            table.add_row(row);
        }
        table.trim_fmt()
    }
}

/// A place in the grid as one flat object: `held_out`, every parameter by its name, `seed` and `split`.
fn flat<S: Serializer>(point: &Point, serializer: S) -> Result<S::Ok, S::Error> {
    let Point { parameters, seed, split_seed, .. } = point;
    // No parameter is called like one of the others: `sortie_core::command::BUILT_IN` keeps those names.
    let mut map = serializer.serialize_map(Some(parameters.len() + 3))?;
    map.serialize_entry("held_out", &point.held_out_label())?;
    for (name, value) in parameters {
        map.serialize_entry(name, value)?;
    }
    map.serialize_entry("seed", seed)?;
    map.serialize_entry("split", split_seed)?;
    map.end()
}

#[cfg(test)]
mod tests {
    use super::*;
    use sortie_core::parameters::{Parameters, Scalar};

    fn trial(held_out: &[&str], split_seed: u64) -> TrialRow {
        let parameters = Parameters::from([
            ("optimiser".to_owned(), Scalar::Text("adam".into())),
            ("lr".to_owned(), Scalar::Number(1e-3.into())),
        ]);
        let held_out = held_out.iter().map(|domain| (*domain).to_owned()).collect();
        TrialRow {
            id: "94f9de813446924ef6b1cf831eaa3ef4".parse().unwrap(),
            point: Point { held_out, parameters, seed: 2, split_seed },
            state: StateName::Failed,
            attempts: 3,
            step: 7,
            steps: None,
            worker: "gpu4:4711".into(),
            error: "transient: exit code 1".into(),
            reused_from: None,
        }
    }

    #[test]
    fn a_trial_is_one_row_with_only_the_columns_that_say_something() {
        let text = |trial| TrialList { sweep: "pacs".into(), trials: vec![trial] }.text();
        assert_eq!(
            text(trial(&[], 0)),
            " trial     state   lr    optimiser  seed  attempts  step  worker     error\n \
             94f9de81  failed  1e-3  adam       2     3         7     gpu4:4711  transient: exit code 1"
        );
        let known = TrialRow {
            steps: Some(9),
            reused_from: Some("other/94f9de81".into()),
            ..trial(&["photo", "sketch"], 1)
        };
        let text = text(known);
        assert!(
            text.contains("held out")
                && text.contains("photo+sketch")
                && text.contains("split")
                && text.contains("7/9"),
            "{text}"
        );
        assert!(text.contains("reused from") && text.contains("other/94f9de81"), "{text}");
    }

    #[test]
    fn json_has_the_point_and_null_for_steps_that_nobody_knows() {
        let json = serde_json::to_string(&trial(&["photo"], 0)).unwrap();
        let expected = r#"{"trial":"94f9de813446924ef6b1cf831eaa3ef4","point":{"held_out":"photo","lr":0.001,"optimiser":"adam","seed":2,"split":0},"state":"failed","attempts":3,"step":7,"steps":null,"worker":"gpu4:4711","error":"transient: exit code 1","reused_from":null}"#;
        assert_eq!(json, expected);
    }

    #[test]
    fn a_point_is_flat() {
        let values = [
            ("lr", Scalar::Number(1e-3.into())),
            ("optimiser", Scalar::Text("adam".into())),
            ("fast", Scalar::Flag(true)),
        ];
        let parameters: Parameters = values.map(|(name, value)| (name.to_owned(), value)).into();
        let point =
            Point { held_out: vec!["photo".into(), "sketch".into()], parameters, seed: 3, split_seed: 1 };
        let json =
            r#"{"held_out":"photo+sketch","fast":true,"lr":0.001,"optimiser":"adam","seed":3,"split":1}"#;
        let mut text = Vec::new();
        flat(&point, &mut serde_json::Serializer::new(&mut text)).unwrap();
        assert_eq!(String::from_utf8(text).unwrap(), json);
    }
}
