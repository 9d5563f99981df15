//! A description of the runs, and the grid.

use std::collections::BTreeSet;

use maud::{Markup, PreEscaped, html};
use sortie_core::combine::{Choice, Combine};
use sortie_core::command::CommandSettings;
use sortie_core::finetune::{
    BatchNorm, BlockNorm, Finetune, MicroBatch, Optimizer, OutTransform, Precision, Schedule, Settings,
};
use sortie_core::parameters::Scalar;
use sortie_core::selection::Selection;
use sortie_core::trial::{SplitBy, Work};

use super::{Report, page};

/// Values of an axis that are listed. If there are more, the first ones and the last are listed.
const VALUES_SHOWN: usize = 24;
/// Words of a command that are shown.
const WORDS_SHOWN: usize = 200;

/// One sentence about the sweep.
pub(super) fn sentence(report: &Report<'_>) -> Markup {
    let held_out = &report.spec.grid.held_out;
    let domains = match held_out.len() {
        0 => String::new(),
        1 => ", with one held-out domain".to_owned(),
        count => format!(", with each of {count} domains held out in turn"),
    };
    let (seeds, splits) = (report.spec.grid.seeds.len(), report.spec.grid.splits.len());
    let seeds = match splits {
        1 => page::counted(seeds, "seed", "seeds"),
        _ => format!("{} on each of {splits} splits", page::counted(seeds, "seed", "seeds")),
    };
    html! {
        @match &report.spec.work {
            Work::Finetune(settings) => {
                (trained(report)) " of " (page::list(backbones(report).into_iter())) " on " (page::text(&settings.dataset.name))
            }
            Work::Command(settings) => {
                "Runs of a command" @if let Some(dataset) = &settings.dataset { " on " (page::text(dataset)) }
            }
        }
        (domains) "; " (seeds) " for each setting."
    }
}

pub(super) fn section(report: &Report<'_>, numbers: &mut page::Numbering) -> Markup {
    let facts = match &report.spec.work {
        Work::Finetune(_) => each(report.spec.settings().map(|(_, settings)| finetune(&settings))),
        Work::Command(settings) => command(settings),
    };
    let body = html! {
        dl.facts {
            @for (name, fact) in facts { dt { (name) } dd { (fact) } }
        }
        h3 { "Grid" }
        (grid(report, numbers))
        @if !report.spec.combine.is_empty() {
            h3 { "Combinations across trials" }
            ul { @for combine in &report.spec.combine { li { (combination(combine)) } } }
        }
    };
    page::section("setup", "What was run", body)
}

type Facts = Vec<(&'static str, Markup)>;

/// Which weights its trials train, in the words of a heading.
fn trained(report: &Report<'_>) -> &'static str {
    let kinds: BTreeSet<&str> =
        report.spec.settings().map(|(_, settings)| settings.finetune.as_str()).collect();
    match kinds.first().and_then(|kind| kind.parse().ok()) {
        Some(Finetune::Full) if kinds.len() == 1 => "Fine-tuning",
        Some(Finetune::Linear) if kinds.len() == 1 => "Linear fine-tuning",
        Some(Finetune::Scratch) if kinds.len() == 1 => "Training from scratch",
        _ => "Training",
    }
}

/// The networks of its trials.
fn backbones(report: &Report<'_>) -> BTreeSet<&'static str> {
    report.spec.settings().map(|(_, settings)| settings.backbone.as_str()).collect()
}

/// The facts of a sweep that varies its settings: each fact once.
fn each(all: impl Iterator<Item = Facts>) -> Facts {
    let mut facts: Vec<(&'static str, Vec<String>)> = Vec::new();
    for (index, (name, fact)) in all.flat_map(|own| own.into_iter().enumerate()) {
        if facts.len() <= index {
            facts.push((name, Vec::new()));
        }
        if !facts[index].1.contains(&fact.0) {
            facts[index].1.push(fact.0);
        }
    }
    let joined = facts.into_iter().map(|(name, texts)| (name, PreEscaped(texts.join("; or "))));
    joined.collect()
}

fn finetune(settings: &Settings) -> Facts {
    let Settings { dataset, pixels, cache_pixels, backbone, weights, precision, .. } = settings;
    let split_by = match dataset.split_by {
        SplitBy::Image => "split by image",
        SplitBy::Stem => "split by object (file stem), alike in all domains",
    };
    let classes = dataset.classes.len();
    let augment = if settings.augment {
        "random crops, flips, colours and grayscale in training"
    } else {
        "only resized, in training too"
    };
    let out = match settings.out_transform {
        OutTransform::Train if settings.augment => {
            "; out splits of training domains are evaluated under the training transform"
        }
        _ => "; evaluated as they are, resized",
    };
    let trained = match settings.finetune {
        Finetune::Full => "all weights, BatchNorm statistics frozen",
        Finetune::Linear if settings.block_norm == BlockNorm::Batch => {
            "a mixture of the last three blocks' outputs, normalised by BatchNorm, and a last layer; the backbone stays as it is"
        }
        Finetune::Linear => {
            "a mixture of the last three blocks' outputs and a last layer; the backbone stays as it is"
        }
        Finetune::Scratch if settings.batch_norm == BatchNorm::Live => {
            "all weights, from random values, BatchNorm live"
        }
        Finetune::Scratch => "all weights, from random values, BatchNorm statistics frozen",
    };
    vec![
        (
            "Dataset",
            html! { (page::text(&dataset.name)) ": domains " (page::list(dataset.domains.iter().map(String::as_str))) "; "
            (page::counted(classes, "class", "classes")) "; each domain " (split_by) "; train/validation split, 80/20 (the in and out splits)"
            @if !dataset.layout.is_default() { "; laid out as " (page::text(&dataset.layout.to_string())) }
            @if let Some(note) = dataset.missing_classes.note() { "; " (note) } },
        ),
        (
            "Images",
            html! { (pixels) " × " (pixels) " pixels"
            @if let Some(cached) = cache_pixels { ", shrunk to at most " (cached) " pixels once beforehand" } "; " (augment) (out) },
        ),
        (
            "Network",
            html! { (backbone.as_str())
            @if weights.is_empty() { ", no pretrained weights" } @else { ", pretrained weights " (page::text(weights)) } },
        ),
        ("Trained", html! { (trained) "; dropout on the penultimate representation" }),
        (
            "Steps",
            html! { (page::count(settings.steps + 1)) " updates (steps 0 to " (settings.steps) "), each on "
            (settings.batch_per_domain) " images of each training domain" (parts(settings.micro_batch)) },
        ),
        ("Optimiser", html! { (optimiser(settings)) }),
        ("Learning rate", html! { (schedule(settings)) }),
        ("Precision", html! { (self::precision(*precision)) }),
        (
            "Evaluation",
            html! { "after steps 0, " (settings.evaluate_every) ", " (2 * settings.evaluate_every) ", … and " (settings.steps) },
        ),
    ]
}

fn parts(micro_batch: Option<MicroBatch>) -> String {
    match micro_batch {
        None => String::new(),
        Some(MicroBatch::Images(images)) => format!(", computed {images} at a time"),
        Some(MicroBatch::Auto) => ", computed at once where memory was enough, else in parts".to_owned(),
    }
}

fn optimiser(settings: &Settings) -> String {
    match settings.optimizer {
        Optimizer::Sgd => format!(
            "SGD, momentum {}, no Nesterov, coupled weight decay of every parameter",
            settings.momentum
        ),
        Optimizer::Adam => "Adam with coupled weight decay (L2) of every parameter".to_owned(),
        Optimizer::AdamW => "AdamW (decoupled weight decay of every parameter)".to_owned(),
    }
}

fn schedule(settings: &Settings) -> String {
    match (settings.schedule, settings.milestones.as_slice()) {
        (Schedule::Cosine, _) => "half a cosine from the full rate to zero".to_owned(),
        (Schedule::Step, []) => "constant".to_owned(),
        (Schedule::Step, milestones) => {
            let steps: Vec<String> = milestones.iter().map(u64::to_string).collect();
            format!("multiplied by {} at steps {}", settings.gamma, steps.join(", "))
        }
    }
}

fn precision(precision: Precision) -> &'static str {
    match precision {
        Precision::Fp32 => "fp32: single precision throughout",
        Precision::Reference => {
            "reference: PyTorch's defaults, single precision whose convolutions a GPU may round to TF32"
        }
        Precision::Tf32 => "tf32: single precision whose products in the backbone a GPU may round to TF32",
        Precision::Bf16 => {
            "bf16: the backbone's arithmetic in bfloat16; weights, averages and loss in single precision"
        }
    }
}

fn command(settings: &CommandSettings) -> Facts {
    let CommandSettings { command, dataset, domains, steps, complete_at } = settings;
    let mut facts = vec![(
        "Command",
        html! { code { @for (index, word) in command.iter().take(WORDS_SHOWN).enumerate() { @if index > 0 { " " } (word) } }
        @if command.len() > WORDS_SHOWN { " and " (page::count((command.len() - WORDS_SHOWN) as u64)) " more words" } },
    )];
    facts.extend(dataset.as_ref().map(|dataset| ("Dataset", page::text(dataset))));
    if !domains.is_empty() {
        facts.push(("Domains", shortened(domains.clone())));
    }
    facts.extend(steps.map(|steps| ("Steps", html! { "0 to " (steps) })));
    facts.extend(complete_at.map(|step| ("Complete at", html! { "step " (step) })));
    facts
}

fn grid(report: &Report<'_>, numbers: &mut page::Numbering) -> Markup {
    let grid = &report.spec.grid;
    let known = crate::axis::parameter_names(report.records.iter().map(|record| &record.point));
    // A sweep without trials has axes too.
    let others = grid.axes.keys().filter(|name| !known.contains(name)).cloned();
    let names: Vec<String> = known.iter().cloned().chain(others).collect();
    let axes = names.iter().filter_map(|name| {
        let drawn = || {
            let draws = report.spec.random.iter().flat_map(|random| &random.draws);
            draws.filter_map(|draw| draw.get(name)).cloned().collect()
        };
        let values: Vec<Scalar> = grid.axes.get(name).map_or_else(drawn, |axis| axis.values.clone());
        let known = !values.is_empty();
        known.then(|| (name.as_str(), values.iter().map(ToString::to_string).collect::<Vec<_>>()))
    });
    let whole = |values: &[u64]| values.iter().map(u64::to_string).collect::<Vec<_>>();
    let replicates = [
        ("held_out", grid.held_out.clone()),
        ("seed", whole(&grid.seeds)),
        ("split seed", whole(&grid.splits)),
    ];
    let planned = report.spec.trials_planned().unwrap_or(u64::MAX);
    let pairs = report.spec.trials_for(Selection::Loo);
    let pairs = if report.spec.select.contains(&Selection::Loo) { pairs } else { 0 };
    let combined: u64 = report.spec.combine.iter().filter_map(|combine| combine.trials(&report.spec)).sum();
    let head =
        html! { tr { (page::column("axis")) (page::number_column("values")) (page::column("which")) } };
    let rows = html! {
        tbody {
            @for (name, values) in axes.chain(replicates) {
                @if !values.is_empty() {
                    tr { th scope="row" { (page::text(name)) } td.number { (page::count(values.len() as u64)) } td { (shortened(values)) } }
                }
            }
        }
    };
    let caption = match &report.spec.random {
        None => "Axes of the grid; every combination of their values is a trial.",
        Some(_) => {
            "Axes of the grid; every combination of their values is a trial, but for those that were drawn at random together."
        }
    };
    html! {
        (page::table(&numbers.table(), caption, false, head, rows))
        p {
            (page::counted(usize::try_from(planned).unwrap_or(usize::MAX), "trial", "trials")) " in all"
            @if pairs > 0 { ", " (page::count(pairs)) " of which hold out two domains, for selection by leave-one-domain-out" }
            @if combined > 0 { ", " (page::count(combined)) " of which combine others" }
            "."
        }
    }
}

/// Values in one line. If there are many: the first ones, the last, and the number of values left out.
fn shortened(mut values: Vec<String>) -> Markup {
    let last = values.pop();
    let left_out = (values.len() + 1).saturating_sub(VALUES_SHOWN);
    values.truncate(VALUES_SHOWN - 1);
    html! {
        (page::list(values.iter().map(String::as_str)))
        @if let Some(last) = last {
            @if left_out > 0 { ", … (" (page::count(left_out as u64)) " left out), " } @else if !values.is_empty() { ", " }
            (page::text(&last))
        }
    }
}

fn combination(combine: &Combine) -> Markup {
    let Combine { name, kind, choice, method, over, over_seeds, filter, members, all: _ } = combine;
    let what = match choice {
        Choice::Uniform => "all of its members",
        Choice::Greedy => "those of its members that do not lower its i.i.d. accuracy, the best first",
    };
    let seed = over_seeds.then_some("seed");
    let members: Vec<String> = members.iter().map(u64::to_string).collect();
    html! {
        (page::text(name)) ": " (kind.as_str()) " across runs, of " (what) " (weights used: " (method.as_str()) "; last step) over "
        (page::list(over.keys().map(String::as_str).chain(seed)))
        @if let Some(filter) = filter { ", of trials with " (page::text(&filter.to_string())) }
        "; members: " (shortened(members))
    }
}
