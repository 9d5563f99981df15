//! `sortie plan`: what a sweep file would run.

use anyhow::Result;
use serde::Serialize;
use sortie_core::combine::{Choice, Combine, SEED};
use sortie_core::finetune::{Average, AverageEvery, MicroBatch, Schedule, Settings};
use sortie_core::parameters::{Scalar, number};
use sortie_core::requirements::Requirements;
use sortie_core::selection::Selection;
use sortie_core::spec::SweepSpec;
use sortie_core::trial::Work;

use crate::connection::Connection;
use crate::output;
use crate::sweep_source::SweepArguments;

/// Show what a sweep file would run, and warn of what is allowed and rarely meant. Stores nothing.
///
/// It needs no coordinator. If one answers, it also says why no worker may run the trials, and which machines were quarantined for such
/// trials, as one whose dataset differs from the others'.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    sweep: SweepArguments,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Plan<'a> {
    sweep: &'a str,
    trials: u64,
    /// Of all trials together; none for a command, whose steps are unknown.
    updates: Option<u64>,
    #[serde(flatten)]
    spec: &'a SweepSpec,
    warnings: &'a [String],
}

/// Prints the plan.
///
/// # Errors
/// As [`SweepArguments::read`].
pub async fn run(arguments: &Arguments, connection: &Connection) -> Result<()> {
    let read = arguments.sweep.read()?;
    let outlook = read.outlook(connection).await;
    let warnings = [read.warnings, outlook].concat();
    output::warn(&warnings);
    let spec = &read.spec;
    if arguments.json { output::json(&plan(spec, &warnings)) } else { output::text(&describe(spec)) }
}

fn plan<'a>(spec: &'a SweepSpec, warnings: &'a [String]) -> Plan<'a> {
    let trials = spec.trials_planned().unwrap_or(u64::MAX);
    let updates = match &spec.work {
        Work::Finetune(settings) => {
            Some(spec.grid_trials().unwrap_or(u64::MAX).saturating_mul(settings.steps + 1))
        }
        Work::Command(_) => None,
    };
    Plan { sweep: &spec.name, trials, updates, spec, warnings }
}

fn describe(spec: &SweepSpec) -> String {
    let grid = &spec.grid;
    let seeds = |seeds: &[u64]| list(seeds.iter().map(u64::to_string));
    let mut rows = work_rows(&spec.work);
    if !grid.held_out.is_empty() {
        rows.push(("held_out", output::shortened(&grid.held_out)));
    }
    // The axes in the order of the results tables.
    let points: Vec<_> = spec.point_at(0).into_iter().collect();
    let names = sortie_analysis::parameter_names(&points);
    for name in &names {
        let values = grid.axes.get(name).map(|axis| list(axis.values.iter().map(Scalar::argument)));
        rows.push((name, values.unwrap_or_default()));
    }
    rows.extend([("seeds", seeds(&grid.seeds)), (split_seeds(&grid.splits), seeds(&grid.splits))]);
    if !grid.held_out.is_empty() {
        let adds = |selection: &Selection| match spec.trials_for(*selection) {
            0 => format!("{selection} (needs no further trials)"),
            more => format!("{selection} (needs {more} of these trials: pairs of held-out domains)"),
        };
        rows.push(("select", list(spec.select.iter().map(adds))));
    }
    rows.extend(spec.combine.iter().map(|combine| ("combine", combined(combine, spec))));
    rows.push(("workers", workers(&spec.require)));
    let width = rows.iter().map(|(name, _)| name.len()).fold(14, usize::max);
    let mut text = format!("sweep {}: {} trials\n", spec.name, spec.trials_planned().unwrap_or(u64::MAX));
    for (name, value) in rows {
        text.push_str(&format!("  {name:<width$} {value}\n"));
    }
    text
}

fn split_seeds(seeds: &[u64]) -> &'static str {
    if seeds.len() == 1 { "split seed" } else { "split seeds" }
}

fn list(values: impl Iterator<Item = String>) -> String {
    output::shortened(&values.collect::<Vec<_>>())
}

fn work_rows(work: &Work) -> Vec<(&str, String)> {
    match work {
        Work::Finetune(settings) => {
            let (dataset, updates) = (&settings.dataset, settings.steps + 1);
            let mut rows = vec![
                (
                    "dataset",
                    format!("{} ({} classes), {} px", dataset.name, dataset.classes.len(), settings.pixels),
                ),
                (
                    "model",
                    format!(
                        "{}, {} fine-tuning, {}",
                        settings.backbone, settings.finetune, settings.precision
                    ),
                ),
                (
                    "a trial",
                    format!(
                        "{updates} updates of {} images per training domain{}",
                        settings.batch_per_domain,
                        parts(settings.micro_batch)
                    ),
                ),
                ("updates", updates_row(settings)),
            ];
            let layout = (!dataset.layout.is_default()).then(|| ("layout", dataset.layout.to_string()));
            let lacking = dataset.missing_classes.note().map(|note| ("classes", note.to_owned()));
            // Below the dataset.
            rows.splice(1..1, layout.into_iter().chain(lacking));
            rows.extend(also_evaluated(settings).map(|weights| ("also evaluated", weights)));
            rows
        }
        Work::Command(settings) => {
            let mut rows = vec![("command", words(&settings.command))];
            rows.extend(settings.dataset.clone().map(|dataset| ("dataset", dataset)));
            if !settings.domains.is_empty() {
                rows.push(("domains", output::shortened(&settings.domains)));
            }
            rows.extend(settings.steps.map(|steps| ("a trial", format!("steps 0 to {steps}"))));
            rows
        }
    }
}

fn parts(micro_batch: Option<MicroBatch>) -> String {
    match micro_batch {
        None => String::new(),
        Some(MicroBatch::Images(images)) => format!(", computed {images} at a time"),
        Some(MicroBatch::Auto) => ", computed at once if memory is enough, else in parts".to_owned(),
    }
}

fn updates_row(settings: &Settings) -> String {
    let schedule = match settings.schedule {
        Schedule::Cosine => "cosine schedule".to_owned(),
        Schedule::Step if settings.milestones.is_empty() => "constant rate".to_owned(),
        Schedule::Step => format!(
            "rate x {} at {}",
            number(settings.gamma),
            list(settings.milestones.iter().map(u64::to_string))
        ),
    };
    format!("{}, {schedule}", settings.optimizer)
}

fn also_evaluated(settings: &Settings) -> Option<String> {
    let average = settings.average.map(|Average { from, every }| match every {
        AverageEvery::Steps(1) => format!("the average of the weights from step {from} on"),
        AverageEvery::Steps(steps) => {
            format!("the average of the weights of every {steps} steps from {from} on")
        }
        AverageEvery::Evaluation => format!("the average of the weights at evaluations from step {from} on"),
    });
    let ensemble = settings
        .ensemble
        .map(|ensemble| format!("the ensemble over steps of the evaluations from step {} on", ensemble.from));
    let both: Vec<_> = average.into_iter().chain(ensemble).collect();
    (!both.is_empty()).then(|| both.join("; "))
}

fn combined(combine: &Combine, spec: &SweepSpec) -> String {
    let Combine { name, kind, choice, over, over_seeds, filter, members, .. } = combine;
    let axes = over.keys().cloned().chain(over_seeds.then(|| SEED.to_owned()));
    let counts = list(members.iter().map(u64::to_string));
    let greedy = if *choice == Choice::Greedy { "greedy " } else { "" };
    let filter = filter.as_ref().map(|filter| format!(" where {filter}")).unwrap_or_default();
    let trials = combine.trials(spec).unwrap_or(u64::MAX);
    format!(
        "{name}: {greedy}{kind} across runs, of {counts} trials over {}{filter}, {trials} times",
        list(axes)
    )
}

/// A command line: words that a shell would split are quoted.
fn words(command: &[String]) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,@%+{}".contains(c);
    let word = |word: &String| {
        if !word.is_empty() && word.chars().all(plain) { word.clone() } else { format!("{word:?}") }
    };
    command.iter().map(word).collect::<Vec<_>>().join(" ")
}

fn workers(require: &Requirements) -> String {
    let Requirements { tags, gpu_memory_gib, commands, worker: _ } = require;
    let mut needs = Vec::new();
    if *commands {
        needs.push("that may run commands".to_owned());
    }
    if !tags.is_empty() {
        needs.push(format!("tagged {}", tags.join(" and ")));
    }
    if *gpu_memory_gib > 0.0 {
        needs.push(format!("whose GPUs have at least {gpu_memory_gib} GiB"));
    }
    if needs.is_empty() { "any".to_owned() } else { format!("those {}", needs.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMAND: &str = "name = \"demo\"\n[run]\ncommand = [\"train\", \"--lr={lr}\", \"two words\"]\nsteps = 9\n[grid]\nlr = [0.1, 1e-3]\n\
                           fast = true\ndropout = 0\nseeds = 3\n";

    #[test]
    fn a_command_is_shown_with_its_axes_and_what_it_needs() {
        let held_out =
            "[require]\ntags = [\"night\"]\ngpu_memory_gib = 24\n[grid]\nheld_out = [\"b\", \"a\"]";
        let spec = SweepSpec::parse(&COMMAND.replace("[grid]", held_out), None).unwrap();
        let expected = "sweep demo: 12 trials
  command        train --lr={lr} \"two words\"
  a trial        steps 0 to 9
  held_out       b, a
  dropout        0
  lr             0.1, 1e-3
  fast           true
  seeds          0, 1, 2
  split seed     0
  select         iid (needs no further trials)
  workers        those that may run commands, tagged night, whose GPUs have at least 24 GiB
";
        assert_eq!(describe(&spec), expected);
    }

    #[test]
    fn combinations_are_planned_beside_the_grid() {
        let spec = SweepSpec::parse(include_str!("../../../examples/ensemble.toml"), None).unwrap();
        let text = describe(&spec);
        let line = "  combine        ensemble-across: ensemble across runs, of 3, 6, 18 trials over lr, weight_decay, seed, 24 times\n";
        assert!(text.starts_with("sweep ensemble: 168 trials\n") && text.contains(line), "{text}");
        assert_eq!(plan(&spec, &[]).updates, Some(144 * 10_001));
    }

    #[test]
    fn the_examples_can_be_submitted() {
        for (text, trials) in [
            (include_str!("../../../examples/synthetic.toml"), 48),
            (include_str!("../../../examples/quickstart.toml"), 96),
            (include_str!("../../../examples/fine-tuning.toml"), 8),
        ] {
            assert_eq!(SweepSpec::parse(text, None).unwrap().trials_planned(), Some(trials));
        }
    }

    #[test]
    fn long_axes_are_cut_short() {
        let text = COMMAND
            .replace("seeds = 3", "seeds = 300")
            .replace("dropout = 0\n", "dropout = [1, 2.0, 3, 4, 5, 6, 7, 8, 1_000_000]\n");
        let text = describe(&SweepSpec::parse(&text, None).unwrap());
        for line in [
            "seeds          0, 1, 2, 3, 4, ..., 299 (300 values)\n",
            "dropout        1, 2.0, 3, 4, 5, ..., 1000000 (9 values)\n",
        ] {
            assert!(text.contains(line), "{text}");
        }
    }

    #[test]
    fn json_has_the_whole_specification() {
        let spec = SweepSpec::parse(COMMAND, None).unwrap();
        let json = serde_json::to_value(plan(&spec, &["w".to_owned()])).unwrap();
        assert_eq!(json["warnings"], serde_json::json!(["w"]));
        assert_eq!((&json["trials"], &json["updates"]), (&6.into(), &serde_json::Value::Null));
        assert_eq!(json["work"]["command"]["command"][1], "--lr={lr}");
        assert_eq!(
            (&json["require"]["commands"], &json["grid"]["axes"]["lr"]["values"][1]),
            (&true.into(), &1e-3.into())
        );
        // Without held-out domains nothing is selected.
        assert!(!describe(&spec).contains("held_out") && !describe(&spec).contains("select"));
    }
}
