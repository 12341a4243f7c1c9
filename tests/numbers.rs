//! What the README and docs/results say of results is what the files of results hold.
//!
//! A number is a link to where it comes from: `[74.0 %](quick/summary.csv#n_bg=8&method=erm:ood_acc_mean)` is a
//! row of a table, by its facts, and a column; `[+26.1](quick/claims.json#helps-at-4:effect*100)` a claim
//! and a field, `interval.0` an end of its interval. ` %`, ` points` and `*100` mean a fraction shown as a
//! percentage. A whole table stands below a comment: `<!-- from quick/methods.md -->`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// Texts whose every result has a source.
const TEXTS: [&str; 3] = ["README.md", "docs/results/README.md", "docs/results/details.md"];

/// Percentages that are definitions, and no results.
const DEFINED: [&str; 2] = ["95 %", "20 %"];

#[test]
fn every_number_is_that_of_its_file() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut sourced = 0;
    for name in TEXTS {
        let path = root.join(name);
        let text = fs::read_to_string(&path).unwrap();
        let folder = path.parent().unwrap();
        let (count, wrong) = check(&text, folder);
        assert!(wrong.is_empty(), "{name}:\n{}", wrong.join("\n"));
        sourced += count;
    }
    assert!(sourced > 20, "only {sourced} numbers have a source");
}

/// How many numbers and tables have a source, and what is wrong with the others.
fn check(text: &str, folder: &Path) -> (usize, Vec<String>) {
    let (mut count, mut wrong) = (0, Vec::new());
    let mut prose = String::new();
    let mut lines = text.lines().enumerate().peekable();
    let mut code = false;
    while let Some((number, line)) = lines.next() {
        code ^= line.starts_with("```");
        if let Some(from) = line.strip_prefix("<!-- from ").and_then(|l| l.strip_suffix(" -->")) {
            let mut found = Vec::new();
            while let Some((_, row)) =
                lines.next_if(|(_, l)| l.starts_with('|') || l.is_empty() && found.is_empty())
            {
                found.extend(Some(row).filter(|r| !r.is_empty()));
            }
            let file = fs::read_to_string(folder.join(from)).unwrap_or_default();
            let held: Vec<&str> = file.lines().filter(|l| l.starts_with('|')).collect();
            if held.is_empty() || held != found {
                wrong.push(format!("line {}: the table is not that of {from}", number + 1));
            }
            count += 1;
        } else if !code {
            let (rest, links) = links(line);
            for (shown, target) in links {
                match compare(&shown, &target, folder) {
                    Ok(()) => count += 1,
                    Err(why) => {
                        wrong.push(format!("line {}: [{shown}]({target}): {why}", number + 1))
                    }
                }
            }
            prose.push_str(&rest);
            prose.push('\n');
        }
    }
    wrong.extend(unsourced(&prose).into_iter().map(|n| format!("`{n}` has no source")));
    (count, wrong)
}

/// A line without its links and inline code, and those links that name a source.
fn links(line: &str) -> (String, Vec<(String, String)>) {
    let (mut rest, mut found, mut left) = (String::new(), Vec::new(), line);
    while let Some((before, after)) = left.split_once('[') {
        let link = after.split_once("](").and_then(|(shown, tail)| {
            tail.split_once(')').map(|(target, behind)| (shown, target, behind))
        });
        rest.push_str(before);
        let Some((shown, target, behind)) = link.filter(|(shown, ..)| !shown.contains('[')) else {
            left = after;
            continue;
        };
        if target.contains(".csv#") || target.contains(".json#") {
            found.push((shown.to_owned(), target.to_owned()));
        }
        left = behind;
    }
    rest.push_str(left);
    let plain: Vec<&str> = rest.split('`').step_by(2).collect();
    (plain.join(" "), found)
}

/// Percentages and points in prose that are no definitions.
fn unsourced(prose: &str) -> Vec<String> {
    let words: Vec<&str> = prose.split_whitespace().collect();
    let is_unit = |w: &str| w.starts_with('%') || w.starts_with("points");
    let pair = |w: &[&str]| {
        let number = w[0].trim_start_matches(['(', '+', '-', '|']);
        let said = format!("{number} {}", w[1].trim_end_matches([',', '.', ';', ':', ')']));
        let numeric = number.starts_with(|c: char| c.is_ascii_digit());
        (numeric && is_unit(w[1]) && !DEFINED.contains(&said.as_str())).then_some(said)
    };
    words.windows(2).filter_map(pair).collect()
}

/// Whether a shown number is that of its source, at the digits that are shown.
fn compare(shown: &str, target: &str, folder: &Path) -> Result<(), String> {
    let (file, place) = target.split_once('#').expect("a source has one");
    let (row, field) = place.rsplit_once(':').ok_or("the source names no field")?;
    let (field, times) = match field.strip_suffix("*100") {
        Some(field) => (field, 100.0),
        None => (field, 1.0),
    };
    let bare = shown.trim_matches('*');
    let number = bare.trim_end_matches(" %").trim_end_matches(" points");
    let times = if number == bare { times } else { 100.0 };
    let value = source(&folder.join(file), row, field)?;
    let held = match value.parse::<f64>() {
        Ok(value) => {
            let digits = number.split_once('.').map_or(0, |(_, digits)| digits.len());
            format!("{:.digits$}", value * times)
        }
        Err(_) => value,
    };
    // -0.0 is 0.0.
    let zero = held.trim_start_matches('-').chars().all(|c| c == '0' || c == '.');
    let held = if zero { held.trim_start_matches('-') } else { &held };
    let same = number.trim_start_matches('+') == held;
    let signed = !number.starts_with('+') || !held.starts_with('-');
    if same && signed { Ok(()) } else { Err(format!("the file says {held}")) }
}

/// The value at a place of a file.
fn source(file: &Path, row: &str, field: &str) -> Result<String, String> {
    let text = fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))?;
    if file.extension().is_some_and(|e| e == "json") {
        let claims: Vec<Value> = serde_json::from_str(&text).map_err(|e| e.to_string())?;
        let claim = claims.iter().find(|c| c["id"] == row).ok_or("no such claim")?;
        let pointer = format!("/{}", field.replace('.', "/"));
        return match claim.pointer(&pointer) {
            Some(Value::String(text)) => Ok(text.clone()),
            Some(value) => Ok(value.to_string()),
            None => Err(format!("a claim has no `{field}`")),
        };
    }
    let mut table = csv::Reader::from_reader(text.as_bytes());
    let head: Vec<String> =
        table.headers().map_err(|e| e.to_string())?.iter().map(str::to_owned).collect();
    let facts: Vec<(String, String)> = row
        .split('&')
        .filter_map(|fact| fact.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.replace("%20", " ")))
        .collect();
    let mut found = Vec::new();
    for record in table.records() {
        let record = record.map_err(|e| e.to_string())?;
        let cells: BTreeMap<&str, &str> =
            head.iter().map(String::as_str).zip(record.iter()).collect();
        if facts.iter().all(|(name, value)| cells.get(name.as_str()) == Some(&value.as_str())) {
            found.push(cells.get(field).ok_or(format!("no column `{field}`"))?.to_string());
        }
    }
    match found.as_slice() {
        [one] => Ok(one.clone()),
        all => Err(format!("{} rows have these facts", all.len())),
    }
}

/// Writes a table and claims, and checks a text beside them.
fn wrong(text: &str) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| -> PathBuf { folder.path().join(name) };
    fs::write(at("a.csv"), "n_bg,method,x\n8,erm,0.3894\n4,erm,-0.0001\n4,\"b, c\",2\n").unwrap();
    let claims = r#"[{"id":"c","effect":0.253,"interval":[0.1,0.4],"verdict":"supported"}]"#;
    fs::write(at("c.json"), claims).unwrap();
    fs::write(at("t.md"), "| a |\n|--:|\n| 1 |\n\nA note.\n").unwrap();
    check(text, folder.path()).1
}

#[test]
fn a_number_that_is_not_its_files_is_found() {
    let right = "At [38.9 %](a.csv#n_bg=8&method=erm:x), [0.39](a.csv#n_bg=8:x), [0.0 %](a.csv#n_bg=4&method=erm:x),
        [2](a.csv#method=b,%20c:x), **[+25.3 points](c.json#c:effect)**, [+10.0](c.json#c:interval.0*100) `7 %`,
        [supported](c.json#c:verdict) at 95 % ([more](t.md))\n```\n9 %\n```\n<!-- from t.md -->\n\n| a |\n|--:|\n| 1 |\n";
    assert_eq!(wrong(right), Vec::<String>::new());
    for (text, said) in [
        ("[39.0 %](a.csv#n_bg=8:x)", "the file says 38.9"),
        ("[38.9 %](a.csv#method=erm:x)", "2 rows have these facts"),
        ("[38.9 %](a.csv#n_bg=9:x)", "0 rows have these facts"),
        ("[38.9 %](a.csv#n_bg=8:y)", "no column `y`"),
        ("[1](gone.csv#n_bg=8:x)", "No such file"),
        ("[-25.3 points](c.json#c:effect)", "the file says 25.3"),
        ("[refuted](c.json#c:verdict)", "the file says supported"),
        ("[1](c.json#d:effect)", "no such claim"),
        ("it is 38.9 % there", "`38.9 %` has no source"),
        ("a gain of +3 points.", "`3 points` has no source"),
        ("<!-- from t.md -->\n| a |\n|--:|\n| 2 |\n", "the table is not that of t.md"),
        ("<!-- from none.md -->\n| a |\n", "the table is not that of none.md"),
    ] {
        let found = wrong(text);
        assert!(found.len() == 1 && found[0].contains(said), "{text}: {found:?}");
    }
}
