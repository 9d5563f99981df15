//! Writes a sweep as a sweep file: every setting stands there, with its default where nobody named another.

use super::axis::Axis;
use super::sweep::{Grid, SweepSpec};
use crate::combine::{ALL, Combine, SEED};
use crate::command::CommandSettings;
use crate::finetune::{
    Average, AverageEvery, BlockNorm, Ensemble, Finetune, Following, MicroBatch, Optimizer, Schedule,
    Setting, Settings,
};
use crate::keep::Keep;
use crate::limits::Limits;
use crate::metrics::MetricSettings;
use crate::parameters::{Scalar, number};
use crate::random_search::{Bounds, RandomSearch, Range};
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
            random,
            combine,
            kill_at: _,
            imported: _,
        } = self;
        let mut file = File::default();
        file.set("name", &quoted(name));
        file.set("select", &list(select.iter().map(|selection| quoted(selection.as_str()))));
        match work {
            Work::Finetune(settings) => settings_tables(settings, self, &mut file),
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
        let in_grid = |axis: &str| self.setting_on(axis).is_none();
        grid_table(grid, in_grid, matches!(work, Work::Command(_)), &mut file);
        if let Some(RandomSearch { seed, ranges, draws }) = random {
            file.table("random");
            file.set("draws", &draws.len().to_string());
            file.set("seed", &seed.to_string());
            ranges.iter().for_each(|(name, range)| file.set(name, &self::range(range)));
        }
        for combine in combine {
            combine_table(combine, combine.candidates(self), &mut file);
        }
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

    /// A setting, or the list of its values.
    fn setting(&mut self, setting: Setting, settings: &Settings, sweep: &SweepSpec) {
        let key = setting.as_str();
        if sweep.random.as_ref().is_some_and(|random| random.ranges.contains_key(key)) {
            return self.set_or(key, None, "drawn, see [random]");
        }
        if let Some(axis) = sweep.grid.axes.get(key) {
            return self.set(key, &list(axis.values.iter().map(|value| scalar(value, true))));
        }
        let value = scalar(&setting.of(settings), true);
        let following = Following::ALL.iter().find(|following| following.as_str() == key);
        match following {
            Some(following) if *following == Following::Weights && settings.weights.is_empty() => {
                self.set_unless(*following, settings, None, "none, from scratch");
            }
            Some(following) => self.set_unless(*following, settings, Some(value), ""),
            None => self.set(key, &value),
        }
    }

    /// A value, or a comment that says what its absence means, or from which settings that vary it follows.
    fn set_unless(&mut self, following: Following, settings: &Settings, value: Option<String>, absent: &str) {
        if !settings.following.contains(&following) {
            return self.set_or(following.as_str(), value, absent);
        }
        let sources: Vec<&str> = following.sources().iter().map(|source| source.as_str()).collect();
        self.set_or(following.as_str(), None, &format!("the default for each {}", sources.join(" and ")));
    }
}

fn settings_tables(settings: &Settings, sweep: &SweepSpec, file: &mut File) {
    let Settings { dataset, pixels: _, augment: _, out_transform, cache_pixels, .. } = settings;
    let Settings { finetune, block_norm, batch_norm, .. } = settings;
    let DatasetSpec { name, domains, classes, split_by, layout, missing_classes } = dataset;
    file.table("data");
    file.set("dataset", &quoted(name));
    file.set("domains", &list(domains.iter().map(|domain| quoted(domain))));
    file.set("classes", &list(classes.iter().map(|class| quoted(class))));
    file.set("group", &quoted(split_by.as_str()));
    file.set("layout", &quoted(&layout.to_string()));
    file.set("missing_classes", &quoted(missing_classes.as_str()));
    file.setting(Setting::Pixels, settings, sweep);
    file.setting(Setting::Augment, settings, sweep);
    file.set("out_transform", &quoted(out_transform.as_str()));
    file.set_or("cache_pixels", cache_pixels.map(|side| side.to_string()), "images keep their size");
    file.table("model");
    file.setting(Setting::Backbone, settings, sweep);
    file.setting(Setting::Finetune, settings, sweep);
    // Where several kinds vary, the one that mixes blocks may be among them.
    let mixes = *finetune == Finetune::Linear || *block_norm != BlockNorm::default();
    file.set_or("block_norm", mixes.then(|| quoted(block_norm.as_str())), "only of linear fine-tuning");
    file.set_unless(Following::BatchNorm, settings, Some(quoted(batch_norm.as_str())), "");
    file.setting(Setting::Weights, settings, sweep);
    train_table(settings, sweep, file);
}

fn train_table(settings: &Settings, sweep: &SweepSpec, file: &mut File) {
    // Destructured, so that a new setting cannot be forgotten here.
    let Settings { dataset: _, pixels: _, augment: _, out_transform: _, cache_pixels: _, .. } = settings;
    let Settings { backbone: _, weights: _, finetune: _, precision: _, steps: _, .. } = settings;
    let Settings { batch_per_domain: _, block_norm: _, batch_norm: _, micro_batch, .. } = settings;
    let Settings { evaluate_every, optimizer, momentum, schedule, .. } = settings;
    let Settings { milestones, gamma, average, ensemble, following: _, .. } = settings;
    file.table("train");
    file.setting(Setting::Steps, settings, sweep);
    file.setting(Setting::BatchPerDomain, settings, sweep);
    let micro_batch = micro_batch.map(|micro_batch| match micro_batch {
        MicroBatch::Images(images) => images.to_string(),
        MicroBatch::Auto => quoted("auto"),
    });
    file.set_or("micro_batch", micro_batch, "all images of a step at once");
    file.set("evaluate_every", &evaluate_every.to_string());
    file.setting(Setting::Precision, settings, sweep);
    file.setting(Setting::Optimizer, settings, sweep);
    let (in_steps, has_momentum) = (*schedule == Schedule::Step, *optimizer == Optimizer::Sgd);
    file.set_unless(Following::Momentum, settings, has_momentum.then(|| float(*momentum)), "only of sgd");
    file.setting(Setting::Schedule, settings, sweep);
    let (milestones, gamma) = (list(milestones.iter().map(u64::to_string)), float(*gamma));
    let only = "only under schedule = \"step\"";
    file.set_unless(Following::Milestones, settings, in_steps.then_some(milestones), only);
    file.set_unless(Following::Gamma, settings, in_steps.then_some(gamma), only);
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

fn grid_table(grid: &Grid, in_grid: impl Fn(&str) -> bool, commands: bool, file: &mut File) {
    let Grid { axes, held_out, seeds, splits } = grid;
    file.table("grid");
    for (name, Axis { values, fixed }) in axes.iter().filter(|(name, _)| in_grid(name)) {
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

fn range(range: &Range) -> String {
    let (kind, Bounds { low, high, whole }) = match range {
        Range::Choice(values) => {
            return format!("{{ choice = {} }}", list(values.iter().map(|value| scalar(value, true))));
        }
        Range::Uniform(bounds) => ("uniform", bounds),
        Range::LogUniform(bounds) => ("log_uniform", bounds),
    };
    format!("{{ {kind} = [{}, {}], whole = {whole} }}", float(*low), float(*high))
}

fn combine_table(combine: &Combine, candidates: u64, file: &mut File) {
    let Combine { name, kind, choice, method, over, over_seeds, filter, members, all } = combine;
    file.text.push_str("\n[[combine]]\n");
    file.set("name", &quoted(name));
    file.set("kind", &quoted(kind.as_str()));
    let axes = over.keys().map(String::as_str).chain(over_seeds.then_some(SEED));
    file.set("over", &list(axes.map(quoted)));
    file.set("choice", &quoted(choice.as_str()));
    file.set("method", &quoted(method.as_str()));
    file.set_or("where", filter.as_ref().map(|filter| quoted(&filter.to_string())), "all trials");
    let is_all = |count: &u64| *all && *count == candidates;
    let count = |count: &u64| if is_all(count) { quoted(ALL) } else { count.to_string() };
    file.set("members", &list(members.iter().map(count)));
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
