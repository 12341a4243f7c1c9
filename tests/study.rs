//! The study end to end, through the binary, on a slice of the real data.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value;
use support::{PIPELINE, Project};
use walkdir::WalkDir;

/// Artifact digests by task name.
fn artifacts(project: &Project) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for entry in WalkDir::new(project.path().join("cache/records")) {
        let entry = entry.unwrap();
        if entry.file_type().is_file() {
            let record: Value = serde_json::from_slice(&fs::read(entry.path()).unwrap()).unwrap();
            let text = |key: &str| record[key].as_str().unwrap().to_owned();
            found.insert(text("task"), text("artifact"));
        }
    }
    found
}

/// Overwrites every stored artifact with as many other bytes: who reads one now, fails.
fn spoil(objects: &Path) {
    for entry in WalkDir::new(objects) {
        let entry = entry.unwrap();
        if entry.file_type().is_file() {
            let length = entry.metadata().unwrap().len();
            fs::remove_file(entry.path()).unwrap();
            let file = fs::File::create(entry.path()).unwrap();
            file.set_len(length).unwrap();
        }
    }
}

#[test]
fn a_run_ends_in_a_report_and_the_next_reads_nothing() {
    let project = Project::new();
    let first = project.succeed("run");
    // 2 fetches from the store; 1 data set, 3 trainings, 3 evaluations, results and report.
    assert!(first.contains("11 tasks: 2 cached, 9 ran, 0 failed"), "{first}");
    let page = fs::read_to_string(project.path().join("reports/index.html")).unwrap();
    assert!(page.contains("<svg") && page.contains("data:image/png;base64,"));
    let runs = fs::read_to_string(project.path().join("reports/tables/runs.csv")).unwrap();
    assert_eq!(runs.lines().count(), 1 + 3, "{runs}");

    spoil(&project.path().join("cache/objects"));
    let second = project.succeed("run");
    assert!(second.contains("11 tasks: 11 cached, 0 ran, 0 failed"), "{second}");
    assert_eq!(fs::read_to_string(project.path().join("reports/index.html")).unwrap(), page);
}

#[test]
fn an_edit_reruns_what_it_touches_and_nothing_else() {
    let project = Project::new();
    project.succeed("run");

    // Another seed: its data set, 3 trainings and 3 evaluations, then results and report.
    project.write(&PIPELINE.replace("seeds: [0]", "seeds: [0, 7]"));
    let plan = project.succeed("run --dry-run");
    assert!(plan.contains("dataset[n_bg=4,seed=7]"), "{plan}");
    assert_eq!(project.ran("run"), 1 + 3 + 3 + 2);

    // Another lambda in place of one of two, with one seed: a training, an evaluation, and on.
    project.write(&PIPELINE.replace("[0.5, 1.25]", "[0.75, 1.25]"));
    let why = project.succeed("why train[n_bg=4,method=dissimilarity,lambda=0.75,seed=0]");
    assert!(why.contains("never ran"), "{why}");
    assert_eq!(project.ran("run"), 1 + 1 + 2);

    // A parameter of one stage: why says which, old value -> new value.
    project.write(&PIPELINE.replace("epochs: 2", "epochs: 1"));
    let why = project.succeed("why train[n_bg=4,method=erm,seed=0]");
    assert!(why.contains("epochs") && why.contains("2 -> 1"), "{why}");
    assert_eq!(project.ran("run"), 3 + 3 + 2);

    // Back to the beginning: everything is still there.
    project.write(PIPELINE);
    assert_eq!(project.ran("run"), 0);
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let (one, two) = (Project::new(), Project::new());
    one.succeed("run --jobs 1");
    two.succeed("run --jobs 2");
    let (one, two) = (artifacts(&one), artifacts(&two));
    assert_eq!(one.len(), 11);
    assert_eq!(one, two);
}

#[test]
fn a_task_that_two_profiles_share_is_computed_once() {
    let project = Project::new();
    project.write(&PIPELINE.replace(
        "\nstages:",
        "\nprofiles: { less: { lambdas: [1.25] }, more: { lambdas: [1.25, 2] } }\nstages:",
    ));
    // A data set, two trainings, two evaluations, results, report.
    assert_eq!(project.ran("run --profile less"), 1 + 2 + 2 + 2);
    // One weight more: its training and evaluation, and the results and the report of both.
    assert_eq!(project.ran("run --profile more"), 1 + 1 + 2);
    assert_eq!(project.ran("run --profile less"), 0);
}

/// The peak is the operating system's own figure, kept with the record.
#[test]
fn a_training_on_60_000_images_stays_under_600_mb() {
    let project = Project::new();
    let whole = PIPELINE.replace("n_train: 1000, n_val: 200", "n_train: 60000");
    project.write(&whole.replace("epochs: 2", "epochs: 1"));
    let task = "train[n_bg=4,method=dissimilarity,lambda=1.25,seed=0]";
    project.succeed(&format!("run {task}"));
    let shown = project.succeed(&format!("show {task} --json"));
    let shown: Value = serde_json::from_str(&shown).unwrap();
    let peak = shown[0]["record"]["peak_memory_bytes"].as_u64().unwrap();
    // The images alone are 60,000 * 3,072 bytes.
    assert!((184_000_000..600_000_000).contains(&peak), "{peak}");
}
