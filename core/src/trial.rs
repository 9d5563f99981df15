//! One trial: everything that decides its numbers, and the identity made of exactly that.

use std::fmt;
use std::fmt::Write as _;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::combine::Combination;
use crate::command::CommandSettings;
use crate::finetune::{AXES, FinetuneSpec, NoParameter, Settings, SplitBy};
use crate::parameters::{Parameters, Scalar};

/// Raised whenever the numbers of a trial with an unchanged specification would change. It is part of every trial's identity.
pub const PROTOCOL_VERSION: u32 = 3;

/// A dataset as a trial knows it: by name, never by path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatasetSpec {
    /// The folder below a worker's data root.
    pub name: String,
    /// Names of the domains, sorted, at least two.
    pub domains: Vec<String>,
    /// Names of the classes, sorted, at least two.
    pub classes: Vec<String>,
    /// What the `in`/`out` split divides.
    pub split_by: SplitBy,
}

impl DatasetSpec {
    /// The index of a domain in sorted order, which seeds its split and its batches.
    pub fn domain_index(&self, domain: &str) -> Option<usize> {
        self.domains.iter().position(|candidate| candidate == domain)
    }
}

/// What the trials of a sweep run; everything that they share and that decides their numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Work {
    /// Sortie's own trainer.
    Finetune(Settings),
    /// A program of the user's.
    Command(CommandSettings),
}

impl Work {
    /// The index of the last step, as far as it is known beforehand.
    pub fn steps(&self) -> Option<u64> {
        match self {
            Self::Finetune(settings) => Some(settings.steps),
            Self::Command(settings) => settings.steps,
        }
    }

    /// The domains, in the dataset's order; empty for a command that names none, whose metrics may then name any.
    pub fn domains(&self) -> &[String] {
        match self {
            Self::Finetune(settings) => &settings.dataset.domains,
            Self::Command(settings) => &settings.domains,
        }
    }

    /// The name of the pretrained weights, if the work has any.
    pub fn weights(&self) -> Option<&str> {
        match self {
            Self::Finetune(settings) => Some(settings.weights.as_str()).filter(|weights| !weights.is_empty()),
            Self::Command(_) => None,
        }
    }

    /// The dataset's name, if the work has one.
    pub fn dataset(&self) -> Option<&str> {
        match self {
            Self::Finetune(settings) => Some(&settings.dataset.name),
            Self::Command(settings) => settings.dataset.as_deref(),
        }
    }
}

/// Where a trial lies in its sweep's grid: what results are grouped by.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Point {
    /// The domains that training never sees, sorted; one, or two for leave-one-domain-out pairs; none only for commands.
    pub held_out: Vec<String>,
    /// The other axes of the grid.
    pub parameters: Parameters,
    /// Seed of initialisation, batches, augmentation and dropout.
    pub seed: u64,
    /// Seed of the `in`/`out` split (DomainBed's trial_seed).
    pub split_seed: u64,
}

impl Point {
    /// The held-out domains as tables and filters write them: `sketch`, or `photo+sketch` for a pair.
    pub fn held_out_label(&self) -> String {
        self.held_out.join("+")
    }

    /// Whether training never sees this domain.
    pub fn is_held_out(&self, domain: &str) -> bool {
        self.held_out.iter().any(|held_out| held_out == domain)
    }
}

/// Everything that decides a trial's numbers. Paths, device, threads and names of sweeps are not in it.
///
/// Built by [`crate::spec::SweepSpec`], which checks every range; stored and sent as it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrialSpec {
    /// What the trial shares with the rest of its sweep.
    pub work: Work,
    /// Its place in the grid.
    pub point: Point,
    /// The trials that it combines, if it combines any.
    pub combination: Option<Combination>,
}

impl TrialSpec {
    /// The identity of the trial: a hash of the canonical text of its specification.
    pub fn id(&self) -> TrialId {
        Identifier::of(&self.work, PROTOCOL_VERSION).id(&self.point, self.combination.as_ref())
    }

    /// The trial as the trainer runs it; none for a command. A combination trains nothing and has one model, so axes in which its members
    /// differ count as 0 there, and the trajectory's methods are left out.
    ///
    /// # Errors
    /// [`NoParameter`] when a hyper-parameter is missing.
    pub fn finetune(&self) -> Result<FinetuneSpec, NoParameter> {
        let Work::Finetune(settings) = &self.work else { return Err(NoParameter("a backbone")) };
        let (mut settings, mut point) = (settings.clone(), self.point.clone());
        if self.combination.is_some() {
            (settings.average, settings.ensemble) = (None, None);
            for axis in AXES {
                point.parameters.entry(axis.to_owned()).or_insert(Scalar::Number(0.0));
            }
        }
        Ok(FinetuneSpec { settings, point: (&point).try_into()? })
    }
}

/// Computes the identities of trials that share their work, without writing the shared part down for each of them.
///
/// The canonical text has one `key=value` line per fact, in a fixed order. Floats stand in their shortest exact form, strings as JSON,
/// so that neither the notation (1e-3, 0.001) nor the order of keys in a file can change a trial's identity.
#[derive(Clone, Debug)]
pub struct Identifier {
    shared: blake3::Hasher,
    finetune: bool,
}

impl Identifier {
    /// For trials of this work under this version of the numbers, [`PROTOCOL_VERSION`] unless a stored sweep names another.
    pub fn of(work: &Work, protocol: u32) -> Self {
        let mut text = format!("protocol={protocol}\n");
        match work {
            Work::Finetune(settings) => finetune_lines(settings, &mut text),
            Work::Command(settings) => command_lines(settings, &mut text),
        }
        let mut shared = blake3::Hasher::new();
        shared.update(text.as_bytes());
        Self { shared, finetune: matches!(work, Work::Finetune(_)) }
    }

    /// The identity of the trial at this point, or of this combination there.
    pub fn id(&self, point: &Point, combination: Option<&Combination>) -> TrialId {
        let Point { held_out, parameters, seed, split_seed } = point;
        let mut text = String::with_capacity(256);
        line(&mut text, "held_out", &json(held_out));
        let known: &[&str] = if self.finetune { &AXES } else { &[] };
        for axis in known {
            if let Some(value) = parameters.get(*axis) {
                line(&mut text, axis, &canonical(value));
            }
        }
        for (axis, value) in parameters.iter().filter(|(axis, _)| !known.contains(&axis.as_str())) {
            let _ = writeln!(text, "parameter.{axis}={}", canonical(value));
        }
        line(&mut text, "seed", seed);
        line(&mut text, "split_seed", split_seed);
        if let Some(Combination { kind, choice, method, members }) = combination {
            line(&mut text, "combination.kind", kind);
            line(&mut text, "combination.choice", choice);
            line(&mut text, "combination.method", method);
            line(&mut text, "combination.members", &json(members));
        }
        let mut id = [0_u8; TrialId::BYTES];
        id.copy_from_slice(
            &self.shared.clone().update(text.as_bytes()).finalize().as_bytes()[..TrialId::BYTES],
        );
        TrialId(id)
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
    let Settings { average, ensemble, .. } = settings;
    let DatasetSpec { name, domains, classes, split_by } = dataset;
    let facts: [(&str, &dyn fmt::Display); 22] = [
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
        ("precision", precision),
        ("steps", steps),
        ("batch_per_domain", batch_per_domain),
        ("evaluate_every", evaluate_every),
        ("optimizer", optimizer),
        ("momentum", &float(*momentum)),
        ("schedule", schedule),
        ("milestones", &json(milestones)),
        ("gamma", &float(*gamma)),
        ("average", &json(average)),
        ("ensemble", &json(ensemble)),
    ];
    for (key, value) in facts {
        line(text, key, value);
    }
}

fn command_lines(settings: &CommandSettings, text: &mut String) {
    let CommandSettings { command, dataset, domains, steps } = settings;
    line(text, "command", &json(command));
    line(text, "dataset", &json(dataset));
    line(text, "domains", &json(domains));
    line(text, "steps", &json(steps));
}

/// Strings and integers always encode: JSON refuses only maps with odd keys, and there are none here.
fn json(value: &(impl Serialize + ?Sized)) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

fn canonical(value: &Scalar) -> String {
    match value {
        Scalar::Number(value) => float(*value),
        Scalar::Text(text) => json(text),
        Scalar::Flag(flag) => flag.to_string(),
    }
}

/// The shortest text that reads back as exactly this number; zero has no sign.
fn float(value: f64) -> String {
    if value == 0.0 { "0".to_owned() } else { format!("{value:e}") }
}

/// The identity of a trial: 128 bits of BLAKE3, written as 32 hexadecimal digits. Equal specifications have equal ids, whatever
/// sweep, machine or file they come from.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrialId([u8; TrialId::BYTES]);

impl TrialId {
    const BYTES: usize = 16;

    /// The first eight digits: what tables show. Any unique prefix names a trial in commands.
    pub fn short(&self) -> String {
        self.to_string()[..8].to_owned()
    }
}

impl fmt::Display for TrialId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for TrialId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TrialId({self})")
    }
}

impl Serialize for TrialId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TrialId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A text that is no trial id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a trial id; it must be 32 hexadecimal digits")]
pub struct BadTrialId(String);

impl FromStr for TrialId {
    type Err = BadTrialId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || BadTrialId(text.to_owned());
        if text.len() != 2 * Self::BYTES || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(bad());
        }
        let mut id = [0_u8; Self::BYTES];
        for (index, byte) in id.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * index..2 * index + 2], 16).map_err(|_| bad())?;
        }
        Ok(Self(id))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::combine::{Choice, CombinationKind};
    use crate::finetune::{Backbone, FinetunePoint};
    use crate::metrics::Method;

    pub(crate) fn example() -> TrialSpec {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let dataset = DatasetSpec {
            name: "PACS".into(),
            domains: words("art_painting cartoon photo sketch"),
            classes: words("dog elephant giraffe guitar horse house person"),
            split_by: SplitBy::Image,
        };
        let settings = Settings::reference(dataset, Backbone::EfficientNetLite0);
        let (held_out, lr, weight_decay) = (words("sketch"), 1e-3, 1e-4);
        let point = FinetunePoint {
            held_out,
            dropout: 0.9,
            lr,
            weight_decay,
            head_lr_factor: 1.0,
            seed: 0,
            split_seed: 0,
        };
        TrialSpec { work: Work::Finetune(settings), point: (&point).into(), combination: None }
    }

    #[test]
    fn the_identity_is_pinned() {
        // If this changes, stored results no longer match the trials that a sweep file plans.
        assert_eq!(example().id().to_string(), "14c2b2ccaf82d77d2ecd00acfb58823c");
    }

    #[test]
    fn every_fact_of_a_command_is_in_its_identity() {
        let settings =
            CommandSettings { command: vec!["train".into()], dataset: None, domains: vec![], steps: None };
        let parameters = Parameters::from([("optimiser".to_owned(), Scalar::Text("adam".into()))]);
        let point = Point { held_out: vec![], parameters, seed: 0, split_seed: 0 };
        let first =
            TrialSpec { work: Work::Command(settings.clone()), point: point.clone(), combination: None };
        let work = |settings| TrialSpec { work: Work::Command(settings), ..first.clone() }.id();
        let with = |change: fn(&mut Point)| {
            let mut changed = first.clone();
            change(&mut changed.point);
            changed.id()
        };
        let ids = std::collections::BTreeSet::from([
            first.id(),
            work(CommandSettings { command: vec!["train".into(), String::new()], ..settings.clone() }),
            work(CommandSettings { dataset: Some("PACS".into()), ..settings.clone() }),
            work(CommandSettings { domains: vec!["photo".into()], ..settings.clone() }),
            work(CommandSettings { steps: Some(1), ..settings }),
            with(|point| point.seed = 1),
            with(|point| point.split_seed = 1),
            with(|point| point.held_out.push("photo".into())),
            with(|point| drop(point.parameters.insert("optimiser".into(), Scalar::Text("sgd".into())))),
            with(|point| drop(point.parameters.insert("lr".into(), Scalar::Number(0.1)))),
        ]);
        assert_eq!(ids.len(), 10);
    }

    #[test]
    fn every_fact_of_a_combination_is_in_its_identity() {
        let member = example().id();
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
        let ids: std::collections::BTreeSet<TrialId> =
            all.into_iter().map(|combination| TrialSpec { combination, ..example() }.id()).collect();
        assert_eq!(ids.len(), 6);
    }

    #[test]
    fn an_id_reads_back_and_bad_ones_are_refused() {
        let id = example().id();
        assert_eq!(id.to_string().parse(), Ok(id));
        for bad in ["", "12", "zz", &"é".repeat(16), &"g".repeat(32)] {
            assert!(bad.parse::<TrialId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_stored_specification_reads_back_exactly() {
        let mut spec = example();
        for (axis, value) in [("lr", 0.1 + 0.2), ("weight_decay", 5e-324)] {
            spec.point.parameters.insert(axis.into(), Scalar::Number(value));
        }
        let stored = serde_json::to_string(&spec).unwrap();
        let read: TrialSpec = serde_json::from_str(&stored).unwrap();
        assert_eq!(read.id(), spec.id());
        assert_eq!(read, spec);
    }
}
