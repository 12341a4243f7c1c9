//! No number is published of runs of several settings: random studies, by brute force.
//!
//! A number may be a mean over runs only if they agree in every factor and no seed stands twice. The
//! oracle here knows nothing of the code under test: it looks at all pairs of runs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use dissim_aggregate::{Aggregate, ColumnRoles};
use dissim_api::{Context, Params, PipelineSummary, Stage};
use dissim_claims::{Claim, Row, RunTable, Verdict, judge};
use polars::prelude::*;
use proptest::prelude::*;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::runs::{generic, table};
use crate::tables::{Grid, TableSpec};
use crate::{Report, data, runs};

/// Factors of a random study: some that the shipped study has, some that nobody listed anywhere.
const FACTORS: [&str; 6] = ["lr", "momentum", "n_bg", "method", "deep", "=odd | name"];

/// The values that a factor may have, of every type.
fn values(factor: &str) -> [Value; 3] {
    match factor {
        "lr" => [json!(0.001), json!(0.01), Value::Null],
        "momentum" => [json!(0), json!(0.9), json!(-0.5)],
        "n_bg" => [json!(4), json!(8), json!(16)],
        "deep" => [json!(true), json!(false), Value::Null],
        _ => [json!("a"), json!("b"), Value::Null],
    }
}

/// Which of its values each factor has, the seed, and two results.
type Draw = ([usize; 6], u64, f64, bool);

fn row((choice, seed, acc, dead): &Draw) -> Row {
    let mut row: Row = FACTORS
        .iter()
        .zip(choice)
        .map(|(factor, i)| ((*factor).to_owned(), values(factor)[*i].clone()))
        .collect();
    row.insert("seed".into(), json!(seed));
    row.insert("ood_acc".into(), json!(acc));
    row.insert("dead".into(), json!(dead));
    row.insert("told".into(), json!(format!("attribute {acc}")));
    row
}

/// Runs that mostly agree, so that some cells are of one setting and some are not.
fn draws() -> impl Strategy<Value = Vec<Draw>> {
    let value = prop_oneof![5 => Just(0usize), 1 => 1usize..3];
    let choice = prop::array::uniform6(value);
    prop::collection::vec((choice, 0u64..6, 0.0f64..1.0, any::<bool>()), 1..14)
}

/// A few factors, by their place in the list.
fn named(most: usize) -> impl Strategy<Value = BTreeSet<usize>> {
    prop::collection::btree_set(0..FACTORS.len(), 0..=most)
}

/// Whether any two of these runs are of two settings, or repeat a seed.
fn is_mixture(runs: &[&Row]) -> bool {
    let pairs =
        || runs.iter().enumerate().flat_map(|(i, a)| runs[i + 1..].iter().map(move |b| (a, b)));
    pairs().any(|(a, b)| a["seed"] == b["seed"] || FACTORS.iter().any(|f| a[*f] != b[*f]))
}

fn mean(values: impl Iterator<Item = f64> + Clone) -> f64 {
    let n = values.clone().count() as f64;
    values.sum::<f64>() / n
}

fn run_table(rows: &[Row]) -> RunTable {
    let factors = FACTORS.iter().map(|f| (*f).to_owned()).collect();
    RunTable::new(rows.to_vec(), factors, ["seed".to_owned()].into())
}

fn select(names: &BTreeSet<usize>, which: usize) -> Value {
    let pairs = names.iter().map(|&i| (FACTORS[i].to_owned(), values(FACTORS[i])[which].clone()));
    Value::Object(pairs.collect())
}

fn has(row: &Row, wanted: &Value) -> bool {
    wanted.as_object().unwrap().iter().all(|(name, value)| match value {
        Value::Array(any) => any.contains(&row[name]),
        one => row[name] == *one,
    })
}

proptest! {
    /// Every cell of every table is the mean of exactly its runs, or empty.
    #[test]
    fn cell_is_never_a_mixture(
        draws in draws(), rows in named(2), columns in named(2), at in named(2), list in any::<bool>(),
    ) {
        let all: Vec<Row> = draws.iter().map(row).collect();
        let mut rows: Vec<&str> = rows.iter().map(|&i| FACTORS[i]).collect();
        if rows.is_empty() {
            rows.push("seed");
        }
        let columns: Vec<&str> = columns.iter().map(|&i| FACTORS[i]).collect();
        let mut at = select(&at, 0);
        if list {
            at.as_object_mut().unwrap().iter_mut().for_each(|(f, v)| *v = Value::Array(values(f).to_vec()));
        }
        let entry = json!({ "name": "t", "rows": rows, "columns": columns,
                            "metrics": ["ood_acc", "dead"], "at": at });
        let spec: TableSpec = serde_json::from_value(entry).unwrap();
        let grid = Grid::of(spec, &run_table(&all));
        let mut mixed = false;
        for (key, line) in grid.rows.iter().zip(&grid.cells) {
            for ((group, metric), cell) in grid.columns.iter().zip(line) {
                let members: Vec<&Row> = all.iter().filter(|run| {
                    let is = |names: &[&str], values: &[Value]| names.iter().zip(values).all(|(n, v)| run[*n] == *v);
                    has(run, &at) && is(&rows, key) && is(&columns, group)
                }).collect();
                if members.is_empty() || is_mixture(&members) {
                    mixed |= !members.is_empty();
                    prop_assert!(cell.is_none());
                    continue;
                }
                let cell = cell.expect("runs of one setting have a mean");
                prop_assert_eq!(cell.n, members.len());
                match metric.as_str() {
                    "dead" => {
                        let count = members.iter().filter(|run| run["dead"] == json!(true)).count();
                        prop_assert_eq!(cell.count, Some(count));
                    }
                    _ => {
                        let wanted = mean(members.iter().map(|run| run["ood_acc"].as_f64().unwrap()));
                        prop_assert!((cell.mean - wanted).abs() < 1e-12);
                    }
                }
            }
        }
        prop_assert_eq!(mixed, !grid.mixed.is_empty());
    }

    /// Every effect of every comparison is the mean difference of exactly its runs, or there is none.
    #[test]
    fn claim_is_never_of_a_mixture(draws in draws(), sides in named(2), at in named(4)) {
        let all: Vec<Row> = draws.iter().map(row).collect();
        let (a, b, at) = (select(&sides, 0), select(&sides, 1), select(&at, 0));
        let claim = json!({ "id": "c", "says": "c", "expect": "greater",
            "compare": { "metric": "ood_acc", "a": a, "b": b, "at": at } });
        let claim: Claim = serde_json::from_value(claim).unwrap();
        let found = judge(&[claim], &run_table(&all)).swap_remove(0);
        // What a side says of a factor replaces what both share.
        let side = |own: &Value| {
            let mut wanted = at.clone();
            wanted.as_object_mut().unwrap().extend(own.as_object().unwrap().clone());
            all.iter().filter(move |run| has(run, &wanted)).collect::<Vec<_>>()
        };
        let (a_runs, b_runs) = (side(&a), side(&b));
        let names: BTreeSet<&String> =
            [&a, &b, &at].into_iter().flat_map(|s| s.as_object().unwrap().keys()).collect();
        let confounded = || FACTORS.iter().any(|factor| {
            let (x, y) = (&a_runs[0][*factor], &b_runs[0][*factor]);
            !names.contains(&(*factor).to_owned()) && !x.is_null() && !y.is_null() && x != y
        });
        let wanted: Vec<f64> = a_runs.iter().flat_map(|x| {
            b_runs.iter().filter(|y| x["seed"] == y["seed"]).map(|y| {
                x["ood_acc"].as_f64().unwrap() - y["ood_acc"].as_f64().unwrap()
            })
        }).collect();
        let sound = !a_runs.is_empty() && !b_runs.is_empty() && !is_mixture(&a_runs)
            && !is_mixture(&b_runs) && !confounded() && !wanted.is_empty();
        prop_assert_eq!(found.effect.is_some(), sound, "{:?}", found);
        match found.effect {
            Some(effect) => {
                prop_assert_eq!(found.n, wanted.len());
                prop_assert!((effect - mean(wanted.iter().copied())).abs() < 1e-12);
            }
            None => prop_assert!(matches!(found.verdict, Verdict::NotRun | Verdict::NotJudged)),
        }
    }
}

/// A column of values of one type.
fn column(name: &str, values: Vec<Value>) -> Column {
    if values.iter().any(Value::is_string) {
        let text = values.iter().map(|v| v.as_str().map(str::to_owned));
        return Column::new(name.into(), text.collect::<Vec<_>>());
    }
    if values.iter().any(Value::is_boolean) {
        return Column::new(name.into(), values.iter().map(Value::as_bool).collect::<Vec<_>>());
    }
    match values.iter().all(|v| v.is_null() || v.is_i64()) {
        true => Column::new(name.into(), values.iter().map(Value::as_i64).collect::<Vec<_>>()),
        false => Column::new(name.into(), values.iter().map(Value::as_f64).collect::<Vec<_>>()),
    }
}

fn save(table: &mut DataFrame, path: &Path) {
    ParquetWriter::new(fs::File::create(path).unwrap()).finish(table).unwrap();
}

/// Aggregates these runs, as `evaluate` would have left them, and reports on them: the folders `in` and
/// `out`. Each run logs its OOD accuracy as its one epoch's.
fn study(rows: &[Row], pipeline: PipelineSummary, params: Value) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for name in ["in", "out"] {
        fs::create_dir_all(at(name)).unwrap();
    }
    // `aggregate` adds what names a run.
    let names: Vec<&String> =
        rows[0].keys().filter(|n| !["task", "variant"].contains(&n.as_str())).collect();
    let typed: Vec<Column> =
        names.iter().map(|n| column(n, rows.iter().map(|r| r[*n].clone()).collect())).collect();
    let whole = DataFrame::new(rows.len(), typed).unwrap();
    let params = Aggregate.resolve(params.as_object().unwrap()).unwrap();
    let mut context = Context::for_test("aggregate", params, &at("in"), folder.path());
    for (i, row) in rows.iter().enumerate() {
        let run = at(&format!("run {i}"));
        fs::create_dir_all(&run).unwrap();
        save(&mut whole.slice(i as i64, 1), &run.join("metrics.parquet"));
        let acc = row["ood_acc"].as_f64();
        let mut epochs = df!("epoch" => [1i64], "ood_acc" => [acc], "lambda" => [0.123]).unwrap();
        save(&mut epochs, &run.join("epochs.parquet"));
        for name in ["per_class.parquet", "confusion.parquet"] {
            save(&mut df!("class" => [0i64]).unwrap(), &run.join(name));
        }
        context = context.with_input("runs", &format!("evaluate[i={i}]"), &run);
    }
    Aggregate.run(&mut context).unwrap();
    let mut context = Context::for_test("report", Params::new(), &at("out"), folder.path())
        .with_input("results", "results", &at("in"))
        .with_pipeline(pipeline);
    Report.run(&mut context).unwrap();
    folder
}

/// The rows of a CSV file.
fn csv(path: &Path) -> Vec<Row> {
    let options = CsvReadOptions::default().with_infer_schema_length(None);
    let reader = options.try_into_reader_with_file_path(Some(path.to_path_buf())).unwrap();
    generic(&reader.finish().unwrap())
}

/// Rows by the columns that tell runs and groups apart.
fn by_setting(rows: Vec<Row>) -> BTreeMap<String, Row> {
    let columns = [
        "n_bg",
        "method",
        "lambda",
        "seed",
        "pairs",
        "tau",
        "activation",
        "model",
        "embed",
        "sampler",
        "samples_per_group",
        "lambda_schedule",
        "lambda_target",
        "offset",
    ];
    let key =
        |row: &Row| columns.map(|c| row.get(c).map_or("-".into(), Value::to_string)).join(" ");
    let (count, found) = (rows.len(), rows.into_iter().map(|row| (key(&row), row)).collect());
    let found: BTreeMap<String, Row> = found;
    assert_eq!(found.len(), count, "the columns tell rows apart");
    found
}

/// The committed summaries and rankings of methods, from the committed runs.
#[test]
fn committed_summaries_come_out_the_same() {
    let results = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/results");
    for profile in ["quick", "study", "poster", "future_work", "rivals", "fashion", "alexnet"] {
        let before = |name: &str| results.join(profile).join("tables").join(name);
        let folder = study(&csv(&before("runs.csv")), pipeline(vec![], vec![]), json!({}));
        for name in ["summary.csv", "rivals.csv", "runs.csv"] {
            let after = folder.path().join("out/tables").join(name);
            assert_eq!(before(name).is_file(), after.is_file(), "{profile}/{name}");
            if !after.is_file() {
                continue;
            }
            let (before, after) = (by_setting(csv(&before(name))), by_setting(csv(&after)));
            assert_eq!(before.len(), after.len(), "{profile}/{name}");
            for (row, before) in &before {
                let after = &after[row];
                for (column, value) in before.iter().filter(|(column, _)| *column != "task") {
                    let found = after.get(column).unwrap_or(&Value::Null);
                    let close = match (value.as_f64(), found.as_f64()) {
                        (Some(a), Some(b)) => (a - b).abs() <= 1e-9 * a.abs().max(1e-9),
                        _ => value == found,
                    };
                    assert!(close, "{profile}/{name}, row {row}, {column}: {value}, now {found}");
                }
            }
        }
    }
}

fn pipeline(claims: Vec<Value>, tables: Vec<Value>) -> PipelineSummary {
    let params = |list: Vec<Value>| list.iter().map(|v| v.as_object().unwrap().clone()).collect();
    PipelineSummary {
        name: "x".into(),
        profile: None,
        stages: Vec::new(),
        claims: params(claims),
        tables: params(tables),
    }
}

/// A run with every column that the page of the shipped study needs.
fn whole(draw: &Draw) -> Row {
    let mut row = row(draw);
    let method = if row["method"] == json!("a") { "dissimilarity" } else { "erm" };
    row.insert("method".into(), json!(method));
    row.insert("lambda".into(), if method == "erm" { Value::Null } else { json!(1.25) });
    row.insert("id_acc".into(), json!(0.9));
    for name in ["conflict_acc", "black_acc", "background_only_acc", "same_group_similarity"] {
        row.insert(name.into(), json!(0.5));
    }
    row
}

/// What the page draws its charts from.
fn page_data(folder: &TempDir) -> Value {
    let page = fs::read_to_string(folder.path().join("out/index.html")).unwrap();
    let (_, data) = page.split_once(r#"<script type="application/json" id="data">"#).unwrap();
    serde_json::from_str(data.split_once("</script>").unwrap().0).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    /// Through both stages: the summary by method alone, the curves of the page, and the headline.
    #[test]
    fn summary_page_and_headline_are_never_of_a_mixture(draws in draws()) {
        let all: Vec<Row> = draws.iter().map(whole).collect();
        let folder = study(&all, pipeline(vec![], vec![]), json!({ "group_by": ["method", "n_bg"] }));
        let of = |method: &str, n: &Value| -> Vec<&Row> {
            all.iter().filter(|r| r["method"] == json!(method) && r["n_bg"] == *n).collect()
        };
        let acc = |runs: &[&Row]| mean(runs.iter().map(|r| r["ood_acc"].as_f64().unwrap()));
        let summary = table(&folder.path().join("in/summary.parquet")).unwrap();
        for line in generic(&summary) {
            let runs = of(line["method"].as_str().unwrap(), &line["n_bg"]);
            prop_assert_eq!(&line["n"], &json!(runs.len()));
            prop_assert_eq!(line["ood_acc_mean"].is_null(), is_mixture(&runs));
            prop_assert_eq!(line["dead"].is_null(), is_mixture(&runs));
            if let Some(found) = line["ood_acc_mean"].as_f64() {
                prop_assert!((found - acc(&runs)).abs() < 1e-12);
            }
        }
        let data = page_data(&folder);
        let table = objects(&data["runs"]);
        let mut drawn = 0;
        for at in data["curves"]["at"].as_array().unwrap() {
            for series in at["series"].as_array().unwrap() {
                let runs: Vec<&Row> = series["runs"].as_array().unwrap().iter()
                    .map(|i| &table[i.as_u64().unwrap() as usize]).collect();
                drawn += runs.len();
                prop_assert_eq!(!series["mixed"].as_array().unwrap().is_empty(), is_mixture(&runs));
                let setting = |run: &Row| FACTORS.map(|f| run[f].clone());
                prop_assert!(runs.iter().all(|r| setting(r) == setting(runs[0]) && r["n_bg"] == at["n"]));
            }
        }
        // Every run is in one curve.
        prop_assert_eq!(drawn, all.len());
        let page = fs::read_to_string(folder.path().join("out/index.html")).unwrap();
        for n in values("n_bg") {
            let (ours, erm) = (of("dissimilarity", &n), of("erm", &n));
            let claimed = page.contains(&format!("N = {n}: dissimilarity loss (λ = 1.25) reaches"));
            let confounded = || FACTORS.iter().any(|f| {
                let (a, b) = (&ours[0][*f], &erm[0][*f]);
                *f != "method" && !a.is_null() && !b.is_null() && a != b
            });
            let paired = || ours.iter().any(|a| erm.iter().any(|b| a["seed"] == b["seed"]));
            let sound = !ours.is_empty() && !erm.is_empty() && !is_mixture(&ours)
                && !is_mixture(&erm) && !confounded() && paired();
            prop_assert_eq!(claimed, sound);
        }
    }
}

/// A table of the page's data as rows.
fn objects(table: &Value) -> Vec<Row> {
    let names: Vec<&str> =
        table["columns"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    let row = |row: &Value| -> Row {
        let cells = row.as_array().unwrap().iter().cloned();
        names.iter().map(|n| (*n).to_owned()).zip(cells).collect()
    };
    table["rows"].as_array().unwrap().iter().map(row).collect()
}

/// The rows of `docs/results/poster`: what its runs were, and what the page drew of each epoch.
struct Poster {
    runs: DataFrame,
    epochs: DataFrame,
}

fn poster() -> Poster {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/results/poster");
    let runs = CsvReadOptions::default()
        .with_infer_schema_length(None)
        .try_into_reader_with_file_path(Some(folder.join("tables/runs.csv")))
        .unwrap()
        .finish()
        .unwrap();
    let page = fs::read_to_string(folder.join("index.html")).unwrap();
    let (_, data) = page.split_once(r#"<script type="application/json" id="data">"#).unwrap();
    let data: Value = serde_json::from_str(data.split_once("</script>").unwrap().0).unwrap();
    let rows = objects(&data["epochs"]);
    // The run of an epoch by its factors: the published epochs do not name their task, and have the
    // weight 0 for runs without one.
    let key = |row: &Row| {
        let weight = if row["method"] == json!("erm") { json!(0.0) } else { row["lambda"].clone() };
        [&row["n_bg"], &row["method"], &weight, &row["tau"], &row["seed"]]
            .map(|v| v.as_f64().map_or(v.to_string(), |x| x.to_string()))
    };
    let tasks: BTreeMap<_, String> =
        generic(&runs).iter().map(|r| (key(r), r["task"].as_str().unwrap().to_owned())).collect();
    assert_eq!(tasks.len(), runs.height(), "the key tells runs apart");
    let names: Vec<&String> = rows[0].keys().collect();
    let mut columns: Vec<Column> =
        names.iter().map(|n| column(n, rows.iter().map(|r| r[*n].clone()).collect())).collect();
    columns.push(Column::new(
        "task".into(),
        rows.iter().map(|r| tasks[&key(r)].clone()).collect::<Vec<_>>(),
    ));
    let epochs = DataFrame::new(rows.len(), columns).unwrap();
    Poster { runs, epochs }
}

/// N = 8, weight 1.25, epoch 10: 61.4, where the published page has 41.9 over plain and threshold runs.
#[test]
fn training_curve_of_the_poster_is_of_its_runs_alone() {
    let Poster { runs, mut epochs } = poster();
    let folder = tempfile::tempdir().unwrap();
    save(&mut epochs, &folder.path().join("epochs.parquet"));
    let roles = ColumnRoles::of(&runs);
    let typed = runs::read(&runs, &roles, Path::new("runs.csv")).unwrap();
    let found = data::of(&runs, &roles, folder.path(), &runs::plain(&typed)).unwrap();
    let curves = &found["curves"];
    let columns: Vec<&str> =
        curves["columns"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    let at = |name: &str| columns.iter().position(|c| *c == name).unwrap();
    let (ood, epoch) = (at("ood_acc"), at("epoch"));
    // The page's mean of a curve at an epoch: as charts.js takes it.
    let drawn = |series: &Value, at: u64| {
        let own = series["runs"].as_array().unwrap();
        let rows = curves["rows"].as_array().unwrap().iter();
        let of = rows.filter(|row| own.contains(&row[0]) && row[epoch].as_f64() == Some(at as f64));
        let values: Vec<f64> = of.filter_map(|row| row[ood].as_f64()).collect();
        (values.len(), mean(values.iter().map(|v| v * 100.0)))
    };
    // By brute force: the accuracy of a run after its last epoch is that of its table.
    let table = generic(&runs);
    let truth = |n: &Value, method: &str, lambda: Option<f64>| {
        let of = table.iter().filter(|r| {
            r["n_bg"] == *n
                && r["method"] == json!(method)
                && r["lambda"].as_f64() == lambda
                && r["variant"] == json!("plain")
        });
        let values: Vec<f64> = of.filter_map(|r| r["ood_acc"].as_f64()).collect();
        (values.len(), mean(values.iter().map(|v| v * 100.0)))
    };
    let mut seen = 0;
    for place in curves["at"].as_array().unwrap() {
        for series in place["series"].as_array().unwrap() {
            let name = series["name"].as_str().unwrap();
            let (method, lambda) = match name.split_once(", λ = ") {
                Some((method, lambda)) => (method, Some(lambda.parse().unwrap())),
                None => (name, None),
            };
            let ((n, found), wanted) = (drawn(series, 10), truth(&place["n"], method, lambda));
            assert_eq!((n, wanted.0), (10, 10), "{name} at N = {}", place["n"]);
            assert!((found - wanted.1).abs() < 1e-3, "{name} at N = {}: {found}", place["n"]);
            seen += 1;
            if place["n"] == json!(8) && lambda == Some(1.25) {
                assert_eq!(format!("{found:.1}"), "61.4");
            }
        }
    }
    // Two methods at eight N, and nine further weights at one of them.
    assert_eq!(seen, 2 * 8 + 9);
    // Facts of a run are no curves.
    let offered: Vec<&str> =
        curves["metrics"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    for fact in ["tau", "lambda", "n_bg", "seed", "epoch"] {
        assert!(!offered.contains(&fact), "{offered:?}");
    }
    assert!(offered.contains(&"penalty") && offered.contains(&"pairs"), "{offered:?}");
}

/// The study of two learning rates, through every place that shows a number.
#[test]
fn two_learning_rates_are_named_and_not_averaged() {
    let mut all = Vec::new();
    for seed in 0..7u64 {
        for (method, lambda) in [("erm", Value::Null), ("dissimilarity", json!(1.25))] {
            for lr in [0.001, 0.01] {
                let mut run = whole(&([0; 6], seed, 0.4 + lr, seed == 0));
                run.insert("method".into(), json!(method));
                run.insert("lambda".into(), lambda.clone());
                run.insert("lr".into(), json!(lr));
                all.push(run);
            }
        }
    }
    let compare = |at: Value| json!({ "metric": "ood_acc", "a": { "method": "dissimilarity" }, "b": { "method": "erm" }, "at": at });
    let claims = vec![
        json!({ "id": "mixed", "says": "mixed", "expect": "greater", "compare": compare(json!({})) }),
        json!({ "id": "named", "says": "named", "expect": "greater", "compare": compare(json!({ "lr": 0.01 })) }),
    ];
    let entry = |name: &str, columns: Value| json!({ "name": name, "rows": ["n_bg"], "columns": columns, "metrics": ["ood_acc", "dead"] });
    let tables = vec![entry("mixed", json!(["method"])), entry("named", json!(["method", "lr"]))];
    let folder = study(&all, pipeline(claims, tables), json!({}));
    let text = |name: &str| fs::read_to_string(folder.path().join("out").join(name)).unwrap();
    let judged: Value = serde_json::from_str(&text("claims.json")).unwrap();
    assert_eq!((&judged[0]["verdict"], &judged[1]["n"]), (&json!("not_judged"), &json!(7)));
    assert_eq!(
        judged[0]["note"],
        "the runs with method = dissimilarity differ in `lr`: name one value under `at`"
    );
    let mixed = text("tables/mixed.md");
    assert!(mixed.contains("| 4 | - | - | - | - |"), "{mixed}");
    assert!(
        mixed.contains("which differ in lr: name them under `rows`, `columns` or `at`."),
        "{mixed}"
    );
    assert!(text("tables/named.md").contains("1 of 7, 3 to 51 %"), "{}", text("tables/named.md"));
    let page = text("index.html");
    assert!(page.contains(
        "N = 4: not compared, because the runs of dissimilarity loss (λ = 1.25) differ in lr."
    ));
    assert!(page.contains("1 claim is not judged: the runs differ in more than it names."));
    // Each rate has a curve of its own, and nothing else was left for print.
    let data = page_data(&folder);
    let curves: Vec<&str> = data["curves"]["at"][0]["series"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| s["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        curves,
        [
            "dissimilarity, λ = 1.25, lr = 0.001",
            "dissimilarity, λ = 1.25, lr = 0.01",
            "erm, lr = 0.001",
            "erm, lr = 0.01"
        ]
    );
    assert!(!folder.path().join("out/figures/ood-vs-backgrounds.svg").exists());
}

/// Text that some program would obey.
const HOSTILE: [&str; 5] = [
    "=cmd|' /C calc'!A0",
    "@SUM(1)\t`x`|y \\| \\input{/etc/passwd} [z](javascript:alert(1))",
    "+1-1 <script>alert(1)</script> $x$ #1 100% a_b ~ ^ {",
    "-2+3\r\n| 9 | 9 |\n</script><img src=x onerror=alert(1)>",
    "[64,64] \"q\" & é 漢 \u{1b}]0;owned\u{7} *b* _i_",
];

/// Cells of a line of a Markdown table: bars that are not escaped.
fn cells(line: &str) -> usize {
    line.replace("\\|", "").matches('|').count()
}

#[test]
fn hostile_text_is_obeyed_by_no_format() {
    let mut all = Vec::new();
    for (i, hostile) in HOSTILE.iter().enumerate() {
        for seed in 0..2 {
            let mut run = whole(&([0; 6], seed, 0.1 * (i + 1) as f64, false));
            run.insert("method".into(), json!(hostile));
            run.insert("lambda".into(), Value::Null);
            run.insert(HOSTILE[0].into(), json!(hostile));
            all.push(run);
        }
    }
    let claims: Vec<Value> = HOSTILE
        .iter()
        .enumerate()
        .map(|(i, says)| {
            json!({ "id": format!("c{i}"), "says": says, "expect": "greater", "compare": { "metric": "ood_acc",
                "a": { "method": says }, "b": { "method": "none | `of` <b>them</b>" } } })
        })
        .collect();
    let entry = |(i, caption): (usize, &&str)| {
        json!({ "name": format!("t{i}"), "caption": caption, "rows": ["method", HOSTILE[0]],
                "columns": ["n_bg", HOSTILE[0]], "metrics": ["ood_acc", "dead"], "at": { "n_bg": [4, caption] } })
    };
    let tables: Vec<Value> = HOSTILE.iter().enumerate().map(entry).collect();
    let mut shape = pipeline(claims, tables);
    shape.name = HOSTILE.concat();
    shape.profile = Some(HOSTILE[3].into());
    let folder = study(&all, shape, json!({}));
    let out = folder.path().join("out");
    let mut tex = String::new();
    for entry in fs::read_dir(out.join("tables")).unwrap() {
        let path = entry.unwrap().path();
        let extension = path.extension().unwrap().to_str().unwrap().to_owned();
        if extension == "parquet" {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(!text.contains('\u{1b}') || extension == "csv", "{name}");
        match extension.as_str() {
            "csv" => {
                let table = CsvReadOptions::default()
                    .with_infer_schema_length(Some(0))
                    .try_into_reader_with_file_path(Some(path.clone()))
                    .unwrap()
                    .finish()
                    .unwrap();
                for column in table.columns() {
                    let cells = column.str().unwrap().iter().flatten();
                    for cell in cells.chain([column.name().as_str()]) {
                        let formula = cell.starts_with(['=', '+', '-', '@', '\t', '\r']);
                        assert!(!formula || cell.parse::<f64>().is_ok(), "{name}: {cell:?}");
                    }
                }
            }
            "md" => {
                assert!(
                    !text.contains("<script") && !text.contains("<img") && !text.contains("<b>"),
                    "{name}\n{text}"
                );
                let markup = text.replace("\\[", "").replace("\\]", "");
                assert!(!markup.contains("](") && !text.contains(" `x`"), "{name}\n{text}");
                let lines: Vec<&str> = text.lines().filter(|l| l.starts_with('|')).collect();
                assert!(lines.len() > 2, "{name}");
                assert!(lines.iter().all(|l| cells(l) == cells(lines[0])), "{name}\n{text}");
            }
            "tex" => {
                assert!(
                    !text.contains("\\input{/etc") && !text.contains("<script"),
                    "{name}\n{text}"
                );
                tex += &text;
            }
            other => panic!("{other}"),
        }
    }
    // The table of the fifth caption and value begins rows with a bracket; LaTeX takes it for no argument.
    assert!(tex.contains("    {[}64,64{]}"), "{tex}");
    crate::tables::compile(&tex);
    let page = fs::read_to_string(out.join("index.html")).unwrap();
    assert!(!page.contains("<script>alert") && !page.contains("<img src=x"));
    assert_eq!(page.matches("</script>").count(), 3, "data, provenance, code");
}
