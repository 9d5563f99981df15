//! Figures as SVG, as PDF for papers, and as PNG for programs that can show neither.

pub(crate) mod axes;
mod boxes;
mod clouds;
mod colormap;
mod curves;
mod draw;
mod error;
mod fonts;
mod frame;
mod grid;
mod key;
mod legend;
mod merged;
mod notes;
mod page;
mod panels;
mod pdf;
mod png;
mod presets;
mod question;
mod rates;
mod scatter;
mod scatter_points;
mod scatter_styles;
mod settings;
mod svg;
#[cfg(test)]
mod tests;
mod tree;
mod trial_curves;
mod x_scale;

pub use draw::{figure, figures};
pub use error::FigureError;
pub use fonts::{covered, uncovered};
pub use page::{FigurePage, FigureWidth};
pub use pdf::pdf;
pub use png::png;
pub use presets::FigurePreset;
pub use question::{FigureKind, FigureQuestion};
pub(crate) use trial_curves::mean_losses;
pub use trial_curves::{
    CurveAxis, CurveCollector, CurveQuestion, CurveSplit, CurveValue, TrialCurve, trial_curves,
};
