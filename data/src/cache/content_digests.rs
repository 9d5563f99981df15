//! The digests of a dataset's files, cached in an index so that the start of a trial reads no image.
//!
//! `<cache>/images/index/<digest of the folder's path>.txt` has a first line with the BLAKE3 of all others, and one line per file,
//! `<BLAKE3> <size> <mtime> <ctime> <name>`, times in nanoseconds. A file whose size or times differ from the index is read again. A
//! damaged index counts as missing.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::shared_file::{Lock, replace};
use crate::error::DataError;
use crate::progress::{Progress, go_on};

const FILE_BYTES_MAX: u64 = 512 << 20;
const FIRST_WORDS: &str = "sortie contents 2";

/// A file that a dataset is made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Input<'a> {
    pub(crate) path: &'a Path,
    /// Its name in the dataset's digest.
    pub(crate) name: &'a str,
}

/// The size and times of a file, by which a change is noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    size: u64,
    modified_nanoseconds: i128,
    changed_nanoseconds: i128,
}

type DigestIndex = HashMap<String, (Stamp, blake3::Hash)>;

/// The content digests of files below `folder`, in their order, from the index as far as it goes.
pub(crate) fn digests(
    inputs: &[Input],
    folder: &Path,
    cache_dir: &Path,
    progress: &dyn Progress,
) -> Result<Vec<blake3::Hash>, DataError> {
    let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.to_path_buf());
    let name = blake3::hash(folder.as_os_str().as_encoded_bytes()).to_hex();
    let index: PathBuf = cache_dir.join("images/index").join(format!("{}.txt", &name[..32]));
    let stamps: Vec<Stamp> = inputs.par_iter().map(|input| stamp(input.path)).collect::<Result<_, _>>()?;
    let cached = |index: &DigestIndex| -> Vec<Option<blake3::Hash>> {
        let lookup = |(input, stamp): (&Input, &Stamp)| {
            index.get(input.name).filter(|(seen, _)| seen == stamp).map(|entry| entry.1)
        };
        inputs.iter().zip(&stamps).map(lookup).collect()
    };
    if let Some(all) = cached(&read_index(&index)).into_iter().collect() {
        return Ok(all);
    }
    let _lock = Lock::wait(&index.with_extension("lock"), progress)?;
    let cached = cached(&read_index(&index));
    progress.begin("reading", cached.iter().filter(|digest| digest.is_none()).count() as u64);
    let read = |(input, cached): (&Input, Option<blake3::Hash>)| match cached {
        Some(digest) => Ok(digest),
        None => {
            go_on(progress)?;
            let digest = blake3::hash(&read(input.path)?);
            progress.advance(1);
            Ok(digest)
        }
    };
    let results: Vec<Result<blake3::Hash, DataError>> = inputs.par_iter().zip(cached).map(read).collect();
    // The first fault in file order, whichever thread found one first.
    let digests: Vec<blake3::Hash> = results.into_iter().collect::<Result<_, _>>()?;
    replace(&index, index_text(inputs, &stamps, &digests).as_bytes())?;
    Ok(digests)
}

/// BLAKE3 over names and contents, in hexadecimal digits.
pub(crate) fn digest_of_all<'a>(files: impl Iterator<Item = (&'a str, blake3::Hash)>) -> String {
    let mut hasher = blake3::Hasher::new();
    for (name, content) in files {
        hasher.update(name.as_bytes());
        hasher.update(b"\0");
        hasher.update(content.as_bytes());
    }
    hasher.finalize().to_hex().to_string()
}

/// The whole content of a file, decompressed where its name ends in `.gz`.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, DataError> {
    let bad = |error: std::io::Error| DataError::bad_data(path, error);
    let too_long = || {
        DataError::bad_data(
            path,
            format!("it has more than the {FILE_BYTES_MAX} bytes that an image file may have"),
        )
    };
    if fs::metadata(path).map_err(bad)?.len() > FILE_BYTES_MAX {
        return Err(too_long());
    }
    let bytes = fs::read(path).map_err(bad)?;
    if path.extension().is_none_or(|extension| extension != "gz") {
        return Ok(bytes);
    }
    let mut content = Vec::new();
    flate2::read::MultiGzDecoder::new(&bytes[..])
        .take(FILE_BYTES_MAX + 1)
        .read_to_end(&mut content)
        .map_err(bad)?;
    if content.len() as u64 > FILE_BYTES_MAX { Err(too_long()) } else { Ok(content) }
}

fn stamp(path: &Path) -> Result<Stamp, DataError> {
    let metadata = fs::metadata(path).map_err(|error| DataError::bad_data(path, error))?;
    let nanoseconds = |seconds: i64, rest: i64| i128::from(seconds) * 1_000_000_000 + i128::from(rest);
    Ok(Stamp {
        size: metadata.len(),
        modified_nanoseconds: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
        changed_nanoseconds: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
    })
}

/// A missing or damaged index is empty: all files are read again.
fn read_index(path: &Path) -> DigestIndex {
    let text = fs::read_to_string(path).unwrap_or_default();
    match text.split_once('\n') {
        Some((first, lines)) if first == first_line(lines) => lines.lines().filter_map(index_line).collect(),
        _ => DigestIndex::new(),
    }
}

fn first_line(lines: &str) -> String {
    format!("{FIRST_WORDS} {}", blake3::hash(lines.as_bytes()).to_hex())
}

fn index_line(line: &str) -> Option<(String, (Stamp, blake3::Hash))> {
    let mut words = line.splitn(5, ' ');
    let digest = blake3::Hash::from_hex(words.next()?).ok()?;
    let size = words.next()?.parse().ok()?;
    let (modified_nanoseconds, changed_nanoseconds) =
        (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    Some((words.next()?.to_owned(), (Stamp { size, modified_nanoseconds, changed_nanoseconds }, digest)))
}

fn index_text(inputs: &[Input], stamps: &[Stamp], digests: &[blake3::Hash]) -> String {
    let mut text = String::new();
    for ((input, stamp), digest) in inputs.iter().zip(stamps).zip(digests) {
        let Stamp { size, modified_nanoseconds, changed_nanoseconds } = stamp;
        // A name with a line break would be read as two lines; such a file is read again each time.
        if !input.name.contains(['\n', '\r']) {
            // Writing to a string never fails.
            let _ = writeln!(
                text,
                "{} {size} {modified_nanoseconds} {changed_nanoseconds} {}",
                digest.to_hex(),
                input.name
            );
        }
    }
    format!("{}\n{text}", first_line(&text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NoProgress;
    use std::sync::atomic::{AtomicU64, Ordering};

    /// Counts the files that are read.
    #[derive(Default)]
    struct Reads(AtomicU64);

    impl Progress for Reads {
        fn begin(&self, _: &str, _: u64) {}
        fn advance(&self, files: u64) {
            self.0.fetch_add(files, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_file_is_read_again_only_when_its_stamp_changed() {
        let (folder, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let names = ["a b.png", "c.png"];
        let paths = names.map(|name| folder.path().join(name));
        let inputs = [0, 1].map(|index| Input { path: &paths[index], name: names[index] });
        let digests = || {
            let reads = Reads::default();
            let digests = digests(&inputs, folder.path(), cache.path(), &reads).unwrap();
            (digests, reads.0.into_inner())
        };
        for path in &paths {
            fs::write(path, "1").unwrap();
        }
        let (first, reads) = digests();
        assert_eq!((first[0], reads), (blake3::hash(b"1"), 2));
        assert_eq!(digests(), (first.clone(), 0));
        fs::write(&paths[1], "22").unwrap();
        assert_eq!(digests(), (vec![first[0], blake3::hash(b"22")], 1));
        assert_eq!(digests().1, 0);
        let index =
            fs::read_dir(cache.path().join("images/index")).unwrap().map(|entry| entry.unwrap().path());
        let index = index
            .into_iter()
            .find(|path| path.extension().is_some_and(|extension| extension == "txt"))
            .unwrap();
        fs::write(&index, "something else").unwrap();
        assert_eq!(digests().1, 2);
        // One digit of a digest: another content, if it were believed.
        let text = fs::read_to_string(&index).unwrap();
        let digest = first[0].to_hex();
        let digit = if digest.starts_with('0') { "1" } else { "0" };
        let changed = format!("{digit}{}", &digest[1..]);
        fs::write(&index, text.replace(&digest[..], &changed)).unwrap();
        assert_eq!(digests(), (vec![first[0], blake3::hash(b"22")], 2));
    }

    #[test]
    fn a_missing_file_is_named() {
        let cache = tempfile::tempdir().unwrap();
        let path = cache.path().join("gone.png");
        let error =
            digests(&[Input { path: &path, name: "gone.png" }], cache.path(), cache.path(), &NoProgress)
                .unwrap_err();
        assert!(error.to_string().contains("gone.png"), "{error}");
    }
}
