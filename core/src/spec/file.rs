//! The sweep file as it is written: every key and its type, nothing else.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::SpecError;
use crate::selection::Selection;
use crate::trial::{Backbone, Finetune, OutTransform, Precision, SplitBy};

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SweepFile {
    pub(super) name: String,
    pub(super) select: Option<Vec<Selection>>,
    pub(super) data: DataTable,
    pub(super) model: ModelTable,
    pub(super) train: TrainTable,
    pub(super) grid: GridTable,
}

/// `[data]`: which images, and how they are shown to the network.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataTable {
    pub(super) dataset: String,
    pub(super) domains: Option<Vec<String>>,
    pub(super) classes: Option<Vec<String>>,
    pub(super) group: Option<SplitBy>,
    pub(super) pixels: Option<u32>,
    pub(super) augment: Option<bool>,
    pub(super) out_transform: Option<OutTransform>,
}

/// `[model]`: which network, and which of its weights are trained.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelTable {
    pub(super) backbone: Backbone,
    pub(super) finetune: Option<Finetune>,
}

/// `[train]`: how long, with which batches and which schedule.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainTable {
    pub(super) steps: Option<u64>,
    pub(super) batch_per_domain: Option<u32>,
    pub(super) evaluate_every: Option<u64>,
    pub(super) precision: Option<Precision>,
    pub(super) momentum: Option<f64>,
    pub(super) milestones: Option<Vec<u64>>,
    pub(super) gamma: Option<f64>,
}

/// `[grid]`: every list is an axis, every scalar is fixed.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GridTable {
    pub(super) dropout: OneOrMany<f64>,
    pub(super) lr: OneOrMany<f64>,
    pub(super) weight_decay: OneOrMany<f64>,
    pub(super) head_lr_factor: Option<OneOrMany<f64>>,
    pub(super) held_out: Option<HeldOut>,
    pub(super) seeds: Option<OneOrMany<u64>>,
    pub(super) splits: Option<OneOrMany<u64>>,
}

/// A scalar or a list.
#[derive(Clone, Debug, PartialEq)]
pub enum OneOrMany<T> {
    /// A scalar.
    One(T),
    /// A list, perhaps empty.
    Many(Vec<T>),
}

/// Which domains are held out, one trial each.
#[derive(Clone, Debug, PartialEq)]
pub enum HeldOut {
    /// `"each"`: every domain of the dataset in turn.
    Each,
    /// These.
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
            let message = error.message().split('\n').map(str::trim).collect::<Vec<_>>().join("; ");
            SpecError::Syntax { line, message }
        })
    }
}

impl SweepFile {
    /// The dataset that it names.
    pub fn dataset(&self) -> &str {
        &self.data.dataset
    }
}

/// The two number types that axes have, and how TOML's numbers become them.
trait Number: Sized {
    const EXPECTED: &'static str;
    fn of_integer(value: i64) -> Option<Self>;
    fn of_float(value: f64) -> Option<Self>;
}

impl Number for f64 {
    const EXPECTED: &'static str = "a number or a list of numbers";
    fn of_integer(value: i64) -> Option<Self> {
        Some(value as Self)
    }
    fn of_float(value: f64) -> Option<Self> {
        Some(value)
    }
}

impl Number for u64 {
    const EXPECTED: &'static str = "a whole number that is not negative, or a list of them";
    fn of_integer(value: i64) -> Option<Self> {
        value.try_into().ok()
    }
    fn of_float(_: f64) -> Option<Self> {
        None
    }
}

struct NumberVisitor<T>(PhantomData<T>);

impl<'de, T: Number> Visitor<'de> for NumberVisitor<T> {
    type Value = OneOrMany<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::EXPECTED)
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Self::Value, E> {
        let wrong = || E::invalid_value(serde::de::Unexpected::Signed(value), &self);
        T::of_integer(value).map(OneOrMany::One).ok_or_else(wrong)
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Self::Value, E> {
        let wrong = || E::invalid_value(serde::de::Unexpected::Float(value), &self);
        T::of_float(value).map(OneOrMany::One).ok_or_else(wrong)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut values = Vec::new();
        while let Some(element) = list.next_element::<OneOrMany<T>>()? {
            match element {
                OneOrMany::One(value) => values.push(value),
                OneOrMany::Many(_) => return Err(A::Error::custom(format!("a list in a list; expected {}", T::EXPECTED))),
            }
        }
        Ok(OneOrMany::Many(values))
    }
}

impl<'de, T: Number> Deserialize<'de> for OneOrMany<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NumberVisitor(PhantomData))
    }
}

impl<'de> Deserialize<'de> for HeldOut {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct HeldOutVisitor;
        impl<'de> Visitor<'de> for HeldOutVisitor {
            type Value = HeldOut;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"each\" or a list of domains")
            }

            fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<HeldOut, E> {
                if value == "each" {
                    return Ok(HeldOut::Each);
                }
                Err(E::invalid_value(serde::de::Unexpected::Str(value), &self))
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
