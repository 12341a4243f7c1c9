//! Tests of expansion: grids, joins, aliases; through the parser, since that is how it is reached.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use dissim_api::{Code, Context, Input, ParamError, Params, Stage, StageError, Traits};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::graph::Study;
use crate::parse::{LoadOptions, load};
use crate::registry::Registry;

/// A kind with two parameters; `b` has no effect where `a` is 0.
struct Kind;

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct KindParams {
    #[serde(default)]
    a: i64,
    #[serde(default)]
    b: f64,
}

impl Stage for Kind {
    fn kind(&self) -> &'static str {
        "kind"
    }
    fn summary(&self) -> &'static str {
        "Does nothing."
    }
    fn code(&self) -> Code {
        Code(std::collections::BTreeMap::new())
    }
    fn inputs(&self) -> &'static [Input] {
        &[]
    }
    fn traits(&self) -> Traits {
        Traits { open_inputs: true, ..Traits::default() }
    }
    fn schema(&self) -> Value {
        dissim_api::schema::<KindParams>()
    }
    fn resolve(&self, given: &Params) -> Result<Params, Vec<ParamError>> {
        let (params, mut map) = dissim_api::resolve::<KindParams>(given)?;
        if params.a == 0 {
            map.remove("b");
        }
        Ok(map)
    }
    fn files(&self, _: &Params) -> Vec<PathBuf> {
        Vec::new()
    }
    fn run(&self, _: &mut Context) -> Result<(), StageError> {
        Ok(())
    }
}

fn study(stages: &str) -> Study {
    study_with("{}", stages)
}

fn study_with(params: &str, stages: &str) -> Study {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pipeline.yaml");
    let indented: String = stages.lines().map(|line| format!("  {line}\n")).collect();
    fs::write(&file, format!("version: 1\nname: x\nparams: {params}\nstages:\n{indented}"))
        .unwrap();
    let registry = Registry::new([Arc::new(Kind) as Arc<dyn Stage>]);
    load(&file, &LoadOptions::default(), &registry)
        .unwrap_or_else(|e| panic!("{}", e.render(false)))
}

/// Every task of a stage: its name, what it needs, its aliases.
fn tasks(study: &Study, stage: &str) -> String {
    let node = study.stages.iter().find(|s| s.name == stage).unwrap();
    let line = |id: usize| {
        let task = &study.tasks[id];
        let mut line = task.name.clone();
        for need in &task.needs {
            let names: Vec<_> = need.tasks.iter().map(|&t| study.tasks[t].name.as_str()).collect();
            line += &format!(" {}={}", need.input, names.join("+"));
        }
        if !task.aliases.is_empty() {
            line += &format!(" also {}", task.aliases.join(" "));
        }
        line
    };
    node.tasks.clone().map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_matrix_is_every_combination_the_last_axis_fastest() {
    let study = study("s: { kind: kind, matrix: { a: [1, 2], b: [0.5, 1] } }");
    insta::assert_snapshot!(tasks(&study, "s"), @r"
    s[a=1,b=0.5]
    s[a=1,b=1]
    s[a=2,b=0.5]
    s[a=2,b=1]
    ");
}

#[test]
fn equal_tasks_of_two_sweeps_are_one_with_both_names() {
    let study = study(
        "s:\n  kind: kind\n  sweeps:\n    one: { a: [0, 1], b: [2] }\n    two: { b: [2, 3], a: [1] }",
    );
    // Where a is 0, b has no effect and is no part of the name.
    insta::assert_snapshot!(tasks(&study, "s"), @r"
    s[a=0]
    s[a=1,b=2] also s[b=2,a=1]
    s[b=3,a=1]
    ");
}

#[test]
fn a_parameter_without_values_switches_its_sweep_off() {
    let study = study_with(
        "{ some: [], n: 0 }",
        "s:\n  kind: kind\n  sweeps:\n    one: { a: [1, 2] }\n    two: { a: \"${some}\", b: [2, 3] }\n    three: { b: [1], a: \"range(5, ${n})\" }",
    );
    insta::assert_snapshot!(tasks(&study, "s"), @r"
    s[a=1]
    s[a=2]
    ");
}

#[test]
fn a_join_follows_the_axes_both_have_and_inherits_the_rest() {
    let study = study(
        "up: { kind: kind, matrix: { a: [1, 2], b: [5, 6] } }\n\
         down: { kind: kind, needs: { x: up }, matrix: { b: [5.0] } }\n\
         all: { kind: kind, needs: { x: \"up[*]\" } }\n\
         some: { kind: kind, needs: { x: \"up[b=6]\" } }",
    );
    // 5.0 and 5 are one value.
    insta::assert_snapshot!(tasks(&study, "down"), @r"
    down[b=5.0,a=1] x=up[a=1,b=5]
    down[b=5.0,a=2] x=up[a=2,b=5]
    ");
    insta::assert_snapshot!(tasks(&study, "all"), @"all x=up[a=1,b=5]+up[a=1,b=6]+up[a=2,b=5]+up[a=2,b=6]");
    insta::assert_snapshot!(tasks(&study, "some"), @"some x=up[a=1,b=6]+up[a=2,b=6]");
}

#[test]
fn two_inputs_agree_with_each_other() {
    let study = study(
        "data: { kind: kind, matrix: { a: [1, 2] } }\n\
         model: { kind: kind, needs: { d: data }, matrix: { b: [7, 8] } }\n\
         test: { kind: kind, needs: { m: model, d: data } }",
    );
    insta::assert_snapshot!(tasks(&study, "test"), @r"
    test[b=7,a=1] d=data[a=1] m=model[b=7,a=1]
    test[b=7,a=2] d=data[a=2] m=model[b=7,a=2]
    test[b=8,a=1] d=data[a=1] m=model[b=8,a=1]
    test[b=8,a=2] d=data[a=2] m=model[b=8,a=2]
    ");
}

#[test]
fn tasks_stand_after_those_they_need_whatever_the_order_of_the_file() {
    let study = study(
        "last: { kind: kind, needs: { x: \"middle[*]\" } }\n\
         middle: { kind: kind, needs: { x: first } }\n\
         first: { kind: kind, matrix: { a: [1, 2] } }",
    );
    for (id, task) in study.tasks.iter().enumerate() {
        assert!(task.needs.iter().flat_map(|n| n.tasks.iter()).all(|&need| need < id));
    }
    assert_eq!(study.tasks.len(), 5);
}

#[test]
fn a_join_over_all_is_held_once_however_many_share_it() {
    let study = study(
        "up: { kind: kind, matrix: { b: \"range(300)\", a: [1] } }\n\
         down: { kind: kind, needs: { x: \"up[*]\" }, matrix: { a: \"range(1, 301)\" } }",
    );
    let down = study.stages.iter().find(|s| s.name == "down").unwrap().tasks.clone();
    let first = &study.tasks[down.start].needs[0].tasks;
    assert_eq!(first.len(), 300);
    assert!(down.into_iter().all(|t| Arc::ptr_eq(&study.tasks[t].needs[0].tasks, first)));
}
