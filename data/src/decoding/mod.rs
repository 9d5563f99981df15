//! From the bytes of a file to RGB pixels, and from these to another size: `decode` chooses the format, `jpeg` and `gif` read theirs,
//! `bilinear_resize` resizes as Pillow does.

mod bilinear_resize;
mod decode;
mod decoded_image;
mod gif;
mod jpeg;

pub use bilinear_resize::BilinearResizer;
pub(crate) use decode::DECODER_VERSION;
pub use decode::decode;
pub use decoded_image::{DecodedImage, ImageView};
