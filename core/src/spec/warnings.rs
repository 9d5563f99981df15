//! What a sweep file may say, and what is rarely meant.

use std::cell::RefCell;
use std::collections::BTreeSet;

use super::file::{SweepFile, TrainTable};
use super::sweep::SweepSpec;
use crate::command::{fill, flag_axis, variable};
use crate::finetune::Settings;
use crate::trial::Work;

/// Below this many steps, a learning rate that falls halfway by default is a surprise: most of such a run is a test.
const SHORT_STEPS: u64 = 1_000;

impl SweepFile {
    /// Whatever of the file is allowed and rarely meant, one line each. `sweep` is what [`SweepSpec::parse`] made of it.
    pub fn warnings(&self, sweep: &SweepSpec) -> Vec<String> {
        match &sweep.work {
            Work::Finetune(_) => {
                let mut warnings = Vec::new();
                for (_, settings) in sweep.settings() {
                    warnings.extend(of_training(self.train.as_ref(), &settings));
                }
                // Alike for settings of the same steps.
                let mut known = BTreeSet::new();
                warnings.retain(|warning| known.insert(warning.clone()));
                warnings
            }
            Work::Command(settings) => {
                let unseen = unseen_values(self, sweep, &settings.command);
                let no_steps = (settings.steps == Some(0))
                    .then(|| "run.steps is 0: a trial may report step 0 only".to_owned());
                no_steps.into_iter().chain(unseen).collect()
            }
        }
    }
}

fn of_training(table: Option<&TrainTable>, settings: &Settings) -> Vec<String> {
    let Settings { steps, evaluate_every, milestones, gamma, .. } = settings;
    if *steps == 0 {
        return vec!["train.steps is 0: a trial makes one update and is evaluated once".to_owned()];
    }
    let mut warnings = Vec::new();
    if evaluate_every > steps {
        let default = table.is_none_or(|table| table.evaluate_every.is_none());
        let default = if default { ", the default," } else { "" };
        warnings.push(format!(
            "train.evaluate_every is {evaluate_every}{default} and train.steps {steps}: a trial is evaluated at steps 0 and {steps} only"
        ));
    }
    let listed = |steps: Vec<&u64>| steps.into_iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
    let late: Vec<&u64> = milestones.iter().filter(|milestone| *milestone > steps).collect();
    if !late.is_empty() {
        warnings.push(format!(
            "train.milestones has {}, after the last step, {steps}: the learning rate does not change there",
            listed(late)
        ));
    }
    let says_nothing =
        |table: &TrainTable| table.schedule.is_none() && table.milestones.is_none() && table.gamma.is_none();
    if *steps < SHORT_STEPS && !milestones.is_empty() && table.is_some_and(says_nothing) {
        warnings.push(format!(
            "train.milestones is not set: the learning rate is multiplied by {gamma} at steps {}; milestones = [] keeps it as it is",
            listed(milestones.iter().collect())
        ));
    }
    warnings
}

/// Values that the file lists and the command line does not have.
fn unseen_values(file: &SweepFile, sweep: &SweepSpec, command: &[String]) -> Option<String> {
    let placeholders = placeholders(command);
    let replicates = [
        ("held_out", file.grid.held_out.is_some()),
        ("seed", file.grid.seeds.is_some()),
        ("split", file.grid.splits.is_some()),
    ];
    let replicates = replicates.into_iter().filter(|(_, listed)| *listed).map(|(name, _)| name);
    let unseen: Vec<&str> = sweep
        .grid
        .axes
        .keys()
        .map(String::as_str)
        .chain(replicates)
        // A script in the command itself may read the variable.
        .filter(|name| {
            !placeholders.contains(*name) && !command.iter().any(|word| word.contains(&variable(name)))
        })
        .collect();
    if unseen.is_empty() {
        return None;
    }
    let listed =
        |shown: &dyn Fn(&str) -> String| unseen.iter().map(|name| shown(name)).collect::<Vec<_>>().join(", ");
    Some(format!(
        "run.command has no {}: the program gets {} only as {}",
        listed(&|name| format!("{{{name}}}")),
        if unseen.len() == 1 { "this value" } else { "these values" },
        listed(&variable)
    ))
}

/// The names in the placeholders of a command, those of flags included.
fn placeholders(command: &[String]) -> BTreeSet<String> {
    let names = RefCell::new(BTreeSet::new());
    for word in command {
        // A word that cannot be filled was refused with the sweep.
        let _ = fill(word, |name| {
            names.borrow_mut().insert(flag_axis(name).unwrap_or(name).to_owned());
            Some(String::new())
        });
    }
    names.into_inner()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn warnings(text: &str) -> Vec<String> {
        SweepFile::parse(text).unwrap().warnings(&SweepSpec::parse(text, None).unwrap())
    }

    fn of_train(train: &str) -> Vec<String> {
        warnings(&format!(
            "name = \"s\"\n[data]\ndataset = \"PACS\"\n[model]\nbackbone = \"resnet50-v2\"\n[train]\n{train}\n[grid]\ndropout = 0\n\
             lr = 1e-3\nweight_decay = 0\n"
        ))
    }

    #[test]
    fn training_that_nobody_means_is_named_with_its_numbers() {
        for (train, expected) in [
            ("", vec![]),
            ("steps = 10_000\nevaluate_every = 300", vec![]),
            ("steps = 1000\nevaluate_every = 100", vec![]),
            ("steps = 0", vec!["train.steps is 0: a trial makes one update and is evaluated once"]),
            (
                "steps = 100\nevaluate_every = 101\nmilestones = []",
                vec![
                    "train.evaluate_every is 101 and train.steps 100: a trial is evaluated at steps 0 and 100 only",
                ],
            ),
            (
                "steps = 100\nschedule = \"cosine\"",
                vec![
                    "train.evaluate_every is 300, the default, and train.steps 100: a trial is evaluated at steps 0 and 100 only",
                ],
            ),
            ("steps = 100\nevaluate_every = 100\nmilestones = [50, 100]", vec![]),
            (
                "steps = 100\nevaluate_every = 10\nmilestones = [50, 101, 200]",
                vec![
                    "train.milestones has 101, 200, after the last step, 100: the learning rate does not change there",
                ],
            ),
            ("steps = 100\nevaluate_every = 10\ngamma = 0.5", vec![]),
            (
                "steps = 100\nevaluate_every = 10",
                vec![
                    "train.milestones is not set: the learning rate is multiplied by 0.1 at steps 50, 100; milestones = [] keeps it as it is",
                ],
            ),
        ] {
            assert_eq!(of_train(train), expected, "{train}");
        }
    }

    #[test]
    fn values_that_the_command_line_lacks_are_named_with_their_variables() {
        let of = |command: &str, grid: &str| {
            warnings(&format!("name = \"s\"\n[run]\ncommand = [{command}]\n[grid]\n{grid}\n"))
        };
        let grid = "lr = [0.1, 0.2]\namp = [true, false]\nheld_out = [\"a\"]\nseeds = 3\nsplits = [1]";
        let whole = r#""t", "{lr}", "{flag:amp}", "--at={held_out}", "{seed}{split}""#;
        assert_eq!(of(whole, grid), [""; 0]);
        // Nothing differs that the file does not list.
        assert_eq!(of(r#""t", "{lr}""#, "lr = 1"), [""; 0]);
        assert_eq!(of(r#""sh", "-c", "t $SORTIE_PARAM_LR""#, "lr = 1"), [""; 0]);
        assert_eq!(
            of(r#""t", "{{lr}}", "{flag:amp}", "{split}""#, grid),
            [
                "run.command has no {lr}, {held_out}, {seed}: the program gets these values only as SORTIE_PARAM_LR, SORTIE_PARAM_HELD_OUT, SORTIE_PARAM_SEED"
            ]
        );
        assert_eq!(
            of(r#""t", "{lr}""#, "lr = 1\nseeds = 2"),
            ["run.command has no {seed}: the program gets this value only as SORTIE_PARAM_SEED"]
        );
        let text = "name = \"s\"\n[run]\ncommand = [\"t\"]\nsteps = 0\n";
        assert_eq!(warnings(text), ["run.steps is 0: a trial may report step 0 only"]);
    }
}
