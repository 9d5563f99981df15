//! `sortie presets`: the paper's experiments as sweep files.

use anyhow::Result;
use serde_json::json;
use sortie_core::presets::{PRESETS, Preset};

use crate::output;
use crate::sweep_source::find_preset;

/// List the paper's experiments with the figures and tables that they make, or print one as a sweep file to change. `sortie submit --preset NAME` submits one as it is.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Print this one.
    name: Option<String>,
    /// On this dataset instead of its own.
    #[arg(long, value_name = "NAME", requires = "name")]
    dataset: Option<String>,
    /// Print one JSON object.
    #[arg(long, conflicts_with = "name")]
    json: bool,
}

/// Lists or prints.
///
/// # Errors
/// One line that names the presets there are.
pub fn run(arguments: &Arguments) -> Result<()> {
    if let Some(name) = &arguments.name {
        return output::text(&find_preset(name)?.text(arguments.dataset.as_deref()));
    }
    if arguments.json {
        let list: Vec<_> = PRESETS
            .iter()
            .map(|preset| {
                let Preset { name, .. } = preset;
                json!({ "name": name, "about": preset.about(), "makes": preset.makes(), "command": preset.command() })
            })
            .collect();
        return output::json(&json!({ "presets": list }));
    }
    let lines = PRESETS.iter().map(|preset| {
        let made = format!("makes {}: {}", preset.makes(), preset.command());
        format!("{:<17} {}\n{:<17} {made}\n", preset.name, preset.about(), "")
    });
    output::text(&lines.collect::<String>())
}
