//! The paper's experiments by their names.

use anyhow::{Result, bail};
use sortie_core::presets::{self, PRESETS, Preset};

/// A preset by its name.
///
/// # Errors
/// One line that names those there are.
pub fn find_preset(name: &str) -> Result<&'static Preset> {
    match presets::find(name) {
        Some(preset) => Ok(preset),
        None => bail!(
            "{name:?} is not a preset; allowed: {}",
            PRESETS.iter().map(|preset| preset.name).collect::<Vec<_>>().join(", ")
        ),
    }
}
