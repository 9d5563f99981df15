//! Pillow's bilinear resize with antialiasing on 8-bit RGB.

use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::U8x3;
use fast_image_resize::{FilterType, ResizeAlg, ResizeOptions, Resizer};

use super::decoded_image::{DecodedImage, ImageView};

/// Resizes images as Pillow's `resize(size, BILINEAR)` does, in integer arithmetic, the same on every machine. It keeps its buffers: use
/// one for many images.
#[derive(Clone, Debug, Default)]
pub struct BilinearResizer {
    inner: Resizer,
}

impl BilinearResizer {
    /// The image in another size.
    ///
    /// # Errors
    /// A one-line reason where a side is zero or far too long.
    pub fn resize(&mut self, image: ImageView, height: usize, width: usize) -> Result<DecodedImage, String> {
        if (image.height, image.width) == (height, width) {
            return Ok(DecodedImage { height, width, pixels: image.pixels.into() });
        }
        let side = |pixels: usize| {
            u32::try_from(pixels).ok().filter(|&side| side > 0).ok_or("an image side that cannot be")
        };
        // Typed: the code for all other kinds of pixels would be compiled, too, and that takes a minute.
        let source =
            TypedImageRef::<U8x3>::from_buffer(side(image.width)?, side(image.height)?, image.pixels);
        let source = source.map_err(|error| error.to_string())?;
        let (columns, rows) = (side(width)?, side(height)?);
        let mut pixels = vec![0; height * width * 3];
        let target = TypedImage::<U8x3>::from_buffer(columns, rows, &mut pixels);
        let mut target = target.map_err(|error| error.to_string())?;
        let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear));
        self.inner.resize_typed(&source, &mut target, &options).map_err(|error| error.to_string())?;
        Ok(DecodedImage { height, width, pixels: pixels.into_boxed_slice() })
    }

    /// The image shrunk so that its longer side has `side_max` pixels, the other one in proportion, rounded, at least 1; unchanged if
    /// it is no larger than that.
    ///
    /// # Errors
    /// As [`Self::resize`].
    pub fn shrink(&mut self, image: DecodedImage, side_max: u32) -> Result<DecodedImage, String> {
        let (longer, side_max) = (image.height.max(image.width), side_max as usize);
        if longer <= side_max {
            return Ok(image);
        }
        let scaled = |side: usize| ((side * side_max + longer / 2) / longer).max(1);
        self.resize(image.view(), scaled(image.height), scaled(image.width))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longer_side_gets_the_limit_and_small_images_stay() {
        let image =
            |height, width| DecodedImage { height, width, pixels: vec![9; height * width * 3].into() };
        let mut resizer = BilinearResizer::default();
        for ((height, width), expected) in
            [((300, 100), (30, 10)), ((99, 200), (15, 30)), ((1, 4000), (1, 30)), ((30, 29), (30, 29))]
        {
            let shrunk = resizer.shrink(image(height, width), 30).unwrap();
            assert_eq!((shrunk.height, shrunk.width), expected);
            assert_eq!(shrunk.pixels.len(), expected.0 * expected.1 * 3);
            assert!(shrunk.pixels.iter().all(|&value| value == 9));
        }
    }
}
