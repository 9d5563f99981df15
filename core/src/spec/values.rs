//! Rules of single values that several tables have: names, names of folders, lists.

use super::error::{SpecError, too_large, wrong};

/// Axes are compared value by value, since floats have no hash. This limit keeps that fast.
pub(super) const AXIS_VALUES_MAX: usize = 10_000;

/// Names of sweeps, tags, datasets, weights and combinations.
pub(super) fn check_name(key: &str, name: &str) -> Result<(), SpecError> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if name.is_empty() || name.len() > 100 || !name.chars().all(fits) || name.starts_with(['.', '-']) {
        return wrong(key, name, "1 to 100 letters, digits, '.', '_' and '-', not starting with '.' or '-'");
    }
    Ok(())
}

/// Refuses a domain whose name would read as a pair's.
pub(super) fn no_plus(key: &str, names: &[String]) -> Result<(), SpecError> {
    match names.iter().find(|name| name.contains('+')) {
        Some(name) => {
            let other = name.replace('+', "_");
            let allowed = format!(
                "'+' joins the names of held-out domains; rename the folder, for example to {other:?}"
            );
            wrong(key, name, allowed)
        }
        None => Ok(()),
    }
}

/// The values of an axis: at least one, not too many, all different.
pub(super) fn distinct<T: PartialEq + std::fmt::Debug>(
    key: &str,
    values: Vec<T>,
) -> Result<Vec<T>, SpecError> {
    if values.is_empty() {
        return wrong(key, values, "an axis needs at least one value");
    }
    if values.len() > AXIS_VALUES_MAX {
        return too_large(key, format!("{} values", values.len()), AXIS_VALUES_MAX as u64);
    }
    if let Some(twice) =
        values.iter().enumerate().find_map(|(index, value)| values[..index].contains(value).then_some(value))
    {
        return wrong(key, twice, "a value may stand only once on an axis");
    }
    Ok(values)
}
