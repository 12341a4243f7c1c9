//! Questions and what they are answered.

use super::*;

fn tables() -> Tables {
    let mut tables = Tables::default();
    let text = |list: &[&str]| Values::Text(list.iter().map(|t| Some((*t).to_owned())).collect());
    let results = vec![
        ("method", text(&["erm", "erm", "say \"no\", twice", "erm"])),
        ("n_bg", Values::Whole(vec![Some(4), Some(8), Some(8), None])),
        ("ood_acc", Values::Number(vec![Some(0.125), Some(1.0 / 3.0), Some(f64::NAN), Some(1e-9)])),
        ("dead", Values::Truth(vec![Some(false), None, Some(true), Some(false)])),
    ];
    tables.insert("results", results).unwrap();
    tables.insert("tasks", vec![("task", text(&["a", "b\nc"]))]).unwrap();
    tables
}

#[test]
fn rows_as_people_and_as_programs_read_them() {
    let answer = tables().ask("SELECT * FROM results").unwrap();
    insta::assert_snapshot!(answer.aligned());
    insta::assert_snapshot!(answer.csv());
    insta::assert_snapshot!(answer.json());
    insta::assert_snapshot!(answer.markdown());
    insta::assert_snapshot!(tables().listed().aligned());
    let none = tables().ask("SELECT task FROM tasks WHERE task = 'x'").unwrap();
    insta::assert_snapshot!(none.aligned());
    insta::assert_snapshot!(tables().ask("SELECT * FROM tasks").unwrap().aligned());
}

#[test]
fn text_is_text_in_every_format() {
    // As it is, in CSV, in Markdown.
    let cases = [
        ("=1+1", "'=1+1", "=1+1"),
        ("+1", "'+1", "+1"),
        ("-rf", "'-rf", "-rf"),
        ("@sum", "'@sum", r"\@sum"),
        ("\tx", "'\tx", r"\\tx"),
        ("a|b", "a|b", r"a\|b"),
        ("[x](javascript:y)", "[x](javascript:y)", r"\[x\](javascript:y)"),
        ("<b>", "<b>", r"\<b\>"),
        ("a_b", "a_b", "a_b"),
        ("_a_", "_a_", r"\_a\_"),
        ("*a*", "*a*", r"\*a\*"),
        ("http://x.example", "http://x.example", r"http\://x.example"),
        ("www.x.example", "www.x.example", r"www\.x\.example"),
        ("`x`", "`x`", r"\`x\`"),
        (r"\|", r"\|", r"\\\|"),
        ("0.5", "0.5", "0.5"),
    ];
    let mut tables = Tables::default();
    let column = Values::Text(cases.iter().map(|case| Some(case.0.to_owned())).collect());
    let numbers = Values::Number(vec![Some(-1.5); cases.len()]);
    tables.insert("t", vec![("=x", column), ("n", numbers)]).unwrap();
    let answer = tables.ask("SELECT * FROM t").unwrap();
    let rows = |row: fn(&(&str, &str, &str)) -> String| cases.iter().map(row).collect::<String>();
    assert_eq!(answer.csv(), format!("'=x,n\n{}", rows(|case| format!("{},-1.5\n", case.1))));
    let markdown = rows(|case| format!("| {} | -1.5 |\n", case.2));
    assert_eq!(answer.markdown(), format!("| =x | n |\n| --- | --: |\n{markdown}"));
    let json = answer.json();
    assert!(cases.iter().enumerate().all(|(at, case)| json[at]["=x"] == case.0));
}

#[test]
fn groups_joins_and_order() {
    let sql = "SELECT r.n_bg, COUNT(*) AS n, AVG(r.ood_acc) AS mean, MAX(o.ood_acc) AS best \
               FROM results r JOIN results o ON r.n_bg = o.n_bg \
               GROUP BY r.n_bg HAVING COUNT(*) > 1 ORDER BY r.n_bg DESC LIMIT 5";
    insta::assert_snapshot!(tables().ask(sql).unwrap().aligned());
}

#[test]
fn what_cannot_be_answered() {
    let told = |sql: &str| match tables().ask(sql) {
        Ok(answer) => format!("## {sql}\n{}", answer.aligned()),
        Err(QueryError { message, place, unknown }) => {
            let place = place.map(|p| format!("{}:{}, {} long", p.line, p.column, p.length));
            format!("## {sql}\n{message}\n{place:?} {unknown:?}\n")
        }
    };
    let cases = [
        "SELECT * FROM reslts",
        "SELECT ood FROM results",
        "SELECT results.ood FROM results",
        "SELECT ood_acc FROM results WHERE method > ",
        "frobnicate",
        "",
        "SELECT 1; SELECT 2",
        "SELECT CAST(method AS DATE) FROM results",
        "SELECT frob(n_bg) FROM results",
        "SELECT * FROM study.results",
        "SELECT 'ood', \"ood\"\nFROM results -- ood",
        "SELECT n_bg,\n  -- ood\n  'ood' AS o, ood\nFROM results",
        "SELECT 'open FROM results",
        "SELECT sum(n_bg FROM results",
        "SELECT r.ood FROM results r",
        "WITH r AS (SELECT * FROM results) SELECT n FROM r",
        "DELETE FROM results",
    ];
    insta::assert_snapshot!(cases.map(told).join("\n"));
    // What a statement drops is dropped for that statement alone.
    let tables = tables();
    assert!(tables.ask("DROP TABLE results").is_ok());
    assert!(tables.ask("SELECT * FROM results").is_ok());
}

#[test]
fn a_file_that_is_not_parquet_is_an_error() {
    let folder = std::env::temp_dir().join(format!("dissim-query-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let mut tables = tables();
    let files: [(&str, &[u8]); 6] = [
        ("empty", b""),
        ("junk", b"junk\n"),
        ("magic", b"PAR1"),
        ("ends", b"PAR1PAR1"),
        ("length", b"PAR1junk\xff\xff\xff\x7fPAR1"),
        ("footer", b"PAR1\x15\x04\x19\x0c\x00\x00\x05\x00\x00\x00PAR1"),
    ];
    for (name, bytes) in files {
        let file = folder.join(name);
        std::fs::write(&file, bytes).unwrap();
        let error = tables.parquet("x", &file).unwrap_err();
        assert!(!error.message.is_empty(), "{name}");
    }
    assert!(tables.parquet("x", Path::new("/dev/null")).is_err());
    assert!(tables.parquet("x", Path::new("/nowhere/x.parquet")).is_err());
    assert!(tables.parquet("x", &folder).is_err());
    // The other tables are not touched.
    assert!(!tables.columns().contains_key("x") && tables.ask("SELECT * FROM results").is_ok());
    std::fs::remove_dir_all(&folder).unwrap();
}
