//! Figures as SVG, and as PNG for programs that cannot show SVG.

mod axes;
mod boxes;
mod colormap;
mod curves;
mod draw;
mod error;
mod fonts;
mod frame;
mod grid;
mod notes;
mod png;
mod question;
mod rates;
mod scatter;
mod scatter_points;
mod svg;
#[cfg(test)]
mod tests;

pub use draw::figure;
pub use error::FigureError;
pub use fonts::{covered, uncovered};
pub use png::png;
pub use question::{FigureKind, FigureQuestion};
