//! Which emoji are in the dataset: those of seven groups that all four foundries have drawn.

use std::collections::{BTreeSet, HashMap};

use anyhow::{Result, bail};

use super::package::{CodePoints, Names, code_points};

/// Name of the dataset and of its folder.
pub const NAME: &str = "EmojiStyles";
/// Unicode's groups that become classes. People come in skin tones and flags are alike in all styles:
/// both are left out.
pub const GROUPS: [&str; 7] = [
    "Smileys & Emotion",
    "Animals & Nature",
    "Food & Drink",
    "Travel & Places",
    "Activities",
    "Objects",
    "Symbols",
];

/// An emoji of the dataset.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Emoji {
    /// Class folder, such as `food_drink`.
    pub class: String,
    /// File name without its ending; the same in all domains.
    pub stem: String,
    /// Name of its icon in each style, in the order of the styles.
    pub icons: Vec<String>,
}

/// The classes, sorted.
pub fn classes() -> Vec<String> {
    let mut classes: Vec<String> = GROUPS.iter().map(|group| slug(group)).collect();
    classes.sort();
    classes
}

/// The emoji that are in every one of `styles` (icon names by code points), sorted by class and stem.
pub fn select(names: &Names, styles: &[&HashMap<CodePoints, String>]) -> Result<Vec<Emoji>> {
    let mut chosen = Vec::new();
    for (emoji, named) in &names.emoji {
        let points = code_points(emoji);
        if !GROUPS.contains(&named.group.as_str()) || points.iter().any(|point| is_skin_tone(*point)) {
            continue;
        }
        if named.slug != slug(&named.slug) || named.slug.is_empty() {
            bail!("the emoji {emoji} has the slug {:?}, which makes no file name", named.slug);
        }
        let icons: Vec<String> = styles.iter().filter_map(|style| style.get(&points).cloned()).collect();
        if icons.len() == styles.len() {
            chosen.push(Emoji { class: slug(&named.group), stem: named.slug.clone(), icons });
        }
    }
    chosen.sort();
    let stems: BTreeSet<&str> = chosen.iter().map(|emoji| emoji.stem.as_str()).collect();
    if stems.len() != chosen.len() {
        bail!("two emoji have the same slug");
    }
    Ok(chosen)
}

/// Lower case, with one underscore for everything between words.
pub fn slug(text: &str) -> String {
    let words: Vec<String> = text
        .split(|character: char| !character.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_ascii_lowercase)
        .collect();
    words.join("_")
}

fn is_skin_tone(point: u32) -> bool {
    (0x1f3fb..=0x1f3ff).contains(&point)
}

#[cfg(test)]
mod tests {
    use super::super::package::Named;
    use super::*;

    fn named(slug: &str, group: &str) -> Named {
        Named { slug: slug.to_owned(), group: group.to_owned() }
    }

    fn style(entries: &[(&str, &str)]) -> HashMap<CodePoints, String> {
        entries.iter().map(|(emoji, name)| (code_points(emoji), (*name).to_owned())).collect()
    }

    fn names(entries: &[(&str, &str, &str)]) -> Names {
        let emoji =
            entries.iter().map(|(emoji, slug, group)| ((*emoji).to_owned(), named(slug, group))).collect();
        Names { emoji, licence: String::new() }
    }

    #[test]
    fn slugs_are_plain_file_names() {
        for (text, expected) in [
            ("Smileys & Emotion", "smileys_emotion"),
            ("Activities", "activities"),
            ("keycap_#", "keycap"),
            ("  Two  words-here ", "two_words_here"),
            ("", ""),
        ] {
            assert_eq!(slug(text), expected);
        }
    }

    #[test]
    fn only_emoji_of_every_style_and_of_the_seven_groups_are_taken() {
        let names = names(&[
            ("🥚", "egg", "Food & Drink"),
            ("☀\u{fe0f}", "sun", "Travel & Places"),
            ("🦢", "swan", "Animals & Nature"),
            ("👋", "waving_hand", "People & Body"),
        ]);
        let one = style(&[("🥚", "egg"), ("☀", "sun"), ("🦢", "swan"), ("👋", "hand")]);
        let two = style(&[("🥚", "fried-egg"), ("☀\u{fe0f}", "sunny"), ("👋", "hand")]);
        let chosen = select(&names, &[&one, &two]).unwrap();
        let found: Vec<_> = chosen
            .iter()
            .map(|emoji| (emoji.class.as_str(), emoji.stem.as_str(), emoji.icons.join(" ")))
            .collect();
        let expected = [("food_drink", "egg", "egg fried-egg"), ("travel_places", "sun", "sun sunny")];
        assert_eq!(found, expected.map(|(class, stem, icons)| (class, stem, icons.to_owned())));
    }

    #[test]
    fn skin_tones_are_left_out_and_odd_slugs_refused() {
        let toned = "🐻\u{1f3fb}";
        let all = style(&[(toned, "bear"), ("🥚", "egg"), ("🦢", "swan")]);
        assert!(select(&names(&[(toned, "bear", "Animals & Nature")]), &[&all]).unwrap().is_empty());
        assert!(select(&names(&[("🥚", "../egg", "Food & Drink")]), &[&all]).is_err());
        let twice = names(&[("🥚", "egg", "Food & Drink"), ("🦢", "egg", "Animals & Nature")]);
        assert!(select(&twice, &[&all]).is_err());
    }

    #[test]
    fn there_are_seven_sorted_classes() {
        assert_eq!(classes().len(), 7);
        assert!(classes().is_sorted());
    }
}
