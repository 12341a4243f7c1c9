//! Tasks as jobs of a real Slurm: two virtual nodes on loopback, started by `tests/slurm/cluster.sh`.
//!
//! Needs slurm-wlm, munge and root: `cargo test --release --workspace --test slurm -- --ignored`.

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use support::PIPELINE;
use support::group::{Server as _, until};
use support::s3::Server;
use tempfile::TempDir;

/// A cluster of this test's own; stopped when it goes.
struct Cluster(TempDir);

impl Cluster {
    fn start() -> Self {
        let cluster = Self(tempfile::tempdir().unwrap());
        cluster.act("start");
        cluster
    }

    fn act(&self, what: &str) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/slurm/cluster.sh");
        // A cluster has three ports; those of two tests at once are not the same.
        static CLUSTERS: AtomicU32 = AtomicU32::new(0);
        let port =
            20_000 + (std::process::id() % 30 * 300 + CLUSTERS.fetch_add(1, SeqCst) % 100 * 3);
        let mut command = Command::new(script);
        command.arg(what).arg(self.0.path()).env("DISSIM_SLURM_PORT", port.to_string());
        let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
        assert!(status.unwrap().success(), "cluster.sh {what}");
    }

    fn configuration(&self) -> PathBuf {
        self.0.path().join("slurm.conf")
    }

    /// What one of Slurm's commands prints.
    fn slurm(&self, name: &str, arguments: &[&str]) -> String {
        let mut command = Command::new(name);
        command.args(arguments).env("SLURM_CONF", self.configuration());
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    }

    /// The tasks of job arrays that wait or run.
    fn queue(&self) -> Vec<String> {
        let text = self.slurm("squeue", &["--noheader", "--array", "--format=%i"]);
        text.lines().map(|line| line.trim().to_owned()).collect()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ =
            Command::new("scancel").arg("--me").env("SLURM_CONF", self.configuration()).status();
        self.act("stop");
    }
}

struct Project(TempDir);

impl Project {
    /// A project whose stages run these shell lines; `@P` is the project's folder.
    fn new(stages: &str) -> Self {
        let project = Self(tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap());
        let stages = stages.replace("@P", project.path().to_str().unwrap());
        let text = format!(
            "version: 1\nname: cluster\nexecutors: {{ slurm: {{ partition: p, poll: 1s }} }}\nstages:\n{stages}"
        );
        fs::write(project.path().join("pipeline.yaml"), text).unwrap();
        project
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn command(&self, cluster: &Cluster, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dissim"));
        command.args(arguments).current_dir(self.path());
        command.env("SLURM_CONF", cluster.configuration()).env("NO_COLOR", "1");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn start(&self, cluster: &Cluster, arguments: &[&str]) -> Child {
        let arguments = [&["run", "--executor", "slurm"], arguments].concat();
        self.command(cluster, &arguments).spawn().unwrap()
    }

    /// What a run on the cluster says in its last line, and all it says on stderr.
    fn run(&self, cluster: &Cluster, arguments: &[&str]) -> (String, String) {
        told(&self.start(cluster, arguments).wait_with_output().unwrap())
    }

    fn lines(&self, file: &str) -> usize {
        fs::read_to_string(self.path().join(file)).unwrap_or_default().lines().count()
    }

    /// The artifact of every task.
    fn artifacts(&self) -> Vec<(String, String)> {
        artifacts(self.path())
    }
}

/// The artifact of every task of a project.
fn artifacts(project: &Path) -> Vec<(String, String)> {
    let records = walkdir::WalkDir::new(project.join("cache/records")).into_iter().flatten();
    let mut all: Vec<_> = records
        .filter(|entry| entry.file_type().is_file())
        .map(|entry| fs::read(entry.path()).unwrap())
        .map(|bytes| serde_json::from_slice::<serde_json::Value>(&bytes).unwrap())
        .map(|record| (record["task"].to_string(), record["artifact"].to_string()))
        .collect();
    all.sort();
    all
}

fn told(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let stdout = text(&output.stdout);
    let last = stdout.lines().last().unwrap_or_default();
    (last.split(" | ").next().unwrap_or_default().to_owned(), text(&output.stderr))
}

fn signal(child: &Child, name: &str) {
    assert!(Command::new("kill").args([name, &child.id().to_string()]).status().unwrap().success());
}

/// Eight tasks, and one that joins them.
const FAN: &str = r#"  one:
    kind: command
    matrix: { n: "range(8)" }
    with: { shell: "echo {matrix.n} >> @P/ran; sleep SLEEP; echo {matrix.n} > out", outputs: [out] }
  all:
    kind: command
    needs: { ones: "one[*]" }
    with: { shell: "cat inputs/ones/*/out > out", outputs: [out] }
"#;

fn fan(seconds: &str) -> Project {
    Project::new(&FAN.replace("SLEEP", seconds).replace("{matrix.n}", "$DISSIM_MATRIX_N"))
}

#[test]
#[ignore = "needs Slurm"]
fn a_study_on_the_cluster_is_the_study_here() {
    let cluster = Cluster::start();
    let (there, here) = (fan("0.1"), fan("0.1"));
    let (counts, stderr) = there.run(&cluster, &[]);
    assert_eq!(counts, "9 tasks: 0 cached, 9 ran, 0 failed", "{stderr}");
    // An array for the eight, and one for the last.
    let jobs = cluster.slurm("scontrol", &["--oneliner", "show", "job"]);
    let arrays: std::collections::BTreeSet<_> =
        jobs.split_whitespace().filter(|word| word.starts_with("ArrayJobId=")).collect();
    assert_eq!(arrays.len(), 2, "{jobs}");
    let output = here.command(&cluster, &["run"]).output().unwrap();
    assert!(output.status.success());
    // The command line names the project's folder, so keys differ; what came out does not.
    let of = |project: &Project| project.artifacts();
    assert_eq!(of(&there), of(&here));
    // Nothing is left behind.
    let left = walkdir::WalkDir::new(there.path().join("cache/jobs")).into_iter().flatten();
    let left: Vec<_> = left.map(|entry| entry.file_name().to_owned()).collect();
    assert_eq!(left, ["jobs", "arrays"]);
    assert_eq!(there.run(&cluster, &[]).0, "9 tasks: 9 cached, 0 ran, 0 failed");
}

#[test]
#[ignore = "needs Slurm"]
fn a_runner_that_died_finds_its_jobs_again() {
    let cluster = Cluster::start();
    let project = fan("4");
    let mut first = project.start(&cluster, &[]);
    until("some tasks run", || project.lines("ran") >= 2);
    first.kill().unwrap();
    first.wait().unwrap();
    assert!(!cluster.queue().is_empty(), "the jobs outlive the runner");
    let (counts, stderr) = project.run(&cluster, &[]);
    assert_eq!(counts, "9 tasks: 0 cached, 9 ran, 0 failed", "{stderr}");
    assert_eq!(project.lines("ran"), 8, "nothing is computed twice");
}

#[test]
#[ignore = "needs Slurm"]
fn jobs_that_ended_while_nobody_looked_are_taken_up() {
    let cluster = Cluster::start();
    let project = fan("1");
    let mut first = project.start(&cluster, &[]);
    until("the jobs are out", || !cluster.queue().is_empty());
    // After the array's id was noted.
    std::thread::sleep(Duration::from_secs(1));
    first.kill().unwrap();
    first.wait().unwrap();
    until("the jobs are done", || cluster.queue().is_empty());
    let (counts, stderr) = project.run(&cluster, &[]);
    assert_eq!(counts, "9 tasks: 0 cached, 9 ran, 0 failed", "{stderr}");
    assert_eq!(project.lines("ran"), 8);
}

#[test]
#[ignore = "needs Slurm"]
fn a_controller_that_goes_away_is_waited_for() {
    let cluster = Cluster::start();
    let project = fan("2");
    let run = project.start(&cluster, &[]);
    until("some tasks run", || project.lines("ran") >= 1);
    cluster.act("controller-stop");
    std::thread::sleep(Duration::from_secs(6));
    cluster.act("controller-start");
    let (counts, stderr) = told(&run.wait_with_output().unwrap());
    assert_eq!(counts, "9 tasks: 0 cached, 9 ran, 0 failed", "{stderr}");
    // Its commands wait for a while themselves; what they say after that is said once.
    assert!(stderr.matches("Slurm does not answer").count() <= 1, "{stderr}");
    assert_eq!(project.lines("ran"), 8);
}

#[test]
#[ignore = "needs Slurm"]
fn what_ends_a_job_is_said() {
    let cluster = Cluster::start();
    let stage = |name: &str, shell: &str, rest: &str| {
        format!(
            "  {name}:\n    kind: command\n    with: {{ shell: '{shell}', outputs: [out] }}\n{rest}"
        )
    };
    let project = Project::new(
        &(stage("fails", "echo so it goes >&2; exit 3", "")
            + &stage("slow", "sleep 60; echo 1 > out", "    timeout: 2s\n")
            + &stage("killed", "echo 1 > out; kill -9 $PPID; sleep 9", "")
            + &stage("cancelled", "echo x >> @P/runs; sleep 300; echo 1 > out", "")),
    );
    let run = project.start(&cluster, &["--keep-going"]);
    until("the last one runs", || project.lines("runs") == 1);
    let names = cluster.slurm("squeue", &["--noheader", "--array", "--format=%i %j"]);
    let line = names.lines().find(|line| line.contains("dissim-cancelled")).expect("it runs");
    cluster.slurm("scancel", &[line.split_whitespace().next().unwrap()]);
    let (counts, stderr) = told(&run.wait_with_output().unwrap());
    assert_eq!(counts, "4 tasks: 0 cached, 0 ran, 4 failed", "{stderr}");
    for said in [
        "ended with exit code 3",
        "| so it goes",
        "it took longer than its timeout of 2.0s",
        "the task was killed (SIGKILL)",
        "its job was cancelled in Slurm on n",
    ] {
        assert!(stderr.contains(said), "`{said}` is not in\n{stderr}");
    }
}

#[test]
#[ignore = "needs Slurm"]
fn a_requeued_job_runs_again_and_a_lost_node_costs_nothing() {
    let cluster = Cluster::start();
    let project = fan("3");
    let run = project.start(&cluster, &[]);
    until("some tasks run", || project.lines("ran") >= 2);
    let queue = cluster.queue();
    cluster.slurm("scontrol", &["requeue", &queue[0]]);
    cluster.slurm("scontrol", &["update", "nodename=n2", "state=down", "reason=test"]);
    std::thread::sleep(Duration::from_secs(2));
    cluster.slurm("scontrol", &["update", "nodename=n2", "state=resume"]);
    let (counts, stderr) = told(&run.wait_with_output().unwrap());
    assert_eq!(counts, "9 tasks: 0 cached, 9 ran, 0 failed", "{stderr}");
}

#[test]
#[ignore = "needs Slurm"]
fn an_interrupted_run_leaves_its_jobs_or_cancels_them() {
    let cluster = Cluster::start();
    let project = fan("3");
    let run = project.start(&cluster, &[]);
    until("some tasks run", || project.lines("ran") >= 1);
    signal(&run, "-TERM");
    let output = run.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    let (_, stderr) = told(&output);
    assert!(stderr.contains("go on in Slurm; the next"), "{stderr}");
    assert!(!cluster.queue().is_empty());
    let (counts, stderr) = project.run(&cluster, &[]);
    assert_eq!(counts, "9 tasks: 0 cached, 9 ran, 0 failed", "{stderr}");
    assert_eq!(project.lines("ran"), 8);

    let project = fan("300");
    let run = project.start(&cluster, &["--on-interrupt", "cancel"]);
    until("some tasks run", || project.lines("ran") >= 1);
    signal(&run, "-TERM");
    let (_, stderr) = told(&run.wait_with_output().unwrap());
    assert!(stderr.contains("8 jobs were cancelled in Slurm"), "{stderr}");
    until("the queue is empty", || cluster.queue().is_empty());
}

#[test]
#[ignore = "needs Slurm"]
fn what_sbatch_refuses_is_said() {
    let cluster = Cluster::start();
    let project = fan("1");
    let file = project.path().join("pipeline.yaml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("partition: p", "partition: none-such")).unwrap();
    let (counts, stderr) = project.run(&cluster, &[]);
    assert!(counts.contains("0 ran") && stderr.contains("invalid partition specified"), "{stderr}");
    // What goes wrong on the node before the task starts is said too.
    fs::write(&file, text.replace("partition: p", "partition: p, modules: [none-such]")).unwrap();
    let (counts, stderr) = project.run(&cluster, &[]);
    assert!(counts.contains("0 ran") && stderr.contains("module: command not found"), "{stderr}");
    assert!(stderr.contains("its job ended with code 1 on n"), "{stderr}");
}

/// A folder whose `sbatch` submits, and then does this: the answer does not reach the runner.
fn sbatch_that(then: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let real = Command::new("sh").args(["-c", "command -v sbatch"]).output().unwrap().stdout;
    let real = String::from_utf8(real).unwrap();
    let said = folder.path().join("said");
    let text = format!(
        "#!/bin/sh\n{} \"$@\" > /dev/null\ntest -e {said} || {{ touch {said}; {then}; }}\n",
        real.trim(),
        said = said.display()
    );
    let file = folder.path().join("sbatch");
    fs::write(&file, text).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

fn arrays(cluster: &Cluster) -> usize {
    let jobs = cluster.slurm("scontrol", &["--oneliner", "show", "job"]);
    let arrays = jobs.split_whitespace().filter(|word| word.starts_with("ArrayJobId="));
    arrays.collect::<std::collections::BTreeSet<_>>().len()
}

#[test]
#[ignore = "needs Slurm"]
fn an_array_whose_number_was_not_heard_is_found_and_not_submitted_again() {
    let cluster = Cluster::start();
    let stage = FAN.split_inclusive("outputs: [out] }\n").next().unwrap();
    let stage = stage.replace("SLEEP", "4").replace("{matrix.n}", "$DISSIM_MATRIX_N");
    let path = |folder: &TempDir| {
        format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap())
    };
    // The answer is lost.
    let lost = sbatch_that("echo Socket timed out on send/recv operation >&2; exit 1");
    let project = Project::new(&stage);
    let mut run = project.command(&cluster, &["run", "--executor", "slurm"]);
    let (counts, stderr) = told(&run.env("PATH", path(&lost)).output().unwrap());
    assert_eq!(counts, "8 tasks: 0 cached, 8 ran, 0 failed", "{stderr}");
    assert_eq!((project.lines("ran"), arrays(&cluster)), (8, 1));
    // Who asked is dead before the answer comes.
    let deadly = sbatch_that("kill -9 $PPID");
    let project = Project::new(&stage);
    let mut run = project.command(&cluster, &["run", "--executor", "slurm"]);
    assert!(!run.env("PATH", path(&deadly)).output().unwrap().status.success());
    let (counts, stderr) = project.run(&cluster, &[]);
    assert_eq!(counts, "8 tasks: 0 cached, 8 ran, 0 failed", "{stderr}");
    assert_eq!((project.lines("ran"), arrays(&cluster)), (8, 2));
}

#[test]
#[ignore = "needs Slurm and an S3 server"]
fn the_study_as_jobs_and_over_s3_is_the_study_here() {
    let (cluster, server) = (Cluster::start(), Server::start());
    let here = support::Project::new();
    here.succeed("run");
    let sections = "executors: { slurm: { partition: p, poll: 1s } }\n\
                    store: { remote: \"s3://bucket/group\", mode: readwrite }\nstages:";
    let pipeline = PIPELINE.replace("stages:", sections);
    let run = |project: &support::Project, arguments: &[&str]| {
        project.write(&pipeline);
        let mut run = Command::new(env!("CARGO_BIN_EXE_dissim"));
        run.args(arguments).current_dir(project.path()).envs(server.environment());
        run.env("SLURM_CONF", cluster.configuration()).env("NO_COLOR", "1");
        told(&run.output().unwrap())
    };
    let there = support::Project::new();
    let (counts, stderr) = run(&there, &["run", "--executor", "slurm"]);
    assert_eq!(counts, "11 tasks: 2 cached, 9 ran, 0 failed", "{stderr}");
    // Somebody else, who has nothing but the address.
    let pushed = run(&there, &["cache", "push"]);
    assert!(pushed.0.starts_with("2 results sent to s3://bucket/group"), "{pushed:?}");
    let other = support::Project::empty();
    let (counts, stderr) = run(&other, &["run"]);
    assert_eq!(counts, "11 tasks: 11 cached, 0 ran, 0 failed", "{stderr}");
    // The report holds the whole pipeline, which names another store.
    let all = |project: &support::Project| {
        let mut all = artifacts(project.path());
        all.retain(|(task, _)| task != "\"report\"");
        all
    };
    assert_eq!(all(&here).len(), 10);
    assert_eq!(all(&here), all(&there));
    assert_eq!(artifacts(there.path()), artifacts(other.path()));
}
