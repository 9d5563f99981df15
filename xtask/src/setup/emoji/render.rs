//! SVG bodies to PNG files, in parallel; each image depends on its own icon only.

use std::fs::{self, File};
use std::io::BufWriter;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result};
use rayon::prelude::*;
use resvg::tiny_skia::{Color, Pixmap, Transform};
use resvg::usvg::{Options, Tree};

use super::super::progress::{Progress, Unit};
use super::package::{Icon, IconSet, ViewBox};
use super::select::{Emoji, classes};

/// The program that makes the images, as their notes name it.
pub const RENDERER: &str = "resvg 0.49";
/// Width and height of every image.
pub const PIXELS: u32 = 96;

/// Renders every emoji in every style to `folder/DOMAIN/CLASS/STEM.png`.
pub fn all(chosen: &[Emoji], styles: &[(&str, IconSet)], folder: &Path) -> Result<()> {
    for (domain, _) in styles {
        for class in classes() {
            let path = folder.join(domain).join(class);
            fs::create_dir_all(&path).with_context(|| format!("cannot create {}", path.display()))?;
        }
    }
    let total = (chosen.len() * styles.len()) as u64;
    let progress = Mutex::new(Progress::start("Rendering EmojiStyles, images:", total, Unit::Items)?);
    let done = AtomicU64::new(0);
    for (index, (domain, set)) in styles.iter().enumerate() {
        chosen.par_iter().try_for_each(|emoji| {
            let name = &emoji.icons[index];
            let path = folder.join(domain).join(&emoji.class).join(format!("{}.png", emoji.stem));
            let (icon, view_box) = set.icon(name).with_context(|| format!("{domain} has no icon {name}"))?;
            let pixels = render(icon, view_box).with_context(|| format!("cannot render {domain} {name}"))?;
            write(&pixels, &path).with_context(|| format!("cannot write {}", path.display()))?;
            let count = done.fetch_add(1, Ordering::Relaxed) + 1;
            // A bar that another thread is drawing is as good as ours.
            if let Ok(mut progress) = progress.try_lock() {
                progress.set(count);
            }
            Ok::<(), anyhow::Error>(())
        })?;
    }
    Ok(())
}

/// An icon on white, as large as fits, centred: RGB, row by row.
fn render(icon: &Icon, view_box: ViewBox) -> Result<Vec<u8>> {
    let ViewBox { left, top, width, height } = view_box;
    // `color` is what `currentColor` means in one-coloured sets.
    let svg = format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" color="#000000"
            width="{width}" height="{height}" viewBox="{left} {top} {width} {height}">{}</svg>"##,
        icon.body
    );
    let tree = Tree::from_str(&svg, &Options::default()).context("the SVG is not valid")?;
    let size = tree.size();
    let pixels = PIXELS as f32;
    let scale = pixels / size.width().max(size.height());
    let shift = |length: f32| (pixels - scale * length) / 2.0;
    let transform =
        Transform::from_scale(scale, scale).post_translate(shift(size.width()), shift(size.height()));
    let mut pixmap = Pixmap::new(PIXELS, PIXELS).context("no image of that size")?;
    pixmap.fill(Color::WHITE);
    resvg::render(&tree, transform, &mut pixmap.as_mut());
    // On an opaque ground alpha is 255 everywhere, so that premultiplied and plain colours are equal.
    let mut rgb = Vec::with_capacity((PIXELS * PIXELS * 3) as usize);
    for rgba in pixmap.data().chunks_exact(4) {
        rgb.extend_from_slice(&rgba[..3]);
    }
    Ok(rgb)
}

fn write(rgb: &[u8], path: &Path) -> Result<()> {
    let mut encoder = png::Encoder::new(BufWriter::new(File::create(path)?), PIXELS, PIXELS);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(rgb)?;
    writer.finish()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn icon(body: &str) -> Icon {
        serde_json::from_value(serde_json::json!({ "body": body })).unwrap()
    }

    fn pixel(rgb: &[u8], x: usize, y: usize) -> [u8; 3] {
        let start = (y * PIXELS as usize + x) * 3;
        [rgb[start], rgb[start + 1], rgb[start + 2]]
    }

    #[test]
    fn current_colour_is_black_on_white() {
        let square = icon(r#"<path fill="currentColor" d="M0 0h16v32H0z"/>"#);
        let rgb = render(&square, ViewBox { left: 0.0, top: 0.0, width: 32.0, height: 32.0 }).unwrap();
        assert_eq!(rgb.len(), 96 * 96 * 3);
        assert_eq!(pixel(&rgb, 10, 50), [0, 0, 0]);
        assert_eq!(pixel(&rgb, 80, 50), [255, 255, 255]);
    }

    #[test]
    fn a_tall_icon_is_centred_and_a_shifted_box_is_honoured() {
        let red = icon(r##"<path fill="#ff0000" d="M10 10h10v20H10z"/>"##);
        let rgb = render(&red, ViewBox { left: 10.0, top: 10.0, width: 10.0, height: 20.0 }).unwrap();
        assert_eq!(pixel(&rgb, 10, 50), [255, 255, 255]);
        assert_eq!(pixel(&rgb, 48, 2), [255, 0, 0]);
        assert_eq!(pixel(&rgb, 90, 50), [255, 255, 255]);
    }

    #[test]
    fn broken_svg_is_an_error() {
        let view_box = ViewBox { left: 0.0, top: 0.0, width: 32.0, height: 32.0 };
        assert!(render(&icon("<g>"), view_box).is_err());
    }
}
