//! Signatures of records (ed25519), so that who can write to a shared store cannot make others
//! believe a result that no member of the group computed.

use std::fmt;
use std::path::Path;

use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use serde::{Deserialize, Serialize};

/// What a signature is made over, before the record's bytes: it can be taken for nothing else.
const DOMAIN: &[u8] = b"dissim record 1\n";
const PUBLIC: &str = "ed25519:";
const SECRET: &str = "ed25519-secret:";
/// The variable that holds the secret key, or the path of a file with it.
pub const VARIABLE: &str = "DISSIM_SIGNING_KEY";

/// Whose signature is believed: `ed25519:` and 64 hex digits.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PublicKey([u8; 32]);

impl TryFrom<String> for PublicKey {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let bytes = text.strip_prefix(PUBLIC).and_then(bytes_of).and_then(|b| b.try_into().ok());
        bytes
            .map(Self)
            .ok_or_else(|| format!("`{text}` is no public key: it is `{PUBLIC}` and 64 hex digits"))
    }
}

impl From<PublicKey> for String {
    fn from(key: PublicKey) -> Self {
        format!("{PUBLIC}{}", hex(&key.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from(self.clone()))
    }
}

/// A signature and the key that made it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signature {
    key: PublicKey,
    signature: String,
}

impl Signature {
    /// Whether one of these keys made it over these bytes.
    #[must_use]
    pub fn is_by(&self, trusted: &[PublicKey], bytes: &[u8]) -> bool {
        let Some(signature) = bytes_of(&self.signature) else { return false };
        let message = [DOMAIN, bytes].concat();
        trusted.contains(&self.key)
            && UnparsedPublicKey::new(&ED25519, &self.key.0).verify(&message, &signature).is_ok()
    }
}

/// Signs records. Never shown, never logged.
pub struct Signer(Ed25519KeyPair);

impl Signer {
    /// The signer that the environment names, if it names one.
    ///
    /// # Errors
    /// When what it names is no secret key; the key itself is not told.
    pub fn from_environment() -> Result<Option<Self>, String> {
        let Some(value) = std::env::var_os(VARIABLE).filter(|v| !v.is_empty()) else {
            return Ok(None);
        };
        let text = match value.to_str() {
            Some(text) if text.starts_with(SECRET) => text.to_owned(),
            _ => {
                let path = Path::new(&value);
                std::fs::read_to_string(path)
                    .map_err(|e| format!("{VARIABLE}: {}: {e}", path.display()))?
            }
        };
        Self::of(&text).map(Some).ok_or_else(|| {
            format!("{VARIABLE} is no secret key: `dissim cache key FILE` makes one")
        })
    }

    /// The signer of a secret key's text.
    pub(super) fn of(text: &str) -> Option<Self> {
        let seed = text.trim().strip_prefix(SECRET).and_then(bytes_of)?;
        Ed25519KeyPair::from_seed_unchecked(&seed).ok().map(Self)
    }

    /// Signs bytes.
    #[must_use]
    pub fn sign(&self, bytes: &[u8]) -> Signature {
        let signature = self.0.sign(&[DOMAIN, bytes].concat());
        Signature { key: self.public(), signature: hex(signature.as_ref()) }
    }

    fn public(&self) -> PublicKey {
        PublicKey(self.0.public_key().as_ref().try_into().expect("a public key has 32 bytes"))
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({:?})", self.public())
    }
}

/// A new pair: the text of the secret key, and the public key.
///
/// # Errors
/// When the system has no random numbers.
pub fn new_pair() -> std::io::Result<(String, PublicKey)> {
    let mut seed = [0; 32];
    let none = |_| std::io::Error::other("the system gives no random numbers");
    SystemRandom::new().fill(&mut seed).map_err(none)?;
    let secret = format!("{SECRET}{}\n", hex(&seed));
    let signer = Signer::of(&secret).expect("any 32 bytes are a seed");
    Ok((secret, signer.public()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn bytes_of(hex: &str) -> Option<Vec<u8>> {
    let digits = hex.as_bytes();
    if !digits.len().is_multiple_of(2) || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signer() -> Signer {
        Signer::of(&new_pair().unwrap().0).unwrap()
    }

    #[test]
    fn only_what_a_trusted_key_signed_is_believed() {
        let (ours, theirs) = (signer(), signer());
        let signature = ours.sign(b"record");
        assert!(signature.is_by(&[theirs.public(), ours.public()], b"record"));
        assert!(!signature.is_by(&[ours.public()], b"another record"));
        assert!(!signature.is_by(&[theirs.public()], b"record"));
        assert!(!signature.is_by(&[], b"record"));
        // Under the name of a key that did not make it.
        let forged = Signature { key: ours.public(), ..theirs.sign(b"record") };
        assert!(!forged.is_by(&[ours.public()], b"record"));
        let broken = Signature { signature: "zz".to_owned(), ..signature };
        assert!(!broken.is_by(&[ours.public()], b"record"));
    }

    #[test]
    fn a_public_key_is_text_and_a_signer_never_tells_its_secret() {
        let signer = signer();
        let text = String::from(signer.public());
        assert_eq!(PublicKey::try_from(text.clone()), Ok(signer.public()));
        assert_eq!(format!("{signer:?}"), format!("Signer({text})"));
        for bad in ["", "ed25519:12", &text[8..], &format!("{text}00")] {
            assert!(PublicKey::try_from(bad.to_owned()).is_err(), "{bad}");
        }
    }

    /// RFC 8032, section 7.1, test 1: the pair of its secret key.
    #[test]
    fn the_key_of_a_seed_is_that_of_the_rfc() {
        let seed = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
        let signer = Signer::of(&format!("{SECRET}{seed}")).unwrap();
        assert_eq!(
            String::from(signer.public()),
            "ed25519:d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
        );
    }
}
