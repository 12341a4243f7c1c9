//! The readers of CIFAR-10's batches: as many images as were asked for, or an error.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let (mut images, mut labels) = (Vec::new(), Vec::new());
    if dissim_fetch::fuzzing::png(bytes, 2, &mut images).is_ok() {
        assert_eq!(images.len(), 2 * 3072);
    }
    images.clear();
    if dissim_fetch::fuzzing::binary(bytes, 2, &mut images, &mut labels).is_ok() {
        assert_eq!((images.len(), labels.len()), (2 * 3072, 2));
        assert!(labels.iter().all(|&label| label < 10));
    }
    if let Ok(labels) = dissim_fetch::fuzzing::labels(bytes, 3) {
        assert!(labels.len() == 3 && labels.iter().all(|&label| label < 10));
    }
});
