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
    told_at_terminal(folder, arguments, "").0
}

/// The same with a value of `NO_COLOR`, and with the exit code.
fn told_at_terminal(folder: &Path, arguments: &str, no_colour: &str) -> (String, Option<i32>) {
    let program = env!("CARGO_BIN_EXE_dissim");
    let command = format!("stty rows {ROWS} cols {COLUMNS}; exec {program} {arguments}");
    let output = Command::new("script")
        .args(["-qec", &command, "/dev/null"])
        .current_dir(folder)
        .env("TERM", "xterm")
        .env("NO_COLOR", no_colour)
        .stdin(std::process::Stdio::null())
        .output()
        .expect("util-linux's script is installed");
    (String::from_utf8(output.stdout).expect("text"), output.status.code())
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

/// What a terminal would do more with than show it, beside the ends of lines.
fn obeyed(written: &str) -> Vec<char> {
    let turns = |c| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let obeyed = |c: &char| (c.is_control() && !matches!(c, '\n' | '\r' | '\t')) || turns(*c);
    written.chars().filter(obeyed).collect()
}

/// A study of three tasks whose every text holds what a terminal would obey. The third fails.
fn hostile(folder: &Path) {
    let text = r#"version: 1
name: "hostile\e[2J"
stages:
  work:
    kind: command
    matrix: { number: [0, 1, 2], mark: ["value\e[2J\x9b2J\e]0;title\a\u202e\x7f"] }
    with:
      shell: |
        printf 'seen \033[2J\033]0;title\007\033[31mred\033[0m \302\2332J\302\2355;x\007 \342\200\256 \010 said\n' >&2
        mkdir out
        echo $DISSIM_MATRIX_NUMBER > "$(printf 'out/file\033[2J\302\233')"
        [ $DISSIM_MATRIX_NUMBER != 2 ]
      outputs: [out]
      env: { LEVEL: "level\e[2J\x9b" }
"#;
    fs::write(folder.join("pipeline.yaml"), text).unwrap();
}

#[test]
fn what_a_terminal_would_obey_is_shown_by_no_command() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    hostile(folder.path());
    let written = at_terminal(folder.path(), "run --keep-going");
    assert!(written.contains("2 ran, 1 failed"), "{written}");
    // A file that is no part of the store, and a run whose record somebody wrote.
    fs::write(folder.path().join("cache/objects/file\u{1b}[2J"), "x").unwrap();
    let runs = fs::read_dir(folder.path().join("cache/runs")).unwrap().flatten();
    let run = runs.map(|e| e.path()).find(|p| p.extension().is_some_and(|e| e == "json")).unwrap();
    let mut record: Value = serde_json::from_slice(&fs::read(&run).unwrap()).unwrap();
    for field in ["host", "backend", "dissim", "profile"] {
        record[field] = "field\u{1b}[2J\u{9b}2J\u{7}\u{202e}".into();
    }
    fs::write(&run, record.to_string()).unwrap();
    let bad = "$(printf 'x\\033[2J\\302\\233y')";
    // The command with `BAD` for a word that a terminal would obey, its exit code, and what of it is seen.
    let commands = [
        ("status", 0, "work"),
        ("status --json", 0, "work"),
        ("plan", 0, "1 to run"),
        ("plan --json", 0, "work[number=2"),
        ("why work", 0, ": hit"),
        ("why work --json", 0, "work[number=0"),
        ("log 'work[number=0,*'", 0, "said"),
        ("log 'work[number=2,*'", 0, "said"),
        ("show work", 0, "out/file"),
        ("show work --json", 0, "out/file"),
        ("show last", 0, "field"),
        ("show last --json", 0, "field"),
        ("run --dry-run", 0, "would run  work[number=2"),
        ("run --json --keep-going", 1, "\"failed\""),
        ("runs", 0, "failed"),
        ("runs --json", 0, "field"),
        ("graph --tasks", 0, "number=0"),
        ("graph --tasks --format dot", 0, "number=0"),
        ("diff 'work[number=0,*' 'work[number=1,*'", 0, "out/file"),
        ("diff 'work[number=0,*' 'work[number=1,*' --json", 0, "out/file"),
        ("diff 'work[number=0,*' 'work[number=2,*'", 2, "failed when it last ran"),
        ("diff last last", 0, "same"),
        ("query 'SELECT * FROM work'", 0, "number"),
        ("query 'SELECT * FROM work' --json", 0, "number"),
        ("query 'SELECT * FROM work' --format csv", 0, "number"),
        ("query 'SELECT * FROM work' --format markdown", 0, "number"),
        ("query 'SELECT host FROM history'", 0, "field"),
        ("query --tables", 0, "work"),
        ("audit 'work[number=0,*'", 0, "same bytes"),
        ("cache stat", 0, "command"),
        ("cache gc --grace 0s", 0, "stay"),
        ("cache verify", 1, "damaged: objects/file"),
        ("claims", 2, "makes no claims"),
        ("report", 2, "no stage of kind `report`"),
        ("cache pull --remote BAD", 2, "is no address"),
        ("why BAD", 2, "no stage or task"),
        ("run --set \"a=BAD\"", 2, "a=x"),
        ("run --profile \"BAD\"", 2, "error"),
        ("status --file BAD", 2, "error"),
        ("import BAD", 2, "error"),
        ("query \"SELECT BAD FROM work\"", 2, "error"),
        ("frobBAD", 2, "frobx"),
        ("status --BAD", 2, "--x"),
        ("run --trace BAD/x", 2, "error"),
        ("export BAD/x 'work[number=0,*'", 2, "error"),
    ];
    for (command, code, seen) in commands {
        let (written, ended) = told_at_terminal(folder.path(), &command.replace("BAD", bad), "1");
        assert_eq!(ended, Some(code), "{command}: {written}");
        assert!(written.contains(seen), "{command}: {written}");
        assert_eq!(obeyed(&written), [] as [char; 0], "{command}: {written:?}");
    }
    // With colours, there is nothing else.
    for command in [format!("why {bad}"), format!("frob{bad}"), format!("run --set \"a={bad}\"")] {
        let written = at_terminal(folder.path(), &command);
        let colours = written.split('\u{1b}').skip(1).all(|piece| {
            let codes = piece.strip_prefix('[').unwrap_or_default();
            codes.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';').starts_with('m')
        });
        assert!(colours && obeyed(&written.replace('\u{1b}', "")).is_empty(), "{written:?}");
    }
}

#[test]
fn claims_are_shown_as_text() {
    let project = support::Project::new();
    let text = "says\\e[2J\\x9b2J\\e]0;title\\a\\u202e";
    project.write(&format!(
        "{}claims:\n  - id: helps\n    says: \"{text}\"\n    expect: greater\n    compare: {{ metric: ood_acc, a: {{ method: dissimilarity, lambda: 1.25 }}, b: {{ method: erm }} }}\n",
        support::PIPELINE
    ));
    project.succeed("run");
    let (written, code) = told_at_terminal(project.path(), "claims", "1");
    assert_eq!(code, Some(0), "{written}");
    assert!(written.contains("says"), "{written}");
    assert_eq!(obeyed(&written), [] as [char; 0], "{written:?}");
}
