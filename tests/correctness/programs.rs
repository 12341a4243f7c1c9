//! Programs of `command` stages: what they are given, how they end, and what is kept of them.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::fixture::{Study, runs, wait_until};

/// Two tasks that fail at about the same time never get each other's folder.
#[test]
fn retried_tasks_stay_apart() {
    for _ in 0..4 {
        let study = Study::new(
            r#"flaky:
  kind: command
  matrix: { i: [1, 2, 3] }
  retry: { times: 1, wait: 100ms }
  with:
    shell: |
      n=$(cat $DISSIM_SCRATCH/n 2>/dev/null || echo 0); echo $((n+1)) > $DISSIM_SCRATCH/n
      [ $n -ge 1 ] || { sleep 0.0$((DISSIM_MATRIX_I * 3)); exit 3; }
      mkdir -p $DISSIM_OUTPUT/d; echo "$DISSIM_MATRIX_I" > $DISSIM_OUTPUT/d/$DISSIM_MATRIX_I; sleep 0.1
    outputs: [d]"#,
        );
        study.dissim(&["run", "-j3"]).ended(0);
        for i in ["1", "2", "3"] {
            assert_eq!(study.output(&format!("flaky[i={i}]"), &format!("d/{i}")), format!("{i}\n"));
        }
        study.dissim(&["cache", "verify"]).ended(0);
    }
}

/// A changed axis value is seen by what gathers; a renamed stage is not, and says nothing of the old name.
#[test]
fn what_a_program_sees_of_names_is_in_its_key() {
    let study = Study::new(
        r#"check: { kind: command, matrix: { version: ["3.11", "3.12"] }, with: { shell: "echo passed > o", outputs: [o] } }
table: { kind: command, needs: { c: "check[*]" }, with: { shell: "ls inputs/c > o; cat inputs/c.json inputs/c/*/o >> o", outputs: [o] } }
me: { kind: command, with: { shell: "env | grep -c '=me$' > o || true", outputs: [o] } }"#,
    );
    study.dissim(&["run"]).ended(0);
    let before = study.output("table", "o");
    assert!(before.contains("3.11") && before.contains("3.12"), "{before}");
    study.edit("\"3.11\", \"3.12\"", "\"3.13\", \"3.14\"");
    study.edit("  me:", "  myself:");
    study.dissim(&["run"]).ended(0);
    let after = study.output("table", "o");
    assert!(after.contains("3.13") && !after.contains("3.11"), "{after}");
    assert_eq!(study.output("myself", "o"), "0\n");
    // The names of stages are out of sight: another one changes nothing.
    study.edit("  check:", "  examine:");
    study.edit("check[*]", "examine[*]");
    assert_eq!(study.dissim(&["run"]).ended(0).counts(), (0, 4));
    fs::remove_dir_all(study.path().join("cache")).unwrap();
    study.dissim(&["run"]).ended(0);
    assert_eq!(study.output("table", "o"), after);
}

#[test]
fn the_user_s_file_is_out_of_reach() {
    let study = Study::new(
        "a: { kind: command, with: { shell: 'chmod u+w log.csv; echo 2 >> log.csv; cp log.csv out', inputs: [log.csv], outputs: [out] } }",
    );
    study.write("log.csv", "1\n");
    study.dissim(&["run"]).ended(0);
    assert_eq!(study.dissim(&["run"]).ended(0).counts(), (0, 1));
    assert_eq!(study.read("log.csv"), "1\n");
    assert_eq!(study.output("a", "out"), "1\n2\n");
}

/// One task writes to its input while another reads the same artifact.
fn spoiled(size: &str, write: &str) -> Study {
    let stages = format!(
        r#"data: {{ kind: command, with: {{ shell: 'head -c {size} /dev/zero > p', outputs: [p] }} }}
bad: {{ kind: command, needs: {{ d: data }}, with: {{ shell: 'sleep 0.3; {write}; echo done > out', outputs: [out] }} }}
good: {{ kind: command, needs: {{ d: data }}, with: {{ shell: 'sleep 1; head -c 4 inputs/d/p | od -An -c > out', outputs: [out] }} }}
later: {{ kind: command, needs: {{ d: data, b: bad }}, with: {{ shell: 'head -c 4 inputs/d/p | od -An -c > out', outputs: [out] }} }}"#
    );
    Study::new(&stages)
}

#[test]
fn small_inputs_are_the_program_s_own() {
    let study = spoiled("9", "chmod u+w inputs/d/p; echo evil > inputs/d/p");
    study.dissim(&["run", "-j2"]).ended(0);
    assert_eq!(study.output("good", "out"), study.output("later", "out"));
    assert!(!study.output("good", "out").contains('e'));
    study.dissim(&["cache", "verify"]).ended(0);
}

/// A large input is a link. What was written through it is never recorded, and is mended.
#[test]
fn large_inputs_that_were_written_spoil_nothing() {
    let target = "$(readlink -f inputs/d/p)";
    let plain =
        format!("chmod u+w {target}; printf evil | dd of={target} conv=notrunc status=none");
    let hidden = format!("touch -r {target} t; {plain}; touch -r t {target}");
    for write in [plain, hidden] {
        let study = spoiled("9000000", &write);
        let told = study.dissim(&["run", "-j2", "--keep-going"]);
        assert_eq!(told.code, Some(1), "{}", told.stderr);
        assert!(told.stderr.contains("was changed while the task read it"), "{}", told.stderr);
        for task in ["good", "later"] {
            let shown = study.dissim(&["show", task, "--json"]).stdout;
            if shown.contains("\"artifact\"") {
                assert!(!study.output(task, "out").contains('e'), "{task}");
            }
        }
        let shown = study.dissim(&["status"]).ended(0).stdout;
        assert!(!shown.is_empty());
        // Whatever is in the store now is what it says.
        study.dissim(&["cache", "verify"]).ended(0);
        // Without the culprit the study completes.
        study.edit(&write, "true");
        study.dissim(&["run", "-j2"]).ended(0);
        assert!(!study.output("good", "out").contains('e'));
        study.dissim(&["cache", "verify"]).ended(0);
    }
}

/// A process that a program leaves behind cannot write to what was kept.
#[test]
fn processes_in_their_own_session_end_with_the_task() {
    let study = Study::new(
        r#"late: { kind: command, with: { shell: 'exec 3>o; echo a >&3; setsid sh -c "sleep 1.5; echo late >&3" & sleep 0.2', outputs: [o] } }
slow: { kind: command, timeout: 500ms, grace: 200ms, with: { shell: "setsid sleep 7171 & sleep 5", outputs: [o] } }"#,
    );
    study.dissim(&["run", "--keep-going"]).ended(1);
    assert!(!runs("sleep\x007171"));
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(study.output("late", "o"), "a\n");
    study.dissim(&["cache", "verify"]).ended(0);
}

#[test]
fn a_killed_runner_takes_sessions_of_its_tasks_along() {
    let study = Study::new(
        r#"a: { kind: command, with: { shell: "setsid sleep 7272 & setsid sleep 7272 & touch started; sleep 60", outputs: [o] } }"#,
    );
    let mut run =
        study.command(&["run"]).stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    wait_until("the program runs", || runs("sleep\x007272"));
    run.kill().unwrap();
    run.wait().unwrap();
    wait_until("its children end", || !runs("sleep\x007272"));
}

#[test]
fn the_layout_follows_what_needs_says() {
    let study = Study::with_head(
        "params: { n: 2 }",
        r#"train: { kind: command, matrix: { s: "range(${n})" }, with: { shell: "mkdir -p o/deep; echo $DISSIM_MATRIX_S > o/deep/x", outputs: [o] } }
table: { kind: command, needs: { runs: "train[*]", one: "train[s=0]" }, with: { shell: "for d in inputs/runs/*/; do cat $d/o/deep/x; done > out; ls inputs/one >> out", outputs: [out] } }"#,
    );
    study.dissim(&["run"]).ended(0);
    assert_eq!(study.output("table", "out"), "0\n1\n0\n");
    study.dissim(&["run", "--set", "n=1"]).ended(0);
    let shown = study.dissim(&["show", "table", "--json", "--set", "n=1"]);
    assert!(shown.code == Some(0), "{}", shown.stderr);
    study.edit("n: 2", "n: 1");
    assert_eq!(study.output("table", "out"), "0\n0\n");
}

#[test]
fn empty_folders_and_links_arrive_downstream() {
    let study = Study::new(
        r#"a: { kind: command, with: { shell: "mkdir -p out/logs empty; echo 1 > out/x; ln -s x out/y; echo '#!/bin/sh' > run; chmod 755 run", outputs: [out, empty, run] } }
b: { kind: command, needs: { a: a }, with: { shell: "find inputs/a -printf '%P %y %l\n' | sort > o; test -x inputs/a/run; cat inputs/a/out/y >> o", outputs: [o] } }"#,
    );
    study.dissim(&["run"]).ended(0);
    assert_eq!(
        study.output("b", "o"),
        " d \nempty d \nout d \nout/logs d \nout/x f \nout/y l x\nrun f \n1\n"
    );
}

#[test]
fn outputs_stay_where_they_are_if_one_is_missing() {
    let study = Study::new(
        "t: { kind: command, with: { shell: 'echo hours > model.bin; echo 1 > $DISSIM_OUTPUT/metric.json', outputs: [model.bin, metrics.json] } }",
    );
    let told = study.dissim(&["run"]).ended(1);
    let folder = told.stderr.lines().find_map(|line| line.trim().strip_prefix("at: ")).unwrap();
    assert_eq!(fs::read_to_string(format!("{folder}/model.bin")).unwrap(), "hours\n");
    assert_eq!(fs::read_to_string(format!("{folder}/metric.json")).unwrap(), "1\n");
    // A further attempt keeps what it made, and the collector takes it in time.
    study.dissim(&["run"]).ended(1);
    assert!(fs::exists(format!("{folder}/model.bin")).unwrap());
}

#[test]
fn a_timeout_leaves_time_to_save() {
    let saved = tempfile::NamedTempFile::new().unwrap();
    let line = format!(
        r#"trap "sleep 0.5; echo x > {}; echo half > out; exit 0" TERM; while :; do sleep 0.05; done"#,
        saved.path().display()
    );
    let study = Study::new(&format!(
        "t: {{ kind: command, timeout: 300ms, with: {{ shell: '{line}', outputs: [out] }} }}"
    ));
    // It ended well, but not because it was done.
    let told = study.dissim(&["run"]).ended(1);
    assert!(told.stderr.contains("it took longer than its timeout of 0.3s"), "{}", told.stderr);
    assert_eq!(fs::read_to_string(saved.path()).unwrap(), "x\n");
    assert!(study.dissim(&["run", "--dry-run"]).ended(0).stdout.contains("would run  t"));
}

#[test]
fn grace_is_bounded() {
    let study = Study::new(
        r#"t: { kind: command, timeout: 100ms, grace: 300ms, with: { shell: 'trap "" TERM; while :; do sleep 0.05; done', outputs: [out] } }"#,
    );
    let start = Instant::now();
    study.dissim(&["run"]).ended(1);
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
}

#[test]
fn an_interrupted_program_may_save_and_is_not_recorded() {
    let study = Study::new(
        r#"t: { kind: command, with: { shell: 'trap "sleep 0.3; echo x > $DISSIM_SCRATCH/saved; echo half > out; exit 0" TERM; touch $DISSIM_SCRATCH/started; while :; do sleep 0.05; done', outputs: [out] } }"#,
    );
    let run = study.command(&["run"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let scratch = study.path().join("cache/tmp/scratch");
    let kept = |name: &str| {
        fs::read_dir(&scratch)
            .into_iter()
            .flatten()
            .flatten()
            .any(|key| key.path().join("keep").join(name).exists())
    };
    wait_until("the program runs", || kept("started"));
    kill(Pid::from_raw(run.id() as i32), Signal::SIGTERM).unwrap();
    let output = run.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    assert!(kept("saved"));
    assert!(study.dissim(&["run", "--dry-run"]).ended(0).stdout.contains("would run  t"));
}

#[test]
fn a_hangup_that_was_ignored_stays_ignored() {
    let study = Study::new(
        "t: { kind: command, with: { shell: 'touch $DISSIM_SCRATCH/started; sleep 1; echo 1 > out', outputs: [out] } }",
    );
    let program = env!("CARGO_BIN_EXE_dissim");
    let scratch = study.path().join("cache/tmp/scratch");
    // Whatever ignores signals around this test: both begin from a known state.
    for (how, code) in [("--ignore-signal=HUP", Some(0)), ("--default-signal=HUP", Some(130))] {
        let _ = fs::remove_dir_all(study.path().join("cache"));
        let run = std::process::Command::new("env")
            .args([how, program, "run"])
            .current_dir(study.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let started = || {
            fs::read_dir(&scratch)
                .into_iter()
                .flatten()
                .flatten()
                .any(|key| key.path().join("keep/started").exists())
        };
        wait_until("the program runs", started);
        kill(Pid::from_raw(run.id() as i32), Signal::SIGHUP).unwrap();
        assert_eq!(run.wait_with_output().unwrap().status.code(), code, "{how}");
    }
}

/// Root would not see it: whoever owns a folder without write permission cannot remove what is in it.
#[test]
fn a_read_only_folder_blocks_nothing() {
    let study = Study::new(
        "t: { kind: command, retry: { times: 1, wait: 10ms }, with: { shell: 'mkdir ro; touch ro/f; chmod 555 ro; test -e $DISSIM_SCRATCH/again || { touch $DISSIM_SCRATCH/again; exit 1; }; mkdir out; echo 1 > out/x; chmod 555 out', outputs: [out] } }",
    );
    fs::set_permissions(study.path(), Permissions::from_mode(0o777)).unwrap();
    study.dissim_as_nobody(&["run"]).ended(0);
    assert_eq!(study.dissim_as_nobody(&["run"]).ended(0).counts(), (0, 1));
    assert_eq!(
        study.dissim_as_nobody(&["cache", "gc", "--grace", "0s", "--delete"]).ended(0).code,
        Some(0)
    );
}

/// A run goes on with the code that it copied when it began; an edit counts from the next.
#[test]
fn code_that_is_edited_counts_from_the_next_run() {
    let study = Study::new(
        "t: { kind: command, matrix: { s: [1, 2, 3] }, with: { run: [sh, t.sh], code: [t.sh], outputs: [out] } }",
    );
    study.write("t.sh", "sleep 0.7; echo first > out\n");
    let run = study
        .command(&["run", "-j1", "--keep-going"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let scratch = study.path().join("cache/tmp/scratch");
    wait_until("a task runs", || {
        fs::read_dir(&scratch).into_iter().flatten().flatten().next().is_some()
    });
    study.write("t.sh", "echo second > out\n");
    assert!(run.wait_with_output().unwrap().status.success());
    study.write("t.sh", "sleep 0.7; echo first > out\n");
    assert_eq!(study.dissim(&["run"]).ended(0).counts(), (0, 3));
    for s in ["1", "2", "3"] {
        assert_eq!(study.output(&format!("t[s={s}]"), "out"), "first\n");
    }
    study.write("t.sh", "echo second > out\n");
    assert_eq!(study.dissim(&["run"]).ended(0).counts(), (3, 0));
    // A file that may be executed, and one that may not, are two.
    let program = study.path().join("t.sh");
    fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
    let why = study.dissim(&["why", "t[s=1]"]).ended(0).stdout;
    assert!(why.contains("t.sh is executable now"), "{why}");
}

#[test]
fn odd_and_long_names_of_tasks_are_no_file_names() {
    let long = "l".repeat(260);
    let study = Study::new(&format!(
        r#"t: {{ kind: command, matrix: {{ m: ["google/vit", "google_vit", "..", "{long}"] }}, with: {{ shell: 'printf "%s" "$DISSIM_MATRIX_M" > out', outputs: [out] }} }}
all: {{ kind: command, needs: {{ t: "t[*]" }}, with: {{ shell: "for f in inputs/t/*/out; do wc -c < $f; done > o; ls inputs/t >> o; printenv DISSIM_INPUT_T | grep -c . >> o", outputs: [o] }} }}"#
    ));
    study.dissim(&["run"]).ended(0);
    assert_eq!(study.output("all", "o"), "10\n10\n2\n260\n0\n1\n2\n3\n1\n");
}

#[test]
fn memory_of_all_descendants_counts() {
    let study = Study::new(
        r#"t: { kind: command, resources: { memory: 100MB }, with: { shell: 'setsid sh -c "head -c 300000000 /dev/zero | tail -c 300000000 | { sleep 3; wc -c; }" > out; sleep 2', outputs: [out] } }"#,
    );
    let told = study.dissim(&["run"]).ended(1);
    assert!(told.stderr.contains("out of memory"), "{}", told.stderr);
}

/// The log of a task is moved, and never held in memory.
#[test]
fn a_flood_of_output_takes_no_memory() {
    for end in ["echo 1 > out", "exit 1"] {
        let study = Study::new(&format!(
            "t: {{ kind: command, with: {{ shell: 'head -c 100000000 /dev/zero; {end}', outputs: [out] }} }}"
        ));
        let mut command = std::process::Command::new("sh");
        let program = env!("CARGO_BIN_EXE_dissim");
        // The limit is of each process alone: the runner and the task.
        command.args([
            "-c",
            &format!("ulimit -v 4000000; exec /usr/bin/env time -f %M {program} run"),
        ]);
        let output = command.current_dir(study.path()).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        let Some(peak) = told.lines().last().and_then(|line| line.trim().parse::<u64>().ok())
        else {
            eprintln!("no `time` here, so the peak is not known: {told}");
            continue;
        };
        assert!(peak < 80_000, "{peak} kB");
    }
}
