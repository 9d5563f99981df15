//! Renders SVG to PNG with an embedded font, so that pictures do not depend on the machine's fonts where that font has all characters.

use resvg::tiny_skia::{Color, Pixmap, Transform};

use super::FigureError;
use super::tree::tree;

/// The largest side in pixels.
const SIDE_PIXELS_MAX: f32 = 16_384.0;

/// Renders an SVG document of [`super::figure`] on white, `scale` pixels per unit. `others` are the contents of font files, for the characters
/// that the embedded font lacks ([`super::uncovered`]).
///
/// # Errors
/// [`FigureError::Render`] for text that is no SVG and for a scale that makes an empty or an enormous picture.
pub fn png(svg: &str, scale: f32, others: Vec<Vec<u8>>) -> Result<Vec<u8>, FigureError> {
    let tree = tree(svg, others)?;
    let (width, height) = (tree.size().width() * scale, tree.size().height() * scale);
    let fits = |side: f32| (1.0..=SIDE_PIXELS_MAX).contains(&side);
    let pixmap = if fits(width) && fits(height) {
        Pixmap::new(width.ceil() as u32, height.ceil() as u32)
    } else {
        None
    };
    let mut pixmap = pixmap
        .ok_or_else(|| FigureError::Render(format!("{width} x {height} pixels is no size for a picture")))?;
    pixmap.fill(Color::WHITE);
    resvg::render(&tree, Transform::from_scale(scale, scale), &mut pixmap.as_mut());
    pixmap.encode_png().map_err(|error| FigureError::Render(error.to_string()))
}
