//! What a terminal shows while a run goes on, whatever the number of tasks: a pseudo-terminal of util-linux's
//! `script`, and a small reading of what is written to it.

mod support;

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

const ROWS: usize = 24;
const COLUMNS: usize = 80;
/// Lines of running tasks, at most.
const RUNNING: usize = 12;

/// What a terminal shows, and what has left it at the top.
struct Screen {
    gone: Vec<String>,
    rows: Vec<Vec<char>>,
    row: usize,
    column: usize,
}

impl Screen {
    fn new() -> Self {
        Self { gone: Vec::new(), rows: vec![Vec::new(); ROWS], row: 0, column: 0 }
    }

    fn lines(&self) -> impl Iterator<Item = String> + '_ {
        self.rows.iter().map(|row| row.iter().collect::<String>().trim_end().to_owned())
    }

    fn down(&mut self) {
        if self.row + 1 < ROWS {
            self.row += 1;
        } else {
            self.gone.push(self.rows.remove(0).into_iter().collect());
            self.rows.push(Vec::new());
        }
    }

    fn put(&mut self, c: char) {
        if self.column == COLUMNS {
            self.column = 0;
            self.down();
        }
        let row = &mut self.rows[self.row];
        row.resize(row.len().max(self.column + 1), ' ');
        row[self.column] = c;
        self.column += 1;
    }

    /// Obeys what indicatif writes; anything else is an error of this test.
    fn obey(&mut self, number: Option<usize>, last: char) {
        match (number, last) {
            (n, 'A') => self.row = self.row.saturating_sub(n.unwrap_or(1)),
            (n, 'B') => self.row = (self.row + n.unwrap_or(1)).min(ROWS - 1),
            (n, 'C') => self.column = (self.column + n.unwrap_or(1)).min(COLUMNS),
            (Some(2), 'K') => self.rows[self.row].clear(),
            (None | Some(0), 'K') => self.rows[self.row].truncate(self.column),
            (None | Some(0), 'J') => {
                self.rows[self.row].truncate(self.column);
                self.rows[self.row + 1..].iter_mut().for_each(Vec::clear);
            }
            (_, 'm' | 'h' | 'l') => {}
            (number, last) => panic!("the terminal was told {number:?} {last:?}"),
        }
    }
}

/// Shows `written` and calls `look` whenever the cursor goes up or a line ends.
fn show(written: &str, mut look: impl FnMut(&Screen)) -> Screen {
    let mut screen = Screen::new();
    let mut chars = written.chars();
    while let Some(c) = chars.next() {
        match c {
            '\r' => screen.column = 0,
            '\n' => {
                look(&screen);
                screen.down();
            }
            '\u{1b}' => {
                assert_eq!(chars.next(), Some('['), "an escape sequence that no bar has");
                let mut number = String::new();
                let last = loop {
                    match chars.next().unwrap() {
                        c if c.is_ascii_digit() || c == '?' || c == ';' => number.push(c),
                        c => break c,
                    }
                };
                if last == 'A' {
                    look(&screen);
                }
                screen.obey(number.parse().ok(), last);
            }
            c => screen.put(c),
        }
    }
    look(&screen);
    screen
}

/// Runs `dissim` at a terminal; what it wrote there.
fn at_terminal(folder: &Path, arguments: &str) -> String {
    let program = env!("CARGO_BIN_EXE_dissim");
    let command = format!("stty rows {ROWS} cols {COLUMNS}; exec {program} {arguments}");
    let output = Command::new("script")
        .args(["-qec", &command, "/dev/null"])
        .current_dir(folder)
        .env("TERM", "xterm")
        .env_remove("NO_COLOR")
        .stdin(std::process::Stdio::null())
        .output()
        .expect("util-linux's script is installed");
    String::from_utf8(output.stdout).expect("text")
}

/// `n` tasks, some of which fail, others of which say what a terminal would obey.
fn many(folder: &Path, n: usize) {
    // Numbers, the names of which are longer than a terminal is wide.
    let numbers: Vec<String> = (0..n).map(|i| i.to_string()).collect();
    let long = "x".repeat(COLUMNS);
    let text = format!(
        r#"version: 1
name: many
stages:
  work:
    kind: command
    matrix: {{ number: [{}], long: ["{long}\e[2J\n"] }}
    with:
      shell: |
        printf '\033]0;title\007\033[31mred %s\033[0m\rover\n' $DISSIM_MATRIX_NUMBER >&2
        [ $(($DISSIM_MATRIX_NUMBER % {every})) != 7 ] && echo $DISSIM_MATRIX_NUMBER > out
      outputs: [out]
"#,
        numbers.join(", "),
        every = n / 3,
    );
    fs::write(folder.join("pipeline.yaml"), text).unwrap();
}

fn a_calm_terminal(n: usize, jobs: usize) {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    many(folder.path(), n);
    let written = at_terminal(folder.path(), &format!("run --keep-going --jobs {jobs}"));
    let bar = |line: &String| line.contains(&format!("/{n} tasks  "));
    let mut seen = (0, 0);
    let screen = show(&written, |screen| {
        let bars = screen.lines().filter(bar).count();
        let running = screen.lines().filter(|l| l.starts_with("  ") && l.contains(" work["));
        let running = running.count();
        assert!(bars <= 1 && running <= RUNNING, "{:#?}", screen.lines().collect::<Vec<_>>());
        seen = (seen.0.max(bars), seen.1.max(running));
    });
    assert!(seen.0 == 1 && seen.1 >= 1, "{seen:?}");
    // What is left: the failures, each once and with the end of its log, and the last line. Nothing
    // of the bars, nothing of tasks that went well.
    let gone = screen.gone.iter().map(|line| line.trim_end().to_owned());
    let all: Vec<String> = gone.chain(screen.lines()).collect();
    let all = all.join("\n");
    let numbers: Vec<usize> = (0..n).filter(|i| i % (n / 3) == 7).collect();
    assert_eq!(all.matches("failed: work[").count(), numbers.len(), "{all}");
    assert_eq!(all.matches("  | over\n").count(), numbers.len(), "{all}");
    assert!(!all.contains("red ") && !all.contains("title") && !all.contains(" tasks  "), "{all}");
    let ran = n - numbers.len();
    let last = format!("{n} tasks: 0 cached, {ran} ran, {} failed", numbers.len());
    assert!(all.contains(&last), "{all}");
    assert!(all.lines().count() < 60 * numbers.len(), "{} lines", all.lines().count());
}

#[test]
fn a_terminal_stays_calm() {
    a_calm_terminal(60, 20);
}

#[test]
#[ignore = "minutes"]
fn a_terminal_stays_calm_with_ten_thousand_tasks() {
    a_calm_terminal(10_000, 20);
}

fn events_and_trace(n: usize) {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    many(folder.path(), n);
    let output = Command::new(env!("CARGO_BIN_EXE_dissim"))
        .args(["run", "--keep-going", "--json", "--trace", "trace.json"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    let events: Vec<Value> = stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
        .collect();
    let count = |what: &str| events.iter().filter(|event| event["event"] == what).count();
    let failed = (0..n).filter(|i| i % (n / 3) == 7).count();
    assert_eq!((count("begin"), count("end"), count("summary")), (1, 1, 1));
    assert_eq!((count("started"), count("failed")), (n, failed));
    assert_eq!(count("done"), n - failed);
    let trace = fs::read(folder.path().join("trace.json")).unwrap();
    let trace: Value = serde_json::from_slice(&trace).unwrap();
    let bars = trace["traceEvents"].as_array().unwrap();
    assert_eq!(bars.len(), n);
    // In a lane, one bar at a time.
    let mut lanes = std::collections::BTreeMap::<u64, Vec<(u64, u64)>>::new();
    for bar in bars {
        let number = |key: &str| bar[key].as_u64().unwrap_or_else(|| panic!("{key} of {bar}"));
        assert_eq!(bar["ph"], "X");
        lanes.entry(number("tid")).or_default().push((number("ts"), number("dur")));
    }
    for spans in lanes.values_mut() {
        spans.sort_unstable();
        for pair in spans.windows(2) {
            assert!(pair[0].0 + pair[0].1 <= pair[1].0 + 1, "{pair:?}");
        }
    }
}

#[test]
fn events_are_a_line_each_and_bars_of_a_lane_do_not_overlap() {
    events_and_trace(60);
}

#[test]
#[ignore = "minutes"]
fn events_and_trace_of_ten_thousand_tasks() {
    events_and_trace(10_000);
}

#[test]
fn what_a_terminal_would_obey_is_shown_by_no_command() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    many(folder.path(), 30);
    at_terminal(folder.path(), "run --keep-going");
    for command in [
        "status",
        "plan",
        "why work",
        "log work",
        "show work",
        "run --dry-run",
        "runs",
        "show last",
        "graph",
        "diff last last",
        "query 'SELECT * FROM work'",
        "why $(printf 'x\\033[2Jy')",
        "run --set \"a=$(printf '\\033[2J')\"",
    ] {
        let written = at_terminal(folder.path(), command);
        assert!(
            !written.contains("\u{1b}[2J") && !written.contains('\u{7}'),
            "{command}: {written:?}"
        );
    }
}
