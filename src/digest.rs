//! A blake3 digest in hex: the name of a blob, of an artifact, of a task.

use std::fmt;

use serde::{Deserialize, Serialize};

/// 64 lower-case hex digits. Anything else is refused when read, so that a damaged file can never
/// name a path outside the store.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest([u8; 64]);

impl Digest {
    /// The digest of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        blake3::hash(bytes).into()
    }

    /// All 64 digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("hex digits are text")
    }

    /// Reads 64 hex digits.
    pub(crate) fn read(digits: &[u8]) -> Option<Self> {
        let hex = |b: &u8| b.is_ascii_digit() || (b'a'..=b'f').contains(b);
        digits.iter().all(hex).then(|| digits.try_into().ok().map(Self)).flatten()
    }

    /// Enough digits for a person.
    #[must_use]
    pub fn short(&self) -> &str {
        &self.as_str()[..12]
    }

    /// The two digits that name the folder it is kept in.
    #[must_use]
    pub fn shard(&self) -> &str {
        &self.as_str()[..2]
    }
}

impl From<blake3::Hash> for Digest {
    fn from(hash: blake3::Hash) -> Self {
        Self(hash.to_hex().as_bytes().try_into().expect("a hash has 64 hex digits"))
    }
}

impl TryFrom<String> for Digest {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::read(text.as_bytes())
            .ok_or_else(|| format!("`{text}` is not a digest of 64 hex digits"))
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.as_str().to_owned()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
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
