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
    let visible =
        |character: &char| !character.is_ascii() && !character.is_whitespace() && !is_ignorable(*character);
    let wanted: BTreeSet<char> = svg.chars().filter(visible).collect();
    let covered = covered(embedded(), &wanted);
    wanted.difference(&covered).copied().collect()
}

/// Whether a character is never shown itself (Unicode's Default_Ignorable_Code_Point): marks of variants, joiners, soft hyphens.
fn is_ignorable(character: char) -> bool {
    matches!(
        character,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}'
            | '\u{fff0}'..='\u{fff8}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}'
    )
}

/// Those of these characters that a font has. `font` is a file's content, which may hold several fonts; what is no font has none.
pub fn covered(font: &[u8], wanted: &BTreeSet<char>) -> BTreeSet<char> {
    let Ok(file) = FileRef::new(font) else { return BTreeSet::new() };
    let fonts: Vec<FontRef<'_>> = file.fonts().flatten().collect();
    let has = |character: &char| fonts.iter().any(|font| font.charmap().map(*character).is_some());
    wanted.iter().copied().filter(has).collect()
}
