//! Encoded image bytes to RGB, as Pillow's `convert("RGB")` would: alpha is dropped, gray is repeated, palettes are looked up, and an
//! EXIF orientation is ignored (docs/protocol.md, "Data protocol").

use std::borrow::Cow;
use std::io::Cursor;

use image::{ColorType, DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};

use super::decoded_image::{DecodedImage, SIDE_PIXELS_MAX};
use super::{gif, jpeg};

/// Raise this when some file is decoded or shrunk to other pixels than before. Old caches are then no longer used.
pub(crate) const DECODER_VERSION: u32 = 1;
const DECODED_BYTES_MAX: u64 = 1 << 30;
const PNG_SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";
/// The last chunk of a PNG, which is empty: length, name, checksum.
const PNG_END: &[u8] = b"\0\0\0\0IEND\xae\x42\x60\x82";

/// Decodes an image. The content decides the format, because PACS holds PNGs under other names.
///
/// A JPEG that ends too early is gray where data are missing, as in the reference; other formats must have all of their picture. A PNG may
/// lack the chunk that only says that it ends. Of an animation the first frame is read.
///
/// # Errors
/// A one-line reason: not an image, damaged, of a kind that is not supported, or larger than 16,384 pixels on a side.
pub fn decode(bytes: &[u8]) -> Result<DecodedImage, String> {
    // A decoder may panic on malformed bytes. That is an error of the file, and no state of the decoder outlives the call.
    std::panic::catch_unwind(|| decode_unguarded(bytes))
        .unwrap_or_else(|_| Err("the image cannot be decoded: it is damaged".into()))
}

fn decode_unguarded(bytes: &[u8]) -> Result<DecodedImage, String> {
    if jpeg::is_jpeg(bytes) {
        return jpeg::decode(bytes);
    }
    if gif::is_gif(bytes) {
        return gif::decode(bytes);
    }
    let mut reader = ImageReader::new(Cursor::new(with_png_end(bytes)))
        .with_guessed_format()
        .map_err(|error| error.to_string())?;
    let format = reader
        .format()
        .ok_or("its content is no image format that is read here (JPEG, PNG, PPM, BMP, TIFF, WebP, GIF)")?;
    let mut limits = Limits::default();
    limits.max_image_width = Some(SIDE_PIXELS_MAX);
    limits.max_image_height = Some(SIDE_PIXELS_MAX);
    limits.max_alloc = Some(DECODED_BYTES_MAX);
    reader.limits(limits);
    let damaged = |error: image::ImageError| format!("the image cannot be decoded: {error}");
    let decoder = reader.into_decoder().map_err(damaged)?;
    let kind = decoder.color_type();
    if matches!(kind, ColorType::L16 | ColorType::Rgb32F | ColorType::Rgba32F) {
        // Pillow clips 16-bit gray to 255, which turns photographs white; another silent conversion would be no better.
        return Err(format!("images of kind {kind:?} are not supported; convert it to 8 bits per channel"));
    }
    let image = DynamicImage::from_decoder(decoder).map_err(damaged)?;
    let (height, width) = (image.height() as usize, image.width() as usize);
    if height == 0 || width == 0 {
        return Err("the image has no pixels".into());
    }
    let pixels = match image {
        DynamicImage::ImageRgb16(image) if format == ImageFormat::Pnm => {
            image.into_raw().into_iter().map(nearest_byte).collect()
        }
        DynamicImage::ImageRgb16(image) => image.into_raw().into_iter().map(high_byte).collect(),
        DynamicImage::ImageRgba16(image) => {
            image.pixels().flat_map(|pixel| [pixel[0], pixel[1], pixel[2]]).map(high_byte).collect()
        }
        DynamicImage::ImageLumaA16(image) => {
            image.pixels().flat_map(|pixel| [pixel[0]; 3]).map(high_byte).collect()
        }
        other => other.into_rgb8().into_raw(),
    };
    Ok(DecodedImage { height, width, pixels: pixels.into_boxed_slice() })
}

/// A PNG that is cut off behind its picture, with the chunk that it lacks; anything else as it is.
fn with_png_end(bytes: &[u8]) -> Cow<'_, [u8]> {
    if !bytes.starts_with(PNG_SIGNATURE) {
        return Cow::Borrowed(bytes);
    }
    let mut end = PNG_SIGNATURE.len();
    // A chunk is its length, four letters, that many bytes, and a checksum.
    while let Some((length, rest)) = bytes.get(end..).and_then(<[u8]>::split_first_chunk) {
        let length = u32::from_be_bytes(*length) as usize;
        let Some(kind) = rest.first_chunk::<4>() else { break };
        let next = end.saturating_add(length).saturating_add(12);
        if kind == b"IEND" && next <= bytes.len() || kind == b"IDAT" && next > bytes.len() {
            return Cow::Borrowed(bytes);
        }
        if next > bytes.len() {
            break;
        }
        end = next;
    }
    Cow::Owned([&bytes[..end], PNG_END].concat())
}

/// What Pillow keeps of 16-bit colours; a conversion that rounds would differ by one level.
fn high_byte(value: u16) -> u8 {
    (value >> 8) as u8
}

/// What Pillow keeps of 16-bit colours in PPM files.
fn nearest_byte(value: u16) -> u8 {
    ((u32::from(value) * 255 + 32_767) / 65_535) as u8
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{GrayAlphaImage, ImageFormat, LumaA, Rgba, RgbaImage};

    fn encoded(image: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        image.into().write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    #[test]
    fn alpha_is_dropped_and_gray_is_repeated() {
        let transparent = RgbaImage::from_pixel(2, 1, Rgba([10, 20, 30, 0]));
        let decoded = decode(&encoded(transparent, ImageFormat::Png)).unwrap();
        assert_eq!(
            (decoded.height, decoded.width, &decoded.pixels[..]),
            (1, 2, &[10, 20, 30, 10, 20, 30][..])
        );
        let gray = GrayAlphaImage::from_pixel(1, 1, LumaA([7, 128]));
        assert_eq!(&decode(&encoded(gray, ImageFormat::Png)).unwrap().pixels[..], &[7, 7, 7]);
    }

    #[test]
    fn sixteen_bit_colour_keeps_its_high_byte_and_sixteen_bit_gray_is_refused() {
        let colour = image::ImageBuffer::from_pixel(1, 1, image::Rgb([0x12ff_u16, 0x3400, 0xffff]));
        let decoded = decode(&encoded(DynamicImage::ImageRgb16(colour), ImageFormat::Png)).unwrap();
        assert_eq!(&decoded.pixels[..], &[0x12, 0x34, 0xff]);
        let gray = image::ImageBuffer::from_pixel(1, 1, image::Luma([0x1234_u16]));
        assert!(
            decode(&encoded(DynamicImage::ImageLuma16(gray), ImageFormat::Png)).unwrap_err().contains("L16")
        );
    }

    #[test]
    fn a_png_that_lacks_only_its_end_is_whole() {
        let pixels = image::RgbImage::from_fn(9, 7, |x, y| image::Rgb([x as u8, y as u8, 3]));
        let good = encoded(pixels.clone(), ImageFormat::Png);
        for missing in 1..=12 {
            let decoded = decode(&good[..good.len() - missing]).unwrap();
            assert_eq!(&decoded.pixels[..], &pixels.as_raw()[..], "{missing}");
        }
        // A chunk behind the picture may be cut, too.
        let cut = [&good[..good.len() - 12], b"\0\0\0\x09tEXtComm"].concat();
        assert_eq!(&decode(&cut).unwrap().pixels[..], &pixels.as_raw()[..]);
    }

    #[test]
    fn a_gif_is_read_whatever_its_name() {
        let file =
            b"GIF89a\x02\0\x01\0\x80\0\0\x0a\x14\x1e\x28\x32\x3c,\0\0\0\0\x02\0\x01\0\0\x02\x02\x44\x0a\0;";
        assert_eq!(&decode(file).unwrap().pixels[..], &[10, 20, 30, 40, 50, 60]);
    }

    #[test]
    fn damaged_images_are_refused() {
        let good = encoded(image::RgbImage::from_pixel(9, 9, image::Rgb([1, 2, 3])), ImageFormat::Png);
        assert!(decode(&good).is_ok());
        assert!(decode(&good[..good.len() - 20]).unwrap_err().contains("cannot be decoded"));
        // A cut between two chunks of the picture looks like a PNG that only lacks its end.
        assert!(decode(&good[..33]).unwrap_err().contains("cannot be decoded"));
        assert!(decode(b"this is a text").unwrap_err().contains("no image format"));
        assert!(decode(b"").is_err());
    }
}
