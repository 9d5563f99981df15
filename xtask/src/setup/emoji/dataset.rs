//! Making the dataset: packages are fetched, emoji that all foundries drew are selected, rendered and described.

use std::path::PathBuf;

use anyhow::Result;

use super::super::cache::Cache;
use super::super::fetch;
use super::super::manifest::{Check, Manifest, intact};
use super::super::npm::Npm;
use super::super::pins::{EMOJI_NAMES, EMOJI_STYLES};
use super::render::{PIXELS, RENDERER};
use super::select::NAME;
use super::{notes, package, render, select};

/// Raised when the images change for the same packages.
const LAYOUT: u32 = 1;

/// The dataset, ready.
#[derive(Debug)]
pub struct EmojiStyles {
    /// Its folder.
    pub folder: PathBuf,
    /// Size on disk.
    pub bytes: u64,
}

/// The dataset if it is there and whole.
pub fn find(cache: &Cache, check: Check) -> Option<EmojiStyles> {
    let folder = cache.data().join(NAME);
    let manifest = intact(&folder, check, |made_by| made_by == recipe())?;
    Some(EmojiStyles { folder, bytes: manifest.bytes() })
}

/// Whether the packages are there, so that npm is not needed.
pub fn is_downloaded(cache: &Cache) -> bool {
    fetch::npm_is_cached(cache)
}

/// Renders the dataset. `npm` is asked for only if the packages have to be installed.
pub fn make(cache: &Cache, npm: impl FnOnce() -> Result<Npm>) -> Result<EmojiStyles> {
    let packages = fetch::npm(cache, npm)?;
    let table = package::Names::read(&packages.join(EMOJI_NAMES.package))?;
    let mut styles = Vec::new();
    for (domain, pin) in &EMOJI_STYLES {
        styles.push((*domain, package::IconSet::read(&packages.join(pin.package))?));
    }
    let chars: Vec<_> = styles.iter().map(|(_, set)| &set.chars).collect();
    let chosen = select::select(&table, &chars)?;

    let staging = cache.staging()?;
    let folder = staging.path().join(NAME);
    render::all(&chosen, &styles, &folder)?;
    let images = Manifest::of(&folder, "images only")?;
    notes::write(&folder, &chosen, &images.digest(), &table.licence)?;
    let manifest = Manifest::of(&folder, &recipe())?;
    manifest.write(&folder)?;
    let target = cache.data().join(NAME);
    cache.publish(&folder, &target)?;
    Ok(EmojiStyles { folder: target, bytes: manifest.bytes() })
}

fn recipe() -> String {
    let parts: Vec<String> = [EMOJI_NAMES]
        .into_iter()
        .chain(EMOJI_STYLES.map(|(_, pin)| pin))
        .map(|pin| format!("{}@{} sha256:{}", pin.package, pin.version, pin.sha256))
        .collect();
    format!("layout {LAYOUT}; {RENDERER}; {PIXELS} px; {}", parts.join("; "))
}
