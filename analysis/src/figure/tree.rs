//! Reads a figure with its fonts, so that it can be written in other formats.

use std::sync::Arc;

use resvg::usvg::fontdb::Database;
use resvg::usvg::{Options, Tree};

use super::FigureError;
use super::fonts::{FAMILY, embedded};

/// Reads an SVG document of [`super::figure`]. `others` are the contents of font files, for the characters that the embedded font lacks.
///
/// # Errors
/// [`FigureError::Render`] for text that is no SVG.
pub(super) fn tree(svg: &str, others: Vec<Vec<u8>>) -> Result<Tree, FigureError> {
    let mut fonts = Database::new();
    fonts.load_font_data(embedded().to_vec());
    others.into_iter().for_each(|font| fonts.load_font_data(font));
    // This is the font, whatever family the document names.
    fonts.set_sans_serif_family(FAMILY);
    let options = Options { font_family: FAMILY.to_owned(), fontdb: Arc::new(fonts), ..Options::default() };
    Tree::from_str(svg, &options).map_err(|error| FigureError::Render(error.to_string()))
}
