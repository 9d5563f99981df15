//! What may not be shown because a password may stand in it.

/// What is shown in place of it.
pub const NOT_SHOWN: &str = "(not shown: it may hold a password)";

/// How the one-line form of an access file begins.
pub const ACCESS_LINE: &str = "sortie-access.";
/// How a token begins.
pub const TOKEN: &str = "sortie_";

/// Words beside which secrets stand, in small letters.
const WORDS: [&str; 4] = ["password", "passwd", "pwd=", "secret"];

/// Whether a text that a user wrote may hold a password: it looks like USER:PASSWORD@HOST, as any URL with an `@` does, or names one. It is
/// for texts that stand in a wrong place or cannot be read; what is known to be a password has a type that does not show it.
pub fn may_hold_password(text: &str) -> bool {
    let small = text.to_ascii_lowercase();
    text.split_once(':').is_some_and(|(_, rest)| rest.contains('@'))
        || WORDS.iter().any(|word| small.contains(word))
        || holds_token(text)
}

/// Whether a token or an access line of a coordinator stands in a text.
pub fn holds_token(text: &str) -> bool {
    let is_token =
        |rest: &str| rest.len() >= 16 && rest.bytes().take(16).all(|byte| byte.is_ascii_hexdigit());
    text.contains(ACCESS_LINE) || text.split(TOKEN).skip(1).any(is_token)
}

/// The text, unless it may hold a password.
pub fn shown(text: &str) -> &str {
    if may_hold_password(text) { NOT_SHOWN } else { text }
}

/// The address of a file as it may be shown. Its query is left out, since it may be a key to the file.
pub fn shown_address(url: &str) -> &str {
    if may_hold_password(url) { NOT_SHOWN } else { url.split(['?', '#']).next().unwrap_or_default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_with_a_user_and_named_passwords_are_not_shown() {
        for hidden in [
            "postgres://me:pass@host/db",
            "postgres:/me:pass@host",
            "me:pass@host/db",
            "http://key@host",
            "host=h user=u PassWord=pass",
            "postgres://host/db?password=pass",
            "{ passwd = \"x\" }",
            "AWS_SECRET_ACCESS_KEY=x",
            "sortie-access.YWRkcmVzc2Vz",
            "token = \"sortie_0123456789abcdef0123\"",
        ] {
            assert_eq!(shown(hidden), NOT_SHOWN, "{hidden}");
        }
        for plain in [
            "",
            "sortie.db",
            "sqlite://a/b.db",
            "http://127.0.0.1:7070",
            "me@host",
            "a@b:c",
            "10",
            "sortie_access.toml",
        ] {
            assert_eq!(shown(plain), plain);
        }
        assert_eq!(shown_address("https://host/a.pth?Signature=key"), "https://host/a.pth");
        for hidden in
            ["https://me:key@host/a.pth", "https://me:k?ey@host/a.pth", "https://host/a.pth?secret=key"]
        {
            assert_eq!(shown_address(hidden), NOT_SHOWN);
        }
    }
}
