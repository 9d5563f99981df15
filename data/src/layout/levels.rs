//! At which levels of a folder domains, classes and images lie, where it is not the usual `{domain}/{class}`.

use std::collections::BTreeSet;
use std::path::Path;

use super::image_files::image_folders;
use crate::error::DataError;

/// Names of folders that are parts or formats of a dataset and no classes, in lower case.
const PARTS: [&str; 20] = [
    "full",
    "all",
    "images",
    "image",
    "imgs",
    "img",
    "data",
    "jpegimages",
    "jpg",
    "jpeg",
    "png",
    "train",
    "training",
    "test",
    "testing",
    "val",
    "valid",
    "validation",
    "crossval",
    "cross_val",
];
/// Names of domains and classes that a message lists.
const LISTED_MAX: usize = 6;

/// Refuses a folder whose images do not lie in `<domain>/<class>`, with the layout that says where they are.
pub(super) fn refuse_other_levels(dataset: &Path) -> Result<(), DataError> {
    match advice(&image_folders(dataset)?) {
        Some(reason) => Err(DataError::bad_data(dataset, reason)),
        None => Ok(()),
    }
}

/// Where the images lie, if that is clearly not in `<domain>/<class>`, and how to say so.
fn advice(folders: &[Vec<String>]) -> Option<String> {
    let depth = folders.first()?.len();
    if folders.iter().any(|folder| folder.len() != depth) {
        return None;
    }
    match depth {
        0 | 1 => Some(format!(
            "its images lie in {}, without a level of domains: they must lie in DOMAIN/CLASS/IMAGE",
            if depth == 0 { "the folder itself".to_owned() } else { list(names(folders, 0)) }
        )),
        3 => three_levels(folders),
        _ => None,
    }
}

/// One level more than usual: above, or between domains and classes. Below the classes it is as usual.
fn three_levels(folders: &[Vec<String>]) -> Option<String> {
    let [first, second, third] = [0, 1, 2].map(|level| names(folders, level));
    if third.len() < 2 {
        return None;
    }
    if first.len() == 1 && second.len() >= 2 {
        let layout = format!("{}/{{domain}}/{{class}}", list(&first));
        return Some(format!(
            "its domains ({}) lie in a folder of their own, {}: write layout = \"{layout}\" under [data]",
            list(&second),
            list(&first)
        ));
    }
    let is_part = |name: &&str| PARTS.contains(&name.to_ascii_lowercase().as_str());
    let below = |domain: &str, name: &str| -> BTreeSet<&str> {
        let inside = folders.iter().filter(|folder| folder[0] == domain && folder[1] == name);
        inside.map(|folder| folder[2].as_str()).collect()
    };
    let everywhere = |name: &&&str| first.iter().all(|domain| !below(domain, name).is_empty());
    let crossed = || {
        !third.iter().all(is_part)
            && first.iter().all(|domain| second.iter().all(|name| below(domain, name) == third))
    };
    if first.len() < 2 || !(second.len() == 1 || second.iter().all(is_part) || crossed()) {
        return None;
    }
    let order = |name: &&&str| {
        PARTS.iter().position(|part| *part == name.to_ascii_lowercase()).unwrap_or(PARTS.len())
    };
    let chosen = second.iter().filter(everywhere).min_by_key(order)?;
    let or = match second.len() {
        1 => String::new(),
        _ => format!(", or \"{{domain}}/{{class}}\" if {} are the classes", list(&second)),
    };
    Some(format!(
        "between its domains ({}) and classes ({}) is one more level of folders ({}): write layout = \"{{domain}}/{chosen}/{{class}}\" under [data]{or}",
        list(&first),
        list(&third),
        list(&second)
    ))
}

fn names(folders: &[Vec<String>], level: usize) -> BTreeSet<&str> {
    folders.iter().map(|folder| folder[level].as_str()).collect()
}

/// The first of some names.
pub(super) fn list<T: AsRef<str>>(names: impl IntoIterator<Item = T>) -> String {
    let names: Vec<T> = names.into_iter().collect();
    let shown: Vec<&str> = names.iter().take(LISTED_MAX).map(AsRef::as_ref).collect();
    let more = names.len() - shown.len();
    if more == 0 { shown.join(", ") } else { format!("{} and {more} more", shown.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn advice_of(folders: &[&str]) -> Option<String> {
        let folders: Vec<Vec<String>> =
            folders.iter().map(|folder| folder.split('/').map(str::to_owned).collect()).collect();
        advice(&folders)
    }

    /// Every path of one name of each level.
    fn grid(levels: [&[&str]; 3]) -> Vec<String> {
        let mut paths = Vec::new();
        for first in levels[0] {
            for second in levels[1] {
                paths.extend(levels[2].iter().map(|third| format!("{first}/{second}/{third}")));
            }
        }
        paths
    }

    fn of_grid(levels: [&[&str]; 3]) -> Option<String> {
        let paths = grid(levels);
        advice_of(&paths.iter().map(String::as_str).collect::<Vec<_>>())
    }

    #[test]
    fn the_level_that_is_too_many_is_named_with_the_layout() {
        for (levels, words) in [
            (
                [&["amazon", "dslr"][..], &["images"], &["bike", "mug"]],
                "layout = \"{domain}/images/{class}\" under [data]",
            ),
            (
                [&["CALTECH", "SUN"], &["crossval", "full", "test", "train"], &["0", "1"]],
                "layout = \"{domain}/full/{class}\" under [data], or \"{domain}/{class}\" if crossval, full, test, train are",
            ),
            (
                [&["ink", "oil"], &["b site", "a site"], &["cat", "dog"]],
                "layout = \"{domain}/a site/{class}\"",
            ),
            ([&["v2"], &["ink", "oil"], &["cat", "dog"]], "layout = \"v2/{domain}/{class}\""),
        ] {
            let advice = of_grid(levels).unwrap();
            assert!(advice.contains(words) && advice.lines().count() == 1, "{advice}");
        }
        assert!(advice_of(&["cat", "dog"]).unwrap().contains("cat, dog, without a level of domains"));
        assert!(advice_of(&[]).is_none());
    }

    #[test]
    fn a_part_that_lacks_a_class_is_still_a_part() {
        let folders = ["a/train/x", "a/train/y", "a/test/x", "b/train/x", "b/train/y", "b/test/y"];
        assert!(advice_of(&folders).unwrap().contains("{domain}/train/{class}"));
    }

    #[test]
    fn folders_below_classes_are_as_usual() {
        assert_eq!(of_grid([&["ink", "oil"], &["cat", "dog"], &["train", "test"]]), None);
        assert_eq!(of_grid([&["ink", "oil"], &["cat", "dog"], &["full"]]), None);
        assert_eq!(advice_of(&["a/cat/v1", "a/cat/v2", "a/dog/v3", "b/cat/v4", "b/dog/v5"]), None);
        assert_eq!(advice_of(&["a/x", "a/y", "b/x", "b/y"]), None);
        assert_eq!(advice_of(&["a/x", "a/y/deep", "b/x", "b/y"]), None);
    }
}
