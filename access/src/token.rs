//! Tokens: secrets of 256 random bits.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::AccessError;

/// Scanners for secrets that were published by mistake find tokens by it.
const PREFIX: &str = sortie_core::secret::TOKEN;
const BYTES: usize = 32;

/// The secret by which a program proves its role. It is not shown by `Debug`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Token(String);

impl Token {
    /// A new one.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub fn new() -> Result<Self, AccessError> {
        let mut bytes = [0; BYTES];
        let random = rustls::crypto::aws_lc_rs::default_provider().secure_random;
        random.fill(&mut bytes).map_err(|_| AccessError::certificate("the system gives no random bytes"))?;
        let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self(format!("{PREFIX}{digits}")))
    }

    /// The text, which must not be shown.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// What may be stored of it.
    pub fn digest(&self) -> TokenDigest {
        TokenDigest::of(&self.0)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(a token)")
    }
}

impl FromStr for Token {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_digit = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
        let digits = text.strip_prefix(PREFIX).unwrap_or_default();
        if digits.len() == 2 * BYTES && digits.chars().all(is_digit) {
            return Ok(Self(text.to_owned()));
        }
        Err("the token is not one that Sortie made")
    }
}

impl TryFrom<String> for Token {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Token> for String {
    fn from(token: Token) -> Self {
        token.0
    }
}

/// The SHA-256 of a token. A token has 256 random bits, so that no salt is needed. Two are compared in a time that does not depend on where
/// they differ. Its text is 64 hexadecimal digits.
#[derive(Clone, Copy, Debug, Default, Eq, PartialOrd, Ord)]
pub struct TokenDigest([u8; BYTES]);

impl TokenDigest {
    /// That of what a caller presents, which may be no token at all.
    pub fn of(text: &str) -> Self {
        Self(Sha256::digest(text).into())
    }
}

impl PartialEq for TokenDigest {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl fmt::Display for TokenDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for TokenDigest {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = "a digest has 64 hexadecimal digits";
        let digits = text.as_bytes();
        if digits.len() != 2 * BYTES || !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(wrong);
        }
        let mut bytes = [0; BYTES];
        for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
            let digits = str::from_utf8(digits).map_err(|_| wrong)?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| wrong)?;
        }
        Ok(Self(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_new_hidden_and_known_by_its_digest() {
        let (one, two) = (Token::new().unwrap(), Token::new().unwrap());
        assert_ne!(one, two);
        assert!(one.digest() == TokenDigest::of(one.reveal()) && one.digest() != two.digest());
        assert_eq!(one.digest().to_string().parse(), Ok(one.digest()));
        for bad in ["", "00", &"x".repeat(64), &"é".repeat(32)] {
            assert!(bad.parse::<TokenDigest>().is_err(), "{bad}");
        }
        assert!(!format!("{one:?}").contains(one.reveal()));
        assert_eq!(one.reveal().parse::<Token>().unwrap(), one);
        for bad in ["", "sortie_", &one.reveal()[1..], &one.reveal()[..70], &one.reveal().to_uppercase()] {
            assert!(bad.parse::<Token>().is_err(), "{bad}");
        }
    }
}
