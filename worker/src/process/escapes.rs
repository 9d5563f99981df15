//! Terminal escapes: colours, movements of the cursor, titles of windows.

const ESCAPE: u8 = 0x1b;

/// The bytes without terminal escapes.
pub(crate) fn without_escapes(bytes: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|&byte| byte == ESCAPE) {
        plain.extend_from_slice(&rest[..at]);
        rest = after_escape(&rest[at + 1..]);
    }
    plain.extend_from_slice(rest);
    plain
}

/// What follows an escape whose first byte was taken (ECMA-48, section 5).
fn after_escape(rest: &[u8]) -> &[u8] {
    let skipped = |from: usize, kind: fn(&u8) -> bool| {
        let bytes = rest.get(from..).unwrap_or_default();
        from + bytes.iter().position(|byte| !kind(byte)).unwrap_or(bytes.len())
    };
    let length = match rest.first() {
        None => 0,
        // A control sequence: parameters, intermediate bytes, a final byte.
        Some(b'[') => skipped(1, |byte| (0x20..0x40).contains(byte)) + 1,
        // A string until BEL or `ESC \`. One without an end would hide all that follows, so only its beginning is taken away.
        Some(b']' | b'P' | b'X' | b'^' | b'_') => {
            let end = rest.iter().position(|&byte| byte == 0x07).map(|at| at + 1);
            let other = rest.windows(2).position(|pair| pair == [ESCAPE, b'\\']).map(|at| at + 2);
            end.into_iter().chain(other).min().unwrap_or(1)
        }
        // Such as the choice of a character set: intermediate bytes, a final byte.
        Some(0x20..0x30) => skipped(0, |byte| (0x20..0x30).contains(byte)) + 1,
        Some(_) => 1,
    };
    rest.get(length..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn escapes_are_taken_off_and_nothing_else() {
        for (text, plain) in [
            ("plain é {\"step\":1}", "plain é {\"step\":1}"),
            ("wandb: \x1b[34mhello\x1b[0m", "wandb: hello"),
            ("\x1b[1;38;5;200m{\"step\":\x1b[0m3}\x1b[K", "{\"step\":3}"),
            ("\x1b[?25l\x1b[2Jx\x1b[A", "x"),
            ("\x1b]0;title\x07a\x1b]8;;http://x\x1b\\b", "ab"),
            ("\x1b]no end {\"step\":1}", "no end {\"step\":1}"),
            ("a\x1b(Bb\x1b=c\x1b", "abc"),
            ("\x1b[", ""),
        ] {
            assert_eq!(String::from_utf8(without_escapes(text.as_bytes())).unwrap(), plain, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn what_has_no_escape_stays(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let read = without_escapes(&bytes);
            prop_assert!(!read.contains(&ESCAPE));
            if !bytes.contains(&ESCAPE) {
                prop_assert_eq!(read, bytes);
            }
        }
    }
}
