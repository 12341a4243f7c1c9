//! Tests of the store: whole or not at all, and nothing damaged is a hit.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use dissim_api::Code;
use tempfile::TempDir;

use super::*;
use crate::key::Description;

struct Fixture {
    folder: TempDir,
    store: Store,
}

impl Fixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("cache")).unwrap();
        Self { folder, store }
    }

    /// An output folder with these files.
    fn output(&self, files: &[(&str, &str)]) -> PathBuf {
        let folder = tempfile::tempdir_in(self.folder.path()).unwrap().keep();
        for (name, text) in files {
            let path = folder.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        folder
    }

    fn commit(&self, files: &[(&str, &str)]) -> Digest {
        self.store.commit(&self.output(files)).unwrap()
    }

    fn restore(&self, artifact: &Digest) -> std::io::Result<PathBuf> {
        let folder = self.output(&[]);
        self.store.materialise(artifact, &folder).map(|()| folder)
    }
}

fn code() -> Code {
    Code([("a".to_owned(), "1".to_owned())].into())
}

fn record(artifact: Digest, log: Digest) -> Record {
    let description = Description {
        version: Description::VERSION,
        kind: "command".to_owned(),
        code: Digest::try_from(code().digest()).unwrap(),
        params: serde_json::Map::new(),
        inputs: [].into(),
        files: [].into(),
        backend: None,
        pipeline: None,
    };
    Record {
        version: Record::VERSION,
        key: description.key(),
        task: "a".to_owned(),
        description,
        artifact,
        started: 1,
        duration_s: 0.1,
        peak_memory_bytes: 2,
        host: "h".to_owned(),
        log,
        metrics: [("acc".to_owned(), Some(0.1 + 0.2)), ("nan".to_owned(), None)].into(),
        dissim: "0".to_owned(),
    }
}

fn truncate(path: &Path) {
    fs::set_permissions(path, Permissions::from_mode(0o644)).unwrap();
    fs::write(path, "x").unwrap();
}

#[test]
fn what_is_committed_comes_back() {
    let fixture = Fixture::new();
    let files = [("a.txt", "one"), ("deep/er/b.txt", "two"), ("same", "one"), ("empty", "")];
    let output = fixture.output(&files);
    fs::set_permissions(output.join("same"), Permissions::from_mode(0o755)).unwrap();
    let artifact = fixture.store.commit(&output).unwrap();
    assert_eq!(fixture.store.whole(&artifact).unwrap().size(), 3 + 3 + 3);

    let back = fixture.restore(&artifact).unwrap();
    for (name, text) in files {
        assert_eq!(fs::read_to_string(back.join(name)).unwrap(), text, "{name}");
        let mode = fs::metadata(back.join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, if name == "same" { 0o555 } else { 0o444 }, "{name}");
    }
    // The same bytes elsewhere are the same artifact; an executable is another one.
    assert_eq!(fixture.commit(&[("x", "1")]), fixture.commit(&[("x", "1")]));
    assert_ne!(fixture.commit(&files), artifact);
}

#[test]
fn only_plain_files_are_taken() {
    let fixture = Fixture::new();
    let output = fixture.output(&[("a", "1")]);
    symlink("a", output.join("link")).unwrap();
    let error = fixture.store.commit(&output).unwrap_err();
    assert_eq!(error.to_string(), "link: an artifact holds files, no links or devices");
}

#[test]
fn a_blob_that_is_gone_or_has_another_size_is_a_miss() {
    let fixture = Fixture::new();
    let artifact = fixture.commit(&[("a", "long text"), ("b", "more text")]);
    let tree = fixture.store.whole(&artifact).unwrap();
    let blob = fixture.store.object(&tree.files["a"].digest);
    truncate(&blob);
    assert!(fixture.store.whole(&artifact).is_none());
    fs::remove_file(&blob).unwrap();
    assert!(fixture.store.whole(&artifact).is_none());
    assert!(fixture.restore(&artifact).is_err());
    // Running again mends it.
    assert_eq!(fixture.commit(&[("a", "long text"), ("b", "more text")]), artifact);
    assert!(fixture.store.whole(&artifact).is_some());
}

#[test]
fn a_damaged_manifest_is_a_miss_and_is_mended() {
    let fixture = Fixture::new();
    let artifact = fixture.commit(&[("a", "1")]);
    let path = fixture.store.sharded("trees", &artifact);
    let good = fs::read_to_string(&path).unwrap();
    for bad in ["", "{", "[]", &good.replace("\"a\"", "\"b\"")] {
        fs::write(&path, bad).unwrap();
        assert!(fixture.store.tree(&artifact).is_none(), "{bad}");
    }
    assert_eq!(fixture.commit(&[("a", "1")]), artifact);
    assert!(fixture.store.whole(&artifact).is_some());
}

#[test]
fn a_manifest_never_writes_outside_its_folder() {
    let fixture = Fixture::new();
    let blob = fixture.store.put(b"x").unwrap();
    for name in ["../evil", "/evil", "a/../../evil"] {
        let entry = Entry { digest: blob.clone(), size: 1, executable: false };
        let tree = Tree { files: [(name.to_owned(), entry)].into() };
        let path = fixture.store.sharded("trees", &tree.digest());
        fixture.store.write(&path, &serde_json::to_vec(&tree).unwrap()).unwrap();
        let error = fixture.restore(&tree.digest()).unwrap_err();
        assert!(error.to_string().contains("leaves its folder"), "{error}");
    }
}

#[test]
fn a_record_comes_back_and_a_damaged_one_is_a_miss() {
    let fixture = Fixture::new();
    let artifact = fixture.commit(&[("a", "1")]);
    let record = record(artifact, fixture.store.put(b"log").unwrap());
    fixture.store.put_record(&record, &code()).unwrap();
    assert_eq!(fixture.store.record(&record.key).as_ref(), Some(&record));
    assert_eq!(fixture.store.latest("a"), Some(record.key.clone()));
    assert_eq!(fixture.store.code(&record.description.code), Some(code()));

    let path = fixture.store.sharded("records", &record.key);
    let good = fs::read_to_string(&path).unwrap();
    let other = Digest::of(b"other");
    let bad = [
        String::new(),
        good[..good.len() / 2].to_owned(),
        good.replace("\"version\": 1", "\"version\": 99"),
        good.replace(record.key.as_str(), other.as_str()),
        good.replace(record.artifact.as_str(), "../../../etc/passwd"),
    ];
    for bad in bad {
        fs::write(&path, &bad).unwrap();
        assert!(fixture.store.record(&record.key).is_none(), "{bad}");
    }
    fixture.store.put_record(&record, &code()).unwrap();
    assert_eq!(fixture.store.record(&record.key), Some(record));
}

/// Every prefix of what a commit and a record do: a miss, or a whole hit.
#[test]
fn a_crash_between_any_two_steps_leaves_a_miss() {
    let fixture = Fixture::new();
    let output = fixture.output(&[("a", "1"), ("b", "2")]);
    let record = record(Digest::of(b"not yet"), fixture.store.put(b"log").unwrap());
    let hit = |store: &Store| {
        store.record(&record.key).is_some_and(|r| store.whole(&r.artifact).is_some())
    };
    assert!(!hit(&fixture.store));
    // Killed after the first blob: the output folder has lost a file, nothing is known of it.
    let blob = Digest::of(b"1");
    fs::create_dir_all(fixture.store.object(&blob).parent().unwrap()).unwrap();
    fs::rename(output.join("a"), fixture.store.object(&blob)).unwrap();
    assert!(!hit(&fixture.store));
    // The next attempt makes both files again; killed after the manifest.
    fs::write(output.join("a"), "1").unwrap();
    let artifact = fixture.store.commit(&output).unwrap();
    assert!(!hit(&fixture.store));
    let record = Record { artifact, ..record.clone() };
    fixture.store.put_record(&record, &code()).unwrap();
    assert!(fixture.store.whole(&fixture.store.record(&record.key).unwrap().artifact).is_some());
}

#[test]
fn a_key_has_one_lock_and_keys_do_not_share() {
    let fixture = Fixture::new();
    let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
    // Another process opens the store anew; flock counts open files, not processes.
    let other = Store::open(fixture.store.root()).unwrap();
    let held = fixture.store.try_lock(&a).unwrap().expect("free");
    assert!(other.try_lock(&a).unwrap().is_none());
    assert!(other.try_lock(&b).unwrap().is_some());
    drop(held);
    assert!(other.try_lock(&a).unwrap().is_some());
}

#[test]
fn the_folder_of_a_dead_runner_is_swept_and_that_of_a_living_one_stays() {
    let fixture = Fixture::new();
    let living = fixture.store.run_folder().unwrap();
    fs::write(living.path().join("work"), "").unwrap();
    let dead = fixture.store.root().join("tmp/run-dead");
    fs::create_dir_all(dead.join("deep")).unwrap();
    let next = fixture.store.run_folder().unwrap();
    assert!(!dead.exists());
    assert!(living.path().join("work").exists());
    let path = next.path().to_path_buf();
    drop(next);
    assert!(!path.exists());
}

#[test]
fn a_project_file_is_read_again_only_when_stat_says_so() {
    let fixture = Fixture::new();
    let root = fixture.output(&[("old", "1"), ("young", "1")]);
    let long_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(60);
    fs::File::open(root.join("old")).unwrap().set_modified(long_ago).unwrap();
    let names = [Path::new("old"), Path::new("young")];
    let look = |expected: usize| {
        let mut files = fixture.store.file_digests();
        let found = names.map(|name| files.digest(&root, name).unwrap());
        assert_eq!(files.hashed(), expected);
        files.save().unwrap();
        found
    };
    assert_eq!(look(2), [Digest::of(b"1"), Digest::of(b"1")]);
    // A file that was just written may change once more within a tick of the clock.
    look(1);
    fs::write(root.join("old"), "2").unwrap();
    fs::File::open(root.join("old")).unwrap().set_modified(long_ago).unwrap();
    assert_eq!(look(2)[0], Digest::of(b"2"), "same size and mtime, another ctime");
}
