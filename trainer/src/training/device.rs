//! Where a trial computes: the CPU, or a GPU through libtorch's CUDA libraries.

use std::fmt;
use std::str::FromStr;

use tch::{Cuda, Device};

use crate::error::TrialError;
use crate::libtorch::{self, gpu_name, load_cuda_libraries};

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
    /// [`TrialError::Machine`] when the CUDA libraries are not there or do not load, [`TrialError::Device`] when they see no such GPU:
    /// one was there when the worker was started.
    pub fn open(self) -> Result<Device, TrialError> {
        let Self::Cuda(index) = self else {
            return Ok(Device::Cpu);
        };
        load_cuda_libraries().map_err(TrialError::Machine)?;
        libtorch::make_deterministic()?;
        let count = Cuda::device_count();
        if index as i64 >= count {
            return Err(TrialError::Device(format!("{self} is not there: libtorch sees {count} GPUs")));
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
}
