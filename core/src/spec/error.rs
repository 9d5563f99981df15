//! Why a sweep is refused.

/// Why a sweep was refused, in one line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// The text is no TOML, or has a key or a type that no sweep file has.
    #[error("line {line}: {message}")]
    Syntax {
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        message: String,
    },
    /// A value is out of its range.
    #[error("{key} = {value} is not allowed: {allowed}")]
    Value {
        /// The key, as `table.key`.
        key: String,
        /// The value, as a user would write it.
        value: String,
        /// What is allowed.
        allowed: String,
    },
    /// A required key is missing.
    #[error("{key} is missing: {needs}")]
    Missing {
        /// The key, as `table.key`.
        key: String,
        /// Why it is required, and what is allowed.
        needs: String,
    },
    /// The grid has a key that is no axis of this work.
    #[error("{key} is not an axis: {allowed}")]
    UnknownAxis {
        /// The key, as `grid.key`.
        key: String,
        /// Which axes there may be.
        allowed: String,
    },
    /// A key is not allowed beside another one.
    #[error("{key} is not allowed here: {reason}")]
    Misplaced {
        /// The key, as `table.key`.
        key: String,
        /// The key that excludes it.
        reason: String,
    },
    /// Settings that do not go together, where the file lists several.
    #[error("with {values}: {error}")]
    Combination {
        /// The values, as a user would write them.
        values: String,
        /// What is wrong with them.
        error: Box<SpecError>,
    },
    /// A grid or an axis is larger than any may be.
    #[error("{key} has {size}: at most {max} are allowed")]
    TooLarge {
        /// The key, as `table.key`.
        key: String,
        /// Its size, with a noun.
        size: String,
        /// How many it may have.
        max: u64,
    },
    /// The dataset is not in the catalogue, and its domains and classes are not given.
    #[error(
        "data.dataset = {name:?} is not in the built-in catalogue ({known}): list `domains` and `classes` under [data], or pass --data ROOT to read them from ROOT/{name}"
    )]
    UnknownDataset {
        /// The dataset's name.
        name: String,
        /// The catalogue's names.
        known: String,
    },
    /// The same name was submitted before with other values of keys that are no axes.
    #[error(
        "sweep {sweep:?} exists with other fixed values: {}; give the new one another name",
        list(changes)
    )]
    Changed {
        /// The sweep's name.
        sweep: String,
        /// What differs.
        changes: Vec<Change>,
    },
}

/// A fixed value that differs from the stored one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The key, as commands and tables name it.
    pub key: String,
    /// Its stored value.
    pub old: String,
    /// Its value in the file.
    pub new: String,
}

fn list(changes: &[Change]) -> String {
    let one = |Change { key, old, new }: &Change| format!("{key} is {old} there and {new} here");
    changes.iter().map(one).collect::<Vec<_>>().join(", ")
}

pub(super) fn wrong<T>(
    key: impl Into<String>,
    value: impl std::fmt::Debug,
    allowed: impl Into<String>,
) -> Result<T, SpecError> {
    Err(SpecError::Value { key: key.into(), value: format!("{value:?}"), allowed: allowed.into() })
}

pub(super) fn missing<T>(key: impl Into<String>, needs: impl Into<String>) -> Result<T, SpecError> {
    Err(SpecError::Missing { key: key.into(), needs: needs.into() })
}

pub(super) fn misplaced<T>(key: &str, reason: &str) -> Result<T, SpecError> {
    Err(SpecError::Misplaced { key: key.to_owned(), reason: reason.to_owned() })
}

pub(super) fn too_large<T>(key: impl Into<String>, size: String, max: u64) -> Result<T, SpecError> {
    Err(SpecError::TooLarge { key: key.into(), size, max })
}
