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
        self.store.materialise(artifact, &folder).map(|_| folder)
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
        executables: [].into(),
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
        check: None,
    }
}

fn overwrite(path: &Path, bytes: &[u8]) {
    fs::set_permissions(path, Permissions::from_mode(0o644)).unwrap();
    fs::write(path, bytes).unwrap();
}

fn truncate(path: &Path) {
    overwrite(path, b"x");
}

/// Every text that differs from `bytes` in one bit.
fn flipped(bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    (0..bytes.len() * 8).map(|bit| {
        let mut other = bytes.to_vec();
        other[bit / 8] ^= 1 << (bit % 8);
        other
    })
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
fn links_within_and_empty_folders_come_back() {
    let fixture = Fixture::new();
    let files = [("a", "1"), ("deep/b", "2")];
    let plain = fixture.commit(&files);
    let output = fixture.output(&files);
    fs::create_dir_all(output.join("empty/below")).unwrap();
    symlink("deep/b", output.join("down")).unwrap();
    symlink("../a", output.join("deep/up")).unwrap();
    symlink("deep", output.join("folder")).unwrap();
    let artifact = fixture.store.commit(&output).unwrap();
    assert_ne!(artifact, plain);
    let back = fixture.restore(&artifact).unwrap();
    let link = |name: &str| fs::read_link(back.join(name)).unwrap().display().to_string();
    assert_eq!([link("down"), link("deep/up"), link("folder")], ["deep/b", "../a", "deep"]);
    for (name, text) in [("down", "2"), ("deep/up", "1"), ("folder/b", "2")] {
        assert_eq!(fs::read_to_string(back.join(name)).unwrap(), text);
    }
    assert_eq!(fs::read_dir(back.join("empty/below")).unwrap().count(), 0);
    // The manifest survives its JSON.
    let tree = fixture.store.tree(&artifact).unwrap();
    let bytes = serde_json::to_vec(&tree).unwrap();
    assert_eq!(Tree::read(&bytes, &artifact), Ok(tree));
}

#[test]
fn what_cannot_be_kept_moves_nothing() {
    let elsewhere = tempfile::tempdir().unwrap();
    fs::write(elsewhere.path().join("x"), "").unwrap();
    let links = [
        ("/etc/hosts", "link: a link to /etc/hosts, which is not in the artifact"),
        ("../x", "link: a link to ../x, which is not in the artifact"),
        ("nothing", "link: a link to nothing, which is not in the artifact"),
        ("a/../../x", "link: a link to a/../../x, which is not in the artifact"),
    ];
    for (link, what) in links {
        let fixture = Fixture::new();
        let output = fixture.output(&[("a/b", "1")]);
        symlink(link, output.join("link")).unwrap();
        assert_eq!(fixture.store.commit(&output).unwrap_err().to_string(), what);
        assert!(output.join("a/b").exists(), "{link}");
    }
    let fixture = Fixture::new();
    let output = fixture.output(&[("a", "1")]);
    let _socket = std::os::unix::net::UnixListener::bind(output.join("socket")).unwrap();
    let error = fixture.store.commit(&output).unwrap_err();
    assert_eq!(error.to_string(), "socket: an artifact holds files, folders and links");
    assert!(output.join("a").exists());
}

#[test]
fn a_blob_is_readable_for_whom_the_file_was() {
    let fixture = Fixture::new();
    let output = fixture.output(&[("private", "1"), ("group", "2"), ("public", "3")]);
    for (name, mode) in [("private", 0o600), ("group", 0o640), ("public", 0o644)] {
        fs::set_permissions(output.join(name), Permissions::from_mode(mode)).unwrap();
    }
    let artifact = fixture.store.commit(&output).unwrap();
    let tree = fixture.store.tree(&artifact).unwrap();
    let mode = |name: &str| {
        let object = fixture.store.object(&tree.files[name].digest);
        fs::metadata(object).unwrap().permissions().mode() & 0o777
    };
    assert_eq!(["private", "group", "public"].map(mode), [0o400, 0o440, 0o444]);
    // Another file of the same bytes that more may read.
    fixture.commit(&[("x", "1")]);
    assert_eq!(mode("private"), 0o444);
    let target = fixture.folder.path().join("out");
    fixture.store.copy_out(&tree.files["group"], &target).unwrap();
    assert_eq!(fs::metadata(target).unwrap().permissions().mode() & 0o777, 0o640);
}

#[test]
fn a_file_with_another_link_is_copied() {
    let fixture = Fixture::new();
    let output = fixture.output(&[("a", "1")]);
    let other = fixture.folder.path().join("other");
    fs::hard_link(output.join("a"), &other).unwrap();
    let artifact = fixture.store.commit(&output).unwrap();
    overwrite(&other, b"2");
    let back = fixture.restore(&artifact).unwrap();
    assert_eq!(fs::read_to_string(back.join("a")).unwrap(), "1");
}

#[test]
fn a_link_shows_that_its_blob_was_written() {
    let fixture = Fixture::new();
    let artifact = fixture.commit(&[("a", "1")]);
    let folder = fixture.output(&[]);
    let linked = fixture.store.materialise(&artifact, &folder).unwrap();
    assert_eq!(linked.len(), 1);
    assert!(!linked[0].is_changed());
    let object = folder.join("a").canonicalize().unwrap();
    let before = fs::metadata(&object).unwrap().modified().unwrap();
    // Written, written back, and its time set back too.
    overwrite(&object, b"2");
    overwrite(&object, b"1");
    fs::File::options().write(true).open(&object).unwrap().set_modified(before).unwrap();
    assert!(linked[0].is_changed());
    fixture.store.prove_object(&object).unwrap();
    // A blob whose time was set back is read again before it is used.
    overwrite(&object, b"3");
    fs::File::options().write(true).open(&object).unwrap().set_modified(before).unwrap();
    let error = fixture.restore(&artifact).unwrap_err();
    assert!(Damaged::of(&error).is_some());
}

#[test]
fn what_cannot_be_read_is_not_taken_for_gone_or_damaged() {
    let fixture = Fixture::new();
    let artifact = fixture.commit(&[("a", "1")]);
    let record = record(artifact.clone(), fixture.store.put(b"log").unwrap());
    fixture.store.put_record(&record, &code(), Durable::Now).unwrap();
    let path = fixture.store.sharded("trees", &artifact);
    // A folder in its place cannot be read as a file, whoever tries: not even root.
    let aside = fixture.folder.path().join("aside");
    fs::rename(&path, &aside).unwrap();
    fs::create_dir(&path).unwrap();
    let error = fixture.store.held().unwrap_err().to_string();
    assert!(error.contains("cannot be read"), "{error}");
    assert!(fixture.store.sweep_out(&Policy::default(), &Plan::default()).is_err());
    let error = fixture.restore(&artifact).unwrap_err();
    assert!(Damaged::of(&error).is_none(), "{error}");
    fs::remove_dir(&path).unwrap();
    fs::rename(&aside, &path).unwrap();
    assert!(fixture.store.whole(&artifact).is_some());
    // A record of a newer version is not understood, and what it needs is not known.
    let path = fixture.store.sharded("records", &record.key);
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replacen("\"version\": 3", "\"version\": 4", 1)).unwrap();
    let error = fixture.store.held().unwrap_err().to_string();
    assert!(error.ends_with("is of another version of dissim"), "{error}");
    let policy = Policy::default();
    assert!(fixture.store.sweep_out(&policy, &Plan::default()).is_err());
    assert!(fixture.store.whole(&artifact).is_some());
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
    for name in ["../evil", "/evil", "a/../../evil", "a/..", ".", "", "a//b", "a/./b", "a\0b"] {
        let entry = Entry { digest: blob.clone(), size: 1, executable: false };
        let tree = Tree::of_files([(name.to_owned(), entry)].into());
        let path = fixture.store.sharded("trees", &tree.digest());
        fixture.store.write(&path, &serde_json::to_vec(&tree).unwrap()).unwrap();
        let what = Tree::read(&fs::read(&path).unwrap(), &tree.digest()).unwrap_err();
        assert!(what.contains("which leaves its folder"), "{what}");
        assert!(fixture.restore(&tree.digest()).is_err(), "{name}");
        assert!(!path.exists(), "it is in quarantine");
    }
}

#[test]
fn a_record_comes_back_and_a_damaged_one_is_a_miss() {
    let fixture = Fixture::new();
    let artifact = fixture.commit(&[("a", "1")]);
    let record = record(artifact, fixture.store.put(b"log").unwrap());
    fixture.store.put_record(&record, &code(), Durable::Now).unwrap();
    assert_eq!(fixture.store.record(&record.key).as_ref(), Some(&record));
    assert_eq!(fixture.store.latest("a"), Some(record.key.clone()));
    assert_eq!(fixture.store.code(&record.description.code), Some(code()));

    let path = fixture.store.sharded("records", &record.key);
    let good = fs::read_to_string(&path).unwrap();
    let other = Digest::of(b"other");
    let bad = [
        String::new(),
        good[..good.len() / 2].to_owned(),
        good.replace("\"version\": 3", "\"version\": 99"),
        good.replace(record.key.as_str(), other.as_str()),
        good.replace(record.artifact.as_str(), "../../../etc/passwd"),
    ];
    for bad in bad {
        fs::write(&path, &bad).unwrap();
        assert!(fixture.store.record(&record.key).is_none(), "{bad}");
    }
    fixture.store.put_record(&record, &code(), Durable::Now).unwrap();
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
    fixture.store.put_record(&record, &code(), Durable::Now).unwrap();
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
fn a_lock_excludes_and_its_file_goes_with_it() {
    let fixture = Fixture::new();
    let key = Digest::of(b"a");
    let inside = std::sync::atomic::AtomicUsize::new(0);
    let order = std::sync::atomic::Ordering::SeqCst;
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut had = 0;
                while had < 50 {
                    let Some(lock) = fixture.store.try_lock(&key).unwrap() else { continue };
                    assert_eq!(inside.fetch_add(1, order), 0, "two at once");
                    std::thread::yield_now();
                    inside.fetch_sub(1, order);
                    drop(lock);
                    had += 1;
                }
            });
        }
    });
    assert!(!fixture.store.root().join("locks").join(key.as_str()).exists());
}

#[test]
fn what_the_dead_left_is_swept_and_what_the_living_have_stays() {
    let fixture = Fixture::new();
    let root = fixture.store.root();
    let living = fixture.store.run_folder().unwrap();
    fs::write(living.path().join("work"), "").unwrap();
    let writing = fixture.store.temporary(&root.join("objects/x"), b"half").unwrap();
    let locked = fixture.store.try_lock(&Digest::of(b"locked")).unwrap().unwrap();
    let artifact = fixture.commit(&[("a", "1")]);
    let record = record(artifact, fixture.store.put(b"log").unwrap());
    fixture.store.put_record(&record, &code(), Durable::Now).unwrap();
    let (done, not_done) = (record.key.clone(), Digest::of(b"not done"));
    fs::write(fixture.store.scratch(&done).unwrap().join("checkpoint"), "").unwrap();
    fs::write(fixture.store.scratch(&not_done).unwrap().join("checkpoint"), "").unwrap();

    // As a killed runner leaves them: nobody holds a lock on any of them.
    let dead = ["tmp/run-dead/deep", "tmp/run-other"].map(|p| root.join(p));
    fs::create_dir_all(root.join("runs/live")).unwrap();
    dead.iter().for_each(|path| fs::create_dir_all(path).unwrap());
    let files = [
        "tmp/run-dead.alive",
        "tmp/run-lonely.alive",
        "tmp/write-dead",
        "runs/live/dead.json",
        "runs/live/dead.lock",
        "runs/live/lonely.json",
    ];
    let lock = format!("locks/{}", Digest::of(b"dead"));
    let files: Vec<_> = files.iter().chain([&lock.as_str()]).map(|p| root.join(p)).collect();
    files.iter().for_each(|path| fs::write(path, "").unwrap());

    let next = fixture.store.run_folder().unwrap();
    for path in dead.iter().chain(&files) {
        assert!(!path.exists(), "{}", path.display());
    }
    assert!(!root.join("tmp/run-dead").exists());
    assert!(living.path().join("work").exists() && writing.path().exists());
    assert!(fixture.store.try_lock(&Digest::of(b"locked")).unwrap().is_none());
    assert!(!root.join("tmp/scratch").join(done.as_str()).exists(), "its record is written");
    assert!(root.join("tmp/scratch").join(not_done.as_str()).join("checkpoint").exists());

    let path = next.path().to_path_buf();
    drop((next, living, writing, locked));
    assert!(!path.exists());
    let left: Vec<_> =
        fs::read_dir(root.join("tmp")).unwrap().flatten().map(|e| e.file_name()).collect();
    assert_eq!(left, ["scratch"]);
    let left: Vec<_> =
        fs::read_dir(root.join("locks")).unwrap().flatten().map(|e| e.file_name()).collect();
    assert_eq!(left, ["use"]);
}

#[test]
fn a_flipped_bit_is_found_when_the_blob_is_used_and_the_next_commit_mends_it() {
    let fixture = Fixture::new();
    let files = [("a", "long text"), ("b", "more text")];
    let artifact = fixture.commit(&files);
    let tree = fixture.store.tree(&artifact).unwrap();
    let blob = fixture.store.object(&tree.files["a"].digest);
    // Another process: this one has seen the blob whole.
    let store = Store::open(fixture.store.root()).unwrap();
    overwrite(&blob, b"lonG text");
    assert!(store.whole(&artifact).is_some(), "its size says nothing");
    let error = store.materialise(&artifact, &fixture.output(&[])).unwrap_err();
    let damaged = Damaged::of(&error).unwrap();
    assert_eq!(damaged.what, "its 9 bytes are not what its name says");
    assert_eq!(
        fs::read(store.root().join("quarantine").join(&damaged.path)).unwrap(),
        b"lonG text"
    );
    assert!(store.whole(&artifact).is_none(), "a miss now");
    let error = store.materialise(&artifact, &fixture.output(&[])).unwrap_err();
    assert_eq!(Damaged::of(&error).unwrap().what, "it is gone from the store");
    assert_eq!(fixture.commit(&files), artifact);
    fixture.restore(&artifact).unwrap();
    // Damaged bytes never stand in for good ones that would have the same name.
    overwrite(&blob, b"lonG text");
    assert_eq!(store.commit(&fixture.output(&files)).unwrap(), artifact);
    assert_eq!(fs::read(&blob).unwrap(), b"long text");
    overwrite(&blob, b"lonG text");
    assert_eq!(store.put(b"long text").unwrap(), tree.files["a"].digest);
    assert_eq!(fs::read(&blob).unwrap(), b"long text");
}

#[test]
fn swapped_blobs_are_both_found() {
    let fixture = Fixture::new();
    let (one, two) = (fixture.commit(&[("a", "one")]), fixture.commit(&[("a", "two")]));
    let blob =
        |artifact| fixture.store.object(&fixture.store.tree(artifact).unwrap().files["a"].digest);
    let (a, b) = (blob(&one), blob(&two));
    let aside = fixture.folder.path().join("aside");
    fs::rename(&a, &aside).unwrap();
    fs::rename(&b, &a).unwrap();
    fs::rename(&aside, &b).unwrap();
    for artifact in [one, two] {
        let error = fixture.restore(&artifact).unwrap_err();
        assert_eq!(Damaged::of(&error).unwrap().what, "its 3 bytes are not what its name says");
    }
}

#[test]
fn no_flipped_bit_of_a_record_or_a_manifest_changes_what_is_read() {
    let fixture = Fixture::new();
    let artifact = fixture.commit(&[("a", "1"), ("deep/b", "2")]);
    let record = record(artifact.clone(), fixture.store.put(b"log").unwrap());
    fixture.store.put_record(&record, &code(), Durable::Now).unwrap();
    let bytes = fs::read(fixture.store.sharded("records", &record.key)).unwrap();
    assert_eq!(Record::read(&bytes, &record.key), Ok(Some(record.clone())));
    for other in flipped(&bytes) {
        let read = Record::read(&other, &record.key);
        let good = matches!(&read, Err(_) | Ok(None)) || read == Ok(Some(record.clone()));
        assert!(good, "{}", String::from_utf8_lossy(&other));
    }
    for length in 0..bytes.len() {
        assert!(Record::read(&bytes[..length], &record.key).is_err(), "cut to {length} bytes");
    }
    // A whole record that is another one's.
    assert!(Record::read(&bytes, &Digest::of(b"other")).is_err());

    let bytes = fs::read(fixture.store.sharded("trees", &artifact)).unwrap();
    let tree = Tree::read(&bytes, &artifact).unwrap();
    for other in flipped(&bytes) {
        let read = Tree::read(&other, &artifact);
        assert!(read.is_err() || read.as_ref() == Ok(&tree), "{}", String::from_utf8_lossy(&other));
    }
    for length in 0..bytes.len() {
        assert!(Tree::read(&bytes[..length], &artifact).is_err(), "cut to {length} bytes");
    }
}

#[test]
fn what_another_version_wrote_is_a_miss_and_no_damage() {
    let fixture = Fixture::new();
    let record = record(fixture.commit(&[("a", "1")]), fixture.store.put(b"log").unwrap());
    fixture.store.put_record(&record, &code(), Durable::Now).unwrap();
    let path = fixture.store.sharded("records", &record.key);
    let text = fs::read_to_string(&path).unwrap();
    let newer = text.replacen("\"version\": 3", "\"version\": 4, \"new_field\": true", 1);
    fs::write(&path, &newer).unwrap();
    assert!(fixture.store.record(&record.key).is_none());
    assert_eq!(fs::read_to_string(&path).unwrap(), newer, "left alone");
    // So is what an older version wrote; one that lost its checksum is damaged.
    let bare = |version| serde_json::to_vec(&Record { version, ..record.clone() }).unwrap();
    assert_eq!(Record::read(&bare(2), &record.key), Ok(None));
    assert!(Record::read(&bare(Record::VERSION), &record.key).is_err());
}

#[test]
fn a_packed_file_that_promises_too_much_allocates_nothing() {
    let fixture = Fixture::new();
    let mut packer = packed::Packer::default();
    packer.number(u64::MAX);
    fs::write(fixture.store.root().join("index.bin"), packer.seal(1)).unwrap();
    let mut packer = packed::Packer::default();
    packer.number(u64::MAX);
    packer.number(u64::MAX);
    fs::write(fixture.store.root().join("stats.bin"), packer.seal(1)).unwrap();
    assert!(fixture.store.index().look_up(&Digest::of(b"x")).is_none());
    assert_eq!(fixture.store.file_digests().hashed(), 0);
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
