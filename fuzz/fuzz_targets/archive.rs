//! Unpacking a gzipped tar: wanted names in the folder, and nothing anywhere else.

#![no_main]

use std::fs;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let root = tempfile::tempdir().unwrap();
    let (archive, folder) = (root.path().join("a.tgz"), root.path().join("out"));
    fs::write(&archive, bytes).unwrap();
    let _ = dissim_fetch::fuzzing::unpack(&archive, &["one", "two"], &folder);
    let names = |folder: &std::path::Path| -> Vec<_> {
        fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.file_name()).collect()
    };
    assert!(names(root.path()).len() <= 2);
    assert!(names(&folder).iter().all(|name| name == "one" || name == "two"));
});
