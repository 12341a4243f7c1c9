//! What a user reads: the messages of every command, on a pipeline of small programs.

mod support;

use std::fs;

use support::{Small, files};

#[test]
fn a_run_and_the_next() {
    let project = Small::new();
    insta::assert_snapshot!(project.told("run"));
    insta::assert_snapshot!("nothing_to_do", project.told("run"));
    insta::assert_snapshot!("status", project.told("status"));
    insta::assert_snapshot!("status_json", project.told("status --json"));
    insta::assert_snapshot!("show", project.told("show say[word=one]"));
    insta::assert_snapshot!("log", project.told("log say[word=one]"));
    insta::assert_snapshot!("log_of_many", project.told("log say"));
    insta::assert_snapshot!(
        "graph",
        [project.told("graph"), project.told("graph --tasks"), project.told("graph --format dot"),]
            .join("\n")
    );
}

#[test]
fn why_names_what_changed() {
    let project = Small::new();
    let mut told = vec![project.told("why say[word=one]")];
    project.succeed("run");
    told.push(project.told("why say[word=one]"));
    // A parameter.
    project.edit("times: 2", "times: 3");
    told.push(project.told("why say[word=one] count"));
    project.edit("times: 3", "times: 2");
    // A file of code, and one that is read.
    fs::write(project.path().join("say.sh"), support::SAY.replace("echo", "printf '%s\\n'"))
        .unwrap();
    fs::write(project.path().join("names.txt"), "you\n").unwrap();
    told.push(project.told("why say[word=one] count"));
    // An upstream task that made something else, once it ran.
    project.succeed("run say");
    told.push(project.told("why count"));
    // Another word more: the count has another input.
    project.edit("[one, two]", "[one, two, three]");
    project.succeed("run say");
    told.push(project.told("why count"));
    told.push(project.told("why count --json"));
    insta::assert_snapshot!(told.join("\n"));
}

#[test]
fn why_names_the_code_that_changed() {
    let project = Small::new();
    project.succeed("run");
    // As if a build of yesterday had made the record: another manifest, with its digest.
    project.pretend_older_code();
    insta::assert_snapshot!(project.told("why say[word=one]"));
}

#[test]
fn a_dry_run_says_what_would_run() {
    let project = Small::new();
    insta::assert_snapshot!(project.told("run --dry-run"));
    project.succeed("run");
    project.edit("times: 2", "times: 3");
    insta::assert_snapshot!("dry_run_after_an_edit", project.told("run --dry-run"));
    fs::remove_file(project.path().join("names.txt")).unwrap();
    insta::assert_snapshot!("dry_run_without_a_file", project.told("run --dry-run"));
}

#[test]
fn a_failure_is_told_with_its_log() {
    let project = Small::new();
    fs::write(project.path().join("say.sh"), "echo before >&2\nexit 3\n").unwrap();
    insta::assert_snapshot!(project.told("run --jobs 1"));
    insta::assert_snapshot!(
        "failure_later",
        [
            project.told("status"),
            project.told("why say[word=one]"),
            project.told("log say[word=one]"),
            project.told("show say[word=one]"),
            project.told("log say[word=two]"),
        ]
        .join("\n")
    );
    insta::assert_snapshot!("failures_kept_going", project.told("run --jobs 1 --keep-going"));
}

#[test]
fn what_does_not_exist() {
    let project = Small::new();
    insta::assert_snapshot!(
        [
            project.told("run sya"),
            project.told("why say[word=on]"),
            project.told("show nothing-like-it"),
            project.told("run say[word=x*]"),
            project.told("run --profile quik"),
            project.told("run --set tmes=3"),
            project.told("status --file none.yaml"),
            project.told("frobnicate"),
            project.told("run --jobs 0"),
        ]
        .join("\n")
    );
    let empty = tempfile::tempdir().unwrap();
    insta::assert_snapshot!("no_pipeline", Small::told_in(empty.path(), "status"));
}

#[test]
fn a_command_that_leaves_other_files_is_told_so() {
    let project = Small::new();
    fs::write(project.path().join("say.sh"), "touch said.text other\n").unwrap();
    insta::assert_snapshot!(project.told("run say[word=one]"));
    fs::write(project.path().join("say.sh"), "touch said.txt other\n").unwrap();
    project.succeed("run say[word=one]");
    insta::assert_snapshot!("undeclared_outputs", project.told("log say[word=one]"));
}

#[test]
fn the_store_is_verified() {
    let project = Small::new();
    project.succeed("run");
    let mut told = vec![project.told("cache verify")];
    // One byte of an output, of the same length; half a manifest; a record of another key.
    let said = project.object_of("say[word=one]", "said.txt");
    rewrite(&said, b"two to me\n");
    rewrite(&project.tree_of("again[times=2,word=two]"), b"{\"all.txt\"");
    let record = project.record_of("count");
    let other = record.with_file_name(format!("{}.json", "b".repeat(64)));
    fs::rename(record, other).unwrap();
    told.push(project.told("cache verify"));
    told.push(project.told("cache verify"));
    told.push(project.told("run"));
    told.push(project.told("cache verify --json"));
    insta::assert_snapshot!(told.join("\n"));
    let quarantine = files(&project.path().join("cache/quarantine"));
    assert_eq!(quarantine.len(), 3, "{quarantine:?}");
}

/// Replaces a read-only file.
fn rewrite(path: &std::path::Path, bytes: &[u8]) {
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}

#[test]
fn what_the_pipeline_cannot_use_is_collected() {
    let project = Small::new();
    project.edit("stages:", "profiles: { long: { times: 3 } }\nstages:");
    project.succeed("run");
    project.succeed("run --profile long");
    // Something that no profile uses, and a file that changed since.
    project.succeed("run --set times=4");
    fs::write(project.path().join("names.txt"), "you\n").unwrap();
    project.succeed("run --profile long");
    let mut told = vec![
        project.told("cache stat"),
        project.told("cache gc"),
        project.told("cache gc --grace 0s"),
        project.told("cache gc --grace 0s --newer-than 1h"),
        project.told("cache gc --grace 0s --at-most 1kB"),
        project.told("cache gc --grace 0s --delete"),
        project.told("cache gc --grace 0s"),
        project.told("cache verify"),
    ];
    // What the profiles use is still there.
    told.push(project.told("run --profile long"));
    told.push(project.told("cache gc --at-most much"));
    insta::assert_snapshot!(told.join("\n"));
}

#[test]
fn what_runs_left_is_collected_with_the_rest() {
    let project = Small::new();
    project.succeed("run");
    let cache = project.path().join("cache");
    // A checkpoint and the log of a failure that nothing can use any more, and a task that is gone.
    let key = "c".repeat(64);
    let scratch = cache.join("tmp/scratch").join(&key);
    fs::create_dir_all(&scratch).unwrap();
    fs::write(scratch.join("checkpoint"), [0; 1000]).unwrap();
    fs::write(cache.join("failed").join(format!("{key}.log")), "it went wrong\n").unwrap();
    project.edit("[one, two]", "[one]");
    let before = files(&cache.join("latest")).len();
    let told = [
        project.told("cache gc"),
        project.told("cache gc --grace 0s"),
        project.told("cache gc --grace 0s --delete"),
        project.told("cache gc --grace 0s"),
    ];
    insta::assert_snapshot!(told.join("\n"));
    assert!(!scratch.exists() && files(&cache.join("failed")).is_empty());
    assert!(files(&cache.join("latest")).len() < before);
    // All that the pipeline can use is still there.
    let said = project.succeed("run");
    assert!(said.starts_with("3 tasks: 2 cached, 1 ran"), "the count has fewer words: {said}");
}

#[test]
fn nothing_is_removed_under_a_run() {
    let project = Small::new();
    project.succeed("run");
    project.edit("[one, two]", "[three]");
    let lock = fs::File::create(project.path().join("cache/locks/use")).unwrap();
    lock.lock_shared().unwrap();
    let records = files(&project.path().join("cache/records"));
    let objects = files(&project.path().join("cache/objects"));
    insta::assert_snapshot!(project.told("cache gc --grace 0s --delete"));
    assert!(!records.is_empty());
    assert_eq!(files(&project.path().join("cache/records")), records);
    assert_eq!(files(&project.path().join("cache/objects")), objects);
    // Once the run is over, the same command removes something.
    drop(lock);
    let told = project.succeed("cache gc --grace 0s --delete");
    assert!(told.contains("removed ") && !told.contains("removed 0 records"), "{told}");
}
