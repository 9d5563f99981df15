//! What commands print: one JSON object, or text for people.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Serialize;

use crate::fonts;

/// Values that are shown one by one, and how many are where there are more.
const VALUES_SHOWN: usize = 8;
const VALUES_FIRST: usize = 5;
/// How many pixels of a PNG one unit of the SVG becomes: sharp at a single column's width in print.
const PNG_SCALE: f32 = 2.0;

/// Prints text as it is. An early end of the reader is an error that `main` forgives.
///
/// # Errors
/// What the system says.
pub fn text(text: &str) -> Result<()> {
    bytes(text.as_bytes())?;
    if !text.ends_with('\n') {
        bytes(b"\n")?;
    }
    Ok(())
}

/// Prints bytes as they are.
///
/// # Errors
/// What the system says.
pub fn bytes(bytes: &[u8]) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(bytes)?;
    Ok(stdout.flush()?)
}

/// A file that a user names. It appears under its name when it is complete, and not at all if that never comes.
pub struct NewFile {
    path: PathBuf,
    target: BufWriter<Target>,
}

/// What is written.
enum Target {
    /// A file, which has the permissions of the one that it replaces.
    New(sortie_files::NewFile),
    /// A terminal, a pipe or the like, which is written at once.
    Open(File),
}

impl NewFile {
    /// Begins one.
    ///
    /// # Errors
    /// One line that names the path.
    pub fn create(path: &Path) -> Result<Self> {
        let cannot = || format!("cannot write {}", path.display());
        // A link is followed: what it points to is what is replaced.
        let target = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let there = target.metadata().ok();
        if there.as_ref().is_some_and(|there| !there.is_file()) {
            let file = File::options().write(true).open(&target).with_context(cannot)?;
            return Ok(Self { path: target, target: BufWriter::new(Target::Open(file)) });
        }
        let mut new = sortie_files::NewFile::create(&target).with_context(cannot)?;
        if let Some(there) = there {
            new.file().set_permissions(there.permissions()).with_context(cannot)?;
        }
        Ok(Self { path: target, target: BufWriter::new(Target::New(new)) })
    }

    /// Gives it its name: it is complete.
    ///
    /// # Errors
    /// One line that names the path.
    pub fn finish(self) -> Result<()> {
        let cannot = || format!("cannot write {}", self.path.display());
        match self.target.into_inner().map_err(|failed| failed.into_error()).with_context(cannot)? {
            Target::New(new) => new.finish().with_context(cannot),
            Target::Open(_) => Ok(()),
        }
    }
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.target.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.target.flush()
    }
}

impl Write for Target {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self {
            Self::New(new) => new.write(bytes),
            Self::Open(file) => file.write(bytes),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        match self {
            Self::New(new) => new.flush(),
            Self::Open(file) => file.flush(),
        }
    }
}

/// Writes a whole file, as [`NewFile`] does.
///
/// # Errors
/// One line that names the path.
pub fn file(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = NewFile::create(path)?;
    file.write_all(bytes).with_context(|| format!("cannot write {}", path.display()))?;
    file.finish()
}

/// Writes a figure: as PNG or PDF if that is the file's ending, else as SVG.
///
/// # Errors
/// One line: the figure cannot be drawn, or the path cannot be written.
pub fn picture(path: &Path, svg: &str) -> Result<()> {
    match path.extension().and_then(|ending| ending.to_str()) {
        Some("png") => file(path, &sortie_analysis::png(svg, PNG_SCALE, other_fonts(svg))?),
        Some("pdf") => file(path, &sortie_analysis::pdf(svg, other_fonts(svg))?),
        _ => file(path, svg.as_bytes()),
    }
}

/// Fonts of this machine for the characters that the embedded font lacks. Notes those that no font has.
fn other_fonts(svg: &str) -> Vec<Vec<u8>> {
    let (found, missing) = fonts::that_have(sortie_analysis::uncovered(svg), &fonts::folders());
    if !missing.is_empty() {
        let missing: Vec<String> = missing.iter().map(char::to_string).collect();
        note(&format!(
            "the picture cannot show {}: no font of this machine has it; install one, such as Noto Sans CJK, or write a .svg",
            shortened(&missing)
        ));
    }
    found
}

/// Prints one JSON object.
///
/// # Errors
/// What the system says.
pub fn json(value: &impl Serialize) -> Result<()> {
    text(&serde_json::to_string(value)?)
}

/// Says something beside the output. Nobody may be there to read it, which is no failure.
pub fn note(note: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{note}");
}

/// Says on standard error what is allowed and may not be meant.
pub fn warn(warnings: &[String]) {
    warnings.iter().for_each(|warning| note(&format!("warning: {warning}")));
}

/// Values in one line; of many the first few, the last, and how many there are.
pub fn shortened(values: &[String]) -> String {
    match values.split_last() {
        Some((last, others)) if values.len() > VALUES_SHOWN => {
            format!("{}, ..., {last} ({} values)", others[..VALUES_FIRST].join(", "), values.len())
        }
        _ => values.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_file_is_complete_or_what_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let (path, link) = (folder.path().join("a.csv"), folder.path().join("link"));
        let names = || std::fs::read_dir(folder.path()).unwrap().count();
        let mut torn = NewFile::create(&path).unwrap();
        torn.write_all(b"half").unwrap();
        assert!(!path.exists() && names() == 1);
        drop(torn);
        assert_eq!(names(), 0);
        file(&path, b"whole").unwrap();
        assert_eq!((std::fs::read(&path).unwrap().as_slice(), names()), (b"whole".as_slice(), 1));
        // Others may read it as they may any file: the umask decides, and the file that was there before.
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        let ordinary = folder.path().join("ordinary");
        std::fs::write(&ordinary, "").unwrap();
        assert_eq!(mode(&path), mode(&ordinary));
        std::fs::remove_file(ordinary).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        file(&path, b"whole").unwrap();
        assert_eq!(mode(&path), 0o640);
        // Through a link it is the file that is replaced, and a device is written as it is.
        std::os::unix::fs::symlink(&path, &link).unwrap();
        file(&link, b"new").unwrap();
        assert!(link.is_symlink() && std::fs::read(&path).unwrap() == b"new");
        file(Path::new("/dev/null"), b"gone").unwrap();
        assert!(!Path::new("/dev/null").is_file());
        let error = file(&folder.path().join("none/a.csv"), b"").unwrap_err().to_string();
        assert!(error.starts_with("cannot write ") && error.ends_with("none/a.csv"), "{error}");
    }
}
