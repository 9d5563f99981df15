//! How long a disk takes to sync: every acknowledged claim and report waits for that.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::wait;

/// A page of SQLite and half a page of PostgreSQL: about what one small commit appends.
const APPEND_BYTES: usize = 4096;

/// How long one append took until the disk had it, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FsyncTimes {
    /// The median.
    pub p50_ms: f64,
    /// The 99th percentile (nearest rank): with fewer than 100 rounds, the slowest one.
    pub p99_ms: f64,
}

/// Measures appends of 4 KiB, each followed by `fdatasync`, to a temporary file in that folder.
///
/// # Errors
/// When there are no rounds, or the folder cannot be written.
pub fn fsync_ms(folder: &Path, rounds: u32) -> Result<FsyncTimes> {
    ensure!(rounds > 0, "rounds = 0; a measurement needs at least 1");
    let failed = || format!("cannot measure the disk of {}", folder.display());
    let mut file = tempfile::tempfile_in(folder).with_context(failed)?;
    let mut times_ms = Vec::new();
    for _ in 0..rounds {
        let start = wait::now();
        file.write_all(&[0x5a; APPEND_BYTES]).with_context(failed)?;
        file.sync_data().with_context(failed)?;
        times_ms.push((wait::now() - start).as_secs_f64() * 1e3);
    }
    times_ms.sort_by(f64::total_cmp);
    Ok(FsyncTimes { p50_ms: nearest_rank(&times_ms, 50), p99_ms: nearest_rank(&times_ms, 99) })
}

/// The smallest value that at least that share of the sorted values do not exceed; there must be a value.
fn nearest_rank(sorted: &[f64], percent: usize) -> f64 {
    sorted[(sorted.len() * percent).div_ceil(100) - 1]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_ranks() {
        let values: Vec<f64> = (1..=200).map(f64::from).collect();
        assert_eq!((nearest_rank(&values, 50), nearest_rank(&values, 99)), (100.0, 198.0));
        assert_eq!((nearest_rank(&values[..3], 50), nearest_rank(&values[..3], 99)), (2.0, 3.0));
        assert_eq!(nearest_rank(&values[..1], 50), 1.0);
    }

    #[test]
    fn a_folder_is_measured_and_left_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let times = fsync_ms(folder.path(), 5).unwrap();
        assert!(0.0 < times.p50_ms && times.p50_ms <= times.p99_ms, "{times:?}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_cannot_be_measured_is_named() {
        let error = fsync_ms(Path::new("/nowhere"), 1).unwrap_err();
        assert!(format!("{error:#}").contains("/nowhere"), "{error:#}");
        assert!(fsync_ms(Path::new("/"), 0).unwrap_err().to_string().contains("rounds = 0"));
    }
}
