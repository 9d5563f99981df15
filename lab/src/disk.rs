//! How long a disk takes to sync: every acknowledged claim and report waits for that.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::clock::now;
use crate::statistics::Percentiles;

/// A page of SQLite and half a page of PostgreSQL: about what one small commit appends.
const APPEND_BYTES: usize = 4096;

/// The milliseconds that appends of 4 KiB take until the disk has them (`fdatasync`), to a temporary file in that folder.
///
/// # Errors
/// When there are no rounds, or the folder cannot be written.
pub fn fsync_ms(folder: &Path, rounds: u32) -> Result<Percentiles> {
    ensure!(rounds > 0, "rounds = 0; a measurement needs at least 1");
    let failed = || format!("cannot measure the disk of {}", folder.display());
    let mut file = tempfile::tempfile_in(folder).with_context(failed)?;
    let mut times_ms = Vec::new();
    for _ in 0..rounds {
        let start = now();
        file.write_all(&[0x5a; APPEND_BYTES]).with_context(failed)?;
        file.sync_data().with_context(failed)?;
        times_ms.push((now() - start).as_secs_f64() * 1e3);
    }
    Ok(Percentiles::of(times_ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_measured_and_left_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let times = fsync_ms(folder.path(), 5).unwrap();
        assert!(0.0 < times.p50 && times.p50 <= times.p99, "{times:?}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_cannot_be_measured_is_named() {
        let error = fsync_ms(Path::new("/nowhere"), 1).unwrap_err();
        assert!(format!("{error:#}").contains("/nowhere"), "{error:#}");
        assert!(fsync_ms(Path::new("/"), 0).unwrap_err().to_string().contains("rounds = 0"));
    }
}
