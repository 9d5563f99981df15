//! libtorch's CUDA libraries and the NVIDIA driver, loaded only where they are wanted: the same program runs with and without.
#![expect(unsafe_code, reason = "both are reached through C interfaces of libraries that may not be there")]

use std::ffi::{CStr, c_char, c_int, c_uint};
use std::path::PathBuf;

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
use sortie_core::pipe::{CudaDriver, CudaLibraries, Gpu};

use super::loaded_folder;

type DeviceGet = unsafe extern "C" fn(device: *mut c_int, ordinal: c_int) -> c_int;
type DeviceName = unsafe extern "C" fn(name: *mut c_char, length: c_int, device: c_int) -> c_int;
type DeviceUuid = unsafe extern "C" fn(uuid: *mut [u8; 16], device: c_int) -> c_int;
type DeviceMemory = unsafe extern "C" fn(bytes: *mut usize, device: c_int) -> c_int;
type Version = unsafe extern "C" fn(version: *mut c_int) -> c_int;
type Init = unsafe extern "C" fn(flags: c_uint) -> c_int;
type ErrorName = unsafe extern "C" fn(error: c_int, name: *mut *const c_char) -> c_int;

/// Loads libtorch_cuda.so from the folder that libtorch_cpu.so came from, and from nowhere else: two builds in one process crash.
///
/// # Errors
/// One line that says why there is no CUDA.
pub fn load_cuda_libraries() -> Result<(), String> {
    let path = cuda_library().ok_or_else(|| {
        let build = super::loaded_build();
        format!(
            "libtorch {build} has no CUDA libraries: install a CUDA build of torch {}",
            sortie_core::libtorch::RELEASE
        )
    })?;
    // SAFETY: libtorch_cuda.so is built to be loaded into a process that holds libtorch_cpu.so: its initialisers register operators and
    // touch nothing else. RTLD_GLOBAL, because libtorch_cpu looks its hooks up among the process's symbols.
    let library = unsafe { Library::open(Some(&path), RTLD_NOW | RTLD_GLOBAL) };
    let library = library.map_err(|error| format!("{} does not load: {error}", path.display()))?;
    // Registered operators point into the library, so it stays for the life of the process.
    std::mem::forget(library);
    Ok(())
}

/// What a probe says about libtorch's CUDA libraries: none where this build has none.
pub fn cuda_libraries() -> Option<CudaLibraries> {
    cuda_library()?;
    let error = load_cuda_libraries().err();
    let runtime = if error.is_none() { runtime_version() } else { None };
    Some(CudaLibraries { runtime, error })
}

fn cuda_library() -> Option<PathBuf> {
    Some(loaded_folder()?.join("libtorch_cuda.so")).filter(|path| path.is_file())
}

fn runtime_version() -> Option<u32> {
    let mut version = 0;
    // SAFETY: the CUDA runtime is a dependency of the libraries just loaded; its function writes one integer.
    let result = unsafe {
        let process = Library::this();
        process.get::<Version>("cudaRuntimeGetVersion").ok()?(&raw mut version)
    };
    (result == 0).then(|| u32::try_from(version).ok()).flatten()
}

/// Asks the driver for its version and for the GPUs that this process may use; none where no driver is installed.
pub fn cuda_driver() -> Option<CudaDriver> {
    // SAFETY: libcuda.so.1 is the driver's own library, made to be loaded like this.
    let driver = unsafe { Library::new("libcuda.so.1") }.ok()?;
    let mut version = 0;
    // SAFETY: these functions have these types in every version of the driver, write at most what they are given room for, and are called
    // while the library is open.
    unsafe {
        let get_version = driver.get::<Version>("cuDriverGetVersion").ok()?;
        let known = get_version(&raw mut version) == 0;
        let init = driver.get::<Init>("cuInit").ok()?(0);
        let error = (init != 0).then(|| error_name(&driver, init));
        let gpus = if init == 0 { gpus(&driver) } else { Vec::new() };
        let version = known.then(|| u32::try_from(version).ok()).flatten();
        Some(CudaDriver { version, error, gpus })
    }
}

/// What the driver calls a GPU among those that this process sees.
pub fn gpu_name(index: usize) -> Option<String> {
    let gpus = cuda_driver()?.gpus;
    gpus.into_iter().nth(index).map(|gpu| gpu.name)
}

/// # Safety
/// `driver` is the CUDA driver, initialised.
unsafe fn gpus(driver: &Library) -> Vec<Gpu> {
    let mut count = 0;
    // SAFETY: as for `cuda_driver`.
    let counted = unsafe { driver.get::<Version>("cuDeviceGetCount").map(|get| get(&raw mut count)) };
    let counted = if matches!(counted, Ok(0)) { count } else { 0 };
    // SAFETY: ordinals below the count are those of devices.
    (0..counted).filter_map(|ordinal| unsafe { gpu(driver, ordinal) }).collect()
}

/// # Safety
/// As for [`gpus`].
unsafe fn gpu(driver: &Library, ordinal: c_int) -> Option<Gpu> {
    let (mut device, mut name, mut uuid, mut memory_bytes) = (0, [0_u8; 256], [0_u8; 16], 0);
    // SAFETY: as for `cuda_driver`; the name has the length that is told.
    let results = unsafe {
        [
            driver.get::<DeviceGet>("cuDeviceGet").ok()?(&raw mut device, ordinal),
            driver.get::<DeviceName>("cuDeviceGetName").ok()?(
                name.as_mut_ptr().cast(),
                name.len() as c_int,
                device,
            ),
            driver.get::<DeviceUuid>("cuDeviceGetUuid_v2").ok()?(&raw mut uuid, device),
            driver.get::<DeviceMemory>("cuDeviceTotalMem_v2").ok()?(&raw mut memory_bytes, device),
        ]
    };
    let name = CStr::from_bytes_until_nul(&name).ok()?.to_string_lossy().into_owned();
    // A slice of a GPU says so in its name, and is named by another prefix.
    let prefix = if name.split(' ').any(|word| word == "MIG") { "MIG" } else { "GPU" };
    let uuid = format!("{prefix}-{}", hyphenated(&uuid));
    (results == [0; 4]).then_some(Gpu { uuid, name, memory_bytes: memory_bytes as u64 })
}

/// As CUDA_VISIBLE_DEVICES writes it: 8, 4, 4, 4 and 12 hexadecimal digits.
fn hyphenated(uuid: &[u8; 16]) -> String {
    let digits: String = uuid.iter().map(|byte| format!("{byte:02x}")).collect();
    [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]].join("-")
}

/// # Safety
/// `driver` is the CUDA driver.
unsafe fn error_name(driver: &Library, error: c_int) -> String {
    let mut name = std::ptr::null();
    // SAFETY: the driver gives a static text, or leaves the pointer null.
    unsafe {
        match driver.get::<ErrorName>("cuGetErrorName").map(|get| get(error, &raw mut name)) {
            Ok(0) if !name.is_null() => CStr::from_ptr(name).to_string_lossy().into_owned(),
            _ => format!("CUDA error {error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_without_cuda_says_so() {
        if cuda_library().is_none() {
            let error = load_cuda_libraries().unwrap_err();
            assert!(error.contains("has no CUDA libraries"), "{error}");
            assert_eq!(cuda_libraries(), None);
        }
    }

    #[test]
    fn uuids_are_written_as_cuda_reads_them() {
        let uuid = std::array::from_fn(|index| index as u8);
        assert_eq!(hyphenated(&uuid), "00010203-0405-0607-0809-0a0b0c0d0e0f");
    }
}
