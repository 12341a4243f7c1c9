//! The IDX format of MNIST: a magic number, big-endian sizes, then the bytes.

use std::io::Read;

/// Type code of unsigned bytes, the third byte of the magic number.
const UNSIGNED_BYTES: u8 = 8;

/// Reads an array of unsigned bytes of exactly the shape `sizes`.
///
/// The sizes in the file are compared with those expected before anything is allocated.
///
/// # Errors
/// What is wrong with the file, in words.
pub(crate) fn read(mut file: impl Read, sizes: &[usize]) -> Result<Vec<u8>, String> {
    let mut header = vec![0; 4 + 4 * sizes.len()];
    file.read_exact(&mut header).map_err(|e| format!("cannot read its header: {e}"))?;
    let (magic, rest) = header.split_at(4);
    let dimensions = u8::try_from(sizes.len()).map_err(|e| e.to_string())?;
    if magic != [0, 0, UNSIGNED_BYTES, dimensions] {
        return Err(format!(
            "not an IDX file of {dimensions} dimensions: it starts with {magic:02x?}, expected \
             [00, 00, 08, {dimensions:02x}]"
        ));
    }
    let found: Vec<usize> =
        rest.as_chunks::<4>().0.iter().map(|&size| u32::from_be_bytes(size) as usize).collect();
    if found != sizes {
        return Err(format!("its sizes are {found:?}, expected {sizes:?}"));
    }
    let length: usize = sizes.iter().product();
    let mut bytes = Vec::new();
    let read = file.take(length as u64 + 1).read_to_end(&mut bytes);
    read.map_err(|e| format!("cannot read its {length} bytes: {e}"))?;
    if bytes.len() < length {
        return Err(format!("it ends after {} of {length} bytes", bytes.len()));
    }
    if bytes.len() > length {
        return Err(format!("it goes on after its {length} bytes"));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn file(magic: [u8; 4], sizes: &[u32], data: &[u8]) -> Vec<u8> {
        let sizes = sizes.iter().flat_map(|s| s.to_be_bytes());
        magic.into_iter().chain(sizes).chain(data.iter().copied()).collect()
    }

    #[test]
    fn a_whole_file_is_read() {
        let bytes = file([0, 0, 8, 3], &[2, 1, 3], &[1, 2, 3, 4, 5, 6]);
        assert_eq!(read(&bytes[..], &[2, 1, 3]), Ok(vec![1, 2, 3, 4, 5, 6]));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let error = |bytes: Vec<u8>| read(&bytes[..], &[2, 2]).unwrap_err();
        insta::assert_snapshot!(error(vec![]), @"cannot read its header: failed to fill whole buffer");
        insta::assert_snapshot!(
            error(file([0x1f, 0x8b, 8, 2], &[2, 2], &[0; 4])),
            @"not an IDX file of 2 dimensions: it starts with [1f, 8b, 08, 02], expected [00, 00, 08, 02]"
        );
        insta::assert_snapshot!(
            error(file([0, 0, 8, 2], &[u32::MAX, u32::MAX], &[])),
            @"its sizes are [4294967295, 4294967295], expected [2, 2]"
        );
        insta::assert_snapshot!(
            error(file([0, 0, 8, 2], &[2, 2], &[0; 3])),
            @"it ends after 3 of 4 bytes"
        );
        insta::assert_snapshot!(
            error(file([0, 0, 8, 2], &[2, 2], &[0; 5])),
            @"it goes on after its 4 bytes"
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_error_or_an_array(bytes in prop::collection::vec(0..9_u8, 0..40)) {
            if let Ok(array) = read(&bytes[..], &[3]) {
                prop_assert_eq!(array.len(), 3);
            }
        }
    }
}
