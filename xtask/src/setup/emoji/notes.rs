//! The texts beside the images: what they are, where they came from, whose they are.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::super::pins::{EMOJI_NAMES, EMOJI_STYLES, Npm};
use super::render::{PIXELS, RENDERER};
use super::select::{Emoji, NAME, classes};

/// Writes `dataset.toml`, `PROVENANCE.md` and a licence file for each package into the dataset's folder.
pub fn write(folder: &Path, chosen: &[Emoji], images_digest: &str, names_licence: &str) -> Result<()> {
    let mut files = vec![
        ("dataset.toml".to_owned(), dataset_toml()),
        ("PROVENANCE.md".to_owned(), provenance(chosen, images_digest)),
        ("LICENSE.names.txt".to_owned(), names_licence.to_owned()),
    ];
    for (domain, pin) in &EMOJI_STYLES {
        files.push((licence_name(domain), licence(domain, pin)?));
    }
    for (name, text) in files {
        let path = folder.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// `group = "stem"` keeps all styles of one emoji on one side of a split.
fn dataset_toml() -> String {
    let quoted =
        |words: &[String]| words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", ");
    let domains: Vec<String> = EMOJI_STYLES.iter().map(|(domain, _)| (*domain).to_owned()).collect();
    format!(
        "name = \"{NAME}\"\ndomains = [{}]\nclasses = [{}]\ngroup = \"stem\"\n",
        quoted(&domains),
        quoted(&classes())
    )
}

fn provenance(chosen: &[Emoji], images_digest: &str) -> String {
    let mut text = format!(
        "# {NAME}\n\n\
         The same {} emoji, drawn by four type foundries: {} images of {PIXELS} x {PIXELS} pixels.\n\
         The folders are DOMAIN/CLASS/STEM.png; an emoji has the same stem in every domain.\n\n\
         ## Sources\n\n\
         | use | npm package | version | licence | by | SHA-256 of the tarball |\n|---|---|---|---|---|---|\n",
        chosen.len(),
        chosen.len() * EMOJI_STYLES.len(),
    );
    let names = [("classes and stems".to_owned(), EMOJI_NAMES)];
    let styles = EMOJI_STYLES.iter().map(|(domain, pin)| (format!("domain `{domain}`"), *pin));
    for (role, pin) in names.into_iter().chain(styles) {
        let Npm { package, version, licence, author, sha256, .. } = pin;
        row(&mut text, &[&role, package, version, licence, author, sha256]);
    }
    let _ = write!(
        text,
        "\nThe licences are in the files `LICENSE.*.txt`. Images of the domain `openmoji` are adaptations of \
         OpenMoji under CC BY-SA 4.0.\n\n\
         ## How the images were made\n\n\
         Classes are the groups of Unicode; people and flags are left out, and so are skin tones. Emoji are matched \
         by their code points without U+FE0F; those that one of the four sets lacks are left out. Each SVG was \
         rendered by {RENDERER} on white, as large as fits and centred; `currentColor` is black.\n\n\
         SHA-256 over the sorted lines `SHA-256  DOMAIN/CLASS/STEM.png`: `{images_digest}`\n\n\
         ## Emoji per class\n\n| class | emoji |\n|---|---|\n"
    );
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for emoji in chosen {
        *counts.entry(&emoji.class).or_default() += 1;
    }
    for (class, count) in counts {
        row(&mut text, &[class, &count.to_string()]);
    }
    text
}

fn row(text: &mut String, cells: &[&str]) {
    text.push_str("| ");
    text.push_str(&cells.join(" | "));
    text.push_str(" |\n");
}

fn licence_name(domain: &str) -> String {
    format!("LICENSE.{domain}.txt")
}

/// The packages ship no licence text: what the licences ask for is written here.
fn licence(domain: &str, pin: &Npm) -> Result<String> {
    let body = match pin.licence {
        "MIT" => format!("Copyright (c) {}\n\n{MIT}", pin.author),
        "Apache-2.0" => format!("Copyright {}\n\n{APACHE}", pin.author),
        "CC-BY-SA-4.0" => CC_BY_SA.to_owned(),
        other => bail!("there is no text for the licence {other}"),
    };
    Ok(format!(
        "Images in the folder {domain}/, rendered from the npm package {}@{}.\nSPDX-License-Identifier: {}\n\n{body}",
        pin.package, pin.version, pin.licence
    ))
}

const MIT: &str = "\
Permission is hereby granted, free of charge, to any person obtaining a copy
of this software and associated documentation files (the \"Software\"), to deal
in the Software without restriction, including without limitation the rights
to use, copy, modify, merge, publish, distribute, sublicense, and/or sell
copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all
copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED \"AS IS\", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR
IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY,
FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER
LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE
SOFTWARE.
";

const APACHE: &str = "\
Licensed under the Apache License, Version 2.0 (the \"License\");
you may not use these files except in compliance with the License.
You may obtain a copy of the License at

    http://www.apache.org/licenses/LICENSE-2.0

Unless required by applicable law or agreed to in writing, software
distributed under the License is distributed on an \"AS IS\" BASIS,
WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
See the License for the specific language governing permissions and
limitations under the License.

The drawings were changed: rendered from SVG to PNG.
";

const CC_BY_SA: &str = "\
All emojis designed by OpenMoji - the open-source emoji and icon project (https://openmoji.org).
License: Creative Commons Attribution-ShareAlike 4.0 International (CC BY-SA 4.0),
https://creativecommons.org/licenses/by-sa/4.0/

The drawings were changed: rendered from SVG to PNG. The images in this folder are adapted
material and are under the same licence.
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dataset_names_domains_classes_and_the_group() {
        let text = dataset_toml();
        assert!(text.contains("domains = [\"flat\", \"mono\", \"noto\", \"openmoji\"]\n"), "{text}");
        assert!(text.contains("\"smileys_emotion\""));
        assert!(text.ends_with("group = \"stem\"\n"));
    }

    #[test]
    fn every_style_has_a_licence_text_and_is_named_as_a_source() {
        let emoji = Emoji { class: "objects".to_owned(), stem: "key".to_owned(), icons: Vec::new() };
        let text = provenance(&[emoji], "0123");
        for (domain, pin) in &EMOJI_STYLES {
            assert!(licence(domain, pin).unwrap().contains(pin.licence));
            assert!(text.contains(pin.sha256) && text.contains(pin.package));
        }
        assert!(text.contains("| objects | 1 |"));
    }
}
