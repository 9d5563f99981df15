//! What a trial leaves in the artifact store, and how an attempt goes on where another stopped.

use serde::{Deserialize, Serialize};

use crate::keys::AttemptToken;
use crate::metrics::Method;
use crate::named;

/// What a file in the artifact store is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ArtifactKind {
    /// Everything that another attempt needs to go on after `step`, its reports so far included.
    Checkpoint,
    /// Weights after the last step.
    FinalWeights,
    /// Weights of the step with the best i.i.d. accuracy.
    SelectedWeights,
    /// Logits of the last evaluation.
    FinalLogits,
}
named!(ArtifactKind, "kind of artifact", {
    Checkpoint => "checkpoint",
    FinalWeights => "final-weights",
    SelectedWeights => "selected-weights",
    FinalLogits => "final-logits",
});

/// The longest key of an artifact, in bytes.
const KEY_BYTES_MAX: usize = 500;

/// The longest artifact, in bytes: databases store a length as a signed 64-bit number.
const BYTES_MAX: u64 = (1 << 63) - 1;

/// Whether a key is a relative path below the artifact store's root: no `..`, no absolute path, nothing that a store or
/// file system would read as another key.
pub fn is_key(key: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-+=".contains(c);
    let part = |part: &str| !part.is_empty() && part != "." && part != ".." && part.chars().all(plain);
    key.len() <= KEY_BYTES_MAX && key.split('/').all(part)
}

/// Whether this is a BLAKE3 hash as we write it: 64 lower-case hexadecimal digits.
pub fn is_digest(digest: &str) -> bool {
    digest.len() == 64 && digest.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// One file of an attempt. Final weights and logits are reported by their digest even where they are not kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Artifact {
    /// What it is.
    pub kind: ArtifactKind,
    /// Of which model of the trajectory; `plain` for checkpoints, which hold all.
    pub method: Method,
    /// After the update of which step.
    pub step: u64,
    /// Its place below the artifact store's root, with forward slashes; empty if it was not kept.
    pub key: String,
    /// BLAKE3 of its content, in hexadecimal digits.
    pub digest: String,
    /// Its length, in bytes.
    pub bytes: u64,
}

impl Artifact {
    /// What is wrong with it, in one line; none if nothing is.
    pub fn fault(&self) -> Option<String> {
        if !self.key.is_empty() && !is_key(&self.key) {
            return Some(format!(
                "key {:?} is not allowed; allowed: a relative path of letters, digits, '.', '_', '-', '+' and '='",
                self.key
            ));
        }
        if !is_digest(&self.digest) {
            return Some(format!(
                "digest {:?} is not allowed; allowed: 64 lower-case hexadecimal digits",
                self.digest
            ));
        }
        (self.bytes > BYTES_MAX)
            .then(|| format!("length of {} bytes; allowed: at most {BYTES_MAX}", self.bytes))
    }
}

/// A checkpoint that a later attempt may go on from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckpointRef {
    /// The attempt that wrote it.
    pub token: AttemptToken,
    /// The step after whose update it was written.
    pub step: u64,
    /// Its place below the artifact store's root.
    pub key: String,
    /// BLAKE3 of its content, in hexadecimal digits.
    pub digest: String,
}

/// The checkpoint that an attempt resumed from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resumed {
    /// The attempt that wrote the checkpoint.
    pub token: AttemptToken,
    /// The last step that it made.
    pub step: u64,
    /// Whether device, threads and libtorch are those of the earlier attempt, so that the result is the uninterrupted one's to the byte.
    pub exact: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_stays_below_the_root() {
        for key in ["checkpoints/94f9/17-300-0a1b2c3d.safetensors", "weights/a_b+c=d.bin", "x"] {
            assert!(is_key(key), "{key}");
        }
        let long = "x".repeat(KEY_BYTES_MAX + 1);
        for key in [
            "",
            "/etc/passwd",
            "a/../b",
            "..",
            ".",
            "a//b",
            "a/",
            "a/./b",
            "a\\b",
            "a b",
            "a%2e",
            "a\0",
            "é",
            "file:x",
            long.as_str(),
        ] {
            assert!(!is_key(key), "{key:?}");
        }
    }

    #[test]
    fn invalid_artifacts_are_refused_with_a_reason() {
        let digest = "0a".repeat(32);
        let right = Artifact {
            kind: ArtifactKind::FinalLogits,
            method: Method::Plain,
            step: 3,
            key: String::new(),
            digest,
            bytes: 7,
        };
        assert_eq!(right.fault(), None);
        assert_eq!(Artifact { bytes: (1 << 63) - 1, ..right.clone() }.fault(), None);
        for (wrong, text) in [
            (Artifact { key: "../x".into(), ..right.clone() }, "a relative path"),
            (Artifact { digest: "0A".repeat(32), ..right.clone() }, "64 lower-case hexadecimal digits"),
            (Artifact { digest: String::new(), ..right.clone() }, "64 lower-case hexadecimal digits"),
            (Artifact { bytes: 1 << 63, ..right.clone() }, "bytes; allowed: at most 9223372036854775807"),
        ] {
            assert!(wrong.fault().is_some_and(|fault| fault.contains(text)), "{wrong:?}");
        }
    }
}
