//! Which characters a font can show. Pure: the caller reads the files of fonts.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use skrifa::raw::FileRef;
use skrifa::{FontRef, MetadataProvider as _};

/// The embedded font, DejaVu Sans: it is free to embed (Bitstream Vera licence) and stays legible at the size of a caption.
pub(super) fn embedded() -> &'static [u8] {
    dejavu::sans::regular()
}

/// Its family.
pub(super) const FAMILY: &str = "DejaVu Sans";

/// The embedded font, read.
pub(super) static FONT: LazyLock<Option<FontRef<'static>>> = LazyLock::new(|| FontRef::new(embedded()).ok());

/// The characters of an SVG document that the embedded font lacks, such as Chinese ones. Its tags have none.
pub fn uncovered(svg: &str) -> BTreeSet<char> {
    let visible = |character: &char| !character.is_ascii() && !character.is_whitespace();
    let wanted: BTreeSet<char> = svg.chars().filter(visible).collect();
    let covered = covered(embedded(), &wanted);
    wanted.difference(&covered).copied().collect()
}

/// Those of these characters that a font has. `font` is a file's content, which may hold several fonts; what is no font has none.
pub fn covered(font: &[u8], wanted: &BTreeSet<char>) -> BTreeSet<char> {
    let Ok(file) = FileRef::new(font) else { return BTreeSet::new() };
    let fonts: Vec<FontRef<'_>> = file.fonts().flatten().collect();
    let has = |character: &char| fonts.iter().any(|font| font.charmap().map(*character).is_some());
    wanted.iter().copied().filter(has).collect()
}
