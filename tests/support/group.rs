//! Projects of a group that shares a store on a real server.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use walkdir::WalkDir;

/// What no output may hold: a server's key or password.
pub const SECRET: &str = "a-secret-that-must-not-be-told";

/// A server that holds a shared store.
pub trait Server {
    /// What pipeline.yaml says under `remote`.
    fn address(&self) -> String;
    /// What a command has to know to use it.
    fn environment(&self) -> Vec<(&'static str, String)>;
}

/// A port that nobody listens on.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// The process that was started, once it listens.
pub fn listening(port: u16, process: std::io::Result<Child>) -> Child {
    let process = process.expect("the server starts");
    until("the server listens", || TcpStream::connect(("127.0.0.1", port)).is_ok());
    process
}

/// The files below a folder of a server, which may not be there, or be at work on them.
pub fn objects(folder: &Path) -> Vec<PathBuf> {
    let files = WalkDir::new(folder).into_iter().flatten().filter(|e| e.file_type().is_file());
    files.map(|entry| entry.into_path()).collect()
}

/// Waits for something that must happen.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(120), "never happened: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A project of one member of the group.
pub struct Project(pub TempDir);

impl Project {
    /// `@P` in the stages is the folder `shared`, which all projects of a test have.
    pub fn new(server: &impl Server, stages: &str, shared: &Path) -> Self {
        Self::with_lease(server, stages, shared, "20s")
    }

    pub fn with_lease(server: &impl Server, stages: &str, shared: &Path, lease: &str) -> Self {
        let project = Self(tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap());
        let stages = stages.replace("@P", shared.to_str().unwrap());
        let address = server.address();
        let store = format!("store: {{ remote: {address:?}, mode: readwrite, lease: {lease} }}");
        let text = format!("version: 1\nname: shared\n{store}\nstages:\n{stages}");
        fs::write(project.0.path().join("pipeline.yaml"), text).unwrap();
        project
    }

    pub fn start(&self, server: &impl Server, arguments: &[&str]) -> Child {
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
    pub fn run(&self, server: &impl Server, arguments: &[&str]) -> (String, String) {
        told(&self.start(server, &[&["run"], arguments].concat()).wait_with_output().unwrap())
    }
}

/// The counts of a run's last line, and what it said on stderr; never a secret.
pub fn told(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(!stderr.contains(SECRET) && !stdout.contains(SECRET), "{stderr}");
    let last = stdout.lines().last().unwrap_or_default();
    (last.split(" | ").next().unwrap_or_default().to_owned(), stderr)
}

pub fn lines(file: &Path) -> usize {
    fs::read_to_string(file).unwrap_or_default().lines().count()
}

/// Six tasks; each notes that it ran, and makes a small file and one of 9 MB.
pub const SIX: &str = r#"  one:
    kind: command
    matrix: { n: "range(6)" }
    with: { shell: "echo x >> @P/ran; sleep 0.3; echo $DISSIM_MATRIX_N > small; head -c 9000000 /dev/zero > large", outputs: [small, large] }
  all:
    kind: command
    needs: { ones: "one[*]" }
    with: { shell: "cat inputs/ones/*/small > out", outputs: [out] }
"#;

/// Three projects run [`SIX`] at the same time: each of the six is computed once.
pub fn nothing_is_computed_twice(server: &impl Server) {
    let shared = tempfile::tempdir().unwrap();
    let projects = [(); 3].map(|()| Project::new(server, SIX, shared.path()));
    let runs = projects.each_ref().map(|project| project.start(server, &["run", "--jobs", "2"]));
    for run in runs {
        let (counts, stderr) = told(&run.wait_with_output().unwrap());
        let well = counts.starts_with("7 tasks: ") && counts.ends_with(", 0 failed");
        assert!(well && !stderr.contains("warning"), "{counts}\n{stderr}");
    }
    assert_eq!(lines(&shared.path().join("ran")), 6, "each of the six once");
    // All of it is there for a fourth, the large files too.
    let (counts, stderr) = Project::new(server, SIX, shared.path()).run(server, &[]);
    assert_eq!(counts, "7 tasks: 7 cached, 0 ran, 0 failed", "{stderr}");
}
