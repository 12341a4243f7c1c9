//! What a terminal, a browser and a table show.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use walkdir::WalkDir;

use super::fixture::{Study, Told};

/// One task that prints a line and makes a file.
const ONE: &str =
    "t: { kind: command, with: { shell: 'echo said >&2; echo 1 > out', outputs: [out] } }";

// ---- the terminal ----

/// Everything goes through `src/say.rs`, which calms what a terminal would obey.
#[test]
fn only_one_module_writes_to_the_terminal() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let sources = WalkDir::new(&root).into_iter().map(Result::unwrap);
    let mut wrong = Vec::new();
    for file in sources.filter(|file| file.path().extension().is_some_and(|e| e == "rs")) {
        let name = file.path().strip_prefix(&root).unwrap().display().to_string();
        // The second tells the runner what its task does, over a pipe.
        if name == "say.rs" || name == "execute/process.rs" {
            continue;
        }
        for (number, line) in fs::read_to_string(file.path()).unwrap().lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            let asks = ["stdout().is_terminal()", "stderr().is_terminal()", "use_stderr()"];
            let code = asks.iter().fold(code.to_owned(), |code, ask| code.replace(ask, ""));
            let writes = ["println!", "print!", "dbg!", "stdout()", "stderr()"];
            // `Command::stdout(..)` has an argument.
            if writes.iter().any(|word| code.contains(word)) {
                wrong.push(format!("{name}:{}: {line}", number + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "write with `say!` or `say::out`:\n{}", wrong.join("\n"));
}

#[test]
fn a_log_in_a_pipe_is_what_the_program_printed() {
    let study = Study::new(
        "t: { kind: command, with: { shell: 'printf \"\\033[31mred\\033[0m\\r\\377\" >&2; echo 1 > out', outputs: [out] } }",
    );
    study.dissim(&["run"]).ended(0);
    let log = study.command(&["log", "t"]).output().unwrap().stdout;
    assert!(log.starts_with(b"\x1b[31mred\x1b[0m\r"), "{:?}", String::from_utf8_lossy(&log));
}

// ---- the server ----

/// `dissim serve` on a port of its own; it ends with the test.
struct Served {
    child: Child,
    address: String,
}

impl Served {
    fn new(study: &Study) -> Self {
        let mut child = study
            .command(&["serve", "--port", "0"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut url = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut url).unwrap();
        let address = url.trim().trim_start_matches("http://").trim_end_matches('/').to_owned();
        Self { child, address }
    }

    /// Connects and sends.
    fn send(&self, request: &str) -> TcpStream {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        stream
    }

    /// The answer to a request: the whole of it.
    fn ask(&self, path: &str, headers: &str) -> String {
        let mut stream = self.send(&format!("GET {path} HTTP/1.1\r\n{headers}\r\n"));
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// Fails the test unless a client is answered at once.
    #[track_caller]
    fn answers(&self, beside: &str) {
        let start = Instant::now();
        let answer = self.ask("/live.json", &format!("Host: {}\r\n", self.address));
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "beside {beside}: {answer}");
        assert!(start.elapsed() < Duration::from_secs(5), "beside {beside}: {:?}", start.elapsed());
    }

    /// The most memory that the server held, in bytes.
    fn peak_memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn no_client_keeps_another_from_its_answer() {
    let study = Study::new(ONE);
    let served = Served::new(&study);
    served.answers("nobody");
    let own = format!("Host: {}\r\n", served.address);
    let post = format!("POST / HTTP/1.1\r\n{own}Content-Length: 1000000\r\n\r\n");
    let _bodies: Vec<_> = (0..20).map(|_| served.send(&post)).collect();
    served.answers("bodies that never come");
    let get = format!("GET / HTTP/1.1\r\n{own}\r\n");
    let _deaf: Vec<_> = (0..20).map(|_| served.send(&get)).collect();
    served.answers("clients that do not read");
    let _halves: Vec<_> = (0..100).map(|_| served.send(&get[..get.len() - 3])).collect();
    served.answers("requests that do not end");
    let _idle: Vec<_> = (0..700).map(|_| served.send("")).collect();
    served.answers("idle connections");
}

#[test]
fn a_request_of_any_length_takes_no_memory() {
    let study = Study::new(ONE);
    let served = Served::new(&study);
    served.answers("nobody");
    let before = served.peak_memory();
    let piece = "x".repeat(1 << 20);
    for start in
        ["GET / HTTP/1.1\r\nX: ", "GET /", "POST / HTTP/1.1\r\nContent-Length: 999999999\r\n\r\n"]
    {
        let mut stream = served.send(start);
        // The server answers and hangs up; then it cannot be written to.
        let sent = (0..200).take_while(|_| stream.write_all(piece.as_bytes()).is_ok()).count();
        assert!(sent < 200, "all of it was read");
        served.answers("a long request");
    }
    let more = served.peak_memory() - before;
    assert!(more < 64 << 20, "{more} bytes more");
}

#[test]
fn a_forwarded_port_is_answered_and_another_name_is_not() {
    let study = Study::new(ONE);
    let served = Served::new(&study);
    let status = |headers: &str| {
        let answer = served.ask("/", headers);
        answer.split(' ').nth(1).unwrap().to_owned()
    };
    for host in ["localhost:8080", "127.0.0.1:9", "[::1]:8080", "localhost"] {
        assert_eq!(status(&format!("Host: {host}\r\n")), "200", "{host}");
        assert_eq!(status(&format!("Host: {host}\r\nOrigin: http://{host}\r\n")), "200", "{host}");
        assert_eq!(status(&format!("Host: {host}\r\nOrigin: http://evil.example\r\n")), "403");
    }
    assert_eq!(status("Host: localhost:1\r\nOrigin: http://localhost:2\r\n"), "403");
    for host in
        ["evil.example", "evil.example:8080", "localhost.evil.example", "127.0.0.1.evil.example"]
    {
        assert_eq!(status(&format!("Host: {host}\r\n")), "403", "{host}");
        assert_eq!(status(&format!("Host: {host}\r\nOrigin: http://{host}\r\n")), "403", "{host}");
    }
    assert_eq!(status("Host: localhost\r\nHost: evil.example\r\n"), "403");
    assert_eq!(status(""), "403");
}

// ---- secrets ----

const SECRET: &str = "hunter2-secret";

/// Every file below a folder that holds a text.
fn files_with(folder: &Path, text: &str) -> Vec<String> {
    let files = WalkDir::new(folder).into_iter().flatten().filter(|f| f.file_type().is_file());
    let bytes = |path: &Path| fs::read(path).unwrap_or_default();
    let holds = |bytes: Vec<u8>| bytes.windows(text.len()).any(|part| part == text.as_bytes());
    let found = files.filter(|file| holds(bytes(file.path())));
    found.map(|file| file.path().display().to_string()).collect()
}

fn with_secrets(shell: &str) -> Study {
    Study::with_head(
        "params: { api_token: none, level: low }",
        &format!(
            "t:\n  kind: command\n  with:\n    shell: '{shell}'\n    env: {{ HF_TOKEN: \"${{api_token}}\", LEVEL: \"${{level}}\" }}\n    outputs: [out]"
        ),
    )
}

#[test]
fn a_secret_on_the_command_line_is_not_recorded() {
    let study = with_secrets("echo 1 > out");
    let set = format!("api_token={SECRET}");
    let trace = "trace.json";
    let run =
        study.dissim(&["run", "--set", &set, "--set", "level=high", "--trace", trace]).ended(0);
    assert!(!run.stderr.contains(SECRET));
    assert_eq!(files_with(&study.path().join("cache/runs"), SECRET), [] as [&str; 0]);
    assert_eq!(files_with(&study.path().join(trace), SECRET), [] as [&str; 0]);
    // A run that changes nothing goes another way.
    for _ in 0..2 {
        std::thread::sleep(Duration::from_millis(2100));
        study.dissim(&["run", "--set", &set, "--set", "level=high"]).ended(0);
    }
    assert_eq!(files_with(&study.path().join("cache/runs"), SECRET), [] as [&str; 0]);
    let runs = study.dissim(&["runs", "--json"]).ended(0).stdout;
    let masked = "\"--set\",\n      \"api_token=***\",\n      \"--set\",\n      \"level=high\"";
    assert!(runs.contains(masked), "{runs}");
}

#[test]
fn a_secret_is_shown_by_no_command() {
    let study = with_secrets("echo 1 > out");
    let set = format!("api_token={SECRET}");
    let chosen = ["--set", set.as_str()];
    study.dissim(&[&["run", "--json"], &chosen[..]].concat()).ended(0);
    let key = {
        let told = study.dissim(&[&["query", "--json", "SELECT key FROM t"], &chosen[..]].concat());
        told.stdout.split('"').nth(3).unwrap().to_owned()
    };
    for arguments in [
        &["show", "t"][..],
        &["show", "t", "--json"],
        &["query", "SELECT * FROM t"],
        &["query", "SELECT * FROM history", "--json"],
        &["why", "t"],
        &["status"],
        &["plan"],
        &["run", "--dry-run"],
    ] {
        let told = study.dissim(&[arguments, &chosen[..]].concat()).ended(0);
        assert!(!format!("{told:?}").contains(SECRET), "{arguments:?}: {told:?}");
    }
    for arguments in [
        &["show", "last"][..],
        &["show", "last", "--json"],
        &["runs", "--json"],
        &["why", "t", "--json"],
        &["diff", "t", &key],
    ] {
        let told = study.dissim(arguments).ended(0);
        assert!(!format!("{told:?}").contains(SECRET), "{arguments:?}: {told:?}");
    }
    // What is no secret is shown.
    let shown = study.dissim(&[&["show", "t"], &chosen[..]].concat()).stdout;
    assert!(shown.contains(r#"{"HF_TOKEN":"***","LEVEL":"low"}"#), "{shown}");
    // That a secret changed is shown, and not what it is.
    study.dissim(&["run"]).ended(0);
    let told = study.dissim(&["diff", "last~1", "last"]).ended(0).stdout;
    assert!(told.contains("parameter env: ") && !told.contains(SECRET), "{told}");
    let told = study.dissim(&["diff", "t", &key]).ended(0).stdout;
    assert!(told.contains(r#"{"HF_TOKEN":"***""#) && !told.contains(SECRET), "{told}");
}

#[test]
fn a_secret_is_not_in_the_state_of_a_run() {
    let study = with_secrets("sleep 20; echo 1 > out");
    let mut run = study
        .command(&["run", "--set", &format!("api_token={SECRET}")])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let start = Instant::now();
    let told = loop {
        let told = study.dissim(&["status"]).ended(0);
        if told.stdout.contains("computing") || start.elapsed() > Duration::from_secs(15) {
            break told;
        }
        std::thread::sleep(Duration::from_millis(100));
    };
    let found = files_with(&study.path().join("cache/runs"), SECRET);
    let _ = nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(i32::try_from(run.id()).unwrap()),
        nix::sys::signal::Signal::SIGTERM,
    );
    run.wait().unwrap();
    assert!(told.stdout.contains("dissim status --set 'api_token=***'"), "{}", told.stdout);
    assert_eq!(found, [] as [&str; 0]);
}

// ---- query ----

#[test]
fn a_file_that_is_not_parquet_leaves_other_tables_alone() {
    let study = Study::new(
        "bad: { kind: command, with: { shell: 'echo junk > t.parquet; : > empty.parquet; mkdir d.parquet; echo 1 > d.parquet/x', outputs: [t.parquet, empty.parquet, d.parquet] } }\ngood: { kind: command, with: { shell: 'echo 1 > out', outputs: [out] } }",
    );
    study.dissim(&["run"]).ended(0);
    let warning = "warning: `t.parquet` of `bad` cannot be read as Parquet: ";
    for arguments in [
        &["query", "SELECT state FROM good"][..],
        &["query", "SELECT outcome FROM history"],
        &["query", "--tables"],
        &["query", "--tables", "--json"],
    ] {
        let told = study.dissim(arguments).ended(0);
        assert!(told.stderr.contains(warning), "{}", told.stderr);
        assert!(told.stderr.contains("`empty.parquet` of `bad`"), "{}", told.stderr);
        assert_eq!(told.stderr.lines().count(), 2, "{}", told.stderr);
    }
    let told = study.dissim(&["query", "SELECT * FROM t"]).ended(2);
    let error = "error: no table `t`: `t.parquet` of `bad` cannot be read as Parquet: ";
    assert!(told.stderr.contains(error), "{}", told.stderr);
    assert!(told.stderr.contains("help: write Parquet to it"), "{}", told.stderr);
}

#[test]
fn a_table_whose_blob_is_gone_leaves_other_tables_alone() {
    let study = Study::new(
        "bad: { kind: command, with: { shell: 'echo junk > t.parquet', outputs: [t.parquet] } }",
    );
    study.dissim(&["run"]).ended(0);
    let blob = files_with(&study.path().join("cache/objects"), "junk\n");
    fs::remove_file(&blob[0]).unwrap();
    study.dissim(&["query", "SELECT state FROM bad"]).ended(0);
}

// ---- one run, and which ----

#[test]
fn log_says_if_the_task_was_edited_since() {
    let study = Study::new(ONE);
    study.dissim(&["run"]).ended(0);
    let told = study.dissim(&["log", "t"]).ended(0);
    assert_eq!((told.stdout.as_str(), told.stderr.as_str()), ("said\n", ""));
    study.edit("echo 1", "echo 2");
    let told = study.dissim(&["log", "t"]).ended(0);
    assert_eq!(told.stdout, "said\n");
    let note =
        "note: `t`: it has not run since it was edited; this is the log of its last run, at ";
    assert!(told.stderr.starts_with(note) && told.stderr.ends_with(" UTC\n"), "{}", told.stderr);
    let shown = study.dissim(&["show", "t"]).ended(0).stdout;
    assert!(
        shown.starts_with("t\n  is not in the cache: dissim why 't'\n  its last run was at "),
        "{shown}"
    );
    let told = study.dissim(&["diff", "t", "t"]).ended(0);
    assert!(
        told.stderr.contains("it has not run since it was edited; compared is"),
        "{}",
        told.stderr
    );
}

#[test]
fn the_run_of_the_pipeline_as_it_stands_is_meant() {
    let study = Study::new(ONE);
    study.dissim(&["run"]).ended(0);
    study.edit("echo said", "echo other");
    study.dissim(&["run"]).ended(0);
    // Back again: the first run is a hit, the second was the last.
    study.edit("echo other", "echo said");
    let log = study.dissim(&["log", "t"]).ended(0);
    assert_eq!((log.stdout.as_str(), log.stderr.as_str()), ("said\n", ""));
    let key = |told: Told| {
        let told: serde_json::Value = serde_json::from_str(&told.ended(0).stdout).unwrap();
        told.pointer("/0/record/key").or(told.pointer("/a/key")).unwrap().clone()
    };
    let shown = key(study.dissim(&["show", "t", "--json"]));
    assert_eq!(shown, key(study.dissim(&["diff", "t", "t", "--json"])));
}

#[test]
fn a_failed_task_is_said_to_have_failed() {
    let study = Study::new(
        "t: { kind: command, with: { shell: 'echo said >&2; exit 3', outputs: [out] } }\nu: { kind: command, needs: { t: t }, with: { shell: 'echo 1 > out', outputs: [out] } }",
    );
    study.dissim(&["run"]).ended(1);
    let told = study.dissim(&["log", "t"]).ended(0);
    assert!(told.stdout.starts_with("said\n"), "{}", told.stdout);
    assert_eq!(told.stderr, "note: `t` failed; this is the log of that run\n");
    let shown = study.dissim(&["show", "t"]).ended(0).stdout;
    assert!(shown.starts_with("t\n  failed when it last ran: dissim log 't'\n"), "{shown}");
    let shown = study.dissim(&["show", "t", "--json"]).ended(0).stdout;
    assert!(shown.contains("\"state\": \"failed\""), "{shown}");
    let told = study.dissim(&["diff", "t", "t"]).ended(2);
    assert_eq!(
        told.stderr,
        "error: `t` failed when it last ran, so it has no result to compare\n  help: dissim log 't'\n"
    );
    // After an edit, it failed before that.
    study.edit("exit 3", "exit 4");
    let told = study.dissim(&["log", "t"]).ended(0);
    assert_eq!(
        told.stderr,
        "note: `t`: it has not run since it was edited; this is the log of its last run, which failed\n"
    );
    // What waits for it never ran.
    let told = study.dissim(&["log", "u"]).ended(2);
    assert_eq!(told.stderr, "error: `u` never ran, so it has no log\n");
}

// ---- a fresh project ----

#[test]
fn git_takes_nothing_that_can_be_made_again() {
    let study = Study::new(ONE);
    let git = |arguments: &[&str]| {
        let output = Command::new("git")
            .args(["-c", "user.name=x", "-c", "user.email=x@example.org"])
            .args(arguments)
            .current_dir(study.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    git(&["init", "-q"]);
    study.dissim(&["run"]).ended(0);
    git(&["add", "."]);
    assert_eq!(git(&["ls-files"]), "pipeline.yaml\n");
    assert_eq!(study.read("cache/.gitignore"), "*\n");
}

#[test]
fn a_folder_of_the_user_stays_as_it_is() {
    let study = Study::new(ONE);
    study.write("cache/.gitignore", "mine\n");
    study.dissim(&["run"]).ended(0);
    assert_eq!(study.read("cache/.gitignore"), "mine\n");
}

// ---- warnings ----

#[test]
fn a_run_with_nothing_to_do_repeats_its_warnings() {
    let study = Study::new(ONE);
    study.dissim(&["run"]).ended(0);
    // Something that is in the way of what the store remembers of `t`.
    let latest = WalkDir::new(study.path().join("cache/latest")).into_iter().flatten();
    let latest = latest.filter(|f| f.file_type().is_file()).last().unwrap().into_path();
    fs::remove_file(&latest).unwrap();
    fs::create_dir(&latest).unwrap();
    fs::write(latest.join("x"), "").unwrap();
    fs::remove_file(study.path().join("cache/index.bin")).unwrap();
    for _ in 0..3 {
        std::thread::sleep(Duration::from_millis(2100));
        let told = study.dissim(&["run"]);
        assert!(told.stderr.contains("warning:"), "{told:?}");
    }
}
