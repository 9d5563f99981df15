//! The identity of a trial, made of exactly what decides its numbers.

use std::collections::HashMap;
use std::fmt;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;

use crate::combine::Combination;
use crate::command::CommandSettings;
use crate::finetune::{AXES, Setting, Settings};
use crate::metrics::Method;
use crate::parameters::{Parameters, Scalar};
use crate::trial::{DatasetSpec, MissingClasses, PROTOCOL_VERSION, Point, SpecHash, TrialSpec, Work};

impl TrialSpec {
    /// The identity of the trial: a hash of the canonical text of its specification.
    pub fn hash(&self) -> SpecHash {
        SpecHasher::of(&self.work, PROTOCOL_VERSION).hash(&self.point, self.combination.as_ref())
    }
}

/// Computes the identities of trials of one sweep, without hashing the settings that they share for each of them.
///
/// The canonical text has one `key=value` line per fact, in a fixed order. Floats stand in their shortest exact form, strings as JSON,
/// so that neither the notation (1e-3, 0.001) nor the order of keys in a file can change a trial's identity. A setting is hashed as the
/// trial has it, whether its sweep varies it or not.
#[derive(Clone, Debug)]
pub struct SpecHasher {
    work: Work,
    protocol: u32,
    /// What is hashed of the settings, for the values of those that the sweep varies.
    settings: Arc<Mutex<HashMap<String, blake3::Hasher>>>,
}

/// So many are remembered at the most.
const SETTINGS_MAX: usize = 4_096;

impl SpecHasher {
    /// For trials of a sweep with this work under this version of the numbers, [`PROTOCOL_VERSION`] unless a stored sweep names another.
    pub fn of(work: &Work, protocol: u32) -> Self {
        Self { work: work.clone(), protocol, settings: Arc::default() }
    }

    /// The identity of the trial at this point, or of this combination there.
    pub fn hash(&self, point: &Point, combination: Option<&Combination>) -> SpecHash {
        let Point { held_out, parameters, seed, split_seed } = point;
        let mut text = String::with_capacity(256);
        line(&mut text, "held_out", &json(held_out));
        let finetune = matches!(self.work, Work::Finetune(_));
        let known: &[&str] = if finetune { &AXES } else { &[] };
        for axis in known {
            if let Some(value) = parameters.get(*axis) {
                line(&mut text, axis, &canonical(value));
            }
        }
        let is_setting = |axis: &str| finetune && Setting::on_axis(axis).is_some();
        for (axis, value) in parameters {
            if !known.contains(&axis.as_str()) && !is_setting(axis) {
                let _ = writeln!(text, "parameter.{axis}={}", canonical(value));
            }
        }
        line(&mut text, "seed", seed);
        line(&mut text, "split_seed", split_seed);
        if let Some(Combination { kind, choice, method, members }) = combination {
            line(&mut text, "combination.kind", kind);
            line(&mut text, "combination.choice", choice);
            line(&mut text, "combination.method", method);
            line(&mut text, "combination.members", &json(members));
            // Their identities say nothing of it.
            let made = self.work.methods().unwrap_or_default();
            match method {
                Method::Plain => {}
                Method::Average => line(&mut text, "combination.average", &json(&made.average)),
                Method::Ensemble => line(&mut text, "combination.ensemble", &json(&made.ensemble)),
            }
        }
        let mut id = [0_u8; SpecHash::BYTES];
        let hash = self.settings(parameters).update(text.as_bytes()).finalize();
        id.copy_from_slice(&hash.as_bytes()[..SpecHash::BYTES]);
        SpecHash(id)
    }

    /// What is hashed of the settings of a trial with these parameters.
    fn settings(&self, parameters: &Parameters) -> blake3::Hasher {
        let mut own = String::new();
        if matches!(self.work, Work::Finetune(_)) {
            for (axis, value) in parameters.iter().filter(|(axis, _)| Setting::on_axis(axis).is_some()) {
                let _ = writeln!(own, "{axis}={}", canonical(value));
            }
        }
        let mut known = self.settings.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= SETTINGS_MAX {
            known.clear();
        }
        let hashed = known.entry(own).or_insert_with(|| {
            let mut text = format!("protocol={}\n", self.protocol);
            match self.work.at(parameters).as_ref() {
                Work::Finetune(settings) => finetune_lines(settings, &mut text),
                Work::Command(settings) => command_lines(settings, &mut text),
            }
            let mut hasher = blake3::Hasher::new();
            hasher.update(text.as_bytes());
            hasher
        });
        hashed.clone()
    }
}

fn line(text: &mut String, key: &str, value: &dyn fmt::Display) {
    // Writing to a string never fails.
    let _ = writeln!(text, "{key}={value}");
}

fn finetune_lines(settings: &Settings, text: &mut String) {
    // Destructured, so that a new field cannot be forgotten here.
    let Settings {
        dataset,
        pixels,
        augment,
        out_transform,
        cache_pixels,
        backbone,
        weights,
        finetune,
        block_norm,
        batch_norm,
        precision,
        ..
    } = settings;
    let Settings {
        steps,
        batch_per_domain,
        evaluate_every,
        optimizer,
        momentum,
        schedule,
        milestones,
        gamma,
        ..
    } = settings;
    // What is evaluated beside the plain weights changes none of their numbers: see `Methods`.
    let Settings { average: _, ensemble: _, following: _, micro_batch, .. } = settings;
    let DatasetSpec { name, domains, classes, split_by, layout, missing_classes } = dataset;
    let facts: [(&str, &dyn fmt::Display); 24] = [
        ("dataset.name", &json(name)),
        ("dataset.domains", &json(domains)),
        ("dataset.classes", &json(classes)),
        ("dataset.split_by", split_by),
        ("pixels", pixels),
        ("augment", augment),
        ("out_transform", out_transform),
        ("cache_pixels", &json(cache_pixels)),
        ("backbone", backbone),
        ("weights", &json(weights)),
        ("finetune", finetune),
        ("block_norm", block_norm),
        ("batch_norm", batch_norm),
        ("precision", precision),
        ("steps", steps),
        ("batch_per_domain", batch_per_domain),
        ("evaluate_every", evaluate_every),
        ("optimizer", optimizer),
        ("momentum", &float(*momentum)),
        ("schedule", schedule),
        ("milestones", &json(milestones)),
        ("gamma", &float(*gamma)),
        ("average", &"null"),
        ("ensemble", &"null"),
    ];
    for (key, value) in facts {
        line(text, key, value);
    }
    // The order of a sum, and so its rounding.
    if let Some(micro_batch) = micro_batch {
        line(text, "micro_batch", micro_batch);
    }
    // Younger than the first stored trials: at their defaults they are no part of the text, so that old trials keep their names.
    if !layout.is_default() {
        line(text, "dataset.layout", &json(layout));
    }
    if *missing_classes != MissingClasses::default() {
        line(text, "dataset.missing_classes", missing_classes);
    }
}

fn command_lines(settings: &CommandSettings, text: &mut String) {
    let CommandSettings { command, dataset, domains, steps, complete_at } = settings;
    line(text, "command", &json(command));
    line(text, "dataset", &json(dataset));
    line(text, "domains", &json(domains));
    line(text, "steps", &json(steps));
    // Only where it is given, so that trials which were planned before there was such a key keep their names.
    if let Some(complete_at) = complete_at {
        line(text, "complete_at", complete_at);
    }
}

/// Strings and integers always encode: JSON refuses only maps with odd keys, and there are none here.
fn json(value: &(impl Serialize + ?Sized)) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

fn canonical(value: &Scalar) -> String {
    match value {
        Scalar::Number(number) => float(number.get()),
        Scalar::Text(text) => json(text),
        Scalar::Flag(flag) => flag.to_string(),
    }
}

/// The shortest text that reads back as exactly this number; zero has no sign.
fn float(value: f64) -> String {
    if value == 0.0 { "0".to_owned() } else { format!("{value:e}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::combine::{Choice, CombinationKind};
    use crate::parameters::Parameters;
    use crate::trial::tests::example;

    #[test]
    fn the_identity_is_pinned() {
        // If this changes, stored results no longer match the trials that a sweep file plans.
        assert_eq!(example().hash().to_string(), "8decee63874734b2a5ce11b02887e473");
    }

    #[test]
    fn what_is_read_of_a_dataset_is_in_the_identity_unless_it_is_the_default() {
        let with = |change: fn(&mut DatasetSpec)| {
            let mut spec = example();
            if let Work::Finetune(settings) = &mut spec.work {
                change(&mut settings.dataset);
            }
            spec.hash()
        };
        let default = |dataset: &mut DatasetSpec| {
            dataset.layout = "{domain}/{class}".parse().unwrap();
            dataset.missing_classes = MissingClasses::Refuse;
        };
        assert_eq!(with(default), example().hash());
        let ids = std::collections::BTreeSet::from([
            example().hash(),
            with(|dataset| dataset.layout = "{domain}/full/{class}".parse().unwrap()),
            with(|dataset| dataset.layout = "{domain}/train/{class}".parse().unwrap()),
            with(|dataset| dataset.missing_classes = MissingClasses::Allow),
        ]);
        assert_eq!(ids.len(), 4);
    }

    #[test]
    fn every_fact_of_a_command_is_in_its_identity() {
        let settings = CommandSettings {
            command: vec!["train".into()],
            dataset: None,
            domains: vec![],
            steps: None,
            complete_at: None,
        };
        let parameters = Parameters::from([("optimiser".to_owned(), Scalar::Text("adam".into()))]);
        let point = Point { held_out: vec![], parameters, seed: 0, split_seed: 0 };
        let first =
            TrialSpec { work: Work::Command(settings.clone()), point: point.clone(), combination: None };
        let work = |settings| TrialSpec { work: Work::Command(settings), ..first.clone() }.hash();
        let with = |change: fn(&mut Point)| {
            let mut changed = first.clone();
            change(&mut changed.point);
            changed.hash()
        };
        let ids = std::collections::BTreeSet::from([
            first.hash(),
            work(CommandSettings { command: vec!["train".into(), String::new()], ..settings.clone() }),
            work(CommandSettings { dataset: Some("PACS".into()), ..settings.clone() }),
            work(CommandSettings { domains: vec!["photo".into()], ..settings.clone() }),
            work(CommandSettings { steps: Some(1), ..settings.clone() }),
            work(CommandSettings { complete_at: Some(1), ..settings }),
            with(|point| point.seed = 1),
            with(|point| point.split_seed = 1),
            with(|point| point.held_out.push("photo".into())),
            with(|point| drop(point.parameters.insert("optimiser".into(), Scalar::Text("sgd".into())))),
            with(|point| drop(point.parameters.insert("lr".into(), Scalar::Number(0.1.into())))),
        ]);
        assert_eq!(ids.len(), 11);
    }

    #[test]
    fn every_fact_of_a_combination_is_in_its_identity() {
        let member = example().hash();
        let (kind, choice, method) = (CombinationKind::Average, Choice::Uniform, Method::Plain);
        let first = Combination { kind, choice, method, members: vec![member] };
        let all = [
            None,
            Some(Combination { kind: CombinationKind::Ensemble, ..first.clone() }),
            Some(Combination { choice: Choice::Greedy, ..first.clone() }),
            Some(Combination { method: Method::Average, ..first.clone() }),
            Some(Combination { members: vec![member, member], ..first.clone() }),
            Some(first),
        ];
        let ids: std::collections::BTreeSet<SpecHash> =
            all.into_iter().map(|combination| TrialSpec { combination, ..example() }.hash()).collect();
        assert_eq!(ids.len(), 6);
    }
}
