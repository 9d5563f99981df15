//! What commands print: one JSON object, or text for people.

use std::ffi::OsString;
use std::fs::{File, Permissions};
use std::io::{BufWriter, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use sortie_core::trial::Point;
use tempfile::{Builder, TempPath};

/// Values that are shown one by one, and how many are where there are more.
const VALUES_SHOWN: usize = 8;
const VALUES_FIRST: usize = 5;

/// Prints text as it is. An early end of the reader is an error that [`crate::fail`] forgives.
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

/// A file that appears under its name when it is complete, and not at all if that never comes. Until then it lies beside that place under a
/// name of its own.
pub struct NewFile {
    path: PathBuf,
    /// Where it lies until it is complete; none if the path is no regular file but a terminal, a pipe or the like, which is written at once.
    partial: Option<TempPath>,
    file: BufWriter<File>,
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
            return Ok(Self { path: target, partial: None, file: BufWriter::new(file) });
        }
        let mut prefix = OsString::from(".");
        prefix.push(target.file_name().with_context(|| format!("{}: it names no file", cannot()))?);
        prefix.push(".");
        let folder = match target.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        // What every new file may be, less what the umask takes away.
        let permissions = Permissions::from_mode(0o666);
        let partial =
            Builder::new().prefix(&prefix).suffix(".partial").permissions(permissions).tempfile_in(folder);
        let (file, partial) = partial.with_context(cannot)?.into_parts();
        if let Some(there) = there {
            file.set_permissions(there.permissions()).with_context(cannot)?;
        }
        Ok(Self { path: target, partial: Some(partial), file: BufWriter::new(file) })
    }

    /// Gives it its name: it is complete.
    ///
    /// # Errors
    /// One line that names the path.
    pub fn finish(mut self) -> Result<()> {
        let cannot = || format!("cannot write {}", self.path.display());
        self.file.flush().with_context(cannot)?;
        if let Some(partial) = self.partial.take() {
            partial.persist(&self.path).map_err(|failed| failed.error).with_context(cannot)?;
        }
        Ok(())
    }
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
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

/// A table whose columns are only as wide as they need to be.
pub fn table<T: Into<comfy_table::Cell>>(header: impl IntoIterator<Item = T>) -> comfy_table::Table {
    let mut table = comfy_table::Table::new();
    table
        .load_style(comfy_table::presets::NOTHING)
        .set_header(header.into_iter().map(Into::into).collect::<Vec<_>>());
    table
}

/// A while in one short word: `12 s`, `3 m`, `5 h`, `2 d`.
pub fn short(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..100 => format!("{seconds} s"),
        100..6_000 => format!("{} m", seconds / 60),
        6_000..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
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

/// A trial's place in the grid, as JSON output names it: `held_out`, every parameter by its name, `seed` and `split`.
#[derive(Debug)]
pub struct PointOutput(Point);

impl From<Point> for PointOutput {
    fn from(point: Point) -> Self {
        Self(point)
    }
}

impl Serialize for PointOutput {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Point { parameters, seed, split_seed, .. } = &self.0;
        // No parameter is called like one of the others: `sortie_core::command::BUILT_IN` keeps those names.
        let mut map = serializer.serialize_map(Some(parameters.len() + 3))?;
        map.serialize_entry("held_out", &self.0.held_out_label())?;
        for (name, value) in parameters {
            map.serialize_entry(name, value)?;
        }
        map.serialize_entry("seed", seed)?;
        map.serialize_entry("split", split_seed)?;
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sortie_core::parameters::{Parameters, Scalar};

    #[test]
    fn a_point_is_flat() {
        let values = [
            ("lr", Scalar::Number(1e-3)),
            ("optimiser", Scalar::Text("adam".into())),
            ("fast", Scalar::Flag(true)),
        ];
        let parameters: Parameters = values.map(|(name, value)| (name.to_owned(), value)).into();
        let point =
            Point { held_out: vec!["photo".into(), "sketch".into()], parameters, seed: 3, split_seed: 1 };
        let json =
            r#"{"held_out":"photo+sketch","fast":true,"lr":0.001,"optimiser":"adam","seed":3,"split":1}"#;
        assert_eq!(serde_json::to_string(&PointOutput::from(point)).unwrap(), json);
    }

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

    #[test]
    fn a_while_is_one_word() {
        for (seconds, text) in
            [(0, "0 s"), (99, "99 s"), (185, "3 m"), (5_999, "99 m"), (7_300, "2 h"), (200_000, "2 d")]
        {
            assert_eq!(short(Duration::from_secs(seconds)), text);
        }
    }
}
