//! A scalar or a list of them, as keys of axes are written.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::SeqAccessDeserializer;
use serde::de::{Error as _, IntoDeserializer, SeqAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};

use crate::parameters::Scalar;

/// A scalar or a list.
#[derive(Clone, Debug, PartialEq)]
pub enum OneOrMany<T> {
    /// A scalar.
    One(T),
    /// A list, perhaps empty.
    Many(Vec<T>),
}

/// Reads a setting that may be listed. Values are read, and refused, as those of a setting that may not.
pub(super) fn listed<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<OneOrMany<T>>, D::Error> {
    deserializer.deserialize_any(SettingVisitor(PhantomData)).map(Some)
}

struct SettingVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for SettingVisitor<T> {
    type Value = OneOrMany<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value or a list of values")
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Self::Value, E> {
        T::deserialize(value.into_deserializer()).map(OneOrMany::One)
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Self::Value, E> {
        T::deserialize(value.into_deserializer()).map(OneOrMany::One)
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Self::Value, E> {
        T::deserialize(value.into_deserializer()).map(OneOrMany::One)
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<Self::Value, E> {
        T::deserialize(value.into_deserializer()).map(OneOrMany::One)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Self::Value, A::Error> {
        Vec::deserialize(SeqAccessDeserializer::new(list)).map(OneOrMany::Many)
    }
}

/// The types of values that axes have, and how TOML's values become them.
pub(super) trait Value: Sized {
    const EXPECTED: &'static str;
    fn of_integer(value: i64) -> Option<Self>;
    fn of_other(value: Scalar) -> Option<Self>;
}

impl Value for Scalar {
    const EXPECTED: &'static str = "a finite number, a text, true or false, or a list of them";
    fn of_integer(value: i64) -> Option<Self> {
        (value.unsigned_abs() <= 1 << 53).then(|| Self::Number((value as f64).into()))
    }
    fn of_other(value: Scalar) -> Option<Self> {
        Some(value)
    }
}

impl Value for u64 {
    const EXPECTED: &'static str = "a whole number that is not negative, or a list of them";
    fn of_integer(value: i64) -> Option<Self> {
        value.try_into().ok()
    }
    fn of_other(_: Scalar) -> Option<Self> {
        None
    }
}

impl Value for String {
    const EXPECTED: &'static str = "a text, or a list of texts";
    fn of_integer(_: i64) -> Option<Self> {
        None
    }
    fn of_other(value: Scalar) -> Option<Self> {
        if let Scalar::Text(text) = value { Some(text) } else { None }
    }
}

pub(super) struct ValueVisitor<T>(PhantomData<T>);

impl<T> Default for ValueVisitor<T> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<'de, T: Value> Visitor<'de> for ValueVisitor<T> {
    type Value = OneOrMany<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::EXPECTED)
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Self::Value, E> {
        let wrong = || E::invalid_value(Unexpected::Signed(value), &self);
        T::of_integer(value).map(OneOrMany::One).ok_or_else(wrong)
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Self::Value, E> {
        let wrong = || E::invalid_value(Unexpected::Float(value), &self);
        Scalar::number(value).and_then(T::of_other).map(OneOrMany::One).ok_or_else(wrong)
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Self::Value, E> {
        let wrong = || E::invalid_value(Unexpected::Str(value), &self);
        T::of_other(Scalar::Text(value.to_owned())).map(OneOrMany::One).ok_or_else(wrong)
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<Self::Value, E> {
        let wrong = || E::invalid_value(Unexpected::Bool(value), &self);
        T::of_other(Scalar::Flag(value)).map(OneOrMany::One).ok_or_else(wrong)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut values = Vec::new();
        while let Some(element) = list.next_element::<OneOrMany<T>>()? {
            match element {
                OneOrMany::One(value) => values.push(value),
                OneOrMany::Many(_) => {
                    return Err(A::Error::custom(format!("a list in a list; expected {}", T::EXPECTED)));
                }
            }
        }
        Ok(OneOrMany::Many(values))
    }
}

impl<'de, T: Value> Deserialize<'de> for OneOrMany<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor::default())
    }
}
