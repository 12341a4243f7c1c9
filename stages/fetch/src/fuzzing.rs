//! The readers of foreign formats, for fuzz/: nothing else has a use for them by themselves.

use std::io::Cursor;
use std::path::Path;

use dissim_api::StageError;

use crate::{archive, cifar, idx};

/// An IDX array of these sizes.
///
/// # Errors
/// What is wrong with the bytes, in words; here and below.
pub fn idx(bytes: &[u8], sizes: &[usize]) -> Result<Vec<u8>, String> {
    idx::read(bytes, sizes)
}

/// A PNG with an image of CIFAR-10 a row.
///
/// # Errors
/// As [`idx`].
pub fn png(bytes: &[u8], n: usize, images: &mut Vec<u8>) -> Result<(), String> {
    cifar::read_png(Cursor::new(bytes), n, images)
}

/// A binary batch of CIFAR-10.
///
/// # Errors
/// As [`idx`].
pub fn binary(
    bytes: &[u8],
    n: usize,
    images: &mut Vec<u8>,
    labels: &mut Vec<u8>,
) -> Result<(), String> {
    cifar::read_binary(bytes, n, images, labels)
}

/// Labels as a JSON array.
///
/// # Errors
/// As [`idx`].
pub fn labels(bytes: &[u8], n: usize) -> Result<Vec<u8>, String> {
    cifar::read_labels(bytes, n)
}

/// The wanted files of a gzipped tar.
///
/// # Errors
/// When it is no such archive, holds none of them, or a file cannot be written.
pub fn unpack(archive: &Path, wanted: &[&str], folder: &Path) -> Result<(), StageError> {
    archive::unpack_tar_gz(archive, wanted, folder)
}
