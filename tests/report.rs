//! `dissim report`, `dissim claims` and `dissim serve` on a part of a study.

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};

use support::{PIPELINE, Project};

fn project() -> Project {
    let project = Project::new();
    let claims = "claims:
  - id: helps
    says: Dissimilarity loss raises OOD accuracy
    expect: greater
    compare: { metric: ood_acc, a: { method: dissimilarity, lambda: 1.25 }, b: { method: erm } }
";
    project.write(&format!("{PIPELINE}{claims}"));
    project
}

fn stderr(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_report_of_what_is_there() {
    let project = project();
    let nothing = project.dissim("report");
    assert_eq!(nothing.status.code(), Some(2));
    insta::assert_snapshot!(stderr(&nothing), @r"
    error: nothing to report yet: no task of `evaluate` is in the cache
      help: dissim run
    ");
    // The help names what was asked for, not only the file as it stands.
    let other = stderr(&project.dissim("report --set seeds=[1]"));
    assert!(other.ends_with("\n  help: dissim run --set 'seeds=[1]'\n"), "{other}");
    let other = stderr(&project.dissim("claims --set seeds=[1]"));
    let both = "dissim run --set 'seeds=[1]', or dissim report --set 'seeds=[1]' for";
    assert!(other.contains(both), "{other}");
    project.succeed("run evaluate[*method=erm*]");
    let stdout = project.succeed("report");
    let (missing, line) = stdout.trim_end().rsplit_once('\n').unwrap();
    insta::assert_snapshot!(missing, @r"
    the report is of a part of the study:
      evaluate: 1 of 3 tasks are in the cache
      train: 1 of 3 tasks are in the cache
      help: dissim run
    ");
    // The results and the report; nothing was trained for it.
    assert!(line.contains("2 ran, 0 failed"), "{line}");
    assert!(line.ends_with("| reports/index.html"), "{line}");
    let page = std::fs::read_to_string(project.path().join("reports/index.html")).unwrap();
    assert!(page.contains("1 run "), "the page shows the run that is there");
    assert!(page.contains(r#""missing":2"#), "the page says what is missing");
    // The claims of that report, and what it lacks.
    let claims = project.dissim("claims --strict");
    assert!(claims.status.success());
    assert!(stderr(&claims).contains("evaluate: 1 of 3 tasks"), "{}", stderr(&claims));
    let stdout = String::from_utf8_lossy(&claims.stdout);
    assert!(stdout.contains("no run has lambda = 1.25, method = dissimilarity"), "{stdout}");
    // Whole, it lacks nothing, and again it is a hit.
    project.succeed("run");
    let stdout = project.succeed("report");
    assert!(stdout.contains(", 0 ran, 0 failed") && stdout.lines().count() == 1, "{stdout}");
}

#[test]
fn a_secret_is_not_on_the_page() {
    let project = Project::new();
    project.write(&PIPELINE.replace("params: {", "params: { api_token: none,"));
    project.succeed("run --set api_token=hunter2-secret");
    let reports = support::files(&project.path().join("reports"));
    let page = std::fs::read_to_string(project.path().join("reports/index.html")).unwrap();
    assert!(page.contains("dissim run --set api_token=***"), "the page has the command line");
    for file in reports {
        let bytes = std::fs::read(&file).unwrap();
        assert!(!String::from_utf8_lossy(&bytes).contains("hunter2"), "{}", file.display());
    }
}

/// The status line and the body of an answer.
fn ask(address: &str, request: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.lines().next().unwrap().to_owned(), body.to_owned())
}

#[test]
fn the_server_answers_this_machine_alone() {
    let project = project();
    let mut serve = Command::new(env!("CARGO_BIN_EXE_dissim"))
        .args(["serve", "--port", "0"])
        .current_dir(project.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut url = String::new();
    BufReader::new(serve.stdout.take().unwrap()).read_line(&mut url).unwrap();
    let address = url.trim().strip_prefix("http://").unwrap().trim_end_matches('/').to_owned();
    assert!(address.starts_with("127.0.0.1:"), "{address}");
    let get = |path: &str, headers: &str| {
        ask(&address, &format!("GET {path} HTTP/1.1\r\n{headers}Connection: close\r\n\r\n"))
    };
    let own = format!("Host: {address}\r\n");
    let (status, body) = get("/", &own);
    assert!(status.contains("200") && body.contains("No run has been evaluated yet"), "{status}");
    let (status, body) = get("/live.json", &own);
    assert!(status.contains("200") && body.starts_with('{'), "{status} {body}");
    for (path, headers) in [
        ("/", "Host: evil.example\r\n".to_owned()),
        ("/live.json", format!("{own}Origin: http://evil.example\r\n")),
        ("/", String::new()),
    ] {
        let (status, _) = get(path, &headers);
        assert!(status.contains("403"), "{headers}: {status}");
    }
    for path in ["/../pipeline.yaml", "/%2e%2e/pipeline.yaml", "/cache/index.bin", "//etc/passwd"] {
        assert!(get(path, &own).0.contains("404"), "{path}");
    }
    let post = ask(
        &address,
        &format!("POST / HTTP/1.1\r\n{own}Content-Length: 0\r\nConnection: close\r\n\r\n"),
    );
    assert!(post.0.contains("405"), "{}", post.0);
    serve.kill().unwrap();
    serve.wait().unwrap();
}
