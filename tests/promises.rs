//! Each promise of docs/reliability.md names the test that breaks if it is false: that test is there, and it is run.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use walkdir::WalkDir;

#[test]
fn every_promise_names_a_test_that_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let tests = tests(root);
    let text = fs::read_to_string(root.join("docs/reliability.md")).unwrap();
    let (promises, wrong) = check(&text, &tests, &|file| root.join(file).exists());
    assert!(wrong.is_empty(), "docs/reliability.md:\n{}", wrong.join("\n"));
    assert!(promises > 20, "only {promises} promises");
}

/// The names of all test functions, of properties too.
fn tests(root: &Path) -> BTreeSet<String> {
    let files = ["src", "stages", "tests"].into_iter().flat_map(|of| WalkDir::new(root.join(of)));
    let sources = files.flatten().filter(|f| f.path().extension().is_some_and(|e| e == "rs"));
    let mut names = BTreeSet::new();
    for file in sources {
        let text = fs::read_to_string(file.path()).unwrap();
        let mut is_test = false;
        for line in text.lines().map(str::trim) {
            is_test |= line == "#[test]";
            if let Some(name) = line.strip_prefix("fn ").filter(|_| is_test) {
                names.extend(name.split('(').next().map(str::to_owned));
                is_test = false;
            }
        }
    }
    names
}

/// How many promises there are, and what is wrong with the tests that they name.
fn check(
    text: &str,
    tests: &BTreeSet<String>,
    is_file: &dyn Fn(&str) -> bool,
) -> (usize, Vec<String>) {
    let (mut count, mut wrong, mut of_promises) = (0, Vec::new(), false);
    for line in text.lines() {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        of_promises = match line.starts_with('|') {
            false => false,
            true if cells[0] == "promise" => true,
            true => of_promises,
        };
        if !of_promises || cells[0] == "promise" || cells[0].starts_with("---") {
            continue;
        }
        count += 1;
        let last = cells[cells.len() - 1];
        let named: Vec<&str> = last.split('`').skip(1).step_by(2).collect();
        for name in &named {
            let there = tests.contains(*name) || name.contains('/') && is_file(name);
            if !there {
                wrong.push(format!("`{name}` is no test: {}", cells[0]));
            }
        }
        if named.is_empty()
            && !last.contains(".rs")
            && last != "the same"
            && last != "as for other damage"
        {
            wrong.push(format!("no test is named: {}", cells[0]));
        }
    }
    (count, wrong)
}

#[test]
fn a_promise_without_its_test_is_found() {
    let tests = BTreeSet::from(["kept".to_owned()]);
    let table =
        |last: &str| format!("| promise | how | test |\n|---|---|---|\n| A | b | {last} |\n");
    let wrong = |last: &str| check(&table(last), &tests, &|file| file == "tests/a.rs").1;
    assert!(wrong("`kept`, `tests/a.rs`").is_empty());
    assert_eq!(wrong("`broken`"), ["`broken` is no test: A"]);
    assert_eq!(wrong("`tests/b.rs`"), ["`tests/b.rs` is no test: A"]);
    assert_eq!(wrong(""), ["no test is named: A"]);
}
