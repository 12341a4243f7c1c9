//! Numbers in tables, claims and figures: nothing is averaged that was not named.

#[path = "../support/mod.rs"]
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use dissim_aggregate::ColumnRoles;
use dissim_claims::{Claim, Row, RunTable, judge};
use serde_json::{Map, Value, json};
use support::{PIPELINE, Project};

/// The study of two learning rates in miniature: 2 methods, 2 rates, 2 seeds.
fn two_rates() -> String {
    let head = PIPELINE
        .replace("seeds: [0]", "seeds: [0, 1]")
        .replace("n_train: 1000", "n_train: 500")
        .replace("{ epochs: 2 }", "{ epochs: 1 }");
    let sweeps =
        head.lines().filter(|line| !line.contains("lambdas }") && !line.contains("\"${lambdas}\""));
    let head: String = sweeps.map(|line| format!("{line}\n")).collect();
    let head = head.replace("lambda: [1.25] }", "lambda: [1.25], lr: [0.001, 0.01] }");
    format!(
        "{head}claims:
  - id: mixed
    says: It helps at any rate
    expect: greater
    compare: {{ metric: ood_acc, a: {{ method: dissimilarity }}, b: {{ method: erm }} }}
  - id: named
    says: It helps at one rate
    expect: greater
    compare: {{ metric: ood_acc, a: {{ method: dissimilarity }}, b: {{ method: erm }}, at: {{ lr: 0.001 }} }}
tables:
  - {{ name: mixed, rows: [n_bg], columns: [method], metrics: [ood_acc] }}
  - {{ name: at_one, rows: [n_bg], columns: [method], metrics: [ood_acc, dead], at: {{ lr: 0.001 }} }}
"
    )
}

/// The metric of the runs with these facts, from the published table of runs.
fn values(runs: &[Row], metric: &str, wanted: &[(&str, Value)]) -> Vec<f64> {
    let of = runs.iter().filter(|run| wanted.iter().all(|(name, value)| run[*name] == *value));
    of.filter_map(|run| run[metric].as_f64()).collect()
}

#[test]
fn two_learning_rates_are_named_and_never_averaged() {
    let project = Project::new();
    project.write(&two_rates());
    project.succeed("run");
    let read = |name: &str| fs::read_to_string(project.path().join("reports").join(name)).unwrap();
    let runs = rows(&project.path().join("reports/tables/runs.csv"));
    assert_eq!(runs.len(), 8);
    // The table over both rates is empty and says which factor to name.
    let mixed = read("tables/mixed.md");
    assert!(mixed.contains("| 4 | - | - |"), "{mixed}");
    assert!(
        mixed.contains("which differ in lr: name them under `rows`, `columns` or `at`."),
        "{mixed}"
    );
    // The table at one rate is the mean of the two runs that have it.
    let of =
        |method: &str| values(&runs, "ood_acc", &[("method", json!(method)), ("lr", json!(0.001))]);
    let at_one = rows(&project.path().join("reports/tables/at_one.csv"));
    for method in ["erm", "dissimilarity"] {
        let own = of(method);
        let cell = at_one.iter().find(|r| r["method"] == json!(method)).unwrap();
        assert_eq!((own.len(), &cell["n"]), (2, &json!(2)));
        let mean = own.iter().sum::<f64>() / 2.0;
        assert!((cell["mean"].as_f64().unwrap() - mean).abs() < 1e-12, "{cell:?}");
    }
    // A claim over both is not judged; one that names a rate is.
    let claims: Value = serde_json::from_str(&read("claims.json")).unwrap();
    assert_eq!(claims[0]["verdict"], "not_judged");
    assert_eq!(
        claims[0]["note"],
        "the runs with method = dissimilarity differ in `lr`: name one value under `at`"
    );
    let effect = claims[1]["effect"].as_f64().unwrap();
    let difference: f64 = of("dissimilarity").iter().zip(of("erm")).map(|(a, b)| a - b).sum();
    assert!((effect - difference / 2.0).abs() < 1e-12, "{}", claims[1]);
    let told = project.succeed("claims");
    assert!(told.contains("! not judged     It helps at any rate"), "{told}");
    assert!(
        told.contains(
            "2 claims: 0 supported, 0 refuted, 1 inconclusive, 0 not measured, 1 not judged"
        ),
        "{told}"
    );
    // The headline does not pick a rate.
    let page = read("index.html");
    let not_compared =
        "N = 4: not compared, because the runs of dissimilarity loss (λ = 1.25) differ in lr.";
    assert!(page.contains(not_compared) && !page.contains("reaches"), "no headline of a mixture");
    // The summary has a row per rate.
    let summary = rows(&project.path().join("reports/tables/summary.csv"));
    assert_eq!(summary.len(), 4);
    assert!(summary.iter().all(|row| row["n"] == json!(2) && !row["lr"].is_null()));
}

#[test]
fn why_names_the_claim_and_the_table_that_changed() {
    let project = Project::new();
    let one = two_rates().replace("[0, 1]", "[0]").replace("[erm, dissimilarity]", "[erm]");
    project.write(&one.replace("[0.001, 0.01]", "[0.001]"));
    project.succeed("run");
    let why = |edits: &[(&str, &str)]| {
        let mut text = fs::read_to_string(project.path().join("pipeline.yaml")).unwrap();
        for (old, new) in edits {
            assert!(text.contains(old), "{old}");
            text = text.replace(old, new);
        }
        let folder = project.path().join("pipeline.yaml");
        let before = fs::read_to_string(&folder).unwrap();
        project.write(&text);
        let told = project.succeed("why report");
        project.write(&before);
        told
    };
    insta::assert_snapshot!(why(&[]), @"report: hit");
    insta::assert_snapshot!(why(&[("expect: greater\n    compare: { metric: ood_acc, a: { method: dissimilarity }, b: { method: erm } }", "expect: none\n    margin: 0.02\n    compare: { metric: id_acc, a: { method: dissimilarity }, b: { method: erm } }")]), @r#"
    report: miss
      pipeline: claim `mixed` changed: compare.metric "ood_acc" -> "id_acc", expect "greater" -> "none", margin added
    "#);
    insta::assert_snapshot!(why(&[("id: named", "id: renamed"), ("name: at_one, rows: [n_bg]", "name: at_one, rows: [n_bg, lr]")]), @r#"
    report: miss
      pipeline: claim `named` removed
      pipeline: claim `renamed` added
      pipeline: table `at_one` changed: rows ["n_bg"] -> ["n_bg","lr"]
    "#);
}

/// The rows of a CSV file: numbers and flags where a cell is one, null where it is empty.
fn rows(path: &Path) -> Vec<Row> {
    let mut table = csv::Reader::from_path(path).unwrap();
    let names: Vec<String> = table.headers().unwrap().iter().map(str::to_owned).collect();
    let value = |cell: &str| match cell {
        "" => Value::Null,
        "true" => json!(true),
        "false" => json!(false),
        cell => match (cell.parse::<i64>(), cell.parse::<f64>()) {
            (Ok(whole), _) => json!(whole),
            (_, Ok(number)) => json!(number),
            _ => json!(cell),
        },
    };
    let row =
        |record: csv::StringRecord| names.iter().cloned().zip(record.iter().map(value)).collect();
    table.records().map(|record| row(record.unwrap())).collect()
}

fn committed(profile: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/results").join(profile)
}

/// The committed runs of a profile.
fn run_table(profile: &str) -> RunTable {
    let rows = rows(&committed(profile).join("tables/runs.csv"));
    let roles = ColumnRoles::of_names(rows[0].keys().map(String::as_str));
    RunTable::new(rows, roles.factors, roles.replicates)
}

/// The shipped study's claims and tables.
fn shipped(list: &str) -> Vec<Map<String, Value>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipeline.yaml");
    let study: Value = serde_yaml::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let entries = study[list].as_array().unwrap().iter();
    entries.map(|entry| entry.as_object().unwrap().clone()).collect()
}

const PROFILES: [&str; 7] =
    ["quick", "study", "poster", "future_work", "rivals", "fashion", "alexnet"];

#[test]
fn committed_verdicts_come_out_the_same() {
    let claims: Vec<Claim> = shipped("claims")
        .into_iter()
        .map(|claim| serde_json::from_value(Value::Object(claim)).unwrap())
        .collect();
    for profile in PROFILES {
        let text = fs::read_to_string(committed(profile).join("claims.json")).unwrap();
        let before: Vec<Value> = serde_json::from_str(&text).unwrap();
        // A profile that was published before a claim was added does not have it.
        let ids: BTreeSet<&str> = before.iter().filter_map(|claim| claim["id"].as_str()).collect();
        let own: Vec<Claim> =
            claims.iter().filter(|c| ids.contains(c.id.as_str())).cloned().collect();
        let after = serde_json::to_value(judge(&own, &run_table(profile))).unwrap();
        let by_id: BTreeMap<&str, &Value> = after
            .as_array()
            .unwrap()
            .iter()
            .map(|claim| (claim["id"].as_str().unwrap(), claim))
            .collect();
        assert_eq!(by_id.len(), before.len(), "{profile}");
        for claim in &before {
            let id = claim["id"].as_str().unwrap();
            assert_eq!(by_id[id], claim, "{profile}: {id}");
        }
    }
}

/// Every committed cell comes out again; a share that was mean ± half is now a count.
#[test]
fn committed_tables_come_out_the_same() {
    let mut shares = 0;
    for profile in PROFILES {
        let runs = run_table(profile);
        for table in shipped("tables") {
            let name = table["name"].as_str().unwrap();
            let path = committed(profile).join(format!("tables/{name}.md"));
            let Ok(before) = fs::read_to_string(path) else { continue };
            let after = dissim_report::table_markdown(&table, &runs).unwrap();
            let cells = |text: &str| -> Vec<Vec<String>> {
                let lines = text.lines().filter(|line| line.starts_with('|'));
                lines.map(|line| line.split('|').map(|c| c.trim().to_owned()).collect()).collect()
            };
            let (before, after) = (cells(&before), cells(&after));
            assert_eq!(before.len(), after.len(), "{profile}/{name}");
            for (before, after) in before.iter().flatten().zip(after.iter().flatten()) {
                let Some((count, n)) = share(after) else {
                    assert_eq!(before, after, "{profile}/{name}");
                    continue;
                };
                let percent = format!("{:.1} ±", 100.0 * f64::from(count) / f64::from(n));
                assert!(before.starts_with(&percent), "{profile}/{name}: {before}, now {after}");
                shares += 1;
            }
        }
    }
    assert!(shares > 100, "{shares}");
}

/// Count and number of `1 of 10, 2 to 40 %`.
fn share(cell: &str) -> Option<(u32, u32)> {
    let (count, rest) = cell.split_once(" of ")?;
    let (n, interval) = rest.split_once(", ")?;
    interval.ends_with(" %").then_some((count.parse().ok()?, n.parse().ok()?))
}
