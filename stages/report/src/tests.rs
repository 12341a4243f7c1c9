//! The report on small runs: what it writes, what the page escapes, what it repeats.

use std::fs;

use dissim_api::{PipelineSummary, StageSummary};
use polars::prelude::*;
use serde_json::json;
use tempfile::TempDir;

use super::*;

const HOSTILE: &str = "</script><script>alert('x')</script>&\"|";

/// Results of 2 N, 2 methods, 7 seeds, as `aggregate` writes them.
fn results(folder: &Path) {
    let (mut n_bg, mut method, mut lambda, mut seed) = (vec![], vec![], vec![], vec![]);
    let (mut id, mut ood, mut dead, mut task) = (vec![], vec![], vec![], vec![]);
    for n in [4i64, 8] {
        for (name, value) in
            [("erm", None), ("dissimilarity", Some(0.5)), ("dissimilarity", Some(1.25))]
        {
            for s in 0..7i64 {
                n_bg.push(n);
                method.push(name);
                lambda.push(value);
                seed.push(s);
                let gain = value.unwrap_or(0.0) * 0.2;
                let alive = !(value == Some(1.25) && s == 6);
                id.push(if alive { 0.9 } else { 0.1 });
                ood.push(if alive { 0.4 + gain + s as f64 * 0.01 } else { 0.1 });
                dead.push(!alive);
                task.push(format!("evaluate[{name},{n},{s}]{HOSTILE}"));
            }
        }
    }
    let height = n_bg.len();
    let half = vec![0.5; height];
    let mut columns = vec![
        Column::new("n_bg".into(), n_bg),
        Column::new("method".into(), method),
        Column::new("lambda".into(), lambda),
        Column::new("seed".into(), seed),
        Column::new("task".into(), task),
        Column::new("id_acc".into(), id),
        Column::new("ood_acc".into(), ood),
        Column::new("dead".into(), dead),
    ];
    for name in ["conflict_acc", "black_acc", "background_only_acc", "same_group_similarity"] {
        columns.push(Column::new(name.into(), half.clone()));
    }
    save_runs(&mut DataFrame::new(height, columns).unwrap(), folder);
    fs::write(folder.join("runs.csv"), "n_bg\n").unwrap();
    fs::write(folder.join("summary.csv"), "n_bg\n").unwrap();
    fs::write(folder.join("summary.md"), "| N | method |\n|--:|:--|\n| 4 | <b>x</b> |\n").unwrap();
}

/// Writes the table of runs, and what its columns are.
fn save_runs(runs: &mut DataFrame, folder: &Path) {
    ColumnRoles::of(runs).write(folder).unwrap();
    save(runs, &folder.join("runs.parquet"));
}

fn pipeline() -> PipelineSummary {
    let object = |value: Value| value.as_object().unwrap().clone();
    let stage = |name: &str, kind: &str, needs: &[&str], tasks| StageSummary {
        name: name.into(),
        kind: kind.into(),
        needs: needs.iter().map(|n| (*n).to_owned()).collect(),
        tasks,
    };
    PipelineSummary {
        name: HOSTILE.into(),
        profile: Some(HOSTILE.into()),
        stages: vec![
            stage("train", "train", &[], 42),
            stage("results", "aggregate", &["train"], 1),
        ],
        claims: vec![
            object(json!({ "id": "helps", "says": HOSTILE, "expect": "greater",
                "compare": { "metric": "ood_acc", "a": { "method": "dissimilarity", "lambda": 0.5 },
                             "b": { "method": "erm" }, "at": { "n_bg": 8 } } })),
            object(json!({ "id": "absent", "says": "never run", "expect": "less",
                "compare": { "metric": "ood_acc", "a": { "method": "mixup" }, "b": { "method": "erm" } } })),
        ],
        tables: vec![object(json!({ "name": "ood", "caption": HOSTILE, "rows": ["n_bg"],
            "columns": ["method", "lambda"], "metrics": ["ood_acc"] }))],
    }
}

/// A report in a folder of its own.
fn report(pipeline: Option<PipelineSummary>) -> TempDir {
    report_of(pipeline, results)
}

/// The same on other results.
fn report_of(pipeline: Option<PipelineSummary>, results: fn(&Path)) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let (input, output) = (folder.path().join("in"), folder.path().join("out"));
    fs::create_dir_all(&input).unwrap();
    fs::create_dir_all(&output).unwrap();
    results(&input);
    let mut context = Context::for_test("report", Params::new(), &output, folder.path())
        .with_input("results", "results", &input);
    if let Some(pipeline) = pipeline {
        context = context.with_pipeline(pipeline);
    }
    Report.run(&mut context).unwrap();
    folder
}

fn text(folder: &TempDir, name: &str) -> String {
    fs::read_to_string(folder.path().join("out").join(name)).unwrap()
}

#[test]
fn figures_tables_and_verdicts_are_written() {
    let folder = report(Some(pipeline()));
    let out = folder.path().join("out");
    for name in ["ood-vs-backgrounds", "ood-vs-lambda"] {
        let svg = text(&folder, &format!("figures/{name}.svg"));
        assert!(svg.starts_with("<svg") && svg.contains("<circle"), "{name}");
        let png = fs::File::open(out.join("figures").join(name).with_extension("png")).unwrap();
        let reader = png::Decoder::new(std::io::BufReader::new(png)).read_info().unwrap();
        assert_eq!((reader.info().width, reader.info().height), (1800, 1040));
    }
    for name in
        ["ood.csv", "ood.parquet", "ood.md", "ood.tex", "claims.md", "runs.csv", "summary.md"]
    {
        assert!(out.join("tables").join(name).is_file(), "{name}");
    }
    let claims: Value = serde_json::from_str(&text(&folder, "claims.json")).unwrap();
    // Seven seeds that all rise by 0.1: p = 2/2^7, alone in its family.
    assert_eq!(claims[0]["verdict"], "supported");
    assert_eq!((&claims[0]["n"], &claims[0]["p_holm"]), (&json!(7), &json!(2.0 / 128.0)));
    assert!((claims[0]["effect"].as_f64().unwrap() - 0.1).abs() < 1e-9);
    assert_eq!(claims[1]["verdict"], "not_run");
}

/// Whatever `aggregate` leaves of the runs one by one, for every run of [`results`], with a sweep over
/// tau and an oracle beside them.
fn everything(folder: &Path) {
    results(folder);
    let path = folder.join("runs.parquet");
    let runs = runs::table(&path).unwrap();
    let n = runs.height();
    // Three weights by two thresholds, two seeds of each, all of them at the first N.
    let number = |name: &str, values: Vec<f64>| Column::new(name.into(), values);
    let mut swept = runs.head(Some(12));
    let at = |values: &[f64], i: usize| values[i % values.len()];
    for column in [
        number("tau", (0..12).map(|i| at(&[0.001, 0.01], i)).collect()),
        number("lambda", (0..12).map(|i| at(&[0.5, 1.25, 2.0], i / 2)).collect()),
        Column::new("method".into(), ["dissimilarity"; 12]),
        Column::new("seed".into(), (0..12i64).map(|i| i / 6).collect::<Vec<_>>()),
        Column::new("n_bg".into(), [4i64; 12]),
        Column::new("task".into(), (0..12).map(|i| format!("swept {i}")).collect::<Vec<_>>()),
        Column::new("variant".into(), ["tau = 0.001"; 12]),
    ] {
        swept.with_column(column).unwrap();
    }
    // The oracle stands beside erm, run by run.
    let erm = runs.column("method").unwrap().str().unwrap().equal("erm");
    let mut oracle = runs.filter(&erm).unwrap();
    let some = oracle.height();
    let mut plain = runs.clone();
    for (name, values) in [("method", "oracle"), ("variant", "plain")] {
        oracle.with_column(Column::new(name.into(), vec![values; some])).unwrap();
    }
    oracle.with_column(number("ood_acc", vec![0.9; some])).unwrap();
    let tasks: Vec<String> = (0..some).map(|i| format!("oracle {i}")).collect();
    oracle.with_column(Column::new("task".into(), tasks)).unwrap();
    oracle.with_column(Column::new("tau".into(), vec![None::<f64>; some])).unwrap();
    plain.with_column(Column::new("tau".into(), vec![None::<f64>; n])).unwrap();
    plain.with_column(Column::new("variant".into(), vec!["plain"; n])).unwrap();
    // By name: columns were added in another order.
    let names: Vec<PlSmallStr> = plain.get_column_names().into_iter().cloned().collect();
    let mut all = plain.clone();
    for other in [swept, oracle] {
        all = all.vstack(&other.select(names.clone()).unwrap()).unwrap();
    }
    save_runs(&mut all, folder);
    let task = plain.column("task").unwrap().clone();
    let column = |name: &str, values: Vec<f64>| Column::new(name.into(), values);
    let mut epochs = DataFrame::new(
        n,
        vec![
            task.clone(),
            Column::new("epoch".into(), vec![1i64; n]),
            column("penalty", vec![0.5; n]),
            column("pairs", vec![40.0; n]),
            column("ood_acc", vec![0.4; n]),
            column("active", vec![0.3; n]),
        ],
    )
    .unwrap();
    save(&mut epochs, &folder.join("epochs.parquet"));
    let mut confusion = DataFrame::new(
        n,
        vec![
            task.clone(),
            Column::new("split".into(), vec!["ood_test"; n]),
            Column::new("truth".into(), vec![3i64; n]),
            Column::new("predicted".into(), vec![8i64; n]),
            Column::new("count".into(), vec![5i64; n]),
        ],
    )
    .unwrap();
    save(&mut confusion, &folder.join("confusion.parquet"));
    let mut embeddings = DataFrame::new(
        n,
        vec![
            task,
            Column::new("split".into(), vec!["id_test"; n]),
            Column::new("label".into(), vec![3i64; n]),
            Column::new("background".into(), vec![12i64; n]),
            column("x", (0..n).map(|i| i as f64).collect()),
            column("y", vec![1.0; n]),
            column("share_x", vec![0.6; n]),
            column("share_y", vec![0.1; n]),
        ],
    )
    .unwrap();
    save(&mut embeddings, &folder.join("embeddings.parquet"));
}

fn save(table: &mut DataFrame, path: &Path) {
    ParquetWriter::new(fs::File::create(path).unwrap()).finish(table).unwrap();
}

#[test]
fn every_figure_where_there_is_data_for_it() {
    let folder = report_of(Some(pipeline()), everything);
    let page = text(&folder, "index.html");
    for name in ["rivals", "lambda-tau", "training-curves", "confusion", "embeddings"] {
        let svg = text(&folder, &format!("figures/{name}.svg"));
        assert!(svg.starts_with("<svg"), "{name}");
        assert!(folder.path().join(format!("out/figures/{name}.png")).is_file(), "{name}");
        assert!(page.contains(&format!("figures/{name}.svg")), "{name}");
    }
    let map = text(&folder, "figures/lambda-tau.svg");
    assert!(map.contains("0.001") && map.contains("n = "), "the map has its cells");
    assert!(text(&folder, "figures/rivals.svg").contains("oracle"));
    assert!(text(&folder, "tables/rivals.md").contains("| oracle |"));
    assert!(page.contains("of the gap between cross-entropy and the oracle"));
    // Without that data there is none of them.
    let folder = report(Some(pipeline()));
    for name in ["rivals", "lambda-tau", "training-curves", "confusion", "embeddings"] {
        assert!(!folder.path().join(format!("out/figures/{name}.svg")).exists(), "{name}");
    }
}

#[test]
fn the_page_has_room_for_provenance_once() {
    let page = text(&report(Some(pipeline())), "index.html");
    assert_eq!(page.matches(PROVENANCE_SLOT).count(), 1);
}

#[test]
fn the_page_needs_nothing_else_and_escapes_what_it_shows() {
    let page = text(&report(Some(pipeline())), "index.html");
    for outside in ["src=\"http", "href=\"http", "url(http", "@import", "fetch(\"http"] {
        assert!(!page.contains(outside), "{outside}");
    }
    assert!(!page.contains("<script>alert"), "a name became markup");
    assert!(!page.contains("<b>x</b>"), "a cell became markup");
    assert!(page.contains("&lt;script&gt;alert"));
}

#[test]
fn the_same_results_give_the_same_bytes() {
    let (one, two) = (report(Some(pipeline())), report(Some(pipeline())));
    for name in ["index.html", "claims.json", "tables/ood.tex", "figures/ood-vs-lambda.svg"] {
        assert_eq!(text(&one, name), text(&two, name), "{name}");
    }
}

#[test]
fn a_report_without_a_pipeline_has_no_claims() {
    let folder = report(None);
    assert_eq!(text(&folder, "claims.json"), "[]\n");
    assert!(!folder.path().join("out/tables/claims.md").exists());
}
