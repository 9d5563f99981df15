//! Values on the axes of a grid. Fine-tuning has four axes with known names; a command has whatever its sweep file names.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A trial's place on every axis of its grid that is neither the held-out domain nor a seed, by the axis's name.
pub type Parameters = BTreeMap<String, Scalar>;

/// Integers above this are not exact as floats.
const INTEGER_MAX: u64 = 1 << 53;

/// One value on an axis: a number (an integer is the number that it equals, so `32` is `32.0`), a text or a flag.
#[derive(Clone)]
pub enum Scalar {
    /// Finite. Zero has no sign.
    Number(f64),
    /// Any text.
    Text(String),
    /// True or false.
    Flag(bool),
}

impl Scalar {
    /// A number; none if it is not finite.
    pub fn number(value: f64) -> Option<Self> {
        // Adding zero takes the sign from a negative zero, which would otherwise be a value of its own.
        value.is_finite().then_some(Self::Number(value + 0.0))
    }

    /// The number, if it is one.
    pub fn as_number(&self) -> Option<f64> {
        if let Self::Number(value) = self { Some(*value) } else { None }
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
            Self::Number(value) => f.pad(&number(*value)),
            Self::Text(text) => f.pad(text),
            Self::Flag(flag) => f.pad(if *flag { "true" } else { "false" }),
        }
    }
}

/// As a sweep file writes it.
impl fmt::Debug for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(value) => write!(f, "{value:?}"),
            Self::Text(text) => write!(f, "{text:?}"),
            Self::Flag(flag) => write!(f, "{flag}"),
        }
    }
}

impl Ord for Scalar {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Number(a), Self::Number(b)) => a.total_cmp(b),
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
            Self::Number(value) => serializer.serialize_f64(*value),
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
        Ok(Scalar::Number(value as f64))
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Scalar, E> {
        if value > INTEGER_MAX {
            return Err(inexact(value));
        }
        Ok(Scalar::Number(value as f64))
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
            Scalar::Number(0.1 + 0.2),
            Scalar::Number(5e-324),
            Scalar::Text("a\"b".into()),
            Scalar::Flag(true),
        ] {
            let text = serde_json::to_string(&scalar).unwrap();
            assert_eq!(serde_json::from_str::<Scalar>(&text).unwrap(), scalar);
        }
        assert_eq!(serde_json::from_str::<Scalar>("32").unwrap(), Scalar::Number(32.0));
        assert_eq!(serde_json::from_str::<Scalar>("-0.0").unwrap(), Scalar::Number(0.0));
        assert_eq!(
            serde_json::from_str::<Scalar>("9007199254740992").unwrap(),
            Scalar::Number(9_007_199_254_740_992.0)
        );
        for bad in ["9007199254740993", "-9007199254740993", "18446744073709551615", "null", "[1]"] {
            assert!(serde_json::from_str::<Scalar>(bad).is_err(), "{bad}");
        }
        assert_eq!(
            (Scalar::read("1e-3"), Scalar::read("adam"), Scalar::read("nan")),
            (Scalar::Number(1e-3), Scalar::Text("adam".into()), Scalar::Text("nan".into()))
        );
    }
}
