//! The engine through the binary, on small command stages: failures, retries, timeouts, resources,
//! early cutoff, interruption, recorded runs, events and traces.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

struct Project(TempDir);

impl Project {
    fn new(stages: &str) -> Self {
        let project = Self(tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap());
        project.write(stages);
        project
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn write(&self, stages: &str) {
        let indented: String = stages.lines().map(|line| format!("  {line}\n")).collect();
        let text = format!("version: 1\nname: engine\nstages:\n{indented}");
        fs::write(self.path().join("pipeline.yaml"), text).unwrap();
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dissim"));
        command.args(arguments).current_dir(self.path());
        command.env_remove("NO_COLOR");
        command
    }

    fn dissim(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// The counts of a run's last line, and its exit code.
    fn run(&self, arguments: &[&str]) -> String {
        let output = self.dissim(&[&["run"], arguments].concat());
        let stdout = text(&output.stdout);
        let line = stdout.lines().last().unwrap_or_default();
        let counts = line.split(" | ").next().unwrap_or_default();
        format!("{counts} -> {}", output.status.code().unwrap_or(-1))
    }

    fn start(&self, arguments: &[&str]) -> Child {
        self.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    fn lines(&self, file: &str) -> usize {
        fs::read_to_string(self.path().join(file)).unwrap_or_default().lines().count()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Waits for what must come; a minute is far more than it can take.
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(60), "never happened: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A command stage; `line` is for the shell, `@P` in it is the project.
fn stage(project: &Path, name: &str, line: &str, rest: &str) -> String {
    let line = line.replace("@P", project.to_str().unwrap());
    format!("{name}:\n  kind: command\n  with: {{ shell: '{line}', outputs: [out] }}\n{rest}")
}

#[test]
fn a_failure_stops_the_run_and_keep_going_goes_on() {
    let project = Project::new("");
    let p = project.path();
    // One job: the first in the file is the first that runs.
    let stages = stage(p, "a_bad", "echo so it goes >&2; exit 3", "")
        + &stage(p, "after", "true > out", "  needs: { x: a_bad }\n")
        + &stage(p, "good", "echo 1 > out", "");
    project.write(&stages);
    assert_eq!(
        project.run(&["--jobs", "1", "--keep-going"]),
        "3 tasks: 0 cached, 1 ran, 1 failed, 1 not run -> 1"
    );
    // The failure is no result: it is tried again, and the other is a hit.
    assert_eq!(
        project.run(&["--jobs", "1", "--keep-going"]),
        "3 tasks: 1 cached, 0 ran, 1 failed, 1 not run -> 1"
    );
    let output = project.dissim(&["run", "--jobs", "1"]);
    let stderr = text(&output.stderr);
    assert!(
        stderr.contains("ended with exit code 3") && stderr.contains("| so it goes"),
        "{stderr}"
    );
    let log = project.dissim(&["log", "a_bad"]);
    assert!(text(&log.stdout).starts_with("so it goes\n"));
}

#[test]
fn without_keep_going_nothing_starts_after_a_failure() {
    let project = Project::new("");
    let p = project.path();
    let slow = stage(p, "second", "sleep 0.1; echo x >> @P/ran; echo 1 > out", "");
    // Something waits for the first, so its turn comes before that of the second.
    let after = stage(p, "after", "true > out", "  needs: { x: first }\n");
    project.write(&(stage(p, "first", "exit 1", "") + &after + &slow));
    let result = project.run(&["--jobs", "1"]);
    assert_eq!(result, "3 tasks: 0 cached, 0 ran, 1 failed, 2 not run -> 1");
    assert_eq!(project.lines("ran"), 0);
}

#[test]
fn a_task_that_makes_the_same_again_cuts_the_rest_off() {
    let project = Project::new("");
    let p = project.path();
    let after =
        stage(p, "after", "echo x >> @P/ran; cp inputs/x/out out", "  needs: { x: first }\n");
    project.write(&(stage(p, "first", "echo 1 > out", "") + &after));
    assert_eq!(project.run(&[]), "2 tasks: 0 cached, 2 ran, 0 failed -> 0");
    project.write(&(stage(p, "first", "echo 1    > out", "") + &after));
    assert_eq!(project.run(&[]), "2 tasks: 1 cached, 1 ran, 0 failed -> 0");
    project.write(&(stage(p, "first", "echo 2 > out", "") + &after));
    assert_eq!(project.run(&[]), "2 tasks: 0 cached, 2 ran, 0 failed -> 0");
    assert_eq!(project.lines("ran"), 2);
}

#[test]
fn equal_keys_run_once() {
    let project = Project::new("");
    let line = "echo x >> @P/ran; sleep 0.2; echo 1 > out";
    let twins = ["a", "b", "c"].map(|name| stage(project.path(), name, line, ""));
    project.write(&twins.concat());
    assert_eq!(project.run(&["--jobs", "3"]), "3 tasks: 2 cached, 1 ran, 0 failed -> 0");
    assert_eq!(project.lines("ran"), 1);
}

#[test]
fn two_runners_share_the_work() {
    let project = Project::new("");
    let line = "echo x >> @P/ran; sleep 0.5; echo 1 > out";
    project.write(&stage(project.path(), "a", line, ""));
    let first = project.start(&["run"]);
    let second = project.start(&["run"]);
    for run in [first, second] {
        let output = run.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
    }
    assert_eq!(project.lines("ran"), 1);
}

#[test]
fn an_interrupted_run_keeps_what_is_finished() {
    let project = Project::new("");
    let p = project.path();
    let first = stage(p, "first", "echo 1 > out", "");
    let slow =
        stage(p, "slow", "echo x >> @P/ran; sleep 60; echo 2 > out", "  needs: { x: first }\n");
    project.write(&(first + &slow));
    let run = project.start(&["run"]);
    until("the slow task runs", || project.lines("ran") == 1);
    let signalled = Command::new("kill").args(["-TERM", &run.id().to_string()]).status().unwrap();
    assert!(signalled.success());
    let output = run.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    assert!(text(&output.stderr).contains("interrupted: what was finished is kept"));
    let runs: Value = serde_json::from_slice(&project.dissim(&["runs", "--json"]).stdout).unwrap();
    assert_eq!(runs[0]["outcome"], "interrupted");
    let plan = text(&project.dissim(&["run", "--dry-run"]).stdout);
    assert!(plan.contains("1 cached, 1 would run"), "{plan}");
}

#[test]
fn status_says_what_runs_under_another_profile() {
    let project = Project::new("");
    let p = project.path();
    let slow = "echo x >> @P/ran; sleep 60; echo 1 > out";
    let first = stage(p, "first", "echo 1 > out", "");
    project.write(&(first + &stage(p, "slow", slow, "  needs: { x: first }\n")));
    let file = p.join("pipeline.yaml");
    let text_of = fs::read_to_string(&file).unwrap();
    let profiles = "params: { size: 1 }\nprofiles: { poster: { size: 2 } }\nstages:";
    fs::write(&file, text_of.replace("stages:", profiles)).unwrap();
    let run = project.start(&["run", "--profile", "poster", "--set", "size=3"]);
    until("the slow task runs", || project.lines("ran") == 1);
    let status = |arguments: &[&str]| {
        let told = text(&project.dissim(&[&["status"], arguments].concat()).stdout);
        let line = told.lines().find(|l| l.starts_with("running ")).unwrap_or(&told).to_owned();
        line.split_once(": ").map(|(_, rest)| rest.to_owned()).unwrap_or(line)
    };
    let far = "1 of 2 tasks finished";
    until("a task is finished", || status(&[]).starts_with(far));
    assert_eq!(
        status(&[]),
        format!("{far}; `dissim status --profile poster --set size=3` shows its stages")
    );
    assert_eq!(status(&["--profile", "poster", "--set", "size=3"]), far);
    Command::new("kill").args(["-TERM", &run.id().to_string()]).status().unwrap();
    run.wait_with_output().unwrap();
    let told = text(&project.dissim(&["status"]).stdout);
    assert!(!told.contains("running ") && told.contains("total"), "{told}");
}

#[test]
fn a_killed_task_never_passes_for_done() {
    let project = Project::new("");
    // Kills the task's own process, after it wrote its output.
    let line = "echo 1 > out; kill -9 $PPID; sleep 5";
    project.write(&stage(project.path(), "a", line, ""));
    let output = project.dissim(&["run"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("the task was killed (SIGKILL)"));
    assert_eq!(
        project.run(&["--dry-run"]),
        "0 cached, 1 would run, 0 may run after those; nothing was run -> 0"
    );
}

#[test]
fn a_task_is_tried_again() {
    let project = Project::new("");
    let p = project.path();
    let line = "echo x >> @P/ran; test $(wc -l < @P/ran) -ge 3; echo 1 > out";
    let line = line.replace("; echo 1", " && echo 1");
    project.write(&stage(p, "a", &line, "  retry: { times: 2, wait: 10ms }\n"));
    let output = project.dissim(&["run"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("failed, again in 0.0s: a"));
    assert_eq!(project.lines("ran"), 3);
    // How a task is run is no part of its key.
    project.write(&stage(p, "a", &line, "  timeout: 1h\n  resources: { cpus: 2 }\n"));
    assert_eq!(project.run(&[]), "1 task: 1 cached, 0 ran, 0 failed -> 0");
    // Given up in the end.
    project.write(&stage(
        p,
        "a",
        "echo y >> @P/tries; exit 1",
        "  retry: { times: 1, wait: 1ms }\n",
    ));
    assert_eq!(project.run(&[]), "1 task: 0 cached, 0 ran, 1 failed -> 1");
    assert_eq!(project.lines("tries"), 2);
}

#[test]
fn a_task_that_takes_too_long_is_ended() {
    let project = Project::new("");
    project.write(&stage(project.path(), "a", "sleep 60; echo 1 > out", "  timeout: 300ms\n"));
    let output = project.dissim(&["run"]);
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr.contains("the task was ended: it took longer than its timeout of 0.3s"),
        "{stderr}"
    );
}

#[test]
fn resources_are_honoured() {
    let project = Project::new("");
    let p = project.path();
    // Each takes both cores, so they never overlap: a lock that is held would fail.
    let line = "mkdir @P/held && sleep 0.2 && rmdir @P/held && echo NAME > out";
    let both =
        |name: &str| stage(p, name, &line.replace("NAME", name), "  resources: { cpus: 2 }\n");
    project.write(&(both("a") + &both("b") + &both("c")));
    assert_eq!(project.run(&["--jobs", "2"]), "3 tasks: 0 cached, 3 ran, 0 failed -> 0");

    project.write(&stage(p, "big", "echo 1 > out", "  resources: { memory: 900000GB }\n"));
    let stderr = text(&project.dissim(&["run"]).stderr);
    assert!(
        stderr.contains("big") && stderr.contains("it asks for 900000.0 GB of memory"),
        "{stderr}"
    );
}

#[test]
fn a_task_that_holds_too_much_memory_is_ended() {
    let project = Project::new("");
    // The program holds 200 MB for as long as it runs; the timeout is there so that a runner without
    // a limit fails this test in a minute.
    let line = "dd if=/dev/zero of=/dev/null bs=200M count=100000; echo 1 > out";
    let rest = "  timeout: 1m\n  resources: { memory: 100MB }\n";
    project.write(&stage(project.path(), "a", line, rest));
    let output = project.dissim(&["run"]);
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr.contains("the task was ended: out of memory: it held "), "{stderr}");
    assert!(stderr.contains("MB, and its `resources.memory` is 100 MB"), "{stderr}");
    // With room enough it runs to its end.
    let line = "dd if=/dev/zero of=/dev/null bs=20M count=20; echo 1 > out";
    project.write(&stage(project.path(), "a", line, rest));
    assert_eq!(project.run(&[]), "1 task: 0 cached, 1 ran, 0 failed -> 0");
}

#[test]
fn the_longest_path_starts_first() {
    let project = Project::new("");
    let p = project.path();
    // `z` is last in the file, but two stages wait for it.
    let line = |name: &str| format!("echo {name} >> @P/order; echo {name} > out");
    let stages = stage(p, "a", &line("a"), "")
        + &stage(p, "z", &line("z"), "")
        + &stage(p, "after", &line("after"), "  needs: { x: z }\n")
        + &stage(p, "end", &line("end"), "  needs: { x: after }\n");
    project.write(&stages);
    project.run(&["--jobs", "1"]);
    let order = fs::read_to_string(p.join("order")).unwrap();
    assert_eq!(order.lines().next(), Some("z"), "{order}");
}

#[test]
fn an_edited_file_reruns_and_the_old_one_is_a_hit() {
    let project = Project::new("");
    fs::write(project.path().join("in"), "1").unwrap();
    let stages = "a: { kind: command, with: { run: [cp, in, out], inputs: [in], outputs: [out] } }";
    project.write(stages);
    assert_eq!(project.run(&[]), "1 task: 0 cached, 1 ran, 0 failed -> 0");
    assert_eq!(project.run(&[]), "1 task: 1 cached, 0 ran, 0 failed -> 0");
    fs::write(project.path().join("in"), "2").unwrap();
    assert_eq!(project.run(&[]), "1 task: 0 cached, 1 ran, 0 failed -> 0");
    fs::write(project.path().join("in"), "1").unwrap();
    assert_eq!(project.run(&[]), "1 task: 1 cached, 0 ran, 0 failed -> 0");
}

#[test]
fn the_index_is_never_trusted_over_the_store() {
    let project = Project::new("");
    project.write(&stage(project.path(), "a", "echo 1 > out", ""));
    let cache = project.path().join("cache");
    let ran = "1 task: 0 cached, 1 ran, 0 failed -> 0";
    let hit = "1 task: 1 cached, 0 ran, 0 failed -> 0";
    assert_eq!(project.run(&[]), ran);
    assert_eq!(project.run(&[]), hit);
    let files = |folder: &str| -> Vec<_> {
        let all = walkdir::WalkDir::new(cache.join(folder)).into_iter().flatten();
        all.filter(|e| e.file_type().is_file()).map(|e| e.into_path()).collect()
    };
    // Gone, or damaged: the index is read anew.
    fs::remove_file(cache.join("index.bin")).unwrap();
    assert_eq!(project.run(&[]), hit);
    let mut bytes = fs::read(cache.join("index.bin")).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(cache.join("index.bin"), bytes).unwrap();
    assert_eq!(project.run(&[]), hit);
    // The record, the manifest, or the blob of the output gone: the task runs.
    for folder in ["records", "trees", "objects"] {
        files(folder).iter().for_each(|file| fs::remove_file(file).unwrap());
        assert_eq!(project.run(&[]), ran, "{folder}");
        assert_eq!(project.run(&[]), hit, "{folder}");
    }
    // A damaged record is no record, whatever the index remembers.
    files("records").iter().for_each(|file| fs::write(file, "{").unwrap());
    assert_eq!(project.run(&[]), ran);
}

#[test]
fn runs_are_recorded_and_recording_never_fails_a_run() {
    let project = Project::new("");
    project.write(&stage(project.path(), "a", "echo 1 > out", ""));
    project.run(&[]);
    project.run(&["--jobs", "1"]);
    let runs: Value = serde_json::from_slice(&project.dissim(&["runs", "--json"]).stdout).unwrap();
    let counts: Vec<_> =
        runs.as_array().unwrap().iter().map(|r| (&r["ran"], &r["cached"])).collect();
    assert_eq!(format!("{counts:?}"), "[(Number(1), Number(0)), (Number(0), Number(1))]");
    assert_eq!(runs[0]["keys"], runs[1]["keys"]);
    let table = text(&project.dissim(&["runs"]).stdout);
    assert_eq!(table.matches("succeeded").count(), 2, "{table}");
    let page = text(&project.dissim(&["show", "last"]).stdout);
    assert!(page.contains("run --jobs 1") && page.contains("1: 1 cached, 0 ran"), "{page}");

    fs::remove_dir_all(project.path().join("cache/runs")).unwrap();
    fs::write(project.path().join("cache/runs"), "in the way").unwrap();
    let output = project.dissim(&["run"]);
    assert!(output.status.success());
    assert!(text(&output.stderr).contains("warning: the run could not be recorded"));
}

#[test]
fn events_are_objects_and_a_trace_opens() {
    let project = Project::new("");
    project.write(&stage(project.path(), "a", "echo hello >&2; echo 1 > out", ""));
    let output = project.dissim(&["run", "--json", "--trace", "trace.json"]);
    let events: Vec<Value> =
        text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let names: Vec<_> = events.iter().map(|e| e["event"].as_str().unwrap()).collect();
    assert_eq!(names, ["begin", "started", "done", "end", "summary"]);
    assert_eq!(events[4]["ran"], 1);
    let trace: Value =
        serde_json::from_slice(&fs::read(project.path().join("trace.json")).unwrap()).unwrap();
    let bar = &trace["traceEvents"][0];
    assert_eq!((&bar["name"], &bar["ph"], &bar["tid"]), (&"a".into(), &"X".into(), &0.into()));

    // A hit replays the log of the run that made it.
    let output = project.dissim(&["run", "--output-logs"]);
    assert!(text(&output.stderr).contains("a | hello"), "{}", text(&output.stderr));
}

#[test]
fn watch_runs_again_when_a_file_is_saved() {
    let project = Project::new("");
    fs::write(project.path().join("in"), "1").unwrap();
    let stages = "a: { kind: command, with: { shell: 'cat in >> $OUT; cp in out', \
                  env: { OUT: ROOT/seen }, inputs: [in], outputs: [out] } }";
    project.write(&stages.replace("ROOT", project.path().to_str().unwrap()));
    let mut run = project.start(&["run", "--watch"]);
    let seen = || fs::read_to_string(project.path().join("seen")).unwrap_or_default();
    until("the first run", || seen() == "1");
    // Saved while it may still run: it is not missed.
    fs::write(project.path().join("in"), "22").unwrap();
    until("the second run", || seen().ends_with("22"));
    Command::new("kill").args(["-TERM", &run.id().to_string()]).status().unwrap();
    assert_eq!(run.wait().unwrap().code(), Some(130));
}
