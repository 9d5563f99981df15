//! The JSON objects on a line, between whatever else stands there: a progress bar, a log's prefix, another object.

use std::borrow::Cow;

use serde::de::IgnoredAny;

/// Braces of one line that open no object: each may cost a look at the rest of the line.
const FALSE_STARTS_MAX: usize = 100;

/// A part of a line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// A whole object, as Python's json module writes it: with NaN and Infinity, which are no JSON.
    Object(&'a str),
    /// What stands between objects.
    Other(&'a str),
}

/// The parts of a line, in order. Objects inside of objects are parts of these.
pub(super) fn pieces(line: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let (mut other_from, mut at, mut false_starts) = (0, 0, 0);
    while let Some(open) = line[at..].find('{').map(|found| at + found) {
        let object = balanced(&line[open..]).map(|length| &line[open..open + length]);
        let Some(object) = object.filter(|object| is_json(object)) else {
            false_starts += 1;
            if false_starts == FALSE_STARTS_MAX {
                break;
            }
            at = open + 1;
            continue;
        };
        if open > other_from {
            pieces.push(Piece::Other(&line[other_from..open]));
        }
        pieces.push(Piece::Object(object));
        at = open + object.len();
        other_from = at;
    }
    if other_from < line.len() {
        pieces.push(Piece::Other(&line[other_from..]));
    }
    pieces
}

/// How long the text is up to the brace that closes its first one.
fn balanced(text: &str) -> Option<usize> {
    let (mut depth, mut inside, mut escaped) = (0_usize, false, false);
    for (index, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if inside => escaped = true,
            b'"' => inside = !inside,
            b'{' if !inside => depth += 1,
            b'}' if !inside => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return Some(index + 1);
                }
            }
            _ => {}
        }
    }
    None
}

fn is_json(text: &str) -> bool {
    serde_json::from_str::<IgnoredAny>(&quote_non_numbers(text)).is_ok()
}

/// Puts quotes around what Python's json module prints for floats that are not finite, which is no JSON.
pub(super) fn quote_non_numbers(text: &str) -> Cow<'_, str> {
    const WORDS: [&str; 3] = ["NaN", "-Infinity", "Infinity"];
    if !text.contains("NaN") && !text.contains("Infinity") {
        return Cow::Borrowed(text);
    }
    let mut quoted = String::with_capacity(text.len() + 16);
    let (mut rest, mut inside) = (text, false);
    while let Some(first) = rest.chars().next() {
        let word = WORDS.into_iter().find(|word| !inside && rest.starts_with(word));
        let taken = match word {
            Some(word) => word.len(),
            // An escaped quote does not end a string.
            None if inside && first == '\\' => 1 + rest[1..].chars().next().map_or(0, char::len_utf8),
            None => first.len_utf8(),
        };
        inside ^= word.is_none() && first == '"';
        let mark = if word.is_some() { "\"" } else { "" };
        quoted.extend([mark, &rest[..taken], mark]);
        rest = &rest[taken..];
    }
    Cow::Owned(quoted)
}

#[cfg(test)]
mod tests {
    use super::Piece::{Object, Other};
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn objects_are_found_wherever_they_stand() {
        let bar = " 33%|###   | 100/300 [00:01<00:02, 90.1it/s]";
        for (line, expected) in [
            (r#"{"step":1}"#.to_owned(), vec![Object(r#"{"step":1}"#)]),
            (format!(r#"{bar}{{"step":1}}"#), vec![Other(bar), Object(r#"{"step":1}"#)]),
            (
                r#"[2026-11-29 INFO] it's {rank} "a {"a":{"b":"}"}} b {"c":NaN}"#.to_owned(),
                vec![
                    Other(r#"[2026-11-29 INFO] it's {rank} "a "#),
                    Object(r#"{"a":{"b":"}"}}"#),
                    Other(" b "),
                    Object(r#"{"c":NaN}"#),
                ],
            ),
            (r#"{"a":1}{"b":2}"#.to_owned(), vec![Object(r#"{"a":1}"#), Object(r#"{"b":2}"#)]),
            ("{'step': 3}".to_owned(), vec![Other("{'step': 3}")]),
            (r#"{x {"a":"{\"}"}"#.to_owned(), vec![Other("{x "), Object(r#"{"a":"{\"}"}"#)]),
            (r#"{"a":1"#.to_owned(), vec![Other(r#"{"a":1"#)]),
            (String::new(), vec![]),
        ] {
            assert_eq!(pieces(&line), expected, "{line}");
        }
    }

    #[test]
    fn a_line_of_braces_costs_little() {
        let line = "{".repeat(1 << 20);
        assert_eq!(pieces(&line), [Other(line.as_str())]);
        let line = format!("{}{}", "{ ".repeat(FALSE_STARTS_MAX - 1), r#"{"a":1}"#);
        assert_eq!(pieces(&line).len(), 2);
    }

    proptest! {
        /// Nothing of a line is lost, and strings are never changed.
        #[test]
        fn pieces_make_the_line(line in "[{}\"\\\\:,a1é ]{0,60}", text in ".{0,60}") {
            let joined: String = pieces(&line).into_iter().map(|piece| match piece { Object(text) | Other(text) => text }).collect();
            prop_assert_eq!(joined, line);
            let text = serde_json::to_string(&format!("NaN{text}Infinity")).unwrap();
            prop_assert_eq!(quote_non_numbers(&text).into_owned(), text);
        }
    }
}
