//! The sweep file as it is written: every key and its type, nothing else.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Error as _, MapAccess, SeqAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};

use super::SpecError;
use super::one_or_many::{OneOrMany, ValueVisitor, listed};
use crate::combine::{Choice, CombinationKind};
use crate::finetune::{
    Backbone, BatchNorm, BlockNorm, Ensemble, Finetune, Optimizer, OutTransform, Precision, Schedule,
};
use crate::keep::KeepWeights;
use crate::metrics::{Goal, Method};
use crate::parameters::Scalar;
use crate::selection::Selection;
use crate::trial::{MissingClasses, SplitBy};

/// The whole file. It has either the settings of Sortie's trainer (`[data]`, `[model]`, `[train]`) or the command to run (`[run]`).
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SweepFile {
    pub(super) name: String,
    pub(super) select: Option<Vec<Selection>>,
    pub(super) data: Option<DataTable>,
    pub(super) model: Option<ModelTable>,
    pub(super) train: Option<TrainTable>,
    pub(super) run: Option<RunTable>,
    pub(super) require: Option<RequireTable>,
    pub(super) keep: Option<KeepTable>,
    #[serde(default)]
    pub(super) metrics: BTreeMap<String, MetricTable>,
    #[serde(default)]
    pub(super) limits: LimitsTable,
    #[serde(default)]
    pub(super) grid: GridTable,
    pub(super) random: Option<RandomTable>,
    #[serde(default)]
    pub(super) combine: Vec<CombineTable>,
}

/// `[random]`: settings that are drawn when the sweep is submitted; every key but these two names what is drawn.
#[derive(Debug, Default)]
pub struct RandomTable {
    pub(super) draws: Option<u64>,
    pub(super) seed: Option<u64>,
    pub(super) ranges: BTreeMap<String, RangeTable>,
}

/// `{ uniform = [a, b] }`, `{ log_uniform = [a, b], whole = true }` or `{ choice = [...] }`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RangeTable {
    pub(super) uniform: Option<[f64; 2]>,
    pub(super) log_uniform: Option<[f64; 2]>,
    pub(super) whole: Option<bool>,
    pub(super) choice: Option<Vec<Scalar>>,
}

impl<'de> Deserialize<'de> for RandomTable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct RandomVisitor;
        impl<'de> Visitor<'de> for RandomVisitor {
            type Value = RandomTable;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table of ranges")
            }

            // The TOML reader refuses duplicate keys.
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RandomTable, A::Error> {
                let mut random = RandomTable::default();
                while let Some(key) = map.next_key::<String>()? {
                    match key.as_str() {
                        "draws" => random.draws = Some(map.next_value()?),
                        "seed" => random.seed = Some(map.next_value()?),
                        _ => drop(random.ranges.insert(key, map.next_value()?)),
                    }
                }
                Ok(random)
            }
        }
        deserializer.deserialize_map(RandomVisitor)
    }
}

/// `[[combine]]`: an ensemble or an average over several trials of the grid.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CombineTable {
    pub(super) name: String,
    pub(super) kind: CombinationKind,
    pub(super) over: OneOrMany<String>,
    pub(super) choice: Option<Choice>,
    pub(super) method: Option<Method>,
    #[serde(rename = "where")]
    pub(super) filter: Option<String>,
    pub(super) members: Option<OneOrMany<Scalar>>,
}

/// `[run]`: any program as a trial.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunTable {
    pub(super) command: Vec<String>,
    pub(super) steps: Option<u64>,
    pub(super) complete_at: Option<u64>,
    pub(super) retries: Option<u32>,
}

/// An entry of `[metrics]`: a number that the command reports under this name.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MetricTable {
    pub(super) goal: Goal,
    pub(super) unit: Option<String>,
}

/// `[limits]`: how long an attempt may take.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsTable {
    pub(super) hours: Option<f64>,
    pub(super) stall_minutes: Option<f64>,
}

/// `[require]`: which workers may run the sweep's trials.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequireTable {
    #[serde(default)]
    pub(super) tags: Vec<String>,
    pub(super) gpu_memory_gib: Option<f64>,
}

/// `[data]`: the images, and how they are preprocessed.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataTable {
    pub(super) dataset: String,
    pub(super) domains: Option<Vec<String>>,
    pub(super) classes: Option<Vec<String>>,
    pub(super) group: Option<SplitBy>,
    pub(super) layout: Option<String>,
    pub(super) missing_classes: Option<MissingClasses>,
    #[serde(default, deserialize_with = "listed")]
    pub(super) pixels: Option<OneOrMany<u32>>,
    #[serde(default, deserialize_with = "listed")]
    pub(super) augment: Option<OneOrMany<bool>>,
    pub(super) out_transform: Option<OutTransform>,
    pub(super) cache_pixels: Option<u32>,
}

/// `[model]`: which network, and which of its weights are trained.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelTable {
    #[serde(default, deserialize_with = "listed")]
    pub(super) backbone: Option<OneOrMany<Backbone>>,
    #[serde(default, deserialize_with = "listed")]
    pub(super) finetune: Option<OneOrMany<Finetune>>,
    #[serde(default, deserialize_with = "listed")]
    pub(super) weights: Option<OneOrMany<String>>,
    pub(super) block_norm: Option<BlockNorm>,
    pub(super) batch_norm: Option<BatchNorm>,
}

/// `[train]`: how long, with which batches and which schedule.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainTable {
    #[serde(default, deserialize_with = "listed")]
    pub(super) steps: Option<OneOrMany<u64>>,
    #[serde(default, deserialize_with = "listed")]
    pub(super) batch_per_domain: Option<OneOrMany<u32>>,
    pub(super) micro_batch: Option<Scalar>,
    pub(super) evaluate_every: Option<u64>,
    #[serde(default, deserialize_with = "listed")]
    pub(super) precision: Option<OneOrMany<Precision>>,
    #[serde(default, deserialize_with = "listed")]
    pub(super) optimizer: Option<OneOrMany<Optimizer>>,
    pub(super) momentum: Option<f64>,
    #[serde(default, deserialize_with = "listed")]
    pub(super) schedule: Option<OneOrMany<Schedule>>,
    pub(super) milestones: Option<Vec<u64>>,
    pub(super) gamma: Option<f64>,
    pub(super) average: Option<AverageTable>,
    pub(super) ensemble: Option<Ensemble>,
}

/// `average = { from = 300, every = 1 }`, or `every = "evaluation"`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AverageTable {
    pub(super) from: u64,
    pub(super) every: Option<Scalar>,
}

/// `[keep]`: the artifacts that are kept of a trial.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeepTable {
    pub(super) weights: Option<KeepWeights>,
    pub(super) logits: Option<bool>,
    pub(super) checkpoint_minutes: Option<f64>,
}

/// `[grid]`: every list is an axis, every scalar is fixed. Which axes there may be depends on the work.
#[derive(Debug, Default)]
pub struct GridTable {
    pub(super) axes: BTreeMap<String, OneOrMany<Scalar>>,
    pub(super) held_out: Option<HeldOut>,
    pub(super) seeds: Option<OneOrMany<u64>>,
    pub(super) splits: Option<OneOrMany<u64>>,
}

impl<'de> Deserialize<'de> for GridTable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct GridVisitor;
        impl<'de> Visitor<'de> for GridVisitor {
            type Value = GridTable;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table of axes")
            }

            // The TOML reader refuses duplicate keys.
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<GridTable, A::Error> {
                let mut grid = GridTable::default();
                while let Some(key) = map.next_key::<String>()? {
                    match key.as_str() {
                        "held_out" => grid.held_out = Some(map.next_value()?),
                        "seeds" => grid.seeds = Some(map.next_value()?),
                        "splits" => grid.splits = Some(map.next_value()?),
                        _ => map.next_value::<GridEntry>()?.add_to(key, &mut grid.axes),
                    }
                }
                Ok(grid)
            }
        }
        deserializer.deserialize_map(GridVisitor)
    }
}

/// What stands under a key of the grid: the values of an axis or, since a dot in a key makes a table of it, some whose names have a dot.
enum GridEntry {
    Values(OneOrMany<Scalar>),
    Table(BTreeMap<String, GridEntry>),
}

impl GridEntry {
    fn add_to(self, name: String, axes: &mut BTreeMap<String, OneOrMany<Scalar>>) {
        match self {
            Self::Values(values) => drop(axes.insert(name, values)),
            Self::Table(entries) => {
                for (key, entry) in entries {
                    entry.add_to(format!("{name}.{key}"), axes);
                }
            }
        }
    }
}

impl<'de> Deserialize<'de> for GridEntry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EntryVisitor(ValueVisitor<Scalar>);
        impl<'de> Visitor<'de> for EntryVisitor {
            type Value = GridEntry;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.expecting(f)
            }

            fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<GridEntry, E> {
                self.0.visit_i64(value).map(GridEntry::Values)
            }

            fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<GridEntry, E> {
                self.0.visit_f64(value).map(GridEntry::Values)
            }

            fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<GridEntry, E> {
                self.0.visit_str(value).map(GridEntry::Values)
            }

            fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<GridEntry, E> {
                self.0.visit_bool(value).map(GridEntry::Values)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<GridEntry, A::Error> {
                self.0.visit_seq(list).map(GridEntry::Values)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<GridEntry, A::Error> {
                let mut entries = BTreeMap::new();
                while let Some(key) = map.next_key::<String>()? {
                    // The reader has dates as tables with this key.
                    if key == "$__toml_private_datetime" {
                        return Err(A::Error::invalid_type(Unexpected::Other("a date"), &self));
                    }
                    entries.insert(key, map.next_value()?);
                }
                if entries.is_empty() {
                    return Err(A::Error::invalid_type(Unexpected::Map, &self));
                }
                Ok(GridEntry::Table(entries))
            }
        }
        deserializer.deserialize_any(EntryVisitor(ValueVisitor::default()))
    }
}

/// Which domains are held out, one trial each. A domain that is called "each" stands in a list.
#[derive(Clone, Debug, PartialEq)]
pub enum HeldOut {
    /// `"each"`: every domain of the dataset in turn.
    Each,
    /// The listed ones, or the one that stands there.
    List(Vec<String>),
}

impl SweepFile {
    /// Reads the text.
    ///
    /// # Errors
    /// [`SpecError::Syntax`] with the line.
    pub fn parse(text: &str) -> Result<Self, SpecError> {
        toml::from_str(text).map_err(|error: toml::de::Error| {
            let start = error.span().map_or(0, |span| span.start.min(text.len()));
            let line = text.as_bytes()[..start].iter().filter(|&&byte| byte == b'\n').count() + 1;
            SpecError::Syntax { line, message: super::syntax::plain(text, start, error.message()) }
        })
    }
}

impl<'de> Deserialize<'de> for HeldOut {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct HeldOutVisitor;
        impl<'de> Visitor<'de> for HeldOutVisitor {
            type Value = HeldOut;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"each\", a domain or a list of domains")
            }

            fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<HeldOut, E> {
                Ok(if value == "each" { HeldOut::Each } else { HeldOut::List(vec![value.to_owned()]) })
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<HeldOut, A::Error> {
                let mut domains = Vec::new();
                while let Some(domain) = list.next_element()? {
                    domains.push(domain);
                }
                Ok(HeldOut::List(domains))
            }
        }
        deserializer.deserialize_any(HeldOutVisitor)
    }
}
