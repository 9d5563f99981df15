//! Versions of libtorch folders and Python's torch packages.

use std::fs;
use std::path::Path;

/// The version that a folder tells in `build-version` (libtorch) or `version.py` (Python's torch package).
pub fn of_folder(folder: &Path) -> Option<String> {
    if let Ok(text) = fs::read_to_string(folder.join("build-version")) {
        return Some(text.trim().to_owned());
    }
    let text = fs::read_to_string(folder.join("version.py")).ok()?;
    python_text(&text, "__version__")
}

/// A version without its local part: `2.11.0` of `2.11.0+cu130`.
pub fn release(version: &str) -> &str {
    version.split_once('+').map_or(version, |(release, _)| release).trim()
}

/// The string that a Python file assigns to `name`; none if it assigns no string.
pub fn python_text(source: &str, name: &str) -> Option<String> {
    for line in source.lines() {
        let Some((left, right)) = line.split_once('=') else { continue };
        // An annotation may follow the name: `cuda: Optional[str] = '13.0'`.
        if left.split(':').next().map(str::trim) != Some(name) {
            continue;
        }
        let value = right.trim();
        let quoted = [('\'', '\''), ('"', '"')]
            .iter()
            .find_map(|(open, close)| value.strip_prefix(*open).and_then(|rest| rest.strip_suffix(*close)));
        return quoted.map(str::to_owned);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERSION_PY: &str = "from typing import Optional\n\n__all__ = ['__version__', 'cuda']\n\
        __version__ = '2.11.0+cu130'\ndebug = False\ncuda: Optional[str] = '13.0'\nhip: Optional[str] = None\n";

    #[test]
    fn versions_are_read_from_both_kinds_of_folder() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(of_folder(folder.path()), None);
        fs::write(folder.path().join("version.py"), VERSION_PY).unwrap();
        assert_eq!(of_folder(folder.path()).as_deref(), Some("2.11.0+cu130"));
        fs::write(folder.path().join("build-version"), "2.10.0+cpu\n").unwrap();
        assert_eq!(of_folder(folder.path()).as_deref(), Some("2.10.0+cpu"));
    }

    #[test]
    fn annotated_and_absent_values_of_version_py() {
        assert_eq!(python_text(VERSION_PY, "cuda").as_deref(), Some("13.0"));
        assert_eq!(python_text(VERSION_PY, "hip"), None);
        assert_eq!(python_text(VERSION_PY, "xpu"), None);
    }

    #[test]
    fn the_release_has_no_local_part() {
        for (version, expected) in
            [("2.11.0+cu130", "2.11.0"), ("2.11.0", "2.11.0"), ("2.11.0.dev1", "2.11.0.dev1")]
        {
            assert_eq!(release(version), expected);
        }
    }
}
