//! Aggregation of small runs against values computed by hand.

use std::fs;

use serde_json::json;
use tempfile::TempDir;

use super::*;

/// The tables that `evaluate` would have written for one run.
fn run(folder: &Path, method: &str, lambda: Option<f64>, seed: i64, id: f64, ood: f64) {
    fs::create_dir_all(folder).unwrap();
    let mut columns = vec![
        Column::new("n_bg".into(), [8i64]),
        Column::new("method".into(), [method]),
        Column::new("lambda".into(), [lambda]),
        Column::new("embed".into(), ["post"]),
        Column::new("seed".into(), [seed]),
    ];
    for metric in METRICS {
        let value = match metric {
            "id_acc" => id,
            "ood_acc" => ood,
            _ => 0.5,
        };
        columns.push(match metric {
            "dead" => Column::new("dead".into(), [id < 0.2]),
            // A metric that a run has no value for.
            "conflict_acc" => Column::new(metric.into(), [None::<f64>]),
            metric => Column::new(metric.into(), [value]),
        });
    }
    let frame = |columns: Vec<Column>| DataFrame::new(columns[0].len(), columns).unwrap();
    write_parquet(&frame(columns), &folder.join("metrics.parquet")).unwrap();
    let epochs = frame(vec![
        Column::new("epoch".into(), [1i64, 2]),
        Column::new("lambda".into(), [0.5, 1.0]),
    ]);
    write_parquet(&epochs, &folder.join("epochs.parquet")).unwrap();
    for name in ["per_class.parquet", "confusion.parquet", "embeddings.parquet"] {
        let table = frame(vec![Column::new("class".into(), [0i64, 1, 2])]);
        write_parquet(&table, &folder.join(name)).unwrap();
    }
}

/// Three seeds of the penalty, the last of them dead, and two of plain training, out of order.
fn aggregated(params: Value) -> (TempDir, Result<(), StageError>) {
    let folder = tempfile::tempdir().unwrap();
    let runs = [
        ("dissimilarity", Some(1.25), 2, 0.1, 0.1),
        ("erm", None, 1, 1.0, 0.44),
        ("dissimilarity", Some(1.25), 0, 0.9, 0.7),
        ("erm", None, 0, 1.0, 0.40),
        ("dissimilarity", Some(1.25), 1, 0.8, 0.6),
    ];
    let output = folder.path().join("out");
    fs::create_dir_all(&output).unwrap();
    let params = Aggregate.resolve(params.as_object().unwrap()).unwrap();
    let mut context = Context::for_test("aggregate", params, &output, folder.path());
    for (i, (method, lambda, seed, id, ood)) in runs.into_iter().enumerate() {
        let path = folder.path().join(i.to_string());
        run(&path, method, lambda, seed, id, ood);
        context = context.with_input("runs", &format!("evaluate[{method},seed={seed}]"), &path);
    }
    let result = Aggregate.run(&mut context);
    (folder, result)
}

/// The number in a column of the summary, by method.
fn summary(folder: &TempDir, column: &str) -> BTreeMap<String, Option<f64>> {
    let table = read(&folder.path().join("out/summary.parquet")).unwrap();
    let methods = table.column("method").unwrap().str().unwrap().clone();
    let values = table.column(column).unwrap().cast(&DataType::Float64).unwrap();
    let values = values.f64().unwrap().clone();
    let pair = |i: usize| (methods.get(i).unwrap().to_owned(), values.get(i));
    (0..table.height()).map(pair).collect()
}

fn close(found: Option<f64>, wanted: f64) {
    assert!(found.is_some_and(|f| (f - wanted).abs() < 1e-6), "{found:?}, not {wanted}");
}

#[test]
fn means_deviations_and_intervals_by_hand() {
    let (folder, result) = aggregated(json!({}));
    result.unwrap();
    let of = |column: &str, method: &str| summary(&folder, column)[method];
    close(of("n", "dissimilarity"), 3.0);
    // 0.7, 0.6, 0.1: mean 7/15; squares of deviations sum to 31/150.
    close(of("ood_acc_mean", "dissimilarity"), 7.0 / 15.0);
    let sd = (31.0f64 / 150.0 / 2.0).sqrt();
    close(of("ood_acc_sd", "dissimilarity"), sd);
    // t(0.975, 2) = 4.30265273.
    close(of("ood_acc_high", "dissimilarity"), 7.0 / 15.0 + 4.302_652_73 * sd / 3f64.sqrt());
    close(of("ood_acc_min", "dissimilarity"), 0.1);
    // The dead run counts in the first mean and not in the second.
    close(of("ood_acc_alive_mean", "dissimilarity"), 0.65);
    close(of("dead", "dissimilarity"), 1.0);
    close(of("dead_share", "dissimilarity"), 1.0 / 3.0);
    close(of("dead_low", "dissimilarity"), 0.061_492);
    close(of("ood_acc_mean", "erm"), 0.42);
    assert_eq!(of("conflict_acc_mean", "erm"), None);
}

#[test]
fn the_summary_for_people() {
    let (folder, result) = aggregated(json!({}));
    result.unwrap();
    let text = fs::read_to_string(folder.path().join("out/summary.md")).unwrap();
    insta::assert_snapshot!(text);
}

#[test]
fn runs_are_sorted_and_name_their_task() {
    let (folder, result) = aggregated(json!({}));
    result.unwrap();
    let runs = read(&folder.path().join("out/runs.parquet")).unwrap();
    let tasks: Vec<_> = runs.column("task").unwrap().str().unwrap().iter().flatten().collect();
    assert_eq!(
        tasks,
        [
            "evaluate[dissimilarity,seed=0]",
            "evaluate[dissimilarity,seed=1]",
            "evaluate[dissimilarity,seed=2]",
            "evaluate[erm,seed=0]",
            "evaluate[erm,seed=1]",
        ]
    );
    let epochs = read(&folder.path().join("out/epochs.parquet")).unwrap();
    assert_eq!(epochs.height(), 5 * 2);
    // An epoch keeps the lambda that it had; the run's does not hide it.
    let lambda = epochs.column("lambda").unwrap().f64().unwrap().to_vec();
    assert_eq!(lambda[..2], [Some(0.5), Some(1.0)]);
    assert!(epochs.column("seed").is_ok() && epochs.column("method").is_ok());
}

/// Runs of two groups: in one the first seed is dead, in the other every seed.
#[test]
fn embeddings_are_those_of_the_first_seed_alive() {
    let facts = |method: &str, seed: i64| df!("method" => [method], "seed" => [seed]).unwrap();
    let dead = |dead: bool| df!("dead" => [dead]).unwrap();
    let runs = [("a", 2, false), ("b", 4, true), ("a", 0, true), ("b", 3, true), ("a", 1, false)];
    let (facts, metrics): (Vec<_>, Vec<_>) =
        runs.iter().map(|(method, seed, d)| (facts(method, *seed), dead(*d))).unzip();
    let found = shown(&facts, &metrics, &["method".to_owned()]);
    assert_eq!(found, BTreeSet::from([3, 4]));
    let (folder, result) = aggregated(json!({}));
    result.unwrap();
    let table = read(&folder.path().join("out/embeddings.parquet")).unwrap();
    let seeds = table.column("seed").unwrap().i64().unwrap().to_vec();
    assert_eq!(seeds, [Some(0); 6]);
}

#[test]
fn the_same_runs_give_the_same_bytes() {
    let (one, two) = (aggregated(json!({})).0, aggregated(json!({})).0);
    for name in ["runs.parquet", "summary.parquet", "epochs.parquet", "runs.csv"] {
        let bytes = |folder: &TempDir| fs::read(folder.path().join("out").join(name)).unwrap();
        assert!(bytes(&one) == bytes(&two), "{name}");
    }
}

#[test]
fn groups_of_ones_own_and_mistakes_in_them() {
    let (folder, result) = aggregated(json!({ "group_by": ["n_bg"] }));
    result.unwrap();
    let table = read(&folder.path().join("out/summary.parquet")).unwrap();
    assert_eq!((table.height(), table.column("n").unwrap().i64().unwrap().get(0)), (1, Some(5)));
    // Two methods in one group: counted, and not averaged.
    let empty = |name: &str| table.column(name).unwrap().null_count() == 1;
    assert!(["ood_acc_mean", "ood_acc_alive_mean", "dead", "dead_share"].into_iter().all(empty));
    let text = fs::read_to_string(folder.path().join("out/summary.md")).unwrap();
    let note = "which differ in lambda, method: name them under `group_by`.\n";
    assert!(text.contains("|   8 |    5 |") && text.ends_with(note), "{text}");
    let error = aggregated(json!({ "group_by": ["ood_acc"] })).1.unwrap_err();
    insta::assert_snapshot!(error.to_string());
    let error = Aggregate.resolve(json!({ "confidence": 1 }).as_object().unwrap()).unwrap_err();
    insta::assert_snapshot!(error[0].message);
}

/// Five seeds of one learning rate and five of another, which the user groups by the method alone.
#[test]
fn group_of_two_learning_rates_is_not_averaged() {
    let runs = |lr: Vec<f64>| {
        let n = lr.len();
        df!("method" => vec!["erm"; n], "lr" => lr, "seed" => (0..n as i64).collect::<Vec<_>>(),
            "ood_acc" => vec![0.5; n], "dead" => vec![false; n])
        .unwrap()
    };
    let means = |runs: &DataFrame, groups: &[&str]| {
        let groups: Vec<String> = groups.iter().map(|g| (*g).to_owned()).collect();
        let roles = ColumnRoles::of(runs);
        let (table, mixed) =
            summary::summarise(runs, &roles, &groups, 0.95, Path::new("x")).unwrap();
        let means = table.column("ood_acc_mean").unwrap().f64().unwrap().to_vec();
        (means, mixed.into_iter().collect::<Vec<_>>())
    };
    let (one, two) = (runs(vec![0.1; 4]), runs(vec![0.1, 0.1, 0.2, 0.2]));
    assert_eq!(means(&one, &["method"]), (vec![Some(0.5)], vec![]));
    assert_eq!(means(&two, &["method"]), (vec![None], vec!["lr".to_owned()]));
    assert_eq!(means(&two, &["method", "lr"]), (vec![Some(0.5); 2], vec![]));
    let mut twice = one.clone();
    twice.with_column(Column::new("seed".into(), [0i64, 1, 1, 2])).unwrap();
    assert_eq!(means(&twice, &["method"]), (vec![None], vec!["task".to_owned()]));
}
