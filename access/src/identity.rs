//! The identity of a user's coordinators: a CA, and a token for each role.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sortie_core::access::Role;

use crate::{AccessError, AccessFile, Address, Target, Token, TokenDigest, certificates};

const WHAT: &str = "a coordinator's identity";

/// What all coordinators of one user prove, and ask of others. It is secret as a whole.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The certificate of its CA, in PEM.
    pub(crate) ca: String,
    /// The CA's key, in PEM.
    pub(crate) key: Key,
    tokens: BTreeMap<Role, Token>,
}

/// A private key in PEM, which `Debug` does not show.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Key(pub(crate) String);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(a key)")
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    ca: String,
    key: Key,
    tokens: BTreeMap<Role, Token>,
}

impl Identity {
    /// A new one, which is nowhere but in memory.
    ///
    /// # Errors
    /// [`AccessError::Certificate`].
    pub fn new() -> Result<Self, AccessError> {
        let (ca, key) = certificates::new_ca()?;
        let tokens: Result<_, AccessError> =
            Role::ALL.iter().map(|&role| Ok((role, Token::new()?))).collect();
        Ok(Self { ca, key: Key(key), tokens: tokens? })
    }

    /// Reads one. `place` says where the text stands.
    ///
    /// # Errors
    /// [`AccessError::Malformed`], which shows no secret.
    pub fn parse(text: &str, place: &str) -> Result<Self, AccessError> {
        let wrong = |reason: String| AccessError::Malformed { place: place.to_owned(), what: WHAT, reason };
        let Written { ca, key, tokens } =
            toml::from_str(text).map_err(|error: toml::de::Error| wrong(error.message().to_owned()))?;
        certificates::read(&ca).map_err(|error| wrong(format!("ca: {error}")))?;
        if let Some(role) = Role::ALL.iter().find(|role| !tokens.contains_key(role)) {
            return Err(wrong(format!("it has no token for the role {role}")));
        }
        Ok(Self { ca, key, tokens })
    }

    /// As a file.
    pub fn text(&self) -> String {
        let tokens: String =
            self.tokens.iter().map(|(role, token)| format!("{role} = \"{}\"\n", token.reveal())).collect();
        format!(
            "# The identity of this user's coordinators. It is secret: whoever has it can pass for any of them.\n\
             ca = \"\"\"\n{}\n\"\"\"\nkey = \"\"\"\n{}\n\"\"\"\n\n[tokens]\n{tokens}",
            self.ca.trim(),
            self.key.0.trim()
        )
    }

    /// What a program needs to reach a coordinator of this identity.
    pub fn access(&self, role: Role, addresses: Vec<Address>) -> AccessFile {
        AccessFile { addresses, role, token: self.tokens[&role].clone(), ca: self.ca.clone() }
    }

    /// The same with another token for a role.
    pub(crate) fn with_token(mut self, role: Role, token: Token) -> Self {
        self.tokens.insert(role, token);
        self
    }

    /// A coordinator of this identity at an address, for its own programs.
    ///
    /// # Errors
    /// [`AccessError::Certificate`].
    pub fn target(&self, role: Role, address: Address) -> Result<Target, AccessError> {
        Target::new(&self.access(role, vec![address]))
    }

    /// What a coordinator knows of the tokens.
    pub fn digests(&self) -> Vec<(TokenDigest, Role)> {
        self.tokens.iter().map(|(&role, token)| (token.digest(), role)).collect()
    }

    /// By which it is known: the SHA-256 of its CA's certificate.
    pub fn digest(&self) -> TokenDigest {
        TokenDigest::of(self.ca.trim())
    }

    /// Whether an access file is of this identity.
    pub fn made(&self, file: &AccessFile) -> bool {
        file.ca.trim() == self.ca.trim()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_what_it_was_when_it_is_read_again() {
        let made = Identity::new().unwrap();
        let read = Identity::parse(&made.text(), "x").unwrap();
        assert!(read.made(&made.access(Role::Reader, Vec::new())));
        assert_eq!(read.tokens, made.tokens);
        assert_eq!(read.key.0.trim(), made.key.0.trim());
        assert!(!Identity::new().unwrap().made(&made.access(Role::Reader, Vec::new())));
        let shown = format!("{made:?}");
        assert!(
            !shown.contains("PRIVATE") && !shown.contains(made.tokens[&Role::Worker].reveal()),
            "{shown}"
        );
        for (old, new, part) in [("reader =", "rider =", "rider"), ("CERTIFICATE", "X", "ca")] {
            let error = Identity::parse(&made.text().replace(old, new), "FILE").unwrap_err().to_string();
            assert!(error.contains(part) && !error.contains('\n'), "{error}");
        }
    }
}
