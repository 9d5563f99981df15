//! Files that hold secrets: nobody but their owner reads them.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::Path;

use sortie_files::NewFile;

use crate::AccessError;

/// Far more than such a file ever has.
const BYTES_MAX: u64 = 1 << 16;

/// The content of a private file; none if there is no file.
pub(crate) fn read(path: &Path) -> Result<Option<String>, AccessError> {
    let failed = |error| AccessError::File { verb: "read", path: path.to_owned(), error };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    if file.metadata().map_err(failed)?.permissions().mode() & 0o077 != 0 {
        return Err(AccessError::Shared(path.to_owned()));
    }
    let mut text = String::new();
    file.take(BYTES_MAX).read_to_string(&mut text).map_err(failed)?;
    Ok(Some(text))
}

/// Writes one, whole or not at all.
pub(crate) fn write(path: &Path, text: &str) -> Result<(), AccessError> {
    let write = || {
        let mut file = NewFile::create_private(path)?;
        file.write_all(text.as_bytes())?;
        file.finish_on_disk()
    };
    write().map_err(|error| AccessError::File { verb: "write", path: path.to_owned(), error })
}

/// Makes a folder that only its owner enters, with those above it.
pub(crate) fn folder(path: &Path) -> Result<(), AccessError> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|error| AccessError::File {
        verb: "make the folder",
        path: path.to_owned(),
        error,
    })
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;

    use super::*;

    #[test]
    fn what_others_may_read_is_refused() {
        let folder_of_test = tempfile::tempdir().unwrap();
        folder(&folder_of_test.path().join("a/b")).unwrap();
        let path = folder_of_test.path().join("a/b/secret");
        assert!(read(&path).unwrap().is_none());
        write(&path, "x").unwrap();
        assert_eq!(read(&path).unwrap().unwrap(), "x");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(path.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
        for mode in [0o640, 0o604, 0o620] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            let error = read(&path).unwrap_err();
            assert!(error.to_string().contains("chmod 600"), "{error}");
        }
    }
}
