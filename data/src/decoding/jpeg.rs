//! JPEG to RGB as Pillow with `LOAD_TRUNCATED_IMAGES` reads it: CMYK is taken as Adobe writes it, inverted; what is missing is gray.

use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;

use super::decoded_image::{DecodedImage, SIDE_PIXELS_MAX};

/// Whether the bytes begin as a JPEG does.
pub(crate) fn is_jpeg(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0xff, 0xd8, 0xff])
}

/// Decodes a JPEG.
pub(crate) fn decode(bytes: &[u8]) -> Result<DecodedImage, String> {
    let damaged = |error: &dyn std::fmt::Display| format!("the image cannot be decoded: {error}");
    let options = DecoderOptions::default()
        .set_max_width(SIDE_PIXELS_MAX as usize)
        .set_max_height(SIDE_PIXELS_MAX as usize)
        .set_strict_mode(false)
        .jpeg_set_out_colorspace(ColorSpace::RGB);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder.decode_headers().map_err(|error| damaged(&error))?;
    let input = decoder.input_colorspace();
    if matches!(input, Some(ColorSpace::CMYK | ColorSpace::YCCK)) {
        decoder.set_options(options.jpeg_set_out_colorspace(input.unwrap_or(ColorSpace::CMYK)));
    }
    let pixels = decoder.decode().map_err(|error| damaged(&error))?;
    let (width, height) = decoder.dimensions().ok_or("the image has no size")?;
    let pixels = match input {
        Some(ColorSpace::CMYK) => {
            pixels.as_chunks().0.iter().flat_map(|&[c, m, y, k]| inks_to_rgb([c, m, y], k)).collect()
        }
        Some(ColorSpace::YCCK) => {
            pixels.as_chunks().0.iter().flat_map(|&[y, cb, cr, k]| inks_to_rgb(inks(y, cb, cr), k)).collect()
        }
        _ => pixels,
    };
    if height == 0 || width == 0 || pixels.len() != height * width * 3 {
        return Err(damaged(&"its size is not that of its pixels"));
    }
    Ok(DecodedImage { height, width, pixels: pixels.into_boxed_slice() })
}

/// The inks of a YCCK pixel, as libjpeg computes them: the complement of its YCbCr colour.
fn inks(y: u8, cb: u8, cr: u8) -> [u8; 3] {
    let (y, cb, cr) = (f32::from(y), f32::from(cb) - 128.0, f32::from(cr) - 128.0);
    [y + 1.402 * cr, y - 0.344_136 * cb - 0.714_136 * cr, y + 1.772 * cb]
        .map(|value| 255 - value.round() as u8)
}

/// Converts inks as stored in the file, which Pillow takes as inverted, to RGB in Pillow's arithmetic.
fn inks_to_rgb(stored: [u8; 3], stored_black: u8) -> [u8; 3] {
    // Inverting makes ink 255 - stored; then RGB is white less black, less ink times that.
    let light = u32::from(stored_black);
    stored.map(|value| {
        let product = (255 - u32::from(value)) * light + 128;
        (light - (((product >> 8) + product) >> 8)) as u8
    })
}
