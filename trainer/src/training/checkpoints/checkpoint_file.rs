//! The checkpoint file from which another attempt continues: a safetensors file whose header names the trial.
//!
//! The name of a file holds the BLAKE3 of its content, so damage is noticed before the file is parsed. A file of another format version,
//! trial or layout of parameters is refused with a reason. The caller then tries the checkpoint before it.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use sortie_core::finetune::FinetuneSpec;
use sortie_core::metrics::{Evaluation, Method};
use sortie_core::record::Fingerprint;
use tch::{Device, Tensor};

use super::super::Parameters;
use super::safetensors_file::{metadata, read_tensors, write_tensors};

/// Raise this when the meaning of the file changes.
const VERSION: u32 = 3;
/// The key of the header among a safetensors file's metadata.
const HEADER_KEY: &str = "sortie-checkpoint";
/// The tensor that holds the trained ones, as a flat buffer.
pub(crate) const VALUES: &str = "values";
/// The prefix of the names of statistics that training moved.
pub(crate) const BUFFER: &str = "buffer.";

/// Everything of a checkpoint that is no tensor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    version: u32,
    /// The trial.
    pub spec: FinetuneSpec,
    /// What the parameters' flat buffer holds where.
    pub layout: String,
    /// The last step whose update is made.
    pub step: u64,
    /// Whether the evaluation after that step, if there is one, is made too.
    pub evaluated: bool,
    /// Updates that the optimiser made.
    pub updates: u64,
    /// Weights that entered the average.
    pub averaged: u64,
    /// Evaluations whose logits entered the ensemble.
    pub ensembled: u64,
    /// The best i.i.d. accuracy of each method so far, and its step.
    pub best: Vec<(Method, f64, u64)>,
    /// What the attempt ran on.
    pub fingerprint: Fingerprint,
    /// Everything that was evaluated so far.
    pub evaluations: Vec<Evaluation>,
}

impl Header {
    /// A header of this version; the caller fills in the rest.
    pub fn new(spec: FinetuneSpec, layout: String, fingerprint: Fingerprint) -> Self {
        Self {
            version: VERSION,
            spec,
            layout,
            step: 0,
            evaluated: false,
            updates: 0,
            averaged: 0,
            ensembled: 0,
            best: Vec::new(),
            fingerprint,
            evaluations: Vec::new(),
        }
    }
}

/// A checkpoint in memory.
#[derive(Debug)]
pub struct Checkpoint {
    /// The trial, and what was reported so far.
    pub header: Header,
    /// The tensors by name, on the CPU.
    pub tensors: HashMap<String, Tensor>,
}

impl Checkpoint {
    /// The bytes of the file.
    ///
    /// # Errors
    /// One line, when a tensor is of a kind that no checkpoint has.
    pub fn to_bytes(&self) -> Result<Vec<u8>, String> {
        let header = serde_json::to_string(&self.header).map_err(|error| error.to_string())?;
        write_tensors(&self.tensors, Some(HashMap::from([(HEADER_KEY.to_owned(), header)])))
    }

    /// Reads a file. The caller has compared its digest already.
    ///
    /// # Errors
    /// One line: no checkpoint, or of another version.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, String> {
        let header = metadata(bytes, HEADER_KEY)?.ok_or("it has no checkpoint's header")?;
        let version: Version =
            serde_json::from_str(&header).map_err(|error| format!("its header is damaged: {error}"))?;
        if version.version != VERSION {
            return Err(format!(
                "it is of version {}, and this build reads version {VERSION}",
                version.version
            ));
        }
        let header =
            serde_json::from_str(&header).map_err(|error| format!("its header is damaged: {error}"))?;
        Ok(Self { header, tensors: read_tensors(bytes)? })
    }

    /// Takes the trained tensors, as a flat buffer like that of these parameters.
    ///
    /// # Errors
    /// One line when they are not there or have another length.
    pub fn take_values(&mut self, parameters: &Parameters) -> Result<Tensor, String> {
        let values = parameters.values();
        self.take(VALUES, &values.size(), values.device())
    }

    /// Takes the statistics that training moved, by the names that the network gives them.
    pub fn take_buffers(&mut self) -> HashMap<String, Tensor> {
        let named = std::mem::take(&mut self.tensors).into_iter();
        let (buffers, others): (HashMap<_, _>, HashMap<_, _>) =
            named.partition(|(name, _)| name.starts_with(BUFFER));
        self.tensors = others;
        buffers.into_iter().map(|(name, tensor)| (name[BUFFER.len()..].to_owned(), tensor)).collect()
    }

    /// Takes a tensor that must be there, of this shape.
    ///
    /// # Errors
    /// One line that names it.
    pub fn take(&mut self, name: &str, size: &[i64], device: Device) -> Result<Tensor, String> {
        let tensor = self.tensors.remove(name).ok_or_else(|| format!("it lacks {name}"))?;
        if tensor.size() != size {
            return Err(format!("{name} is {:?} where {size:?} belongs", tensor.size()));
        }
        tensor.f_to_device(device).map_err(|error| error.to_string())
    }
}

/// Reads a file and drops it.
///
/// # Errors
/// As [`Checkpoint::from_bytes`].
#[cfg(feature = "fuzzing")]
pub(crate) fn check_checkpoint(bytes: &[u8]) -> Result<(), String> {
    Checkpoint::from_bytes(bytes).map(drop)
}

/// Just the version: a newer header may have other fields.
#[derive(Deserialize)]
struct Version {
    version: u32,
}

#[cfg(test)]
mod tests {
    use super::*;
    use sortie_core::finetune::{Backbone, FinetunePoint, Settings};

    fn spec() -> FinetuneSpec {
        let dataset = sortie_core::catalogue::find("PACS").unwrap();
        let settings = Settings::reference(dataset, Backbone::ResNet18);
        let (held_out, lr, weight_decay) = (vec!["photo".to_owned()], 0.1 + 0.2, 1e-4);
        let point = FinetunePoint {
            held_out,
            dropout: 0.5,
            lr,
            weight_decay,
            head_lr_factor: 1.0,
            seed: 0,
            split_seed: 0,
        };
        FinetuneSpec { settings, point }
    }

    fn checkpoint() -> Checkpoint {
        let header = Header {
            step: 7,
            evaluated: true,
            ..Header::new(spec(), "w [2] [1] 0\n".into(), Fingerprint::default())
        };
        Checkpoint {
            header,
            tensors: HashMap::from([("values".to_owned(), Tensor::from_slice(&[1.5_f32, -0.0]))]),
        }
    }

    #[test]
    fn a_checkpoint_reads_back_and_equal_ones_have_equal_bytes() {
        let bytes = checkpoint().to_bytes().unwrap();
        assert_eq!(bytes, checkpoint().to_bytes().unwrap());
        let mut read = Checkpoint::from_bytes(&bytes).unwrap();
        assert_eq!(read.header, checkpoint().header);
        let values = read.take("values", &[2], Device::Cpu).unwrap();
        assert_eq!(
            Vec::<f32>::try_from(values).unwrap().map_bits(),
            [1.5_f32.to_bits(), (-0.0_f32).to_bits()]
        );
        assert!(read.take("values", &[2], Device::Cpu).unwrap_err().contains("values"));
    }

    trait Bits {
        fn map_bits(self) -> Vec<u32>;
    }
    impl Bits for Vec<f32> {
        fn map_bits(self) -> Vec<u32> {
            self.into_iter().map(f32::to_bits).collect()
        }
    }

    #[test]
    fn damaged_and_newer_files_are_refused_in_one_line() {
        let bytes = checkpoint().to_bytes().unwrap();
        for length in [0, 7, 8, 100, bytes.len() - 1] {
            let refused = Checkpoint::from_bytes(&bytes[..length]).unwrap_err();
            assert_eq!(refused.lines().count(), 1, "{refused}");
        }
        let newer =
            Checkpoint { header: Header { version: VERSION + 1, ..checkpoint().header }, ..checkpoint() };
        let refused = Checkpoint::from_bytes(&newer.to_bytes().unwrap()).unwrap_err();
        assert!(refused.contains("version 3"), "{refused}");
        let other = write_tensors(&checkpoint().tensors, None).unwrap();
        assert!(Checkpoint::from_bytes(&other).unwrap_err().contains("header"));
    }
}
