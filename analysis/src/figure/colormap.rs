//! A colormap from pale yellow for the lowest number to dark blue for the highest.
//!
//! It is a straight line in Oklab, so that equal differences look equal. Its lightness decreases steadily, so it works in black and white.
//! Yellow and blue are also distinct for readers who confuse red and green.

/// Oklab coordinates (lightness, green to red, blue to yellow) of both ends.
const ENDS: [[f64; 3]; 2] = [[0.965, -0.025, 0.085], [0.33, -0.01, -0.125]];

/// The colour of a number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Shade {
    /// Linear red, green and blue, 0 to 1.
    linear: [f64; 3],
}

impl Shade {
    /// The colour at a part of the way (0 to 1) from the lowest to the highest number.
    pub(super) fn at(part: f64) -> Self {
        let part = part.clamp(0.0, 1.0);
        let [light, a, b] = [0, 1, 2].map(|index| ENDS[0][index] + part * (ENDS[1][index] - ENDS[0][index]));
        // Ottosson's matrices.
        let l = (light + 0.396_337_777_4 * a + 0.215_803_757_3 * b).powi(3);
        let m = (light - 0.105_561_345_8 * a - 0.063_854_172_8 * b).powi(3);
        let s = (light - 0.089_484_177_5 * a - 1.291_485_548_0 * b).powi(3);
        let red = 4.076_741_662_1 * l - 3.307_711_591_3 * m + 0.230_969_929_2 * s;
        let green = -1.268_438_004_6 * l + 2.609_757_401_1 * m - 0.341_319_396_5 * s;
        let blue = -0.004_196_086_3 * l - 0.703_418_614_7 * m + 1.707_614_701_0 * s;
        Self { linear: [red, green, blue] }
    }

    /// The colour in SVG.
    pub(super) fn colour(self) -> String {
        let [red, green, blue] = self.linear.map(|value| {
            let value = value.clamp(0.0, 1.0);
            let encoded =
                if value <= 0.003_130_8 { 12.92 * value } else { 1.055 * value.powf(1.0 / 2.4) - 0.055 };
            (255.0 * encoded).round() as u8
        });
        format!("#{red:02x}{green:02x}{blue:02x}")
    }

    /// The text colour with the higher contrast: black or white.
    pub(super) fn ink(self) -> &'static str {
        // Contrast is (lighter + 0.05) / (darker + 0.05), and white has luminance 1.
        if (self.luminance() + 0.05).powi(2) > 1.05 * 0.05 { "#000000" } else { "#ffffff" }
    }

    /// Relative luminance, 0 to 1.
    fn luminance(self) -> f64 {
        let [red, green, blue] = self.linear;
        0.2126 * red + 0.7152 * green + 0.0722 * blue
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_darkens_all_the_way_and_text_stands_out_everywhere() {
        let shades: Vec<Shade> = (0..=100).map(|part| Shade::at(f64::from(part) / 100.0)).collect();
        for pair in shades.windows(2) {
            assert!(pair[0].luminance() > pair[1].luminance() + 1e-3, "{pair:?}");
        }
        for shade in &shades {
            assert!(
                shade.linear.iter().all(|value| (0.0..=1.0).contains(value)),
                "{shade:?} is no colour of a screen"
            );
            let luminance = shade.luminance();
            let contrast =
                if shade.ink() == "#000000" { (luminance + 0.05) / 0.05 } else { 1.05 / (luminance + 0.05) };
            assert!(contrast >= 4.5, "{contrast} on {}", shade.colour());
        }
        assert_eq!((shades[0].ink(), shades[100].ink()), ("#000000", "#ffffff"));
        assert_eq!((Shade::at(-1.0), Shade::at(2.0)), (shades[0], shades[100]));
    }

    #[test]
    fn colours_are_written_as_the_screen_encodes_them() {
        insta::assert_snapshot!([0.0, 0.5, 1.0].map(|part| Shade::at(part).colour()).join(" "), @"#faf8b2 #7e929c #152e74");
    }
}
