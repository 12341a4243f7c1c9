//! Integer tensors in safetensors files: u8, and u32 as little-endian bytes.

use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, Metadata, TensorView};

use crate::{IoContext, StageError};

/// A named tensor to be written.
pub(super) struct Tensor<'a> {
    pub name: String,
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    pub bytes: std::borrow::Cow<'a, [u8]>,
}

impl<'a> Tensor<'a> {
    pub fn u8(name: impl Into<String>, shape: &[usize], data: &'a [u8]) -> Self {
        Self { name: name.into(), dtype: Dtype::U8, shape: shape.to_vec(), bytes: data.into() }
    }

    pub fn u32(name: impl Into<String>, data: &[u32]) -> Self {
        let bytes: Vec<u8> = data.iter().flat_map(|v| v.to_le_bytes()).collect();
        Self { name: name.into(), dtype: Dtype::U32, shape: vec![data.len()], bytes: bytes.into() }
    }
}

/// Writes the tensors; the bytes depend on nothing else.
pub(super) fn write(path: &Path, tensors: &[Tensor<'_>]) -> Result<(), StageError> {
    let views = tensors
        .iter()
        .map(|t| Ok((t.name.as_str(), TensorView::new(t.dtype, t.shape.clone(), &t.bytes)?)))
        .collect::<Result<Vec<_>, safetensors::SafeTensorError>>()
        .or_fail("cannot lay out tensors", path)?;
    let bytes = safetensors::serialize(views, None).or_fail("cannot lay out tensors", path)?;
    fs::write(path, bytes).or_fail("cannot write", path)
}

/// A safetensors file of which only the header has been read, and checked against the file's size.
pub(super) struct File {
    path: PathBuf,
    header: Metadata,
    /// Where the tensors begin in the file.
    data: u64,
}

impl File {
    /// Reads the header; a damaged one can not make it allocate more than the file holds.
    pub fn open(path: &Path) -> Result<Self, StageError> {
        let damaged = |what: String| {
            StageError::new(format!("not a whole safetensors file: {what}")).at(path)
        };
        let mut file = fs::File::open(path).or_fail("cannot read", path)?;
        let size = file.metadata().or_fail("cannot read", path)?.len();
        let mut length = [0; 8];
        file.read_exact(&mut length).map_err(|_| damaged(format!("it has {size} bytes")))?;
        let length = u64::from_le_bytes(length);
        if length > size.saturating_sub(8) {
            return Err(damaged(format!("a header of {length} bytes in a file of {size}")));
        }
        let mut text = Vec::new();
        file.take(length).read_to_end(&mut text).or_fail("cannot read", path)?;
        let header: Metadata =
            serde_json::from_slice(&text).map_err(|e| damaged(format!("its header: {e}")))?;
        let (data, bytes) = (8 + length, header.data_len() as u64);
        if data.checked_add(bytes) != Some(size) {
            let what = format!("{bytes} bytes of tensors after {data} in a file of {size}");
            return Err(damaged(what));
        }
        Ok(Self { path: path.to_path_buf(), header, data })
    }

    /// A u8 tensor whose shape, after its first dimension, is `item`.
    pub fn u8(&self, name: &str, item: &[usize]) -> Result<Vec<u8>, StageError> {
        self.tensor(name, Dtype::U8, item)
    }

    /// A u32 tensor of one dimension.
    pub fn u32(&self, name: &str) -> Result<Vec<u32>, StageError> {
        let bytes = self.tensor(name, Dtype::U32, &[])?;
        Ok(bytes.as_chunks::<4>().0.iter().map(|&b| u32::from_le_bytes(b)).collect())
    }

    /// Reads one tensor and nothing else: of a file of 150 MB there is never a second copy.
    fn tensor(&self, name: &str, dtype: Dtype, item: &[usize]) -> Result<Vec<u8>, StageError> {
        let Some(info) = self.header.info(name) else {
            let names = self.header.offset_keys().join(", ");
            let what = format!("no tensor `{name}`; there are {names}");
            return Err(StageError::new(what).at(&self.path));
        };
        let shape = &info.shape;
        if info.dtype != dtype || shape.is_empty() || shape[1..] != *item {
            return Err(StageError::new(format!(
                "tensor `{name}` is {:?} {shape:?}, expected {dtype:?} [n, {item:?}]",
                info.dtype
            ))
            .at(&self.path));
        }
        let (start, end) = info.data_offsets;
        let mut bytes = vec![0; end - start];
        let mut read = || -> std::io::Result<()> {
            let mut file = fs::File::open(&self.path)?;
            file.seek(SeekFrom::Start(self.data + start as u64))?;
            file.read_exact(&mut bytes)
        };
        read().or_fail("cannot read", &self.path)?;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(bytes: &[u8]) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.safetensors");
        fs::write(&path, bytes).unwrap();
        File::open(&path).err().map_or_else(|| "no error".to_owned(), |e| e.what)
    }

    #[test]
    fn tensors_survive() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.safetensors");
        let tensors =
            [Tensor::u8("a", &[2, 3], &[1, 2, 3, 4, 5, 6]), Tensor::u32("b", &[7, 1 << 31])];
        write(&path, &tensors).unwrap();
        let file = File::open(&path).unwrap();
        assert_eq!(file.u8("a", &[3]).unwrap(), [1, 2, 3, 4, 5, 6]);
        assert_eq!(file.u32("b").unwrap(), [7, 1 << 31]);
        assert_eq!(file.u32("c").unwrap_err().what, "no tensor `c`; there are b, a");
        let error = file.u8("a", &[2]).unwrap_err().what;
        assert_eq!(error, "tensor `a` is U8 [2, 3], expected U8 [n, [2]]");
    }

    #[test]
    fn a_damaged_file_is_an_error_and_never_a_large_allocation() {
        assert_eq!(error(b""), "not a whole safetensors file: it has 0 bytes");
        let huge = [&u64::MAX.to_le_bytes()[..], b"{}"].concat();
        let expected = format!("a header of {} bytes in a file of 10", u64::MAX);
        assert_eq!(error(&huge), format!("not a whole safetensors file: {expected}"));
        let header = br#"{"a":{"dtype":"U8","shape":[4000000000],"data_offsets":[0,4000000000]}}"#;
        let short = [&(header.len() as u64).to_le_bytes()[..], header, b"1234"].concat();
        let expected = "4000000000 bytes of tensors after 79 in a file of 83";
        assert_eq!(error(&short), format!("not a whole safetensors file: {expected}"));
        let text = [&3u64.to_le_bytes()[..], b"abc"].concat();
        assert!(error(&text).starts_with("not a whole safetensors file: its header:"));
    }
}
