//! EmojiStyles: the same emoji drawn by four type foundries, as 96-pixel images in DomainBed's folder layout.

mod dataset;
mod notes;
mod package;
mod render;
mod select;

pub use dataset::{EmojiStyles, find, is_downloaded, make};
pub use select::NAME;
