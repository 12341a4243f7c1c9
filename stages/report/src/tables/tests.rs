//! Declared tables against values computed by hand; the LaTeX is compiled by a real engine.

use std::process::{Command, Stdio};

use serde_json::json;

use super::*;

fn table(rows: Vec<Row>) -> RunTable {
    let factors = ["n_bg", "method", "lambda", "sampler", "lr"].map(str::to_owned);
    RunTable::new(rows, factors.into(), ["seed".to_owned()].into())
}

fn runs() -> Vec<Row> {
    let mut rows = Vec::new();
    for (n, method, lambda, values) in [
        (8, "erm", Value::Null, [0.40, 0.42, 0.44]),
        (8, "dissimilarity", json!(1.25), [0.60, 0.70, 0.80]),
        (8, "50%_of & more", json!(2.0), [0.68, 0.69, 0.70]),
        (16, "erm", Value::Null, [0.5, 0.5, 0.5]),
    ] {
        for (seed, value) in values.into_iter().enumerate() {
            let row = json!({ "n_bg": n, "method": method, "lambda": lambda, "seed": seed,
                              "ood_acc": value, "dead": value > 0.75 });
            rows.push(row.as_object().unwrap().clone().into_iter().collect());
        }
    }
    rows
}

fn spec(value: Value) -> TableSpec {
    serde_json::from_value(value).unwrap()
}

fn grid() -> Grid {
    let entry = json!({ "name": "ood", "caption": "OOD accuracy, 100 % real", "rows": ["n_bg"],
                        "columns": ["method", "lambda"], "metrics": ["ood_acc"] });
    Grid::of(spec(entry), &table(runs()))
}

#[test]
fn cells_are_means_and_the_best_is_marked() {
    let grid = grid();
    assert_eq!(grid.rows, [[json!(8)], [json!(16)]]);
    let marks: Vec<_> = grid.cells[0].iter().map(|c| c.map(|c| c.mark)).collect();
    // 70 +- 24.8 is the best; 69 lies within, 42 does not.
    assert_eq!(marks, [Some(Mark::Close), Some(Mark::Best), Some(Mark::Plain)]);
    let best = grid.cells[0][1].unwrap();
    // t(0.975, 2) = 4.302653; sd = 0.1, n = 3.
    let half = 4.302_653 * 0.1 / 3f64.sqrt();
    let (low, high) = best.interval.unwrap();
    assert!((best.mean - 0.7).abs() < 1e-12 && (high - low - 2.0 * half).abs() < 1e-6);
    // What was not run is empty, and of one cell there is no best.
    assert_eq!(grid.cells[1][..2], [None, None]);
    assert_eq!(grid.cells[1][2].unwrap().mark, Mark::Plain);
}

#[test]
fn a_cell_of_several_settings_is_left_empty_and_said_so() {
    let mut runs = runs();
    let more = json!({ "n_bg": 16, "method": "erm", "lambda": null, "seed": 1, "sampler": "groups",
                       "ood_acc": 0.9, "dead": false });
    runs.push(more.as_object().unwrap().clone().into_iter().collect());
    let grid = |columns: Value| {
        let entry = json!({ "name": "t", "rows": ["n_bg"], "columns": columns,
                            "metrics": ["ood_acc"], "at": { "method": "erm" } });
        Grid::of(spec(entry), &table(runs.clone()))
    };
    let mixed = grid(json!(["method"]));
    assert!(mixed.cells[0][0].is_some() && mixed.cells[1][0].is_none());
    insta::assert_snapshot!(
        mixed.note(str::to_owned),
        @"Runs with method = erm. Percent. Mean ± half of the 95 % interval over runs (Student's t). Bold: the best of its row; underlined: within the interval of the best. Left empty where runs of several settings met, which differ in sampler: name them under `rows`, `columns` or `at`."
    );
    let told = grid(json!(["sampler"]));
    assert!(told.mixed.is_empty() && told.cells[1].iter().all(Option::is_some));
}

/// No seed has both learning rates, so only the setting tells the runs apart.
#[test]
fn cell_of_two_learning_rates_is_left_empty() {
    let mut runs = runs();
    for run in &mut runs {
        let first = run["seed"] == json!(0);
        run.insert("lr".to_owned(), json!(if first { 0.01 } else { 0.001 }));
    }
    let grid = |columns: Value, at: Value| {
        let entry = json!({ "name": "t", "rows": ["n_bg"], "columns": columns,
                            "metrics": ["ood_acc", "dead"], "at": at });
        Grid::of(spec(entry), &table(runs.clone()))
    };
    let mixed = grid(json!(["method"]), json!({}));
    assert!(mixed.cells.iter().flatten().all(Option::is_none));
    assert_eq!(mixed.mixed, ["lr".to_owned()].into());
    // A list under `at` selects; it does not say that its values may be averaged.
    let list = grid(json!(["method"]), json!({ "lr": [0.01, 0.001] }));
    assert!(list.cells.iter().flatten().all(Option::is_none));
    let named = grid(json!(["method", "lr"]), json!({}));
    assert!(named.mixed.is_empty() && named.cells[1].iter().flatten().count() == 4);
    let one = grid(json!(["method"]), json!({ "lr": 0.001 }));
    assert_eq!((one.mixed.len(), one.cells[1][4].unwrap().n), (0, 2));
}

#[test]
fn a_flag_is_a_share_with_wilsons_interval() {
    let entry = json!({ "name": "d", "rows": ["method"], "metrics": ["dead"], "best": "lowest",
                        "at": { "method": "dissimilarity" } });
    let grid = Grid::of(spec(entry), &table(runs()));
    let cell = grid.cells[0][0].unwrap();
    assert_eq!((cell.n, cell.mean, cell.mark), (3, 1.0 / 3.0, Mark::Plain));
    // statsmodels: proportion_confint(1, 3, method="wilson") = (0.0615, 0.7923).
    let (low, high) = cell.interval.unwrap();
    assert!((low - 0.0615).abs() < 1e-4 && (high - 0.7923).abs() < 1e-4, "{low} {high}");
    // A count in every format, never mean ± half.
    assert!(
        grid.markdown().contains("| dissimilarity | 1 of 3, 6 to 79 % |"),
        "{}",
        grid.markdown()
    );
    assert!(grid.latex().contains(r"dissimilarity & 1 of 3, 6 to 79 \% \\"), "{}", grid.latex());
    let folder = tempfile::tempdir().unwrap();
    write(&grid, folder.path()).unwrap();
    let csv = std::fs::read_to_string(folder.path().join("d.csv")).unwrap();
    assert!(
        csv.starts_with("method,metric,n,count,low,high\ndissimilarity,dead,3,1,0.06"),
        "{csv}"
    );
}

#[test]
fn markdown_and_latex() {
    insta::assert_snapshot!(grid().markdown());
    insta::assert_snapshot!(grid().latex());
}

#[test]
fn what_is_wrong_with_a_table() {
    let columns = Columns {
        metrics: ["ood_acc".to_owned()].into(),
        facts: ["n_bg".to_owned(), "method".to_owned()].into(),
    };
    let said = |table: Value| {
        let errors = check_table(table.as_object().unwrap(), &columns);
        let line = |e: &ParamError| format!("{}: {}", e.name.as_deref().unwrap_or("-"), e.message);
        errors.iter().map(line).collect::<Vec<_>>().join("\n")
    };
    assert_eq!(said(json!({ "name": "x", "rows": ["n_bg"], "metrics": ["ood_acc"] })), "");
    insta::assert_snapshot!(said(json!({ "name": "../x", "rows": [], "columns": ["metod"],
        "metrics": ["oodacc"], "at": { "n": 1 }, "decimals": 9 })));
}

#[test]
fn csv_and_parquet_hold_the_same_cells() {
    let folder = tempfile::tempdir().unwrap();
    write(&grid(), folder.path()).unwrap();
    let csv = std::fs::read_to_string(folder.path().join("ood.csv")).unwrap();
    assert_eq!(csv.lines().next(), Some("n_bg,method,lambda,metric,n,mean,low,high"));
    assert_eq!(csv.lines().count(), 1 + 4);
    let table = crate::runs::table(&folder.path().join("ood.parquet")).unwrap();
    assert_eq!(table.height(), 4);
    let means: Vec<f64> =
        crate::runs::generic(&table).iter().map(|r| r["mean"].as_f64().unwrap()).collect();
    for (line, mean) in csv.lines().skip(1).zip(means) {
        let found: f64 = line.split(',').nth(5).unwrap().parse().unwrap();
        assert!((found - mean).abs() < 1e-12);
    }
}

/// pdflatex compiles these tables. Without an engine the test says that it was skipped; under CI=true an
/// engine must be there.
pub(crate) fn compile(tables: &str) {
    let engine = Command::new("pdflatex").arg("--version").stdout(Stdio::null()).status();
    if !engine.is_ok_and(|s| s.success()) {
        assert!(
            std::env::var("CI").as_deref() != Ok("true"),
            "CI has no pdflatex: apt-get install texlive-latex-recommended"
        );
        eprintln!(
            "skipped: no pdflatex here (Debian: texlive-latex-base, texlive-latex-recommended)"
        );
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let text = format!(
        "\\documentclass{{article}}\n\\usepackage{{booktabs}}\n\\begin{{document}}\n{tables}\\end{{document}}\n"
    );
    std::fs::write(folder.path().join("t.tex"), text).unwrap();
    let output = Command::new("pdflatex")
        .args(["-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "t.tex"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    let log = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{log}");
    let pdf = std::fs::read(folder.path().join("t.pdf")).unwrap();
    assert!(pdf.starts_with(b"%PDF"));
}

#[test]
fn the_latex_compiles() {
    let mut hostile = grid();
    hostile.spec.caption =
        r##"\input{/etc/passwd} 50% #1 $x_1^2$ ~ {λ} 漢字 <a|b> "q" ± é"##.into();
    compile(&(grid().latex() + &hostile.latex()));
}
