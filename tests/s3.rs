//! The shared store over S3, with a real server on loopback: s3s-fs from crates.io. `.ci/cluster`
//! installs it and runs these: `DISSIM_S3_SERVER=.../s3s-fs cargo test --release --workspace --test s3 -- --ignored`.

mod support;

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use support::s3::{SECRET, Server, until};
use tempfile::TempDir;

struct Project(TempDir);

impl Project {
    /// `@P` in the stages is the folder `shared`, which all projects of a test have.
    fn new(stages: &str, shared: &Path) -> Self {
        Self::with_lease(stages, shared, "20s")
    }

    fn with_lease(stages: &str, shared: &Path, lease: &str) -> Self {
        let project = Self(tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap());
        let stages = stages.replace("@P", shared.to_str().unwrap());
        let store = "store: { remote: \"s3://bucket/group\", mode: readwrite, lease: LEASE }";
        let store = store.replace("LEASE", lease);
        let text = format!("version: 1\nname: shared\n{store}\nstages:\n{stages}");
        fs::write(project.0.path().join("pipeline.yaml"), text).unwrap();
        project
    }

    fn start(&self, server: &Server, arguments: &[&str]) -> Child {
        Command::new(env!("CARGO_BIN_EXE_dissim"))
            .args(arguments)
            .current_dir(self.0.path())
            .envs(server.environment())
            .env("NO_COLOR", "1")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// The counts of a run's last line, and what it says on stderr.
    fn run(&self, server: &Server, arguments: &[&str]) -> (String, String) {
        told(&self.start(server, &[&["run"], arguments].concat()).wait_with_output().unwrap())
    }
}

fn told(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(!stderr.contains(SECRET) && !stdout.contains(SECRET), "{stderr}");
    let last = stdout.lines().last().unwrap_or_default();
    (last.split(" | ").next().unwrap_or_default().to_owned(), stderr)
}

fn lines(file: &Path) -> usize {
    fs::read_to_string(file).unwrap_or_default().lines().count()
}

/// Six tasks; each notes that it ran, and makes a small file and one of 9 MB.
const SIX: &str = r#"  one:
    kind: command
    matrix: { n: "range(6)" }
    with: { shell: "echo x >> @P/ran; sleep 0.3; echo $DISSIM_MATRIX_N > small; head -c 9000000 /dev/zero > large", outputs: [small, large] }
  all:
    kind: command
    needs: { ones: "one[*]" }
    with: { shell: "cat inputs/ones/*/small > out", outputs: [out] }
"#;

#[test]
#[ignore = "needs an S3 server"]
fn results_travel_over_s3_and_what_is_wrong_there_is_refused() {
    let (server, shared) = (Server::start(), tempfile::tempdir().unwrap());
    let (first, second) = (Project::new(SIX, shared.path()), Project::new(SIX, shared.path()));
    assert_eq!(first.run(&server, &[]).0, "7 tasks: 0 cached, 7 ran, 0 failed");
    assert_eq!((server.objects("records").len(), server.objects("objects").len()), (7, 1));
    assert!(server.objects("claims").is_empty());
    assert_eq!(second.run(&server, &[]).0, "7 tasks: 7 cached, 0 ran, 0 failed");
    // The large file is changed in one place.
    let large = server.objects("objects").pop().unwrap();
    let mut bytes = fs::read(&large).unwrap();
    bytes[5_000_000] = 1;
    fs::write(&large, bytes).unwrap();
    let (counts, stderr) = Project::new(SIX, shared.path()).run(&server, &[]);
    assert!(stderr.contains("its bytes are not what its name says"), "{stderr}");
    assert!(counts.ends_with("0 failed"), "{stderr}");
    // That run mended it.
    let (counts, stderr) = Project::new(SIX, shared.path()).run(&server, &[]);
    assert_eq!(counts, "7 tasks: 7 cached, 0 ran, 0 failed", "{stderr}");
}

#[test]
#[ignore = "needs an S3 server"]
fn a_server_that_dies_in_mid_run_costs_nothing_but_a_warning() {
    let (mut server, shared) = (Server::start(), tempfile::tempdir().unwrap());
    let project = Project::new(SIX, shared.path());
    let run = project.start(&server, &["run", "--jobs", "2"]);
    until("some tasks ran", || lines(&shared.path().join("ran")) >= 3);
    server.stop();
    let (counts, stderr) = told(&run.wait_with_output().unwrap());
    assert_eq!(counts, "7 tasks: 0 cached, 7 ran, 0 failed", "{stderr}");
    assert_eq!(stderr.matches("is of no use now").count(), 1, "{stderr}");
    assert!(stderr.contains("`dissim cache push` sends what is missing"), "{stderr}");
    server.resume();
    let pushed = project.start(&server, &["cache", "push"]).wait_with_output().unwrap();
    assert!(pushed.status.success());
    let (counts, _) = Project::new(SIX, shared.path()).run(&server, &[]);
    assert_eq!(counts, "7 tasks: 7 cached, 0 ran, 0 failed");
}

#[test]
#[ignore = "needs an S3 server"]
fn two_at_the_same_time_compute_nothing_twice() {
    let (server, shared) = (Server::start(), tempfile::tempdir().unwrap());
    let projects = [(); 3].map(|()| Project::new(SIX, shared.path()));
    let runs = projects.each_ref().map(|project| project.start(&server, &["run", "--jobs", "2"]));
    for run in runs {
        let (counts, stderr) = told(&run.wait_with_output().unwrap());
        assert!(
            counts.starts_with("7 tasks: ") && counts.ends_with(", 0 failed"),
            "{counts}\n{stderr}"
        );
    }
    assert_eq!(lines(&shared.path().join("ran")), 6, "each of the six once");
    assert!(server.objects("claims").is_empty());
}

#[test]
#[ignore = "needs an S3 server"]
fn who_dies_with_a_claim_is_followed_and_status_says_who_computes_what() {
    let (server, shared) = (Server::start(), tempfile::tempdir().unwrap());
    let slow = r#"  slow:
    kind: command
    with: { shell: "echo x >> @P/ran; test $(wc -l < @P/ran) -gt 1 || sleep 60; echo 1 > out", outputs: [out] }
"#;
    let project = || Project::with_lease(slow, shared.path(), "3s");
    let (first, second) = (project(), project());
    let mut run = first.start(&server, &["run"]);
    until("it runs", || lines(&shared.path().join("ran")) == 1);
    let status = second.start(&server, &["status"]).wait_with_output().unwrap();
    let status = String::from_utf8(status.stdout).unwrap();
    assert!(
        status.lines().any(|l| l.starts_with("computing  slow: ") && l.contains('@')),
        "{status}"
    );
    let waiting = second.start(&server, &["run"]);
    // Longer than a lease: as long as the first shows signs of life, the second waits.
    std::thread::sleep(Duration::from_secs(7));
    assert_eq!(lines(&shared.path().join("ran")), 1);
    run.kill().unwrap();
    run.wait().unwrap();
    let (counts, stderr) = told(&waiting.wait_with_output().unwrap());
    assert_eq!(counts, "1 task: 0 cached, 1 ran, 0 failed", "{stderr}");
    assert_eq!(stderr.matches("      waits slow: ").count(), 1, "{stderr}");
    assert_eq!(lines(&shared.path().join("ran")), 2);
    assert!(server.objects("claims").is_empty());
}

#[test]
#[ignore = "takes as long as the patience with a server"]
fn a_server_that_takes_calls_and_never_answers_costs_one_warning() {
    let (listener, shared) =
        (TcpListener::bind("127.0.0.1:0").unwrap(), tempfile::tempdir().unwrap());
    let project = Project::new(SIX, shared.path());
    // Calls are accepted by the system, and nobody reads them.
    let address = format!("http://{}", listener.local_addr().unwrap());
    let mut run = Command::new(env!("CARGO_BIN_EXE_dissim"));
    run.arg("run").current_dir(project.0.path()).env("AWS_ENDPOINT_URL", address);
    run.env("AWS_ACCESS_KEY_ID", "group").env("AWS_SECRET_ACCESS_KEY", SECRET);
    let (counts, stderr) = told(&run.output().unwrap());
    assert_eq!(counts, "7 tasks: 0 cached, 7 ran, 0 failed", "{stderr}");
    assert_eq!(stderr.matches("is of no use now").count(), 1, "{stderr}");
    assert_eq!(stderr.matches("no answer within 20 seconds").count(), 1, "{stderr}");
    assert!(stderr.contains("7 results were not sent"), "{stderr}");
}
