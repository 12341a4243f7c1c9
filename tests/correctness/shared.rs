//! What travels: remote stores, bundles, and code fingerprints.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tar::{Archive, Builder, EntryType, Header};
use walkdir::WalkDir;

use super::fixture::{Study, Told};

const STAGE: &str = "t: { kind: command, with: { shell: 'echo 1 > out', outputs: [out] } }";

/// The files below a folder, sorted.
fn files(folder: &Path) -> Vec<PathBuf> {
    let all = WalkDir::new(folder).sort_by_file_name().into_iter().filter_map(Result::ok);
    all.filter(|entry| !entry.file_type().is_dir()).map(walkdir::DirEntry::into_path).collect()
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

/// A folder that projects share as their remote store.
struct Shared(tempfile::TempDir);

impl Shared {
    fn new() -> Self {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
        Self(folder)
    }

    fn study(&self, stages: &str) -> Study {
        let remote = self.0.path().display();
        let head = format!("store: {{ remote: \"file://{remote}\", mode: readwrite }}");
        Study::with_head(&head, stages)
    }

    /// The one file below a folder of the store.
    fn only(&self, folder: &str) -> PathBuf {
        let found = files(&self.0.path().join(folder));
        assert_eq!(found.len(), 1, "{found:?}");
        found[0].clone()
    }

    fn told(&self, text: &str) -> String {
        text.replace(&format!("file://{}", self.0.path().display()), "REMOTE")
    }
}

/// Runs a command that must end within a minute.
#[track_caller]
fn soon(mut command: Command) -> Told {
    let mut child =
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).stdin(Stdio::null()).spawn().unwrap();
    let start = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if start.elapsed() > Duration::from_secs(60) {
            child.kill().unwrap();
            panic!("it does not end: {:?}", Told::of(child.wait_with_output().unwrap()));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Told::of(child.wait_with_output().unwrap())
}

fn make_fifo(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

#[test]
fn special_file_in_a_remote_costs_a_warning() {
    type Put = fn(&Path);
    let put: [(&str, Put); 4] = [
        ("a FIFO", make_fifo),
        ("a folder", |path| fs::create_dir(path).unwrap()),
        ("a socket", |path| drop(std::os::unix::net::UnixListener::bind(path).unwrap())),
        ("a device", |path| symlink("/dev/zero", path).unwrap()),
    ];
    for (name, put) in put {
        let shared = Shared::new();
        shared.study(STAGE).dissim(&["run"]).ended(0);
        let record = shared.only("records");
        fs::remove_file(&record).unwrap();
        // A path to a socket is short.
        let short = tempfile::tempdir().unwrap();
        put(&short.path().join("x"));
        if name == "a device" {
            symlink("/dev/zero", &record).unwrap();
        } else {
            assert!(
                Command::new("mv")
                    .arg(short.path().join("x"))
                    .arg(&record)
                    .status()
                    .unwrap()
                    .success()
            );
        }
        let told = soon(shared.study(STAGE).command(&["run"]));
        assert_eq!(told.counts(), (1, 0), "{name}: {}", told.stderr);
        let key = record.file_name().unwrap().to_str().unwrap();
        let warning = format!(
            "warning: refused from REMOTE, and computed here: records/{}/{key}: it is {name}, not a regular file\n",
            &key[..2]
        );
        assert!(shared.told(&told.stderr).contains(&warning), "{name}: {}", told.stderr);
    }
}

#[test]
fn special_file_at_the_place_of_a_blob_or_code_costs_a_warning() {
    let large =
        "t: { kind: command, with: { shell: 'head -c 9000000 /dev/zero > out', outputs: [out] } }";
    for folder in ["objects", "code"] {
        let shared = Shared::new();
        shared.study(large).dissim(&["run"]).ended(0);
        let object = shared.only(folder);
        fs::remove_file(&object).unwrap();
        make_fifo(&object);
        let told = soon(shared.study(large).command(&["run"]));
        let computed = usize::from(folder == "objects");
        assert_eq!(told.counts(), (computed, 1 - computed), "{}", told.stderr);
        // The next user has what this run put in its place.
        let told = soon(shared.study(large).command(&["run"])).ended(0);
        assert_eq!(told.counts(), (0, 1), "{}", told.stderr);
    }
}

#[test]
fn special_file_among_the_signs_of_life_does_not_stop_a_run() {
    let shared = Shared::new();
    for folder in ["beats", "claims"] {
        fs::create_dir(shared.0.path().join(folder)).unwrap();
        make_fifo(&shared.0.path().join(folder).join("0000000000000000"));
    }
    let told = soon(shared.study(STAGE).command(&["run"])).ended(0);
    assert_eq!(told.counts(), (1, 0), "{}", told.stderr);
    assert_eq!(files(&shared.0.path().join("records")).len(), 1);
}

#[test]
fn object_of_another_size_is_not_read() {
    let large =
        "t: { kind: command, with: { shell: 'head -c 9000000 /dev/zero > out', outputs: [out] } }";
    let shared = Shared::new();
    shared.study(large).dissim(&["run"]).ended(0);
    let object = shared.only("objects");
    let _ = fs::set_permissions(&object, Permissions::from_mode(0o644));
    // A terabyte without a block on the disk.
    fs::File::options().write(true).open(&object).unwrap().set_len(1 << 40).unwrap();
    let study = shared.study(large);
    let told = soon(study.command(&["run"]));
    assert_eq!(told.counts(), (1, 0), "{}", told.stderr);
    let warning = "it has 1099511627776 bytes, and its manifest says 9000000\n";
    assert!(told.stderr.contains(warning), "{}", told.stderr);
    assert_eq!(fs::metadata(&object).unwrap().len(), 9_000_000);
}

#[test]
fn record_larger_than_any_is_refused_unread() {
    let shared = Shared::new();
    shared.study(STAGE).dissim(&["run"]).ended(0);
    let record = shared.only("records");
    fs::File::options().write(true).open(&record).unwrap().set_len(1 << 40).unwrap();
    let told = soon(shared.study(STAGE).command(&["run"]));
    assert_eq!(told.counts(), (1, 0), "{}", told.stderr);
    let warning = "it has 1099511627776 bytes, and at most 67108864 are read\n";
    assert!(told.stderr.contains(warning), "{}", told.stderr);
    assert!(fs::metadata(&record).unwrap().len() < 1 << 20);
}

/// Makes the record in a remote say that its task left these files, each with the text `1`.
fn forge(record: &Path, names: &[String]) {
    let bytes = fs::read(record).unwrap();
    let (magic, rest) = bytes.split_at(b"dissim pack 1\n".len());
    let length = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
    let mut header: Value = serde_json::from_slice(&rest[8..8 + length]).unwrap();
    let record_length = header["record"].as_u64().unwrap() as usize;
    let (text, blobs) = rest[8 + length..].split_at(record_length);
    let entry = header["tree"].as_object().unwrap().values().next().unwrap().clone();
    let tree: BTreeMap<&String, Value> = names.iter().map(|name| (name, entry.clone())).collect();
    // With its keys in the order of the manifest.
    let digest_first =
        |entry: &Value| format!("{{\"digest\":{},\"size\":{}}}", entry["digest"], entry["size"]);
    let parts: Vec<String> = tree
        .iter()
        .map(|(name, entry)| format!("{}:{}", json!(name), digest_first(entry)))
        .collect();
    let tree_text = format!("{{{}}}", parts.join(","));
    let artifact = blake3::hash(tree_text.as_bytes()).to_hex().to_string();
    let text = String::from_utf8(text.to_vec()).unwrap();
    let old =
        serde_json::from_str::<Value>(&text).unwrap()["artifact"].as_str().unwrap().to_owned();
    let text = text.replace(&old, &artifact);
    header["tree"] = serde_json::from_str(&tree_text).unwrap();
    header["record"] = json!(text.len());
    let header = header.to_string();
    let length = (header.len() as u64).to_le_bytes();
    fs::write(record, [magic, &length, header.as_bytes(), text.as_bytes(), blobs].concat())
        .unwrap();
}

#[test]
fn forged_manifest_is_refused_and_harms_no_later_run() {
    let cases: [(&[&str], &str); 10] = [
        (&["out", "out/b"], "the manifest has a file `out/b`, which is below a file"),
        (&["../out"], "the manifest has a file `../out`, which leaves its folder"),
        (&["/out"], "the manifest has a file `/out`, which leaves its folder"),
        (&["a//out"], "the manifest has a file `a//out`, which leaves its folder"),
        (&["a/./out"], "the manifest has a file `a/./out`, which leaves its folder"),
        (&["out\0"], "the manifest has a file `out\\0`, which leaves its folder"),
        (&["LONG"], "which is longer than a file system takes"),
        (&["DEEP"], "which is longer than a file system takes"),
        (&["Out/a", "out/b"], "its manifest has `Out` and `out`, one name to some file systems"),
        (&["\u{e9}", "e\u{301}"], "one name to some file systems"),
    ];
    for (names, expected) in cases {
        let names: Vec<String> = names
            .iter()
            .map(|name| match *name {
                "LONG" => "x".repeat(300),
                "DEEP" => vec!["xxxxxxxxx"; 400].join("/"),
                name => name.to_owned(),
            })
            .collect();
        let shared = Shared::new();
        shared.study(STAGE).dissim(&["run"]).ended(0);
        forge(&shared.only("records"), &names);
        let study = shared.study(STAGE);
        let told = study.dissim(&["run"]).ended(0);
        assert_eq!(told.counts(), (1, 0), "{expected}: {}", told.stderr);
        assert!(told.stderr.contains(expected), "{expected}: {}", told.stderr);
        let told = study.dissim(&["run"]).ended(0);
        assert_eq!((told.counts(), told.stderr.as_str()), ((0, 1), ""), "{expected}");
    }
    // The forgery itself is good: a name that nothing is wrong with is believed.
    let shared = Shared::new();
    shared.study(STAGE).dissim(&["run"]).ended(0);
    forge(&shared.only("records"), &["other".to_owned()]);
    assert_eq!(shared.study(STAGE).dissim(&["run"]).ended(0).counts(), (0, 1));
}

#[test]
fn remote_that_cannot_be_read_is_not_an_empty_one() {
    let shared = Shared::new();
    let empty = shared.study(STAGE).dissim(&["cache", "pull"]).ended(0);
    insta::assert_snapshot!(shared.told(&empty.stdout), @"0 results taken from REMOTE, 0 B");
    shared.study(STAGE).dissim(&["run"]).ended(0);
    let locked = shared.0.path().join("records");
    fs::set_permissions(&locked, Permissions::from_mode(0o000)).unwrap();
    let study = shared.study(STAGE);
    fs::set_permissions(study.path(), Permissions::from_mode(0o777)).unwrap();
    let told = study.dissim_as_nobody(&["cache", "pull"]);
    let run = study.dissim_as_nobody(&["run"]);
    fs::set_permissions(&locked, Permissions::from_mode(0o755)).unwrap();
    let told = told.ended(1);
    assert_eq!(
        shared.told(&told.stdout),
        "0 results taken from REMOTE, 0 B, 1 could not be taken\n",
        "{}",
        told.stderr
    );
    let warning = "warning: remote store REMOTE is unavailable: ";
    assert!(shared.told(&told.stderr).starts_with(warning), "{}", told.stderr);
    assert!(told.stderr.trim_end().ends_with("Permission denied (os error 13)"), "{}", told.stderr);
    assert_eq!(run.counts(), (1, 0), "{}", run.stderr);
    let warning = "warning: remote store REMOTE is unavailable, continuing without it: ";
    assert_eq!(shared.told(&run.stderr).matches(warning).count(), 1, "{}", run.stderr);
}

// Bundles.

/// One member of a bundle: header and bytes as given.
struct Member {
    name: Vec<u8>,
    kind: EntryType,
    size: u64,
    bytes: Vec<u8>,
    mode: u32,
}

fn member(name: &str, bytes: &[u8]) -> Member {
    let (name, size) = (name.as_bytes().to_vec(), bytes.len() as u64);
    Member { name, kind: EntryType::Regular, size, bytes: bytes.to_vec(), mode: 0o644 }
}

fn of_kind(kind: EntryType, name: &str) -> Member {
    Member { kind, ..member(name, b"") }
}

/// A bundle of these members, past the checks of the library.
fn bundle(members: &[Member]) -> Vec<u8> {
    let mut tar = Builder::new(Vec::new());
    let contents = member("bundle.json", br#"{"version":1,"name":"x","dissim":"0","tasks":{}}"#);
    for Member { name, kind, size, bytes, mode } in [&contents].into_iter().chain(members) {
        let mut header = Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name);
        header.set_entry_type(*kind);
        header.set_size(*size);
        header.set_mode(*mode);
        header.set_cksum();
        tar.append(&header, &bytes[..]).unwrap();
    }
    tar.into_inner().unwrap()
}

#[test]
fn hostile_bundle_is_one_error_and_leaves_nothing() {
    let long = |size: u64, bytes: &[u8]| Member {
        kind: EntryType::GNULongName,
        size,
        ..member("././@LongLink", bytes)
    };
    let text = || member("project/ok.txt", b"ok");
    let cases: Vec<(Vec<Member>, &str)> = vec![
        (
            vec![text(), long(2 << 30, b"x")],
            "the bundle has a name of 2147483648 bytes, and at most 4096 are read",
        ),
        (vec![text(), long(4, b"a/.."), member("x", b"")], "`a/..`: not a path of a bundle"),
        (vec![text(), long(4, b"a/bc")], "the bundle is cut off: it ends behind a long name"),
        (
            vec![text(), long(300, &[b'x'; 300]), member("x", b"")],
            "its name is longer than a file system takes",
        ),
        (vec![text(), member("/abs", b"")], "`/abs`: not a path of a bundle"),
        (
            vec![text(), member("project/../../up", b"")],
            "`project/../../up`: not a path of a bundle",
        ),
        (vec![text(), member("project//x", b"")], "`project//x`: not a path of a bundle"),
        (vec![text(), member("project/./x", b"")], "`project/./x`: not a path of a bundle"),
        (
            vec![text(), member("project/\x1b[31m", b""), text()],
            "`project/ok.txt`: the bundle has it twice",
        ),
        (
            vec![text(), of_kind(EntryType::Link, "project/x")],
            "`project/x`: a bundle holds regular files only",
        ),
        (
            vec![text(), of_kind(EntryType::Symlink, "project/x")],
            "`project/x`: a bundle holds regular files only",
        ),
        (
            vec![text(), of_kind(EntryType::Block, "project/x")],
            "`project/x`: a bundle holds regular files only",
        ),
        (
            vec![text(), of_kind(EntryType::GNUSparse, "project/x")],
            "`project/x`: a bundle holds regular files only",
        ),
        (
            vec![text(), of_kind(EntryType::XHeader, "project/x")],
            "`project/x`: a bundle holds regular files only",
        ),
        (
            vec![text(), of_kind(EntryType::Directory, "project/x")],
            "`project/x`: a bundle holds regular files only",
        ),
        (
            vec![text(), member("project/link/new/deep.txt", b"x")],
            "`project/link/new/deep.txt`: leaves the project by the link ./link",
        ),
        (
            vec![text(), member("project/dangling/x", b"x")],
            "`project/dangling/x`: leaves the project by the link ./dangling",
        ),
        (vec![text(), member("project/file/x", b"x")], "`project/file/x`: ./file is not a folder"),
        (
            vec![text(), Member { size: 1 << 30, ..member("project/short", b"x") }],
            "`project/short`: the bundle is cut off",
        ),
        (
            vec![
                text(),
                Member { size: 1 << 30, ..member(&format!("code/{}.json", "a".repeat(64)), b"x") },
            ],
            "larger than 64 MB",
        ),
        (vec![text(), member("code/x.json", b"{}")], "`code/x.json`: its name is not a digest"),
        (
            vec![text(), member(&format!("objects/{}", "0".repeat(64)), b"x")],
            "its bytes are not what its name says",
        ),
    ];
    for (members, expected) in cases {
        let outside = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let study = Study::new(STAGE);
        symlink(outside.path(), study.path().join("link")).unwrap();
        symlink(outside.path().join("not/there"), study.path().join("dangling")).unwrap();
        study.write("file", "mine");
        fs::write(study.path().join("x.tar"), bundle(&members)).unwrap();
        let told = soon(study.command(&["import", "x.tar"])).ended(2);
        assert!(told.stderr.contains(expected), "{expected}\n{}", told.stderr);
        assert_eq!(told.stderr.matches("error").count(), 1, "{}", told.stderr);
        assert!(!told.stderr.contains('\x1b'), "{}", told.stderr);
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0, "{expected}");
        assert!(!study.path().join("ok.txt").exists(), "{expected}");
        let mut left = files(&study.path().join("cache"));
        left.retain(|file| !file.ends_with("locks/use") && !file.ends_with(".gitignore"));
        assert_eq!(left, [] as [PathBuf; 0], "{expected}");
    }
}

#[test]
fn long_name_in_a_bundle_takes_no_memory() {
    let study = Study::new(STAGE);
    let name =
        Member { kind: EntryType::GNULongName, size: 2 << 30, ..member("././@LongLink", b"") };
    let mut tar = bundle(&[name]);
    // The name's bytes are there, without a block on the disk.
    tar.truncate(tar.len() - 1024);
    let path = study.path().join("x.tar");
    let mut file = fs::File::create(&path).unwrap();
    file.write_all(&tar).unwrap();
    file.set_len(tar.len() as u64 + (2 << 30) + 1024).unwrap();
    let limited = format!("ulimit -v 1500000; exec {} import x.tar", env!("CARGO_BIN_EXE_dissim"));
    let mut command = Command::new("sh");
    command.args(["-c", &limited]).current_dir(study.path());
    let told = soon(command).ended(2);
    assert!(told.stderr.contains("the bundle has a name of 2147483648 bytes"), "{}", told.stderr);
}

#[test]
fn bundle_that_is_cut_off_anywhere_brings_no_file_and_no_record() {
    let study = Study::new(
        "t: { kind: command, with: { shell: 'cat in.txt > out', inputs: [in.txt], outputs: [out] } }",
    );
    study.write("in.txt", "1\n");
    study.dissim(&["run"]).ended(0);
    study.dissim(&["export", "x.tar"]).ended(0);
    let whole = fs::read(study.path().join("x.tar")).unwrap();
    let mut ends: Vec<usize> = (0..whole.len() - 1024).step_by(512).collect();
    ends.extend([1, 700, 1300]);
    for end in ends {
        let other = Study::new(STAGE);
        fs::write(other.path().join("x.tar"), &whole[..end]).unwrap();
        let told = other.dissim(&["import", "x.tar", "--into", "new"]);
        let records = files(&other.path().join("new/cache/records"));
        let written = files(&other.path().join("new")).into_iter();
        let outside_cache: Vec<_> =
            written.filter(|f| !f.starts_with(other.path().join("new/cache"))).collect();
        if told.code == Some(0) {
            assert_eq!(records.len(), 1, "{end} of {}", whole.len());
        } else {
            let told = told.ended(2);
            assert_eq!((records.len(), outside_cache.len()), (0, 0), "{end}: {}", told.stderr);
            assert_eq!(told.stderr.matches("error").count(), 1, "{}", told.stderr);
        }
    }
}

#[test]
fn bundle_keeps_the_modes_of_files() {
    let study = Study::new(
        "t: { kind: command, with: { run: [./t.sh], code: [t.sh], inputs: [private], outputs: [out, tool] } }",
    );
    study.write("t.sh", "#!/bin/sh\necho 1 > out; cp \"$0\" tool; chmod 755 tool\n");
    study.write("private", "secret\n");
    let at = |file: &str| study.path().join(file);
    fs::set_permissions(at("t.sh"), Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(at("private"), Permissions::from_mode(0o600)).unwrap();
    study.dissim(&["run"]).ended(0);
    study.dissim(&["export", "x.tar"]).ended(0);
    study.dissim(&["import", "x.tar", "--into", "new"]).ended(0);
    assert_eq!(mode(&at("new/t.sh")), 0o755);
    assert_eq!(mode(&at("new/private")), 0o600);
    let mut again = study.command(&["run"]);
    again.current_dir(at("new"));
    assert_eq!(soon(again).ended(0).counts(), (0, 1));
    // And nothing beyond rights to read, write and execute, less what the umask takes.
    let tar = fs::read(at("x.tar")).unwrap();
    let mut raised = Builder::new(Vec::new());
    for entry in Archive::new(&tar[..]).entries().unwrap() {
        let mut entry = entry.unwrap();
        let mut header = entry.header().clone();
        header.set_mode(0o7777);
        header.set_cksum();
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut bytes).unwrap();
        raised.append(&header, &bytes[..]).unwrap();
    }
    fs::write(at("y.tar"), raised.into_inner().unwrap()).unwrap();
    let mut import = Command::new("sh");
    let line =
        format!("umask 027; exec {} import y.tar --into raised", env!("CARGO_BIN_EXE_dissim"));
    import.args(["-c", &line]).current_dir(study.path());
    soon(import).ended(0);
    assert_eq!(mode(&at("raised/private")), 0o750);
    for object in files(&at("raised/cache/objects")) {
        assert_eq!(mode(&object) & 0o337, 0, "{:o}", mode(&object));
    }
}

#[test]
fn private_file_stays_private_in_the_store_of_an_import() {
    let study = Study::new(STAGE);
    study.dissim(&["run"]).ended(0);
    let object = files(&study.path().join("cache/objects"))
        .into_iter()
        .find(|path| fs::read(path).unwrap() == b"1\n")
        .unwrap();
    fs::set_permissions(&object, Permissions::from_mode(0o400)).unwrap();
    study.dissim(&["export", "x.tar"]).ended(0);
    study.dissim(&["import", "x.tar", "--into", "new"]).ended(0);
    let there = study.path().join("new").join(object.strip_prefix(study.path()).unwrap());
    assert_eq!(mode(&there), 0o400);
}

#[test]
fn large_project_file_travels() {
    let study = Study::new(
        "t: { kind: command, with: { shell: 'wc -c < big > out', inputs: [big], outputs: [out] } }",
    );
    fs::File::create(study.path().join("big")).unwrap().set_len(70 << 20).unwrap();
    study.dissim(&["run"]).ended(0);
    study.dissim(&["export", "x.tar"]).ended(0);
    study.dissim(&["import", "x.tar", "--into", "new"]).ended(0);
    assert_eq!(fs::metadata(study.path().join("new/big")).unwrap().len(), 70 << 20);
}

#[test]
fn import_keeps_files_that_are_there_and_follows_links_inside() {
    let study = Study::new(
        "t: { kind: command, with: { shell: 'cat data/a data/b > out', inputs: [data/a, data/b], outputs: [out] } }",
    );
    study.write("data/a", "1\n");
    study.write("data/b", "2\n");
    study.dissim(&["run"]).ended(0);
    study.dissim(&["export", "x.tar"]).ended(0);
    let other = Study::new(STAGE);
    fs::copy(study.path().join("pipeline.yaml"), other.path().join("pipeline.yaml")).unwrap();
    fs::copy(study.path().join("x.tar"), other.path().join("x.tar")).unwrap();
    other.write("real/a", "mine\n");
    symlink("real", other.path().join("data")).unwrap();
    let told = other.dissim(&["import", "x.tar"]).ended(0);
    insta::assert_snapshot!(told.stdout, @r"
    wrote data/b
    kept yours, the bundle's differs: data/a
    1 tasks imported, 0 were there already; 2 new files in the store
    ");
    assert_eq!((other.read("real/a").as_str(), other.read("real/b").as_str()), ("mine\n", "2\n"));
}
