//! What an attempt ran: the state of the program's source files. Not part of the trial's identity.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Files of a command line whose digests are taken, at most.
pub const FILES_MAX: usize = 32;
/// The longest text of a [`Code`] that is stored, in bytes.
const TEXT_BYTES_MAX: usize = 300;
/// Digits of a commit or a digest in a name.
const DIGITS: usize = 7;

/// What an attempt ran, as far as its worker found out before the process started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Code {
    /// The git commit of the folder in which a command ran.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// Whether git's tracked files there were those of the commit; none if that was not found out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clean: Option<bool>,
    /// BLAKE3 of the files that the command line names, by the names there.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<String, String>,
    /// Where the command's program lies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub program: Option<String>,
    /// What the program says of its version, if it is an interpreter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The build of Sortie's own trainer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub build: Option<String>,
}

impl Code {
    /// Sortie's own trainer of this build.
    pub fn of_build(build: &str) -> Self {
        Self { build: Some(build.to_owned()), ..Self::default() }
    }

    /// Reads one that a worker reported; none for anything else, or with more than is stored.
    pub fn read(text: &str) -> Option<Self> {
        let code: Self = serde_json::from_str(text).ok()?;
        let Self { commit, clean: _, files, program, version, build } = &code;
        let texts = [commit, program, version, build].into_iter().flatten();
        let plain = |text: &String| text.len() <= TEXT_BYTES_MAX && !text.contains(char::is_control);
        let all = texts.chain(files.iter().flat_map(|(name, digest)| [name, digest])).all(plain);
        (all && files.len() <= FILES_MAX).then_some(code)
    }

    /// As it is stored.
    pub fn text(&self) -> String {
        // It has nothing that JSON cannot write.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The name of what ran: attempts that ran the same have the same, and others have others. `3f2a91c/9b01d2e`: commit and digest of the
    /// files, with a `+` after a commit whose files were changed; one of the two where there is no other; the build of Sortie's own trainer.
    pub fn name(&self) -> Option<String> {
        if let Some(build) = &self.build {
            return Some(build.clone());
        }
        let commit = self.commit.as_ref().map(|commit| {
            let changed = if self.clean == Some(true) { "" } else { "+" };
            format!("{}{changed}", first(commit))
        });
        match (commit, self.digest()) {
            (Some(commit), Some(digest)) => Some(format!("{commit}/{digest}")),
            (commit, digest) => commit.or(digest),
        }
    }

    /// The first digits of the digest of the files.
    fn digest(&self) -> Option<String> {
        if self.files.is_empty() {
            return None;
        }
        let mut hasher = blake3::Hasher::new();
        for (name, digest) in &self.files {
            hasher.update(name.as_bytes()).update(b"\0").update(digest.as_bytes()).update(b"\n");
        }
        Some(first(hasher.finalize().to_hex().as_str()).to_owned())
    }

    /// In one line for people.
    pub fn line(&self) -> String {
        let mut parts = Vec::new();
        parts.extend(self.name().map(|name| described(&name, true)));
        parts.extend(self.version.clone());
        parts.join(", ")
    }
}

fn first(digits: &str) -> &str {
    &digits[..digits.floor_char_boundary(DIGITS)]
}

/// Whether what has this name is meant by a condition such as `3f2a9` or `9b01d`: the first digits of the commit, in any number, or of the
/// files' digest.
pub fn is_meant(name: &str, prefix: &str) -> bool {
    let (commit, files) = name.split_once('/').unwrap_or((name, ""));
    let is_hex = prefix.bytes().all(|byte| byte.is_ascii_hexdigit());
    let longer = is_hex && prefix.len() > DIGITS && commit.len() >= DIGITS && prefix.starts_with(commit);
    name.starts_with(prefix) || longer || !files.is_empty() && files.starts_with(prefix)
}

/// A name for people: `3f2a91c`, `9b01d2e (not clean)`; with the files' digest where it is needed to tell two apart.
fn described(name: &str, with_files: bool) -> String {
    let (commit, files) = name.split_once('/').unwrap_or((name, ""));
    let (commit, changed) = commit.strip_suffix('+').map_or((commit, ""), |commit| (commit, "not clean"));
    let files = if with_files && !files.is_empty() { format!("files {files}") } else { String::new() };
    let more: Vec<&str> = [changed, files.as_str()].into_iter().filter(|text| !text.is_empty()).collect();
    if more.is_empty() { commit.to_owned() } else { format!("{commit} ({})", more.join(", ")) }
}

/// One line where trials ran different things: `12 trials ran 3f2a91c, 4 trials ran 9b01d2e (not clean)`.
pub fn mixture(counts: &BTreeMap<String, u64>) -> Option<String> {
    if counts.len() < 2 {
        return None;
    }
    let commit = |name: &str| name.split('/').next().unwrap_or_default().to_owned();
    let mut ordered: Vec<(&String, &u64)> = counts.iter().collect();
    ordered.sort_by_key(|(name, count)| (std::cmp::Reverse(**count), (*name).clone()));
    let part = |(name, count): (&String, &u64)| {
        let twice = counts.keys().filter(|other| commit(other) == commit(name)).count() > 1;
        let trials = if *count == 1 { "trial" } else { "trials" };
        format!("{count} {trials} ran {}", described(name, twice))
    };
    Some(ordered.into_iter().map(part).collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(commit: Option<&str>, clean: Option<bool>, content: Option<&str>) -> Code {
        let files = content.map(|content| ("train.py".to_owned(), content.to_owned()));
        Code {
            commit: commit.map(str::to_owned),
            clean,
            files: files.into_iter().collect(),
            ..Code::default()
        }
    }

    #[test]
    fn different_code_has_different_names() {
        let commit = Some("3f2a91c0aa");
        let all = [
            code(None, None, None),
            code(commit, Some(true), None),
            code(commit, Some(false), None),
            code(commit, Some(true), Some("a")),
            code(commit, Some(false), Some("a")),
            code(commit, Some(false), Some("b")),
            code(None, None, Some("a")),
            Code::of_build("0.1.0-5d41402a"),
        ];
        let names: Vec<Option<String>> = all.iter().map(Code::name).collect();
        for (index, name) in names.iter().enumerate() {
            assert!(!names[..index].contains(name), "{names:?}");
        }
        assert_eq!(names[1].as_deref(), Some("3f2a91c"));
        assert!(names[4].as_ref().is_some_and(|name| name.starts_with("3f2a91c+/") && name.len() == 16));
        // A slow `git status` says nothing, so nothing is promised.
        assert_eq!(code(commit, None, None).name().as_deref(), Some("3f2a91c+"));
        for code in all {
            assert_eq!(Code::read(&code.text()), Some(code));
        }
        assert_eq!(Code::read(r#"{"commit":"a\u0000"}"#), None);
        assert_eq!(Code::read(r#"{"other":1}"#), None);
    }

    #[test]
    fn a_prefix_means_a_commit_or_the_files() {
        for (prefix, meant) in [
            ("3f2a", true),
            ("3f2a91c", true),
            ("3f2a91c0aa41", true),
            ("3f2a91c+", false),
            ("9b01", true),
            ("f2a", false),
            ("b01", false),
        ] {
            assert_eq!(is_meant("3f2a91c/9b01d2e", prefix), meant, "{prefix}");
        }
        assert!(is_meant("3f2a91c+/9b01d2e", "3f2a91c+") && is_meant("0.1.0-5d41402a", "0.1.0-5d4"));
    }

    #[test]
    fn rows_that_mix_versions_are_described_in_one_line() {
        let counts =
            |all: &[(&str, u64)]| all.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
        assert_eq!(mixture(&counts(&[("3f2a91c/1111111", 3)])), None);
        assert_eq!(
            mixture(&counts(&[("3f2a91c/1111111", 12), ("9b01d2e+/1111111", 4)])).unwrap(),
            "12 trials ran 3f2a91c, 4 trials ran 9b01d2e (not clean)"
        );
        assert_eq!(
            mixture(&counts(&[("3f2a91c+/1111111", 1), ("3f2a91c+/2222222", 2)])).unwrap(),
            "2 trials ran 3f2a91c (not clean, files 2222222), 1 trial ran 3f2a91c (not clean, files 1111111)"
        );
    }
}
