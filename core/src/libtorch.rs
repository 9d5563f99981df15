//! Versions of libtorch. The C++ interface has no compatibility across releases, so exactly one release works, in any build of it.

/// The release that Sortie is compiled against and runs with.
pub const RELEASE: &str = "2.11.0";

/// A build without its local part: `2.11.0` of `2.11.0+cu130`.
pub fn release(build: &str) -> &str {
    build.split_once('+').map_or(build, |(release, _)| release).trim()
}

/// The build of a folder of libtorch or of Python's torch, read from `build-version` or `version.py`. `read` gives the text of a file in
/// that folder.
pub fn build_of(read: impl Fn(&str) -> Option<String>) -> Option<String> {
    let build_version = read("build-version").map(|text| text.trim().to_owned());
    build_version.or_else(|| python_text(&read("version.py")?, "__version__"))
}

/// The string that a Python file assigns to `name`; none if it assigns no string.
fn python_text(source: &str, name: &str) -> Option<String> {
    let assigned = source.lines().find_map(|line| {
        let (left, right) = line.split_once('=')?;
        // An annotation may follow the name: `cuda: Optional[str] = '13.0'`.
        (left.split(':').next().map(str::trim) == Some(name)).then(|| right.trim())
    })?;
    let quote = assigned.chars().next().filter(|quote| ['\'', '"'].contains(quote))?;
    assigned[1..].strip_suffix(quote).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_is_read_from_both_kinds_of_folder() {
        let python =
            "from typing import Optional\n__version__ = '2.11.0+cu130'\ncuda: Optional[str] = '13.0'\n";
        let of = |files: &[(&str, &str)]| {
            build_of(|name| files.iter().find(|(file, _)| *file == name).map(|(_, text)| (*text).to_owned()))
        };
        assert_eq!(of(&[("version.py", python)]).as_deref(), Some("2.11.0+cu130"));
        assert_eq!(of(&[("version.py", python), ("build-version", "2.10.0\n")]).as_deref(), Some("2.10.0"));
        assert_eq!(of(&[("version.py", "__version__ = None")]), None);
        assert_eq!(of(&[]), None);
        assert_eq!(python_text(python, "cuda").as_deref(), Some("13.0"));
        assert_eq!((release("2.11.0+cpu"), release("2.11.0")), (RELEASE, RELEASE));
    }
}
