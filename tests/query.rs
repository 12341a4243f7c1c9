//! `dissim query`: tables, formats, and what is said of a statement that has no answer.

mod support;

use support::{Project, Small};

/// Runs `dissim query` with one argument that holds spaces.
fn asked(project: &Small, sql: &str, options: &str) -> String {
    let words: Vec<&str> = options.split_whitespace().collect();
    let told = project.told_words(&[&["query", sql], words.as_slice()].concat());
    format!("{told}\n")
}

#[test]
fn tasks_stages_and_runs_are_tables() {
    let project = Small::new();
    project.succeed("run say");
    let mut told = project.told("query --tables");
    for sql in [
        "SELECT task, stage, state, LENGTH(key) AS digits, seconds >= 0 AS timed FROM tasks ORDER BY task",
        "SELECT word, state FROM say ORDER BY word",
        "SELECT times, word, state FROM again ORDER BY word",
        "SELECT outcome, tasks, cached, ran, failed FROM history",
        "SELECT s.word, a.state FROM say s JOIN again a ON s.word = a.word ORDER BY s.word DESC LIMIT 1",
        "SELECT stage, COUNT(*) AS n, COUNT(key) AS cached FROM tasks GROUP BY stage ORDER BY stage",
        "SELECT task FROM tasks WHERE state = 'failed'",
    ] {
        told += &asked(&project, sql, "");
    }
    insta::assert_snapshot!(told);
}

#[test]
fn rows_are_written_as_asked_for() {
    let project = Small::new();
    let sql = "SELECT word AS \"a|b\", 1.5 AS number, state, key FROM say ORDER BY word";
    let options = ["", "--format csv", "--format json", "--json", "--format markdown"];
    let told: String = options.iter().map(|options| asked(&project, sql, options)).collect();
    let tables: String = ["csv", "json", "markdown"]
        .iter()
        .map(|format| {
            let told = project.told(&format!("query --tables --format {format}"));
            told.lines().take(6).map(|line| format!("{line}\n")).collect::<String>()
        })
        .collect();
    insta::assert_snapshot!(told + &tables);
}

#[test]
fn what_is_wrong_is_underlined_with_what_was_meant() {
    let project = Small::new();
    let told: String = [
        "SELECT * FROM tsks",
        "SELECT * FROM nothing_like_it",
        "SELECT wrd FROM say",
        "SELECT word,\n       stae\nFROM say -- stae",
        "SELECT s.wordd FROM say s",
        "SELECT word FROM say WHERE state = ",
        "SELEC word FROM say",
        "SELECT frobnicate(word) FROM say",
        "SELECT word FROM study.say",
        "SELECT 'open FROM say",
        "SELECT 1; SELECT 2",
        "",
    ]
    .iter()
    .map(|sql| asked(&project, sql, ""))
    .collect();
    insta::assert_snapshot!(told + &project.told("query") + &project.told("query x --tables"));
}

#[test]
fn results_are_tables() {
    let project = Project::new();
    let output = support::run_words(project.path(), &["query", "SELECT COUNT(*) AS n FROM runs"]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    let help = "what `results` makes is not in the cache: dissim run results";
    assert!(output.status.code() == Some(2) && stderr.contains(help), "{stderr}");
    project.succeed("run");
    let ask = |sql: &str| {
        let output = support::run_words(project.path(), &["query", sql, "--format", "csv"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(
        ask(
            "SELECT method, lambda, COUNT(*) AS n FROM runs GROUP BY method, lambda ORDER BY method, lambda"
        ),
        "method,lambda,n\ndissimilarity,0.5,1\ndissimilarity,1.25,1\nerm,,1\n"
    );
    assert_eq!(
        ask("SELECT COUNT(*) AS n FROM runs r JOIN evaluate e ON r.ood_acc = e.ood_acc"),
        "n\n3\n",
        "a metric is the same in the table of runs and in that of tasks"
    );
    assert_eq!(ask("SELECT MAX(epoch) - MIN(epoch) + 1 AS n FROM epochs"), "n\n2\n");
    for table in ["summary", "per_class", "confusion", "epochs", "results", "tasks", "history"] {
        assert_ne!(ask(&format!("SELECT COUNT(*) AS n FROM {table}")), "n\n0\n", "{table}");
    }
    // Of a part of a study, what `dissim report` shows of it: here the runs of the first seed.
    project.write(&support::PIPELINE.replace("seeds: [0]", "seeds: [0, 1]"));
    assert_eq!(ask("SELECT COUNT(*) AS n FROM runs"), "n\n3\n");
    assert_eq!(ask("SELECT COUNT(*) AS n FROM evaluate"), "n\n6\n");
}
