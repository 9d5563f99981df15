//! One object that a command prints: the keys that mean something, and the types of their values.

use std::collections::BTreeMap;

use serde::de::Visitor;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use sortie_core::metrics::{ACCURACY, LOSS, METRICS_MAX, Method, Score, SplitName, is_metric_name};

/// Integers above this are not exact everywhere that reads JSON.
pub(super) const INTEGER_MAX: u64 = 1 << 53;

/// The keys of [`MetricLine`].
pub(super) const KEYS: [&str; 11] =
    ["step", "domain", "split", "n", "correct", "value", "accuracy", "metrics", "method", "loss", "diverged"];

/// An object with its known keys.
#[derive(Debug, Deserialize)]
pub(super) struct MetricLine {
    pub(super) step: Option<Whole>,
    pub(super) domain: Option<String>,
    pub(super) split: Option<SplitName>,
    pub(super) n: Option<Whole>,
    pub(super) correct: Option<Whole>,
    pub(super) value: Option<Number>,
    pub(super) accuracy: Option<Number>,
    pub(super) metrics: Option<BTreeMap<String, Value>>,
    pub(super) method: Option<Method>,
    pub(super) loss: Option<Number>,
    pub(super) diverged: Option<Diverged>,
}

impl MetricLine {
    /// Whether it measures anything.
    pub(super) fn measures(&self) -> bool {
        self.loss.is_some()
            || self.correct.is_some()
            || self.value.is_some()
            || self.accuracy.is_some()
            || self.metrics.is_some()
    }

    /// Whether it is an evaluation, and no training loss.
    pub(super) fn is_evaluation(&self) -> bool {
        let Self { domain, split, n, correct, value, accuracy, metrics, method, .. } = self;
        let counts = n.is_some() || correct.is_some();
        counts
            || domain.is_some()
            || split.is_some()
            || value.is_some()
            || accuracy.is_some()
            || metrics.is_some()
            || method.is_some()
    }
}

/// What an evaluation measured.
#[derive(Debug, Default)]
pub(super) struct Measurements {
    pub(super) score: Option<Score>,
    pub(super) loss: Option<f64>,
    pub(super) metrics: BTreeMap<String, f64>,
    /// Keys whose values are not used.
    pub(super) unused: Vec<String>,
}

impl Measurements {
    /// Those of an evaluation with these other keys, which are named numbers, too.
    ///
    /// # Errors
    /// Why it cannot be read.
    pub(super) fn of(line: &MetricLine, others: BTreeMap<String, Value>) -> Result<Self, String> {
        let mut own = Self::default();
        let (mut accuracy, mut loss) = (line.accuracy, line.loss);
        for (name, value) in others.into_iter().chain(line.metrics.clone().unwrap_or_default()) {
            let number = serde_json::from_value::<Number>(value.clone()).ok().filter(|_| !is_word(&value));
            match (name.as_str(), number) {
                (ACCURACY, Some(number @ Number::Finite(_))) if accuracy.is_none() => accuracy = Some(number),
                (LOSS, Some(number @ Number::Finite(_))) if loss.is_none() => loss = Some(number),
                (_, Some(Number::Finite(number)))
                    if is_metric_name(&name) && own.metrics.len() < METRICS_MAX =>
                {
                    own.metrics.insert(name, number);
                }
                (_, Some(Number::NotFinite)) => own.unused.push(format!("{name}, no finite number")),
                _ => own.unused.push(name),
            }
        }
        let value = match (line.value, accuracy) {
            (Some(_), Some(_)) => return Err("\"value\" and \"accuracy\" exclude each other".to_owned()),
            (value, accuracy) => value.or(accuracy),
        };
        own.loss = loss.and_then(Number::finite);
        own.score = score(line.n, line.correct, value)?;
        match (own.score, line.n) {
            (None, _) if own.metrics.is_empty() => {
                Err("an evaluation needs \"n\" and \"correct\", \"accuracy\", or \"metrics\"".to_owned())
            }
            (None, Some(_)) => {
                own.unused.push("n".to_owned());
                Ok(own)
            }
            _ => Ok(own),
        }
    }
}

/// A text that reads as a finite number. Only NaN and the infinities, which JSON cannot write, may come as texts.
fn is_word(value: &Value) -> bool {
    value.as_str().is_some_and(|text| text.trim().parse::<f64>().is_ok_and(f64::is_finite))
}

/// The accuracy as counts, or as a bare number.
fn score(n: Option<Whole>, correct: Option<Whole>, value: Option<Number>) -> Result<Option<Score>, String> {
    let (n, correct) = (n.map(|Whole(n)| n), correct.map(|Whole(correct)| correct));
    if n.is_some_and(|n| n > INTEGER_MAX) {
        return Err(format!("\"n\" is too large; the largest allowed is {INTEGER_MAX}"));
    }
    let score = match (n, correct, value) {
        (_, Some(_), Some(_)) => return Err("\"correct\" excludes \"value\" and \"accuracy\"".to_owned()),
        (Some(n), Some(correct), None) => Score::Counts { n, correct },
        (None, Some(_), None) => return Err("\"correct\" needs \"n\"".to_owned()),
        (n, None, Some(value)) => {
            let value = value.finite().ok_or("\"value\" must be finite")?;
            Score::Value { value, n: n.unwrap_or(0) }
        }
        (_, None, None) => return Ok(None),
    };
    score.fault().map_or(Ok(Some(score)), Err)
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
