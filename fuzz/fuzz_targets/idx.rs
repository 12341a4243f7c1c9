//! The IDX reader: the array that was asked for, or an error.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(array) = dissim_fetch::fuzzing::idx(bytes, &[2, 28, 28]) {
        assert_eq!(array.len(), 2 * 28 * 28);
    }
    if let Ok(array) = dissim_fetch::fuzzing::idx(bytes, &[3]) {
        assert_eq!(array.len(), 3);
    }
});
