//! A packed file: numbers and texts one after the other, with a checksum in front. For what can be
//! found out again and is only quicker to read here.

use std::fs;
use std::path::Path;

use crate::digest::Digest;

/// Bytes of the checksum in front.
const SUM: usize = 32;

/// Collects what a packed file will hold.
#[derive(Debug, Default)]
pub(super) struct Packer(Vec<u8>);

impl Packer {
    pub fn number(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.0.extend_from_slice(text.as_bytes());
    }

    pub fn digest(&mut self, digest: &Digest) {
        self.0.extend_from_slice(digest.as_str().as_bytes());
    }

    /// The bytes of the file.
    pub fn seal(self, version: u64) -> Vec<u8> {
        let mut file = blake3::hash(&self.0).as_bytes().to_vec();
        file.extend_from_slice(&version.to_le_bytes());
        file.extend(self.0);
        file
    }
}

/// Reads a packed file from front to back. Everything is none after its end.
#[derive(Debug)]
pub(super) struct Unpacker {
    bytes: Vec<u8>,
    at: usize,
}

impl Unpacker {
    /// None where the file is missing, damaged, or of another version.
    pub fn open(path: &Path, version: u64) -> Option<Self> {
        let bytes = fs::read(path).ok()?;
        let body = bytes.get(SUM + 8..)?;
        let good = bytes[SUM..SUM + 8] == version.to_le_bytes()
            && blake3::hash(body).as_bytes() == &bytes[..SUM];
        good.then_some(Self { bytes, at: SUM + 8 })
    }

    /// How many entries of at least so many bytes the rest can hold, whatever it says.
    pub fn most(&self, bytes: usize) -> usize {
        (self.bytes.len() - self.at) / bytes
    }

    fn take(&mut self, length: usize) -> Option<&[u8]> {
        let end = self.at.checked_add(length)?;
        let taken = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    pub fn number(&mut self) -> Option<u64> {
        self.take(8)?.try_into().ok().map(u64::from_le_bytes)
    }

    pub fn text(&mut self) -> Option<&str> {
        let length = usize::try_from(self.number()?).ok()?;
        std::str::from_utf8(self.take(length)?).ok()
    }

    pub fn digest(&mut self) -> Option<Digest> {
        Digest::read(self.take(64)?)
    }
}
