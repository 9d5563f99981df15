//! Which libtorch this process has loaded, and from where.
#![expect(unsafe_code, reason = "tch does not tell libtorch's version")]

use std::ffi::{CStr, c_char, c_void};
use std::path::{Path, PathBuf};

use sortie_core::libtorch::build_of;

use super::call::returned;

/// libtorch describes itself in some 2 KiB.
const CONFIG_BYTES: usize = 16_384;

unsafe extern "C" {
    fn sortie_show_config(
        text: *mut c_char,
        text_bytes: usize,
        error: *mut c_char,
        error_bytes: usize,
    ) -> *mut c_void;
}

/// The folder from which libtorch_cpu.so was loaded; none where /proc does not tell.
pub fn loaded_folder() -> Option<PathBuf> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let path = maps.lines().find_map(|line| {
        let path = &line[line.find('/')?..];
        path.ends_with("/libtorch_cpu.so").then(|| PathBuf::from(path))
    })?;
    path.parent().map(Path::to_path_buf)
}

/// The build of the loaded libtorch, such as `2.11.0+cu130`, by the files beside it: libtorch itself is not called, for its first call
/// fixes for good whether there is CUDA.
pub fn loaded_build() -> String {
    let root = loaded_folder().and_then(|folder| folder.parent().map(Path::to_path_buf));
    let build = root.and_then(|root| build_of(|name| std::fs::read_to_string(root.join(name)).ok()));
    build.unwrap_or_else(|| "unknown".to_owned())
}

/// The release of the loaded libtorch by its own account. Only after the CUDA libraries were loaded, if they ever are.
pub fn loaded_release() -> Option<String> {
    let mut text = vec![0_u8; CONFIG_BYTES];
    // SAFETY: both buffers outlive the call, which writes at most their lengths.
    returned(|error, bytes| unsafe {
        sortie_show_config(text.as_mut_ptr().cast(), text.len(), error, bytes)
    })
    .ok()?;
    let config = CStr::from_bytes_until_nul(&text).ok()?.to_string_lossy().into_owned();
    let (_, rest) = config.split_once("TORCH_VERSION=")?;
    rest.split([',', '\n', ' ']).next().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sortie_core::libtorch;

    #[test]
    fn the_loaded_libtorch_is_the_one_that_the_crate_needs() {
        assert_eq!(loaded_release().as_deref(), Some(libtorch::RELEASE));
        assert!(loaded_build().starts_with(libtorch::RELEASE));
        assert!(loaded_folder().unwrap().join("libtorch_cpu.so").exists());
    }
}
