//! What is read out of the npm packages: icon sets, and the table of emoji names and groups.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// No file that we read out of a package is larger.
const FILE_BYTES_MAX: u64 = 256 << 20;
/// Iconify's rule where a set names no size.
const DEFAULT_SIZE: f32 = 16.0;

/// Code points of an emoji without the variation selector; two spellings of one emoji are equal.
pub type CodePoints = Vec<u32>;

/// An icon's SVG body and its box.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Icon {
    /// What stands inside the `svg` element.
    pub body: String,
    left: Option<f32>,
    top: Option<f32>,
    width: Option<f32>,
    height: Option<f32>,
}

/// Left, top, width and height of an icon in its own units.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ViewBox {
    /// Left edge.
    pub left: f32,
    /// Upper edge.
    pub top: f32,
    /// Width.
    pub width: f32,
    /// Height.
    pub height: f32,
}

/// An icon set of the Iconify collection.
#[derive(Debug)]
pub struct IconSet {
    /// Icons by name.
    icons: HashMap<String, Icon>,
    width: f32,
    height: f32,
    /// Names of those icons that stand for an emoji.
    pub chars: HashMap<CodePoints, String>,
}

#[derive(Deserialize)]
struct IconsFile {
    icons: HashMap<String, Icon>,
    width: Option<f32>,
    height: Option<f32>,
}

impl IconSet {
    /// Reads `icons.json` and `chars.json` of an installed package.
    pub fn read(package: &Path) -> Result<Self> {
        let file: IconsFile = parse(&package.join("icons.json"))?;
        let names: HashMap<String, String> = parse(&package.join("chars.json"))?;
        let mut chars = HashMap::new();
        for (spelling, name) in names {
            // Aliases may mirror or turn another icon; none of our emoji needs one, so they are left out.
            if file.icons.contains_key(&name) {
                let points = hexadecimal(&spelling)
                    .with_context(|| format!("{} names an odd emoji {spelling:?}", package.display()))?;
                chars.insert(points, name);
            }
        }
        Ok(Self {
            icons: file.icons,
            width: file.width.unwrap_or(DEFAULT_SIZE),
            height: file.height.unwrap_or(DEFAULT_SIZE),
            chars,
        })
    }

    /// The icon of that name and its box.
    pub fn icon(&self, name: &str) -> Option<(&Icon, ViewBox)> {
        let icon = self.icons.get(name)?;
        let view_box = ViewBox {
            left: icon.left.unwrap_or(0.0),
            top: icon.top.unwrap_or(0.0),
            width: icon.width.unwrap_or(self.width),
            height: icon.height.unwrap_or(self.height),
        };
        Some((icon, view_box))
    }
}

/// What Unicode says of an emoji.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Named {
    /// Name in lower case with underscores.
    pub slug: String,
    /// Group, such as `Food & Drink`.
    pub group: String,
}

/// The package of emoji names.
#[derive(Debug)]
pub struct Names {
    /// By emoji.
    pub emoji: HashMap<String, Named>,
    /// Text of the package's licence.
    pub licence: String,
}

impl Names {
    /// Reads `data-by-emoji.json` and the licence of the installed package.
    pub fn read(package: &Path) -> Result<Self> {
        let licence = String::from_utf8_lossy(&content(&package.join("LICENSE"))?).into_owned();
        Ok(Self { emoji: parse(&package.join("data-by-emoji.json"))?, licence })
    }
}

/// The code points of an emoji as it is written in text.
pub fn code_points(emoji: &str) -> CodePoints {
    emoji.chars().map(u32::from).filter(|point| !is_variation_selector(*point)).collect()
}

/// The code points of a spelling like `0023-20e3`.
fn hexadecimal(spelling: &str) -> Result<CodePoints> {
    let mut points = Vec::new();
    for part in spelling.split('-') {
        let point = u32::from_str_radix(part, 16).with_context(|| format!("{part:?} is no code point"))?;
        if !is_variation_selector(point) {
            points.push(point);
        }
    }
    Ok(points)
}

fn is_variation_selector(point: u32) -> bool {
    point == 0xfe0f
}

fn parse<T: DeserializeOwned>(path: &Path) -> Result<T> {
    serde_json::from_slice(&content(path)?)
        .with_context(|| format!("{} holds unexpected JSON", path.display()))
}

fn content(path: &Path) -> Result<Vec<u8>> {
    let context = || format!("cannot read {}", path.display());
    let mut content = Vec::new();
    File::open(path)
        .with_context(context)?
        .take(FILE_BYTES_MAX)
        .read_to_end(&mut content)
        .with_context(context)?;
    Ok(content)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn spellings_of_one_emoji_are_equal() {
        let keycap = vec![0x23, 0x20e3];
        assert_eq!(code_points("#\u{fe0f}\u{20e3}"), keycap);
        assert_eq!(hexadecimal("0023-20e3").unwrap(), keycap);
        assert_eq!(hexadecimal("23-FE0F-20e3").unwrap(), keycap);
        assert!(hexadecimal("smile").is_err());
    }

    #[test]
    fn an_icon_set_keeps_its_boxes_and_drops_aliases() {
        let folder = tempfile::tempdir().unwrap();
        let icons = r#"{"prefix":"p","icons":{"swan":{"body":"<g/>","height":33},"egg":{"body":"<g/>"}},
            "aliases":{"nest":{"parent":"egg","hFlip":true}},"width":32,"height":32}"#;
        let chars = r#"{"1f9a2":"swan","1f95a":"egg","1faba":"nest"}"#;
        fs::write(folder.path().join("icons.json"), icons).unwrap();
        fs::write(folder.path().join("chars.json"), chars).unwrap();
        let set = IconSet::read(folder.path()).unwrap();
        assert_eq!(set.chars.len(), 2);
        let (_, swan) = set.icon("swan").unwrap();
        assert_eq!(swan, ViewBox { left: 0.0, top: 0.0, width: 32.0, height: 33.0 });
        assert!(set.icon("nest").is_none());
    }

    #[test]
    fn a_package_without_its_files_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let error = |folder: &Path| format!("{:#}", IconSet::read(folder).unwrap_err());
        fs::write(folder.path().join("icons.json"), "{}").unwrap();
        assert!(error(folder.path()).contains("icons.json holds unexpected JSON"));
        fs::write(folder.path().join("icons.json"), r#"{"icons":{}}"#).unwrap();
        let missing = error(folder.path());
        assert!(missing.starts_with("cannot read ") && missing.contains("chars.json"), "{missing}");
    }
}
