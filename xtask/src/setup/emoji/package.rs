//! What is read out of the npm packages: icon sets, and the table of emoji names and groups.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read as _};
use std::path::Path;

use anyhow::{Context, Result};
use flate2::read::GzDecoder;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tar::Archive;

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
    /// Reads `icons.json` and `chars.json` of a package.
    pub fn read(tarball: &Path) -> Result<Self> {
        let [icons, chars] = files(tarball, ["package/icons.json", "package/chars.json"])?;
        let file: IconsFile = parse(tarball, &icons)?;
        let names: HashMap<String, String> = parse(tarball, &chars)?;
        let mut chars = HashMap::new();
        for (spelling, name) in names {
            // Aliases may mirror or turn another icon; none of our emoji needs one, so they are left out.
            if file.icons.contains_key(&name) {
                let points = hexadecimal(&spelling)
                    .with_context(|| format!("{} names an odd emoji {spelling:?}", tarball.display()))?;
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
    /// Reads `data-by-emoji.json` and the licence.
    pub fn read(tarball: &Path) -> Result<Self> {
        let [table, licence] = files(tarball, ["package/data-by-emoji.json", "package/LICENSE"])?;
        let licence = String::from_utf8_lossy(&licence).into_owned();
        Ok(Self { emoji: parse(tarball, &table)?, licence })
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

fn parse<T: DeserializeOwned>(tarball: &Path, json: &[u8]) -> Result<T> {
    serde_json::from_slice(json).with_context(|| format!("{} holds unexpected JSON", tarball.display()))
}

/// The contents of the named files of a tarball.
fn files<const N: usize>(tarball: &Path, names: [&str; N]) -> Result<[Vec<u8>; N]> {
    let context = || format!("cannot read {}", tarball.display());
    let file = File::open(tarball).with_context(context)?;
    let mut archive = Archive::new(GzDecoder::new(BufReader::new(file)));
    let mut contents: [Option<Vec<u8>>; N] = [const { None }; N];
    for entry in archive.entries().with_context(context)? {
        let entry = entry.with_context(context)?;
        let path = entry.path().with_context(context)?.into_owned();
        if let Some(index) = names.iter().position(|name| path == Path::new(name)) {
            let mut content = Vec::new();
            entry.take(FILE_BYTES_MAX).read_to_end(&mut content).with_context(context)?;
            contents[index] = Some(content);
        }
    }
    let mut found = [const { Vec::new() }; N];
    for (index, content) in contents.into_iter().enumerate() {
        found[index] = content.with_context(|| format!("{} holds no {}", tarball.display(), names[index]))?;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, write::GzEncoder};

    #[test]
    fn spellings_of_one_emoji_are_equal() {
        let keycap = vec![0x23, 0x20e3];
        assert_eq!(code_points("#\u{fe0f}\u{20e3}"), keycap);
        assert_eq!(hexadecimal("0023-20e3").unwrap(), keycap);
        assert_eq!(hexadecimal("23-FE0F-20e3").unwrap(), keycap);
        assert!(hexadecimal("smile").is_err());
    }

    fn tarball(folder: &Path, files: &[(&str, &str)]) -> std::path::PathBuf {
        let path = folder.join("set.tgz");
        let mut builder =
            tar::Builder::new(GzEncoder::new(File::create(&path).unwrap(), Compression::fast()));
        for (name, content) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, name, content.as_bytes()).unwrap();
        }
        builder.into_inner().unwrap().finish().unwrap();
        path
    }

    #[test]
    fn an_icon_set_keeps_its_boxes_and_drops_aliases() {
        let folder = tempfile::tempdir().unwrap();
        let icons = r#"{"prefix":"p","icons":{"swan":{"body":"<g/>","height":33},"egg":{"body":"<g/>"}},
            "aliases":{"nest":{"parent":"egg","hFlip":true}},"width":32,"height":32}"#;
        let chars = r#"{"1f9a2":"swan","1f95a":"egg","1faba":"nest"}"#;
        let path = tarball(folder.path(), &[("package/icons.json", icons), ("package/chars.json", chars)]);
        let set = IconSet::read(&path).unwrap();
        assert_eq!(set.chars.len(), 2);
        let (_, swan) = set.icon("swan").unwrap();
        assert_eq!(swan, ViewBox { left: 0.0, top: 0.0, width: 32.0, height: 33.0 });
        assert!(set.icon("nest").is_none());
    }

    #[test]
    fn a_package_without_its_files_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = tarball(folder.path(), &[("package/icons.json", "{}")]);
        let error = format!("{:#}", IconSet::read(&path).unwrap_err());
        assert!(error.ends_with("set.tgz holds no package/chars.json"), "{error}");
    }
}
