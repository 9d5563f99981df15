//! Writes a sweep as a sweep file: every setting stands there, with its default where nobody named another.

use super::axis::Axis;
use super::sweep::{Grid, SweepSpec};
use crate::combine::{Combine, SEED};
use crate::command::CommandSettings;
use crate::finetune::{Average, AverageEvery, Ensemble, Finetune, MicroBatch, Optimizer, Schedule, Settings};
use crate::keep::Keep;
use crate::limits::Limits;
use crate::metrics::MetricSettings;
use crate::parameters::{Scalar, number};
use crate::requirements::Requirements;
use crate::trial::{DatasetSpec, Work};

/// Above this a whole number is written with an exponent: it may be no 64-bit integer.
const WHOLE_MAX: f64 = (1_u64 << 53) as f64;

impl SweepSpec {
    /// The sweep as a file. Reading it gives the same sweep; what no file says is left out: the kill of `sortie verify`, what an import
    /// read, the worker that must run it.
    pub fn to_toml(&self) -> String {
        // Destructured, so that a new setting cannot be forgotten here.
        let Self {
            name,
            protocol: _,
            select,
            work,
            require,
            keep,
            metrics,
            limits,
            grid,
            combine,
            kill_at: _,
            imported: _,
        } = self;
        let mut file = File::default();
        file.set("name", &quoted(name));
        file.set("select", &list(select.iter().map(|selection| quoted(selection.as_str()))));
        match work {
            Work::Finetune(settings) => settings_tables(settings, &mut file),
            Work::Command(settings) => command_tables(settings, limits, &mut file),
        }
        let Requirements { tags, gpu_memory_gib, commands: _, worker: _ } = require;
        file.table("require");
        file.set("tags", &list(tags.iter().map(|tag| quoted(tag))));
        file.set("gpu_memory_gib", &float(*gpu_memory_gib));
        if matches!(work, Work::Finetune(_)) {
            let Keep { weights, logits, checkpoint_minutes } = keep;
            file.table("keep");
            file.set("weights", &quoted(weights.as_str()));
            file.set("logits", &logits.to_string());
            file.set("checkpoint_minutes", &float(*checkpoint_minutes));
        }
        if !metrics.is_empty() {
            file.table("metrics");
        }
        for (name, MetricSettings { goal, unit }) in metrics {
            let goal = quoted(goal.as_str());
            file.set(name, &format!("{{ goal = {goal}, unit = {} }}", quoted(unit)));
        }
        let Limits { hours, stall_minutes, retries: _ } = limits;
        file.table("limits");
        file.set_or("hours", hours.map(float), "no limit");
        let stall = limits
            .stall(work)
            .map_or("no limit".to_owned(), |stall| format!("{}, the default", stall.as_secs_f64() / 60.0));
        file.set_or("stall_minutes", stall_minutes.map(float), &stall);
        grid_table(grid, matches!(work, Work::Command(_)), &mut file);
        combine.iter().for_each(|combine| combine_table(combine, &mut file));
        file.text
    }
}

/// The lines of a file.
#[derive(Debug, Default)]
struct File {
    text: String,
}

impl File {
    fn table(&mut self, name: &str) {
        self.text.push_str(&format!("\n[{name}]\n"));
    }

    fn set(&mut self, key: &str, value: &str) {
        self.text.push_str(&format!("{} = {value}\n", self::key(key)));
    }

    /// A value, or a comment that says what its absence means.
    fn set_or(&mut self, key: &str, value: Option<String>, absent: &str) {
        match value {
            Some(value) => self.set(key, &value),
            None => self.text.push_str(&format!("# {key}: {absent}\n")),
        }
    }
}

fn settings_tables(settings: &Settings, file: &mut File) {
    let Settings { dataset, pixels, augment, out_transform, cache_pixels, .. } = settings;
    let Settings { backbone, weights, finetune, block_norm, batch_norm, .. } = settings;
    let DatasetSpec { name, domains, classes, split_by, layout, missing_classes } = dataset;
    file.table("data");
    file.set("dataset", &quoted(name));
    file.set("domains", &list(domains.iter().map(|domain| quoted(domain))));
    file.set("classes", &list(classes.iter().map(|class| quoted(class))));
    file.set("group", &quoted(split_by.as_str()));
    file.set("layout", &quoted(&layout.to_string()));
    file.set("missing_classes", &quoted(missing_classes.as_str()));
    file.set("pixels", &pixels.to_string());
    file.set("augment", &augment.to_string());
    file.set("out_transform", &quoted(out_transform.as_str()));
    file.set_or("cache_pixels", cache_pixels.map(|side| side.to_string()), "images keep their size");
    file.table("model");
    file.set("backbone", &quoted(backbone.as_str()));
    file.set("finetune", &quoted(finetune.as_str()));
    let mixes = *finetune == Finetune::Linear;
    file.set_or("block_norm", mixes.then(|| quoted(block_norm.as_str())), "only of linear fine-tuning");
    file.set("batch_norm", &quoted(batch_norm.as_str()));
    let weights = (*finetune != Finetune::Scratch).then(|| quoted(weights));
    file.set_or("weights", weights, "none, from scratch");
    train_table(settings, file);
}

fn train_table(settings: &Settings, file: &mut File) {
    let Settings { dataset: _, pixels: _, augment: _, out_transform: _, cache_pixels: _, .. } = settings;
    let Settings { backbone: _, weights: _, finetune: _, block_norm: _, batch_norm: _, .. } = settings;
    let Settings { precision, steps, batch_per_domain, .. } = settings;
    let Settings { evaluate_every, optimizer, momentum, schedule, milestones, gamma, .. } = settings;
    let Settings { average, ensemble, micro_batch, .. } = settings;
    file.table("train");
    file.set("steps", &steps.to_string());
    file.set("batch_per_domain", &batch_per_domain.to_string());
    let micro_batch = micro_batch.map(|micro_batch| match micro_batch {
        MicroBatch::Images(images) => images.to_string(),
        MicroBatch::Auto => quoted("auto"),
    });
    file.set_or("micro_batch", micro_batch, "all images of a step at once");
    file.set("evaluate_every", &evaluate_every.to_string());
    file.set("precision", &quoted(precision.as_str()));
    file.set("optimizer", &quoted(optimizer.as_str()));
    file.set_or("momentum", (*optimizer == Optimizer::Sgd).then(|| float(*momentum)), "only of sgd");
    file.set("schedule", &quoted(schedule.as_str()));
    let in_steps = *schedule == Schedule::Step;
    let milestones = in_steps.then(|| list(milestones.iter().map(u64::to_string)));
    file.set_or("milestones", milestones, "only under schedule = \"step\"");
    file.set_or("gamma", in_steps.then(|| float(*gamma)), "only under schedule = \"step\"");
    let average = average.map(|Average { from, every }| {
        let every = match every {
            AverageEvery::Steps(steps) => steps.to_string(),
            AverageEvery::Evaluation => quoted("evaluation"),
        };
        format!("{{ from = {from}, every = {every} }}")
    });
    file.set_or("average", average, "none");
    file.set_or("ensemble", ensemble.map(|Ensemble { from }| format!("{{ from = {from} }}")), "none");
}

fn command_tables(settings: &CommandSettings, limits: &Limits, file: &mut File) {
    let CommandSettings { command, dataset, domains, steps, complete_at } = settings;
    file.table("run");
    file.set("command", &list(command.iter().map(|word| quoted(word))));
    file.set_or("steps", steps.map(|steps| steps.to_string()), "not known");
    file.set_or("complete_at", complete_at.map(|step| step.to_string()), "no step is asked for");
    file.set_or("retries", limits.retries.map(|retries| retries.to_string()), "1, the default");
    if let Some(dataset) = dataset {
        file.table("data");
        file.set("dataset", &quoted(dataset));
        let listed = (!domains.is_empty()).then(|| list(domains.iter().map(|domain| quoted(domain))));
        file.set_or("domains", listed, "any");
    }
}

fn grid_table(grid: &Grid, commands: bool, file: &mut File) {
    let Grid { axes, held_out, seeds, splits } = grid;
    file.table("grid");
    for (name, Axis { values, fixed }) in axes {
        let value = |value: &Scalar| scalar(value, commands);
        match (fixed, values.as_slice()) {
            (true, [only]) => file.set(name, &value(only)),
            _ => file.set(name, &list(values.iter().map(value))),
        }
    }
    let domains = (!held_out.is_empty()).then(|| list(held_out.iter().map(|domain| quoted(domain))));
    file.set_or("held_out", domains, "none");
    file.set("seeds", &list(seeds.iter().map(u64::to_string)));
    file.set("splits", &list(splits.iter().map(u64::to_string)));
}

fn combine_table(combine: &Combine, file: &mut File) {
    let Combine { name, kind, choice, method, over, over_seeds, filter, members } = combine;
    file.text.push_str("\n[[combine]]\n");
    file.set("name", &quoted(name));
    file.set("kind", &quoted(kind.as_str()));
    let axes = over.keys().map(String::as_str).chain(over_seeds.then_some(SEED));
    file.set("over", &list(axes.map(quoted)));
    file.set("choice", &quoted(choice.as_str()));
    file.set("method", &quoted(method.as_str()));
    file.set_or("where", filter.as_ref().map(|filter| quoted(&filter.to_string())), "all trials");
    file.set("members", &list(members.iter().map(u64::to_string)));
}

/// A value on an axis. Programs read what stands there, so a number that was written stands there as it was.
fn scalar(value: &Scalar, commands: bool) -> String {
    match value {
        Scalar::Text(text) => quoted(text),
        Scalar::Flag(flag) => flag.to_string(),
        Scalar::Number(own) => match own.written() {
            Some(text) => text.to_owned(),
            None if !commands => number(own.get()),
            None if own.get().abs() <= WHOLE_MAX => value.argument(),
            None => format!("{:e}", own.get()),
        },
    }
}

/// With a point or an exponent, so that it is no integer.
fn float(value: f64) -> String {
    format!("{value:?}")
}

fn list(values: impl Iterator<Item = String>) -> String {
    format!("[{}]", values.collect::<Vec<_>>().join(", "))
}

/// A key: bare where TOML allows it.
fn key(name: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
    if !name.is_empty() && name.chars().all(bare) { name.to_owned() } else { quoted(name) }
}

/// A text in double quotes, in one line.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            '\r' => quoted.push_str("\\r"),
            c if c.is_ascii_control() => quoted.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
