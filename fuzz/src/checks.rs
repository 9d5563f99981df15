//! What holds of everything that is refused.

use std::fmt::Display;

/// Fails unless a refusal is one line: what it quotes must not break it.
#[track_caller]
pub fn is_one_line(refusal: &impl Display) {
    let text = refusal.to_string();
    assert!(
        !text.is_empty() && text.lines().count() == 1,
        "a refusal of several lines, or of none: {text:?}"
    );
}

/// An input as a text, if it is one.
pub fn text_of(data: &[u8]) -> Option<&str> {
    std::str::from_utf8(data).ok()
}
