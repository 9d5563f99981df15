//! Images as pixels.

/// The longest side of an image that is decoded.
pub(super) const SIDE_PIXELS_MAX: u32 = 16_384;

/// An RGB image, 8 bits per channel, rows from the top, channels interleaved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodedImage {
    /// Rows, in pixels.
    pub height: usize,
    /// Columns, in pixels.
    pub width: usize,
    /// `height * width * 3` bytes.
    pub pixels: Box<[u8]>,
}

impl DecodedImage {
    /// Borrows the image.
    pub fn view(&self) -> ImageView<'_> {
        ImageView { height: self.height, width: self.width, pixels: &self.pixels }
    }
}

/// A borrowed RGB image, such as one in a mapped file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageView<'a> {
    /// Rows, in pixels.
    pub height: usize,
    /// Columns, in pixels.
    pub width: usize,
    /// `height * width * 3` bytes.
    pub pixels: &'a [u8],
}
