//! Where a trial computes: the CPU, or a GPU through libtorch's CUDA libraries, which are loaded only then.

use std::ffi::{CStr, c_char, c_int};
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
use tch::{Cuda, Device};

use crate::error::TrialError;
use crate::libtorch;

/// A device as users name it: `cpu` or `cuda:N`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ComputeDevice {
    /// The machine's processor.
    Cpu,
    /// The GPU with this index among those that the process may see.
    Cuda(usize),
}

impl fmt::Display for ComputeDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
        }
    }
}

impl FromStr for ComputeDevice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once(':') {
            None if text == "cpu" => Ok(Self::Cpu),
            None if text == "cuda" => Ok(Self::Cuda(0)),
            Some(("cuda", index)) if index.parse::<u16>().is_ok() => {
                Ok(Self::Cuda(index.parse::<u16>().map_or(0, usize::from)))
            }
            _ => Err(format!("{text:?} is not a device; it must be cpu or cuda:N")),
        }
    }
}

impl ComputeDevice {
    /// Makes the device ready. This must come before the first call of libtorch in the process: one earlier call fixes for good that
    /// there is no CUDA.
    ///
    /// # Errors
    /// [`TrialError::BadConfig`] when the CUDA libraries are not there, do not load, or see no such GPU.
    pub fn open(self, cache: &Path) -> Result<Device, TrialError> {
        let Self::Cuda(index) = self else {
            return Ok(Device::Cpu);
        };
        load_cuda_libraries(&cuda_folder(cache))?;
        libtorch::make_deterministic()?;
        let count = Cuda::device_count();
        if index as i64 >= count {
            return Err(TrialError::BadConfig(format!("{self} is not there: libtorch sees {count} GPUs")));
        }
        Ok(Device::Cuda(index))
    }

    /// The device with the processor's or the GPU's model, for the trial's fingerprint.
    pub(super) fn describe(self) -> String {
        let model = match self {
            Self::Cpu => std::fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| {
                let line = text.lines().find(|line| line.starts_with("model name"))?;
                line.split_once(':').map(|(_, model)| model.trim().to_owned())
            }),
            Self::Cuda(index) => gpu_name(index),
        };
        model.map_or_else(|| self.to_string(), |model| format!("{self} ({model})"))
    }
}

/// Where libtorch's CUDA set lies: `LIBTORCH_CUDA`, or the folder that `cargo xtask setup --cuda` fills.
fn cuda_folder(cache: &Path) -> PathBuf {
    let set = std::env::var_os("LIBTORCH_CUDA").map(PathBuf::from);
    let set = set.unwrap_or_else(|| cache.join(format!("libtorch-{}-cuda", env!("SORTIE_LIBTORCH_VERSION"))));
    let inner = set.join("lib");
    if inner.is_dir() { inner } else { set }
}

fn load_cuda_libraries(folder: &Path) -> Result<(), TrialError> {
    let path = folder.join("libtorch_cuda.so");
    if !path.is_file() {
        let path = path.display();
        return Err(TrialError::BadConfig(format!(
            "{path} is missing; `cargo xtask setup --cuda` fetches it, or set LIBTORCH_CUDA"
        )));
    }
    #[expect(
        unsafe_code,
        reason = "loading a library runs its initialisers; this one is libtorch's own, from the folder that setup fills"
    )]
    // SAFETY: libtorch_cuda.so is built to be loaded into a process that holds libtorch_cpu.so: its initialisers register operators and
    // touch nothing else. RTLD_GLOBAL, because libtorch_cpu looks its hooks up among the process's symbols.
    let library = unsafe { Library::open(Some(&path), RTLD_NOW | RTLD_GLOBAL) };
    let library = library
        .map_err(|error| TrialError::BadConfig(format!("{} does not load: {error}", path.display())))?;
    // Registered operators point into the library, so it stays for the life of the process.
    std::mem::forget(library);
    Ok(())
}

/// What the driver calls a GPU.
#[expect(
    unsafe_code,
    reason = "libtorch's name of a GPU is out of reach, and the driver has a C interface only"
)]
fn gpu_name(index: usize) -> Option<String> {
    type DeviceGet = unsafe extern "C" fn(device: *mut c_int, ordinal: c_int) -> c_int;
    type DeviceGetName = unsafe extern "C" fn(name: *mut c_char, length: c_int, device: c_int) -> c_int;
    let (mut device, mut name) = (0, [0_u8; 256]);
    // SAFETY: the driver is loaded and initialised, for libtorch has counted the devices; both functions have these types in every
    // version of it, write one integer and at most `length` bytes, and are called while the library is open.
    let results = unsafe {
        let driver = Library::new("libcuda.so.1").ok()?;
        let get = driver.get::<DeviceGet>("cuDeviceGet").ok()?;
        let get_name = driver.get::<DeviceGetName>("cuDeviceGetName").ok()?;
        [
            get(&raw mut device, index as c_int),
            get_name(name.as_mut_ptr().cast(), name.len() as c_int, device),
        ]
    };
    let name = CStr::from_bytes_until_nul(&name).ok()?.to_str().ok()?;
    (results == [0, 0]).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_read_back_and_others_are_refused() {
        for device in [ComputeDevice::Cpu, ComputeDevice::Cuda(3)] {
            assert_eq!(device.to_string().parse(), Ok(device));
        }
        for bad in ["", "gpu", "cuda:", "cuda:-1", "cuda:x", "cpu:0"] {
            assert!(bad.parse::<ComputeDevice>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_missing_cuda_set_is_a_clear_error() {
        let error = load_cuda_libraries(Path::new("/nowhere/lib")).unwrap_err();
        assert!(
            matches!(&error, TrialError::BadConfig(text) if text.contains("/nowhere/lib/libtorch_cuda.so")),
            "{error}"
        );
    }
}
