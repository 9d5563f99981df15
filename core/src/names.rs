//! Enums whose values have names in files, tables, columns and messages: one list gives each of them all its conversions.

/// A word that is none of the names that are allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} is not a {what}; allowed: {allowed}")]
pub struct UnknownName {
    /// What the word should have named.
    pub what: &'static str,
    /// The word.
    pub value: String,
    /// The names that are allowed, comma separated.
    pub allowed: String,
}

/// Whether a name can be that of one folder and of a column: it leads to no other place.
pub fn is_folder_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 200
        && !name.starts_with('.')
        && !name.contains(|c: char| c.is_control() || "/\\".contains(c))
}

/// Gives an enum of plain variants `ALL`, `as_str`, `Display`, `FromStr`, `Serialize` and `Deserialize`. The calling crate needs serde.
#[macro_export]
macro_rules! named {
    ($type:ident, $what:literal, { $($variant:ident => $name:literal),+ $(,)? }) => {
        impl $type {
            /// Every value, in the order in which messages list them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The name in files, tables and messages.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl std::str::FromStr for $type {
            type Err = $crate::names::UnknownName;

            fn from_str(value: &str) -> Result<Self, Self::Err> {
                Self::ALL.iter().copied().find(|candidate| candidate.as_str() == value).ok_or_else(|| {
                    let allowed: Vec<&str> = Self::ALL.iter().map(|candidate| candidate.as_str()).collect();
                    $crate::names::UnknownName { what: $what, value: value.to_owned(), allowed: allowed.join(", ") }
                })
            }
        }

        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let name = String::deserialize(deserializer)?;
                name.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}
