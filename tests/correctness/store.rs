//! The store: its locks, modes, collection and verification.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use walkdir::WalkDir;

use crate::fixture::{Study, Told, wait_until};

/// Ten tasks of one line each.
fn ten() -> Study {
    let study = Study::new(
        r#"a: { kind: command, matrix: { i: "range(10)" }, with: { shell: "echo $DISSIM_MATRIX_I > o; echo log $DISSIM_MATRIX_I", outputs: [o] } }"#,
    );
    fs::set_permissions(study.path(), Permissions::from_mode(0o777)).unwrap();
    study
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = WalkDir::new(folder).sort_by_file_name().into_iter().map(Result::unwrap);
    entries.filter(|entry| entry.file_type().is_file()).map(walkdir::DirEntry::into_path).collect()
}

/// Makes everything in the cache three hours old, so that no grace keeps it.
fn age(study: &Study) {
    let then = SystemTime::now() - Duration::from_secs(3 * 3600);
    for file in files(&study.path().join("cache")) {
        fs::File::open(file).unwrap().set_modified(then).unwrap();
    }
}

/// Lets everybody use folders, but not the files in them.
fn open_folders(study: &Study) {
    for entry in WalkDir::new(study.path()).into_iter().map(Result::unwrap) {
        if entry.file_type().is_dir() {
            fs::set_permissions(entry.path(), Permissions::from_mode(0o777)).unwrap();
        }
    }
}

/// Runs as root with a umask.
fn with_umask(study: &Study, umask: &str, arguments: &str) -> Told {
    let line = format!("umask {umask}; exec {} {arguments}", env!("CARGO_BIN_EXE_dissim"));
    Told::of(Command::new("sh").args(["-c", &line]).current_dir(study.path()).output().unwrap())
}

#[test]
fn gc_stops_at_a_record_of_another_version() {
    let study = ten();
    study.dissim(&["run"]).ended(0);
    let record = &files(&study.path().join("cache/records"))[0];
    let text = fs::read_to_string(record).unwrap();
    fs::write(record, text.replacen("\"version\": 3", "\"version\": 4", 1)).unwrap();
    let before = files(&study.path().join("cache/objects"));
    for arguments in
        [&["cache", "gc", "--grace", "0s"][..], &["cache", "gc", "--grace", "0s", "--delete"]]
    {
        let told = study.dissim(arguments).ended(2);
        let name = record.file_name().unwrap().to_str().unwrap();
        assert!(told.stderr.contains(name), "{}", told.stderr);
        assert!(told.stderr.contains("is of another version of dissim; nothing was removed"));
    }
    assert_eq!(files(&study.path().join("cache/objects")), before);
}

#[test]
fn gc_and_verify_leave_alone_what_they_may_not_read() {
    for folder in ["records", "trees", "objects"] {
        let study = ten();
        with_umask(&study, "000", "run").ended(0);
        open_folders(&study);
        fs::set_permissions(study.path().join("cache/locks/use"), Permissions::from_mode(0o666))
            .unwrap();
        age(&study);
        let all = files(&study.path().join("cache"));
        let closed = &files(&study.path().join("cache").join(folder))[0];
        let mode = fs::metadata(closed).unwrap().permissions();
        fs::set_permissions(closed, Permissions::from_mode(0o000)).unwrap();
        let told = study.dissim_as_nobody(&["cache", "verify"]).ended(1);
        assert!(told.stdout.contains("could not be read: "), "{}", told.stdout);
        assert!(!told.stdout.contains("damaged: "), "{}", told.stdout);
        let told = study.dissim_as_nobody(&["cache", "gc", "--delete"]);
        if folder == "objects" {
            // What is in a blob does not matter here: records and manifests say who needs it.
            told.ended(0);
        } else {
            assert!(told.ended(2).stderr.contains("cannot be read"));
        }
        fs::set_permissions(closed, mode).unwrap();
        for file in all.iter().filter(|file| !file.starts_with(study.path().join("cache/runs"))) {
            let transient = ["locks", "tmp", "latest", "failed", "unchanged"];
            let kept = file.exists()
                || transient.iter().any(|name| file.components().any(|c| c.as_os_str() == *name));
            assert!(kept, "{} is gone", file.display());
        }
        assert_eq!(study.dissim(&["run"]).ended(0).counts(), (0, 10), "{folder}");
    }
}

#[test]
fn a_dry_run_counts_all_that_would_go() {
    let study = ten();
    study.dissim(&["run"]).ended(0);
    fs::remove_dir_all(study.path().join("cache/records")).unwrap();
    let told = study.dissim(&["cache", "gc", "--grace", "0s"]).ended(0);
    assert!(told.stdout.contains("20 files that no record needs go with 80 B"), "{}", told.stdout);
    let told = study.dissim(&["cache", "gc", "--grace", "0s", "--delete"]).ended(0);
    assert!(told.stdout.contains("removed 0 records, 20 files"), "{}", told.stdout);
    assert!(files(&study.path().join("cache/objects")).is_empty());
}

#[test]
fn metadata_honours_the_umask_so_that_a_group_can_share() {
    let study = ten();
    with_umask(&study, "000", "run").ended(0);
    for file in files(&study.path().join("cache")) {
        let mode = fs::metadata(&file).unwrap().permissions().mode() & 0o777;
        let object = file.starts_with(study.path().join("cache/objects"));
        assert_eq!(mode, if object { 0o444 } else { 0o666 }, "{}", file.display());
    }
    // Another user finds everything there, and adds to it.
    let told = study.dissim_as_nobody(&["run"]).ended(0);
    assert_eq!(told.counts(), (0, 10));
    study.edit("range(10)", "range(12)");
    assert_eq!(study.dissim_as_nobody(&["run"]).ended(0).counts(), (2, 10));
    assert_eq!(study.dissim(&["run"]).ended(0).counts(), (0, 12));
    assert!(study.dissim_as_nobody(&["log", "a[i=0]"]).ended(0).stdout.contains("log 0"));
    // And with a strict one, nobody else.
    let study = ten();
    with_umask(&study, "077", "run").ended(0);
    for file in files(&study.path().join("cache")) {
        let mode = fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{}", file.display());
    }
}

#[test]
fn a_killed_run_is_not_shown_and_leaves_nothing() {
    let study = Study::new(
        "a: { kind: command, with: { shell: 'touch $DISSIM_SCRATCH/started; sleep 2; echo 1 > o', outputs: [o] } }",
    );
    let mut run =
        study.command(&["run"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let live = study.path().join("cache/runs/live");
    wait_until("the run is seen", || {
        files_or_none(&live).iter().any(|f| f.extension().is_some_and(|e| e == "json"))
    });
    assert!(study.dissim(&["status"]).ended(0).stdout.contains("running"));
    run.kill().unwrap();
    run.wait().unwrap();
    // Another process may have its number by now: this one's, say.
    for file in
        files_or_none(&live).into_iter().filter(|f| f.extension().is_some_and(|e| e == "json"))
    {
        let text = fs::read_to_string(&file).unwrap();
        let own = std::process::id().to_string();
        fs::write(&file, text.replace(&run.id().to_string(), &own)).unwrap();
    }
    assert!(!study.dissim(&["status"]).ended(0).stdout.contains("running"));
    study.dissim(&["run"]).ended(0);
    assert!(files_or_none(&live).is_empty());
    assert!(files_or_none(&study.path().join("cache/tmp")).is_empty());
    let locks = files_or_none(&study.path().join("cache/locks"));
    assert!(locks.iter().all(|lock| lock.ends_with("use")), "{locks:?}");
}

fn files_or_none(folder: &Path) -> Vec<PathBuf> {
    if folder.exists() { files(folder) } else { Vec::new() }
}

#[test]
fn verify_gc_and_runs_work_beside_each_other() {
    let study = Study::with_head(
        "params: { salt: 0 }",
        r#"a: { kind: command, matrix: { i: "range(6)", salt: ["${salt}"] }, with: { shell: "echo $DISSIM_MATRIX_I $DISSIM_MATRIX_SALT > o", outputs: [o] } }
b: { kind: command, needs: { a: "a[*]" }, with: { shell: "cat inputs/a/*/o > o", outputs: [o] } }"#,
    );
    std::thread::scope(|scope| {
        let runners = (0..3).map(|runner| {
            let study = &study;
            scope.spawn(move || {
                for salt in 0..6 {
                    let set = format!("salt={}", runner * 100 + salt);
                    study.dissim(&["run", "-j2", "--set", &set]).ended(0);
                }
            })
        });
        let runners: Vec<_> = runners.collect();
        while runners.iter().any(|runner| !runner.is_finished()) {
            study.dissim(&["cache", "verify"]).ended(0);
            study.dissim(&["cache", "gc", "--grace", "0s"]).ended(0);
            // While a run uses the store, nothing may go; that is said.
            let told = study.dissim(&["cache", "gc", "--grace", "0s", "--delete"]);
            let refused = told.stderr.contains("a run is using the store");
            assert!(told.code == Some(0) || refused, "{}", told.stderr);
        }
        runners.into_iter().for_each(|runner| runner.join().unwrap());
    });
    study.dissim(&["run"]).ended(0);
    study.dissim(&["cache", "verify"]).ended(0);
}

/// No file descriptors are left: that is no damage.
#[test]
fn verify_without_open_files_moves_nothing() {
    let study = ten();
    study.dissim(&["run"]).ended(0);
    let before = files(&study.path().join("cache/objects"));
    for limit in 4..9 {
        let line = format!("ulimit -n {limit}; exec {} cache verify", env!("CARGO_BIN_EXE_dissim"));
        let _ = Command::new("sh").args(["-c", &line]).current_dir(study.path()).output().unwrap();
    }
    assert_eq!(files(&study.path().join("cache/objects")), before);
    assert!(!study.path().join("cache/quarantine").exists());
    assert_eq!(study.dissim(&["run"]).ended(0).counts(), (0, 10));
}

/// What cannot be removed is named, and the rest goes all the same.
#[test]
fn gc_goes_on_past_what_it_cannot_remove() {
    let study = ten();
    with_umask(&study, "000", "run").ended(0);
    open_folders(&study);
    study.edit("range(10)", "range(1)");
    age(&study);
    // A folder that is another user's and closed: its files cannot be removed.
    let record = files(&study.path().join("cache/records"));
    let closed = record[0].parent().unwrap();
    fs::set_permissions(closed, Permissions::from_mode(0o555)).unwrap();
    let told = study.dissim_as_nobody(&["cache", "gc", "--delete", "--grace", "0s"]);
    // The one that stays because it is used may be the closed one.
    let used = told.code == Some(0);
    assert!(used || told.code == Some(1), "{}{}", told.stdout, told.stderr);
    assert_eq!(files(&study.path().join("cache/records")).len(), if used { 1 } else { 2 });
    assert_eq!(told.stderr.contains("warning: could not remove "), !used, "{}", told.stderr);
    fs::set_permissions(closed, Permissions::from_mode(0o777)).unwrap();
    study.dissim(&["run"]).ended(0);
    study.dissim(&["cache", "verify"]).ended(0);
}

/// As on exFAT: no symbolic links.
#[test]
fn a_file_system_without_links_gets_copies() {
    let study = Study::new(
        r#"a: { kind: command, with: { shell: "echo 1 > out; mkdir d; head -c 9000000 /dev/zero > d/x", outputs: [out, d] } }
b: { kind: command, needs: { a: a, g: "a[*]" }, with: { shell: "cat inputs/a/out inputs/g/*/d/x | wc -c > out", outputs: [out] } }"#,
    );
    study.write(
        "no_links.c",
        "#include <errno.h>\nint symlink(const char *a, const char *b) { errno = EPERM; return -1; }\n",
    );
    let library = study.path().join("no_links.so");
    let mut compile = Command::new("cc");
    compile.args(["-shared", "-fPIC", "-o"]).arg(&library).arg(study.path().join("no_links.c"));
    assert!(compile.status().unwrap().success());
    let run = study.command(&["run"]).env("LD_PRELOAD", &library).output().unwrap();
    Told::of(run).ended(0);
    assert_eq!(study.output("b", "out"), "9000002\n");
}
