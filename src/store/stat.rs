//! What `stat` says of a file that has not changed.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;

use serde::{Deserialize, Serialize};

use super::packed::{Packer, Unpacker};

/// Equal stats, equal content: any write sets the times, any replacement the inode.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Stat([u64; 7]);

impl Stat {
    pub fn of(metadata: &Metadata) -> Self {
        // Times before 1970 wrap around, and are still only equal to themselves.
        Self([
            metadata.len(),
            metadata.mtime() as u64,
            metadata.mtime_nsec() as u64,
            metadata.ctime() as u64,
            metadata.ctime_nsec() as u64,
            metadata.ino(),
            metadata.dev(),
        ])
    }

    pub fn pack(&self, into: &mut Packer) {
        self.0.iter().for_each(|&n| into.number(n));
    }

    pub fn unpack(from: &mut Unpacker) -> Option<Self> {
        let mut numbers = [0; 7];
        for number in &mut numbers {
            *number = from.number()?;
        }
        Some(Self(numbers))
    }
}
