//! The report in a real browser: sorting, filtering, charts, the keyboard, a phone, light and dark,
//! accessibility by axe, and the live page during a run. Needs node and chromium; where `CI` is set,
//! their lack is a failure.

mod support;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use support::{PIPELINE, Project};

/// What no page may run, in the places where a study has text of its own.
const HOSTILE: &str = "</script><script>alert(1)</script><img src=x onerror=alert(2)>";

/// The study in miniature with claims, a table, and a hostile name.
fn pipeline() -> String {
    let pipeline = PIPELINE
        .replace("name: slice", &format!("name: \"slice {HOSTILE}\""))
        .replace("[erm, dissimilarity]", "[erm, dissimilarity, oracle]")
        .replace("seeds: [0]", "seeds: [0, 1]");
    format!(
        "{pipeline}claims:
  - id: helps
    says: \"It helps {HOSTILE}\"
    expect: greater
    compare: {{ metric: ood_acc, a: {{ method: dissimilarity, lambda: 1.25 }}, b: {{ method: erm }} }}
  - id: dies
    says: \"It dies less often\"
    expect: less
    compare: {{ metric: dead, a: {{ method: dissimilarity, lambda: 1.25 }}, b: {{ method: erm }} }}
  - id: absent
    says: \"Nobody ran this\"
    expect: less
    compare: {{ metric: ood_acc, a: {{ method: mixup }}, b: {{ method: erm }} }}
tables:
  - {{ name: ood, caption: \"OOD {HOSTILE}\", rows: [method, lambda], metrics: [id_acc, ood_acc, dead] }}
"
    )
}

/// The folder of the browser's script, with what it needs installed; none where that cannot be.
fn script() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser");
    let quiet = |command: &mut Command| {
        let command = command.stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|s| s.success())
    };
    let chromium = std::env::var("CHROMIUM").unwrap_or_else(|_| "/usr/bin/chromium".to_owned());
    let there = quiet(Command::new("node").arg("--version")) && Path::new(&chromium).exists();
    let installed = there
        && (folder.join("node_modules/playwright-core").exists()
            || quiet(Command::new("npm").args(["ci", "--ignore-scripts"]).current_dir(&folder)));
    if !installed {
        let ci = std::env::var_os("CI").is_some();
        assert!(!ci, "the browser's tests need node, npm and chromium, and CI must run them");
        eprintln!("skipped: the browser's tests need node, npm and chromium");
        return None;
    }
    Some(folder.join("check.mjs"))
}

/// Ends a process with its test.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn first_line(child: &mut Child) -> String {
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    line.trim().to_owned()
}

#[test]
fn the_page_works_in_a_browser() {
    let Some(script) = script() else { return };
    let project = Project::new();
    project.write(&pipeline());
    project.succeed("run");
    let page = project.path().join("reports/index.html");
    let output = Command::new("node").arg(script).arg("page").arg(page).output().unwrap();
    assert!(output.status.success(), "\n{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_live_page_moves_during_a_run() {
    let Some(script) = script() else { return };
    let project = Project::new();
    project.write(&pipeline());
    project.succeed("run evaluate[*seed=0*]");
    let serve = Command::new(env!("CARGO_BIN_EXE_dissim"))
        .args(["serve", "--port", "0"])
        .current_dir(project.path())
        .stdout(Stdio::piped())
        .spawn();
    let mut serve = Ended(serve.unwrap());
    let url = first_line(&mut serve.0);
    // erm, dissimilarity at two weights, the oracle; two seeds.
    let looking = Command::new("node")
        .arg(script)
        .args(["live", &url, "8"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut looking = Ended(looking.unwrap());
    // The page shows the first seed: now the second is run, as by another person.
    let ready = first_line(&mut looking.0);
    if ready != "ready" {
        panic!("\n{}", said(looking));
    }
    project.succeed("run evaluate");
    let status = looking.0.wait().unwrap();
    assert!(status.success(), "\n{}", said(looking));
}

fn said(mut ended: Ended) -> String {
    let _ = ended.0.kill();
    let mut text = String::new();
    if let Some(mut stderr) = ended.0.stderr.take() {
        let _ = std::io::Read::read_to_string(&mut stderr, &mut text);
    }
    text
}
