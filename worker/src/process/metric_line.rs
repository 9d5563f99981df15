//! One object that a command prints: the keys that mean something, and the types of their values.

use serde::de::Visitor;
use serde::{Deserialize, Deserializer};
use sortie_core::metrics::{Method, SplitName};

/// Integers above this are not exact everywhere that reads JSON.
pub(super) const INTEGER_MAX: u64 = 1 << 53;

/// The keys of [`MetricLine`].
pub(super) const KEYS: [&str; 9] =
    ["step", "domain", "split", "n", "correct", "value", "method", "loss", "diverged"];

/// An object with its known keys. Others are passed over.
#[derive(Debug, Deserialize)]
pub(super) struct MetricLine {
    pub(super) step: Option<Whole>,
    pub(super) domain: Option<String>,
    pub(super) split: Option<SplitName>,
    pub(super) n: Option<Whole>,
    pub(super) correct: Option<Whole>,
    pub(super) value: Option<Number>,
    pub(super) method: Option<Method>,
    pub(super) loss: Option<Number>,
    pub(super) diverged: Option<Diverged>,
}

/// The loss stopped being a number at this step.
#[derive(Debug, Deserialize)]
pub(super) struct Diverged {
    pub(super) step: Whole,
}

/// A whole number, at least 0, however a program spells it: `10`, `10.0` or `"10"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Whole(pub(super) u64);

/// A float, perhaps one that JSON cannot write: a number, or a text that is one.
#[derive(Clone, Copy, Debug)]
pub(super) enum Number {
    Finite(f64),
    NotFinite,
}

impl Number {
    pub(super) fn finite(self) -> Option<f64> {
        if let Self::Finite(value) = self { Some(value) } else { None }
    }
}

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(WholeVisitor)
    }
}

struct WholeVisitor;

impl Visitor<'_> for WholeVisitor {
    type Value = Whole;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a whole number, at least 0")
    }

    fn visit_u64<E>(self, value: u64) -> Result<Whole, E> {
        Ok(Whole(value))
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Whole, E> {
        u64::try_from(value)
            .map(Whole)
            .map_err(|_| E::invalid_value(serde::de::Unexpected::Signed(value), &self))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Whole, E> {
        if value.fract() == 0.0 && (0.0..=INTEGER_MAX as f64).contains(&value) {
            return Ok(Whole(value as u64));
        }
        Err(E::invalid_value(serde::de::Unexpected::Float(value), &self))
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Whole, E> {
        let text = value.trim();
        if let Ok(whole) = text.parse() {
            return Ok(Whole(whole));
        }
        let number = text.parse().map_err(|_| E::invalid_value(serde::de::Unexpected::Str(value), &self))?;
        self.visit_f64(number)
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NumberVisitor)
    }
}

struct NumberVisitor;

impl Visitor<'_> for NumberVisitor {
    type Value = Number;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a number")
    }

    fn visit_i64<E>(self, value: i64) -> Result<Number, E> {
        Ok(Number::Finite(value as f64))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Number, E> {
        Ok(Number::Finite(value as f64))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Number, E> {
        Ok(if value.is_finite() { Number::Finite(value) } else { Number::NotFinite })
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Number, E> {
        let number = value.trim().parse();
        let number = number.map_err(|_| E::invalid_type(serde::de::Unexpected::Str(value), &self))?;
        self.visit_f64(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keys_are_those_that_are_read() {
        // A key that is missing in the list would be counted as unknown, one that is missing in the struct passed over in silence.
        let derived = format!("{:?}", serde_json::from_str::<MetricLine>("{}").unwrap());
        let fields: Vec<&str> =
            derived.split(['{', ',', '}']).filter_map(|part| Some(part.split_once(':')?.0.trim())).collect();
        assert_eq!(fields, KEYS);
    }

    #[test]
    fn whole_numbers_may_be_spelled_as_floats_and_texts() {
        let read = |text: &str| serde_json::from_str::<Whole>(text).ok();
        for (text, whole) in [
            ("10", 10),
            ("10.0", 10),
            ("1e3", 1000),
            ("\"10\"", 10),
            ("\" 10.0 \"", 10),
            ("0", 0),
            ("-0.0", 0),
        ] {
            assert_eq!(read(text), Some(Whole(whole)), "{text}");
        }
        for bad in ["-1", "1.5", "\"x\"", "\"\"", "\"NaN\"", "1e17", "true", "[1]", "\"-1\""] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
