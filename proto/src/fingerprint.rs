//! What attempts run on: wire to core, with every digest checked, and core to wire.

use sortie_core::code::Code;
use sortie_core::record::Fingerprint;

use crate::{WireError, v1};

/// Bytes of the digest of a dataset or of weights: twice those of BLAKE3, as digits. Lines for people show them.
const DIGEST_BYTES_MAX: usize = 128;

impl From<Fingerprint> for v1::Fingerprint {
    fn from(fingerprint: Fingerprint) -> Self {
        let Fingerprint { software, libtorch, device, threads, dataset_digest, weights_digest, .. } =
            fingerprint;
        let Fingerprint { code, micro_batch, .. } = fingerprint;
        let code = code.map(|code| code.text()).unwrap_or_default();
        Self { software, libtorch, device, threads, dataset_digest, weights_digest, code, micro_batch }
    }
}

impl TryFrom<v1::Fingerprint> for Fingerprint {
    type Error = WireError;

    fn try_from(wire: v1::Fingerprint) -> Result<Self, WireError> {
        let v1::Fingerprint { software, libtorch, device, threads, dataset_digest, weights_digest, .. } =
            wire;
        for (field, digest) in
            [("fingerprint.dataset_digest", &dataset_digest), ("fingerprint.weights_digest", &weights_digest)]
        {
            if digest.len() > DIGEST_BYTES_MAX || digest.contains(char::is_control) {
                let reason =
                    format!("{} bytes; at most {DIGEST_BYTES_MAX}, and no control characters", digest.len());
                return Err(WireError::Value { field, reason });
            }
        }
        let (code, micro_batch) = (Code::read(&wire.code).map(Box::new), wire.micro_batch);
        Ok(Self { software, libtorch, device, threads, dataset_digest, weights_digest, code, micro_batch })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_that_no_line_could_show_are_refused() {
        let read = |digest: String| {
            Fingerprint::try_from(v1::Fingerprint { weights_digest: digest, ..v1::Fingerprint::default() })
        };
        assert!(read("0a".repeat(32)).is_ok() && read(String::new()).is_ok());
        for wrong in ["0".repeat(DIGEST_BYTES_MAX + 1), "a\nb".to_owned()] {
            let error = read(wrong).unwrap_err().to_string();
            assert!(error.starts_with("field fingerprint.weights_digest: "), "{error}");
        }
    }
}
