//! Access files: what a program needs to reach a coordinator in a role.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use sortie_core::access::Role;

use crate::{AccessError, Address, Token, certificates, private};

/// What the one-line form begins with.
const LINE: &str = sortie_core::secret::ACCESS_LINE;
/// Addresses of one file.
const ADDRESSES_MAX: usize = 16;
const WHAT: &str = "an access file";

/// Where a coordinator is, what proves it, and the token of a role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessFile {
    /// Where the coordinator may be, in the order in which to try.
    pub addresses: Vec<Address>,
    /// What the token allows.
    pub role: Role,
    /// The secret.
    pub token: Token,
    /// The certificate that the server's own must be signed by, in PEM.
    pub ca: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    addresses: Vec<String>,
    role: Role,
    token: Token,
    ca: String,
}

impl AccessFile {
    /// Reads a file, which nobody but its owner may be able to read.
    ///
    /// # Errors
    /// [`AccessError`].
    pub fn read(path: &Path) -> Result<Self, AccessError> {
        let text = private::read(path)?.ok_or_else(|| AccessError::Missing(path.to_owned()))?;
        Self::parse(&text, &path.display().to_string())
    }

    /// Reads a text of either form. `place` says where it stands.
    ///
    /// # Errors
    /// [`AccessError::Malformed`], which shows no secret.
    pub fn parse(text: &str, place: &str) -> Result<Self, AccessError> {
        let wrong = |reason: String| AccessError::Malformed { place: place.to_owned(), what: WHAT, reason };
        let text = match text.trim().strip_prefix(LINE) {
            None => text.to_owned(),
            Some(line) => {
                let bytes = URL_SAFE_NO_PAD.decode(line).map_err(|error| wrong(error.to_string()))?;
                String::from_utf8(bytes).map_err(|_| wrong("it is no text".to_owned()))?
            }
        };
        let Written { addresses, role, token, ca } =
            toml::from_str(&text).map_err(|error: toml::de::Error| wrong(error.message().to_owned()))?;
        if addresses.is_empty() || addresses.len() > ADDRESSES_MAX {
            return Err(wrong(format!("it must have 1 to {ADDRESSES_MAX} addresses")));
        }
        let addresses: Result<Vec<Address>, _> = addresses.iter().map(|address| address.parse()).collect();
        let addresses = addresses.map_err(|error: AccessError| wrong(error.to_string()))?;
        certificates::read(&ca).map_err(|error| wrong(format!("ca: {error}")))?;
        Ok(Self { addresses, role, token, ca })
    }

    /// Whether a text is the one-line form, rather than the path of a file.
    pub fn is_line(text: &str) -> bool {
        text.trim().starts_with(LINE)
    }

    /// As a file.
    pub fn text(&self) -> String {
        let what = match self.role {
            Role::Operator => "do everything that users do",
            Role::Worker => "take trials and report their results",
            Role::Reader => "read everything",
        };
        format!(
            "# Access to a coordinator of Sortie. It holds a secret: whoever has it may {what}.\n{}",
            self.written()
        )
    }

    /// The same in one line, for a variable or a secret of Kubernetes.
    pub fn line(&self) -> String {
        format!("{LINE}{}", URL_SAFE_NO_PAD.encode(self.written()))
    }

    fn written(&self) -> String {
        let quoted: Vec<String> =
            self.addresses.iter().map(|address| format!("{:?}", address.as_str())).collect();
        let Self { role, token, ca, .. } = self;
        format!(
            "addresses = [{}]\nrole = \"{role}\"\ntoken = \"{}\"\nca = \"\"\"\n{}\n\"\"\"\n",
            quoted.join(", "),
            token.reveal(),
            ca.trim()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Identity;

    fn file() -> AccessFile {
        let addresses = ["127.0.0.1:7070", "head:7070"].map(|address| address.parse().unwrap()).to_vec();
        Identity::new().unwrap().access(Role::Worker, addresses)
    }

    #[test]
    fn both_forms_say_the_same() {
        let file = file();
        let line = file.line();
        assert!(AccessFile::is_line(&line) && line.lines().count() == 1 && !line.contains(' '));
        for text in [file.text(), line.clone(), format!("{line}\n")] {
            let read = AccessFile::parse(&text, "x").unwrap();
            assert_eq!((read.role, &read.token, &read.addresses), (file.role, &file.token, &file.addresses));
            assert_eq!(read.ca.trim(), file.ca.trim());
        }
    }

    #[test]
    fn what_is_wrong_is_one_line_without_the_secret() {
        let file = file();
        let text = file.text();
        let secret = file.token.reveal();
        for (old, new, part) in [
            ("role = \"worker\"", "role = \"king\"", "king"),
            ("addresses", "adresses", "adresses"),
            ("\"127.0.0.1:7070\", \"head:7070\"", "", "1 to 16 addresses"),
            ("head:7070", "head", "head"),
            (secret, &secret[1..], "token"),
            ("BEGIN CERTIFICATE", "BEGIN NOTHING", "ca"),
            ("MII", "%%%", "ca"),
        ] {
            let error = AccessFile::parse(&text.replacen(old, new, 1), "FILE").unwrap_err().to_string();
            assert!(
                error.starts_with("FILE ") && error.contains(part) && !error.contains('\n'),
                "{old}: {error}"
            );
            assert!(!error.contains(&secret[8..]), "{old}: {error}");
        }
        assert!(AccessFile::parse("sortie-access.%", "FILE").is_err());
    }
}
