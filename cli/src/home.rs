//! `~` at the start of a path: the user's home folder, wherever the path was written.

use std::ffi::OsStr;
use std::path::{Component, Path, PathBuf};

/// What is said of `~` before a name. The text itself may hold a password.
const OTHER_USER: &str = "the home folder of another user is not looked up: write the whole path, or ./~NAME for a file called ~NAME";
/// What may stand before the path of a file.
const SCHEMES: [&str; 3] = ["sqlite://", "sqlite:", "file://"];

/// The path, with the home folder in place of a `~` at its start.
///
/// # Errors
/// One line without the path: there is no home folder, or `~` stands before a user's name.
pub fn expand(path: &Path) -> Result<PathBuf, &'static str> {
    let mut parts = path.components();
    match parts.next() {
        Some(Component::Normal(first)) if first == OsStr::new("~") => {
            let folders = directories::BaseDirs::new().ok_or("there is no home folder for ~")?;
            // Without the empty path, which would add a slash.
            Ok(folders.home_dir().components().chain(parts).collect())
        }
        Some(Component::Normal(first)) if first.as_encoded_bytes().starts_with(b"~") => Err(OTHER_USER),
        _ => Ok(path.to_owned()),
    }
}

/// The path or URL of a file, likewise. Other texts stay as they are.
///
/// # Errors
/// As [`expand`].
pub fn expand_text(text: &str) -> Result<String, &'static str> {
    let scheme = SCHEMES.into_iter().find(|scheme| text.starts_with(scheme)).unwrap_or_default();
    let path = &text[scheme.len()..];
    if !path.starts_with('~') {
        return Ok(text.to_owned());
    }
    let expanded = expand(Path::new(path))?;
    Ok(format!("{scheme}{}", expanded.to_str().ok_or("the home folder's name is not UTF-8")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_leading_tilde_is_the_home_folder() {
        let home = directories::BaseDirs::new().unwrap().home_dir().to_str().unwrap().to_owned();
        for (text, expanded) in [
            ("~", home.clone()),
            ("~/runs/a.db", format!("{home}/runs/a.db")),
            ("sqlite://~/a.db", format!("sqlite://{home}/a.db")),
            ("sqlite:~/a.db", format!("sqlite:{home}/a.db")),
            ("file://~/store", format!("file://{home}/store")),
            ("./~x", "./~x".to_owned()),
            ("a/~/b", "a/~/b".to_owned()),
            ("postgres://~@host/db", "postgres://~@host/db".to_owned()),
            ("s3://bucket/~", "s3://bucket/~".to_owned()),
        ] {
            assert_eq!(expand_text(text), Ok(expanded), "{text}");
        }
        for text in ["~me/a.db", "sqlite://~me/a.db"] {
            assert_eq!(expand_text(text), Err(OTHER_USER), "{text}");
        }
        assert_eq!(expand(Path::new("~/a")).unwrap(), Path::new(&home).join("a"));
        assert_eq!(expand(Path::new("/~/a")).unwrap(), Path::new("/~/a"));
    }
}
