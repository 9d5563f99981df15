//! The datasets that a sweep file can name without listing their domains and classes.

use crate::finetune::SplitBy;
use crate::trial::DatasetSpec;

struct Entry {
    folder: &'static str,
    split_by: SplitBy,
    domains: &'static str,
    classes: &'static str,
}

/// Domains and classes sorted, space separated, as the folders below the data root are named (docs/protocol.md, "Data protocol").
const ENTRIES: &[Entry] = &[
    // The probability that a digit's colour disagrees with its label (DomainBed's environments, in its order).
    Entry { folder: "ColoredMNIST", split_by: SplitBy::Image, domains: "0.1 0.2 0.9", classes: "0 1" },
    Entry {
        folder: "EmojiStyles",
        split_by: SplitBy::Stem,
        domains: "flat mono noto openmoji",
        classes: "activities animals_nature food_drink objects smileys_emotion symbols travel_places",
    },
    Entry {
        folder: "PACS",
        split_by: SplitBy::Image,
        domains: "art_painting cartoon photo sketch",
        classes: "dog elephant giraffe guitar horse house person",
    },
    // The angle, in degrees.
    Entry { folder: "RotatedMNIST", split_by: SplitBy::Image, domains: "0 15 30 45 60 75", classes: "0 1 2 3 4 5 6 7 8 9" },
    Entry { folder: "VLCS", split_by: SplitBy::Image, domains: "Caltech101 LabelMe SUN09 VOC2007", classes: "bird car chair dog person" },
    Entry {
        folder: "terra_incognita",
        split_by: SplitBy::Image,
        domains: "location_100 location_38 location_43 location_46",
        classes: "bird bobcat cat coyote dog empty opossum rabbit raccoon squirrel",
    },
];

/// The names that [`find`] knows, for messages.
pub fn names() -> Vec<&'static str> {
    ENTRIES.iter().map(|entry| entry.folder).collect()
}

/// A dataset of the catalogue by its folder's name.
pub fn find(name: &str) -> Option<DatasetSpec> {
    let entry = ENTRIES.iter().find(|entry| entry.folder == name)?;
    let words = |text: &str| text.split(' ').map(str::to_owned).collect();
    Some(DatasetSpec {
        name: entry.folder.to_owned(),
        domains: words(entry.domains),
        classes: words(entry.classes),
        split_by: entry.split_by,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domains_and_classes_are_sorted_and_distinct() {
        for name in names() {
            let dataset = find(name).unwrap();
            for list in [&dataset.domains, &dataset.classes] {
                assert!(list.is_sorted_by(|a, b| a < b), "{name}: {list:?}");
            }
        }
    }
}
