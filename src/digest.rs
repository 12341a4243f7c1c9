//! A blake3 digest in hex: the name of a blob, of an artifact, of a task.

use std::fmt;

use serde::{Deserialize, Serialize};

/// 64 lower-case hex digits. Anything else is refused when read, so that a damaged file can never
/// name a path outside the store.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(String);

impl Digest {
    /// The digest of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        blake3::hash(bytes).into()
    }

    /// All 64 digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Enough digits for a person.
    #[must_use]
    pub fn short(&self) -> &str {
        &self.0[..12]
    }

    /// The two digits that name the folder it is kept in.
    #[must_use]
    pub fn shard(&self) -> &str {
        &self.0[..2]
    }
}

impl From<blake3::Hash> for Digest {
    fn from(hash: blake3::Hash) -> Self {
        Self(hash.to_hex().to_string())
    }
}

impl TryFrom<String> for Digest {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if text.len() == 64 && text.bytes().all(hex) {
            Ok(Self(text))
        } else {
            Err(format!("`{text}` is not a digest of 64 hex digits"))
        }
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.short())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_digest_is_read() {
        let good = Digest::of(b"x");
        assert_eq!(Digest::try_from(good.to_string()), Ok(good.clone()));
        let upper = good.as_str().to_uppercase();
        for bad in ["", "abc", "../../../etc/passwd", upper.as_str()] {
            assert!(Digest::try_from(bad.to_owned()).is_err(), "{bad}");
        }
    }
}
