//! Many runners, many tasks, long chains, disks that are slow or full.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use super::study::{Fault, Study, wait};
use super::support::{Project, files};

fn count(path: &Path) -> usize {
    fs::read_to_string(path).unwrap_or_default().lines().count()
}

/// `n` runners at once on a project of `tasks` tasks; every task runs once in all.
fn together(runners: usize, tasks: usize) {
    let project = Project::empty();
    let ran = project.path().join("ran");
    project.write(&format!(
        "version: 1\nname: t\nstages:\n  a:\n    kind: command\n    matrix: {{ i: \"range({tasks})\" }}\n    with: {{ shell: 'echo $DISSIM_MATRIX_I >> {ran}; sleep 0.02; echo $DISSIM_MATRIX_I > out', outputs: [out] }}\n  b:\n    kind: command\n    needs: {{ x: \"a[*]\" }}\n    with: {{ shell: 'echo all >> {ran}; cat inputs/x/*/out > out', outputs: [out] }}\n",
        ran = ran.display(),
    ));
    let start = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dissim"));
        command.args(["run", "--jobs", "2"]).current_dir(project.path());
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    };
    let mut started: Vec<_> = (0..runners).map(|_| start()).collect();
    for run in &mut started {
        assert_eq!(wait(run), Some(0));
    }
    let text = fs::read_to_string(&ran).unwrap();
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines.dedup();
    assert_eq!((lines.len(), count(&ran)), (tasks + 1, tasks + 1), "nothing twice");
    assert_eq!(files(&project.path().join("cache/locks")).len(), 1);
    assert_eq!(files(&project.path().join("cache/tmp")).len(), 0);
    project.succeed("cache verify");
}

#[test]
fn runners_that_share_a_store_do_nothing_twice() {
    together(16, 8);
}

/// A wide fan-out and what joins it; then nothing to do.
fn wide(tasks: usize) {
    let project = Project::empty();
    let stages = "root: { kind: command, with: { run: [touch, out], outputs: [out] } }
  a: { kind: command, needs: { x: root }, matrix: { i: \"range(TASKS)\" }, with: { run: [touch, out], outputs: [out] } }
  b: { kind: command, needs: { x: \"a[*]\" }, with: { shell: \"ls inputs/x | wc -l > out\", outputs: [out] } }
";
    let stages = stages.replace("TASKS", &tasks.to_string());
    project.write(&format!("version: 1\nname: t\nstages:\n  {stages}"));
    let start = Instant::now();
    assert_eq!(project.ran("run"), tasks + 2);
    println!("{} tasks ran in {:.1} s", tasks + 2, start.elapsed().as_secs_f64());
    let start = Instant::now();
    assert_eq!(project.ran("run"), 0);
    println!("{} hits in {:.2} s", tasks + 2, start.elapsed().as_secs_f64());
}

#[test]
fn a_fan_out_runs_and_is_joined() {
    wide(30);
}

#[test]
#[ignore = "a minute: a fan-out of a thousand"]
fn a_fan_out_of_a_thousand() {
    wide(1000);
}

#[test]
#[ignore = "many minutes: ten thousand processes"]
fn ten_thousand_tasks() {
    wide(10_000);
}

/// A chain: every stage needs the one before.
fn chain(length: usize) -> Project {
    let project = Project::empty();
    let stage = |i: usize| {
        let needs = if i == 0 { String::new() } else { format!(", needs: {{ x: s{} }}", i - 1) };
        format!(
            "  s{i}: {{ kind: command{needs}, with: {{ shell: 'echo {i} > out', outputs: [out] }} }}\n"
        )
    };
    let stages: String = (0..length).map(stage).collect();
    project.write(&format!("version: 1\nname: t\nstages:\n{stages}"));
    project
}

/// Read, expanded, ordered and planned without recursion that would end at the end of the stack.
#[test]
fn a_chain_of_ten_thousand_is_planned() {
    let plan = chain(10_000).succeed("run --dry-run");
    let last = plan.lines().last().unwrap();
    assert_eq!(last, "0 cached, 1 would run, 9999 may run after those; nothing was run");
}

#[test]
fn a_chain_runs_to_its_end() {
    assert_eq!(chain(40).ran("run"), 40);
}

#[test]
#[ignore = "many minutes: ten thousand processes, one after the other"]
fn a_chain_of_ten_thousand_runs_to_its_end() {
    assert_eq!(chain(10_000).ran("run"), 10_000);
}

/// Parameters that refer to each other in a chain of ten thousand.
#[test]
fn a_chain_of_parameters_is_resolved() {
    let project = Project::empty();
    // The first that is asked for leads through all the others.
    let parameters: String =
        (0..9999).map(|i| format!("  p{i:04}: \"${{p{:04}}}\"\n", i + 1)).collect();
    project.write(&format!(
        "version: 1\nname: t\nparams:\n{parameters}  p9999: 7\nstages:\n  s: {{ kind: command, matrix: {{ i: [\"${{p0000}}\"] }}, with: {{ run: [touch, out], outputs: [out] }} }}\n"
    ));
    let plan = project.succeed("run --dry-run");
    assert!(plan.contains("would run  s[i=7]"), "{plan}");
}

/// A disk that takes its time changes nothing.
#[test]
fn a_slow_disk_is_only_slow() {
    let study = Study::small();
    study.fresh();
    let code = study.run_with(Fault { kind: "slow", at: 1, sticky: true });
    assert_eq!(code, Some(0), "{}", study.told());
    study.is_sound("on a slow disk");
    study.completes("on a slow disk");
}

/// Unmounts when the test ends, however it does.
struct Mounted(std::path::PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_is_said_and_what_fitted_stays() {
    let project = Project::empty();
    let cache = project.path().join("cache");
    fs::create_dir(&cache).unwrap();
    let mount = |options: &str| {
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", options, "none"]).arg(&cache);
        command.stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    };
    if !mount("size=1m") {
        eprintln!("skipped: no file system can be mounted here");
        return;
    }
    let _mounted = Mounted(cache.clone());
    let stage = |name: &str, size: usize, needs: &str| {
        format!(
            "  {name}: {{ kind: command{needs}, with: {{ shell: 'head -c {size} /dev/zero | tr \"\\0\" {name} > out', outputs: [out] }} }}\n"
        )
    };
    project.write(&format!(
        "version: 1\nname: t\nstages:\n{}{}",
        stage("a", 300_000, ""),
        stage("b", 3_000_000, ", needs: { x: a }"),
    ));
    let output = project.dissim("run");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("No space left on device"), "{told}");
    let verified = project.succeed("cache verify");
    assert!(verified.contains("no damage") && !verified.contains("runs again"), "{verified}");
    // Room is made: what was finished is a hit.
    let status = Command::new("mount").args(["-o", "remount,size=64m"]).arg(&cache).status();
    assert!(status.unwrap().success());
    assert_eq!(project.ran("run"), 1);
    project.succeed("cache verify");
}

/// Removed when the test ends, however it does.
struct Group(std::path::PathBuf);

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

/// A control group that may hold so many bytes; none where this process may not make one.
fn memory_group(bytes: usize) -> Option<Group> {
    let root = Path::new("/sys/fs/cgroup");
    let (folder, limit) = match root.join("cgroup.controllers").exists() {
        true => (root.join("dissim-test-memory"), "memory.max"),
        false => (root.join("memory/dissim-test-memory"), "memory.limit_in_bytes"),
    };
    let _ = fs::remove_dir(&folder);
    fs::create_dir(&folder).ok()?;
    let group = Group(folder);
    fs::write(group.0.join(limit), bytes.to_string()).ok()?;
    // Where there is room to swap to, nothing would run out.
    for swap in ["memory.swap.max", "memory.memsw.limit_in_bytes"] {
        let _ = fs::write(
            group.0.join(swap),
            if swap.ends_with("max") { "0".to_owned() } else { bytes.to_string() },
        );
    }
    Some(group)
}

#[test]
#[ignore = "makes a memory group of the system, which takes the right to"]
fn a_task_that_the_system_kills_for_want_of_memory_is_said_to_be() {
    let counts = fs::read_to_string("/proc/vmstat").is_ok_and(|text| text.contains("oom_kill "));
    let Some(group) = memory_group(400_000_000).filter(|_| counts) else {
        eprintln!("skipped: no memory group can be made here");
        return;
    };
    let project = Project::empty();
    project.write("version: 1\nname: t\nstages:\n  a: { kind: command, with: { shell: 'head -c 2000000000 /dev/zero | tail > out', outputs: [out] } }\n");
    // The shell joins the group and becomes the runner.
    let line = format!("echo $$ > {}/cgroup.procs && exec \"$0\" run", group.0.display());
    let output = Command::new("sh")
        .args(["-c", &line, env!("CARGO_BIN_EXE_dissim")])
        .current_dir(project.path())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("a: out of memory: the system had none left"), "{told}");
    // The failure is no result.
    assert_eq!(files(&project.path().join("cache/records")).len(), 0);
}
