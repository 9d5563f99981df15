//! The page of a figure: how wide it is on paper, and what stands above the plot.

use std::fmt;
use std::str::FromStr;

/// The units of a drawing in a centimetre: text of 9.24 units is 6 points high.
const UNITS_PER_CENTIMETRE: f64 = 360.0 / 8.25;
/// Points of PDF in a unit.
pub(super) const POINTS_PER_UNIT: f64 = 72.0 / 2.54 / UNITS_PER_CENTIMETRE;

/// The width of a figure on paper. Text is equally large at every width.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FigureWidth {
    centimetres: f64,
}

impl FigureWidth {
    /// A column of a page with two columns.
    pub const SINGLE: Self = Self { centimetres: 8.25 };
    /// Both columns of such a page.
    pub const DOUBLE: Self = Self { centimetres: 17.1 };
    /// The narrowest and the widest, in centimetres.
    const LIMITS: [f64; 2] = [6.0, 40.0];

    /// The width in centimetres.
    pub fn centimetres(self) -> f64 {
        self.centimetres
    }
}

impl FromStr for FigureWidth {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let [least, most] = Self::LIMITS;
        match text {
            "single" => Ok(Self::SINGLE),
            "double" => Ok(Self::DOUBLE),
            _ => {
                let centimetres = text.parse().ok().filter(|width| (least..=most).contains(width));
                centimetres.map(|centimetres| Self { centimetres }).ok_or_else(|| {
                    format!(
                        "{text:?} is not allowed: write single ({} cm), double ({} cm) or a number of centimetres from {least} to {most}",
                        Self::SINGLE.centimetres,
                        Self::DOUBLE.centimetres
                    )
                })
            }
        }
    }
}

impl fmt::Display for FigureWidth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::SINGLE => f.write_str("single"),
            Self::DOUBLE => f.write_str("double"),
            Self { centimetres } => centimetres.fmt(f),
        }
    }
}

/// The page of a figure.
#[derive(Clone, Debug, PartialEq)]
pub struct FigurePage {
    /// Its width.
    pub width: FigureWidth,
    /// The title; none for the sweep's name, which belongs to the caption.
    pub title: Option<String>,
    /// Whether a caption stands above the plot: how the numbers were made, and what is missing.
    pub caption: bool,
}

impl Default for FigurePage {
    fn default() -> Self {
        Self { width: FigureWidth::SINGLE, title: None, caption: true }
    }
}

impl FigurePage {
    /// The width in units.
    pub(super) fn units(&self) -> f64 {
        self.width.centimetres * UNITS_PER_CENTIMETRE
    }

    /// The height of a plot that has this height in a single column. Wider plots are higher, but not in proportion.
    pub(super) fn height(&self, single: f64) -> f64 {
        single * (self.units() / Self::default().units()).max(1.0).sqrt()
    }

    /// The room for a label beside a plot that has so much room in a single column.
    pub(super) fn label(&self, single: f64) -> f64 {
        single * (self.units() / Self::default().units()).min(1.5)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths_are_named_or_centimetres() {
        for (text, centimetres) in [("single", 8.25), ("double", 17.1), ("13.97", 13.97), ("6", 6.0)] {
            let width: FigureWidth = text.parse().unwrap();
            assert_eq!((width.centimetres(), width.to_string().as_str()), (centimetres, text));
        }
        for bad in ["", "wide", "5.9", "41", "NaN", "inf", "-8", "8.25cm"] {
            let error = bad.parse::<FigureWidth>().unwrap_err();
            assert_eq!(
                error,
                format!(
                    "{bad:?} is not allowed: write single (8.25 cm), double (17.1 cm) or a number of centimetres from 6 to 40"
                )
            );
        }
    }
}
