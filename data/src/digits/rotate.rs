//! Pillow's `rotate(angle, BILINEAR)` of an 8-bit gray image, to the bit: same size, same centre, black outside.

/// The image turned counter-clockwise by an angle in degrees.
pub(crate) fn rotate(gray: &[u8], height: usize, width: usize, degrees: f64) -> Vec<u8> {
    let degrees = degrees.rem_euclid(360.0);
    if degrees == 0.0 {
        return gray.to_vec();
    }
    let at = |x: usize, y: usize| gray[y * width + x];
    let pick = |from: &dyn Fn(usize, usize) -> (usize, usize)| {
        let pixels = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
        pixels.map(|(x, y)| from(x, y)).map(|(x, y)| at(x, y)).collect()
    };
    // Multiples of a right angle move whole pixels, where the shape allows it.
    match degrees as u32 {
        180 if degrees == 180.0 => return pick(&|x, y| (width - 1 - x, height - 1 - y)),
        90 if degrees == 90.0 && height == width => return pick(&|x, y| (width - 1 - y, x)),
        270 if degrees == 270.0 && height == width => return pick(&|x, y| (y, height - 1 - x)),
        _ => {}
    }
    let angle = -degrees.to_radians();
    let [cos, sin, minus_sin] = [angle.cos(), angle.sin(), -angle.sin()].map(to_15_digits);
    let (centre_x, centre_y) = (width as f64 / 2.0, height as f64 / 2.0);
    let offset_x = cos * -centre_x + sin * -centre_y + centre_x;
    let offset_y = minus_sin * -centre_x + cos * -centre_y + centre_y;
    let mut turned = Vec::with_capacity(gray.len());
    for y in 0..height {
        for x in 0..width {
            let (x, y) = (x as f64 + 0.5, y as f64 + 0.5);
            turned.push(sample(
                gray,
                height,
                width,
                cos * x + sin * y + offset_x,
                minus_sin * x + cos * y + offset_y,
            ));
        }
    }
    turned
}

/// Pillow rounds the matrix so, through Python's `round`.
fn to_15_digits(value: f64) -> f64 {
    format!("{value:.15}").parse().unwrap_or(value)
}

/// The value at a point, between the four pixels around it; edges repeat, a point outside is black, the result is cut, not rounded.
fn sample(gray: &[u8], height: usize, width: usize, x: f64, y: f64) -> u8 {
    if x < 0.0 || x >= width as f64 || y < 0.0 || y >= height as f64 {
        return 0;
    }
    let (x, y) = (x - 0.5, y - 0.5);
    let (left, top) = (x.floor(), y.floor());
    let at = |column: f64, row: f64| {
        let clip = |value: f64, size: usize| (value.max(0.0) as usize).min(size - 1);
        f64::from(gray[clip(row, height) * width + clip(column, width)])
    };
    let between = |a: f64, b: f64, share: f64| a + (b - a) * share;
    let row = |row: f64| between(at(left, row), at(left + 1.0, row), x - left);
    between(row(top), row(top + 1.0), y - top) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn angles_turn_as_pillow_turns_them() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/images.safetensors");
        let content = std::fs::read(path).unwrap();
        let tensors = safetensors::SafeTensors::deserialize(&content).unwrap();
        let find = |name: &str| tensors.tensor(name).unwrap().data().to_vec();
        let digit = find("digit");
        for angle in ["0", "15", "30", "45", "60", "75", "90", "180", "270", "200.5"] {
            assert_eq!(
                rotate(&digit, 28, 28, angle.parse().unwrap()),
                find(&format!("rotated.{angle}")),
                "{angle}"
            );
        }
        assert_eq!(rotate(&digit, 28, 28, -15.0), rotate(&digit, 28, 28, 345.0));
    }
}
