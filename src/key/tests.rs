//! Tests of the key: canonical, sensitive to any one change, and every change has its words.

use super::*;
use dissim_api::{Device, StageSummary};
use proptest::prelude::*;

fn digest(text: &str) -> Digest {
    Digest::of(text.as_bytes())
}

fn artifact(task: &str) -> DescribedArtifact {
    let axes = json!({"seed": task}).as_object().unwrap().clone();
    DescribedArtifact { task: task.to_owned(), axes, artifact: digest(task) }
}

fn example() -> Description {
    let input = |gathered: bool, tasks: &[&str]| InputDescription {
        gathered,
        named: gathered,
        artifacts: tasks.iter().map(|task| artifact(task)).collect(),
    };
    let stage = StageSummary {
        name: "train".to_owned(),
        kind: "train".to_owned(),
        needs: Vec::new(),
        tasks: 60,
    };
    Description {
        version: Description::VERSION,
        kind: "evaluate".to_owned(),
        code: digest("code 1"),
        params: json!({"lambda": 1.25, "method": "erm", "split": {"b": 1, "a": [2]}})
            .as_object()
            .unwrap()
            .clone(),
        inputs: [
            ("data".to_owned(), input(false, &["dataset[seed=0]"])),
            ("runs".to_owned(), input(true, &["train[seed=0]", "train[seed=1]"])),
        ]
        .into(),
        files: [("a.csv".to_owned(), digest("a")), ("b.csv".to_owned(), digest("b"))].into(),
        executables: ["b.csv".to_owned()].into(),
        backend: Some(Backend {
            name: "flex".to_owned(),
            version: "0.22.0".to_owned(),
            device: Device::Cpu,
        }),
        pipeline: Some(PipelineSummary {
            name: "study".to_owned(),
            profile: Some("quick".to_owned()),
            stages: vec![stage],
            claims: Vec::new(),
            tables: Vec::new(),
        }),
    }
}

fn code(of: &Digest) -> Option<Code> {
    let entries: &[(&str, &str)] = if *of == digest("code 1") {
        &[("burn", "0.22.0"), ("old", "1.0.0"), ("stages/evaluate/src/lib.rs", "1")]
    } else if *of == digest("code 2") {
        &[
            ("burn", "0.22.1"),
            ("stages/evaluate/src/lib.rs", "2"),
            ("stages/evaluate/src/n.rs", "1"),
        ]
    } else {
        return None;
    };
    Some(Code(entries.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect()))
}

fn lines(new: &Description) -> String {
    let changes = Description::diff(&example(), new, &code);
    changes.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

fn edited(edit: impl FnOnce(&mut Description)) -> Description {
    let mut description = example();
    edit(&mut description);
    description
}

#[test]
fn equal_parameters_in_another_order_are_one_key() {
    let mut other = example();
    other.params =
        serde_json::from_str(r#"{"split": {"a": [2], "b": 1}, "method": "erm", "lambda": 1.25}"#)
            .unwrap();
    assert_eq!(example().key(), other.key());
    assert!(Description::diff(&example(), &other, &code).is_empty());
}

#[test]
fn the_name_of_an_upstream_task_is_in_the_key_only_if_it_is_seen() {
    let renamed = edited(|d| {
        d.inputs.get_mut("data").unwrap().artifacts[0].task = "digits".to_owned();
    });
    assert_eq!(example().key(), renamed.key());
    assert_eq!(lines(&renamed), "");
    let seen = edited(|d| {
        d.inputs.get_mut("runs").unwrap().artifacts[0].task = "fit[seed=0]".to_owned();
    });
    insta::assert_snapshot!(lines(&seen), @"
    input runs: train[seed=0] removed
    input runs: fit[seed=0] added
    ");
}

#[test]
fn the_key_is_pinned() {
    // A key that moves by accident would throw every user's cache away; a wanted move comes with
    // a new `Description::VERSION`.
    insta::assert_snapshot!(example().key(), @"4e20954064b8885b2e731239b63819b5a5e05e48902c5b214dfa0f6f5f8cc599");
}

#[test]
fn parameters_and_files_are_named() {
    let new = edited(|d| {
        d.params["lambda"] = json!(1.5);
        d.params.remove("method");
        d.params.insert("offset".to_owned(), json!("x"));
        d.files.insert("a.csv".to_owned(), digest("other"));
        d.files.remove("b.csv");
        d.files.insert("c.csv".to_owned(), digest("c"));
    });
    insta::assert_snapshot!(lines(&new), @r#"
    parameter lambda: 1.25 -> 1.5
    parameter method: "erm" -> (not set)
    parameter offset: (not set) -> "x"
    file: a.csv changed
    file: b.csv removed
    file: c.csv added
    "#);
}

#[test]
fn code_is_named_by_file_and_dependency() {
    insta::assert_snapshot!(lines(&edited(|d| d.code = digest("code 2"))), @"
    code: burn 0.22.0 -> 0.22.1
    code: old 1.0.0 removed
    code: stages/evaluate/src/lib.rs changed
    code: stages/evaluate/src/n.rs added
    ");
    insta::assert_snapshot!(lines(&edited(|d| d.code = digest("gone"))), @"code: fingerprint 9721cdc27630 -> afae16e5c35f");
}

#[test]
fn backend_and_kind_and_format_are_named() {
    let new = edited(|d| {
        d.version = Description::VERSION + 1;
        d.kind = "train".to_owned();
        d.backend.as_mut().unwrap().version = "0.22.1".to_owned();
    });
    insta::assert_snapshot!(lines(&new), @"
    format of task keys: 2 -> 3
    kind: evaluate -> train
    backend: flex 0.22.0 -> flex 0.22.1
    ");
    let device = edited(|d| d.backend.as_mut().unwrap().device = Device::Cuda(1));
    insta::assert_snapshot!(lines(&device), @"backend: flex 0.22.0 -> flex 0.22.0 on cuda:1");
    insta::assert_snapshot!(lines(&edited(|d| d.backend = None)), @"backend: flex 0.22.0 -> (none)");
}

#[test]
fn upstream_tasks_are_named() {
    let new = edited(|d| {
        d.inputs.get_mut("data").unwrap().artifacts[0].artifact = digest("other");
        let runs = &mut d.inputs.get_mut("runs").unwrap().artifacts;
        runs.remove(0);
        runs.push(artifact("train[seed=2]"));
    });
    insta::assert_snapshot!(lines(&new), @"
    input data: dataset[seed=0] made another artifact: 3cfbe1b224fb -> 3f796163ebf9
    input runs: train[seed=0] removed
    input runs: train[seed=2] added
    ");
    insta::assert_snapshot!(lines(&edited(|d| d.inputs.get_mut("runs").unwrap().artifacts.reverse())), @"input runs: the same artifacts in another order or number");
}

#[test]
fn the_pipeline_is_named() {
    let new = edited(|d| {
        let pipeline = d.pipeline.as_mut().unwrap();
        pipeline.profile = None;
        pipeline.stages[0].tasks = 72;
        let extra = StageSummary { name: "extra".to_owned(), ..pipeline.stages[0].clone() };
        pipeline.stages.push(extra);
    });
    insta::assert_snapshot!(lines(&new), @"
    pipeline: profile quick -> (none)
    pipeline: stage extra added
    pipeline: stage train: 60 -> 72 tasks
    ");
}

/// One change, of every kind there is, chosen by `which`, with `salt` in the new value.
fn change_one(description: &mut Description, which: usize, salt: u32) {
    let new = digest(&format!("salt {salt}"));
    match which {
        0 => description.version += 1 + salt % 7,
        1 => description.kind = format!("kind{salt}"),
        2 => description.code = new,
        3 => description.params["lambda"] = json!(f64::from(salt) + 2.0),
        4 => drop(description.params.insert(format!("p{salt}"), json!(salt))),
        5 => drop(description.params.remove("method")),
        6 => description.params["split"]["b"] = json!(format!("{salt}")),
        7 => drop(description.files.insert("a.csv".to_owned(), new)),
        8 => drop(description.files.insert(format!("{salt}.csv"), new)),
        9 => drop(description.files.remove("b.csv")),
        10 => description.inputs.get_mut("data").unwrap().artifacts[0].artifact = new,
        11 => description.inputs.get_mut("runs").unwrap().artifacts.reverse(),
        12 => drop(description.inputs.get_mut("runs").unwrap().artifacts.pop()),
        13 => drop(description.inputs.remove("data")),
        14 => drop(description.inputs.insert(format!("i{salt}"), InputDescription::default())),
        23 => drop(description.executables.insert(format!("x{salt}"))),
        20 => description.inputs.get_mut("data").unwrap().gathered = true,
        21 => {
            let run = &mut description.inputs.get_mut("runs").unwrap().artifacts[1];
            run.axes["seed"] = json!(salt);
        }
        22 => description.inputs.get_mut("runs").unwrap().artifacts[0].task = format!("t{salt}"),
        15 => description.backend = None,
        16 => description.backend.as_mut().unwrap().name = format!("b{salt}"),
        17 => description.pipeline = None,
        18 => description.backend.as_mut().unwrap().device = Device::Cuda(salt as u16),
        _ => description.pipeline.as_mut().unwrap().stages[0].kind = format!("k{salt}"),
    }
}

proptest! {
    #[test]
    fn any_one_change_changes_the_key_and_is_named(which in 0usize..24, salt: u32) {
        let mut new = example();
        change_one(&mut new, which, salt);
        prop_assert_ne!(example().key(), new.key());
        let changes = Description::diff(&example(), &new, &|_| None);
        // A task of another name is one that came in and one that went out.
        prop_assert_eq!(changes.len(), if which == 22 { 2 } else { 1 }, "{:?}", changes);
        prop_assert!(!changes[0].to_string().is_empty());
        prop_assert!(Description::diff(&new, &new, &|_| None).is_empty());
    }

    #[test]
    fn a_description_survives_its_json(which in 0usize..24, salt: u32) {
        let mut description = example();
        change_one(&mut description, which, salt);
        let json = serde_json::to_string(&description).unwrap();
        let back: Description = serde_json::from_str(&json).unwrap();
        prop_assert_eq!(back.key(), description.key());
    }
}
