//! `sortie plan`: what a sweep file would run.

use anyhow::Result;
use serde::Serialize;
use sortie_core::combine::{Choice, Combine, SEED};
use sortie_core::command::CommandSettings;
use sortie_core::finetune::{Average, AverageEvery, MicroBatch, Schedule, Settings};
use sortie_core::parameters::{Scalar, number};
use sortie_core::requirements::Requirements;
use sortie_core::selection::Selection;
use sortie_core::spec::SweepSpec;
use sortie_core::trial::Work;
use sortie_data::{CacheSize, Discovered};

use crate::connection::Connection;
use crate::output;
use crate::sweep_source::SweepArguments;

/// Show what a sweep file would run, and warn of what is allowed and rarely meant. Stores nothing.
///
/// It needs no coordinator. If one answers, it also says why no worker may run the trials, which machines were quarantined for such
/// trials, as one whose dataset differs from the others', and which trials have results that are not enough, so that they would run again.
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
    /// Of a machine, for the images; none where the dataset's folder was not read.
    #[serde(skip_serializing_if = "Option::is_none")]
    cache: Option<CacheSize>,
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
    let mut outlook = read.outlook(connection).await;
    outlook.extend(read.trained_again(connection).await);
    let warnings = [read.warnings, outlook].concat();
    output::warn(&warnings);
    let spec = &read.spec;
    let cache = cache_size(spec, read.discovered.as_ref());
    if arguments.json {
        output::json(&plan(spec, cache, &warnings))
    } else {
        output::text(&describe(spec, cache))
    }
}

/// What the images' cache will take; none where the folder was not read, or where a program reads it.
fn cache_size(spec: &SweepSpec, found: Option<&Discovered>) -> Option<CacheSize> {
    let Work::Finetune(settings) = &spec.work else { return None };
    found?.folder.cache_size(settings.cache_pixels, settings.pixels)
}

fn plan<'a>(spec: &'a SweepSpec, cache: Option<CacheSize>, warnings: &'a [String]) -> Plan<'a> {
    let trials = spec.trials_planned().unwrap_or(u64::MAX);
    let updates = spec.updates_planned().filter(|_| matches!(spec.work, Work::Finetune(_)));
    Plan { sweep: &spec.name, trials, updates, cache, spec, warnings }
}

fn describe(spec: &SweepSpec, cache: Option<CacheSize>) -> String {
    let grid = &spec.grid;
    let seeds = |seeds: &[u64]| list(seeds.iter().map(u64::to_string));
    let mut rows = match &spec.work {
        Work::Finetune(_) => each(spec.settings().map(|(_, settings)| settings_rows(&settings))),
        Work::Command(settings) => command_rows(settings),
    };
    rows.extend(cache.map(|size| ("cache", cache_row(size))));
    if !grid.held_out.is_empty() {
        rows.push(("held_out", output::shortened(&grid.held_out)));
    }
    // The axes in the order of the results tables.
    let points: Vec<_> = spec.point_at(0).into_iter().collect();
    let names = sortie_analysis::parameter_names(&points);
    for name in &names {
        let listed = grid.axes.get(name).map(|axis| list(axis.values.iter().map(Scalar::argument)));
        let drawn = || Some(spec.random.as_ref()?.ranges.get(name)?.to_string());
        rows.push((name, listed.or_else(drawn).unwrap_or_default()));
    }
    if let Some(random) = &spec.random {
        rows.push(("random", format!("{} draws with seed {}", random.draws.len(), random.seed)));
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

fn cache_row(CacheSize { images, bytes, is_exact }: CacheSize) -> String {
    let about = if is_exact { "" } else { "about " };
    let (size, images) = (indicatif::HumanBytes(bytes), indicatif::HumanCount(images));
    format!("{about}{size} of disk on each machine, for {images} decoded images")
}

fn split_seeds(seeds: &[u64]) -> &'static str {
    if seeds.len() == 1 { "split seed" } else { "split seeds" }
}

fn list(values: impl Iterator<Item = String>) -> String {
    output::shortened(&values.collect::<Vec<_>>())
}

type Rows = Vec<(&'static str, String)>;

/// Different values of a row that are shown at the most.
const VALUES_SHOWN: usize = 4;

/// The rows of a sweep that varies its settings: each value of a row once.
fn each(all: impl Iterator<Item = Rows>) -> Rows {
    let mut rows: Vec<(&'static str, Vec<String>)> = Vec::new();
    for (name, value) in all.flatten() {
        match rows.iter_mut().find(|(other, _)| *other == name) {
            None => rows.push((name, vec![value])),
            Some((_, values)) if values.contains(&value) => {}
            Some((_, values)) => values.push(value),
        }
    }
    let joined = rows.into_iter().map(|(name, mut values)| {
        let more = values.len().saturating_sub(VALUES_SHOWN);
        values.truncate(VALUES_SHOWN);
        values.extend((more > 0).then(|| format!("{more} others")));
        (name, values.join("; or "))
    });
    joined.collect()
}

fn settings_rows(settings: &Settings) -> Rows {
    let (dataset, updates) = (&settings.dataset, settings.steps + 1);
    let mut rows = vec![
        ("dataset", format!("{} ({} classes), {} px", dataset.name, dataset.classes.len(), settings.pixels)),
        (
            "model",
            format!("{}, {} fine-tuning, {}", settings.backbone, settings.finetune, settings.precision),
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

fn command_rows(settings: &CommandSettings) -> Rows {
    let mut rows = vec![("command", words(&settings.command))];
    rows.extend(settings.dataset.clone().map(|dataset| ("dataset", dataset)));
    if !settings.domains.is_empty() {
        rows.push(("domains", output::shortened(&settings.domains)));
    }
    rows.extend(settings.steps.map(|steps| ("a trial", format!("steps 0 to {steps}"))));
    rows
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
        assert_eq!(describe(&spec, None), expected);
    }

    #[test]
    fn combinations_are_planned_beside_the_grid() {
        let spec = SweepSpec::parse(include_str!("../../../examples/ensemble.toml"), None).unwrap();
        let text = describe(&spec, None);
        let line = "  combine        ensemble-across: ensemble across runs, of 3, 6, 18 trials over lr, weight_decay, seed, 24 times\n";
        assert!(text.starts_with("sweep ensemble: 168 trials\n") && text.contains(line), "{text}");
        assert_eq!(plan(&spec, None, &[]).updates, Some(144 * 10_001));
    }

    #[test]
    fn settings_that_vary_are_shown_with_their_values() {
        let text = include_str!("../../../examples/domainbed-random.toml")
            .replace("backbone = \"resnet50-v1\"", "backbone = [\"resnet50-v1\", \"vit-b-16\"]")
            .replace("steps = 5000 ", "steps = [10, 20] ");
        let text = describe(&SweepSpec::parse(&text, None).unwrap(), None);
        for line in [
            "  model          resnet50-v1, full fine-tuning, reference; or vit-b-16, full fine-tuning, reference\n",
            "  steps          10, 20\n",
            "  batch_per_domain { log_uniform = [8, 45.254833995939045], whole = true }\n",
            "  random         20 draws with seed 0\n",
            "  updates        adam, constant rate\n",
        ] {
            let words =
                |text: &str| text.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
            assert!(words(&text).contains(&words(line)), "{line}{text}");
        }
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
    fn the_disk_for_the_images_is_said_where_their_folder_was_read() {
        let spec = SweepSpec::parse(include_str!("../../../examples/figure1.toml"), None).unwrap();
        assert!(!describe(&spec, None).contains("cache"));
        let size = CacheSize { images: 586_575, bytes: 115 << 30, is_exact: false };
        let row = "  cache          about 115.00 GiB of disk on each machine, for 586,575 decoded images\n";
        assert!(describe(&spec, Some(size)).contains(row), "{}", describe(&spec, Some(size)));
        assert_eq!(
            serde_json::to_value(plan(&spec, Some(size), &[])).unwrap()["cache"]["bytes"],
            115_u64 << 30
        );
        assert!(!serde_json::to_string(&plan(&spec, None, &[])).unwrap().contains("cache\":{"));
    }

    #[test]
    fn long_axes_are_cut_short() {
        let text = COMMAND
            .replace("seeds = 3", "seeds = 300")
            .replace("dropout = 0\n", "dropout = [1, 2.0, 3, 4, 5, 6, 7, 8, 1_000_000]\n");
        let text = describe(&SweepSpec::parse(&text, None).unwrap(), None);
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
        let json = serde_json::to_value(plan(&spec, None, &["w".to_owned()])).unwrap();
        assert_eq!(json["warnings"], serde_json::json!(["w"]));
        assert_eq!((&json["trials"], &json["updates"]), (&6.into(), &serde_json::Value::Null));
        assert_eq!(json["work"]["command"]["command"][1], "--lr={lr}");
        assert_eq!(
            (&json["require"]["commands"], &json["grid"]["axes"]["lr"]["values"][1]),
            (&true.into(), &1e-3.into())
        );
        // Without held-out domains nothing is selected.
        assert!(!describe(&spec, None).contains("held_out") && !describe(&spec, None).contains("select"));
    }
}
