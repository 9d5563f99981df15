//! Where the images of a class of a domain lie below the folder of their dataset.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// More levels than any dataset has.
const PARTS_MAX: usize = 8;
const DOMAIN: &str = "{domain}";
const CLASS: &str = "{class}";

/// The folders between a dataset's folder and its images, such as `{domain}/images/{class}`; usually `{domain}/{class}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout(Vec<LayoutPart>);

/// One level of folders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LayoutPart {
    /// One folder for each domain.
    Domain,
    /// One folder for each class.
    Class,
    /// Always this folder.
    Folder(String),
}

/// Why a text is no layout, as what is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "folder names joined by '/', with {{domain}} and then {{class}} once each, such as {{domain}}/images/{{class}}; a folder's name has no '\\', brace or control character, and no leading '.'"
)]
pub struct BadLayout;

impl Layout {
    /// The levels, from the dataset's folder downwards.
    pub fn parts(&self) -> &[LayoutPart] {
        &self.0
    }

    /// Whether it is `{domain}/{class}`.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// The folder of a class of a domain, relative to the dataset's folder, with forward slashes.
    pub fn class_folder(&self, domain: &str, class: &str) -> String {
        let name = |part: &LayoutPart| match part {
            LayoutPart::Domain => domain.to_owned(),
            LayoutPart::Class => class.to_owned(),
            LayoutPart::Folder(name) => name.clone(),
        };
        self.0.iter().map(name).collect::<Vec<_>>().join("/")
    }
}

impl Default for Layout {
    fn default() -> Self {
        Self(vec![LayoutPart::Domain, LayoutPart::Class])
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.class_folder(DOMAIN, CLASS))
    }
}

impl FromStr for Layout {
    type Err = BadLayout;

    fn from_str(text: &str) -> Result<Self, BadLayout> {
        let part = |name: &str| match name {
            DOMAIN => Ok(LayoutPart::Domain),
            CLASS => Ok(LayoutPart::Class),
            name if name.is_empty() || name.starts_with('.') => Err(BadLayout),
            name if name.contains(|c: char| c.is_control() || "\\{}".contains(c)) => Err(BadLayout),
            name => Ok(LayoutPart::Folder(name.to_owned())),
        };
        let parts: Vec<LayoutPart> = text.split('/').map(part).collect::<Result<_, _>>()?;
        let named: Vec<&LayoutPart> =
            parts.iter().filter(|part| !matches!(part, LayoutPart::Folder(_))).collect();
        if parts.len() > PARTS_MAX || named != [&LayoutPart::Domain, &LayoutPart::Class] {
            return Err(BadLayout);
        }
        Ok(Self(parts))
    }
}

impl Serialize for Layout {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Layout {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layout_reads_back_and_names_a_class_folder() {
        for (text, folder) in [
            ("{domain}/{class}", "ink/cat"),
            ("{domain}/images/{class}", "ink/images/cat"),
            ("v 2+/{domain}/{class}/full", "v 2+/ink/cat/full"),
        ] {
            let layout: Layout = text.parse().unwrap();
            assert_eq!((layout.to_string(), layout.class_folder("ink", "cat")), (text.into(), folder.into()));
            assert_eq!(layout.is_default(), folder == "ink/cat");
        }
    }

    #[test]
    fn what_is_no_layout_is_refused() {
        for bad in [
            "",
            "{domain}",
            "{class}/{domain}",
            "{domain}/{class}/",
            "/{domain}/{class}",
            "{domain}//{class}",
            "{domain}/../{class}",
            "{domain}/{class}/{class}",
            "{domain}/{split}/{class}",
            "{domain}/a{class}",
            "{domain}/a\\b/{class}",
            "{domain}/a/b/c/d/e/f/g/{class}",
        ] {
            assert_eq!(bad.parse::<Layout>(), Err(BadLayout), "{bad}");
        }
    }
}
