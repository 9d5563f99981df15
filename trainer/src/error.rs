//! Why a trial ended without a result.

use std::path::{Path, PathBuf};

use sortie_core::job::ErrorClass;
use sortie_data::DataError;
use tch::TchError;

/// The error of a [`crate::training::TrialSink`] that cannot take a report.
pub type SinkError = Box<dyn std::error::Error + Send + Sync>;

/// What CUDA says of a GPU, a driver or a connection that does not work: the descriptions of its error codes 3, 35, 100, 101, 127, 214, 220,
/// 226, 304, 802 and 803 (`cudaGetErrorString`). Faults that a program can cause, such as an illegal access, and devices that are busy are
/// none of them.
const GPU_FAULTS: [&str; 11] = [
    "CUDA error: initialization error",
    "CUDA driver version is insufficient for CUDA runtime version",
    "no CUDA-capable device is detected",
    "invalid device ordinal",
    "startup failure in cuda runtime",
    "uncorrectable ECC error encountered",
    "uncorrectable NVLink error detected during the execution",
    "Invalid access of peer GPU memory over nvlink or a hardware error",
    "OS call failed or operation not supported on this OS",
    "system not yet initialized",
    "system has unsupported display driver / cuda driver combination",
];

/// Why a trial ended without a result. Every message is one line.
#[derive(Debug, thiserror::Error)]
pub enum TrialError {
    /// This machine's images or weights are missing, unreadable, or not what the specification says.
    #[error("{}: {reason}", path.display())]
    BadData {
        /// The file or folder at fault.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// An image that cannot be understood: it is the same wherever the dataset is.
    #[error("{}: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// This machine lacks something: room on a disk, a permission, threads.
    #[error("{0}")]
    Machine(String),
    /// The device does not work, or not any more.
    #[error("{0}")]
    Device(String),
    /// The specification cannot run anywhere.
    #[error("{0}")]
    BadConfig(String),
    /// The training loss stopped being a number; an outcome of the trial, not an error of the worker.
    #[error("the training loss became {loss} at step {step}")]
    Diverged {
        /// The step whose loss it was.
        step: u64,
        /// Infinite or not a number.
        loss: f64,
    },
    /// The device's or the machine's memory was not enough.
    #[error("out of memory: {0}")]
    OutOfMemory(String),
    /// The trial was asked to stop. It wrote a checkpoint where it could.
    #[error("the trial was asked to stop")]
    Preempted,
    /// The receiver of the trial's reports is gone.
    #[error("cannot report: {0}")]
    Sink(#[source] SinkError),
    /// Any other error. Another attempt may succeed.
    #[error("{0}")]
    Other(String),
}

impl TrialError {
    /// A [`TrialError::BadData`] at this path.
    pub fn bad_data(path: &Path, reason: impl ToString) -> Self {
        Self::BadData { path: path.to_path_buf(), reason: first_line(&reason.to_string()) }
    }

    /// The class by which the coordinator decides about another attempt; none for divergence, which is an outcome of its own.
    pub fn class(&self) -> Option<ErrorClass> {
        match self {
            Self::BadData { .. } | Self::Machine(_) => Some(ErrorClass::Machine),
            Self::Damaged { .. } => Some(ErrorClass::BadData),
            Self::Device(_) => Some(ErrorClass::Device),
            Self::BadConfig(_) => Some(ErrorClass::BadConfig),
            Self::Diverged { .. } => None,
            Self::OutOfMemory(_) => Some(ErrorClass::OutOfMemory),
            Self::Preempted => Some(ErrorClass::Preempted),
            Self::Sink(_) | Self::Other(_) => Some(ErrorClass::Transient),
        }
    }

    /// Classifies an error text of libtorch. Its C interface gives nothing but text, so only this function matches on a message.
    pub(crate) fn from_libtorch_text(text: &str) -> Self {
        // The last one is what NVIDIA's libraries say who asked for memory of their own.
        let out_of_memory =
            ["out of memory", "can't allocate memory", "not enough memory", "STATUS_ALLOC_FAILED"];
        let line = first_line(text);
        if out_of_memory.iter().any(|phrase| text.contains(phrase)) {
            // Advice about PyTorch's settings follows.
            let facts = line.split(" If reserved but unallocated").next().unwrap_or(&line);
            return Self::OutOfMemory(facts.to_owned());
        }
        if GPU_FAULTS.iter().any(|phrase| text.contains(phrase)) {
            return Self::Device(line);
        }
        match line.split_once("does not have a deterministic implementation") {
            // Another attempt would fail in the same way.
            Some((operation, _)) => Self::BadConfig(format!(
                "libtorch cannot repeat {} exactly on this device, and a trial must be the same every time; train this network on another one",
                operation.trim_start_matches("Internal torch error:").trim()
            )),
            None => Self::Other(line),
        }
    }
}

impl From<DataError> for TrialError {
    fn from(error: DataError) -> Self {
        match error {
            DataError::BadData { path, reason } => Self::BadData { path, reason },
            DataError::Damaged { path, reason } => Self::Damaged { path, reason },
            DataError::Machine(message) => Self::Machine(message),
            DataError::BadConfig(message) => Self::BadConfig(message),
            DataError::Other(message) => Self::Other(message),
        }
    }
}

impl From<TchError> for TrialError {
    fn from(error: TchError) -> Self {
        Self::from_libtorch_text(&error.to_string())
    }
}

/// libtorch appends a C++ stack trace to its messages; users get the line that says what happened.
fn first_line(text: &str) -> String {
    text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("no reason was given").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_one_line_and_classed() {
        let cuda = "Internal torch error: CUDA out of memory. Tried to allocate 2 GiB.\nException raised from malloc\n#0 ...";
        let error = TrialError::from_libtorch_text(cuda);
        assert_eq!(error.class(), Some(ErrorClass::OutOfMemory));
        assert_eq!(error.to_string().lines().count(), 1);
        let advice = "CUDA out of memory. Tried to allocate 2 GiB. If reserved but unallocated memory is large try setting X.";
        assert_eq!(
            TrialError::from_libtorch_text(advice).to_string(),
            "out of memory: CUDA out of memory. Tried to allocate 2 GiB."
        );
        let cublas = "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`";
        assert_eq!(TrialError::from_libtorch_text(cublas).class(), Some(ErrorClass::OutOfMemory));
        let unrepeatable = "Internal torch error: foo_backward_cuda does not have a deterministic implementation, but you set 'torch.use_...'";
        let error = TrialError::from_libtorch_text(unrepeatable);
        assert_eq!(error.class(), Some(ErrorClass::BadConfig));
        assert!(error.to_string().starts_with("libtorch cannot repeat foo_backward_cuda exactly"), "{error}");
        let gone = "CUDA error: uncorrectable ECC error encountered\nCUDA kernel errors might be asynchronously reported";
        let error = TrialError::from_libtorch_text(gone);
        assert_eq!(error.class(), Some(ErrorClass::Device));
        assert_eq!(error.to_string(), "CUDA error: uncorrectable ECC error encountered");
        let own = "CUDA error: an illegal memory access was encountered";
        assert_eq!(TrialError::from_libtorch_text(own).class(), Some(ErrorClass::Transient));
        let cpu = "[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes";
        assert_eq!(TrialError::from_libtorch_text(cpu).class(), Some(ErrorClass::OutOfMemory));
        assert_eq!(TrialError::from_libtorch_text("shape mismatch\nat 3").to_string(), "shape mismatch");
        assert_eq!(TrialError::Diverged { step: 3, loss: f64::NAN }.class(), None);
    }
}
