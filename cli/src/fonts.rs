//! The fonts of this machine, for the characters that the embedded one lacks.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use sortie_analysis::covered;

/// Folders that are looked into, at most.
const FOLDERS_MAX: usize = 10_000;
/// Larger files are no fonts.
const BYTES_MAX: u64 = 128 << 20;

/// Where fonts are installed: the user's own before the system's.
pub fn folders() -> Vec<PathBuf> {
    let user = directories::BaseDirs::new()
        .map(|user| [user.data_dir().join("fonts"), user.home_dir().join(".fonts")]);
    let system = ["/usr/local/share/fonts", "/usr/share/fonts"].map(PathBuf::from);
    user.into_iter().flatten().chain(system).collect()
}

/// The contents of font files that together have these characters, and the characters that none has. Reads nothing if none is wanted.
pub fn that_have(mut wanted: BTreeSet<char>, folders: &[PathBuf]) -> (Vec<Vec<u8>>, BTreeSet<char>) {
    let (mut found, mut seen) = (Vec::new(), BTreeSet::new());
    for folder in folders {
        look_into(folder, &mut seen, &mut wanted, &mut found);
    }
    (found, wanted)
}

/// In the order of names. What cannot be read is passed over, and what a link leads to is read once.
fn look_into(
    folder: &Path,
    seen: &mut BTreeSet<PathBuf>,
    wanted: &mut BTreeSet<char>,
    found: &mut Vec<Vec<u8>>,
) {
    let Ok(real) = folder.canonicalize() else { return };
    if seen.len() >= FOLDERS_MAX || !seen.insert(real) {
        return;
    }
    let mut paths: Vec<PathBuf> =
        fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        if wanted.is_empty() {
            return;
        }
        let Ok(there) = path.metadata() else { continue };
        if there.is_dir() {
            look_into(&path, seen, wanted, found);
        } else if there.is_file()
            && there.len() <= BYTES_MAX
            && is_font(&path)
            && let Ok(font) = fs::read(&path)
        {
            let new = covered(&font, wanted);
            if !new.is_empty() {
                wanted.retain(|character| !new.contains(character));
                found.push(font);
            }
        }
    }
}

fn is_font(path: &Path) -> bool {
    let ending = path.extension().map(|ending| ending.to_ascii_lowercase());
    ending.is_some_and(|ending| ["ttf", "otf", "ttc", "otc"].iter().any(|known| ending == *known))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fonts_are_read_only_for_what_they_have() {
        let folder = tempfile::tempdir().unwrap();
        let below = folder.path().join("truetype/some");
        fs::create_dir_all(&below).unwrap();
        fs::write(folder.path().join("a.ttf"), b"no font").unwrap();
        fs::write(below.join("read.me"), dejavu::sans::regular()).unwrap();
        std::os::unix::fs::symlink(folder.path(), below.join("up")).unwrap();
        let look = |wanted: &str| that_have(wanted.chars().collect(), &[folder.path().to_owned()]);
        assert_eq!(look("é\u{20000}"), (Vec::new(), BTreeSet::from(['é', '\u{20000}'])));
        fs::write(below.join("Sans.TTF"), dejavu::sans::regular()).unwrap();
        let (found, missing) = look("éж\u{20000}");
        assert_eq!((found.len(), missing), (1, BTreeSet::from(['\u{20000}'])));
        assert_eq!(look(""), (Vec::new(), BTreeSet::new()));
    }
}
