//! Every method end to end on a slice of the real data, through the binary.

mod support;

use std::collections::BTreeMap;
use std::fs;

use support::Project;

const METHODS: [&str; 15] = [
    "erm",
    "dissimilarity",
    "spectral_decoupling",
    "rsc",
    "sifer",
    "vicreg_decorrelation",
    "class_repulsion",
    "mixup",
    "lisa",
    "group_dro",
    "vrex",
    "irm",
    "conditional_coral",
    "similarity",
    "oracle",
];

fn pipeline() -> String {
    let methods = METHODS.join(", ");
    format!(
        r#"
version: 1
name: methods
stages:
  digits:      {{ kind: fetch, with: {{ dataset: mnist }} }}
  backgrounds: {{ kind: fetch, with: {{ dataset: cifar10 }} }}
  dataset:
    kind: dataset
    needs: {{ digits: digits, backgrounds: backgrounds }}
    with: {{ n_bg: 4, n_train: 1000, n_val: 400, n_test: 400 }}
  train:
    kind: train
    needs: {{ data: dataset }}
    matrix: {{ method: [{methods}, dfr] }}
    with: {{ epochs: 2 }}
  evaluate: {{ kind: evaluate, needs: {{ model: train, data: dataset }} }}
  results:  {{ kind: aggregate, needs: {{ runs: "evaluate[*]" }} }}
  report:   {{ kind: report, needs: {{ results: results, samples: dataset }} }}
"#
    )
}

/// The rows of a CSV table by method: column to value.
fn by_method(text: &str) -> BTreeMap<String, BTreeMap<String, String>> {
    let mut lines = text.lines().map(cells);
    let header: Vec<String> = lines.next().unwrap();
    lines
        .map(|line| header.iter().cloned().zip(line).collect::<BTreeMap<_, _>>())
        .map(|row| (row["method"].clone(), row))
        .collect()
}

/// The cells of a line; a comma between quotes is part of a cell.
fn cells(line: &str) -> Vec<String> {
    let mut cells = vec![String::new()];
    let mut quoted = false;
    for c in line.chars() {
        match c {
            '"' => quoted = !quoted,
            ',' if !quoted => cells.push(String::new()),
            c => cells.last_mut().unwrap().push(c),
        }
    }
    cells
}

/// Every other choice of a training, once: what is not named is as in the study.
const SETTINGS: &str = r#"
version: 1
name: settings
stages:
  digits:      { kind: fetch, with: { dataset: mnist } }
  backgrounds: { kind: fetch, with: { dataset: cifar10 } }
  dataset:
    kind: dataset
    needs: { digits: digits, backgrounds: backgrounds }
    with: { n_bg: 4, n_train: 400, n_val: 100, n_test: 100, n_ood: 100, n_bg_val: 100 }
  train:
    kind: train
    needs: { data: dataset }
    sweeps:
      plain:       { method: [erm, dissimilarity] }
      models:      { model: [alexnet] }
      activations: { activation: [leaky_relu, gelu, tanh] }
      poolings:    { pooling: [average] }
      engines:     { engine: [plain] }
      optimisers:  { optimiser: [adamw, sgd] }
      rates:       { lr_schedule: [cosine, step] }
      embeds:      { method: [dissimilarity], embed: [pre] }
      pairs:       { method: [dissimilarity], pairs: [label, label_above_threshold], tau_loss: [selected_mean, hinge] }
      spaces:      { method: [dissimilarity], pairs: [label_above_threshold], tau_space: [input], tau: [0.3] }
      offsets:     { method: [dissimilarity], offset: [0.5] }
      weights:     { method: [dissimilarity], lambda_schedule: [warm_up, decay] }
      steered:     { method: [dissimilarity], lambda: [{ target: 0.5 }] }
      samplers:    { method: [erm, dissimilarity], sampler: [groups], samples_per_group: [2, 4] }
    with: { epochs: 1 }
  evaluate: { kind: evaluate, needs: { model: train, data: dataset } }
  results:  { kind: aggregate, needs: { runs: "evaluate[*]" } }
  report:   { kind: report, needs: { results: results, samples: dataset } }
"#;

#[test]
fn every_setting_trains_and_is_told_apart() {
    let project = Project::new();
    project.write(SETTINGS);
    project.succeed("run");
    let text = fs::read_to_string(project.path().join("reports/tables/runs.csv")).unwrap();
    let mut lines = text.lines().map(cells);
    let header = lines.next().unwrap();
    let at = |name: &str| header.iter().position(|h| h == name).unwrap();
    let rows: Vec<Vec<String>> = lines.collect();
    let mut settings: Vec<String> = rows
        .iter()
        .map(|row| {
            let loss: f64 = row[at("cross_entropy")].parse().unwrap();
            assert!(loss.is_finite(), "{row:?}");
            let more = ["lr_schedule", "tau", "tau_loss"].map(|f| row[at(f)].clone()).join(" ");
            format!(
                "{}: {} | {} | {}",
                row[at("method")],
                row[at("variant")],
                more,
                row[at("told")]
            )
        })
        .collect();
    settings.sort();
    insta::assert_snapshot!(settings.join("\n"));
}

/// Clothes in place of digits. They are fetched anew each time, 31 MB; what all tests share is not
/// made to hang on one more source.
#[test]
fn clothes_train_as_digits_do() {
    let project = Project::new();
    let (start, rest) = SETTINGS.split_once("    sweeps:\n").unwrap();
    let (_, end) = rest.split_once("    with: { epochs: 1 }").unwrap();
    let whole = format!(
        "{start}    matrix: {{ method: [erm, dissimilarity] }}\n    with: {{ epochs: 1 }}{end}"
    );
    project.write(&whole.replace("dataset: mnist", "dataset: fashion_mnist"));
    project.succeed("run");
    let runs = fs::read_to_string(project.path().join("reports/tables/runs.csv")).unwrap();
    let runs = by_method(&runs);
    assert_eq!(runs.len(), 2);
    // Above chance after 400 images, and other images than MNIST's.
    for run in runs.values() {
        assert!(run["cross_entropy"].parse::<f64>().unwrap() < 2.5, "{run:?}");
    }
}

#[test]
fn every_method_trains_and_is_measured() {
    let project = Project::new();
    project.write(&pipeline());
    project.succeed("run");
    let runs = fs::read_to_string(project.path().join("reports/tables/runs.csv")).unwrap();
    let runs = by_method(&runs);
    assert_eq!(runs.len(), METHODS.len() + 1);
    let number = |method: &str, column: &str| -> f64 {
        let text = &runs[method][column];
        text.parse().unwrap_or_else(|_| panic!("{method}: {column} is `{text}`"))
    };
    for method in runs.keys() {
        assert!(number(method, "cross_entropy").is_finite(), "{method}");
        assert!((0.0..=1.0).contains(&number(method, "ood_acc@bg_val")), "{method}");
        assert!((0.0..=1.0).contains(&number(method, "probe_digit_acc")), "{method}");
        // A method that does nothing would end where erm does.
        let same = number(method, "cross_entropy") == number("erm", "cross_entropy");
        assert_eq!(same, ["erm", "dfr"].contains(&method.as_str()), "{method}");
    }
    assert_ne!(runs["dfr"]["ood_acc"], runs["erm"]["ood_acc"], "the last layer is another");
    let told = |method: &str| runs[method]["told"].clone();
    assert_eq!(told("erm"), "nothing");
    assert_eq!(told("lisa"), "training_groups");
    assert_eq!(told("dfr"), "held_out_labels");
    // Backgrounds that say nothing of the label teach it less of them.
    let drop = |m: &str| number(m, "id_acc") - number(m, "ood_acc");
    assert!(drop("oracle") < drop("erm"), "{} {}", drop("oracle"), drop("erm"));
}
