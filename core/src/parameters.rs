//! Values on the axes of a grid. Fine-tuning has four axes with known names; a command has whatever its sweep file names.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A trial's place on every axis of its grid that is neither the held-out domain nor a seed, by the axis's name.
pub type Parameters = BTreeMap<String, Scalar>;

/// Integers above this are not exact as floats.
const INTEGER_MAX: u64 = 1 << 53;

/// What was written for the numbers of a trial, by the axis's name; nothing for those that nobody wrote.
pub type WrittenNumbers = BTreeMap<String, String>;

/// One value on an axis: a number (an integer is the number that it equals, so `32` is `32.0`), a text or a flag.
#[derive(Clone)]
pub enum Scalar {
    /// Finite. Zero has no sign.
    Number(Number),
    /// Any text.
    Text(String),
    /// True or false.
    Flag(bool),
}

impl Scalar {
    /// A number; none if it is not finite.
    pub fn number(value: f64) -> Option<Self> {
        value.is_finite().then(|| Self::Number(value.into()))
    }

    /// The number, if it is one.
    pub fn as_number(&self) -> Option<f64> {
        if let Self::Number(number) = self { Some(number.get()) } else { None }
    }

    /// The value as a program reads it on its command line: a number as it was written, `true` or `false`.
    pub fn argument(&self) -> String {
        match self {
            Self::Number(number) => number.argument(),
            Self::Text(text) => text.clone(),
            Self::Flag(flag) => flag.to_string(),
        }
    }

    /// What was written for it, if it is a number that somebody wrote.
    pub fn written(&self) -> Option<&str> {
        if let Self::Number(number) = self { number.written() } else { None }
    }

    /// The same value, written like this; as it was if the text is not that number.
    #[must_use]
    pub fn with_written(self, text: &str) -> Self {
        match self {
            Self::Number(number) => Self::Number(number.with_written(text)),
            other => other,
        }
    }

    /// Reads a value as a filter writes it: a number or a flag if it looks like one, else a text.
    pub fn read(text: &str) -> Self {
        match text {
            "true" => Self::Flag(true),
            "false" => Self::Flag(false),
            _ => text.parse().ok().and_then(Self::number).unwrap_or_else(|| Self::Text(text.to_owned())),
        }
    }

    fn rank(&self) -> u8 {
        match self {
            Self::Flag(_) => 0,
            Self::Number(_) => 1,
            Self::Text(_) => 2,
        }
    }
}

/// A number, and what was written for it where somebody wrote it: a program that an axis is for reads what its sweep file says, while
/// numbers compare, are stored and are shown by their values.
#[derive(Clone)]
pub struct Number {
    value: f64,
    /// Reads as `value`.
    written: Option<Arc<str>>,
}

impl Number {
    /// Its value: finite, and zero has no sign.
    pub fn get(&self) -> f64 {
        self.value
    }

    /// What was written, if anybody did.
    pub fn written(&self) -> Option<&str> {
        self.written.as_deref()
    }

    fn with_written(self, text: &str) -> Self {
        let reads_as_it = text.parse::<f64>().is_ok_and(|read| read == self.value);
        Self { written: reads_as_it.then(|| text.into()), ..self }
    }

    /// What was written; where nobody wrote anything, the shortest decimal that reads back as the number, without an exponent unless
    /// that would be more than twenty digits.
    fn argument(&self) -> String {
        let size = self.value.abs();
        match &self.written {
            Some(text) => text.as_ref().to_owned(),
            None if size == 0.0 || (1e-7..1e21).contains(&size) => self.value.to_string(),
            None => format!("{:e}", self.value),
        }
    }
}

/// A number that nobody wrote. It must be finite.
impl From<f64> for Number {
    fn from(value: f64) -> Self {
        // Adding zero takes the sign from a negative zero, which would otherwise be a value of its own.
        Self { value: value + 0.0, written: None }
    }
}

/// What was written for the numbers of these parameters.
pub fn written_numbers(parameters: &Parameters) -> WrittenNumbers {
    let written =
        parameters.iter().filter_map(|(axis, value)| Some((axis.clone(), value.written()?.to_owned())));
    written.collect()
}

/// Gives numbers what was written for them.
pub fn set_written(parameters: &mut Parameters, written: &WrittenNumbers) {
    for (axis, text) in written {
        if let Some(value) = parameters.get_mut(axis) {
            *value = value.clone().with_written(text);
        }
    }
}

/// A number as people write it: 0, 0.5, 0.95, 1, 0.01, 1e-3, 5e-4. Reads back as exactly the same number.
pub fn number(value: f64) -> String {
    let size = value.abs();
    if value == 0.0 {
        "0".to_owned()
    } else if (0.01..1e6).contains(&size) {
        format!("{value}")
    } else {
        format!("{value:e}")
    }
}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(value) => f.pad(&number(value.get())),
            Self::Text(text) => f.pad(text),
            Self::Flag(flag) => f.pad(if *flag { "true" } else { "false" }),
        }
    }
}

/// As a sweep file writes it.
impl fmt::Debug for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{:?}", number.get()),
            Self::Text(text) => write!(f, "{text:?}"),
            Self::Flag(flag) => write!(f, "{flag}"),
        }
    }
}

impl Ord for Scalar {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Number(a), Self::Number(b)) => a.get().total_cmp(&b.get()),
            (Self::Text(a), Self::Text(b)) => a.cmp(b),
            (Self::Flag(a), Self::Flag(b)) => a.cmp(b),
            (a, b) => a.rank().cmp(&b.rank()),
        }
    }
}

impl PartialOrd for Scalar {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Scalar {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Scalar {}

impl Serialize for Scalar {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Number(number) => serializer.serialize_f64(number.get()),
            Self::Text(text) => serializer.serialize_str(text),
            Self::Flag(flag) => serializer.serialize_bool(*flag),
        }
    }
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ScalarVisitor)
    }
}

struct ScalarVisitor;

impl serde::de::Visitor<'_> for ScalarVisitor {
    type Value = Scalar;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a finite number, a text, true or false")
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<Scalar, E> {
        Ok(Scalar::Flag(value))
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Scalar, E> {
        if value.unsigned_abs() > INTEGER_MAX {
            return Err(inexact(value));
        }
        Ok(Scalar::Number((value as f64).into()))
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Scalar, E> {
        if value > INTEGER_MAX {
            return Err(inexact(value));
        }
        Ok(Scalar::Number((value as f64).into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Scalar, E> {
        Scalar::number(value).ok_or_else(|| E::invalid_value(serde::de::Unexpected::Float(value), &self))
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Scalar, E> {
        Ok(Scalar::Text(value.to_owned()))
    }
}

fn inexact<E: serde::de::Error>(value: impl fmt::Display) -> E {
    E::custom(format!("{value} is no exact number; write it as a text"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_people_write_them() {
        for (value, text) in [
            (0.0, "0"),
            (-0.0, "0"),
            (0.5, "0.5"),
            (0.95, "0.95"),
            (1.0, "1"),
            (10.0, "10"),
            (5e-4, "5e-4"),
            (1e-3, "1e-3"),
            (1.5e-3, "1.5e-3"),
            (0.01, "0.01"),
            (-0.25, "-0.25"),
            (3e7, "3e7"),
        ] {
            assert_eq!(number(value), text);
            assert_eq!(text.parse::<f64>().unwrap(), value);
        }
    }

    #[test]
    fn values_survive_json_exactly_and_integers_are_numbers() {
        for scalar in [
            Scalar::Number((0.1 + 0.2).into()),
            Scalar::Number(5e-324.into()),
            Scalar::Text("a\"b".into()),
            Scalar::Flag(true),
        ] {
            let text = serde_json::to_string(&scalar).unwrap();
            assert_eq!(serde_json::from_str::<Scalar>(&text).unwrap(), scalar);
        }
        assert_eq!(serde_json::from_str::<Scalar>("32").unwrap(), Scalar::Number(32.0.into()));
        assert_eq!(serde_json::from_str::<Scalar>("-0.0").unwrap(), Scalar::Number(0.0.into()));
        assert_eq!(
            serde_json::from_str::<Scalar>("9007199254740992").unwrap(),
            Scalar::Number(9_007_199_254_740_992.0.into())
        );
        for bad in ["9007199254740993", "-9007199254740993", "18446744073709551615", "null", "[1]"] {
            assert!(serde_json::from_str::<Scalar>(bad).is_err(), "{bad}");
        }
        assert_eq!(
            (Scalar::read("1e-3"), Scalar::read("adam"), Scalar::read("nan")),
            (Scalar::Number(1e-3.into()), Scalar::Text("adam".into()), Scalar::Text("nan".into()))
        );
    }

    #[test]
    fn a_program_reads_what_was_written_and_equal_numbers_stay_equal() {
        let number = |value: f64| Scalar::Number(value.into());
        for (value, text) in [
            (1e6, "1000000"),
            (1e6, "1e6"),
            (1e6, "1000000.0"),
            (1e-3, "0.001"),
            (1e-3, "1E-3"),
            (4.0, "4.0"),
            (0.0, "-0.0"),
            (5.0, "+5"),
        ] {
            let written = number(value).with_written(text);
            assert_eq!((written.argument().as_str(), written.written()), (text, Some(text)));
            assert_eq!(written, number(value));
            // Tables and files of the database keep their form.
            assert_eq!(written.to_string(), number(value).to_string());
            assert_eq!(
                serde_json::to_string(&written).unwrap(),
                serde_json::to_string(&number(value)).unwrap()
            );
        }
        // A text that is another number is none for this one.
        assert_eq!(number(4.0).with_written("5").written(), None);
        for (value, shortest) in [
            (1e6, "1000000"),
            (1e-3, "0.001"),
            (1e-7, "0.0000001"),
            (1e-8, "1e-8"),
            (0.1 + 0.2, "0.30000000000000004"),
            (4.0, "4"),
            (-0.0, "0"),
            (1e21, "1e21"),
            (-1e20, "-100000000000000000000"),
        ] {
            assert_eq!(number(value).argument(), shortest);
            assert_eq!(shortest.parse::<f64>().unwrap(), value);
        }
        assert_eq!(
            (Scalar::Flag(true).argument(), Scalar::Text("1e6 ".into()).argument()),
            ("true".into(), "1e6 ".into())
        );
        let mut parameters = Parameters::from([
            ("lr".to_owned(), number(1e-3).with_written("1e-3")),
            ("n".to_owned(), number(2.0)),
        ]);
        let written = written_numbers(&parameters);
        assert_eq!(written, WrittenNumbers::from([("lr".to_owned(), "1e-3".to_owned())]));
        set_written(
            &mut parameters,
            &WrittenNumbers::from([("lr".to_owned(), "0.001".to_owned()), ("n".to_owned(), "3".to_owned())]),
        );
        assert_eq!(
            (parameters["lr"].argument().as_str(), parameters["n"].argument().as_str()),
            ("0.001", "2")
        );
    }
}
