//! Which images of each domain are `in` and which are `out`.

use std::collections::{BTreeSet, HashMap};

use sortie_core::split::{Split, split_indices};
use sortie_core::trial::SplitBy;

use super::Images;

/// The split of every domain, by domain index (docs/protocol.md, "Data protocol").
///
/// By image, each domain is permuted by itself. By stem, one permutation of the sorted stems of all domains decides, under the seed of
/// domain 0, so that the same object in another style is never on the other side; indices then ascend.
pub fn split_domains(images: &Images, domains: usize, split_by: SplitBy, split_seed: u64) -> Vec<Split> {
    match split_by {
        SplitBy::Image => {
            (0..domains).map(|domain| split_indices(split_seed, domain as u64, images.len(domain))).collect()
        }
        SplitBy::Stem => split_by_stem(images, domains, split_seed),
    }
}

fn split_by_stem(images: &Images, domains: usize, split_seed: u64) -> Vec<Split> {
    let stems: BTreeSet<&str> =
        (0..domains).flat_map(|domain| images.files(domain)).map(|file| file.stem.as_str()).collect();
    let split = split_indices(split_seed, 0, stems.len());
    let position: HashMap<&str, usize> =
        stems.into_iter().enumerate().map(|(index, stem)| (stem, index)).collect();
    let out: BTreeSet<usize> = split.out.into_iter().collect();
    let is_out = |stem: &str| position.get(stem).is_some_and(|index| out.contains(index));
    let split_domain = |domain: usize| {
        let stems = images.files(domain).enumerate();
        let (out, in_): (Vec<_>, Vec<_>) = stems.partition(|(_, file)| is_out(&file.stem));
        let indices = |files: Vec<(usize, _)>| files.into_iter().map(|(index, _)| index).collect();
        Split { in_: indices(in_), out: indices(out) }
    };
    (0..domains).map(split_domain).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DatasetFolder, NoProgress};
    use sortie_core::trial::{DatasetSpec, Layout, MissingClasses};

    /// Two domains; the second lacks one stem. One pixel each.
    fn images(root: &std::path::Path) -> Images {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        for (domain, count) in [("a", 20), ("b", 19)] {
            for index in 0..count {
                let class = if index % 3 == 0 { "x" } else { "y" };
                let folder = root.join("T").join(domain).join(class);
                std::fs::create_dir_all(&folder).unwrap();
                image::RgbImage::new(1, 1).save(folder.join(format!("{index:02}.png"))).unwrap();
            }
        }
        let spec = DatasetSpec {
            name: "T".into(),
            domains: words("a b"),
            classes: words("x y"),
            split_by: SplitBy::Stem,
            layout: Layout::default(),
            missing_classes: MissingClasses::default(),
        };
        Images::open(DatasetFolder::scan(root, &spec).unwrap(), &root.join("cache"), None, &NoProgress)
            .unwrap()
    }

    #[test]
    fn no_stem_is_on_both_sides_in_any_domain() {
        let root = tempfile::tempdir().unwrap();
        let images = images(root.path());
        let splits = split_domains(&images, 2, SplitBy::Stem, 0);
        let stems = |domain: usize, indices: &[usize]| -> BTreeSet<String> {
            let files: Vec<_> = images.files(domain).collect();
            indices.iter().map(|&index| files[index].stem.clone()).collect()
        };
        let out = stems(0, &splits[0].out);
        assert_eq!(out.len(), 4);
        assert!(stems(1, &splits[1].out).is_subset(&out) && stems(1, &splits[1].in_).is_disjoint(&out));
        assert_eq!(splits[1].in_.len() + splits[1].out.len(), 19);
        let by_image = split_domains(&images, 2, SplitBy::Image, 0);
        assert_eq!(by_image[1], split_indices(0, 1, 19));
        assert_ne!(splits, split_domains(&images, 2, SplitBy::Stem, 1));
    }
}
