//! Where the peers fail their users, by the numbers in their trackers: each test would fail here if it
//! were the same. What is named only in a comment is tested elsewhere, in the file named.
//!
//! - snakemake 627, a killed job passes for done: `engine.rs`, `a_killed_task_never_passes_for_done`
//! - a join over all is one node: `src/expand/tests.rs`, `src/execute/tests.rs`

mod support;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use support::{Small, files};

/// A project with stages of small programs; `@P` in them is the project.
fn project(stages: &str) -> Small {
    let project = Small::new();
    write(&project, stages);
    project
}

fn write(project: &Small, stages: &str) {
    let stages = stages.replace("@P", project.path().to_str().unwrap());
    let text = format!("version: 1\nname: peers\nstages:\n{stages}");
    fs::write(project.path().join("pipeline.yaml"), text).unwrap();
}

/// The counts of a run that succeeds.
fn counts(project: &Small, arguments: &str) -> String {
    let said = project.succeed(arguments);
    said.split(", 0 failed").next().unwrap_or_default().to_owned()
}

/// dvc 10465, 5795: one command locks all others out.
#[test]
fn independent_work_goes_on_beside_a_run() {
    let project = project(
        "  slow: { kind: command, with: { shell: 'touch @P/began; until test -e @P/go; do sleep 0.05; done; echo 1 > out', outputs: [out] } }\n\
         \x20 quick: { kind: command, with: { shell: 'echo 2 > out', outputs: [out] } }\n",
    );
    let mut run = Command::new(env!("CARGO_BIN_EXE_dissim"))
        .args(["run", "slow"])
        .current_dir(project.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let start = Instant::now();
    while !project.path().join("began").exists() {
        assert!(start.elapsed() < Duration::from_secs(60), "the slow task never began");
        std::thread::sleep(Duration::from_millis(20));
    }
    // The slow task cannot end before it is let go: all of this happens beside it.
    assert_eq!(counts(&project, "run quick"), "1 task: 0 cached, 1 ran");
    for command in
        ["status", "plan", "why slow", "show quick", "runs", "cache stat", "cache verify"]
    {
        project.succeed(command);
    }
    assert!(run.try_wait().unwrap().is_none(), "the slow run ended by itself");
    fs::write(project.path().join("go"), "").unwrap();
    assert!(run.wait().unwrap().success());
}

const SAY: &str = "  say:\n    kind: command\n    matrix: { n: [1, 2] }\n    with: { shell: 'cat names.txt > out', inputs: [names.txt], outputs: [out] }\n";

/// turborepo 4494, nextflow 4894: nobody can say why a task ran again.
#[test]
fn the_reason_for_a_miss_is_one_line_that_names_it() {
    let project = project(SAY);
    project.succeed("run");
    fs::write(project.path().join("names.txt"), "you\n").unwrap();
    assert_eq!(project.succeed("why say[n=1]"), "say[n=1]: miss\n  file: names.txt changed\n");
    fs::write(project.path().join("names.txt"), "me\n").unwrap();
    project.edit("cat names.txt > out", "cat names.txt >> out");
    let why = project.succeed("why say[n=1]");
    assert_eq!(
        why,
        "say[n=1]: miss\n  parameter shell: \"cat names.txt > out\" -> \"cat names.txt >> out\"\n"
    );
}

/// snakemake 1694, 3456: reruns for what cannot matter.
#[test]
fn what_cannot_matter_reruns_nothing() {
    let project = project(SAY);
    project.succeed("run");
    // Another time on a file, in a file of the same content that was written anew.
    fs::write(project.path().join("names.new"), "me\n").unwrap();
    fs::rename(project.path().join("names.new"), project.path().join("names.txt")).unwrap();
    assert_eq!(counts(&project, "run"), "2 tasks: 2 cached, 0 ran");
    // Comments, layout, the order of keys, how tasks are run, a longer matrix, a stage more.
    write(
        &project,
        "  # a comment\n  say:\n    with:\n      outputs: [ out ]\n      inputs: [names.txt]\n      shell: \"cat names.txt > out\"\n    retry: 2\n    timeout: 1h\n    resources: { cpus: 2 }\n    matrix: { n: [3, 2, 1] }\n    kind: command\n  more: { kind: command, with: { shell: 'echo 1 > out', outputs: [out] } }\n",
    );
    assert_eq!(counts(&project, "run"), "4 tasks: 2 cached, 2 ran");
}

/// turborepo 863, bazel 5139: the cache grows without bound.
#[test]
fn the_cache_is_bounded_and_collecting_it_costs_no_rerun() {
    let project = project(
        "  big: { kind: command, with: { shell: 'head -c 100000 /dev/urandom > out', outputs: [out], env: { N: '0' } } }\n",
    );
    for n in 0..5 {
        project.edit(&format!("N: '{n}'"), &format!("N: '{}'", n + 1));
        project.succeed("run");
    }
    let size = || -> u64 {
        let blobs = files(&project.path().join("cache/objects"));
        blobs.iter().map(|blob| blob.metadata().unwrap().len()).sum()
    };
    assert!(size() >= 500_000);
    project.succeed("cache gc --at-most 250kB --grace 0s --delete");
    assert!(size() <= 250_000, "{}", size());
    assert_eq!(counts(&project, "run"), "1 task: 1 cached, 0 ran");
}

/// turborepo 10951, moon 735: what an older run left stays beside what a hit restores.
#[test]
fn a_task_sees_the_artifact_and_nothing_stale_beside_it() {
    let stages = |files: &str| {
        format!(
            "  make: {{ kind: command, with: {{ shell: 'mkdir d; cd d; touch {files}', outputs: [d] }} }}\n\
             \x20 see: {{ kind: command, needs: {{ x: make }}, with: {{ shell: 'ls -A inputs/x/d . > out; cp out @P/seen', outputs: [out] }} }}\n"
        )
    };
    let project = project(&stages("a b"));
    let seen = || fs::read_to_string(project.path().join("seen")).unwrap();
    project.succeed("run");
    let both = seen();
    assert!(both.contains("a\nb\n"), "{both}");
    write(&project, &stages("a"));
    project.succeed("run");
    assert_eq!(seen(), both.replace("a\nb\n", "a\n"));
    // Back again: a hit, and the store has what it had.
    write(&project, &stages("a b"));
    assert_eq!(counts(&project, "run"), "2 tasks: 2 cached, 0 ran");
}

/// turborepo 8051, dvc 8342: inputs are hashed before the tasks that write them ran.
#[test]
fn inputs_are_hashed_when_a_task_is_ready_and_a_dry_run_knows() {
    let stages = "  write: { kind: command, with: { shell: 'echo VALUE > @P/data.txt; echo VALUE > out', outputs: [out] } }\n\
                  \x20 read: { kind: command, needs: { x: write }, with: { shell: 'cp data.txt out; cp out @P/read', inputs: [data.txt], outputs: [out] } }\n";
    let project = project(&stages.replace("VALUE", "old"));
    project.succeed("run");
    write(&project, &stages.replace("VALUE", "new"));
    let dry = project.succeed("run --dry-run");
    assert_eq!(
        dry,
        "would run  write\nmay run    read\n0 cached, 1 would run, 1 may run after those; nothing was run\n"
    );
    assert_eq!(counts(&project, "run"), "2 tasks: 0 cached, 2 ran");
    assert_eq!(fs::read_to_string(project.path().join("read")).unwrap(), "new\n");
    // The key that was recorded is of the file as it was read: nothing is left to do.
    assert_eq!(counts(&project, "run"), "2 tasks: 2 cached, 0 ran");
}

/// dvc 10109: an error of YAML is told on another line.
#[test]
fn errors_of_yaml_stand_on_their_line() {
    let project = project(&format!("{SAY}  bad: {{ kind: command, with: [ }}\n"));
    let output = project.dissim("run");
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    let lines = fs::read_to_string(project.path().join("pipeline.yaml")).unwrap().lines().count();
    assert!(said.contains(&format!("pipeline.yaml:{lines}:")), "{said}");
}

/// A hit replays the log of the run that made it, where logs are asked for.
#[test]
fn a_hit_replays_its_log() {
    let project = project(
        "  loud: { kind: command, with: { shell: 'echo so loud >&2; echo 1 > out', outputs: [out] } }\n",
    );
    for way in ["1 ran", "1 cached"] {
        let output = project.dissim("run --output-logs");
        let (said, log) = (output.stdout, String::from_utf8(output.stderr).unwrap());
        assert!(String::from_utf8(said).unwrap().contains(way));
        assert_eq!(log.matches("loud | so loud\n").count(), 1, "{way}: {log}");
    }
}

/// No file is rewritten once a task: what one task left is the same file after a hundred others.
#[test]
fn what_a_task_left_is_not_written_again() {
    let project = project(&SAY.replace("[1, 2]", "[1]"));
    project.succeed("run");
    let stats = || {
        let all = ["records", "trees", "objects", "code", "latest"]
            .map(|f| files(&project.path().join("cache").join(f)));
        let stat = |path: std::path::PathBuf| {
            let of = path.metadata().unwrap();
            (path, of.ino(), of.mtime(), of.mtime_nsec())
        };
        all.into_iter().flatten().map(stat).collect::<Vec<_>>()
    };
    let before = stats();
    project.edit("[1]", "\"range(1, 21)\"");
    assert_eq!(counts(&project, "run"), "20 tasks: 1 cached, 19 ran");
    let after = stats();
    assert!(before.iter().all(|file| after.contains(file)));
    assert!(after.len() > before.len());
}
