//! The shared store over S3, with a real server on loopback: s3s-fs from crates.io. `.ci/cluster`
//! installs it and runs these: `DISSIM_S3_SERVER=.../s3s-fs cargo test --release --workspace --test s3 -- --ignored`.

mod support;

use std::fs;
use std::net::TcpListener;
use std::time::Duration;

use support::group::{self, Project, SECRET, SIX, lines, nothing_is_computed_twice, told, until};
use support::s3::Server;

#[test]
#[ignore = "needs an S3 server"]
fn results_travel_over_s3_and_what_is_wrong_there_is_refused() {
    let (server, shared) = (Server::start(), tempfile::tempdir().unwrap());
    let (first, second) =
        (Project::new(&server, SIX, shared.path()), Project::new(&server, SIX, shared.path()));
    assert_eq!(first.run(&server, &[]).0, "7 tasks: 0 cached, 7 ran, 0 failed");
    assert_eq!((server.objects("records").len(), server.objects("objects").len()), (7, 1));
    assert!(server.objects("claims").is_empty());
    assert_eq!(second.run(&server, &[]).0, "7 tasks: 7 cached, 0 ran, 0 failed");
    // The large file is changed in one place.
    let large = server.objects("objects").pop().unwrap();
    let mut bytes = fs::read(&large).unwrap();
    bytes[5_000_000] = 1;
    fs::write(&large, bytes).unwrap();
    let (counts, stderr) = Project::new(&server, SIX, shared.path()).run(&server, &[]);
    assert!(stderr.contains("its bytes are not what its name says"), "{stderr}");
    assert!(counts.ends_with("0 failed"), "{stderr}");
    // That run mended it.
    let (counts, stderr) = Project::new(&server, SIX, shared.path()).run(&server, &[]);
    assert_eq!(counts, "7 tasks: 7 cached, 0 ran, 0 failed", "{stderr}");
}

#[test]
#[ignore = "needs an S3 server"]
fn a_server_that_dies_in_mid_run_costs_nothing_but_a_warning() {
    let (mut server, shared) = (Server::start(), tempfile::tempdir().unwrap());
    let project = Project::new(&server, SIX, shared.path());
    let run = project.start(&server, &["run", "--jobs", "2"]);
    until("some tasks ran", || lines(&shared.path().join("ran")) >= 3);
    server.stop();
    let (counts, stderr) = told(&run.wait_with_output().unwrap());
    assert_eq!(counts, "7 tasks: 0 cached, 7 ran, 0 failed", "{stderr}");
    assert_eq!(stderr.matches("is unavailable").count(), 1, "{stderr}");
    assert!(stderr.contains("`dissim cache push` sends what is missing"), "{stderr}");
    server.resume();
    let pushed = project.start(&server, &["cache", "push"]).wait_with_output().unwrap();
    assert!(pushed.status.success());
    let (counts, _) = Project::new(&server, SIX, shared.path()).run(&server, &[]);
    assert_eq!(counts, "7 tasks: 7 cached, 0 ran, 0 failed");
}

#[test]
#[ignore = "needs an S3 server"]
fn three_at_the_same_time_compute_nothing_twice() {
    let server = Server::start();
    nothing_is_computed_twice(&server);
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
    let project = || Project::with_lease(&server, slow, shared.path(), "3s");
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

/// Calls are accepted by the system, and nobody reads them.
struct Deaf(TcpListener);

impl group::Server for Deaf {
    fn address(&self) -> String {
        "s3://bucket/group".to_owned()
    }

    fn environment(&self) -> Vec<(&'static str, String)> {
        let address = format!("http://{}", self.0.local_addr().unwrap());
        [
            ("AWS_ENDPOINT_URL", address.as_str()),
            ("AWS_ACCESS_KEY_ID", "group"),
            ("AWS_SECRET_ACCESS_KEY", SECRET),
        ]
        .map(|(name, value)| (name, value.to_owned()))
        .to_vec()
    }
}

#[test]
#[ignore = "takes as long as the patience with a server"]
fn a_server_that_takes_calls_and_never_answers_costs_one_warning() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (server, shared) = (Deaf(listener), tempfile::tempdir().unwrap());
    let (counts, stderr) = Project::new(&server, SIX, shared.path()).run(&server, &[]);
    assert_eq!(counts, "7 tasks: 0 cached, 7 ran, 0 failed", "{stderr}");
    assert_eq!(stderr.matches("is unavailable").count(), 1, "{stderr}");
    assert_eq!(stderr.matches("no answer within 20 seconds").count(), 1, "{stderr}");
    assert!(stderr.contains("7 results were not sent"), "{stderr}");
}
